"""Session: one invocation of DVC (or one stage run by hand), known in every process that belongs to it."""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

import psutil

from stages.common.errors import UserError

LAUNCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun and its like set, all of them

HOME = "GPT2_PIPELINE_HOME"  # the main checkout of a clone in its .dvc/tmp; tools set it


def project_root() -> Path:
    """The project's folder in the main checkout.

    DVC names its checkout (DVC_ROOT) even when it runs an experiment in a temporary copy; the project is at the same place in
    both. Without DVC it is the nearest folder upwards that holds a dvc.yaml. Git's top level may be a larger repository's.
    """
    here = Path.cwd()
    if main := os.environ.get("DVC_ROOT"):
        top = _nearest(here, ".dvc")
        return Path(main, here.relative_to(top)) if top else Path(main)
    return _nearest(here, "dvc.yaml") or _nearest(here, ".dvc") or here


def dvc_tmp() -> Path:
    """DVC's folder for temporary files in the main checkout, which git and DVC leave alone."""
    top = os.environ.get("DVC_ROOT") or _nearest(project_root(), ".dvc") or project_root()
    return Path(top) / ".dvc" / "tmp"


def dvc_pid() -> int:
    """The number of the DVC process above us, or of this process when a stage is run by hand.

    DVC has no name of its own for an invocation of `dvc repro`; its process is one. Where a program calls DVC as a library, it
    is that program's.

    Raises:
        UserError: DVC has ended, killed perhaps: our parent is the system's first process now.
    """
    if "DVC_STAGE" not in os.environ:
        return os.getpid()
    callers = []
    with suppress(psutil.Error):  # one of them has just ended
        process = psutil.Process().parent()
        while process is not None:
            words = _command(process)
            if _is_dvc(words):
                return process.pid
            if process.pid != 1 and _is_python(words):
                callers.append(process.pid)
            process = process.parent()
    if callers:
        return callers[0]
    raise UserError("the DVC that started this stage has ended, and nothing would use its result. Run `dvc repro` again")


def require_own_dvc() -> None:
    """Make sure that the DVC above us, if any, lives and works on this project. By hand, another's DVC_ROOT is ignored.

    Raises:
        UserError: it has ended, or its variables are those of another project, one of whose stages has started it.
    """
    if "DVC_STAGE" in os.environ and HOME in os.environ:
        os.environ["DVC_ROOT"] = os.environ[HOME]  # `dvc exp run` has named the clone
    dvc_root, top = os.environ.get("DVC_ROOT"), _nearest(Path.cwd(), ".dvc")
    foreign = False
    if dvc_root and top:
        main, copies = Path(dvc_root).resolve(), Path(dvc_root, ".dvc", "tmp").resolve()
        foreign = top.resolve() != main and not top.resolve().is_relative_to(copies)
    if "DVC_STAGE" not in os.environ:
        if foreign:
            del os.environ["DVC_ROOT"]
        return
    dvc_pid()
    if foreign:
        raise UserError(
            f"DVC_ROOT={dvc_root} is another project's; this one is {top}, and its runs and files would go there. "
            "Start DVC without that variable: env -u DVC_ROOT -u DVC_STAGE dvc repro"
        )


def rank_and_size() -> tuple[int, int]:
    """This process's number among those that train together, and how many they are.

    One of one where the variables are not complete, as a platform may leave them: they count for nothing.
    """
    values = [os.environ.get(name, "") for name in LAUNCH]
    if not all(values) or not (values[0].isdigit() and values[1].isdigit()):
        return 0, 1
    return int(values[0]), int(values[1])


def session_id() -> str:
    """The session's name: `host:pid:mark`. The mark tells a process from an earlier one of the same number, in a container or
    on a machine of the same name too."""
    pid = dvc_pid()
    facts = [_start(pid), _read("/proc/sys/kernel/random/boot_id")]
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/pid"))
    return f"{platform.node()}:{pid}:{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:8]}"


def wait_for_end(pid: int) -> None:
    """Return when the process has ended; it need not be a child of ours."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait()


def _nearest(folder: Path, name: str) -> Path | None:
    """The nearest folder upwards that holds something of this name."""
    return next((place for place in (folder, *folder.parents) if (place / name).exists()), None)


def _start(pid: int) -> str:
    """When the process began, by a clock that nobody sets: the kernel's ticks since it started."""
    if stat := _read(f"/proc/{pid}/stat"):
        return stat.rpartition(")")[2].split()[19]
    with suppress(psutil.Error):  # it has just ended
        return str(psutil.Process(pid).create_time())
    return ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _command(process: psutil.Process) -> list[str]:
    """The words of its command; none if it has just ended."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def _is_python(words: list[str]) -> bool:
    """Whether it is a Python program, but not a launcher of distributed training."""
    return bool(words) and "python" in Path(words[0]).name.lower() and "torch.distributed.run" not in words


def _is_dvc(words: list[str]) -> bool:
    """Whether it is `dvc ...`, `python .../dvc ...` or `python -m dvc ...`."""
    return any(Path(word).stem == "dvc" for word in words[:2]) or words[1:3] == ["-m", "dvc"]
