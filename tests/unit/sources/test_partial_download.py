"""Parts: what an unfinished download keeps comes back in order, as far as it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from stages.sources import partial_download
from stages.sources.partial_download import Parts

ADDRESS = "hf://datasets/me/mine@0123/train.parquet"


def tables(first: int, last: int, size: int = 7) -> list[pa.Table]:
    return [
        pa.table({"text": [f"story {i}" for i in range(start, min(start + size, last))]}) for start in range(first, last, size)
    ]


def texts(texts_read: list[pa.Table]) -> list[str]:
    return [text for table in texts_read for text in table["text"].to_pylist()]


def kept(folder: Path, address: str = ADDRESS) -> int:
    """How many rows come back; they must be the first ones, in order."""
    texts_read = texts(list(Parts(folder, address).kept()))
    assert texts_read == [f"story {i}" for i in range(len(texts_read))]
    return len(texts_read)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parts of 14 rows (two tables), from a download of 45 rows: three parts, and three rows that were not kept yet."""
    monkeypatch.setattr(partial_download, "ROWS", 14)
    one = Parts(tmp_path, ADDRESS)
    for table in tables(0, 45):
        one.keep(table)
    return tmp_path


def test_full_parts_come_back(folder: Path) -> None:
    """What was kept comes back in order; another file, or another commit of it, has nothing."""
    assert kept(folder) == 42
    assert kept(folder, ADDRESS.replace("0123", "4567")) == 0


def test_each_attempt_goes_further(folder: Path) -> None:
    """A second attempt reads what is kept and keeps what follows; rows cut into other tables make no difference."""
    again = Parts(folder, ADDRESS)
    assert len(texts(list(again.kept()))) == 42
    for table in tables(42, 80, size=5):
        again.keep(table)
    assert kept(folder) == 72
    partial_download.forget(folder)
    assert not folder.exists()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PAR1") + 40] ^= 1  # in the first page
    path.write_bytes(content)


@pytest.mark.parametrize("hurt", [flip, Path.unlink, lambda path: os.truncate(path, 100), lambda path: path.write_bytes(b"")])
def test_a_damaged_part_ends_what_comes_back(folder: Path, hurt: Callable[[Path], object]) -> None:
    """From the first part that is missing or damaged on, all is read again, and kept again."""
    (second,) = folder.glob("*/000000000014.parquet")
    hurt(second)
    assert kept(folder) == 14
    again = Parts(folder, ADDRESS)
    list(again.kept())
    for table in tables(14, 28):
        again.keep(table)
    assert kept(folder) == 42


def test_long_texts_make_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is written at a number of bytes too: books do not pile up in memory."""
    monkeypatch.setattr(partial_download, "BYTES", 1000)
    one = Parts(tmp_path, ADDRESS)
    one.keep(pa.table({"text": ["x" * 600]}))
    assert not list(tmp_path.rglob("*.parquet"))
    one.keep(pa.table({"text": ["x" * 600]}))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_full_disk_does_not_stop_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot be written is left out without an error."""
    monkeypatch.setattr(partial_download, "ROWS", 7)
    (tmp_path / "file").write_text("")
    Parts(tmp_path / "file", ADDRESS).keep(tables(0, 7)[0])
