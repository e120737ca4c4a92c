"""Provenance: what defines an experiment (params, code, data, machine) and the facts needed to rerun it."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from stages.common import addresses
from stages.common.errors import UserError
from stages.common.params import read_yaml
from stages.tracking.git import GitError, git

CODE = ("dvc.yaml", "requirements.txt", "model", "stages")  # with the params, all that decides a run's bytes
LINKS = ("data/identify/dataset", "data/identify/init")
DIRTY = {"clean": "no", "dirty": "yes"}  # the tag git.dirty; the other answers are tagged as they are


@dataclass(frozen=True)
class Provenance:
    """The code as git knows it, asked once."""

    state: str  # `clean`, `dirty`, `no repository`, `no commit` or, where git is there and does not answer, `unknown`
    commit: str = ""  # in full
    branch: str = ""  # empty for none, as while `dvc exp run` works
    remote: str = ""  # the address of origin, without a token
    patch: str = ""  # what the code has that the commit has not, for `git apply`, which takes its paths from git's top level
    committed: Mapping[str, Any] = field(default_factory=dict)  # params.yaml as it was committed
    problem: str = ""  # why the state is unknown, in git's own words, which name the remedy
    ignored: Sequence[str] = ()  # source files that git ignores; they are not in the patch

    @classmethod
    def gather(cls) -> Provenance:
        """Ask git, in the current folder, the project's."""
        if shutil.which("git") is None:
            return cls("no repository")
        try:
            git("rev-parse", "--show-toplevel")
            if not (commit := _or_empty("rev-parse", "--verify", "--quiet", "HEAD")):
                return cls("no commit")
            patch, ignored = _patch()
        except GitError as error:
            if "not a git repository (or any" in str(error):
                return cls("no repository")
            return cls("unknown", problem=str(error))
        remote = _or_empty("config", "--get", "remote.origin.url")
        committed: Any = None
        with suppress(UserError):
            committed = read_yaml(_or_empty("cat-file", "blob", "HEAD:./params.yaml"))
        return cls(
            "dirty" if patch else "clean",
            commit,
            _or_empty("symbolic-ref", "--quiet", "--short", "HEAD"),
            addresses.shown(remote),
            patch,
            committed if isinstance(committed, dict) else {},
            ignored=ignored,
        )

    @property
    def name(self) -> str:
        """DVC's name of the experiment; `branch-commit` for a plain `dvc repro`."""
        return os.environ.get("DVC_EXP_NAME") or f"{self.branch or 'run'}-{self.commit[:7] or 'new'}"

    def command(self, params: Mapping[str, Any]) -> str:
        """The command that makes this experiment again: the commit, every param that differs from the commit's, and the patch.

        The patch is the run's artifact code.patch; `make reproduce` fetches and applies it.
        """
        if not self.commit:
            return "dvc repro  # with this run's params.yaml; the commit of its code is not known"
        known = self.committed
        changed = [f"{key}={override_word(value)}" for key, value in params.items() if key not in known or known[key] != value]
        words = ["dvc", "exp", "run", *(word for change in changed for word in ("-S", change))]
        apply = " && git apply code.patch" if self.patch else ""
        return f"git checkout {self.commit[:12]}{apply} && {shlex.join(words) if changed else 'dvc repro'}"

    def committed_outputs_that_differ(self, params: Mapping[str, Any]) -> list[str]:
        """The committed files that the stages have written otherwise here, though code and params are the commit's."""
        if self.state != "clean" or dict(self.committed) != dict(params):
            return []
        return _or_empty("diff", "--name-only", "HEAD", "--", "data", "dvc.lock").splitlines()

    def tags(self) -> dict[str, str]:
        """Facts on the code, as tags."""
        name = os.environ.get("DVC_EXP_NAME")
        return {
            "git.commit": self.commit,
            "mlflow.source.git.commit": self.commit,  # MLflow's own names, for the columns of its table
            "mlflow.source.name": f"dvc exp run -n {name}" if name else "dvc repro",
            "mlflow.user": _user(),
            "git.branch": self.branch,
            "git.remote": self.remote,
            "git.dirty": DIRTY.get(self.state, self.state),
            "git.problem": self.problem,
        }


