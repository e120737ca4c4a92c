"""DVC's cache is looked through: an object that was written into is found and named with what to do."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from stages.common.errors import UserError
from tools import cache_objects

pytestmark = pytest.mark.kind("accident around a run")

TABLE, WEIGHTS = b"step,loss\n1,2.0\n", b"weights" * 1000


def place(store: Path, name: str) -> Path:
    return store / "files" / "md5" / name[:2] / name[2:]


def put(store: Path, content: bytes, ending: str = "") -> str:
    """Add an object to a cache or remote; its name."""
    name = hashlib.md5(content).hexdigest() + ending
    path = place(store, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project with a file and a folder in its cache and in a remote, which is a folder."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text(
        "[core]\n    remote = team\n    analytics = false\n['remote \"team\"']\n    url = ../../team\n"
    )
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for store in (folder / ".dvc" / "cache", tmp_path / "team"):
        table, weights = put(store, TABLE), put(store, WEIGHTS)
        listed = put(store, json.dumps([{"md5": weights, "relpath": "model.safetensors"}]).encode(), ".dir")
    outs = f"[{{path: data/train/history.csv, md5: {table}}}, {{path: data/train/model, md5: {listed}}}]"
    (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages: {{train: {{cmd: x, outs: {outs}}}}}\n")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.chdir(folder)
    return folder


def test_a_whole_cache_is_nothing_to_say(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files, folders and their lists have the md5s that their names say; or there are none, as in a new clone."""
    cache_objects.main(argparse.Namespace())
    shutil.rmtree(project / ".dvc" / "cache")
    cache_objects.main(argparse.Namespace())
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["data/train/history.csv", "data/train/model/model.safetensors", "data/train/model"])
@pytest.mark.parametrize("where", [".dvc/cache", "../team"])
def test_an_object_that_was_written_into_is_named(what: str, where: str, project: Path) -> None:
    """In the cache, or in a remote to which it was pushed: the object, its output, and what to type."""
    lists = [path.parent.name + path.name for path in (project / where).glob("files/md5/*/*.dir")]
    content = {"data/train/history.csv": TABLE, "data/train/model/model.safetensors": WEIGHTS}.get(what)
    name = hashlib.md5(content).hexdigest() if content else lists[0]
    path = place(project / where, name)
    path.write_bytes(path.read_bytes() + b"x\n")
    with pytest.raises(UserError) as refused:
        cache_objects.main(argparse.Namespace())
    text = str(refused.value)
    assert str(path.resolve()) in text and f"({what})" in text
    assert "rm -rf" in text and "dvc repro" in text
    assert text.count("files/md5") == 2, "this one, and in the command"
