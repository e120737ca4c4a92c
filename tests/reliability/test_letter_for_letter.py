"""Text import is lossless: what `download` takes from a file is what a plain reader gives, or it names the row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from story_files import PACK, jsonl, parquet, table

from stages.common.errors import UserError
from stages.sources.open_source import open_source
from stages.sources.source import SplitReader

pytestmark = pytest.mark.kind("lossless text import")
EXAMPLES = 40

# fmt: off
LOOKS_LIKE = [
    "42", "-0", "1e5", "0x1f", "1,234.5", "NaN", "nan", "null", "None", "NULL", "NA", "N/A", "true", "False", "inf", "~",
    "2020-01-01", "2020-01-01T10:00:00Z", "12:30", "[]", "{}", '{"text": "a"}', '["a"]', '"quoted"', "'x'", '"', '""', '"a',
    'a"', 'say \\"hi\\"', "a,b", ",", "a\tb", "\t", "\\", "\\n", "\\u0041", "\\x00", "a\\", "#", "=1+1", "text",
    "\ufeffa", "a\ufeff",
    "a\nb", "a\r\nb", "a\rb", "\na", "a\n", "a\x0bb", "a\x0cb", "a\x85b", "a\u2028b", "a\u2029b", "a\x1cb", "a\0b", "\0",
    "é", "e\u0301", "日本", "😀", "👩\u200d👩\u200d👧", "\U0010ffff", "\ufffe", "\u202ea", " a ", "\u00a0a",
    "<|endoftext", "endoftext|>",
    "x" * 200_000, '"' * 999, "a,\n" * 999,
]
# fmt: on
letters = st.characters(blacklist_categories=["Cs"]) | st.sampled_from("\"',\t\\\n\r\0\ufeff\u2028\x85\x0b;|{}[]")
stories = st.lists(st.sampled_from(LOOKS_LIKE) | st.text(letters, min_size=1, max_size=30), min_size=1, max_size=12)
Writer = Callable[[list[str]], bytes]


KINDS = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(), pa.binary_view()]
WRITERS: dict[str, Writer] = {
    "a.jsonl": jsonl,
    "a.ndjson": jsonl,
    "bom.jsonl": lambda texts: b"\xef\xbb\xbf" + jsonl(texts),
    "unescaped.jsonl": lambda texts: jsonl(texts, ensure_ascii=False),
    "crlf.jsonl": lambda texts: jsonl(texts).replace(b"\n", b"\r\n"),
    "array.json": lambda texts: json.dumps([{"text": text} for text in texts], indent=1).encode(),
    "cr.jsonl": lambda texts: jsonl(texts).replace(b"\n", b"\r"),
    "minimal.csv": table,
    "all.csv": lambda texts: b"\xef\xbb\xbf" + table(texts, quoting=csv.QUOTE_ALL, lineterminator="\n"),
    "a.tsv": lambda texts: table(texts, delimiter="\t"),
    **{f"{kind}.parquet": lambda texts, kind=kind: parquet(texts, kind) for kind in KINDS},
}
ROWS = [name for name in WRITERS if not name.endswith("parquet")]


def taken(name: str, content: bytes) -> list[str]:
    """The stories that the stage takes from a file, which is its training split."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / f"train-{name}").write_bytes(content)
        (path / f"validation-{name}").write_bytes(content)
        source = open_source(folder, None)
        return [text for rows in SplitReader(source, "train", None) for text in rows["text"].to_pylist()]


def not_blank(texts: list[str]) -> list[str]:
    """Stories of white space are none; which characters that is, Arrow's Unicode tables say as Python's do except for these."""
    return [text for text in texts if text.strip().strip("\x1c\x1d\x1e\x1f\x85")]


def same(took: list[str], gave: list[str]) -> bool:
    return [text for text in took if text in set(not_blank(gave))] == not_blank(gave) and set(took) <= set(gave)


