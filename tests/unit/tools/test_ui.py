"""`make ui`: a port that cannot be used is one sentence, before anything is made or shown."""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import pytest

from stages.common.errors import UserError
from tools import ui

pytestmark = pytest.mark.kind("odd environment")


@pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["this address", "all addresses"])
def test_a_taken_port_is_one_sentence_before_the_link(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program on the port, macOS's AirPlay or another checkout: which port, what to type, no link and no new store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port {port} cannot be used \(another program.*make ui PORT={port + 1}$"):
            ui.main(argparse.Namespace(port=port))
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())


def test_a_free_port_is_used() -> None:
    """Also right after a server there has ended."""
    with socket.socket() as before:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind(("127.0.0.1", 0))
        before.listen()
        port = before.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            before.accept()[0].close()
    ui.need_port(port)


def test_the_store_s_address_is_on_no_command_line() -> None:
    """Every user of a machine can read the command lines: a database's password must not stand there."""
    assert not [word for word in ui.server(5000) if "store" in word or "://" in word]


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http"])
def test_what_is_no_port_is_refused(text: str) -> None:
    """In one sentence that names it."""
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no port"):
        ui.port_number(text)
