"""Addresses: what may be shown of one, and what a library says about it, without anything that can be a secret."""

from __future__ import annotations

import sys

import pytest

from stages.common import addresses, command
from stages.common.errors import UserError

pytestmark = pytest.mark.kind("security")

SHOWN = {  # SECRET stands where a user, a password, a query or a fragment can stand
    "postgresql://SECRET:ab/SECRET@127.0.0.1:1/runs": "postgresql://127.0.0.1:1/runs",
    "postgresql+psycopg://SECRET:x?SECRET@host/runs?sslpassword=SECRET": "postgresql+psycopg://host/runs",
    "postgresql://me:ab%40SECRET%2F@host:5432/runs": "postgresql://host:5432/runs",
    "postgresql://me:SECRET@[::1]:5432/runs#SECRET": "postgresql://[::1]:5432/runs",
    "postgresql://SECRET@/runs": "postgresql:///runs",
    "mssql+pyodbc:///?odbc_connect=DRIVER;PWD=SECRET": "mssql+pyodbc:///",
    "mysql+pymysql://SECRET:SECRET#x@host/db;password=SECRET": "mysql+pymysql://host/db",
    "https://SECRET:SECRET@example.org/mlflow/": "https://example.org/mlflow/",
    "http://me:a@SECRET@host:80": "http://host:80",
    "https://example.org/mlflow?token=SECRET#SECRET": "https://example.org/mlflow",
    "s3://SECRET:SECRET@bucket/path?X-Amz-Signature=SECRET": "s3://bucket/path",
    "file:///abs/fs?x=SECRET": "file:///abs/fs",
    "sqlite:////home/me@work/runs.db?key=SECRET": "sqlite:////home/me@work/runs.db",
    "sqlite:///runs.db#SECRET": "sqlite:///runs.db",
    "jdbc:postgresql://host/db?user=x&password=SECRET": "jdbc:postgresql://host/db",
    "me:SECRET@host:5000?x=SECRET": "host:5000",
    "SECRET@host:me/it.git": "host:me/it.git",
    "file:fs": "file:fs",
    "./a@b?c#d": "./a@b?c#d",
    "databricks": "databricks",
    "": "",
    # where it is in doubt what belongs to a password: nothing
    "postgresql://me:ab@SECRET@127.0.0.1:1/runs": "",
    "postgresql://me/x?SECRET@host/db": "",
    "http://me:pa/SECRET@host/path": "",
    "http://me:1#SECRET@host": "",
    "s3://SECRET:/SECRET@bucket": "",
    "jdbc:postgresql://me:SECRET@host/db": "",
    "http://[": "",
    "http://host:SECRET/": "",
}


@pytest.mark.parametrize("address", SHOWN)
def test_of_an_address_its_place_is_shown(address: str) -> None:
    """Scheme, host, port and path or database; nothing at all where the rest cannot be told from them."""
    assert addresses.shown(address) == SHOWN[address]


SAID = [  # how libraries name the address that they were given
    "cannot reach {}",
    "nonnumeric port: 'ab/geheim7'",
    "Max retries exceeded with url: /geheim7@host/x",
    "password authentication failed for user \"anna\" (b'caf\\xe9')",
    "no host 'CAFÉ@GEHEIM7'",
]


@pytest.mark.parametrize("address", ["http://anna:ab/café@geheim7@host/x", "postgresql://anna:ab%2Fcaf%C3%A9%40geheim7@host/x"])
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "HF_ENDPOINT", "https_proxy"])
def test_what_a_library_says_has_no_secret(variable: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, in pieces, decoded, or in other letters: user and password are hidden, and the rest can still be read."""
    monkeypatch.setenv(variable, address)
    for text in SAID:
        said = addresses.without_secrets(text.format(address)).lower()
        assert not [word for word in ("anna", "café", "caf\\", "geheim7", "caf%c3") if word in said], said
    assert addresses.without_secrets("it does not answer") == "it does not answer"


def test_a_traceback_has_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does the traceback that `--debug` shows."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:SECRET@host")
    monkeypatch.setattr(sys, "argv", ["tools/x.py"])

    def fail(args: object) -> None:
        raise UserError("no") from OSError("http://me:SECRET@host/api")

    with pytest.raises(SystemExit):
        command.run(fail, "", argv=["--debug"])
    said = capsys.readouterr().err
    assert "Traceback" in said and "http://host/api" in said
    assert "SECRET" not in said
