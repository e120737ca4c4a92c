"""Local data sets: every kind of file gives the same stories; whatever is wrong is said at once, in one sentence."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.common.errors import UserError
from stages.sources import data_file, local_files, resolve
from stages.sources.source import Stories

pytestmark = pytest.mark.kind("local files and folders")

TEXTS = [f'Story {i}: "é, 日本" said Tom,\tand, 😀' for i in range(30)]
NULLABLE = ["null", "NA", "None", "nan", "42"]  # stories all the same


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"title": "x", "text": text}) + "\n" for text in texts).encode()


def table(texts: list[str], **options: Any) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **options)
    writer.writerows([("text", "title"), *((text, "x") for text in texts)])
    return out.getvalue().encode()


def parquet(texts: list[str], kind: pa.DataType | None = None) -> bytes:
    """As Spark may write it, text as bytes; \\udce9 is the byte 0xe9."""
    encoded = pa.array([text.encode("utf-8", "surrogateescape") for text in texts], pa.binary())
    out = io.BytesIO()
    pq.write_table(
        pa.table({"title": ["x"] * len(texts), "text": encoded.cast(kind) if kind else encoded}), out, row_group_size=7
    )
    return out.getvalue()


def columns(*names: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table([pa.array(TEXTS)] * len(names), names=names), out)
    return out.getvalue()


def arrow(texts: list[str], stream: bool = True) -> bytes:
    """Arrow, as `Dataset.save_to_disk` writes it."""
    out, table = io.BytesIO(), pa.table({"title": ["x"] * len(texts), "text": texts})
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


def lines(texts: list[str]) -> bytes:
    return ("\n".join(texts) + "\n").encode()


KINDS = [pa.string(), pa.large_string(), pa.large_binary(), pa.string_view(), pa.binary_view()]
FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": jsonl,
    "a.ndjson": jsonl,
    "a.json": lambda texts: json.dumps([{"text": text} for text in texts], indent=1).encode(),
    "strings.json": lambda texts: json.dumps(texts).encode(),
    "a.csv": table,
    "a.tsv": lambda texts: table(texts, delimiter="\t"),
    "pretty.json": lambda texts: "\n".join(json.dumps({"text": text}, indent=2) for text in texts).encode(),
    "bom.jsonl": lambda texts: b"\xef\xbb\xbf" + jsonl(texts),
    "cr.jsonl": lambda texts: jsonl(texts).replace(b"\n", b"\r"),
    "bytes.parquet": parquet,
    **{f"{kind}.parquet": lambda texts, kind=kind: parquet(texts, kind) for kind in KINDS},
    "a.arrow": arrow,
    "file.arrow": lambda texts: arrow(texts, stream=False),
    "a.txt": lines,
    "A.TXT": lines,
    "bom.txt": lambda texts: b"\xef\xbb\xbf" + lines(texts),
    "bom.csv": lambda texts: b"\xef\xbb\xbf" + table(texts),
    "crlf.txt": lambda texts: lines(texts).replace(b"\n", b"\r\n"),
    "a.jsonl.gz": lambda texts: gzip.compress(jsonl(texts)),
    "a.txt.gz": lambda texts: gzip.compress(lines(texts)),
    "a.csv.gz": lambda texts: gzip.compress(table(texts)),
    "a.jsonl.bz2": lambda texts: bz2.compress(jsonl(texts)),
    "a.csv.zst": lambda texts: zstd(table(texts)),
    "a.jsonl.xz": lambda texts: lzma.compress(jsonl(texts)),
}


def stories_in(path: Path | str, split: str = "train") -> list[str]:
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
    assert stories_in(tmp_path / name) == [text for i, text in enumerate(expected) if i % 10 != 9]
    assert stories_in(tmp_path / name, "validation") == expected[9::10]


@pytest.mark.parametrize("packed", [False, True])
def test_text_with_separators(tmp_path: Path, packed: bool) -> None:
    """In a .txt file with lines <|endoftext|>, as TinyStories' own, a story is what stands between two of them."""
    stories = [f"one {i}\n\ntwo" for i in range(20)]
    content = ("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n").encode()
    path = tmp_path / ("TinyStories-train.txt.gz" if packed else "TinyStories-train.txt")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert stories_in(path) == [story for i, story in enumerate(stories) if i % 10 != 9]


@pytest.mark.parametrize("separator", ["<|endoftext|>", " <|endoftext|> "])
def test_a_story_ends_with_its_file(tmp_path: Path, separator: str) -> None:
    """Several .txt files need no separator at their ends, and one that holds a single story needs none at all."""
    put(tmp_path, train_1_txt=b"alone\nin its file", train_2_txt=f"a\nb\n{separator}\nc\n{separator}".encode())
    put(tmp_path, validation_txt=b"v\nw\n")
    assert stories_in(tmp_path) == ["alone\nin its file", "a\nb", "c"]
    assert stories_in(tmp_path, "validation") == ["v\nw"]


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
    assert stories_in(tmp_path) == texts + TEXTS
    assert stories_in(tmp_path, "validation") == ["v"]


