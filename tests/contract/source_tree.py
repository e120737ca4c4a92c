"""The source tree: who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from stages.common.params import read_yaml
from stages.tracking import pipeline

ROOT = Path(__file__).parents[2]
STAGES = tuple(pipeline.stages())
PARAMS = frozenset(read_yaml((ROOT / "params.yaml").read_text(encoding="utf-8")))


@cache
def tree(path: Path) -> ast.Module:
    """A source file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> frozenset[Path]:
    """The project's own files that a file imports, anywhere in it."""
    found: set[Path] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            for candidate in (ROOT / f"{name.replace('.', '/')}.py", ROOT / name.replace(".", "/") / "__init__.py"):
                if candidate.is_file():
                    found.add(candidate)
    return frozenset(found)


def import_tree(path: Path) -> frozenset[Path]:
    """The file and everything that it imports, directly or not."""
    seen, todo = {path}, [path]
    while todo:
        for other in imports(todo.pop()) - seen:
            seen.add(other)
            todo.append(other)
    return frozenset(seen)


def code_of(stage: str) -> set[str]:
    """The source files that a stage depends on, as dvc.yaml names them, without `__init__` files that have no code."""
    files = import_tree(ROOT / "stages" / f"{stage}.py")
    return {path.relative_to(ROOT).as_posix() for path in files if len(tree(path).body) > 1}


def deps_of(stage: str) -> list[str]:
    """How dvc.yaml must name those files: a folder where the stage imports all of it, else the file; sorted."""
    files = code_of(stage)
    named: set[str] = set()
    for folder in {str(Path(file).parent) for file in files}:
        whole = folder != "stages" and expanded([folder]) <= files
        named |= {folder} if whole else {file for file in files if str(Path(file).parent) == folder}
    return sorted(named)


def expanded(deps: Iterable[str]) -> set[str]:
    """The source files in these folders and files, without `__init__` files that have no code."""
    paths = [path for dep in deps for path in ((ROOT / dep).rglob("*.py") if (ROOT / dep).is_dir() else [ROOT / dep])]
    return {path.relative_to(ROOT).as_posix() for path in paths if len(tree(path).body) > 1}
