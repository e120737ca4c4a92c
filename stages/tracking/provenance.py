"""Provenance: what defines an experiment (params, code, data, machine) and the facts needed to make it again."""

from __future__ import annotations

import ast
import getpass
import hashlib
import os
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from stages.common.errors import UserError
from stages.common.params import read_yaml

CODE = ("dvc.yaml", "requirements.txt", "model", "stages")  # with the params, all that decides a run's bytes
OWN_RULES = (  # for `git add` and `git diff-index`
    *("core.quotePath=true", "core.safecrlf=false"),
    *("core.fsmonitor=false", "core.untrackedCache=false", "core.splitIndex=false"),
)
DIFF = [  # the same patch whatever the user's configuration says
    *("diff-index", "--cached", "--patch", "--binary", "--full-index", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/"),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=none", f"-O{os.devnull}"),
]
DIRTY = {"clean": "no", "dirty": "yes"}  # the tag git.dirty; the other answers are tagged as they are


class GitFailed(Exception):
    """Git is there and did not answer. Its text is what git said, on one line."""


@dataclass(frozen=True)
class Provenance:
    """The code as git knows it, asked once.

    Attributes:
        state: `clean`, `dirty`, `no repository`, `no commit` or, where git is there and does not answer, `unknown`.
        commit: the commit checked out here, in full.
        branch: the branch checked out here; empty for none, as while `dvc exp run` works.
        remote: the address of origin, without a token.
        patch: what the code here has that the commit has not, for `git apply`, which takes its paths from git's top level.
        committed: params.yaml as it was committed.
        problem: why the state is unknown, in git's own words, which name the remedy.
    """

    state: str
    commit: str = ""
    branch: str = ""
    remote: str = ""
    patch: str = ""
    committed: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def gather(cls) -> Provenance:
        """Ask git, in the current folder, the project's."""
        try:
            _git("rev-parse", "--show-toplevel")
            try:
                commit = _git("rev-parse", "--verify", "HEAD")
            except GitFailed:
                if _git("rev-list", "--all", "--max-count=1"):
                    raise  # there are commits, and HEAD names none
                return cls("no commit")
            branch = _or_empty("symbolic-ref", "--quiet", "--short", "HEAD")
            remote = _or_empty("config", "--get", "remote.origin.url")
            patch = _patch()
        except OSError:  # there is no git
            return cls("no repository")
        except GitFailed as error:
            if "not a git repository (or any" in str(error):
                return cls("no repository")
            return cls("unknown", problem=str(error))
        committed: Any = None
        with suppress(UserError):
            committed = read_yaml(_or_empty("cat-file", "blob", "HEAD:./params.yaml"))
        return cls(
            "dirty" if patch else "clean",
            commit,
            branch,
            re.sub(r"//[^/@]*@", "//", remote),  # https://user:token@host: the token is nobody's business
            patch,
            committed if isinstance(committed, dict) else {},
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
        changed = [f"{key}={_override(value)}" for key, value in params.items() if key not in known or known[key] != value]
        words = ["dvc", "exp", "run", *(word for change in changed for word in ("-S", change))]
        apply = " && git apply code.patch" if self.patch else ""
        return f"git checkout {self.commit[:12]}{apply} && {shlex.join(words) if changed else 'dvc repro'}"

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
        "machine.gpus": ", ".join(_gpus()) or "none",
    }
    with suppress(psutil.Error, OSError, RuntimeError):  # a system without /proc does not say
        facts["machine.cores"] = str(psutil.cpu_count(logical=False) or psutil.cpu_count() or "")
        facts["machine.memory_gib"] = f"{psutil.virtual_memory().total / 2**30:.1f}"
    for package in ("numpy", "tokenizers"):
        with suppress(PackageNotFoundError):
            facts[f"machine.{package}"] = version(package)
    return facts


