"""The interpreter that most tests fork: what it forks behaves like what is executed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import interpreter
import psutil
import pytest
from project import container, wait_for
from stage_runs import environment

from stages.tracking import pipeline

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every command is executed")
LASTING = """
import os, pathlib, signal, time
pathlib.Path("pid").write_text(str(os.getpid()))
os.kill(%d, signal.SIGUSR1)
time.sleep(60)
"""
PRELOADED = "import sys; print('torch' in sys.modules)"
SCRIPTS = {
    "ends": "pass",
    "ends with a status": "raise SystemExit(3)",
    "ends without one": "raise SystemExit",
    "ends with a message": "raise SystemExit('a message')",
    "fails": "1 / 0",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "is interrupted": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "leaves work for the end": "import atexit, threading; atexit.register(print, 1); threading.Timer(0.1, print, [2]).start()",
    "has arguments": "import sys; print(sys.argv, __name__, sys.modules['__main__'].__dict__['sys'] is sys)",
    "has a folder and a path": "import os, sys; print(os.getcwd(), sys.path)",
    "has an environment": "import os; print(sorted(os.environ.items()))",
    "has signals": "import signal; print([(int(n), str(signal.getsignal(n))) for n in signal.valid_signals()])",
    "reads and writes": "import sys; print(input(), sys.stdout.encoding, sys.stdout.errors, 'é'); print('é', file=sys.stderr)",
    "is killed with words to say": "import os; print(1); print(2, flush=True); print(3); os.kill(os.getpid(), 9)",
    "has no file open": "import os; print(len(os.listdir('/dev/fd')))",
    "knows no other project": "import sys; print({'stages', 'model', 'tools', 'pytest', 'interpreter'} & set(sys.modules))",
    "starts another": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'raise SystemExit(7)']).returncode)",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nothing_is_different(script: str, unbuffered: str, tmp_path: Path) -> None:
    """Status, output and last message are those of `python -c`, and what a process finds at its start is the same."""
    words, env = ["-c", script, "one", "two"], environment(tmp_path, PYTHONUNBUFFERED=unbuffered)
    forked = interpreter.run(words, tmp_path, env, text="a line\n")
    executed = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=env, input="a line\n", capture_output=True, text=True, check=False
    )
    assert (forked.returncode, forked.stdout) == (executed.returncode, executed.stdout)
    assert forked.stderr.splitlines()[-1:] == executed.stderr.splitlines()[-1:]


@linux
@pytest.mark.parametrize(
    ("setting", "forked"), [({}, True), ({"A": "x"}, True), ({"PYTHONHASHSEED": "1"}, False), ({"LC_ALL": "C"}, False)]
)
def test_what_is_forked(setting: dict[str, str], forked: bool, tmp_path: Path) -> None:
    """Libraries are there from the start, unless the environment has other settings for the start of Python."""
    done = interpreter.run(["-c", PRELOADED], tmp_path, environment(tmp_path) | setting)
    assert done.stdout == f"{forked}\n"


def test_every_stage_can_be_forked() -> None:
    """The commands of dvc.yaml are those that are known here."""
    stages = pipeline.stages()
    assert all(interpreter.STAGE.fullmatch(stage["cmd"]) for stage in stages.values())


def test_a_stage_of_another_folder(tmp_path: Path) -> None:
    """A module comes from the folder that the environment names, however often one of its name ran before."""
    for text in ("first", "second"):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "stages.py").write_text(f"print({text!r})")
        done = interpreter.run(["-m", "stages"], folder, environment(tmp_path, PYTHONPATH=""))
        assert done.stdout == f"{text}\n", done.stderr


def test_what_subprocess_raises(tmp_path: Path) -> None:
    """A command that takes too long is killed, and one that cannot start says why, as with `subprocess.run`."""
    with pytest.raises(subprocess.TimeoutExpired):
        interpreter.run(["-c", "import time; time.sleep(60)"], tmp_path, environment(tmp_path), timeout=0.5)
    with pytest.raises(FileNotFoundError):
        interpreter.run(["-c", "pass"], tmp_path / "nowhere", environment(tmp_path))
    with pytest.raises(UnicodeDecodeError):
        interpreter.run(["-c", "import sys; sys.stdout.buffer.write(bytes([255]))"], tmp_path, environment(tmp_path))


@linux
def test_a_test_whose_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends with it, and the next command gets its own result."""

    def over(*_: object) -> None:
        raise TimeoutError

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGUSR1, over)
    try:
        with pytest.raises(TimeoutError):
            interpreter.run(["-c", LASTING % os.getpid()], tmp_path, environment(tmp_path))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    assert interpreter.run(["-c", "print('mine')"], tmp_path, environment(tmp_path)).stdout == "mine\n"


def start(script: str, folder: Path, name: str = "") -> subprocess.Popen[str]:
    """A script whose output can be read; `name`: of the container in which it runs."""
    return interpreter.start(["-c", script], folder, environment(folder), name, stdout=subprocess.PIPE, text=True)


def test_what_was_started(tmp_path: Path) -> None:
    """Processes run beside each other; each has its own streams, can be waited for and killed, and its end is known."""
    both = [start(f"import time; print({number}, flush=True); time.sleep(60)", tmp_path) for number in range(2)]
    for number, process in enumerate(both):
        assert process.stdout is not None
        assert process.stdout.readline() == f"{number}\n"
        assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        both[0].wait(0.1)
    both[0].kill()
    both[1].terminate()
    assert [process.wait(60) for process in both] == [-signal.SIGKILL, -signal.SIGTERM]
    assert [process.poll() for process in both] == [-signal.SIGKILL, -signal.SIGTERM]


@linux
def test_the_name_of_a_module(tmp_path: Path) -> None:
    """A forked module can be found among the processes."""
    (tmp_path / "forked.py").write_text("import time; print(flush=True); time.sleep(60)")
    process = interpreter.start(["-m", "forked"], tmp_path, environment(tmp_path), stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert psutil.Process(process.pid).name() == "forked"
    process.kill()
    process.wait()


@container
def test_a_container(tmp_path: Path) -> None:
    """It has its own host name and processes, of which the command is the first, and ends with what was started."""
    script = "import psutil, socket, time; print(socket.gethostname(), psutil.pids(), flush=True); time.sleep(60)"
    process = start(script, tmp_path, "elsewhere")
    assert process.stdout is not None
    assert process.stdout.readline() == "elsewhere [1]\n"
    (inside,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    wait_for(lambda: not inside.is_running() or inside.status() == psutil.STATUS_ZOMBIE)
    assert start("raise SystemExit(3)", tmp_path, "elsewhere").wait() == 3
    with pytest.raises(ValueError, match="no container elsewhere"):
        interpreter.start(["-c", script], tmp_path, environment(tmp_path) | {"PYTHONHASHSEED": "1"}, "elsewhere")
