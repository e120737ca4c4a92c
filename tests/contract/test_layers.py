"""Scripts are stages, packages are topics: which imports are allowed, and where each file belongs."""

from __future__ import annotations

import ast
from collections import Counter
from functools import partial

import layers
import pytest
from source_tree import ROOT, STAGES

MOST_FILES, MOST_LINES = 12, 300
MOST_LINES_OF_TESTS = 350
CODE = ("model", "stages", "tools", "benchmarks", "docs/make")


def test_imports_go_down() -> None:
    """Scripts import their own package, packages what is shared, and all import common, storybook and model; never upward."""
    assert not list(layers.upward_imports(layers.graph()))


def test_no_import_cycles() -> None:
    """No file imports itself through others."""
    assert not list(layers.import_cycles(layers.graph()))


def test_each_file_stands_where_its_users_are() -> None:
    """One stage's files are in its package; what all stages import is in common/; what some share is in corpus/ or compute/."""
    assert not list(layers.misplaced_files(layers.graph(), _processes()))


def test_packages_and_files_are_small() -> None:
    """No package has more than 12 files, no file more than 300 lines, no script more than 150, no test file more than 350."""
    assert not list(layers.large_packages(layers.graph(), MOST_FILES))
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        script = path.parent.name == "stages"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= (150 if script else MOST_LINES), path
    for path in (ROOT / "tests").rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_TESTS, path


@pytest.mark.parametrize(
    ("rule", "file", "other"),
    [
        ("upward_imports", "stages/common/files.py", "stages/corpus/tokens.py"),
        ("upward_imports", "stages/corpus/tokens.py", "stages/compute/machine.py"),
        ("upward_imports", "stages/training/batches.py", "stages/evaluation/scoring.py"),
        ("upward_imports", "model/gpt2.py", "stages/common/files.py"),
        ("upward_imports", "stages/storybook/words.py", "stages/common/files.py"),
        ("upward_imports", "stages/train.py", "stages/evaluate.py"),
        ("import_cycles", "stages/common/errors.py", "stages/common/files.py"),
        ("misplaced_files", "stages/tokenize.py", "stages/corpus/planted.py"),
        ("misplaced_files", "stages/train.py", "stages/tracking/store.py"),
    ],
)
def test_forbidden_import_is_found(rule: str, file: str, other: str) -> None:
    """Each rule fails when an import that it forbids exists."""
    imports, check = layers.graph(), getattr(layers, rule)
    if rule == "misplaced_files":
        check = partial(check, processes=_processes())
    assert not list(check(imports))
    imports.setdefault(other, set())
    imports[file] = imports[file] | {other}
    assert list(check(imports))


def test_no_two_test_files_have_one_name() -> None:
    """pytest imports a test file by its name alone: of two with one name it collects the first."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


def test_names_of_packages_say_something() -> None:
    """No folder is called lib, utils, misc or helpers; each folder in stages/ is a package of the design."""
    folders = {path.name for path in (ROOT / "stages").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {f"stages/{folder}" for folder in folders} == {package for package in layers.LAYERS if package.startswith("stages/")}
    assert not folders & {"lib", "utils", "misc", "helpers"}
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)


def test_contributing_describes_packages_in_their_own_words() -> None:
    """A package's row in CONTRIBUTING is the first line of its `__init__` docstring."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "stages").glob("*/__init__.py"):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
        assert f"\n| `stages/{path.parent.name}/` | {first} | " in page, path


def test_no_test_imports_conftest() -> None:
    """pytest has imported tests/conftest.py already, under a name of its own: what tests share is in tests/fixtures."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.module == "conftest"), path


def _processes() -> set[str]:
    """Files in packages that are started as processes of their own."""
    return {
        file
        for file in layers.graph()
        if layers.package(file) != "stages" and '__name__ == "__main__"' in (ROOT / file).read_text(encoding="utf-8")
    }
