"""Local data set: stories from a file or a folder of files."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import pyarrow as pa

from stages.common import files
from stages.common.errors import UserError
from stages.common.progress import bar
from stages.sources import table_stream
from stages.sources.data_file import UNPACKERS, DataFile, show
from stages.sources.source import SEPARATOR, TEXT, Source

READERS = {  # file name ends in -> reader
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",  # as `Dataset.save_to_disk` writes it
    ".txt": "text",
}
PREFERRED = ("parquet", "arrow")  # where they are beside files of other kinds, those hold the same again, or facts about them
SPLIT_NAMES = {"train": "train|training", "validation": "validation|valid|val|dev", "test": "test|testing|eval"}
NO_DATA = {"config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json"}  # facts, beside data of any kind
STARTS = {"parquet": (b"PAR1",), "arrow": (b"ARRO", b"\xff\xff\xff\xff")}  # the first bytes of a file
DELAY = 2.0  # seconds after which a pass over the files shows its progress


def find(dataset: str) -> Path | None:
    """The file or folder that `dataset` names, seen from here or from the main checkout; None = a Hub data set's name.

    Raises:
        UserError: it can only be a path, and nothing is there.
    """
    path = Path(dataset).expanduser()
    for root in (Path(), Path(os.environ.get("DVC_ROOT", ""))):  # `dvc exp run --temp` works in a folder of its own
        if os.path.lexists(root / path):
            return root / path
    if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset, re.ASCII) and _suffix(path) is None:
        return None
    raise UserError(
        f"dataset: {dataset}: no such file or folder here. Give the path of one, or `storybook`, or a Hub id as in "
        "roneneldan/TinyStories"
    )


def open_source(dataset: str, path: Path) -> Source:
    """The stories in one file, or in a folder's files.

    Files whose names say train, validation (valid, val, dev) or test give the splits, or else the names of their folders; if
    none does, all are for training.

    Raises:
        UserError: there is nothing to read, or no way to read it.
    """
    by_split = _splits(dataset, path)
    kind = READERS[str(_suffix(next(iter(by_split.values()))[0]))]
    paths = sorted(chain.from_iterable(by_split.values()))
    every = {one: DataFile(dataset if one == path else f"{dataset}: {show(one.relative_to(path))}", str(one)) for one in paths}
    with _explained(dataset):
        for one, file in every.items():
            _check(one, file, kind)
        reader = "separated text" if kind == "text" and _separated(dataset, every) else kind
        base = path if path.is_dir() else path.parent
        digests = {one.relative_to(base).as_posix(): files.digest(one) for one in paths}

    def tables(split: str) -> Iterator[pa.Table]:
        for one in by_split[split]:
            with _explained(every[one].name):
                yield from table_stream.tables(every[one], reader)

    name = dataset if not Path(dataset).expanduser().is_absolute() else path.resolve().name
    held_out = next((split for split in ("validation", "test") if split in by_split), None)
    splits = {"train": "train"} | ({"validation": held_out} if held_out else {})
    return Source(name, None, None, TEXT, splits, tables, digests)


def _splits(dataset: str, path: Path) -> dict[str, list[Path]]:
    """Which files give which split, in the order of their names."""
    if not path.exists():
        raise UserError(f"dataset: {dataset} is a symbolic link that leads nowhere or in a circle. Give the real path")
    if not path.is_dir() and (not path.is_file() or _suffix(path) is None):
        kinds = ", ".join(READERS)
        raise UserError(
            f"dataset: {dataset} is not a kind of file that can be read: {kinds}, also packed ({', '.join(UNPACKERS)})"
        )
    if path.is_file():
        return {"train": [path]}
    found = _inside(path)
    by_kind: dict[str, list[Path]] = {}
    for file in found:
        by_kind.setdefault(READERS[str(_suffix(file))], []).append(file)
    by_split = _by_name(dataset, path, found)
    for kind in PREFERRED:
        if kind in by_kind and len(by_kind) > 1 and ((named := _by_name(dataset, path, by_kind[kind])) or not by_split):
            left = [show(file.relative_to(path)) for file in found if file not in by_kind[kind]]
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            print(f"note: {dataset}: only its {kind} files are read, not {', '.join(left[:3])}{more}", file=sys.stderr)
            found, by_split = by_kind[kind], named
            break
    by_split = by_split or {"train": found}
    if not by_split.get("train"):
        raise UserError(
            f"dataset: {dataset} has no files to train on: none is named train* and ends in {', '.join(READERS)}. "
            "Name them train* and validation*"
        )
    endings = sorted({str(_suffix(file)) for file in chain.from_iterable(by_split.values())})
    if len({READERS[ending] for ending in endings}) > 1:
        raise UserError(f"dataset: {dataset} mixes {', '.join(endings)} files. Keep one kind in the folder")
    return by_split


def _by_name(dataset: str, path: Path, found: list[Path]) -> dict[str, list[Path]]:
    """The files whose names, or else whose folders' names, say a split; empty if none does."""
    named = {file: _named(file.name) for file in found}
    if not any(named.values()):
        named = {file: _named(show(file.relative_to(path).parent)) for file in found}
    if twice := [show(file.relative_to(path)) for file, names in named.items() if len(names) > 1]:
        raise UserError(f"dataset: {dataset}: {twice[0]} is named for more than one split. Rename it")
    by_split = {split: [file for file in found if split in named[file]] for split in SPLIT_NAMES}
    return {split: chosen for split, chosen in by_split.items() if chosen}


