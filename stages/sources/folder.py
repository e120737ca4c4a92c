"""Folder: which of its files give which split, what else lies in it, and what in it could be meant in two ways."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.common.errors import UserError
from stages.common.terminal import pluralize
from stages.sources import formats
from stages.sources.data_file import PACKED, DataFile, printable_path

SPLIT_NAMES = {"train": "train|training", "validation": "validation|valid|val|dev", "test": "test|testing|eval"}
SHOWN = 3  # names in a message

HIDDEN, LINKED, OTHER = "hidden", "linked folder", "of another kind"
NO_SPLIT, BESIDE_PARQUET, TEST = "whose name says no split", "beside parquet files", "of the test split"


def choose(dataset: str, folder: Path) -> tuple[dict[str, list[Path]], str]:
    """The files that give each split, in the order of their names, and in words what else is in the folder.

    A file belongs to the split that its name says, or else its folder's. If no name says one, all are for training.

    Raises:
        UserError: there are none to train on, or what is meant is in doubt; the message has the names.
    """
    files, left = _files(dataset, folder)
    said = {path: _splits_in(path.name) or _splits_in(printable_path(path.relative_to(folder).parent)) for path in files}
    if any(said.values()):
        endings = {formats.ending(path) for path in files if said[path]}
        nameless = [path for path in files if not said[path]]
        stories = [path for path in nameless if formats.ending(path) in endings or not _may_be_beside(path)]
        if stories:
            some = _some(folder, (path for path in files if said[path]))
            raise UserError(
                f"dataset: {dataset}: the name of {_some(folder, stories)} says no split, beside names that do ({some}). "
                "Name every file train*, validation* or test*, or none; or move what is not to be read elsewhere"
            )
        left[NO_SPLIT] = nameless
        files = [path for path in files if said[path]]
    if parquet := [path for path in files if formats.ending(path) == ".parquet"]:
        left[BESIDE_PARQUET] = [path for path in files if formats.ending(path) != ".parquet"]  # mostly the same stories again
        files = parquet
    by_split = {split: [path for path in files if split in (said[path] or ["train"])] for split in SPLIT_NAMES}
    _refuse_doubt(dataset, folder, files, said)
    if not by_split["train"]:
        there = _in_words(folder, left)
        raise UserError(
            f"dataset: {dataset} has no files to train on: none is named train* and ends in {', '.join(formats.READERS)}. "
            f"Name them train* and validation*{f'. It holds {there}' if there else ''}"
        )
    if by_split["validation"]:
        left[TEST] = by_split.pop("test")
    return {split: paths for split, paths in by_split.items() if paths}, _in_words(folder, left)


def _files(dataset: str, folder: Path) -> tuple[list[Path], dict[str, list[Path]]]:
    """The files below a folder that can hold stories, in order, and by reason what else is there. Links are not followed."""

    def refuse(error: OSError) -> None:
        name = printable_path(error.filename)
        raise UserError(f"dataset: {dataset}: {name}: {error.strerror}. Make it readable, or move it elsewhere") from error

    files: list[Path] = []
    left: dict[str, list[Path]] = {reason: [] for reason in (HIDDEN, LINKED, OTHER)}
    for place, folders, names in os.walk(folder, onerror=refuse):
        for name in list(folders):
            path = Path(place, name)
            if name.startswith(".") or path.is_symlink():
                left[HIDDEN if name.startswith(".") else LINKED].append(path)
                folders.remove(name)
        for path in (Path(place, name) for name in names):
            if path.name.startswith("."):
                left[HIDDEN].append(path)
            else:
                (files if formats.ending(path) else left[OTHER]).append(path)
    return sorted(files), left


def _refuse_doubt(dataset: str, folder: Path, files: Iterable[Path], said: Mapping[Path, list[str]]) -> None:
    """Raises UserError: a file for two splits, two files with the same stories, or several kinds of files."""
    seen: dict[Path, Path] = {}
    for path in files:
        name = printable_path(path.relative_to(folder))
        if len(said[path]) > 1:
            raise UserError(f"dataset: {dataset}: {name} is named for more than one split. Rename it")
        if twin := seen.get(bare := _bare(path)):
            both = f"{printable_path(twin.relative_to(folder))} and {name}"
            raise UserError(f"dataset: {dataset}: {both} seem to be the same stories twice. Keep one of them, or rename one")
        seen[bare] = path
    endings = sorted({str(formats.ending(path)) for path in files})
    if len({formats.READERS[ending] for ending in endings}) > 1:
        raise UserError(f"dataset: {dataset} mixes {', '.join(endings)} files. Keep one kind in the folder")


def _may_be_beside(path: Path) -> bool:
    """Whether a file may lie beside stories of another kind: README.txt may, and dataset_infos.json, which has no stories."""
    if formats.ending(path) == ".json":
        try:
            next(formats.tables(DataFile(path.name, path), formats.READERS[".json"]))
        except UserError:
            return True
    return formats.ending(path) == ".txt"


def _bare(path: Path) -> Path:
    """The path without what says how the file is packed and of which kind it is."""
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).with_suffix("")


def _splits_in(name: str) -> list[str]:
    """The splits that a file's or folder's name says, as train.jsonl, my-train-01.csv or TinyStories_valid.txt do."""
    return [split for split, words in SPLIT_NAMES.items() if re.search(rf"(?<![a-z])({words})(?![a-z])", name.lower())]


def _in_words(folder: Path, left: Mapping[str, list[Path]]) -> str:
    """What is left, counted by reason."""
    plural = {LINKED: "linked folders"}
    counts = ((pluralize(len(paths), reason, plural.get(reason, reason)), paths) for reason, paths in left.items() if paths)
    return ", ".join(f"{count} ({_some(folder, sorted(paths))})" for count, paths in counts)


def _some(folder: Path, paths: Iterable[Path]) -> str:
    """The first names."""
    names = [printable_path(path.relative_to(folder)) for path in paths]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
