"""A small Hugging Face Hub on 127.0.0.1, for tests: one data set repository over HTTP, with the faults that a net has.

It speaks what huggingface_hub and datasets ask of the real Hub: revision, tree, paths-info and files with byte ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Hub:
    """What the server serves, and what went over the wire."""

    repo: str
    revision: str  # a commit: 40 hex digits
    files: Mapping[str, bytes]
    card: Mapping[str, Any] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # for the next file requests: "drop" or a status as "500"; "" = none
    always: str | None = None  # the same for every request
    requests: list[str] = field(default_factory=list)
    sent: int = 0  # bytes of files
    endpoint: str = ""


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends; `hub.endpoint` is the value for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        self._posted = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if self.hub.always and self._fail(self.hub.always):
            return
        if match := re.fullmatch(r"/datasets/(.+?)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups(), body)
        elif match := re.fullmatch(r"/api/datasets/(.+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?", path):
            self._api(*match.groups())
        else:
            self._json(404, {"error": f"no such page: {path}"})

    def _known(self, repo: str, revision: str) -> bool:
        if repo != self.hub.repo:
            self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif revision not in (self.hub.revision, "main"):
            self._json(404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def _api(self, repo: str, what: str | None, revision: str | None, below: str | None) -> None:
        if not self._known(repo, revision or "main"):
            return
        if what in (None, "revision"):
            siblings = [{"rfilename": name} for name in self.hub.files]
            info = {"id": repo, "sha": self.hub.revision, "private": False, "tags": [], "downloads": 0, "likes": 0}
            self._json(200, info | {"siblings": siblings, "cardData": dict(self.hub.card)})
        elif what == "tree":
            self._json(200, self._tree(below or "", "recursive" in parse_qs(urlsplit(self.path).query)))
        else:
            asked = parse_qs(self._posted).get("paths") or json.loads(self._posted).get("paths", [])
            self._json(200, [entry for entry in self._tree("", True) if entry["path"] in asked])

    def _tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        prefix = f"{below}/" if below else ""
        entries: dict[str, dict[str, Any]] = {}
        for name, content in self.hub.files.items():
            if not name.startswith(prefix):
                continue
            parts = name.removeprefix(prefix).split("/")
            for depth in range(1, len(parts)):
                folder = prefix + "/".join(parts[:depth])
                entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
            entries[name] = {"type": "file", "path": name, "oid": _oid(content), "size": len(content)}
        wanted = entries.values() if recursive else [e for e in entries.values() if "/" not in e["path"].removeprefix(prefix)]
        return sorted(wanted, key=lambda entry: entry["path"])

    def _file(self, repo: str, revision: str, name: str, body: bool) -> None:
        if not self._known(repo, revision):
            return
        content = self.hub.files.get(name)
        if content is None:
            self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(asked[1]), int(asked[2] or len(content) - 1) + 1) if asked else (0, len(content))
        part = content[start:end]
        drop = body and bool(self.hub.failures) and (failure := self.hub.failures.pop(0)) and failure
        if drop and drop != "drop" and self._fail(drop):
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{_oid(content)}"')
        self.send_header("X-Repo-Commit", self.hub.revision)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.end_headers()
        if body:
            part = part[: len(part) // 2] if drop else part
            self.wfile.write(part)
            self.hub.sent += len(part)
            self.close_connection = bool(drop)

    def _fail(self, failure: str) -> bool:
        if failure == "drop":
            self.close_connection = True
        else:
            self._json(int(failure), {"error": "the server is out of order"})
        return True

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, text)
        if "error" in value:
            self.send_header("X-Error-Message", value["error"])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
