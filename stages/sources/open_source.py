"""Open the source that `dataset` in params.yaml names: the storybook, a local file or folder, or a Hub data set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from stages.sources import local_files
from stages.sources.source import TEXT, Source
from stages.storybook import story as storybook

BATCH = 2048  # stories of the storybook made at a time
TEXT_AND_LOGPROB = TEXT.append(pa.field("logprob", pa.float64()))  # nats


def open_source(dataset: str, revision: str | None) -> Source:
    """The source that `dataset` in params.yaml names; a path that exists goes before a Hub id of the same spelling.

    Raises:
        UserError: there is no such file or data set, or it has no stories to train on.
    """
    if dataset == "storybook":
        return Source(dataset, None, "MIT", TEXT_AND_LOGPROB, {"train": "train", "validation": "validation"}, _storybook)
    path = local_files.find(dataset)
    if path:
        return local_files.open_source(dataset, path)
    from stages.sources import hub  # needs the package datasets, which takes 0.6 s to import

    return hub.open_source(dataset, revision)


def identify(dataset: str, revision: str | None) -> dict[str, Any]:
    """Which data these are: a local data set's files with their checksums, or a commit of the Hub. The storybook is its code.

    Raises:
        UserError: there is no such file or data set.
    """
    if dataset == "storybook":
        return {"dataset": dataset}
    if path := local_files.find(dataset):
        return {"dataset": local_files.name_of(dataset), "files": local_files.sha256(dataset, path)}
    from stages.sources import hub

    return {"dataset": dataset, "revision": hub.commit(dataset, revision)}


def _storybook(split: str, limit: int | None) -> Iterator[pa.Table]:
    """The storybook has no end: whoever reads it stops at a limit."""
    seed = storybook.TRAIN_SEED if split == "train" else storybook.VALIDATION_SEED
    stories = storybook.stories(2**62, seed)
    while True:
        batch = list(islice(stories, BATCH))
        columns = {"text": [one.text for one in batch], "logprob": [one.logprob for one in batch]}
        yield pa.table(columns, schema=TEXT_AND_LOGPROB)
