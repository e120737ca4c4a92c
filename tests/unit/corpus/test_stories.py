"""Story files: bounded row groups, the same bytes for the same stories, damage reported."""

from __future__ import annotations

import gc
import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.corpus import stories
from stages.sources.source import TEXT

WIDE = pa.schema([pa.field(f"column {i}", pa.string()) for i in range(100)])  # its footer has more than 1,000 bytes
TEXTS = [f"story {i} " + "é" * (i % 50) for i in range(1000)]


def write(path: Path, texts: list[str], at_a_time: int = 100) -> None:
    with stories.writing(path, TEXT) as writer:
        for start in range(0, len(texts), at_a_time):
            writer.add(pa.table({"text": texts[start : start + at_a_time]}, schema=TEXT))


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of 64 stories or 2,000 bytes."""
    monkeypatch.setattr(stories, "GROUP_STORIES", 64)
    monkeypatch.setattr(stories, "GROUP_BYTES", 2000)


@pytest.mark.usefixtures("small_groups")
def test_stories_come_back_in_order(tmp_path: Path) -> None:
    """All texts are read in order, a batch at a time, and counted."""
    write(tmp_path / "train.parquet", TEXTS)
    batches = list(stories.read(tmp_path / "train.parquet", batch=30))
    assert list(itertools.chain(*batches)) == TEXTS
    assert max(map(len, batches)) <= 30
    assert stories.count(tmp_path / "train.parquet") == len(TEXTS)


@pytest.mark.usefixtures("small_groups")
def test_bytes_do_not_depend_on_the_tables(tmp_path: Path) -> None:
    """The same stories give the same file, whatever came at a time."""
    for at_a_time in (1, 33, 1000):
        write(tmp_path / f"{at_a_time}.parquet", TEXTS, at_a_time)
        assert (tmp_path / f"{at_a_time}.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()


@pytest.mark.usefixtures("small_groups")
def test_row_groups_are_bounded(tmp_path: Path) -> None:
    """No row group passes the number of stories, nor the bytes by more than its last story."""
    write(tmp_path / "train.parquet", TEXTS)
    with pq.ParquetFile(tmp_path / "train.parquet") as file:
        groups = [file.read_row_group(group)["text"].to_pylist() for group in range(file.num_row_groups)]
    assert len(groups) > len(TEXTS) / 64
    assert all(len(group) <= 64 and sum(len(text.encode()) for text in group[:-1]) < 2000 for group in groups)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file can be longer than 1,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other split's file could not be written, a file is left unfinished: it is not closed, which would fail too."""
    seen: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    writer = stories.StoryWriter(tmp_path / "train.parquet", WIDE)
    del writer
    gc.collect()
    assert not seen
