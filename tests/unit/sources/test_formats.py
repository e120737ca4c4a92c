"""Formats: where a story ends, and what is none of its concern. (Each format, to the letter: tests/reliability.)"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from story_files import PACK, TEXTS, jsonl, put, stories_in, table

from stages.common.errors import UserError
from stages.sources.open_source import open_source

pytestmark = pytest.mark.kind("local files and folders")


@pytest.mark.parametrize("separator", ["<|endoftext|>", " <|endoftext|> "])
def test_a_story_ends_with_its_file(tmp_path: Path, separator: str) -> None:
    """Several .txt files need no separator at their ends, and one with a single line needs none at all."""
    put(tmp_path, train_1_txt=b"alone in its file", train_2_txt=f"a\nb\n{separator}\nc\n{separator}".encode())
    put(tmp_path, validation_txt=b"\nv\n")
    assert stories_in(tmp_path) == ["alone in its file", "a\nb", "c"]
    assert stories_in(tmp_path, "validation") == ["v"]


SEPARATED = {"first": b"a\nb\n<|endoftext|>\nc", "last": b"a\nb\nc\n<|endoftext|>", "one line": b"a<|endoftext|>b"}


@pytest.mark.parametrize("layout", SEPARATED)
@pytest.mark.parametrize("names", [("lines.txt", "sep.txt"), ("train.txt.gz", "validation.txt.gz")])
def test_separated_stories_beside_lines_are_refused(tmp_path: Path, names: tuple[str, str], layout: str) -> None:
    """Whether a line is a story or a part of one is in doubt: no file decides for another."""
    for name, content in zip(names, (b"one\ntwo\n" * 50, SEPARATED[layout]), strict=True):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match=rf"{names[1]} has <.*{names[0]} has not.*Write <\|endoftext\|> after each story"):
        stories_in(tmp_path)


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
    write = {"csv": table, "jsonl": jsonl}[ending]
    put(tmp_path, **{f"train_2_{ending}": write(TEXTS), f"validation_{ending}": write(["v"])})
    assert stories_in(tmp_path) == texts + TEXTS
    assert stories_in(tmp_path, "validation") == ["v"]


FIRST = "".join(f"{text}\n" for text in TEXTS).encode()
SECOND = "".join(f"more {text}\n" for text in TEXTS).encode()
BEHIND: dict[str, Callable[[bytes], bytes]] = {  # what stands behind the first stream: the second one, damaged; or leftovers
    "damaged middle": lambda stream: stream[: len(stream) // 2] + bytes(20) + stream[len(stream) // 2 + 20 :],
    "cut": lambda stream: stream[:-5],
    "text": lambda stream: b"and more",
}


@pytest.mark.parametrize("ending", PACK)
def test_all_streams_of_a_packed_file_are_read(ending: str, tmp_path: Path) -> None:
    """Programs that pack on several cores write several streams, and files are put together with cat."""
    pack = PACK[ending]
    (tmp_path / f"a.txt{ending}").write_bytes(pack(FIRST) + pack(SECOND))
    found = stories_in(tmp_path / f"a.txt{ending}") + stories_in(tmp_path / f"a.txt{ending}", "validation")
    assert sorted(found) == sorted((FIRST + SECOND).decode().splitlines())


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("behind", BEHIND)
def test_what_is_wrong_behind_the_first_stream_is_an_error(ending: str, behind: str, tmp_path: Path) -> None:
    """Damage and leftovers anywhere in a packed file are reported, also behind the last story that would be taken."""
    pack, name = PACK[ending], f"a.txt{ending}"
    second = BEHIND[behind](pack(SECOND))
    (tmp_path / name).write_bytes(pack(FIRST) + second)
    with pytest.raises(UserError, match=rf"{name} cannot be read: .*The file may be truncated"):
        open_source(str(tmp_path / name), None)


LAYOUTS = {
    "behind each story": b"one. <|endoftext|>\ntwo.\nmore<|endoftext|>\nthree.",
    "on lines of their own": b"one.\n<|endoftext|>\ntwo.\nmore\n <|endoftext|> \n\nthree.\n<|endoftext|>\n",
    "before each story": b"<|endoftext|>one.\n<|endoftext|>two.\nmore\n<|endoftext|>three.\n",
    "all in one line": b"one.<|endoftext|>two.\rmore<|endoftext|>three.",
    "mixed, CRLF": b"one.\r\n<|endoftext|>\r\ntwo.\r\nmore <|endoftext|> three.\r\n",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_separators_in_any_layout(tmp_path: Path, layout: str) -> None:
    """Wherever in a line the separators are, in a .txt file as TinyStories' own, the stories are what is between them."""
    put(tmp_path, train_txt=LAYOUTS[layout], validation_txt=b"v")
    assert [text for text in stories_in(tmp_path) if text] == ["one.", "two.\nmore", "three."]


def test_a_separator_far_down_decides_for_the_whole_file(tmp_path: Path) -> None:
    """The whole file is looked through before its lines are taken for stories."""
    put(tmp_path, train_txt=b"a line of a story\n" * 2_000_000 + b"<|endoftext|>\nlast", validation_txt=b"v")
    first, last = stories_in(tmp_path)
    assert (first.count("\n"), last) == (1_999_999, "last")
