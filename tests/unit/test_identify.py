"""The stage identify: which data exactly, where it may lie, and when a file is read again."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.fs import localfs
from dvc.ignore import DvcIgnoreFilter
from repository import ROOT
from stage_runs import write_params

from stages import download, identify
from stages.common import files
from stages.common.errors import UserError
from stages.corpus.tokenizer import Tokenizer
from stages.sources import checksums
from stages.sources.hub import commit

pytestmark = pytest.mark.kind("edited while a stage runs")
COMMIT = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with DVC's own folder in it, as the current one."""
    (tmp_path / "project" / ".dvc" / "tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.setattr(checksums, "JUST_NOW", 0.0)
    return tmp_path / "project"


def run(dataset: str = "storybook", revision: str | None = COMMIT, **more: Any) -> dict[str, Any]:
    """Run the stage; what source.json then says."""
    write_params(Path.cwd(), {"dataset": dataset, "dataset_revision": revision, "max_samples": 5, "max_val_samples": 2, **more})
    identify.main(argparse.Namespace())
    return dict(json.loads(identify.SOURCE.read_text(encoding="utf-8")))


def stories(path: str, word: str = "cat") -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps({"text": f"{word} {i}"}) + "\n" for i in range(40)), encoding="utf-8")
    return Path(path)


def test_what_identifies_each_kind_of_data() -> None:
    """The storybook: its name. The Hub: a commit, without a request where it is given whole. Files: names and checksums."""
    assert run("storybook") == {"dataset": "storybook"}
    assert run("roneneldan/TinyStories") == {"dataset": "roneneldan/TinyStories", "revision": COMMIT}
    assert commit("a/b", COMMIT) == COMMIT
    digest = files.digest(stories("mine/sub/train.jsonl"))
    assert run("mine") == {"dataset": "mine", "files": {"sub/train.jsonl": digest}}
    assert run(str(Path("mine/sub/train.jsonl").absolute())) == {"dataset": "train.jsonl", "files": {"train.jsonl": digest}}


def test_the_link_leads_to_the_data_and_moves_with_the_checkout(project: Path) -> None:
    """A relative `dataset` has a relative link, an absolute one its own path, and what is no file here source.json."""
    stories("mine.jsonl")
    for dataset, target in {
        "storybook": "source.json",
        "mine.jsonl": "../../mine.jsonl",
        str(project / "mine.jsonl"): str(project / "mine.jsonl"),
    }.items():
        run(dataset)
        assert os.readlink(identify.LINK) == target
        assert identify.LINK.exists()


