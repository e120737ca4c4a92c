"""Real servers for the tests, on 127.0.0.1 and a free port: MLflow, PostgreSQL, OpenSSH, an S3 API."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

LIGHT = {  # of MLflow's server only what is tested
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens at the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(words: list[str], ready: Callable[[], bool], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, from when it is ready to the end of the block."""
    with open(log, "wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, **options)  # type: ignore[call-overload]
        try:
            end = time.monotonic() + 300  # a busy machine takes a minute
            while not ready():
                assert process.poll() is None, log.read_text(errors="replace")[-2000:]
                assert time.monotonic() < end, log.read_text(errors="replace")[-2000:]
                time.sleep(0.1)
            yield process
        finally:
            end_group(process, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                end_group(process, signal.SIGKILL)
                process.wait()


def end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a server and its workers: one whose launcher alone is killed goes on answering."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def mlflow_server(store: str, folder: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`mlflow server` with its runs in `store` and its files in the folder: its address and process."""
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    words = ["-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination", str(folder), "--workers", "1"]
    words += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= LIGHT
    log = folder.parent / "mlflow.log"
    with running([sys.executable, *words], lambda: healthy(address), log, env=environment, cwd=folder.parent) as process:
        yield address, process


def healthy(address: str) -> bool:
    """Whether MLflow's server answers there."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster of its own: the URI of an empty database."""
    pytest.importorskip("psycopg", reason="psycopg[binary] is not installed (requirements-dev.txt)")
    places = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)]
    found = next((Path(place).resolve().parent for place in places if place), None)
    if found is None:
        pytest.skip("no PostgreSQL server here (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-", dir="/tmp"))  # a short path: it holds a socket
    user: dict[str, object] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        owner = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    try:
        data, port = folder / "data", free_port()
        init = [str(found / "initdb"), "-D", str(data), "-U", "mlflow", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]
        serve = [
            str(found / "postgres"),
            "-D",
            str(data),
            "-p",
            str(port),
            "-c",
            "listen_addresses=127.0.0.1",
            "-k",
            str(folder),
        ]

        def ready() -> bool:
            words = [str(found / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "runs"]
            return subprocess.run(words, capture_output=True, cwd=folder).returncode == 0

        with running(serve, ready, folder / "log", cwd=folder, **user):
            yield f"postgresql://mlflow:secret-word@127.0.0.1:{port}/runs"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ssh_server(folder: Path) -> Iterator[tuple[int, Path]]:
    """An OpenSSH server that lets the holder of a new key in as this user: its port, the private key's path."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        pytest.skip("no OpenSSH server here (apt-get install openssh-server)")
    pytest.importorskip("dvc_ssh", reason="dvc-ssh is not installed (requirements-dev.txt)")
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    port, config = free_port(), folder / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder / 'user.pub'}\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server started by root locks its unprivileged part in
    with running([sshd, "-D", "-e", "-f", str(config)], lambda: answers(port), folder / "sshd.log"):
        yield port, folder / "user"


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """A server of S3's API with an empty bucket `runs`: its address. It takes any key."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed (requirements-dev.txt)")
    pytest.importorskip("moto.server", reason="moto[server] is not installed (requirements-dev.txt)")
    import boto3

    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(words, lambda: answers(port), folder / "s3.log"):
        address = f"http://127.0.0.1:{port}"
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "word", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="runs")
        yield address
