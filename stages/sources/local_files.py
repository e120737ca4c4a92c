"""Local data set: stories from a file or a folder of files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from stages.common import files
from stages.common.errors import UserError
from stages.sources import formats
from stages.sources.data_file import COMPRESSED, DataFile, printable_path
from stages.sources.source import TEXT, Source, splits_of

SPLIT_NAMES = {"train": "train|training", "validation": "validation|valid|val|dev", "test": "test|testing|eval"}


def find(dataset: str) -> Path | None:
    """The file or folder that `dataset` names, seen from here or from the main checkout; None = a Hub data set's name.

    Raises:
        UserError: it can only be a path, and nothing is there.
    """
    path = Path(dataset).expanduser()
    for root in (Path(), Path(os.environ.get("DVC_ROOT", ""))):  # `dvc exp run --temp` works in a folder of its own
        if os.path.lexists(root / path):
            return root / path
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset, re.ASCII) and formats.ending(path) is None:
        return None
    raise UserError(
        f"dataset: {dataset}: no such file or folder here. Give the path of one, or `storybook`, or a Hub id as in "
        "roneneldan/TinyStories"
    )


def open_source(dataset: str, path: Path) -> Source:
    """The stories in one file, or in a folder's files.

    A file belongs to the split that its name says, or else its folder's: train, validation (valid, val, dev) or test. If no
    name says one, all are for training.

    Raises:
        UserError: there is nothing to read, or no way to read it.
    """
    by_split = _of_folder(dataset, path) if path.is_dir() else {"train": [_only_file(dataset, path)]}
    paths = sorted(chain.from_iterable(by_split.values()))
    names = {one: dataset if one == path else f"{dataset}: {printable_path(one.relative_to(path))}" for one in paths}
    every = {one: DataFile(names[one], one) for one in paths}
    for file in every.values():
        _check(file)
    reader = formats.reader_of(list(every.values()))
    base = path if path.is_dir() else path.parent
    digests = {}
    for one, file in every.items():
        with file.explained():
            digests[one.relative_to(base).as_posix()] = files.digest(one)

    def tables(split: str, limit: int | None) -> Iterator[pa.Table]:
        for one in by_split[split]:
            yield from formats.tables(every[one], reader)

    name = dataset if not Path(dataset).expanduser().is_absolute() else path.resolve().name
    return Source(name, None, None, TEXT, splits_of(by_split), tables, digests)


def _only_file(dataset: str, path: Path) -> Path:
    """The path of the one file that `dataset` names, which must be of a kind that can be read."""
    if not path.exists():
        raise UserError(f"dataset: {dataset} is a symbolic link that leads nowhere or in a circle. Give the real path")
    if not path.is_file() or formats.ending(path) is None:
        kinds = ", ".join(formats.READERS)
        raise UserError(
            f"dataset: {dataset} is not a kind of file that can be read: {kinds}, also compressed ({', '.join(COMPRESSED)})"
        )
    return path


def _of_folder(dataset: str, folder: Path) -> dict[str, list[Path]]:
    """Which of the folder's files give which split, in the order of their names."""
    read, ignored = _classify(folder)
    if twice := [path for path, splits in read.items() if len(splits) > 1]:
        name = printable_path(twice[0].relative_to(folder))
        raise UserError(f"dataset: {dataset}: {name} is named for more than one split. Rename it")
    by_split = {split: [path for path in read if read[path] == [split]] for split in SPLIT_NAMES}
    if not by_split["train"]:
        raise UserError(
            f"dataset: {dataset} has no files to train on: none is named train* and ends in {', '.join(formats.READERS)}. "
            "Name them train* and validation*"
        )
    endings = sorted({str(formats.ending(path)) for path in read})
    if len({formats.READERS[ending] for ending in endings}) > 1:
        raise UserError(f"dataset: {dataset} mixes {', '.join(endings)} files. Keep one kind in the folder")
    left = [f"{printable_path(path.relative_to(folder))} ({why})" for path, why in ignored.items() if formats.ending(path)]
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        print(f"note: {dataset}: not read: {', '.join(left[:3])}{more}", file=sys.stderr)
    return {split: paths for split, paths in by_split.items() if paths}


def _classify(folder: Path) -> tuple[dict[Path, list[str]], dict[Path, str]]:
    """The files below a folder in order: those to read, with the splits that their names say, and why others are ignored."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir() and not _is_hidden(path.relative_to(folder)))
    ignored = {path: "not a kind of file that can be read" for path in paths if formats.ending(path) is None}
    named: dict[Path, list[str]] = {}
    for path in paths:
        splits = _splits_in(path.name) or _splits_in(printable_path(path.relative_to(folder).parent))
        if splits and path not in ignored:
            named[path] = splits
    read = named or {path: ["train"] for path in paths if path not in ignored}
    ignored |= {path: "its name says no split" for path in paths if path not in read and path not in ignored}
    parquet = {path: splits for path, splits in read.items() if formats.ending(path) == ".parquet"}
    if parquet:  # beside them, many repositories of the Hub have the same stories again as text
        ignored |= {path: "there are parquet files" for path in read if path not in parquet}
    return parquet or read, ignored


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _splits_in(name: str) -> list[str]:
    """The splits that a file's or folder's name says, as train.jsonl, my-train-01.csv or TinyStories_valid.txt do."""
    return [split for split, words in SPLIT_NAMES.items() if re.search(rf"(?<![a-z])({words})(?![a-z])", name.lower())]


def _check(file: DataFile) -> None:
    """Find within milliseconds what would be found late or said badly."""
    if not file.path.is_file():
        raise UserError(f"dataset: {file.name} leads nowhere or in a circle, or is not a file. Remove it")
    if printable_path(file.path) != str(file.path):
        raise UserError(f"dataset: {file.name}: its name is not UTF-8. Rename it")
    if not file.path.stat().st_size:
        raise UserError(f"dataset: {file.name} is empty. Fill it or remove it")
