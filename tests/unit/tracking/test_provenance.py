"""What an experiment is made of, in a git repository of the test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stages import track
from stages.common.params import Params
from stages.tracking import provenance
from stages.tracking.provenance import Provenance

pytestmark = pytest.mark.kind("git errors and unusual git settings")

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


def test_patch_holds_code_only() -> None:
    """Params, notes, private files and data are no part of it: a run from a clean commit with other params is not dirty."""
    Path("params.yaml").write_text("n_embd: 1\n")
    Path("README.md").write_text("my password\n")
    Path(".env").write_text("TOKEN=secret\n")
    Path("stages/notes.txt").write_text("secret\n")
    assert Provenance.gather().patch == ""
    assert Provenance.gather().tags()["git.dirty"] == "no"


def test_command_names_what_differs_from_the_commit() -> None:
    """The command has the commit, every param that differs from it and no other, and the patch if the code differs."""
    commit = git("rev-parse", "HEAD")[:12]
    assert Provenance.gather().command(PARAMS) == f"git checkout {commit} && dvc repro"
    assert Provenance.gather().command(PARAMS | {"n_embd": 8, "causal": False}) == (
        f"git checkout {commit} && dvc exp run -S n_embd=8 -S causal=false"
    )
    Path("stages/train.py").write_text("print(2)\n")
    assert Provenance.gather().command(PARAMS) == f"git checkout {commit} && git apply code.patch && dvc repro"


def escaped(value: str | list[str]) -> str | list[str]:
    """With `$\\{` for `${`."""
    return value.replace("${", "$\\{") if isinstance(value, str) else [text.replace("${", "$\\{") for text in value]


QUOTED = "It's a 'dog', \"quoted\""
TRICKY = [QUOTED, "a\\b\\", "null", "True", "1e-3", "yes", "x: y # z", "a=b", "ü { [ ] }", "(a)", "two\nlines", " "]


@pytest.mark.parametrize("value", [*TRICKY, TRICKY, 1e-05, 0.1, 0, None, True, ["a", "b, c"], "a ${b} ${", ["${", "a $\\{b}"]])
def test_command_gives_the_value_back(value: Any) -> None:
    """Through the shell and DVC's own parser any value of a param comes back as it was, after a second change too; `${` in the
    spelling that the parser lets through, which means the same text."""
    from dvc.utils.hydra import apply_overrides
    from dvc.utils.serialize import load_yaml

    line = Provenance.gather().command(PARAMS | {"prompt": value}).partition("dvc exp run -S ")[2]
    override = subprocess.run(f"printf %s {line}", shell=True, capture_output=True, text=True, check=True).stdout
    for change in (override, "n_embd=8"):  # the second one reads what the first one wrote
        apply_overrides("params.yaml", [change])
    found = load_yaml("params.yaml")["prompt"]
    assert found == (value if "$" not in str(value) else escaped(value))
    assert type(found) is type(value)


def test_a_token_in_the_remotes_address_is_not_recorded() -> None:
    """https://user:token@host becomes https://host."""
    git("remote", "add", "origin", "https://me:ghp_secret@example.org/me/it.git")
    assert Provenance.gather().tags()["git.remote"] == "https://example.org/me/it.git"
    assert "ghp_secret" not in str(Provenance.gather())


def test_name_of_a_run_without_an_experiment() -> None:
    """Branch and commit; `run` and commit where no branch is checked out, and then no branch is recorded."""
    commit = git("rev-parse", "HEAD")[:7]
    assert Provenance.gather().name == f"main-{commit}"
    assert Provenance.gather().branch == "main"
    git("checkout", "-q", "--detach")
    assert Provenance.gather().name == f"run-{commit}"
    assert Provenance.gather().branch == ""


