"""Hub data set: stories from the Hugging Face Hub. A few are read out of a parquet file there; for more, files are fetched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.common.errors import UserError
from stages.sources import formats
from stages.sources.data_file import DataFile
from stages.sources.hub_errors import Wanted, explained
from stages.sources.source import TEXT, Source, splits_of

TIMEOUT = 20  # seconds for the Hub's first answer
FEW = 100_000  # stories; up to here only their parts of a parquet file are read: seconds instead of gigabytes
NOT_OPTIONS = {"name", "version", "data_dir", "data_files", "description", "features", "sep", "delimiter"}  # of a reader


def open_source(dataset: str, revision: str | None) -> Source:
    """Ask the Hub for the data set at `revision` (None = its newest commit).

    Raises:
        UserError: no network, no such data set or revision, no access, no training split, or files that cannot be read.
    """
    with _explained(dataset, revision):
        library = _datasets()
        from huggingface_hub import HfFileSystem, hf_hub_download

        info = _info(dataset, revision)
        config = library.load_dataset_builder(dataset, revision=info.sha).config
    commit, names = str(info.sha), [str(name) for name in config.data_files or {}]
    if "train" not in names:
        raise UserError(f"dataset: {dataset} has no split `train`, only {', '.join(names)}. Give another data set")
    splits = splits_of(names)
    reader = _reader(dataset, config, list(splits.values()))
    license = info.card_data.get("license") if info.card_data else None

    def tables(split: str, limit: int | None) -> Iterator[pa.Table]:
        with _explained(dataset, revision):
            for address in config.data_files[split]:
                inside = address.partition(f"@{commit}/")[2]
                name = f"{dataset}/{inside}"
                if reader is formats.parquet and limit is not None and limit <= FEW:
                    with HfFileSystem().open(address, "rb") as opened:
                        yield from formats.parquet_tables(DataFile(name, Path(inside)), opened)
                else:  # into the Hub's cache, where a file that was fetched by an earlier attempt is found again
                    path = hf_hub_download(dataset, inside, repo_type="dataset", revision=commit)
                    yield from formats.tables(DataFile(name, Path(path)), reader)

    return Source(dataset, commit, license, TEXT, splits, tables)


def commit(dataset: str, revision: str | None) -> str:
    """The commit that `revision` names (None = the newest). One that is a whole commit already is not asked for.

    Raises:
        UserError: no network, no such data set or revision, or no access.
    """
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    with _explained(dataset, revision):
        return str(_info(dataset, revision).sha)


def _info(dataset: str, revision: str | None) -> Any:
    """What the Hub says of the data set, with its commit."""
    from huggingface_hub import HfApi

    info = HfApi().dataset_info(dataset, revision=revision, timeout=TIMEOUT)
    if info.sha is None:
        raise UserError(f"dataset: the Hub returned no commit for {dataset}. Give dataset_revision as a commit")
    return info


def _datasets() -> Any:
    """The package `datasets`: 0.6 s to import, 2 s more if it may look for torch. Its logging and progress bars are off."""
    os.environ.setdefault("USE_TORCH", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # our own messages say what is wrong
    datasets.disable_progress_bars()
    return datasets


def _reader(dataset: str, config: Any, splits: list[str]) -> formats.Reader:
    """Which of our readers the data set's files need."""
    endings = {formats.ending(Path(address)) for split in splits for address in config.data_files[split]}
    readers = {formats.READERS[ending] for ending in endings if ending}
    plain = type(config)(name=config.name)
    options = [
        f.name for f in fields(config) if f.name not in NOT_OPTIONS and getattr(config, f.name) != getattr(plain, f.name)
    ]
    separator = getattr(config, "delimiter", None) or getattr(config, "sep", None)
    if separator and separator != ("\t" if ".tsv" in endings else ","):
        options.append("sep")
    if options or None in endings or len(readers) != 1:
        why = f"need the options {', '.join(options)}" if options else "are not of one kind that can be read"
        raise UserError(f"dataset: {dataset}: its files {why}. Give a data set of {', '.join(formats.READERS)}")
    return readers.pop()


@contextmanager
def _explained(dataset: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's libraries raise into one sentence that says what to do."""
    from datasets.exceptions import DatasetsError

    without = (
        "To do without the Hub: dataset: storybook (built in), or fetch the data set where there is a network "
        f"(hf download {dataset} --repo-type dataset --local-dir FOLDER) and give that folder as dataset"
    )
    wanted = Wanted("dataset", "dataset_revision", "data set", dataset, revision, without)
    with explained(wanted, DatasetsError, pa.ArrowException):
        yield
