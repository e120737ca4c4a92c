"""Local data sets: every kind of file gives the same stories; whatever is wrong is said at once, in one sentence."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common.errors import UserError
from stages.sources import local_files, resolve
from stages.sources.source import Stories

TEXTS = [f'Story {i}: "é, 日本" said Tom,\tand, 😀' for i in range(30)]
NULLABLE = ["null", "NA", "None", "nan", "42"]  # stories all the same


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"title": "x", "text": text}) + "\n" for text in texts).encode()


def table(texts: list[str], **options: Any) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **options)
    writer.writerows([("text", "title"), *((text, "x") for text in texts)])
    return out.getvalue().encode()


def parquet(texts: list[str]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"title": ["x"] * len(texts), "text": texts}), out, row_group_size=7)
    return out.getvalue()


def lines(texts: list[str]) -> bytes:
    return ("\n".join(texts) + "\n").encode()


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": jsonl,
    "a.ndjson": jsonl,
    "a.json": lambda texts: json.dumps([{"text": text} for text in texts], indent=1).encode(),
    "strings.json": lambda texts: json.dumps(texts).encode(),
    "a.csv": table,
    "a.tsv": lambda texts: table(texts, delimiter="\t"),
    "a.parquet": parquet,
    "a.txt": lines,
    "A.TXT": lines,
    "bom.txt": lambda texts: b"\xef\xbb\xbf" + lines(texts),
    "bom.csv": lambda texts: b"\xef\xbb\xbf" + table(texts),
    "crlf.txt": lambda texts: lines(texts).replace(b"\n", b"\r\n"),
    "a.jsonl.gz": lambda texts: gzip.compress(jsonl(texts)),
    "a.txt.gz": lambda texts: gzip.compress(lines(texts)),
    "a.csv.gz": lambda texts: gzip.compress(table(texts)),
    "a.jsonl.bz2": lambda texts: bz2.compress(jsonl(texts)),
    "a.jsonl.xz": lambda texts: lzma.compress(jsonl(texts)),
}


def told(path: Path | str, split: str = "train") -> list[str]:
    """The stories that the stage would take."""
    source = resolve.open_source(str(path), None)
    return [text for rows in Stories(source, split, None) for text in rows["text"].to_pylist()]


def put(folder: Path, **contents: bytes) -> Path:
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_stories(tmp_path: Path, name: str) -> None:
    """A single file of any kind, packed or not: nine in ten stories to train on, every tenth held out, no text changed."""
    (tmp_path / name).write_bytes(FORMATS[name](TEXTS + NULLABLE))
    expected = TEXTS + NULLABLE
    assert told(tmp_path / name) == [text for i, text in enumerate(expected) if i % 10 != 9]
    assert told(tmp_path / name, "validation") == expected[9::10]


@pytest.mark.parametrize("packed", [False, True])
def test_text_with_separators(tmp_path: Path, packed: bool) -> None:
    """In a .txt file with lines <|endoftext|>, as TinyStories' own, a story is what stands between two of them."""
    stories = [f"one {i}\n\ntwo" for i in range(20)]
    content = ("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n").encode()
    path = tmp_path / ("TinyStories-train.txt.gz" if packed else "TinyStories-train.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert told(path) == [story for i, story in enumerate(stories) if i % 10 != 9]


@pytest.mark.parametrize("separator", ["<|endoftext|>", " <|endoftext|> "])
def test_a_story_ends_with_its_file(tmp_path: Path, separator: str) -> None:
    """Several .txt files need no separator at their ends, and one that holds a single story needs none at all."""
    put(tmp_path, train_1_txt=b"alone\nin its file", train_2_txt=f"a\nb\n{separator}\nc\n{separator}".encode())
    put(tmp_path, validation_txt=b"v\nw\n")
    assert told(tmp_path) == ["alone\nin its file", "a\nb", "c"]
    assert told(tmp_path, "validation") == ["v\nw"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_columns_may_change(tmp_path: Path, ending: str) -> None:
    """A column that changes its kind, comes or goes far down a file or from file to file is none of the stories' concern."""
    count = 30_000  # more than the readers take at a time
    notes = ["5"] * (count // 2) + ["five"] * (count - count // 2)
    texts = ["1234"] * (count // 2) + [f"story {i}" for i in range(count - count // 2)]
    if ending == "csv":
        content = "text,note\n" + "".join(f"{text},{note}\n" for text, note in zip(texts, notes, strict=True))
    else:
        rows = [{"text": text} | ({"note": note * 200} if note != "5" else {}) for text, note in zip(texts, notes, strict=True)]
        content = "".join(json.dumps(row) + "\n" for row in rows)
    put(tmp_path, **{f"train_1_{ending}": content.encode()})
    put(tmp_path, **{f"train_2_{ending}": FORMATS[f"a.{ending}"](TEXTS), f"validation_{ending}": FORMATS[f"a.{ending}"](["v"])})
    assert told(tmp_path) == texts + TEXTS
    assert told(tmp_path, "validation") == ["v"]


def test_a_literal_end_of_text_within_a_line_is_text(tmp_path: Path) -> None:
    """Only a line of its own separates."""
    path = put(tmp_path, a_txt=b"a <|endoftext|> b\nc\n") / "a.txt"
    assert told(path) == ["a <|endoftext|> b", "c"]


@pytest.mark.parametrize("name", ["a [1] *.jsonl", "so?.jsonl", "é 日本.jsonl", "100%25.jsonl", "x#y.parquet"])
def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    """Signs that mean something in patterns and addresses mean nothing in a file's name."""
    folder = tmp_path / "a [b] *"
    folder.mkdir()
    (folder / name).write_bytes(FORMATS["a" + Path(name).suffix](TEXTS))
    (folder / "a 1 x.jsonl").write_bytes(jsonl(["not this one"]))
    assert told(folder / name, "validation") == TEXTS[9::10]


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "validation.jsonl"),
        ("my-train-00000-of-00001.jsonl", "my-valid-00000.jsonl"),
        ("data/train.jsonl", "data/val.jsonl"),
        ("x_train.jsonl", "x_dev.jsonl"),
        ("train.jsonl", "test.jsonl"),
        ("Training.jsonl", "Validation.jsonl"),
        ("train/0.jsonl", "validation/0.jsonl"),
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
    assert (told(tmp_path), told(tmp_path, "validation")) == (["a", "b"], ["c"])


def test_validation_goes_before_test(tmp_path: Path) -> None:
    """With both, the test split is left alone; several files of a split are read in the order of their names."""
    put(
        tmp_path, train_2_jsonl=jsonl(["b"]), train_1_jsonl=jsonl(["a"]), validation_jsonl=jsonl(["v"]), test_jsonl=jsonl(["t"])
    )
    assert (told(tmp_path), told(tmp_path, "validation")) == (["a", "b"], ["v"])


def test_about_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source tells its files' checksums, and names itself as given, but never with the machine's own path."""
    put(tmp_path / "mine", train_jsonl=jsonl(["a"]), sub__validation_jsonl=jsonl(["b"]))
    monkeypatch.chdir(tmp_path)
    relative, absolute = resolve.open_source("./mine", None), resolve.open_source(str(tmp_path / "mine"), None)
    assert (relative.dataset, absolute.dataset) == ("./mine", "mine")
    assert relative.files == absolute.files
    assert list(relative.files) == ["sub/validation.jsonl", "train.jsonl"]


def test_found_from_an_experiments_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` works in another folder: a relative path is then seen from the main checkout too."""
    put(tmp_path / "main", a_jsonl=jsonl(TEXTS))
    (tmp_path / "temp").mkdir()
    monkeypatch.chdir(tmp_path / "temp")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert local_files.find("a.jsonl") == tmp_path / "main" / "a.jsonl"


@pytest.mark.parametrize("name", ["roneneldan/TinyStories", "wikitext", "some/thing-v1.0"])
def test_what_is_no_path_is_a_hub_id(name: str) -> None:
    """A name that is no path here may be a data set of the Hub."""
    assert local_files.find(name) is None


@pytest.mark.parametrize(
    "name", ["./nothing", "/no/such/file", "no.jsonl", "a/b/c", "../x", "~/no-such", "a b", "x/y.csv.gz", "é"]
)
def test_what_can_only_be_a_path_must_exist(name: str) -> None:
    """A path that leads nowhere is named, with what may stand there."""
    with pytest.raises(UserError, match=r"no such file or folder.*storybook.*Hub id"):
        local_files.find(name)


LATIN = "café\n".encode("latin-1")
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.jsonl": (b"", "empty.jsonl is empty"),
    "latin.txt": (LATIN * 9, "not UTF-8.*iconv"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n' * 9, "not UTF-8.*iconv"),
    "latin.csv": (b"text\n" + LATIN * 9, "not UTF-8.*iconv"),
    "utf16.txt": ("hello\n".encode("utf-16") * 9, "not UTF-8"),
    "binary.jsonl": (bytes(range(256)) * 20, "cannot be read"),
    "binary.txt": (bytes(range(255, -1, -1)) * 20, "not UTF-8"),
    "binary.parquet": (bytes(range(256)) * 20, "not a parquet file"),
    "cut.parquet": (parquet(TEXTS)[:-40], "cannot be read"),
    "cut.jsonl.gz": (gzip.compress(jsonl(TEXTS * 99))[:-40], "cannot be read.*end"),
    "false.jsonl.gz": (jsonl(TEXTS), "cannot be read.*gzip"),
    "broken.jsonl": (jsonl(TEXTS) + b'{"text":\n', "cannot be read.*JSON"),
    "surrogate.jsonl": (b'{"text": "\\ud800"}\n' * 9, "cannot be read.*surrogate"),
    "numbers.jsonl": (b'{"text": 1}\n' * 9, "holds int64"),
    "dates.jsonl": (b'{"text": "2020-01-01"}\n' * 9, "holds timestamp"),
    "story.jsonl": (b'{"story": "a"}\n' * 9, "no column `text`; it has story"),
    "mine.docx": (b"PK", r"not a kind of file that can be read.*\.jsonl"),
    "a::b.jsonl": (jsonl(TEXTS), "would be taken for an address"),
    "noending": (b"hello", "not a kind of file that can be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that cannot give stories is refused in one sentence with its name and the reason."""
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)dataset: .*{name}.*{message}") as error:
        told(tmp_path / name)
    assert "\n" not in str(error.value)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    """A folder without stories, with several kinds of files, or with links that lead nowhere or in circles."""
    (tmp_path / "empty").mkdir()
    put(tmp_path / "none", README_md=b"hello")
    put(tmp_path / "noval", validation_jsonl=jsonl(TEXTS))
    put(tmp_path / "both", train_validation_jsonl=jsonl(TEXTS), train_jsonl=jsonl(TEXTS))
    put(tmp_path / "mixed", a_jsonl=jsonl(TEXTS), b_csv=table(TEXTS))
    put(tmp_path / "linked", train_jsonl=jsonl(TEXTS))
    os.symlink("train2.jsonl", tmp_path / "linked" / "train2.jsonl")
    os.symlink("circle", tmp_path / "circle")
    os.symlink("nowhere", tmp_path / "dangling")
    for name, message in {
        "empty": "no files to train on",
        "none": "no files to train on",
        "noval": "no files to train on",
        "both": r"train\.validation\.jsonl is named for more than one split",
        "mixed": r"mixes \.csv, \.jsonl",
        "linked": r"train2\.jsonl leads nowhere",
        "circle": "leads nowhere or in a circle",
        "dangling": "leads nowhere or in a circle",
    }.items():
        with pytest.raises(UserError, match=message):
            resolve.open_source(str(tmp_path / name), None)


def test_a_folder_that_contains_itself(tmp_path: Path) -> None:
    """A link to a folder above is not followed: no endless walk, no story twice."""
    put(tmp_path, train_jsonl=jsonl(["a"]), validation_jsonl=jsonl(["b"]))
    os.symlink(".", tmp_path / "again")
    assert told(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A file without permission to read says so."""
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS))
    (tmp_path / "a.jsonl").chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        told(tmp_path / "a.jsonl")
