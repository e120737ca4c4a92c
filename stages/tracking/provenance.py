"""Experiment: what defines one (params, code, data, machine) and the facts needed to make it again."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from stages.common.errors import UserError
from stages.common.params import read_yaml

CODE = ("dvc.yaml", "requirements.txt", "model", "stages")  # with the params, all that decides a run's bytes


def fingerprint(params: Mapping[str, Any]) -> str:
    """A hash of the params and the code: two runs with the same one are the same experiment."""
    state = hashlib.sha256(repr(sorted(params.items())).encode())
    for path in sorted(_code_files()):
        state.update(f"{path.as_posix()}\0".encode() + path.read_bytes())
    return state.hexdigest()[:16]


def name() -> str:
    """DVC's name of the experiment; `branch-commit` for a plain `dvc repro`."""
    return os.environ.get("DVC_EXP_NAME") or f"{_branch() or 'run'}-{commit()[:7] or 'new'}"


def commit() -> str:
    """The commit checked out here, in full; empty without git."""
    return _git("rev-parse", "HEAD")


def patch() -> str:
    """What the code here has that the commit has not, untracked Python files included, for `git apply`; empty if nothing.

    Limited to the files that decide a run's bytes: notes, outputs and private files stay out.
    """
    if not commit():
        return ""
    objects = _git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    with tempfile.TemporaryDirectory() as folder:  # an index and a store of our own: the user's are not touched
        scratch = os.environ | {
            "GIT_INDEX_FILE": f"{folder}/index",
            "GIT_OBJECT_DIRECTORY": folder,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        _git("read-tree", "HEAD", env=scratch)
        _git("add", "--update", "--", *(path for path in CODE if Path(path).exists()), env=scratch)
        _git("add", "--", *(str(path) for path in _code_files()), env=scratch)
        text = _git("diff", "--cached", "--binary", "--no-color", "--no-ext-diff", "HEAD", "--", *CODE, env=scratch)
    return f"{text}\n" if text else ""


def command(params: Mapping[str, Any]) -> str:
    """The command that makes this experiment again: the commit, every param that differs from the commit's, and the patch.

    The patch is the run's artifact code.patch; `make reproduce` fetches and applies it.
    """
    committed: dict[str, Any] = {}
    with suppress(UserError):
        committed = read_yaml(_git("show", "HEAD:params.yaml")) or {}
    changed = [f"{key}={_override(value)}" for key, value in params.items() if key not in committed or committed[key] != value]
    words = ["dvc", "exp", "run", *(word for change in changed for word in ("-S", _quoted(change)))]
    apply = " && git apply code.patch" if patch() else ""
    return f"git checkout {commit()[:12] or '<commit>'}{apply} && {' '.join(words) if changed else 'dvc repro'}"


def source() -> dict[str, str]:
    """Facts on the code, as tags."""
    remote = _git("config", "--get", "remote.origin.url")
    return {
        "git.commit": commit(),
        "mlflow.source.git.commit": commit(),  # MLflow's own names, for the columns of its table
        "mlflow.source.name": f"dvc exp run -n {os.environ['DVC_EXP_NAME']}" if "DVC_EXP_NAME" in os.environ else "dvc repro",
        "mlflow.user": _user(),
        "git.branch": _branch(),
        "git.remote": re.sub(r"//[^/@]*@", "//", remote),  # https://user:token@host: the token is nobody's business
        "git.dirty": "yes" if patch() else "no",
    }


def machine() -> dict[str, str]:
    """Facts on the machine, as tags, beside those that training gives (device, CPU, torch, threads)."""
    facts = {
        "machine.host": platform.node(),
        "machine.platform": platform.platform(),
        "machine.cores": str(psutil.cpu_count(logical=False) or psutil.cpu_count() or ""),
        "machine.memory_gib": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "machine.gpus": ", ".join(_gpus()) or "none",
    }
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


def _code_files() -> list[Path]:
    found: list[Path] = []
    for path in map(Path, CODE):
        found += path.rglob("*.py") if path.is_dir() else [path] if path.is_file() else []
    return found


def _git(*words: str, env: Mapping[str, str] | None = None) -> str:
    """A git command's output without the last line end; empty when it fails or git is not there."""
    with suppress(OSError):
        done = subprocess.run(["git", *words], capture_output=True, env=env, check=False)
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")
    return ""


def _branch() -> str:
    """The branch checked out here; empty for none, as while `dvc exp run` works."""
    return _git("symbolic-ref", "--quiet", "--short", "HEAD")


def _override(value: Any) -> str:
    """A value as `dvc exp run -S key=...` takes it, which is Hydra's grammar: text that could be read otherwise is quoted."""
    if isinstance(value, list):
        return f"[{','.join(map(_override, value))}]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    if re.fullmatch(r"[A-Za-z][\w./@-]*( [\w./@-]+)*", value) and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    return '"' + re.sub(r'(\\*)("|$)', lambda end: end[1] * 2 + ('\\"' if end[2] else ""), value) + '"'


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\"'\"'") + "'"


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
