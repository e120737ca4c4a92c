"""The Hub, over real HTTP on this machine: what is read, what a bad line costs, and what is said when it fails."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub, hub_of_this_process, serve
from stage_runs import call_stage, run_stage, write_params

REPO = "roneneldan/TinyStories"
REVISION = "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64"
OTHER = "0123456789abcdef" * 2 + "01234567"
FIRST, SECOND = "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"
VALIDATION = "data/validation-00000-of-00001.parquet"
Download = Callable[..., "subprocess.CompletedProcess[str]"]


@cache
def texts(shard: int, count: int, length: int = 300) -> list[str]:
    """Stories that do not compress, so that bytes on the wire tell what was read."""
    rng = random.Random(shard)
    return [f"Story {shard}/{i} {rng.randbytes(length).hex()}" for i in range(count)]


def shard(rows: list[str], group: int = 1000, **columns: list[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": rows, **columns}), out, row_group_size=group, use_dictionary=False)
    return out.getvalue()


@cache
def parquet_files() -> dict[str, bytes]:
    return {
        "README.md": b"---\nlicense: cdla-sharing-1.0\n---\n",
        FIRST: shard(texts(0, 20_000)),
        SECOND: shard(texts(1, 3000)),
        VALIDATION: shard(texts(2, 500)),
    }


def hub(files: dict[str, bytes] | None = None, **more: Any) -> Hub:
    return Hub(REPO, REVISION, parquet_files() if files is None else files, {"license": "cdla-sharing-1.0"}, **more)


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Download:
    """Runs the stage in a new project, with this Hub."""
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def run(server: Hub, **params: Any) -> subprocess.CompletedProcess[str]:
        write_project(tmp_path / "project", params)
        with hub_of_this_process(server, tmp_path / "cache"):
            return call_stage(tmp_path / "project", "download")

    return run


def write_project(folder: Path, params: dict[str, Any]) -> None:
    folder.mkdir()
    write_params(folder, {"dataset": REPO, "max_samples": 21_000, "max_val_samples": 100} | params)


def stories(tmp_path: Path, split: str = "train") -> list[str]:
    return pq.read_table(tmp_path / "project/data/download" / f"{split}.parquet")["text"].to_pylist()


def test_shards_are_read_in_order(tmp_path: Path, download: Download) -> None:
    """Training stories come from the shards in order, up to max_samples; about.json names commit, license and counts."""
    done = download(hub())
    assert done.returncode == 0, done.stderr
    assert stories(tmp_path) == (texts(0, 20_000) + texts(1, 3000))[:21_000]
    assert stories(tmp_path, "validation") == texts(2, 500)[:100]
    about = json.loads((tmp_path / "project/data/download/about.json").read_text())
    assert (about["dataset"], about["revision"], about["license"]) == (REPO, REVISION, "cdla-sharing-1.0")
    assert [about["splits"][split]["stories"] for split in ("train", "validation")] == [21_000, 100]
    assert str(tmp_path) not in json.dumps(about)


def test_the_cost_follows_max_samples(tmp_path: Path, download: Download) -> None:
    """A few stories of a large shard cost a few megabytes, not the shard; other columns are not sent."""
    wide = shard(texts(0, 20_000), blob=texts(3, 20_000, 2000))
    server = hub(parquet_files() | {FIRST: wide})
    done = download(server, max_samples=1000)
    assert done.returncode == 0, done.stderr
    assert stories(tmp_path) == texts(0, 20_000)[:1000]
    assert len(wide) > 80e6 > 15e6 > server.sent


FAULTS = {"a few stories": (21_000, ["500", "503", "drop", "", "drop"]), "whole files": (None, ["drop", "drop", "", "drop"])}


@pytest.mark.parametrize("wanted", FAULTS)
def test_a_bad_line_changes_nothing(tmp_path: Path, download: Download, wanted: str) -> None:
    """A download resumes where its connection broke off: the same stories, each once. For a few stories, a server's error is
    tried again too."""
    max_samples, faults = FAULTS[wanted]
    server = hub(failures=["", "", *faults])
    done = download(server, max_samples=max_samples)
    assert done.returncode == 0, done.stderr
    assert not server.failures
    assert stories(tmp_path) == (texts(0, 20_000) + texts(1, 3000))[:max_samples]


SEMICOLONS = b"""---
configs:
- config_name: default
  data_files: [{split: train, path: train.csv}, {split: test, path: test.csv}]
  sep: ";"