def test_in_a_temporary_copy_the_data_is_not_read_once_more(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp`: the checksums are those of the main checkout's memory, and DVC is not led to the data."""
    stories("mine.jsonl")
    known = run("mine.jsonl")
    (project / "temp" / ".dvc" / "tmp").mkdir(parents=True)
    monkeypatch.chdir(project / "temp")
    monkeypatch.setattr(files, "digest", lambda path: pytest.fail(f"{path} was read"))
    assert run("mine.jsonl") == known
    assert os.readlink(identify.LINK) == "../../.dvc/tmp/rwlock"


def test_only_changed_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with the same size, times and inode is not read again; an edit of any kind is noticed."""
    read: list[str] = []
    digest = files.digest
    monkeypatch.setattr(files, "digest", lambda path: read.append(path.name) or digest(path))
    for name in ("a", "b", "c"):
        stories(f"mine/{name}.jsonl")
    first = run("mine")
    assert (run("mine"), read) == (first, ["a.jsonl", "b.jsonl", "c.jsonl"])
    before = Path("mine/a.jsonl").stat()
    stories("mine/a.jsonl", "cow")  # as long as before
    os.utime("mine/a.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace("mine/c.jsonl", "mine/d.jsonl")
    read.clear()
    second = run("mine")
    assert (list(second["files"]), read) == (["a.jsonl", "b.jsonl", "d.jsonl"], ["a.jsonl", "d.jsonl"])
    assert second["files"]["a.jsonl"] == digest(Path("mine/a.jsonl"))


def test_a_data_set_that_is_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    """With a colleague's source.json: a line. One that was here, or of which nothing is known: an error."""
    with pytest.raises(UserError, match="no such file"):
        run("mine.jsonl")
    known = {"dataset": "mine.jsonl", "files": {"mine.jsonl": "0"}}
    files.write_json(identify.SOURCE, known)
    assert run("mine.jsonl") == known
    assert "the stories that were downloaded from it are used" in capsys.readouterr().out
    with pytest.raises(UserError, match="no such file"):
        run("yours.jsonl")
    stories("mine.jsonl")
    run("mine.jsonl")
    Path("mine.jsonl").unlink()
    with pytest.raises(UserError, match=r"was here and is gone.*Put it back"):
        run("mine.jsonl")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("data/download/train.jsonl", "the pipeline makes"),
        ("data/download", "the pipeline makes"),
        ("linked.jsonl", "the pipeline makes"),
        ("data", "holds this project's own data"),
        (".", "holds this project's own data"),
        ("..", "holds this project's own data"),
    ],
)
def test_what_the_pipeline_writes_is_no_data_set(dataset: str, message: str) -> None:
    """DVC removes a stage's outputs before it runs: a data set among them would be gone. Nothing is changed."""
    stories("data/download/train.jsonl")
    Path("linked.jsonl").symlink_to("data/download/train.jsonl")
    with pytest.raises(UserError, match=message):
        run(dataset)
    assert not identify.FOLDER.exists()


def test_a_data_set_that_changes_while_it_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `download` reads must be what `identify` saw, before and after it is read; then `identify` looks again."""
    stories("mine.jsonl")
    run("mine.jsonl")
    stories("mine.jsonl", "cow")
    with pytest.raises(UserError, match="it was changed while the pipeline ran"):
        download.main(argparse.Namespace())
    assert not identify.LINK.is_symlink() and not Path("data/download").exists()

    run("mine.jsonl")
    fill = download.fill

    def fill_and_edit(*words: Any) -> None:
        fill(*words)
        stories("mine.jsonl", "dog")

    monkeypatch.setattr(download, "fill", fill_and_edit)
    with pytest.raises(UserError, match="it was changed while the pipeline ran"):
        download.main(argparse.Namespace())
    assert not list(Path("data/download").iterdir())

    monkeypatch.setattr(download, "fill", fill)
    run("mine.jsonl")
    download.main(argparse.Namespace())
    assert Path("data/download/about.json").exists()


def test_a_file_in_the_folder_that_dvc_cannot_read() -> None:
    """A broken link, where a file of stories could be, is named; editors' hidden ones are left alone."""
    stories("mine/train.jsonl")
    Path("mine/.#train.jsonl").symlink_to("me@host.123")
    Path("mine/notes").symlink_to("nowhere")
    run("mine")
    Path("mine/more.txt").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"more\.txt is a broken or circular link"):
        run("mine")


def network(path: str, weights: str = "1", tokenizer: str = "") -> Path:
    """A folder with the files of a network, as far as this stage looks at them; `tokenizer`: the characters it knows."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    known = Tokenizer.gpt2()
    pruned, _ = known.prune(np.isin(np.arange(known.vocab_size), known.encode(tokenizer)))
    shape = {"vocab_size": pruned.vocab_size, "n_positions": 8, "n_layer": 1, "n_head": 1, "n_embd": 8}
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **shape}), encoding="utf-8")
    (folder / "model.safetensors").write_text(weights, encoding="utf-8")
    (folder / "tokenizer.json").write_text(pruned.to_json(), encoding="utf-8")
    (folder / "training_args.bin").write_text(weights, encoding="utf-8")
    return folder


def test_a_changed_network_is_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    """A local `init_from` has a link and checksums as a data set has: of what decides the network, its tokenizer included. A
    colleague without it uses what `dvc pull` has brought; gone, it is an error."""
    network("net")
    first = run(init_from="net")["init_from"]
    assert (set(first), set(first["files"])) == ({"name", "files", "tokenizer"}, {"config.json", "model.safetensors"})
    assert (os.readlink(identify.INIT_LINK), os.readlink(identify.LINK)) == ("../../net", "source.json")
    network("net", "2")
    second = run(init_from="net")["init_from"]
    assert (second["files"] != first["files"], second["tokenizer"]) == (True, first["tokenizer"])
    network("net", "2", tokenizer=" the cat")
    third = run(init_from="net")["init_from"]
    assert third["tokenizer"] != first["tokenizer"]
    assert "init_from" not in run(init_from=None)
    assert os.readlink(identify.INIT_LINK) == "source.json"
    Path("net").rename("away")
    with pytest.raises(UserError, match="init_from: net was here and is gone"):
        run(init_from="net")
    files.write_json(identify.SOURCE, {"dataset": "storybook", "init_from": {"name": "theirs", "files": {"config.json": "0"}}})
    assert run(init_from="theirs")["init_from"]["files"] == {"config.json": "0"}
    assert "theirs does not exist here: the weights that were fetched from it are used" in capsys.readouterr().out


def test_a_recorded_commit_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a clone the commit that `init_revision: null` once was is used, without a request; another revision is looked up."""
    asked: list[Any] = []
    monkeypatch.setattr(
        identify.pretrained, "identify", lambda *words: asked.append(words) or {"name": words[0], "revision": "2"}
    )
    files.write_json(identify.SOURCE, {"dataset": "storybook", "init_from": {"name": "a/b", "revision": "1"}})
    for revision in (None, "1"):
        assert run(init_from="a/b", init_revision=revision)["init_from"] == {"name": "a/b", "revision": "1"}
    assert asked == []
    assert run(init_from="a/b", init_revision="main")["init_from"]["revision"] == "2"
    assert asked == [("a/b", "main")]


def test_what_training_has_put_in_the_networks_place_changes_nothing() -> None:
    """`init_from=data/train/model`: the experiment replaces that folder, and stays the one that began with what lay there. If
    `download` needs the network again, it says what to do."""
    network("data/train/model")
    first = run(init_from="data/train/model")
    assert os.readlink(identify.INIT_LINK) == "source.json", "not the folder, which changes with each training"
    network("data/train/model", "2")
    assert run(init_from="data/train/model") == first
    with pytest.raises(UserError, match=r"cp -r data/train/model my-network"):
        download.main(argparse.Namespace())
    assert not identify.LINK.is_symlink() and not identify.INIT_LINK.is_symlink(), "`identify` looks again"


def test_dvc_follows_the_links(project: Path) -> None:
    """.dvcignore leaves both links in DVC's sight, and of what is behind them the files that can be stories or a network."""
    shutil.copyfile(ROOT / ".dvcignore", ".dvcignore")
    ignored = DvcIgnoreFilter(localfs, str(project))
    for link in (identify.LINK, identify.INIT_LINK):
        assert not ignored.is_ignored_dir(str(link.absolute()))
    seen = {"dataset": ["a.jsonl", "deep/b.txt"], "init": ["config.json", "model.safetensors", "vocab.json"]}
    unseen = {
        "dataset": ["film.mp4", ".hidden.txt"],
        "init": ["training_args.json", "README.md", "checkpoint-1/model.safetensors"],
    }
    for names, expected in ((seen, False), (unseen, True)):
        for name in (f"{link}/{file}" for link, files_there in names.items() for file in files_there):
            assert ignored.is_ignored_file(str(project / "data" / "identify" / name)) is expected, name
