"""The rules of the source tree as functions of its imports, so that a forbidden import can be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import source_tree
from source_tree import ROOT, STAGES

Graph = Mapping[str, Set[str]]  # a source file, as a path from the root -> the project's files that it imports
LAYERS = {  # a package imports from itself and from lower layers only
    "model": 0,
    "stages/common": 0,
    "stages/storybook": 0,
    "stages/corpus": 1,
    "stages/compute": 1,
    "stages/sources": 2,
    "stages/training": 2,  # from here on, each belongs to one stage
    "stages/evaluation": 2,
    "stages/generation": 2,
    "stages/explanation": 2,
    "stages/tracking": 2,
    "stages": 3,
}
SHARED = ("stages/corpus", "stages/compute", "stages/sources")


def graph() -> dict[str, set[str]]:
    """The imports between the files of model/ and stages/, without `__init__` files that have no code."""
    files = {
        path for folder in ("model", "stages") for path in (ROOT / folder).rglob("*.py") if len(source_tree.tree(path).body) > 1
    }
    return {_name(path): {_name(other) for other in source_tree.imports(path) & files} for path in files}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package(file: str) -> str:
    """The folder that holds a file."""
    return file.rpartition("/")[0]


def upward_imports(imports: Graph) -> Iterator[str]:
    """Imports that do not go down: to a package of the same or a higher layer."""
    for file, others in imports.items():
        for other in others:
            here, there = package(file), package(other)
            if here != there and LAYERS[there] >= LAYERS[here]:
                yield f"{file} imports {other}, which is not below it"
            elif here == there == "stages" and other != "stages/__init__.py":
                yield f"{file} imports the script {other}"


def import_cycles(imports: Graph) -> Iterator[str]:
    """Files that import themselves through others."""
    for file in imports:
        if file in reached(imports, imports[file]):
            yield file


def reached(imports: Graph, start: Set[str]) -> set[str]:
    """The files and everything that they import, directly or not."""
    seen, todo = set(start), list(start)
    while todo:
        for other in imports[todo.pop()] - seen:
            seen.add(other)
            todo.append(other)
    return seen


def misplaced_files(imports: Graph, processes: Set[str]) -> Iterator[str]:
    """Files that are not where their users require: in one stage's package, shared, or common.

    Args:
        imports: who imports whom.
        processes: files that are started by name instead of imported.
    """
    users = {stage: reached(imports, {f"stages/{stage}.py"}) for stage in STAGES}
    owners = {package(file): [stage for stage in STAGES if package(file) in map(package, users[stage])] for file in imports}
    for file in imports:
        stages = [stage for stage in STAGES if file in users[stage]]
        if package(file) == "stages/common" and len(stages) < len(STAGES):
            yield f"{file} is in common/, but {', '.join(sorted(set(STAGES) - set(stages)))} does not import it"
        elif package(file) in SHARED and not 2 <= len(stages) < len(STAGES):
            yield f"{file} is shared, but {', '.join(stages) or 'no stage'} imports it"
        elif (
            LAYERS[package(file)] == 2
            and package(file) not in SHARED
            and (len(owners[package(file)]) > 1 or not (stages or file in processes))
        ):
            yield f"{file} is imported by {', '.join(stages) or 'no stage'}, its package by {', '.join(owners[package(file)])}"


def large_packages(imports: Graph, most: int) -> Iterator[str]:
    """Packages that have too many files."""
    for folder in LAYERS:
        if (count := sum(package(file) == folder for file in imports)) > most:
            yield f"{folder} has {count} files"