def outputs(lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """Each output that the run is about and its md5, from dvc.lock: `data/train/model` -> `1f0a….dir`.

    Not that of `track`, which logs dvc.lock before DVC has written its own line there.
    """
    try:
        stages: dict[str, Any] = read_yaml(lock.read_text(encoding="utf-8"))["stages"]
    except (OSError, UserError, TypeError, KeyError):
        return {}
    return {
        out["path"]: str(out.get("md5", ""))
        for name, stage in stages.items()
        if name != "track"
        for out in stage.get("outs", [])
    }


def _patch() -> str:
    """What the code here has that the commit has not; empty if nothing.

    Limited to the files that decide a run's bytes: notes, outputs and private files stay out. An untracked module that git
    ignores is in it if another one imports it.
    """
    objects = _git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    rules = [word for rule in OWN_RULES for word in ("-c", rule)]
    with tempfile.TemporaryDirectory() as folder:  # an index and a store of our own: the user's are not touched
        scratch = {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": '"' + objects.replace("\\", "\\\\").replace('"', '\\"') + '"',
        }
        _git("read-tree", "HEAD", env=scratch)
        _git(*rules, "add", "--update", "--", *(path for path in CODE if Path(path).exists()), env=scratch)
        _git(*rules, "add", "--force", "--", *map(str, _code_files(_needless())), env=scratch)
        text = _git(*rules, *DIFF, "HEAD", "--", *CODE, env=scratch)
    return f"{text}\n" if text else ""


def _code_files(without: frozenset[Path] = frozenset()) -> list[Path]:
    """The source files of the project; not what editors and desktops leave, whose names begin with a dot."""
    found: list[Path] = []
    for path in map(Path, CODE):
        found += path.rglob("*.py") if path.is_dir() else [path]
    hidden = {path for path in found if any(part.startswith(".") for part in path.parts)}
    return [path for path in found if path.is_file() and path not in hidden | without]


def _needless() -> frozenset[Path]:
    """The modules that git ignores and nothing imports: a private file is no code of the run."""
    listed = _git("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *CODE[2:])
    ignored = {path for name in listed.split("\0") if (path := Path(name)).suffix == ".py"}
    wanted: set[str] = set()
    for path in _code_files() if ignored else []:
        with suppress(SyntaxError, ValueError):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    wanted |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    base = ".".join([*path.parent.parts[: len(path.parent.parts) - node.level + 1]] if node.level else [])
                    module = ".".join(filter(None, [base, node.module]))
                    wanted |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return frozenset(path for path in ignored if ".".join(path.with_suffix("").parts).removesuffix(".__init__") not in wanted)


def _git(*words: str, env: Mapping[str, str] | None = None) -> str:
    """A git command's output without the last line end.

    Raises:
        GitFailed: git refused.
        OSError: there is no git.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("GIT_DIFF_OPTS", "GIT_EXTERNAL_DIFF")}
    done = subprocess.run(["git", *words], capture_output=True, env=kept | {"LC_ALL": "C"} | dict(env or {}), check=False)
    if done.returncode:
        raise GitFailed(" ".join(done.stderr.decode("utf-8", "replace").split()) or f"exit code {done.returncode}")
    return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def _or_empty(*words: str) -> str:
    """The output of a git command that fails where there is nothing to say."""
    try:
        return _git(*words)
    except GitFailed:
        return ""


def _override(value: Any) -> str:
    """A value as `dvc exp run -S key=...` takes it, which is Hydra's grammar: text that could be read otherwise is quoted."""
    if isinstance(value, list):
        return f"[{','.join(map(_override, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    if re.fullmatch(r"[A-Za-z][\w./@-]*( [\w./@-]+)*", value) and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    value = value.replace("${", "$\\{")  # the same text, see `Params.prompts`; DVC would look for a key of that name
    return '"' + re.sub(r'(\\*)("|$)', lambda end: end[1] * 2 + ('\\"' if end[2] else ""), value) + '"'


def _user() -> str:
    with suppress(OSError, KeyError):  # a container's user may have no name
        return getpass.getuser()
    return ""


def _gpus() -> Sequence[str]:
    """The names of NVIDIA's GPUs, without loading CUDA."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return [str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i))) for i in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no package, no driver, no GPU: all mean none
        return []