LAYOUTS = {
    "behind each story": b"one. <|endoftext|>\ntwo.\nmore<|endoftext|>\nthree.",
    "on lines of their own": b"one.\n<|endoftext|>\ntwo.\nmore\n <|endoftext|> \n\nthree.\n<|endoftext|>\n",
    "before each story": b"<|endoftext|>one.\n<|endoftext|>two.\nmore\n<|endoftext|>three.\n",
    "all in one line": b"one.<|endoftext|>two.\rmore<|endoftext|>three.",
    "mixed, CRLF": b"one.\r\n<|endoftext|>\r\ntwo.\r\nmore <|endoftext|> three.\r\n",
}


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_separators_in_any_layout(tmp_path: Path, layout: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in a line the separators are, the stories are what is between them, however the file is cut in reading."""
    monkeypatch.setattr(data_file, "BLOCK", block)
    put(tmp_path, train_txt=LAYOUTS[layout], validation_txt=b"v")
    assert [text for text in stories_in(tmp_path) if text] == ["one.", "two.\nmore", "three."]


def test_a_separator_far_down_decides_for_the_whole_file(tmp_path: Path) -> None:
    """The whole file is looked through before its lines are taken for stories."""
    put(tmp_path, train_txt=b"a line of a story\n" * 2_000_000 + b"<|endoftext|>\nlast", validation_txt=b"v")
    first, last = stories_in(tmp_path)
    assert (first.count("\n"), last) == (1_999_999, "last")


@pytest.mark.parametrize("name", ["a [1] *.jsonl", "a::b.jsonl", "so?.jsonl", "é 日本.jsonl", "100%25.jsonl", "x#y.parquet"])
def test_any_file_name_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    """Signs that mean something in patterns and addresses mean nothing in a file's name."""
    folder = tmp_path / "a [b] *"
    folder.mkdir()
    (folder / name).write_bytes(FORMATS["a.jsonl" if name.endswith("jsonl") else "bytes.parquet"](TEXTS))
    (folder / "a 1 x.jsonl").write_bytes(jsonl(["not this one"]))
    assert stories_in(folder / name, "validation") == TEXTS[9::10]


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
    assert (stories_in(tmp_path), stories_in(tmp_path, "validation")) == (["a", "b"], ["c"])


def test_validation_goes_before_test(tmp_path: Path) -> None:
    """With both, the test split is left alone; several files of a split are read in the order of their names."""
    put(
        tmp_path, train_2_jsonl=jsonl(["b"]), train_1_jsonl=jsonl(["a"]), validation_jsonl=jsonl(["v"]), test_jsonl=jsonl(["t"])
    )
    assert (stories_in(tmp_path), stories_in(tmp_path, "validation")) == (["a", "b"], ["v"])


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
def test_what_is_no_path_is_a_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is no path here may be a data set of the Hub."""
    monkeypatch.chdir(tmp_path)
    assert local_files.find(name) is None


@pytest.mark.parametrize(
    "name", ["./nothing", "/no/such/file", "no.jsonl", "a/b/c", "../x", "~/no-such", "a b", "x/y.csv.gz", "é"]
)
def test_what_can_only_be_a_path_must_exist(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that leads nowhere is named, with what may stand there."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no such file or folder.*storybook.*Hub id"):
        local_files.find(name)


LATIN = "café\n".encode("latin-1")
BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.jsonl": (b"", "is empty. Fill it or remove it"),
    "latin.txt": (LATIN * 9, "not UTF-8.*iconv"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n' * 9, "not UTF-8.*iconv"),
    "latin.csv": (b"text\n" + LATIN * 9, "not UTF-8.*iconv"),
    "utf16.txt": ("hello\n".encode("utf-16") * 9, "not UTF-8"),
    "binary.jsonl": (bytes(range(256)) * 20, "not UTF-8"),
    "binary.txt": (bytes(range(255, -1, -1)) * 20, "not UTF-8"),
    "binary.parquet": (bytes(range(256)) * 20, "not a parquet file"),
    "cut.parquet": (parquet(TEXTS)[:-40], "cannot be read"),
    "cut.jsonl.gz": (gzip.compress(jsonl(TEXTS * 99))[:-40], "cannot be read.*end"),
    "false.jsonl.gz": (jsonl(TEXTS), "cannot be read.*gzip"),
    "broken.jsonl": (jsonl(TEXTS) + b'{"text":\n', "cannot be read.*JSON"),
    "surrogate.jsonl": (b'{"text": "\\ud800"}\n' * 9, "cannot be read.*surrogate"),
    "numbers.jsonl": (b'{"text": 1}\n' * 9, r"row 1 \(line 1\) holds a number"),
    "names.jsonl": (b'{"text": "a", "text": "b"}\n' * 9, "row 1 .*gives `text` twice"),
    "commas.jsonl": (b'{"text": "a"},\n' * 9, "there is a comma after the object in line 1.*Remove the commas"),
    "open.json": (b'[{"text": "a"}', "the array has no end|a comma or the array's end is missing"),
    "comma.json": (b'[{"text": "a"},]', "line 1 is not JSON .*comma before the array's end"),
    "more.json": (b'[{"text": "a"}]\n{"text": "b"}', "line 2 is not JSON .*more text after the array's end"),
    "brackets.json": (b"[" * 100_000, "brackets are nested too deeply"),
    "mixed.json": (b'[{"text": "a"}, "b"]', "row 2 .* is a text, the first row is an object"),
    "list.jsonl": (b'{"text": "a"}\n\n["b"]\n', r"row 2 \(line 3\) is a list"),
    "twice.csv": (b"text,text\na,b\n", "2 columns `text`"),
    "twice.parquet": (columns("text", "text"), "2 columns `text`"),
    "bytes.parquet": (parquet([*TEXTS, "caf\udce9"]), "row 31 of `text` is not UTF-8"),
    "story.jsonl": (b'{"story": "a"}\n' * 9, "no column `text`; it has story"),
    "mine.docx": (b"PK", r"not a kind of file that can be read.*\.jsonl"),
    "noending": (b"hello", "not a kind of file that can be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that cannot give stories is refused in one sentence with its name and the reason."""
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)dataset: .*{name}.*{message}") as error:
        stories_in(tmp_path / name)
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
    assert stories_in(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_named(tmp_path: Path) -> None:
    """A file without permission to read says so."""
    (tmp_path / "a.jsonl").write_bytes(jsonl(TEXTS))
    (tmp_path / "a.jsonl").chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        stories_in(tmp_path / "a.jsonl")


def test_a_saved_data_set(tmp_path: Path) -> None:
    """A folder of `Dataset.save_to_disk` is read, its own list of files, not its facts; so is one of a `DatasetDict`."""
    for name in ("one", "two/train", "two/validation"):
        folder = put(tmp_path / name, dataset_info_json=b"{}", **{"data-00000-of-00001_arrow": arrow(TEXTS)})
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        (folder / "cache-1234.arrow").write_bytes(arrow(["of a map"]))
    (tmp_path / "two/dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    assert stories_in(tmp_path / "one", "validation") == TEXTS[9::10]
    assert stories_in(tmp_path / "two") == stories_in(tmp_path / "two", "validation") == TEXTS


def test_a_repository_of_the_hub_downloaded_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TinyStories as `hf download` leaves it, parquet beside other texts: the parquet is read, with one note."""
    put(tmp_path, data__train__00000_parquet=parquet(["t"]), data__validation__00000_parquet=parquet(["v"]))
    names = ["TinyStories-train.txt", "TinyStories-valid.txt", "TinyStoriesV2-GPT4-train.txt", "TinyStoriesV2-GPT4-valid.txt"]
    for name in (*names, "TinyStories_all_data.tar.gz", ".gitattributes", "README.md"):
        (tmp_path / name).write_text("other\n")
    assert (stories_in(tmp_path), stories_in(tmp_path, "validation")) == (["t"], ["v"])
    (note, again) = capsys.readouterr().err.splitlines()
    assert note == again and note.endswith("and 1 more")
    assert "only its parquet files are read, not TinyStories-train.txt" in note


def test_other_files_beside_named_ones_are_left_alone(tmp_path: Path) -> None:
    """A table that no split is named in does not take the place of files that are."""
    put(tmp_path, train_jsonl=jsonl(["a"]), validation_jsonl=jsonl(["v"]), embeddings_parquet=parquet(["x"]))
    assert stories_in(tmp_path) == ["a"]


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    """A file name in another encoding, as of a zip from Windows, is refused by a name that can be printed."""
    try:
        (tmp_path / os.fsdecode(b"train-\xe9.jsonl")).write_bytes(jsonl(TEXTS))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match=r"train-\\xe9\.jsonl: its name is not UTF-8. Rename it"):
        resolve.open_source(str(tmp_path), None)


@pytest.mark.skipif(not shutil.which("iconv"), reason="needs iconv")
@pytest.mark.parametrize("name", ["caf\u00e9 'x'.txt", "a.jsonl", "a.csv.gz", "utf16.txt"])
def test_the_advice_on_encodings_works(tmp_path: Path, name: str) -> None:
    """The command that the message gives turns exactly the named file into one that is read right."""
    content = FORMATS["a.jsonl" if name == "a.jsonl" else "a.csv" if "csv" in name else "a.txt"](["caf\u00e9 \u20ac"] * 20)
    content = content.replace(rb"caf\u00e9 \u20ac", "caf\u00e9 \u20ac".encode()).decode()
    content = content.encode("utf-16" if name.startswith("utf16") else "windows-1252")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match="Convert it: .*Then give the new file") as error:
        stories_in(tmp_path / name)
    command = str(error.value).partition("Convert it: ")[2].rpartition(" (if ")[0]
    subprocess.run(["bash", "-c", command], check=True)
    (made,) = tmp_path.glob("*.utf8.*")
    assert stories_in(made) == ["caf\u00e9 \u20ac"] * 18