def test_a_copy_that_is_no_repository_has_no_commit_and_no_patch(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the project that is no git repository works: no commit, no patch, and it says that nobody was asked.

    After `git init` there is nothing to name yet: not clean, not broken.
    """
    monkeypatch.chdir(tmp_path_factory.mktemp("plain"))
    code = Provenance.gather()
    assert (code.state, code.commit, code.patch, code.problem) == ("no repository", "", "", "")
    assert code.tags()["git.dirty"] == "no repository"
    assert code.command(PARAMS).startswith("dvc repro ")
    assert code.name == "run-new"
    git("init", "-q")
    assert Provenance.gather().state == "no commit"


HOSTILE = """
diff.noprefix=true diff.mnemonicPrefix=true diff.srcPrefix=x/ diff.dstPrefix=y/ diff.orderFile=/no/such/file
diff.external=/no/such/program diff.python.textconv=/no/such/program color.ui=always color.diff=always diff.context=0
diff.interHunkContext=9 diff.renames=copies diff.algorithm=patience diff.suppressBlankEmpty=true diff.wsErrorHighlight=all
core.pager=false diff.relative=true diff.colorMoved=zebra core.quotePath=false core.autocrlf=input core.safecrlf=true
core.whitespace=tab-in-indent core.fsmonitor=/no/such/program core.splitIndex=true core.untrackedCache=true core.abbrev=4
apply.whitespace=error core.fileMode=false add.ignoreErrors=true status.showUntrackedFiles=no
"""


def test_the_patch_rebuilds_the_code_whatever_git_is_set_to(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied to the commit the patch gives the code as it is: edited, added, moved, in Latin-1. Prefixes, order files,
    filters, colors, a hook's variables: none changes it or hides a change. The index is not touched."""
    Path(".git/info/attributes").write_text("*.py diff=python\n")
    Path("stages/train.py").write_bytes(b"# coding: latin-1\n\n\nprint('\xe9')  \n")
    Path("model/nät.py").write_text("y = 1\n")
    Path("model/net.py").rename("model/other.py")
    status = git("status", "--porcelain")
    plain = Provenance.gather()
    assert git("status", "--porcelain") == status
    for setting in HOSTILE.split():
        git("config", *setting.split("="))
    with monkeypatch.context() as hook:
        for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS"):
            hook.setenv(name, "/no/such/file")
        code = Provenance.gather()
    assert (code.state, code.patch) == ("dirty", plain.patch), code.problem
    folder = tmp_path_factory.mktemp("clone")
    git("clone", "-q", "--shared", ".", str(folder))
    content = code.patch.encode("utf-8", "surrogateescape")
    subprocess.run(["git", "apply", "--whitespace=nowarn"], input=content, check=True, cwd=folder)  # as `make reproduce` does
    for path in ("stages/train.py", "model/nät.py", "model/other.py"):
        assert (folder / path).read_bytes() == Path(path).read_bytes()
    assert not (folder / "model/net.py").exists()


def test_a_module_that_git_ignores_is_named() -> None:
    """A module that git ignores is private and no part of the patch, but it is named: the run cannot be rebuilt without it."""
    Path(".gitignore").write_text("*secret*\n")
    Path("model/secret_sauce.py").write_text("x = 1\n")
    code = Provenance.gather()
    assert (code.patch, code.ignored) == ("", ["model/secret_sauce.py"])


@pytest.mark.parametrize("broken", ["HEAD", "objects", "config", "gitfile"])
def test_git_that_fails_is_not_git_that_says_nothing_changed(broken: str) -> None:
    """A repository that cannot be asked: unknown, with git's own words; never clean, never `no repository`."""
    if broken == "HEAD":
        Path(".git/refs/heads/main").write_text("0" * 39 + "1\n")
    elif broken == "objects":
        head = git("rev-parse", "HEAD^{tree}").strip()
        Path(".git/objects", head[:2], head[2:]).unlink()
    elif broken == "config":
        Path(".git/config").write_text("[core\n")
    else:
        Path(".git").rename("elsewhere")
        Path(".git").write_text("gitdir: /no/such/folder\n")
    code = Provenance.gather()
    assert code.tags()["git.dirty"] == code.state == "unknown"
    assert "fatal" in code.problem or "error" in code.problem
    assert "\n" not in code.problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_checkout_of_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bind mount in a container: git refuses and names its remedy, and so does the run."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in [Path(), *Path().rglob("*")]:
        os.chown(path, 12345, 12345)
    code = Provenance.gather()
    assert (code.state, code.commit) == ("unknown", "")
    assert "dubious ownership" in code.problem and "git config --global --add safe.directory" in code.problem


def test_results_that_differ_from_the_committed_ones_are_known() -> None:
    """With the commit's code and params: the files that git calls changed, until they are restored. Otherwise none."""
    for path in ("data/train/metrics.json", "data/generate/samples.md", "dvc.lock"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("1\n")
    git("add", "-A")
    git("commit", "-q", "-m", "results")
    assert Provenance.gather().committed_outputs_that_differ(PARAMS) == []
    for path in ("data/train/metrics.json", "dvc.lock"):
        Path(path).write_text("2\n")
    assert Provenance.gather().committed_outputs_that_differ(PARAMS) == ["data/train/metrics.json", "dvc.lock"]
    assert Provenance.gather().committed_outputs_that_differ(PARAMS | {"n_embd": 97}) == []
    assert Provenance.gather().committed_outputs_that_differ(PARAMS | {"n_embd": 96.0}) != [], "the same value"
    params = Params.model_construct(None, **PARAMS)
    line = track.explain_git_status(Provenance.gather(), params)
    assert line.startswith("git status: 2 files of results differ") and line.count("\n") == 1
    git(*line.rstrip().partition("To go back: git ")[2].split())
    assert git("status", "--porcelain") == "" and track.explain_git_status(Provenance.gather(), params) == ""
    assert Provenance.gather().committed_outputs_that_differ(PARAMS) == []
    Path("dvc.lock").write_text("2\n")
    Path("stages/train.py").write_text("print(2)\n")
    assert Provenance.gather().committed_outputs_that_differ(PARAMS) == []