def _inside(path: Path) -> list[Path]:
    """The files below a folder that can be read as stories, in the order of their names."""
    found = []
    for folder, folders, names in os.walk(path):  # does not follow links to folders, so cannot go in circles
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith(".") and name not in NO_DATA and _suffix(Path(name)))
        with suppress(OSError, ValueError, KeyError, TypeError):  # of `Dataset.save_to_disk`: what the data set's files are
            names = [file["filename"] for file in json.loads(Path(folder, "state.json").read_bytes())["_data_files"]]
        found += [Path(folder, name) for name in names]
    return found


def _named(name: str) -> list[str]:
    """The splits that a file's or folder's name says, as train.jsonl, my-train-01.csv or TinyStories_valid.txt do."""
    return [split for split, words in SPLIT_NAMES.items() if re.search(rf"(?<![a-z])({words})(?![a-z])", name.lower())]


def _suffix(path: Path) -> str | None:
    """The file's kind by its name, without what packs it; None = unknown."""
    name = path.name.lower()
    for packed in UNPACKERS:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix
    return suffix if suffix in READERS else None


def _check(path: Path, file: DataFile, reader: str) -> None:
    """Find within milliseconds what would be found late or said badly."""
    if not path.is_file():
        raise UserError(f"dataset: {file.name} leads nowhere or in a circle, or is not a file. Remove it")
    if show(path.name) != path.name or show(path) != str(path):
        raise UserError(f"dataset: {file.name}: its name is not UTF-8. Rename it")
    try:
        with open(path, "rb") as opened:
            start = opened.read(4)
    except PermissionError as error:
        raise UserError(f"dataset: {file.name}: permission denied. Make it readable") from error
    if not start:
        raise UserError(f"dataset: {file.name} is empty. Fill it or remove it")
    if reader in STARTS and start not in STARTS[reader]:
        raise UserError(f"dataset: {file.name} is not a {reader} file. Give it its true ending, or replace it")


def _separated(dataset: str, every: Mapping[Path, DataFile]) -> bool:
    """Whether stories in the text files end with a separator, not with their line."""
    size = sum(path.stat().st_size for path in every)
    with bar(size, f"look through {dataset}", "B", delay=DELAY, unit_scale=True) as progress:
        return any(file.holds(SEPARATOR.encode(), progress.update) for file in every.values())


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the readers raise about a file into one sentence."""
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, ValueError, EOFError, OSError, KeyError, RuntimeError) as error:
        what = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"dataset: {name} cannot be read: {what}. Is it whole, and what its ending says?") from error
