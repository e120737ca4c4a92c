"""`make compare`: the table fits a terminal, and says what each experiment changed."""

from __future__ import annotations

import argparse

import pytest

from tools import compare
from tools.compare import RESULTS, Row

BEST, WORST = dict.fromkeys(RESULTS, 1.25), dict.fromkeys(RESULTS, 123.456789)
NAME, DATA = "an-experiment-with-a-very-long-name", "some/folder/" + "far/" * 20
ROWS = [
    Row("main", {}, WORST, ""),
    Row(NAME, {"dataset": DATA, "causal": False, "top_k": None}, BEST, ""),
    Row("later", {"n_embd": 48}, {}, "queued"),
]


@pytest.mark.parametrize("width", [80, 100, 250])
def test_the_table_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No line is wider than the terminal, and what is too long for a column goes on in the next line: nothing is cut."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(compare, "rows", lambda repo: ROWS)
    compare.main(argparse.Namespace())
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    folded = "".join(said.split())
    head = [part for name in RESULTS for part in name.split("_")]  # on several lines
    assert all(piece in folded for piece in (*head, "123.4568", "1.2500", "queued"))
    if width == 250:
        assert f"dataset={DATA} causal=false top_k=null" in said and NAME in said
        assert said.index(NAME) < said.index("main") < said.index("later"), "the lowest perplexity first, without one last"


def test_a_commit_without_experiments_says_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commit's own row, and the command."""
    monkeypatch.setattr(compare, "rows", lambda repo: ROWS[:1])
    compare.main(argparse.Namespace())
    assert "Make one: dvc exp run -S temperature=0.7" in capsys.readouterr().out
