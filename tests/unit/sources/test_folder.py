"""Folders: what is read for which split, what is left is said, and what could be meant in two ways is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from story_files import TEXTS, jsonl, parquet, put, stories_in, table

from stages.common.errors import UserError
from stages.sources.open_source import open_source

pytestmark = pytest.mark.kind("local files and folders")

NOT_STORIES = b"more"


def fill(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write these files, by path."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


LEFT: dict[str, tuple[dict[str, bytes], str]] = {  # beside train.jsonl, and what is said of them
    "hidden": ({".b.jsonl": NOT_STORIES, ".git/x.jsonl": NOT_STORIES, ".git/y": NOT_STORIES}, "2 hidden (.b.jsonl, .git)"),
    "hidden below": ({"train/.a.jsonl": NOT_STORIES}, "1 hidden (train/.a.jsonl)"),
    "another kind": (
        {"a.md": NOT_STORIES, "b.tar.gz": NOT_STORIES, "c.jsonl~": NOT_STORIES, "d": NOT_STORIES, "e.gz": NOT_STORIES},
        "5 of another kind (a.md, b.tar.gz, c.jsonl~ and 2 more)",
    ),
    "texts about it": (
        {"README.txt": NOT_STORIES, "dataset_infos.json": b'{\n "a": 1\n}\n', "state.json": b'{"a": 1}\n'},
        "3 whose name says no split (README.txt, dataset_infos.json, state.json)",
    ),
    "a test split": ({"validation.jsonl": jsonl(["v"]), "test.jsonl": jsonl(["t"])}, "1 of the test split (test.jsonl)"),
}


@pytest.mark.parametrize("what", LEFT)
def test_a_note_names_what_is_not_read(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, with counts by reason and names; what is read is as it would be alone."""
    contents, said = LEFT[what]
    fill(tmp_path, {"train.jsonl": jsonl(["a", "b"]), "validation.jsonl": jsonl(["c"])} | contents)
    assert stories_in(tmp_path) == ["a", "b"]
    assert capsys.readouterr().err == f"note: {tmp_path}: not read: {said}\n"


def test_no_note_where_all_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where all is read there is no note."""
    fill(tmp_path, {"train.jsonl": jsonl(["a"]), "validation.jsonl": jsonl(["b"])})
    assert stories_in(tmp_path) == ["a"]
    assert capsys.readouterr().err == ""


def test_a_linked_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not followed, for it may lead above; a linked file is read like any other, and so is a data set that is a link."""
    fill(tmp_path, {"elsewhere/more.jsonl": jsonl(["no"]), "elsewhere/one.jsonl": jsonl(TEXTS), "mine/a.jsonl": jsonl(TEXTS)})
    os.symlink("../elsewhere", tmp_path / "mine" / "linked")
    os.symlink("../elsewhere/one.jsonl", tmp_path / "mine" / "b.jsonl")
    os.symlink("mine", tmp_path / "name")
    assert len(stories_in(tmp_path / "mine")) == len(stories_in(tmp_path / "name")) == 2 * len(TEXTS) * 9 // 10
    assert capsys.readouterr().err.count("not read: 1 linked folder (linked)\n") == 2
    (tmp_path / "mine" / "a.jsonl").unlink()
    (tmp_path / "mine" / "b.jsonl").unlink()
    with pytest.raises(UserError, match=r"has no files to train on.*It holds 1 linked folder \(linked\)"):
        stories_in(tmp_path / "mine")


J = jsonl(TEXTS)
DOUBTFUL: dict[str, tuple[dict[str, bytes], str]] = {
    "one name says a split": (
        {"train.jsonl": J, "stories2.jsonl": J, "stories3.jsonl": J},
        r"name of stories2\.jsonl, stories3\.jsonl says no split, beside names that do \(train\.jsonl\)",
    ),
    "only validation is named": ({"validation.jsonl": J, "stories.jsonl": J}, r"name of stories\.jsonl says no split"),
    "packed, without a name": ({"train.jsonl": J, "more.jsonl.gz": J}, r"name of more\.jsonl\.gz says no split"),
    "another kind without a name": ({"train.jsonl": J, "more.csv": table(TEXTS)}, r"name of more\.csv says no split"),
    "stories in .json without a name": ({"train.jsonl": J, "more.json": J}, r"name of more\.json says no split"),
    "parquet without a name": ({"train.jsonl": J, "more.parquet": parquet(TEXTS)}, r"name of more\.parquet says no split"),
    "texts without a name": ({"train.txt": b"a\nb", "more.txt": b"c\nd"}, r"name of more\.txt says no split"),
    "a packed copy": ({"b.jsonl": J, "b.jsonl.gz": J}, r"b\.jsonl and b\.jsonl\.gz seem to be the same stories twice"),
    "a copy in another format": ({"train.json": J, "train.jsonl": J}, r"train\.json and train\.jsonl seem to be the same"),
    "no stories": (
        {"README.md": NOT_STORIES, "all.zip": NOT_STORIES},
        r"no files to train on.*holds 2 of another kind \(README\.md, all\.zip\)",
    ),
}


@pytest.mark.parametrize("what", DOUBTFUL)
def test_what_could_be_meant_in_two_ways_is_refused(what: str, tmp_path: Path) -> None:
    """In one sentence with the names and what to do."""
    contents, message = DOUBTFUL[what]
    fill(tmp_path, contents)
    with pytest.raises(UserError, match=message) as refused:
        open_source(str(tmp_path), None)
    assert any(word in str(refused.value) for word in ("Name", "Keep", "Rename"))


def test_equal_names_in_two_folders_are_two_files(tmp_path: Path) -> None:
    """Splits may be folders with files of the same names, and files numbered behind a dot."""
    fill(tmp_path, {"train/0.jsonl": jsonl(["a"]), "validation/0.jsonl": jsonl(["v"])})
    fill(tmp_path, {"train/part.1.jsonl": jsonl(["b"]), "train/part.2.jsonl": jsonl(["c"])})
    assert (stories_in(tmp_path), stories_in(tmp_path, "validation")) == (["a", "b", "c"], ["v"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """Its stories would be missing."""
    fill(tmp_path, {"a.jsonl": J, "closed/b.jsonl": J})
    (tmp_path / "closed").chmod(0)
    with pytest.raises(UserError, match=r"closed: Permission denied. Make it readable"):
        open_source(str(tmp_path), None)


def test_a_repository_of_the_hub_downloaded_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TinyStories as `hf download` leaves it, parquet beside other texts: the parquet is read, with one note."""
    put(tmp_path, data__train__00000_parquet=parquet(["t"]), data__validation__00000_parquet=parquet(["v"]))
    names = ["TinyStories-train.txt", "TinyStories-valid.txt", "TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"]
    for name in (*names, "TinyStories_all_data.tar.gz", ".gitattributes", "README.md", "dataset_infos.json"):
        (tmp_path / name).write_text("other\n")
    assert (stories_in(tmp_path), stories_in(tmp_path, "validation")) == (["t"], ["v"])
    (note, again) = capsys.readouterr().err.splitlines()
    assert note == again
    counts = (
        "1 hidden (.gitattributes)",
        "2 of another kind (README.md, TinyStories_all_data.tar.gz)",
        "4 beside parquet files (TinyStories-train.txt, ",
    )
    assert all(count in note for count in counts)
