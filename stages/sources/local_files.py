"""Local data set: stories from a file or a folder of files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from pathlib import Path

import pyarrow as pa

from stages.common import addresses, session
from stages.common.errors import UserError
from stages.sources import checksums, folder, formats
from stages.sources.data_file import PACKED, DataFile, printable_path
from stages.sources.source import TEXT, Source, splits_of

HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)  # of a data set or network


def find(dataset: str) -> Path | None:
    """The file or folder that `dataset` names, seen from here or from the main checkout; None = a Hub data set's name.

    Raises:
        UserError: it can only be a path, and nothing is there.
    """
    if path := existing(dataset):
        return path
    if HUB_ID.fullmatch(dataset) and formats.ending(Path(dataset)) is None:
        return None
    given = addresses.shown(dataset) or "an address" if "://" in dataset else dataset
    raise UserError(
        f"dataset: {given}: no such file or folder here. Give the path of one, or `storybook`, or a Hub id as in "
        "roneneldan/TinyStories"
    )


def places(dataset: str) -> list[Path]:
    """Where the file or folder may be: here, or in the main checkout: `dvc exp run --temp` works in a folder of its own."""
    return [root / Path(dataset).expanduser() for root in (Path(), session.project_root())]


def name_of(dataset: str) -> str:
    """The data set's name without the machine's own path."""
    path = Path(dataset).expanduser()
    return path.name if path.is_absolute() else dataset


def existing(name: str) -> Path | None:
    """The path of this name in one of these places, if something is there."""
    return next((place for place in places(name) if os.path.lexists(place)), None)


def open_source(dataset: str, path: Path) -> Source:
    """The stories in one file, or in a folder's files.

    Raises:
        UserError: there is nothing to read, no way to read it, or two ways to understand it.
    """
    by_split, left = _choose(dataset, path)
    if left:
        print(f"note: {dataset}: not read: {left}", file=sys.stderr)
    every = _files(dataset, path, by_split)
    for file in every.values():
        file.check_packed()
    readers = dict(zip(every, formats.readers_of(list(every.values())), strict=True))

    def tables(split: str, limit: int | None) -> Iterator[pa.Table]:
        for one in by_split[split]:
            yield from formats.tables(every[one], readers[one])

    return Source(name_of(dataset), None, None, TEXT, splits_of(by_split), tables, _digests(path, every))


def sha256(dataset: str, path: Path) -> dict[str, str]:
    """The files that would be read, by their names in the folder, and their checksums: which stories these are.

    Raises:
        UserError: there is nothing to read, or DVC, which looks at the whole folder, could not read a file in it.
    """
    for one in path.rglob("*"):
        seen = (
            formats.ending(one) and not one.is_dir() and not any(part.startswith(".") for part in one.relative_to(path).parts)
        )
        if seen and not (one.is_file() and os.access(one, os.R_OK)):
            name = printable_path(one.relative_to(path))
            raise UserError(f"dataset: {dataset}: {name} is a broken or circular link, or cannot be read. Remove it")
    return _digests(path, _files(dataset, path, _choose(dataset, path)[0]))


def _choose(dataset: str, path: Path) -> tuple[dict[str, list[Path]], str]:
    """The files that give each split, and in words what else is there."""
    return folder.choose(dataset, path) if path.is_dir() else ({"train": [_only_file(dataset, path)]}, "")


def _files(dataset: str, path: Path, by_split: Mapping[str, list[Path]]) -> dict[Path, DataFile]:
    """The files that will be read, in the order of their names."""
    paths = sorted(chain.from_iterable(by_split.values()))
    names = {one: dataset if one == path else f"{dataset}: {printable_path(one.relative_to(path))}" for one in paths}
    every = {one: DataFile(names[one], one) for one in paths}
    for file in every.values():
        _check(file)
    return every


def _digests(path: Path, every: Collection[Path]) -> dict[str, str]:
    base = path if path.is_dir() else path.parent
    return {one.relative_to(base).as_posix(): digest for one, digest in checksums.sha256(every).items()}


def _only_file(dataset: str, path: Path) -> Path:
    """The path of the one file that `dataset` names, which must be of a kind that can be read."""
    if not path.exists():
        raise UserError(f"dataset: {dataset} is a broken or circular symbolic link. Give the real path")
    if not path.is_file() or formats.ending(path) is None:
        kinds = ", ".join(formats.READERS)
        raise UserError(
            f"dataset: {dataset} is not a kind of file that can be read: {kinds}, also compressed ({', '.join(PACKED)})"
        )
    return path


def _check(file: DataFile) -> None:
    """Find within milliseconds what would be found late or said badly."""
    if not file.path.is_file():
        raise UserError(f"dataset: {file.name} is a broken or circular link, or not a file. Remove it")
    if printable_path(file.path) != str(file.path):
        raise UserError(f"dataset: {file.name}: its name is not UTF-8. Rename it")
    if not file.path.stat().st_size:
        raise UserError(f"dataset: {file.name} is empty. Fill it or remove it")
    if file.is_lfs_pointer():
        raise UserError(f"dataset: {file.name} is a Git LFS pointer, not the file itself. Run git lfs pull where it came from")
