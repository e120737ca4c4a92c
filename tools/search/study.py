"""Study: what a search has tried and what came of it, kept by Optuna in a file beside mlflow.db, or in a database."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from stages.common import addresses, session
from stages.common.errors import UserError
from stages.tracking import store
from tools.search import space

SETTINGS = "settings"  # the study's attribute that has them
PRUNED, FAILED, DONE = TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE
WHY = "why"  # the trial's attribute that says why it failed


@dataclass(frozen=True)
class Settings:
    """What makes a search the search that it is; it cannot change when the search is resumed."""

    words: tuple[str, ...]
    metric: str
    direction: Literal["minimize", "maximize"]
    sampler: Literal["tpe", "random", "grid"]
    prune: Literal["none", "median", "hyperband"]


DEFAULTS = Settings((), "evaluate/nats_per_token", "minimize", "tpe", "none")


class Study:
    """The study of a name, new or continued.

    Args:
        name: of the search.
        given: the settings that were typed; a new study has defaults for the others.
        params: those of params.yaml.
        threads: of each trial that does not search for their number.
        uri: of the database; "" = search.db in the main checkout.

    Raises:
        UserError: the database does not answer, the settings are not those of the study, or the space cannot be read.
    """

    def __init__(self, name: str, given: Mapping[str, Any], params: Mapping[str, Any], threads: int, uri: str = "") -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        self.name, self._threads = name, threads
        try:
            self._storage = optuna.storages.get_storage(uri or store.sqlite_uri(session.project_root() / "search.db"))
            names = optuna.get_all_study_names(self._storage)
            kept = optuna.load_study(study_name=name, storage=self._storage).user_attrs.get(SETTINGS) if name in names else None
        except Exception as error:  # whatever the database's driver raises
            known = (addresses.shown(uri) or "that --storage names") if uri else "search.db"
            raise UserError(f"the study's database {known} cannot be opened ({type(error).__name__}). Is it right?") from error
        self.is_new = kept is None
        self.settings = _settings(name, given, kept)
        self.space = space.read(self.settings.words, params)
        self.grid = self.space.grid() if self.settings.sampler == "grid" else {}

    def begin(self) -> None:
        """Keep the settings, so that the search can resume with them; choose sampler and pruner."""
        self.study = optuna.create_study(
            storage=self._storage, study_name=self.name, direction=self.settings.direction, load_if_exists=True
        )
        self.study.set_user_attr(SETTINGS, json.dumps(asdict(self.settings)))
        seed = len(self.study.trials)  # the same search proposes the same; one that is resumed does not propose it again
        samplers = {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "grid": lambda: optuna.samplers.RandomSampler(seed=seed),  # never asked: `ask` says which point is next
        }
        pruners = {
            "none": optuna.pruners.NopPruner,
            "median": optuna.pruners.MedianPruner,
            "hyperband": optuna.pruners.HyperbandPruner,
        }
        self.study.sampler = samplers[self.settings.sampler]()
        self.study.pruner = pruners[self.settings.prune]()

    def total(self, trials: int) -> int:
        """How many trials there will be: as many as were asked for, or as the grid has points."""
        return min(trials, math.prod(map(len, self.grid.values()))) if self.grid else trials

    def ask(self) -> FrozenTrial:
        """A new trial."""
        if self.grid:
            points = list(itertools.product(*self.grid.values()))
            self.study.enqueue_trial(dict(zip(self.grid, points[len(self.trials())], strict=True)))
        number = self.study.ask(fixed_distributions=dict(self.space.searched)).number
        return self.trials()[number]

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials, by number."""
        found: list[FrozenTrial] = self.study.get_trials(deepcopy=False, states=states or None)
        return found

    def left_running(self) -> list[FrozenTrial]:
        """The trials that an earlier search was running when it ended."""
        return self.trials(TrialState.RUNNING)

    def finished(self) -> list[FrozenTrial]:
        """The trials that have ended, in whatever way."""
        return [trial for trial in self.trials() if trial.state.is_finished()]

    def complete(self, number: int, value: float) -> None:
        """A trial has ended with this value of the metric."""
        self.study.tell(number, value)

    def fail(self, trial: FrozenTrial, why: str) -> None:
        """A trial has failed."""
        self._storage.set_trial_user_attr(trial._trial_id, WHY, why[:2000])
        self.study.tell(trial.number, state=FAILED)

    def prune(self, trial: FrozenTrial) -> None:
        """A trial was stopped, because others were better at this point."""
        self.study.tell(trial.number, state=PRUNED)

    def is_bad(self, trial: FrozenTrial, losses: Sequence[float]) -> bool:
        """Whether to stop a trial, after these validation losses; they are compared with others' of the same number."""
        now = optuna.trial.Trial(self.study, trial._trial_id)
        known = len(self.trials()[trial.number].intermediate_values)
        sign = 1.0 if self.settings.direction == "minimize" else -1.0
        for place, loss in list(enumerate(losses, 1))[known:]:
            now.report(sign * loss, place)
            if now.should_prune():
                return True
        return False

    def best(self) -> FrozenTrial | None:
        """The best trial so far."""
        done = self.trials(DONE)
        choose = min if self.settings.direction == "minimize" else max
        return choose(done, key=lambda trial: trial.value) if done else None

    def point(self, trial: FrozenTrial) -> dict[str, Any]:
        """The params that a trial sets."""
        return {"threads": self._threads, **self.space.fixed, **{key: trial.params[key] for key in self.space.searched}}

    def experiment(self, trial: FrozenTrial) -> str:
        """The name of a trial's experiment and run."""
        return f"{self.name}-{trial.number}"


def _settings(name: str, given: Mapping[str, Any], kept: Any) -> Settings:
    """Raises UserError: what was typed differs from what the study has."""
    if kept is None:
        return Settings(**{**asdict(DEFAULTS), **given})
    values = json.loads(kept)
    settings = Settings(**{**values, "words": tuple(values["words"])})
    for field in fields(Settings):
        if field.name in given and given[field.name] != (known := getattr(settings, field.name)):
            shown = " ".join(f"-S '{word}'" for word in known) if field.name == "words" else f"--{field.name} {known}"
            raise UserError(
                f"the search {name} began with {shown}. Leave that out to resume it; another search takes another name"
            )
    return settings
