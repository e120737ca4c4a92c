"""Local data set: stories from a file or a folder of files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from stages.common import addresses, files
from stages.common.errors import UserError
from stages.sources import folder, formats, packed
from stages.sources.data_file import DataFile, printable_path
from stages.sources.source import TEXT, Source, splits_of


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
    given = addresses.shown(dataset) or "an address" if "://" in dataset else dataset
    raise UserError(
        f"dataset: {given}: no such file or folder here. Give the path of one, or `storybook`, or a Hub id as in "
        "roneneldan/TinyStories"
    )


def open_source(dataset: str, path: Path) -> Source:
    """The stories in one file, or in a folder's files.

    Raises:
        UserError: there is nothing to read, no way to read it, or two ways to understand it.
    """
    by_split, left = folder.choose(dataset, path) if path.is_dir() else ({"train": [_only_file(dataset, path)]}, "")
    if left:
        print(f"note: {dataset}: not read: {left}", file=sys.stderr)
    paths = sorted(chain.from_iterable(by_split.values()))
    names = {one: dataset if one == path else f"{dataset}: {printable_path(one.relative_to(path))}" for one in paths}
    every = {one: DataFile(names[one], one) for one in paths}
    for file in every.values():
        _check(file)
    for file in every.values():
        file.check_packed()
    readers = dict(zip(every, formats.readers_of(list(every.values())), strict=True))
    base = path if path.is_dir() else path.parent
    digests = {}
    for one, file in every.items():
        with file.explained():
            digests[one.relative_to(base).as_posix()] = files.digest(one)

    def tables(split: str, limit: int | None) -> Iterator[pa.Table]:
        for one in by_split[split]:
            yield from formats.tables(every[one], readers[one])

    name = dataset if not Path(dataset).expanduser().is_absolute() else path.resolve().name
    return Source(name, None, None, TEXT, splits_of(by_split), tables, digests)


def _only_file(dataset: str, path: Path) -> Path:
    """The path of the one file that `dataset` names, which must be of a kind that can be read."""
    if not path.exists():
        raise UserError(f"dataset: {dataset} is a symbolic link that leads nowhere or in a circle. Give the real path")
    if not path.is_file() or formats.ending(path) is None:
        kinds = ", ".join(formats.READERS)
        raise UserError(
            f"dataset: {dataset} is not a kind of file that can be read: {kinds}, also compressed ({', '.join(packed.ENDINGS)})"
        )
    return path


def _check(file: DataFile) -> None:
    """Find within milliseconds what would be found late or said badly."""
    if not file.path.is_file():
        raise UserError(f"dataset: {file.name} leads nowhere or in a circle, or is not a file. Remove it")
    if printable_path(file.path) != str(file.path):
        raise UserError(f"dataset: {file.name}: its name is not UTF-8. Rename it")
    if not file.path.stat().st_size:
        raise UserError(f"dataset: {file.name} is empty. Fill it or remove it")
    if file.is_lfs_pointer():
        raise UserError(f"dataset: {file.name} is a Git LFS pointer, not the file itself. Run git lfs pull where it came from")
