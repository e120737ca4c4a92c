"""A search says in one line what is missing and why a trial failed; it says it before, and without what is secret."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

from stages.common.errors import UserError
from tools.search import __main__ as search
from tools.search import node, trial

SPEC = {"remote": "/nowhere/me:secret-word@git", "clone": [], "environment": {}, "commit": "HEAD", "prefix": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Running stage 'train':\nerror: diverged at step 6. Lower learning_rate\nERROR: failed to reproduce 'train'",
            "diverged at step 6. Lower learning_rate",
        ),
        ("error: params.yaml has 2 problems:\n  a: x\n  b: y\nERROR: failed", "params.yaml has 2 problems:; a: x; b: y"),
        ("ERROR: failed to reproduce 'train': failed to run: ..., exited with -9", "killed, perhaps because memory ran out"),
        ("Collecting\nERROR: unexpected error - no space\n", "unexpected error - no space"),
        ("what DVC says\nlast line\n", "last line"),
        ("", "no word"),
    ],
)
def test_a_failed_trial_has_one_line_that_says_why(text: str, said: str) -> None:
    """It is the stage's own message where there is one, else DVC's."""
    line = trial.reason(text)
    assert said in line
    assert "\n" not in line


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray the tool says what installs it."""
    monkeypatch.setattr(search, "NEEDED", ("ray_that_nobody_has",))
    with pytest.raises(UserError, match=r"ray_that_nobody_has: not installed. `make search`.*requirements-search.txt"):
        search.main(argparse.Namespace())


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("name", ["", "0", "a b", "a/b", "ä", "-a", "a" * 50, "a'b"]),
        ("count", ["0", "-1", "x"]),
        ("share", ["1.5", "nan"]),
    ],
)
def test_an_option_is_what_it_can_be(kind: str, texts: list[str]) -> None:
    """A name that git or MLflow would not take, no trials, half a core, one and a half GPUs: refused with what is allowed."""
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match="letters, digits" if kind == "name" else "give a number"):
            getattr(search, kind)(text)
    assert (search.share("0.5"), search.share("2"), search.count("3")) == (0.5, 2.0, 3)


def test_ray_on_this_machine_wants_a_token() -> None:
    """Ray listens at all addresses, so nobody may use it without one; on a cluster the token is the cluster's."""
    one, two = search.settings_of_ray(""), search.settings_of_ray("")
    assert one["RAY_AUTH_MODE"] == "token"
    assert len(one["RAY_AUTH_TOKEN"]) >= 32
    assert one["RAY_AUTH_TOKEN"] != two["RAY_AUTH_TOKEN"]
    assert not any("AUTH" in key for key in search.settings_of_ray("auto"))


def test_a_clone_that_fails_leaves_nothing_and_shows_no_password(tmp_path: Path) -> None:
    """Git's message is the trial's one line; it names the remote, not its address."""
    error = node.run({**SPEC, "place": str(tmp_path), "name": "width-0"})["error"]
    assert error.startswith("on its node: git clone failed: ") and "the git remote" in error
    assert "secret-word" not in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_a_node_without_the_packages_says_so_in_one_line(tmp_path: Path) -> None:
    """A trial that cannot be started is one that failed, with the last word of its Python."""
    (tmp_path / "width-0").mkdir()  # as if it had been fetched: there is no tools.search in it
    error = node.run({**SPEC, "place": str(tmp_path), "name": "width-0"})["error"]
    assert error.startswith(f"on its node: the trial could not be started with {sys.executable}: ")
    assert "No module named" in error and "\n" not in error
    assert not list(tmp_path.iterdir())


def test_nodes_need_nothing_but_python() -> None:
    """What Ray sends to a node imports the standard library only: the project comes with the clone."""
    words = [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(ROOT / 'tools' / 'search' / 'node.py')!r})"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_pins_of_a_search_are_those_of_the_tests() -> None:
    """A package that requirements-dev.txt pins too has the same version there, so that both can be installed."""

    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("==") for line in lines if "==" in line)

    ours, others = pins("requirements-search.txt"), pins("requirements.txt") | pins("requirements-dev.txt")
    assert {"ray", "optuna", "plotly"} <= ours.keys()
    assert {key: value for key, value in ours.items() if others.get(key, value) != value} == {}
    assert not ours.keys() & {"ray", "optuna"} & others.keys(), "the pipeline needs neither"
