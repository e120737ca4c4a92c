"""Local data sets: which files of a folder are read for which split; whatever is wrong is said at once, in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from story_files import TEXTS, jsonl, parquet, put, stories_in, table

from stages.common.errors import UserError
from stages.sources import formats, local_files
from stages.sources.open_source import open_source

pytestmark = pytest.mark.kind("local files and folders")


@pytest.mark.parametrize("name", ["a [1] *.jsonl", "a::b.jsonl", "so?.jsonl", "é 日本.jsonl", "100%25.jsonl", "x#y.parquet"])
def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    """Signs that mean something in patterns and addresses mean nothing in a file's name."""
    folder = tmp_path / "a [b] *"
    folder.mkdir()
    (folder / name).write_bytes((jsonl if name.endswith("jsonl") else parquet)(TEXTS))
    (folder / "a 1 x.jsonl").write_bytes(jsonl(["not this one"]))
    assert stories_in(folder / name, "validation") == TEXTS[9::10]


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "validation.jsonl"),
        ("my-train-00000-of-00001.jsonl", "data/val.jsonl"),
        ("x_train.jsonl", "x_dev.jsonl"),
        ("train.jsonl", "test.jsonl"),
        ("Training.jsonl", "Validation.jsonl"),
        ("mine/train-set/a.jsonl", "mine/dev/a.jsonl"),
    ],
)
def test_names_give_the_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    """Files, or else folders, named train*, and validation*, valid*, val*, dev* or else test*, are the splits; others are
    left alone.
    """
    for name, texts in zip(names, (["a", "b"], ["c"]), strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jsonl(texts))
    put(tmp_path, README_md=b"# mine", notes_txt=b"not a story", _hidden_jsonl=b"}")
    assert (stories_in(tmp_path), stories_in(tmp_path, "validation")) == (["a", "b"], ["c"])


@pytest.mark.parametrize(
    "name", ["./nothing", "/no/such/file", "no.jsonl", "a/b/c", "../x", "~/no-such", "a b", "x/y.csv.gz", "é"]
)
def test_what_can_only_be_a_path_must_exist(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path to nothing is named, with what may stand there."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no such file or folder.*storybook.*Hub id"):
        local_files.find(name)


def test_an_address_is_refused_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither password nor query of an address that was given as data set are shown."""
    monkeypatch.chdir(tmp_path)
    for address in ("https://me:SECRET@host/a.jsonl?token=SECRET", "s3://SECRET:a/SECRET@bucket/x"):
        with pytest.raises(UserError, match=r"no such file or folder") as refused:
            local_files.find(address)
        assert "SECRET" not in str(refused.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a2146" * 8 + b"\nsize 12345\n"


@pytest.mark.parametrize("name", [f"a{ending}" for ending in (*formats.READERS, ".jsonl.gz", ".txt.zst", ".csv.bz2")])
@pytest.mark.parametrize("beside", [False, True])
def test_a_pointer_of_git_lfs_is_named(name: str, beside: bool, tmp_path: Path) -> None:
    """Git puts three lines in a file's place where Git LFS was not there: in every format the message says what to run."""
    (tmp_path / name).write_bytes(POINTER)
    if beside:
        (tmp_path / f"0{Path(name).suffixes[0]}").write_bytes({"parquet": parquet, "txt": table}.get(name[2:], jsonl)(TEXTS))
    with pytest.raises(UserError, match=rf"{name} is a Git LFS pointer, not the file itself. Run git lfs pull"):
        open_source(str(tmp_path if beside else tmp_path / name), None)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """A file name in another encoding, as of a zip from Windows, is refused by a name that can be printed."""
    try:
        (tmp_path / os.fsdecode(b"train-\xe9.jsonl")).write_bytes(jsonl(TEXTS))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match=r"train-\\xe9\.jsonl: its name is not UTF-8. Rename it"):
        open_source(str(tmp_path), None)
