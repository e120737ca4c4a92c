"""Search: ask for a point, place its trial, tell what came of it, until there are as many trials as were asked for."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from types import FrameType
from typing import Any

from dvc.config_schema import RelPath
from dvc.repo import Repo
from filelock import Timeout
from optuna.trial import FrozenTrial

from stages.common import files, session
from stages.common.errors import UserError
from stages.common.params import Params, load_params, parse_params
from stages.common.progress import bar
from stages.common.terminal import pluralize
from stages.tracking import places, results, store
from stages.tracking.git import GitError, git
from stages.tracking.provenance import Provenance
from tools.search import report, space
from tools.search.placing import Placing, spec
from tools.search.runs import PRUNED, Runs
from tools.search.study import Settings, Study

GLANCE = 2.0  # seconds between two looks at the trials' curves


def run(args: argparse.Namespace) -> None:
    """Check everything, search, report."""
    params = load_params(Params).model_dump()
    given = {field.name: getattr(args, field.name) for field in fields(Settings) if getattr(args, field.name) is not None}
    given |= {"words": tuple(args.words)} if args.words else {}
    given |= {"metric": whole_name(args.metric)} if args.metric else {}
    with only_one(args.name):
        study = Study(args.name, given, params, args.cpus_per_trial, args.storage)
        if wrong := place_problems(bool(args.address)):
            raise UserError("\n".join(wrong))
        runs = Runs(args.name)
        if study.is_new and runs.exist():
            raise UserError(f"-n {args.name}: MLflow has runs of an earlier search of this name. Take another name")
        total = study.total(args.trials)
        placing = Placing(args.address, args.cpus_per_trial, args.gpus_per_trial, args.parallel)
        try:
            told = spec(placing, study.settings.metric)
            study.begin()
            runs.begin(asdict(study.settings))
            Search(study, runs, placing, told, params).go(total)
        finally:
            placing.close()
        finish(study, runs, total, placing.is_cluster)


class Search:
    """The search while it runs.

    Args:
        study: what was tried.
        runs: the search in MLflow.
        placing: the machines.
        told: what they are told of every trial.
        params: those of params.yaml.
    """

    def __init__(self, study: Study, runs: Runs, placing: Placing, told: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self.study, self.runs, self.placing, self.told, self.params = study, runs, placing, told, params
        self.running: dict[Any, FrozenTrial] = {}
        self.stopped: set[Any] = set()  # those of them that are being pruned
        self.ending = False  # whether Ctrl-C was pressed

    def go(self, total: int) -> None:
        """Search until there are `total` trials."""
        waiting = [trial for trial in self.study.left_running() if not self._was_done(trial)]
        done = len(self.study.finished())
        print(
            f"{pluralize(total, 'trial')}, {done} of them done; {self.placing.room()} at a time, each with "
            f"{pluralize(self.placing.cpus, 'core')}" + (f" and {self.placing.gpus:g} GPU" if self.placing.gpus else ""),
            flush=True,
        )
        with self._ctrl_c(), bar(total, self.study.name, "trial", initial=done) as self.progress:
            self._show_best()
            while not self.ending or self.running:
                while not self.ending and len(self.running) < self.placing.room():
                    if not waiting and len(self.study.trials()) >= total:
                        break
                    self._begin(waiting.pop(0) if waiting else self.study.ask())
                if self.running:
                    for place, outcome in self.placing.wait(list(self.running), GLANCE):
                        self._end(self.running.pop(place), outcome)
                    self._watch()
                elif waiting or len(self.study.trials()) < total:
                    time.sleep(GLANCE)  # for a node
                else:
                    break

    def _was_done(self, trial: FrozenTrial) -> bool:
        """Whether a trial ended after the search that had begun it."""
        name = self.study.experiment(trial)
        metrics = self.runs.complete(name, trial.number)
        with suppress(GitError):
            pushed = git("ls-remote", str(self.told["remote"]), f"refs/exps/*/*/{name}")
            if pushed and self.study.settings.metric in metrics:
                self.study.complete(trial.number, metrics[self.study.settings.metric])
                return True
        return False

    def _begin(self, trial: FrozenTrial) -> None:
        """Place a trial; one that the stages would refuse fails here."""
        point = self.study.point(trial)
        try:
            parse_params({**self.params, **point}, "its params:")
        except UserError as error:
            self._end(trial, {"error": "; ".join(line.strip() for line in str(error).splitlines()[1:])})
            return
        told = {**self.told, "name": self.study.experiment(trial), "words": space.words(point)}
        log = session.dvc_tmp() / "search" / f"{told['name']}.log"
        self.running[self.placing.place({**told, "log": "" if self.placing.is_cluster else str(log)})] = trial

    def _end(self, trial: FrozenTrial, outcome: Mapping[str, Any]) -> None:
        """Tell Optuna and MLflow what came of a trial."""
        name, metric = self.study.experiment(trial), self.study.settings.metric
        value = outcome.get("metrics", {}).get(metric, math.nan)
        if math.isfinite(value):
            self.study.complete(trial.number, value)
            self.runs.watch(name, trial.number)
        elif outcome.get("pruned"):
            self.study.prune(trial)
            self.runs.close(name, "KILLED", {PRUNED: "yes"})
            forget(session.project_root() / ".checkpoints", {**self.params, **self.study.point(trial)})
        else:
            self.study.fail(trial, str(outcome.get("error", f"{metric} is {value}")))
            self.runs.watch(name, trial.number)
            self.runs.close(name, "FAILED", {})
        self.progress.write(report.line(self.study, self.study.trials()[trial.number]))
        self.progress.update()
        self._show_best()

    def _watch(self) -> None:
        """Look at the trials that run: tag their runs, and stop the bad ones."""
        for place, trial in self.running.items():
            name = self.study.experiment(trial)
            self.runs.watch(name, trial.number)
            prunes = self.study.settings.prune != "none" and place not in self.stopped
            if prunes and self.study.is_bad(trial, self.runs.losses(name)):
                self.stopped.add(place)
                self.placing.stop(place)

    def _show_best(self) -> None:
        if (best := self.study.best()) is not None:
            assert best.value is not None
            self.progress.set_postfix_str(f"best {best.value:.5g} ({self.study.experiment(best)})")

    @contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        """Within the block, Ctrl-C begins no new trial; Ctrl-C again stops those that run."""

        def note(number: int, frame: FrameType | None) -> None:
            if self.ending:
                raise KeyboardInterrupt
            self.ending = True
            todo = f"no new trial; {pluralize(len(self.running), 'trial')} to end (Ctrl-C again stops them)"
            print(f"\n{todo}. The same command resumes the search", file=sys.stderr)

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def finish(study: Study, runs: Runs, total: int, is_cluster: bool) -> None:
    """Show and log what was found."""
    page, table, words = report.write_page(study), report.table(study), report.next_words(study, is_cluster)
    print(f"\n{table}\n\n{words}")
    if page is not None:
        print(f"plots: {page}, and with the run {study.name} in MLflow")
    left = total - len(study.finished())
    runs.finish("KILLED" if left else "FINISHED", page, f"{table}\n\n```\n{words}\n```")
    if left:
        print(f"{pluralize(left, 'trial')} left: the same command resumes the search")


def whole_name(metric: str) -> str:
    """A metric's name with its stage, which may be left out.

    Raises:
        UserError: no stage writes it, or several do, as far as the last results say.
    """
    try:
        known = list(results.metrics(session.project_root() / "data"))
    except UserError:
        return metric
    found = [name for name in known if metric in (name, name.partition("/")[2])]
    if len(found) != 1:
        close = found or difflib.get_close_matches(metric, known, 3, 0.3) or known
        raise UserError(
            f"--metric {metric}: {'several stages write' if found else 'no stage writes'} it. There is {', '.join(close)}"
        )
    return found[0]


def place_problems(is_cluster: bool) -> list[str]:
    """What this checkout lacks for trials in clones; on a cluster they are on machines that do not see it."""
    code, root = Provenance.gather(), session.project_root()
    if not code.commit:
        return [f"trials run in clones: this folder is in no git repository with a commit ({code.state})"]
    if not is_cluster:
        return []
    wrong = []
    if code.patch or load_params(Params).model_dump() != dict(code.committed):
        wrong.append("the nodes run what is committed, and there are changes that are not: git commit -a && git push")
    try:
        git("fetch", "--quiet", "origin", cwd=root)
        if not git("branch", "--remotes", "--contains", code.commit, cwd=root):
            wrong.append("the nodes get the code from the git remote, which has not got this commit: git push")
    except GitError:
        wrong.append("the nodes get the code from the git remote origin, which is not there or does not answer: git remote -v")
    with Repo(str(root)) as repo:
        url = repo.config["remote"].get(repo.config["core"].get("remote"), {}).get("url", RelPath())
        if isinstance(url, RelPath) or ("://" not in url and not Path(url).is_dir()):
            wrong.append("the nodes need a DVC remote that all of them reach: dvc remote add --local -d (docs/remotes.md)")
        elif not answers(repo):
            wrong.append("the DVC remote does not answer: dvc push says why (docs/remotes.md)")
    if store.database() or places.local_path(store.store_uri()):
        wrong.append("the nodes log to an MLflow server that all of them reach: set MLFLOW_TRACKING_URI (docs/experiments.md)")
    return wrong


def answers(repo: Repo) -> bool:
    """Whether the default DVC remote can be asked for a file."""
    try:
        remote = repo.cloud.get_remote()
        remote.fs.exists(remote.path)
    except Exception:  # whatever a remote's library raises
        return False
    return True


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the search's lock: two that resume one study would run its trials twice."""
    path = session.dvc_tmp() / "search" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.Lock(path, timeout=0):
            yield
    except Timeout:
        raise UserError(f"-n {name}: this search runs already. Wait for it, or stop it with Ctrl-C there") from None


def forget(checkpoints: Path, params: Mapping[str, Any]) -> None:
    """Remove the checkpoint of a training with these params, unless another trial uses it."""
    for path in checkpoints.glob("*/facts.json"):
        with suppress(OSError, ValueError, Timeout), files.Lock(f"{path.parent}.lock", timeout=0):
            trained = json.loads(path.read_text(encoding="utf-8"))["params"]
            if all(params.get(key) == value for key, value in trained.items()):
                shutil.rmtree(path.parent)