@pytest.mark.parametrize("name", WRITERS)
def test_a_story_arrives_as_it_was_written(name: str) -> None:
    """Whatever a story holds, it arrives as the plain writer was given it."""

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(stories)
    def check(texts: list[str]) -> None:
        assert same(taken(name, WRITERS[name](texts)), texts)

    check()


@pytest.mark.parametrize("compressed", PACK)
@pytest.mark.parametrize("name", ROWS)
def test_a_compressed_file_gives_the_same_stories(name: str, compressed: str) -> None:
    """Each compression, of each format that is read row by row."""
    assert same(taken(name + compressed, PACK[compressed](WRITERS[name](LOOKS_LIKE))), LOOKS_LIKE)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_what_python_calls_lines(bom: bytes, end: str) -> None:
    """A .txt file's stories are what Python's universal newlines call lines: U+2028, U+0085, \\v and \\f end none."""

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(stories)
    def check(texts: list[str]) -> None:
        content = bom + end.join(text.replace("\ufeff", "") for text in texts).encode()
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read().split("\n")
        assert same(taken("a.txt", content + b"."), [*lines[:-1], lines[-1] + "."])

    check()


NOT_TEXT = [42, True, False, ["a"], {"a": 1}]


@pytest.mark.parametrize("value", NOT_TEXT, ids=json.dumps)
@pytest.mark.parametrize("row", [1, 2048, 2049])  # within, at the end of and behind a table
def test_a_value_that_is_no_text_names_its_row(value: object, row: int) -> None:
    """One such value changes no other story: the file is refused with its row and what it holds, array or lines."""
    values: list[object] = ['story "Hi"\n' + "x" * 200] * (row + 5)
    values[row - 1] = value
    rows = [json.dumps({"text": value}) for value in values]
    for name, content, where in (
        ("a.jsonl", "\n".join(rows), "line"),
        ("a.json", "[" + ",\n".join(rows) + "]", "row"),
        ("a.jsonl.gz", "\n".join(rows), "line"),
    ):
        packed = gzip.compress(content.encode(), 1) if name.endswith("gz") else content.encode()
        with pytest.raises(UserError, match=re.escape(f"{where} {row:,} holds {json.dumps(value)} in `text`, not text")):
            taken(name, packed)


def test_null_is_a_blank_story_and_other_columns_may_hold_anything() -> None:
    """Only `text` must be text; null, or no key where others have one, is a blank story, as some writers leave null out."""
    others = [1, "a", None, True, [1], {"text": 5}, {"text": {"text": []}}]
    lines = [json.dumps({"x": value, "text": f"t{i}"}) for i, value in enumerate(others)]
    lines += ['{"x": NaN, "text": "nan"}', '{"text": null}', '{"x": 1}']
    assert taken("a.jsonl", "\n".join(lines).encode()) == [*(f"t{i}" for i in range(7)), "nan"]