---
"""
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {  # what the server is, params, message
    "all requests fail": ({"always": "500"}, {}, "the Hub returned an error .*500"),
    "requests fail half way": (
        {"failures": ["", "", "", *["500"] * 1000]},
        {},
        "the Hub returned an error .*HF_ENDPOINT.*storybook",
    ),
    "wrong revision": ({}, {"dataset_revision": OTHER}, f"dataset_revision: {REPO} has no revision {OTHER}"),
    "wrong name": ({}, {"dataset": "roneneldan/TinyStory"}, "neither a file here nor a data set of the Hub"),
    "truncated file": ({"files": {**parquet_files(), FIRST: parquet_files()[FIRST][:-999]}}, {}, "cannot be read"),
    "no files": ({"files": {"README.md": b""}}, {}, "cannot be read"),
    "no training split": ({"files": {VALIDATION: parquet_files()[VALIDATION]}}, {}, "has no split `train`, only validation"),
    "no text column": (
        {"files": {"train.jsonl": b'{"story": "a"}\n', "test.jsonl": b'{"story": "a"}\n'}},
        {},
        "has no column `text`; it has story",
    ),
    "another kind of files": ({"files": {"train.zip": b"PK", "README.md": b""}}, {}, "cannot be read|not of one kind"),
    "options of a reader": (
        {"files": {"README.md": SEMICOLONS, "train.csv": b"text;n\na;1\n", "test.csv": b"text;n\na;1\n"}},
        {},
        "need the options sep",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hub_or_data_set_that_fails_is_one_message(tmp_path: Path, download: Download, case: str) -> None:
    """Whatever is wrong with the Hub or the data set is reported in one message that names the key, and nothing is written."""
    server, params, message = REFUSED[case]
    done = download(hub(**server), **params)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: dataset")
    assert re.search(message, last), last
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "project").rglob("*.parquet"))


def test_offline_no_request_is_made(tmp_path: Path) -> None:
    """HF_HUB_OFFLINE is respected: no request, and a message that names it."""
    write_project(tmp_path / "project", {})
    with serve(hub()) as server:
        done = run_stage(tmp_path / "project", "download", HF_ENDPOINT=server.endpoint, HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "HF_HUB_OFFLINE" in done.stderr
    assert server.requests == []


@pytest.mark.parametrize("with_test", [True, False])
def test_a_missing_validation_split_is_replaced(tmp_path: Path, download: Download, with_test: bool) -> None:
    """The test split is used for validation; without either every tenth story is held out."""
    rows = texts(1, 3000)
    files = {"train.parquet": shard(rows)} | ({"test.parquet": shard(texts(2, 500))} if with_test else {})
    server = hub(files)
    done = download(server, max_samples=None, max_val_samples=50)
    assert done.returncode == 0, done.stderr
    assert stories(tmp_path) == (rows if with_test else [row for i, row in enumerate(rows) if i % 10 != 9])
    assert stories(tmp_path, "validation") == (texts(2, 500)[:50] if with_test else rows[9:500:10])


def test_other_formats_and_the_newest_commit(tmp_path: Path, download: Download) -> None:
    """A data set of JSON lines is read as well; without a revision about.json says which commit it was."""
    files = {
        f"{split}.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in rows).encode()
        for split, rows in {"train": texts(1, 3000), "validation": texts(2, 500)}.items()
    }
    server = hub(files, failures=["drop"])
    done = download(server, dataset_revision=None, max_samples=2500)
    assert done.returncode == 0, done.stderr
    assert stories(tmp_path) == texts(1, 3000)[:2500]
    assert json.loads((tmp_path / "project/data/download/about.json").read_text())["revision"] == REVISION


def test_local_files_need_no_hub(tmp_path: Path, download: Download) -> None:
    """Reading a local file asks nobody: not one request."""
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts(1, 3000)))
    server = hub()
    done = download(server, dataset=str(tmp_path / "mine.jsonl"), max_samples=10)
    assert done.returncode == 0, done.stderr
    assert server.requests == []
