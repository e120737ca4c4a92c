"""What an experiment is made of, in a git repository of the test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stages.tracking import provenance

PARAMS: dict[str, Any] = {"n_embd": 96, "prompt": "Once upon a time", "top_k": None, "causal": True}


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def _repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small project with one commit."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)
    for path, text in {
        "stages/train.py": "print(1)\n",
        "model/net.py": "x = 1\n",
        "dvc.yaml": "stages: {}\n",
        "params.yaml": "n_embd: 96  # width\nprompt: Once upon a time\ntop_k: null\ncausal: true\n",
        "README.md": "hello\n",
        ".gitignore": ".env\n",
    }.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    git("init", "-q", "-b", "main")
    git("config", "user.name", "t")
    git("config", "user.email", "t@t")
    git("add", "-A")
    git("commit", "-q", "-m", "start")


def test_fingerprint_is_params_and_code() -> None:
    """It changes with a param, with a code file and with dvc.yaml, and with nothing else, not even params.yaml's comments."""
    first = provenance.fingerprint(PARAMS)
    Path("README.md").write_text("other\n")
    Path("params.yaml").write_text("# a comment\n")
    assert provenance.fingerprint(dict(reversed(PARAMS.items()))) == first
    assert provenance.fingerprint(PARAMS | {"n_embd": 97}) != first
    for path in ("stages/train.py", "model/net.py", "dvc.yaml"):
        before, text = provenance.fingerprint(PARAMS), Path(path).read_text()
        Path(path).write_text(text + "# more\n")
        assert provenance.fingerprint(PARAMS) != before
        Path(path).write_text(text)


def test_patch_rebuilds_the_code() -> None:
    """Applied to the commit the patch gives the code as it is: edited, added, deleted. The user's index is not touched."""
    Path("stages/train.py").write_text("print(2)\n")
    Path("stages/new.py").write_text("print('ä')\r\n")
    Path("model/net.py").unlink()
    status = git("status", "--porcelain")
    patch = provenance.patch()
    assert git("status", "--porcelain") == status
    git("add", "-A")
    git("stash", "-q")
    assert Path("stages/train.py").read_text() == "print(1)\n"
    subprocess.run(["git", "apply"], input=patch.encode(), check=True)
    assert Path("stages/train.py").read_text() == "print(2)\n"
    assert Path("stages/new.py").read_bytes() == "print('ä')\r\n".encode()
    assert not Path("model/net.py").exists()


def test_patch_holds_code_only() -> None:
    """Params, notes, private files and data are no part of it: a run from a clean commit with other params is not dirty."""
    Path("params.yaml").write_text("n_embd: 1\n")
    Path("README.md").write_text("my password\n")
    Path(".env").write_text("TOKEN=secret\n")
    Path("stages/notes.txt").write_text("secret\n")
    assert provenance.patch() == ""
    assert provenance.source()["git.dirty"] == "no"


def test_command_names_what_differs_from_the_commit() -> None:
    """The command has the commit, every param that differs from it and no other, and the patch if the code differs."""
    commit = git("rev-parse", "HEAD")[:12]
    assert provenance.command(PARAMS) == f"git checkout {commit} && dvc repro"
    assert provenance.command(PARAMS | {"n_embd": 8, "causal": False}) == (
        f"git checkout {commit} && dvc exp run -S n_embd=8 -S causal=false"
    )
    Path("stages/train.py").write_text("print(2)\n")
    assert provenance.command(PARAMS) == f"git checkout {commit} && git apply code.patch && dvc repro"


TRICKY = [
    "It's a 'dog', \"quoted\"",
    "a\\b\\",
    "null",
    "True",
    "1e-3",
    "yes",
    "x: y # z",
    "a=b",
    "ü { [ ] }",
    "(a)",
    "two\nlines",
    " ",
]


@pytest.mark.parametrize("value", [*TRICKY, TRICKY, 1e-05, 0.1, 0, None, True, ["a", "b, c"]])
def test_command_gives_the_value_back(value: Any) -> None:
    """Through the shell and DVC's own parser any value of a param comes back as it was."""
    from dvc.utils.hydra import apply_overrides
    from dvc.utils.serialize import load_yaml

    line = provenance.command(PARAMS | {"prompt": value}).partition("dvc exp run -S ")[2]
    override = subprocess.run(f"printf %s {line}", shell=True, capture_output=True, text=True, check=True).stdout
    apply_overrides("params.yaml", [override])
    found = load_yaml("params.yaml")["prompt"]
    assert found == value
    assert type(found) is type(value)


def test_a_token_in_the_remotes_address_is_not_recorded() -> None:
    """https://user:token@host becomes https://host."""
    git("remote", "add", "origin", "https://me:ghp_secret@example.org/me/it.git")
    assert provenance.source()["git.remote"] == "https://example.org/me/it.git"
    assert "ghp_secret" not in str(provenance.source())


def test_name_of_a_run_without_an_experiment() -> None:
    """Branch and commit; `run` and commit where no branch is checked out, and then no branch is recorded."""
    commit = provenance.commit()[:7]
    assert provenance.name() == f"main-{commit}"
    assert provenance.source()["git.branch"] == "main"
    git("checkout", "-q", "--detach")
    assert provenance.name() == f"run-{commit}"
    assert provenance.source()["git.branch"] == ""


def test_without_git(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the project that is no git repository works: no commit, no patch."""
    monkeypatch.chdir(tmp_path_factory.mktemp("plain"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    assert (provenance.commit(), provenance.patch()) == ("", "")
    assert provenance.command(PARAMS).startswith("git checkout <commit> && dvc exp run")
    assert provenance.name()


def test_outputs_of_a_lock_file() -> None:
    """Every output and its md5; nothing where there is no lock file."""
    assert provenance.outputs() == {}
    Path("dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n    - path: data/a\n      md5: aa.dir\n  b: {cmd: y}\n"
    )
    assert provenance.outputs() == {"data/a": "aa.dir"}
