"""Local data set: stories from a file or a folder of files, in the formats that `datasets.load_dataset` reads."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from stages.common import files
from stages.common.errors import UserError
from stages.sources import table_stream
from stages.sources.source import TEXT, Source

CSV = {"encoding": "utf-8-sig", "keep_default_na": False, "converters": {"text": str}}  # a story "None" or "42" is a story
READERS: dict[str, tuple[str, dict[str, Any]]] = {  # file name ends in -> reader of `datasets`, its options
    ".jsonl": ("json", {}),
    ".ndjson": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", CSV),
    ".tsv": ("csv", CSV | {"sep": "\t"}),
    ".parquet": ("parquet", {}),
    ".txt": ("text", {"encoding": "utf-8-sig"}),
}
PACKED = (".gz", ".bz2", ".xz", ".zst")
SPLIT_NAMES = {"train": "train|training", "validation": "validation|valid|val|dev", "test": "test|testing|eval"}
SEPARATOR = "<|endoftext|>"  # alone on a line of a .txt file it ends a story, as in TinyStories' own files
HEAD = 1 << 24  # characters of a .txt file in which the first such line is looked for
ARRAY_BYTES, ARRAY_COST = 100 << 20, 8  # from which size on a JSON array is remarked on; memory it takes, in times its size


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
    every = sorted(chain.from_iterable(by_split.values()))
    kinds = sorted({str(_suffix(file)) for file in every})
    if any(READERS[kind] != READERS[kinds[0]] for kind in kinds):
        raise UserError(f"dataset: {dataset} mixes {', '.join(kinds)} files. Keep one kind in the folder")
    reader, options = READERS[kinds[0]]
    with _explained(dataset):
        for file in every:
            _check(dataset, file, reader)
        joined = reader == "text" and any(map(_separated, every))
        parts = {f"part{number}": [file] for number, file in enumerate(every)}  # a story ends where its file ends
        data_files = {
            name: [glob.escape(str(file.absolute())) for file in found]
            for name, found in (parts if joined else by_split).items()
        }
        builder = table_stream.library().load_dataset_builder(reader, data_files=data_files, **options)

    def tables(split: str) -> Iterator[pa.Table]:
        with _explained(dataset):
            if joined:
                for file in by_split[split]:
                    yield from _joined(table_stream.tables(builder, f"part{every.index(file)}", TEXT.names))
            else:
                yield from table_stream.tables(builder, split, TEXT.names)

    name = dataset if not Path(dataset).expanduser().is_absolute() else path.resolve().name
    base = path if path.is_dir() else path.parent
    digests = {file.relative_to(base).as_posix(): files.digest(file) for file in every}
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
            f"dataset: {dataset} is not a kind of file that can be read: {kinds}, also packed ({', '.join(PACKED)})"
        )
    if path.is_file():
        return {"train": [path]}
    found = []
    for folder, folders, names in os.walk(path):  # does not follow links to folders, so cannot go in circles
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".") and _suffix(Path(name))]
    named = {file: _named(file.name) for file in found}
    if not any(named.values()):
        named = {file: _named(file.relative_to(path).parent.as_posix()) for file in found}
    if twice := [file.relative_to(path).as_posix() for file, names in named.items() if len(names) > 1]:
        raise UserError(f"dataset: {dataset}: {twice[0]} is named for more than one split. Rename it")
    by_split = {split: [file for file in found if split in named[file]] for split in SPLIT_NAMES}
    by_split = {split: chosen for split, chosen in by_split.items() if chosen} or {"train": found}
    if not by_split.get("train"):
        raise UserError(
            f"dataset: {dataset} has no files to train on: none is named train* and ends in {', '.join(READERS)}. "
            "Name them train* and validation*"
        )
    return by_split


def _named(name: str) -> list[str]:
    """The splits that a file's or folder's name says, as train.jsonl, my-train-01.csv or TinyStories_valid.txt do."""
    return [split for split, words in SPLIT_NAMES.items() if re.search(rf"(?<![a-z])({words})(?![a-z])", name.lower())]


def _suffix(path: Path) -> str | None:
    """The file's kind by its name, without what packs it; None = unknown."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    suffix = Path(name).suffix
    return suffix if suffix in READERS else None


def _check(dataset: str, file: Path, reader: str) -> None:
    """Find within milliseconds what would be found late or said badly."""
    if not file.is_file():
        raise UserError(f"dataset: {dataset}: {file.name} leads nowhere or in a circle, or is not a file. Remove it")
    if "::" in str(file.absolute()):
        raise UserError(f"dataset: {dataset}: `::` in the path {file} would be taken for an address. Rename it")
    with open(file, "rb") as opened:
        start = opened.read(4)
    if not start:
        raise UserError(f"dataset: {dataset}: {file.name} is empty. Fill it or remove it")
    if start.lstrip().startswith(b"[") and reader == "json" and (size := file.stat().st_size) >= ARRAY_BYTES:
        print(
            f"note: {file.name} is one JSON array of {size / 1e6:,.0f} MB: it is read whole, in about {ARRAY_COST} times as "
            "much memory. One object a line (.jsonl) streams",
            file=sys.stderr,
        )
    if reader == "parquet" and start != b"PAR1":
        raise UserError(f"dataset: {dataset}: {file.name} is not a parquet file. Give it its true ending, or replace it")


def _separated(file: Path) -> bool:
    """Whether a text file's stories end with a line of their own, not with each line."""
    import fsspec

    with fsspec.open(str(file), "rt", encoding="utf-8-sig", errors="replace", compression="infer") as opened:
        return any(line.strip() == SEPARATOR for line in opened.read(HEAD).splitlines())


def _joined(lines: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Lines to stories: a story goes on until a line that is the separator."""
    story: list[str] = []
    for table in lines:
        stories = []
        for line in table["text"].to_pylist():
            if line.strip() == SEPARATOR:
                stories.append("\n".join(story).strip())
                story = []
            else:
                story.append(line)
        yield pa.table({"text": stories}, schema=TEXT)
    yield pa.table({"text": ["\n".join(story).strip()]}, schema=TEXT)


@contextmanager
def _explained(dataset: str) -> Iterator[None]:
    """Turn what the readers raise into one sentence."""
    try:
        yield
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"dataset: {dataset} is not UTF-8 text ({error}). Convert it: iconv -t UTF-8") from error
    except PermissionError as error:
        raise UserError(f"dataset: {dataset}: {error.filename or 'a file'}: permission denied. Make it readable") from error
    except (pa.ArrowException, ValueError, EOFError, OSError, KeyError, StopIteration, RuntimeError) as error:
        what = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(f"dataset: {dataset} cannot be read: {what}. Is it whole, and what its ending says?") from error