MANY = b'{"text": "a"}\n' * 200_000
REFUSED: dict[str, tuple[str, bytes, str]] = {  # what the file is -> name, content, the message
    "unquoted comma": ("a.csv", b"text\n" + b"Once, a dog.\n" * 30, "row in line 2 has 2 fields, the header 1"),
    "unquoted comma, later": ("a.csv", b"text\n" + b"A dog.\n" * 5000 + b"A dog, a cat.\n", "row in line 5,002 has 2 fields"),
    "unquoted comma, two columns": ("a.csv", b"title,text\nx,Once, a dog.\n", "row in line 2 has 3 fields, the header 2"),
    "too few fields": ("a.csv", b"title,text\nx,y\nz\n", "row in line 3 has 1 field, the header 2"),
    "trailing comma": ("a.csv", b"text\nA dog.,\n", "line 2 has 2 fields"),
    "trailing tab": ("a.tsv", b"text\nA dog.\t\n", "line 2 has 2 fields"),
    "unquoted tab": ("a.tsv", b"title\ttext\nx\ta\tb\n", "line 2 has 3 fields"),
    "backslash quotes": ("a.csv", b'id,text\n1,"He said \\"run\\" fast."\n', "row that begins in line 2 is not CSV"),
    "backslash quotes, one column": ("a.csv", b'text\n"A \\"fast\\" dog."\n', "row that begins in line 2 is not CSV"),
    "backslash quotes, alone": ("a.csv", b'text\n"A dog. \\"Hi\\""\n"b"\n', "row that begins in line 2 is not CSV"),
    "open quote": ("a.csv", b'text\na\n"never closed\n' + b"b\n" * 30, "row that begins in line 3 is not CSV"),
    "quote behind a multi-line row": ("a.csv", b'text\n"a\nb"\n"c\nd" e\n', "row that begins in line 4 is not CSV"),
    "fields after a multi-line row": ("a.csv", b'text\n"a\nb"\nc,d\n', "line 4 has 2 fields"),
    "a bare carriage return": ("a.csv", b"text\na\nb\rc\nd\n", "row that begins in line 3 is not CSV"),
    "a carriage return, two columns": ("a.csv", b"id,text\n1,a\rb\n", "row that begins in line 2 is not CSV"),
    "carriage returns only": ("a.csv", b"text\ra\rb\r", "row that begins in line 1 is not CSV"),
    "header twice": ("a.csv", b"text,text\na,b\n", "2 columns `text`"),
    "semicolons": ("a.csv", b"title;text\na;b\n", "no column `text`; it has title;text"),
    "comma behind each object": ("a.jsonl", b'{"text": "a"},\n{"text": "b"},\n', "line 1 is not JSON"),
    "half a character": ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "line 2 holds half a character"),
    "half a character, reversed": ("a.json", b'[{"text": "\\ude00\\ud83d"}]', "row 1 holds half a character"),
    "bare tab": ("a.jsonl", b'{"text": "a\tb"}\n', "line 1 is not JSON"),
    "broken, far down": ("a.jsonl", MANY + b'{"text": "a}\n{"text": "b"}\n', "line 200,001 is not JSON"),
    "not UTF-8, far down": ("a.jsonl", MANY + b'{"text": "\xe9"}\n', "line 200,001 holds the byte 0xe9"),
    "not UTF-8, csv": ("a.csv", b"text\n" + b"a\n" * 2_000_000 + b"\xff\n", "line 2,000,002 holds the byte 0xff"),
    "not packed": ("a.jsonl.gz", jsonl(["a"]), "cannot be read.*incorrect header"),
    "a key twice": ("a.jsonl", b'{"text": "a", "text": "b"}\n' * 9, "line 1: an object gives `text` twice"),
    "a list in a line": ("a.jsonl", b'{"text": "a"}\n\n["b"]\n', "line 3 is .*, not an object"),
    "an object over several lines": ("a.jsonl", b'{\n"text": "a"\n}\n', "line 2 is not JSON"),
    "too deep": ("a.jsonl", b'{"text": ' * 100_000, "line 1: maximum recursion depth"),
    "an open list": ("a.json", b'[{"text": "a"}', "line 1 is not JSON"),
    "a comma at the end": ("a.json", b'[{"text": "a"},]', "line 1 is not JSON"),
    "more behind the list": ("a.json", b'[{"text": "a"}]\n{"text": "b"}', "line 2 is not JSON"),
    "no object": ("a.json", b'[{"text": "a"}, "b"]', 'row 2 is "b", not an object'),
    "a column twice": ("a.parquet", parquet(["a"], columns=2), "2 columns `text`"),
    "not UTF-8, parquet": ("a.parquet", parquet(["a", "caf\udce9"]), "row 2 of `text` is not UTF-8"),
    "UTF-8 cut off": ("a.txt", "é".encode()[:1], "line 1 holds the byte 0xc3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(case: str) -> None:
    """A file whose rows cannot be told for certain is refused with the row or line and what to do."""
    name, content, message = REFUSED[case]
    with pytest.raises(UserError, match=rf"(?s)dataset: .*{message}.*\. [A-Z]") as error:
        taken(name, content)
    assert "\n" not in str(error.value)
