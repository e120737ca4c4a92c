"""Token files: what is written is read, and nothing half-written is taken for whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common import files
from stages.corpus import tokens
from stages.corpus.tokens import TokenFile

END = 60_000
stories_of_ids = st.lists(st.lists(st.integers(0, END - 1), max_size=5), min_size=1, max_size=12)


def write(folder: Path, stories: list[list[int]], batch: int = 3, split: str = "train") -> None:
    """Write stories `batch` at a time, and the meta.json that belongs to them."""
    with tokens.writing(folder, split, END) as writer:
        for start in range(0, len(stories), batch):
            some = stories[start : start + batch]
            ids = np.array([token for story in some for token in story], dtype=np.uint32)
            writer.add(ids, np.array([len(story) for story in some], dtype=np.int64))
    counts = {"stories": len(stories), "tokens": sum(len(story) + 1 for story in stories)}
    files.write_json(folder / "meta.json", {"end_of_text": END, "splits": {split: counts}})


def contents(file: TokenFile) -> list[list[int]]:
    ends = zip(file.offsets[:-1], file.offsets[1:], strict=True)
    return [file.stream[start:end].tolist() for start, end in ends]


@settings(max_examples=60, deadline=None)
@given(stories_of_ids, st.integers(1, 5))
def test_stories_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, stories: list[list[int]], batch: int
) -> None:
    """A story's targets are its tokens and its closing end-of-text; one end-of-text stands before the first story."""
    folder = tmp_path_factory.mktemp("tokens")
    write(folder, stories, batch)
    file = TokenFile.open(folder, "train")
    assert contents(file) == [[*story, END] for story in stories]
    assert file.stories == len(stories)
    assert len(file) == len(file.stream) - 1 == sum(len(story) + 1 for story in stories)
    assert (file.stream[0], file.offsets[0], file.offsets[-1]) == (END, 1, len(file.stream))


def test_each_id_is_replaced_by_its_new_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """renumber maps every id of the stream, over the edges of its chunks, and later stories close with the new end-of-text."""
    monkeypatch.setattr(tokens, "CHUNK", 4)
    table = np.arange(END + 1, dtype=np.uint16)[::-1].copy()  # id -> END - id
    with tokens.writing(tmp_path, "train", END) as writer:
        writer.add(np.arange(9), np.array([2, 0, 7]))
        writer.renumber(table, int(table[END]))
    stream = np.load(tmp_path / "train.npy")
    assert stream.tolist() == [END - token for token in [END, 0, 1, END, END, 2, 3, 4, 5, 6, 7, 8, END]]
    assert np.load(tmp_path / "train.offsets.npy").tolist() == [1, 4, 5, 13]
