"""What a stage depends on is watched while it runs: every kind of edit is named, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.common import command, inputs
from stages.common.errors import UserError

pytestmark = pytest.mark.kind("edited while a stage runs")
PIPELINE = """
stages:
  train:
    desc: Train
    cmd: python -m stages.train
    params: [learning_rate, causal, top_k]
    deps: [requirements.txt, model, stages/train.py, data/tokens.npy, data/model]
    outs: [data/out]
  track:
    cmd: python -m stages.track
    params: [params.yaml: ]
    deps: [stages]
"""
PARAMS = "learning_rate: 0.003\ncausal: true\ntop_k: null\ntemperature: 1.0\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a stage that DVC is running."""
    for name, text in {
        "dvc.yaml": PIPELINE,
        "params.yaml": PARAMS,
        "requirements.txt": "torch==1\n",
        "model/gpt2.py": "one = 1\n",
        "stages/train.py": "import model\n",
        "stages/other.py": "",
        "data/tokens.npy": "123",
        "data/model/config.json": "{}",
        "data/elsewhere.csv": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setattr("stages.common.session.dvc_pid", os.getpid)  # wherever the tests were started from
    monkeypatch.setattr("stages.STARTED", 2**63)
    monkeypatch.setattr(inputs, "_stage", "")
    monkeypatch.setattr(inputs, "_at_start", inputs.Inputs())
    return tmp_path


def write(name: str, text: str) -> Callable[[], object]:
    return lambda: Path(name).write_text(text)


def replace(name: str, old: str, new: str) -> Callable[[], object]:
    return lambda: Path(name).write_text(Path(name).read_text().replace(old, new))


def in_its_place(name: str) -> None:
    """Another file with the same content, as DVC and editors put it there."""
    Path("data/new").write_bytes(Path(name).read_bytes())
    os.utime("data/new", (1, 1))
    os.replace("data/new", name)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (replace("params.yaml", "0.003", "4.0e-4"), "learning_rate: 0.003 -> 0.0004"),
        (replace("params.yaml", "top_k: null\n", ""), r"top_k: None -> \(none\)"),
        (replace("params.yaml", "causal: true", "causal: ["), "params.yaml cannot be read any more"),
        (write("params.yaml", "just text"), r"learning_rate: 0.003 -> \(none\)"),
        (lambda: Path("params.yaml").unlink(), "params.yaml"),
        (replace("dvc.yaml", "stages.train", "stages.train --no-log"), "the stage in dvc.yaml"),
        (replace("dvc.yaml", "[learning_rate, ", "["), r"the stage in dvc.yaml, learning_rate: 0.003 -> \(none\)"),
        (write("model/gpt2.py", "one = 2\n"), "model/gpt2.py"),
        (write("model/new.py", ""), "model/new.py"),
        (lambda: Path("model/gpt2.py").rename("model/gpt3.py"), "model/gpt2.py, model/gpt3.py"),
        (write("requirements.txt", "torch==2\n"), "requirements.txt"),
        (write("data/tokens.npy", "1234"), "data/tokens.npy"),
        (lambda: in_its_place("data/tokens.npy"), "data/tokens.npy"),
        (lambda: Path("data/tokens.npy").unlink(), "data/tokens.npy"),
        (write("data/model/more.json", "{}"), "data/model/more.json"),
    ],
)
def test_every_edit_of_an_input_ends_the_stage(
    edit: Callable[[], object], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage whose params, code, data or entry in dvc.yaml are edited while it works fails, with one error that names it."""
    with pytest.raises(SystemExit) as ended:
        command.run(lambda args: edit() and None, None, argv=[])
    assert ended.value.code == 1
    with pytest.raises(UserError, match=f"^edited while the stage train ran: {named}.*Put it back"):
        inputs.check()
    assert capsys.readouterr().err.count("error: ") == 1


@pytest.mark.parametrize(
    "edit",
    [
        replace("params.yaml", "temperature: 1.0", "temperature: x"),
        replace("params.yaml", "learning_rate: 0.003", "# mine\nlearning_rate: 3.0e-3  # peak"),
        replace("dvc.yaml", "desc: Train", "desc: Train it"),
        replace("dvc.yaml", "stages.track", "stages.track --debug"),
        write("stages/other.py", "changed = 1"),
        write("data/elsewhere.csv", "1"),
        write("model/.gpt2.py.swp", ""),
        lambda: Path("model/gpt2.py").touch(),
        lambda: [Path("model/gpt2.py").write_text("x"), Path("model/gpt2.py").write_text("one = 1\n")],
    ],
)
def test_other_edits_change_nothing(edit: Callable[[], object]) -> None:
    """Keys, files and stages that this one does not read, comments, files that editors leave, and what has been restored."""
    command.run(lambda args: edit() and None, None, argv=[])


def test_track_depends_on_all_of_params_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that names the whole file is told of each of its keys."""
    monkeypatch.setenv("DVC_STAGE", "sub/dvc.yaml:track")
    inputs.note()
    replace("params.yaml", "temperature: 1.0", "temperature: 0.7\nmore: 1")()
    assert inputs.edited() == ["temperature: 1.0 -> 0.7", "more: (none) -> 1"]


def test_code_that_is_edited_while_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source file that is younger than the process ends the stage before any work."""
    monkeypatch.setattr("stages.STARTED", 0)
    with pytest.raises(UserError, match=r"model/gpt2\.py, stages/train\.py: edited while the stage train started"):
        inputs.note()


def test_by_hand_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC records nothing of a stage that is run by hand."""
    monkeypatch.delenv("DVC_STAGE")
    command.run(lambda args: Path("params.yaml").unlink(), None, argv=[])


def test_data_written_in_place_is_no_replaced_file() -> None:
    """New bytes in the same file may have been read half; another file in its place was not read at all."""
    inputs.note()
    in_its_place("data/tokens.npy")
    assert not inputs.written_into(inputs.edited(), ".npy")
    inputs.note()
    write("data/tokens.npy", "1234")()
    assert inputs.written_into(inputs.edited(), ".npy")
    assert not inputs.written_into(inputs.edited(), ".json")
