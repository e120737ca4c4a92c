"""Data sets: whatever is wrong with the files that `dataset` names is reported in one message that names them."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from refusal import check_message, refused
from stage_runs import run_stage, write_params

pytestmark = pytest.mark.kind("bad data set")

STORIES = [f"Once upon a time there was story number {number}." for number in range(40)]
NOISE = random.Random(0).randbytes(10_000)


def text(path: Path, stories: list[str] = STORIES) -> None:
    path.write_text("\n".join(stories) + "\n", encoding="utf-8")


def table(column: str, values: object) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table({column: values}), path)


# Each case puts a bad data set into the folder and returns what `dataset` is set to.


def folder_of(**files: Callable[[Path], object] | bytes) -> Callable[[Path], str]:
    """A folder `mine` with these files; `train_txt` is train.txt."""

    def make(folder: Path) -> str:
        (folder / "mine").mkdir()
        for name, content in files.items():
            path = folder / "mine" / name.replace("_", ".")
            _ = path.write_bytes(content) if isinstance(content, bytes) else content(path)
        return "mine"

    return make


def file(name: str, content: Callable[[Path], object] | bytes) -> Callable[[Path], str]:
    """One file."""

    def make(folder: Path) -> str:
        _ = (folder / name).write_bytes(content) if isinstance(content, bytes) else content(folder / name)
        return name

    return make


def truncated_parquet(path: Path) -> None:
    table("text", STORIES * 100)(path)
    path.write_bytes(path.read_bytes()[:-200])


def holed_parquet(path: Path) -> None:
    """Its footer is whole, its data is not."""
    table("text", [f"{story} {NOISE[place : place + 50].hex()}" for place, story in enumerate(STORIES * 100)])(path)
    content = bytearray(path.read_bytes())
    content[1_000:60_000] = bytes(59_000)
    path.write_bytes(bytes(content))


def itself(path: Path) -> None:
    path.symlink_to(path.name)


packed = gzip.compress(("\n".join(STORIES) * 100).encode(), mtime=0)
LATIN = "\n".join([*STORIES, "Caf\xe9"]).encode("latin-1")
CASES: dict[str, tuple[Callable[[Path], str], list[str]]] = {
    # nothing there
    "no such file": (lambda _: "stories.txt", ["stories.txt: no such file or folder", "Give the path"]),
    "no such path": (lambda _: "/no/such/folder", ["/no/such/folder: no such file or folder", "Give the path"]),
    "an address": (lambda _: "https://example.org/stories.txt", ["example.org/stories.txt: no such file", "Give the path"]),
    "NUL in the name": (lambda _: "a\0b", ["no such file or folder"]),
    "a name too long": (lambda _: "a/" * 1_500, ["no such file or folder"]),
    "empty folder": (folder_of(), ["dataset: mine has no files to train on", "Name them train*"]),
    "no train file": (folder_of(validation_txt=text), ["dataset: mine has no files to train on", "Name them train*"]),
    "empty txt": (file("stories.txt", b""), ["stories.txt is empty", "Fill it or remove it"]),
    "empty jsonl": (file("stories.jsonl", b""), ["stories.jsonl is empty", "Fill it or remove it"]),
    "empty parquet": (file("stories.parquet", b""), ["stories.parquet is empty", "Fill it or remove it"]),
    "empty validation": (folder_of(train_txt=text, validation_txt=b""), ["validation.txt is empty", "Fill it or remove it"]),
    "blank lines only": (file("stories.txt", b"\n  \n\t\n" * 50), ["dataset: stories.txt: has no stories", "150 blank ones"]),
    "nulls only": (file("s.parquet", table("text", pa.nulls(9, pa.string()))), ["s.parquet: has no stories", "9 blank ones"]),
    "too few to hold any out": (file("few.txt", b"a\n" * 5), ["few.txt: has no validation split", "Give a folder"]),
    # another kind of file
    "unknown ending": (file("stories.doc", text), ["stories.doc is not a kind of file that can be read", ".jsonl"]),
    "a device without end": (lambda _: "/dev/zero", ["/dev/zero is not a kind of file that can be read"]),
    "a pipe": (file("train.txt", os.mkfifo), ["train.txt is not a kind of file that can be read"]),
    "a pipe in the folder": (folder_of(train_txt=os.mkfifo), ["train.txt", "not a file", "Remove it"]),
    "a name of two splits": (folder_of(train_txt=text, train_val_txt=text), ["train.val.txt is named for more than one split"]),
    "mixed kinds": (folder_of(train_txt=text, validation_jsonl=b'{"text": "a"}\n'), ["dataset: mine mixes", "Keep one kind"]),
    "noise as txt": (file("stories.txt", NOISE), ["stories.txt is not UTF-8 text", "Convert it: iconv"]),
    "noise as csv": (file("stories.csv", NOISE), ["stories.csv", "UTF-8"]),
    "noise as jsonl": (file("stories.jsonl", NOISE), ["stories.jsonl is not UTF-8 text"]),
    "noise as parquet": (file("s.parquet", NOISE), ["s.parquet cannot be read", "The file may be truncated"]),
    "noise as gz": (file("stories.txt.gz", NOISE), ["stories.txt.gz cannot be read", "The file may be truncated"]),
    # another encoding
    "Latin-1 txt": (file("stories.txt", LATIN), ["stories.txt is not UTF-8 text", "Convert it: iconv"]),
    "UTF-16 txt": (file("stories.txt", "\n".join(STORIES).encode("utf-16")), ["stories.txt is not UTF-8 text", "iconv"]),
    # damaged
    "truncated parquet": (
        file("stories.parquet", truncated_parquet),
        ["stories.parquet cannot be read", "The file may be truncated"],
    ),
    "holed parquet": (file("stories.parquet", holed_parquet), ["stories.parquet cannot be read", "The file may be truncated"]),
    "truncated gz": (file("stories.txt.gz", packed[:-60]), ["stories.txt.gz cannot be read", "The file may be truncated"]),
    # another column
    "no text, jsonl": (file("s.jsonl", b'{"story": "a"}\n' * 9), ["s.jsonl has no column `text`", "story", "Rename"]),
    "no text, csv": (file("s.csv", b"story\na\nb\n" * 9), ["s.csv has no column `text`", "story", "Rename"]),
    "no text, parquet": (file("s.parquet", table("story", STORIES)), ["s.parquet has no column `text`", "story", "Rename"]),
    "text is numbers": (file("s.parquet", table("text", [1, 2])), ["the column `text` holds int64", "one story a row"]),
    "text is lists": (file("s.parquet", table("text", [STORIES])), ["the column `text` holds list", "one story a row"]),
    # links
    "a link to nothing": (
        file("stories.txt", lambda path: path.symlink_to("gone.txt")),
        ["stories.txt is a broken or circular symbolic link"],
    ),
    "links in a circle": (
        file("stories.txt", itself),
        ["stories.txt is a broken or circular symbolic link", "Give the real path"],
    ),
    "a circle in the folder": (
        folder_of(validation_txt=text, train_txt=itself),
        ["train.txt is a broken or circular link", "Remove it"],
    ),
}


@pytest.fixture
def project(tokenized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with outputs, and a home and caches of its own."""
    monkeypatch.setenv("USE_TORCH", "0")  # `datasets` is imported with it: restored afterwards
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Path(shutil.copytree(tokenized, tmp_path / "project"))


@pytest.mark.parametrize("name", CASES)
def test_a_bad_data_set_is_refused(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set that is missing, empty, foreign or damaged is refused by its name, and the data that was there stays."""
    make, words = CASES[name]
    write_params(project, {"dataset": make(project)})
    refused(project, "download", words, capsys)


def test_no_network_is_reported(project: Path) -> None:
    """A Hub data set without a network: within seconds one message, with two ways to do without."""
    write_params(project, {"dataset": "roneneldan/TinyStories"})
    done = run_stage(project, "download", HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_DISABLE_TELEMETRY="1")
    assert done.returncode == 1
    check_message(done.stderr, ["roneneldan/TinyStories", "dataset: storybook", "hf download", "HF_ENDPOINT", "folder"])
    assert (project / "data/download/about.json").exists()
