"""A search's memory: it continues with what it began with, knows its best trial, and stops those that are worse than others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from repository import COMMITTED

from stages.common import files
from stages.common.errors import UserError

pytest.importorskip("optuna", reason="Optuna is not installed (`make search` installs it)")
pytest.importorskip("plotly", reason="plotly is not installed (`make search` installs it)")

from tools.search import report
from tools.search.study import DONE, FAILED, PRUNED, Study

WORDS = ("learning_rate=tag(log, interval(0.001, 0.1))", "epochs=2")


def study(folder: Path, **given: Any) -> Study:
    """The study `one` in a folder, begun or continued."""
    found = Study("one", given, COMMITTED, 1, f"sqlite:///{folder}/search.db")
    found.begin()
    return found


def test_a_search_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    """The name is enough to continue; trials that were running are known; another space under the same name is refused."""
    first = study(tmp_path, words=WORDS, metric="perplexity")
    one, two = first.ask(), first.ask()
    first.complete(one.number, 3.0)
    again = study(tmp_path)
    assert (again.settings, again.is_new) == (first.settings, False)
    assert [trial.number for trial in again.left_running()] == [two.number]
    assert again.point(two) == {"threads": 1, "epochs": 2, "learning_rate": two.params["learning_rate"]}
    assert again.ask().params != one.params, "it does not begin again"
    study(tmp_path, words=WORDS)
    for other in ({"words": ("epochs=1,2",)}, {"metric": "evaluate/nats_per_token"}, {"sampler": "grid"}):
        with pytest.raises(UserError, match="the search one began with"):
            study(tmp_path, **other)


def test_a_wrong_space_or_place_begins_nothing(tmp_path: Path) -> None:
    """What is refused is not kept: the name is free. A database's password is not shown."""
    with pytest.raises(UserError, match="no key"):
        study(tmp_path, words=("n_heads=2,3",))
    assert study(tmp_path, words=WORDS).is_new
    with pytest.raises(UserError, match="cannot be opened") as caught:
        Study("one", {"words": WORDS}, COMMITTED, 1, "postgresql://me:secret-word@127.0.0.1:9/x")
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(("direction", "best"), [("minimize", 0), ("maximize", 2)])
def test_the_best_is_named_with_its_words(direction: str, best: int, tmp_path: Path) -> None:
    """The report has every trial, why one failed, and what to type for the best."""
    ours = study(tmp_path, words=WORDS, direction=direction)
    for value in (1.0, None, 3.0):
        trial = ours.ask()
        if value is None:
            ours.fail(trial, "diverged at step 6")
        else:
            ours.complete(trial.number, value)
    assert [trial.state for trial in ours.finished()] == [DONE, FAILED, DONE]
    assert "diverged at step 6" in report.line(ours, ours.trials()[1])
    rate = ours.trials()[best].params["learning_rate"]
    said = report.next_words(ours, is_cluster=True)
    assert f"-S 'threads=1' -S 'epochs=2' -S 'learning_rate={rate!r}'" in said
    assert f"dvc exp pull origin one-{best} && dvc exp apply one-{best}" in said
    assert report.table(ours).splitlines()[2].startswith(f"| one-{best} |")


def test_a_grid_is_tried_in_order_and_ends(tmp_path: Path) -> None:
    """Each point once, however many trials are asked for, also after a new start."""
    ours = study(tmp_path, words=("seed=1,2", "causal=true,false"), sampler="grid")
    assert ours.total(100) == 4
    points = [tuple(ours.ask().params.values()) for _ in range(3)]
    points.append(tuple(study(tmp_path).ask().params.values()))
    assert points == [(1, True), (1, False), (2, True), (2, False)]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_trial_worse_than_the_median_is_stopped(direction: str, tmp_path: Path) -> None:
    """After five whole trials. A lower validation loss is better whatever the metric's direction."""
    ours = study(tmp_path, words=WORDS, direction=direction, prune="median")
    for value in range(5):
        trial = ours.ask()
        assert not ours.is_bad(trial, [4.0, 3.0 + value / 10])
        ours.complete(trial.number, float(value))
    good, bad = ours.ask(), ours.ask()
    assert not ours.is_bad(good, [3.9, 2.9])
    assert not ours.is_bad(bad, [])
    assert not ours.is_bad(bad, [3.9])
    assert ours.is_bad(bad, [3.9, 5.0])
    ours.prune(bad)
    assert ours.trials()[bad.number].state == PRUNED
    assert [trial.number for trial in ours.left_running()] == [good.number]


def test_a_metric_is_known_without_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name alone is enough where one stage has it; else the message has names that there are."""
    pytest.importorskip("ray", reason="Ray is not installed (`make search` installs it)")
    from tools.search.search import whole_name

    for stage, names in {
        "train": ("steps", "tokens"),
        "evaluate": ("perplexity", "tokens"),
        "generate": ("eos_fraction",),
    }.items():
        files.write_json(tmp_path / "data" / stage / "metrics.json", dict.fromkeys(names, 1.0))
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert whole_name("perplexity") == whole_name("evaluate/perplexity") == "evaluate/perplexity"
    with pytest.raises(UserError, match="several stages write it.*train/tokens, evaluate/tokens"):
        whole_name("tokens")
    with pytest.raises(UserError, match="no stage writes it.*evaluate/perplexity"):
        whole_name("perplexities")


def test_a_pruned_trial_leaves_no_checkpoint(tmp_path: Path) -> None:
    """Its own is removed, unless another trial uses it; those of other trainings stay."""
    pytest.importorskip("ray", reason="Ray is not installed (`make search` installs it)")
    from tools.search.search import forget

    for name, seed in (("ours", 1), ("other", 2)):
        files.write_json(tmp_path / name / "facts.json", {"params": {"seed": seed, "epochs": 2}})
    with files.Lock(tmp_path / "ours.lock"):
        forget(tmp_path, {**COMMITTED, "seed": 1, "epochs": 2})
        assert (tmp_path / "ours").exists()
    forget(tmp_path, {**COMMITTED, "seed": 1, "epochs": 2})
    assert not (tmp_path / "ours").exists()
    assert json.loads((tmp_path / "other" / "facts.json").read_text())["params"]["seed"] == 2
