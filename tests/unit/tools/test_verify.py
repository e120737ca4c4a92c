"""What `make verify` compares, and what it concludes."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import pytest

from tools import verify

MADE = {"dvc.lock": "schema: '2.0'\n", "data/train/model/config.json": "{}", "data/train/history.csv": "step\n"}


def make(folder: Path, **changes: str) -> dict[str, str]:
    """The md5s of a folder with what a pipeline makes, and what stands beside it in every clone."""
    files = MADE | {"data/README.md": "a", "data/train/.gitignore": "/model\n", "params.yaml": "seed: 1\n"} | changes
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return verify.md5s(folder)


def conclude(one: dict[str, str], two: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code for two clones with these md5s."""
    clones = iter([one, two])
    monkeypatch.setattr(verify, "clone", lambda folder: folder)
    monkeypatch.setattr(verify, "run", lambda folder: next(clones))
    with pytest.raises(SystemExit) as ended:
        verify.main(argparse.Namespace())
    return ended.value.code


def test_every_file_that_a_pipeline_makes_is_compared(tmp_path: Path) -> None:
    """dvc.lock and all files in the stages' folders, each by its content; not what git brought."""
    assert make(tmp_path) == {name: hashlib.md5(text.encode()).hexdigest() for name, text in MADE.items()}


def test_one_other_byte_is_different(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same bytes: exit code 0 and "identical". One changed, missing or additional file: 1, and the table names it."""
    one = make(tmp_path / "one")
    assert conclude(one, make(tmp_path / "two"), monkeypatch) == 0
    assert "identical" in capsys.readouterr().out
    for changed in ({"data/train/history.csv": "steps\n"}, {"data/train/more.csv": ""}):
        two = make(tmp_path / str(changed), **changed)
        for first, second in ((one, two), (two, one)):
            assert conclude(first, second, monkeypatch) == 1
            said = capsys.readouterr().out
            assert [line.split()[0] for line in said.splitlines() if line.endswith("DIFFERENT")] == list(changed)
            assert "identical" not in said
