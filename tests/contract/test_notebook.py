"""The notebook in git: no outputs, settings in one cell, commands that exist."""

from __future__ import annotations

import ast
import re

import nbformat
import pages
import pytest
from source_tree import PARAMS, ROOT

BOOK = nbformat.read(ROOT / "notebooks/colab.ipynb", as_version=4)
CODE = [cell.source for cell in BOOK.cells if cell.cell_type == "code"]


def test_outputs_are_cleared() -> None:
    """Git has the notebook as it is before it runs: no output, no count, nothing of whose machine it ran on."""
    nbformat.validate(BOOK)
    for cell in BOOK.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


def test_settings_are_in_the_first_code_cell() -> None:
    """The cell tagged `parameters` comes first and only assigns, so that a run can be given other settings after it."""
    (tagged,) = [cell for cell in BOOK.cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged.source == CODE[0]
    assert all(isinstance(node, ast.Assign) for node in ast.parse(tagged.source).body)


def test_one_placeholder_for_the_owner() -> None:
    """The README's address and the notebook's badge and settings have the same placeholder, which the README explains."""
    badge = "https://colab.research.google.com/github/OWNER/gpt2-pipeline/blob/main/notebooks/colab.ipynb"
    assert "https://github.com/OWNER/gpt2-pipeline" in pages.read("README.md")
    assert badge in BOOK.cells[0].source
    assert 'OWNER = "OWNER"' in CODE[0]
    assert "replace OWNER" in pages.read("README.md")
    assert "https://github.com/OWNER/gpt2-pipeline" in pages.read("CITATION.cff")


def test_the_owner_s_name_is_asked_for() -> None:
    """With the placeholder no cell starts to clone or install: an assertion says what to write where."""
    first = CODE[1].split("\nif not Path")[0]
    with pytest.raises(AssertionError, match="GitHub account"):
        exec(first, {"REPO": "https://github.com/OWNER/gpt2-pipeline"})
    exec(first, {"REPO": "https://github.com/me/gpt2-pipeline"})


def test_notebook_commands_name_what_exists() -> None:
    """Each `make` target and each param that a cell names exists."""
    text = "\n".join(CODE)
    assert set(re.findall(r"make ([a-z0-9-]+)", text)) <= pages.targets()
    assert set(re.findall(r"-S (\w+)=", text)) <= PARAMS


def test_commands_stop_the_notebook() -> None:
    """No cell uses `!`, which goes on after a failure: every command goes through `sh`."""
    assert not re.search(r"(?m)^\s*!", "\n".join(CODE))
