"""The interpreter that most tests fork: a command cannot tell that it was forked and not executed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import interpreter
import pytest
from stage_runs import environment

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every command is executed")
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
    "has no file open": "import os; print(len(os.listdir('/dev/fd')))",
    "knows no other project": "import sys; print({'stages', 'model', 'tools', 'pytest', 'interpreter'} & set(sys.modules))",
    "starts another": "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'raise SystemExit(7)']).returncode)",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_nothing_is_different(script: str, tmp_path: Path) -> None:
    """Status, output and last message are those of `python -c`, and what a process finds at its start is the same."""
    words, env = ["-c", script, "one", "two"], environment(tmp_path)
    forked = interpreter.run(words, tmp_path, env, input="a line\n")
    executed = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=env, input="a line\n", capture_output=True, text=True, check=False
    )
    assert (forked.returncode, forked.stdout) == (executed.returncode, executed.stdout)
    assert forked.stderr.splitlines()[-1:] == executed.stderr.splitlines()[-1:]


@linux
@pytest.mark.parametrize(
    ("setting", "forked"), [({}, True), ({"PYTHONHASHSEED": "1"}, False), ({"LC_ALL": "C"}, False), ({"A_NAME": "x"}, True)]
)
def test_what_is_forked(setting: dict[str, str], forked: bool, tmp_path: Path) -> None:
    """Libraries are there from the start, unless the environment has other settings for the start of Python."""
    done = interpreter.run(["-c", PRELOADED], tmp_path, environment(tmp_path) | setting)
    assert done.stdout == f"{forked}\n"


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
