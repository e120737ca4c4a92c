"""Address: of a store, a server or a repository, as it may be shown: without what can be a secret."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

DATABASES = ("sqlite", "postgresql", "mysql", "mariadb", "mssql", "oracle")  # their addresses have SQLAlchemy's grammar
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
HIDDEN = "***"


def shown(address: str) -> str:
    """Scheme, host, port and path or database: no user, password, query or fragment. "" where it is in doubt which is which."""
    if re.match(r"[./~]", address):  # a path
        return address
    try:
        return _database(address) if is_database(address) else _server(address)
    except ValueError:
        return ""


def is_database(address: str) -> bool:
    """Whether it is the address of a database, such as `postgresql+psycopg://host/name`."""
    scheme, separator, _ = address.partition("://")
    return bool(separator) and scheme.partition("+")[0] in DATABASES


def without_secrets(text: str) -> str:
    """What a library says, without the secrets of the addresses in this environment, however the library has cut them up."""
    named = {name.upper(): value for name, value in os.environ.items()}
    for address in (named.get(variable, "").strip() for variable in VARIABLES):
        if not address:
            continue
        kept = shown(address)
        text = text.replace(address, kept or HIDDEN)
        known = _words(kept) | _words(address.partition(":")[0])  # the scheme says nothing
        for word in sorted((_words(address) | _words(unquote(address))) - known, key=len, reverse=True):
            alone = word.isascii() and len(word) < 4  # `a` is hidden where it stands alone, not within words
            pattern = rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])" if alone else word
            text = re.sub(pattern, HIDDEN, text, flags=re.IGNORECASE)
    return text


def _database(address: str) -> str:
    """Raises ValueError: SQLAlchemy cannot parse it, or what it takes for host or database may be part of a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except ArgumentError as error:
        raise ValueError(address) from error
    database = re.split("[;#]", url.database or "")[0]
    if url.get_backend_name() == "sqlite":
        return f"{url.drivername}:///{database}"
    rest = address if url.username is None else f"{url.host}{url.database}{dict(url.query)}"
    if "@" in rest:
        raise ValueError(address)
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host or ""
    return f"{url.drivername}://{host}{f':{url.port}' if url.port else ''}/{database}"


def _server(address: str) -> str:
    """Raises ValueError: it cannot be parsed, or what seems to be its host may be part of a user or password."""
    if "//" not in address:  # `host:port`, or `user@host:path` as git has it
        return re.split("[?#;]", address.rpartition("@")[2])[0]
    parts = urlsplit(address)
    _ = parts.port  # must be a number
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ValueError(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.partition(";")[0], "", ""))


def _words(text: str) -> set[str]:
    """The runs of letters and digits; of ASCII and of other letters apart, because libraries escape the latter."""
    return set(re.findall(r"[A-Za-z0-9]+|[^\W_A-Za-z0-9]+", text))
