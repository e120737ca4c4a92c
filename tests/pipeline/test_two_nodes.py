"""One training on two nodes, which are network name spaces here: docs/scaling.md's commands, with a CPU and gloo."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from project import Project, assert_complete, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # seconds: real pipelines, perhaps on a busy machine
    pytest.mark.kind("a training on two nodes, one of them killed"),
]
PORT = 29500
TORCHRUN = "torchrun --nnodes 2 --nproc-per-node 1 --master-addr {} --master-port {} --node-rank {}"


@pytest.fixture
def nodes() -> Iterator[tuple[list[str], list[str], str, str]]:
    """Two name spaces with a link between them: the words that start a program in each, the first one's address, the link."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network name spaces need root and iproute2")
    number = os.getpid()
    one, two, address = f"one-{number}", f"two-{number}", f"10.{200 + number % 50}.{number % 250}."

    def ip(*words: str) -> int:
        return subprocess.run(["ip", *words], capture_output=True).returncode

    try:
        if ip("netns", "add", one) or ip("netns", "add", two):
            pytest.skip("network name spaces are not allowed here")
        if ip("link", "add", "link0", "netns", one, "type", "veth", "peer", "name", "link0", "netns", two):
            pytest.skip("virtual links are not allowed here")
        for last, name in ((1, one), (2, two)):
            for words in (f"addr add {address}{last}/24 dev link0", "link set link0 up", "link set lo up"):
                assert ip("-n", name, *words.split()) == 0
        yield ["ip", "netns", "exec", one], ["ip", "netns", "exec", two], f"{address}1", "link0"
    finally:
        for name in (one, two):
            ip("netns", "del", name)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9 for a node's processes: all at once, in whatever group they are."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for each in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def losses(project: Project) -> list[float]:
    """The training loss of each step."""
    with (project.folder / "data" / "train" / "history.csv").open(encoding="utf-8") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_two_nodes_train_one_network(nodes: tuple[list[str], list[str], str, str], finished: Project, tmp_path: Path) -> None:
    """The losses are those of one process to rounding; after kill -9 of one node the same commands go on, to one whole run."""
    first, second, address, link = nodes
    project = finished.duplicate(tmp_path / "project")
    project.env["GLOO_SOCKET_IFNAME"] = link
    alone = losses(project)
    launcher = f"launcher={TORCHRUN.format(address, PORT, 0)}"
    pipeline = [*first, sys.executable, "-m", "dvc", "exp", "run", "-n", "two-nodes", "-S", launcher]
    join = [*second, sys.executable, "-m", "torch.distributed.run", *TORCHRUN.format(address, PORT, 1).split()[1:]]
    join += ["-m", "stages.train"]

    def start(number: int) -> list[subprocess.Popen[bytes]]:
        found = []
        for words in (pipeline, join):
            log = (tmp_path / f"{number}-{len(found)}.log").open("wb")
            options = {"cwd": project.folder, "env": project.environment(), "stdout": log, "stderr": subprocess.STDOUT}
            found.append(subprocess.Popen(words, **options))  # type: ignore[call-overload]
        return found

    def said(number: int) -> str:
        return "".join((tmp_path / f"{number}-{place}.log").read_text(errors="replace") for place in (0, 1))

    head, other = start(1)
    try:
        wait_for(lambda: project.checkpointed() or head.poll() is not None)
        kill(other)
        assert head.wait(600) != 0, "the step needs both"
        assert project.checkpointed(), said(1)
        head, other = start(2)
        assert (head.wait(600), other.wait(600)) == (0, 0), said(2)
    finally:
        for process in (head, other):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                kill(process)
    assert "resuming from step" in said(2)
    assert losses(project) == pytest.approx(alone, rel=1e-4)
    assert losses(project) != alone, "two processes add in another order; equal bits would mean that one did it all"
    run = next(run for run in project.runs() if run.name == "two-nodes")
    assert_complete(run, project)
    assert run.tags["machine.processes"] == "2"
    assert run.tags["pipeline.resumed"] == "1"