def fingerprint(params: Mapping[str, Any]) -> str:
    """A hash of the params and the code: two runs with the same one are the same experiment."""
    state = hashlib.sha256(repr(sorted(params.items())).encode())
    for path in sorted(_code_files()):
        state.update(f"{path.as_posix()}\0".encode() + path.read_bytes())
    return state.hexdigest()[:16]


def machine() -> dict[str, str]:
    """Facts on the machine, as tags, beside those that training gives (device, CPU, torch, threads)."""
    facts = {
        "machine.host": platform.node(),
        "machine.platform": platform.platform(),
        "machine.cores": str(psutil.cpu_count(logical=False) or psutil.cpu_count() or ""),
        "machine.memory_gib": f"{psutil.virtual_memory().total / 2**30:.1f}",
    }
    return facts | {f"machine.{package}": version(package) for package in ("numpy", "tokenizers")}


def outputs(lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Each output that the run is about and its md5, from dvc.lock: `data/train/model` -> `1f0a….dir`."""
    try:
        return _outputs(lock.read_text(encoding="utf-8"))
    except OSError:
        return {}


def checksum(lock: str) -> str:
    """One checksum over the outputs in the text of a dvc.lock."""
    return hashlib.sha256(repr(sorted(_outputs(lock).items())).encode()).hexdigest()[:16]


def _outputs(lock: str) -> dict[str, str]:
    """Not that of `track`, which logs dvc.lock before DVC has written its own line there, nor a checkout's own links."""
    try:
        stages: dict[str, Any] = read_yaml(lock)["stages"]
    except (UserError, TypeError, KeyError):
        return {}
    return {
        out["path"]: str(out.get("md5", ""))
        for name, stage in stages.items()
        if name != "track"
        for out in stage.get("outs", [])
        if out["path"] not in LINKS
    }


def _patch() -> tuple[str, list[str]]:
    """What the code here has that the commit has not, new files too; and the source files that git ignores, not in it.

    Limited to the files that decide a run's bytes: notes, outputs and private files stay out.
    """
    files = [path.as_posix() for path in _code_files()]
    with tempfile.TemporaryDirectory() as folder:
        index = f"{folder}/index"  # of our own: the user's is not touched
        git("read-tree", "HEAD", GIT_INDEX_FILE=index)
        new = _names(git("ls-files", "-z", "--others", "--exclude-standard", "--", *files, GIT_INDEX_FILE=index))
        if new:
            git("add", "--intent-to-add", "--", *new, GIT_INDEX_FILE=index)
        ignored = _names(git("ls-files", "-z", "--others", "--", *files, GIT_INDEX_FILE=index))
        git("update-index", "-q", "--refresh", GIT_INDEX_FILE=index)
        diff = ["diff-index", "--patch", "--binary", "--full-index", "--no-ext-diff", "--no-color"]  # heeds no diff.* setting
        text = git("-c", "core.quotePath=true", *diff, "HEAD", "--", *CODE, GIT_INDEX_FILE=index)
    return f"{text}\n" if text else "", ignored


def _names(listed: str) -> list[str]:
    return [name for name in listed.split("\0") if name]


def _code_files() -> list[Path]:
    """The source files of the project; not what editors and desktops leave, whose names begin with a dot."""
    found: list[Path] = []
    for path in map(Path, CODE):
        found += path.rglob("*.py") if path.is_dir() else [path]
    return [path for path in found if path.is_file() and not any(part.startswith(".") for part in path.parts)]


def _or_empty(*words: str) -> str:
    """The output of a git command that fails where there is nothing to say."""
    try:
        return git(*words)
    except GitError:
        return ""


def override_word(value: Any) -> str:
    """A value as `dvc exp run -S key=...` takes it, which is Hydra's grammar: text that could be read otherwise is quoted."""
    if isinstance(value, list):
        return f"[{','.join(map(override_word, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    if re.fullmatch(r"[A-Za-z][\w./@-]*( [\w./@-]+)*", value, re.ASCII) and value.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    ):
        return value
    value = value.replace("${", "$\\{")  # the same text, see `Params.prompts`; DVC would look for a key of that name
    return '"' + re.sub(r'(\\*)("|$)', lambda end: end[1] * 2 + ('\\"' if end[2] else ""), value) + '"'


def _user() -> str:
    with suppress(OSError, KeyError):  # a container's user may have no name
        return getpass.getuser()
    return ""
