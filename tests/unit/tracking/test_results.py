"""What track reads from the other stages' files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.tracking import figures, pipeline
from stages.tracking.results import Results, by_step

EVALUATED = {
    "perplexity": 3.5,
    "perplexity_low": 3.4,
    "perplexity_high": 3.6,
    "train_perplexity": 3.3,
    "perplexity_floor": 2.8,
    "leak_alarm": 0,
    "steps": 77,
}

VAL_LOSS = {"curves/val_loss": 1.2}


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a pipeline that has run, as the stages write them."""
    monkeypatch.chdir(tmp_path)
    measured = [f"  {stage}: {{cmd: a, metrics: [data/{stage}/metrics.json]}}\n" for stage in ("train", "evaluate", "generate")]
    (tmp_path / "dvc.yaml").write_text("stages:\n" + "".join(measured), encoding="utf-8")
    monkeypatch.setattr(pipeline, "PIPELINE", tmp_path / "dvc.yaml")
    metrics = {"train_loss": 1.0, "val_loss": 1.2, "steps": 4, "tokens": 1_000_000, "parameters": 1234567}
    write("train/metrics.json", json.dumps(metrics))
    write("evaluate/metrics.json", json.dumps(EVALUATED))
    write("generate/metrics.json", json.dumps({"distinct_2": 0.5, "note": "no number"}))
    write("train/history.csv", "step,tokens,epoch,train_loss,learning_rate,grad_norm\n2,16,0.5,2.0,0.1,1\n4,32,1,1.0,0.0,1\n")
    write("train/validation.csv", "step,epoch,val_loss\n3,0.75,1.5\n4,1,1.2\n")
    write("train/epochs.csv", "epoch,train_loss,val_loss\n1,1.5,1.2\n")
    write("evaluate/report.md", "# report\n")
    write("explain/explorer.html", "page")
    write("generate/samples.md", "# samples\n")
    write("download/about.json", "{}")
    write("generate/samples.jsonl", '{"prompt": "Once", "text": "Once\\u2028a\\u001b[31m"}\n')


def write(name: str, text: str) -> None:
    path = Path("data") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_metrics_keep_their_names_apart() -> None:
    """Each number has its stage in its name, so that none hides a curve, or another stage's number of the same name."""
    found = Results.read().metrics
    assert (found["train/train_loss"], found["train/val_loss"]) == (1.0, 1.2)
    assert (found["train/steps"], found["evaluate/steps"]) == (4, 77)
    assert "generate/note" not in found


def test_the_loss_curves_are_mlflow_s_first_section() -> None:
    """MLflow's chart view has a section for each group of metrics, in alphabetical order: the first holds the two losses."""
    found = Results.read()
    names = [*found.metrics, *(key for _, metrics in found.curve for key in metrics), *by_step({"mfu": 1.0})]
    first = min(name.partition("/")[0] for name in names)
    assert {name for name in names if name.startswith(f"{first}/")} == {"curves/train_loss", "curves/val_loss"}
    assert all("/" in name for name in names), "MLflow puts the others into a section at the end"


def test_curve_is_every_point_once() -> None:
    """All rows of the three tables, those of one step together, in order."""
    assert Results.read().curve == [
        (2, {"train/epoch": 0.5, "curves/train_loss": 2.0, "train/learning_rate": 0.1, "train/grad_norm": 1.0}),
        (3, {"train/epoch": 0.75, "curves/val_loss": 1.5}),
        (4, {"train/epoch": 1.0, "curves/train_loss": 1.0, "train/learning_rate": 0.0, "train/grad_norm": 1.0} | VAL_LOSS),
        (1, {"epochs/train_loss": 1.5, "epochs/val_loss": 1.2}),
    ]


def test_the_summary_gives_size_perplexity_and_floor() -> None:
    """Size, perplexity with its interval, and how far it is from the floor, if that is known and the network is masked."""
    text = Results.read().summary()
    for part in (
        "1,234,567 parameters",
        "4 steps",
        "**3.500** (95 % interval 3.400 to 3.600)",
        "2.800",
        "1.250 times the floor",
    ):
        assert part in text
    write("evaluate/metrics.json", json.dumps(EVALUATED | {"leak_alarm": 1, "perplexity": 1.2}))
    text = Results.read().summary()
    assert "means nothing" in text and "times the floor" not in text
    write("evaluate/metrics.json", json.dumps({key: value for key, value in EVALUATED.items() if key != "perplexity_floor"}))
    assert "floor" not in Results.read().summary()


def test_the_picture_has_both_losses() -> None:
    """By step, and the floor where it is known."""
    assert [list(line.get_ydata()) for line in figures.loss(Results.read()).axes[0].lines[:2]] == [[2.0, 1.0], [1.5, 1.2]]
    assert len(figures.loss(Results.read()).axes[0].lines) == 3
    write("evaluate/metrics.json", json.dumps({key: value for key, value in EVALUATED.items() if key != "perplexity_floor"}))
    assert len(figures.loss(Results.read()).axes[0].lines) == 2
