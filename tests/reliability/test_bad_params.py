"""params.yaml: whatever is wrong in it is reported in one message, before any work."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from refusal import check_message, digests, refused
from repository import COMMITTED
from stage_runs import TINY, call_stage, run_stage

from stages.common.params import read_yaml, write_yaml
from stages.tracking import pipeline

pytestmark = pytest.mark.kind("bad params.yaml")

MISSING = ...
TEXT: str = write_yaml(COMMITTED | TINY)


def edited(changes: Mapping[str, Any]) -> str:
    """The file with these values instead; MISSING takes the key out."""
    values = read_yaml(TEXT) | dict(changes)
    return write_yaml({key: value for key, value in values.items() if value is not MISSING})


def laughs(depth: int = 9) -> str:
    """A few lines that stand for 10^depth values ("billion laughs")."""
    lines = ["prompt:", "- &a0 ha"]
    lines += [f"- &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(depth)]
    return re.sub(r"^prompt:.*$", "\n".join(lines), TEXT, flags=re.MULTILINE)


VALUES: list[tuple[dict[str, Any], list[str]]] = [  # what is changed; what the message must say
    # missing, unknown, misspelt
    ({"seed": MISSING}, ["1 problem", "seed: missing", "git checkout params.yaml"]),
    ({"colour": "blue"}, ["colour: unknown key", "remove it"]),
    ({"n_embd": MISSING, "n_embed": 16}, ["n_embed: unknown key; did you mean n_embd?", "n_embd: missing"]),
    ({1: 2, None: 3}, ["1: unknown key", "None: unknown key"]),
    # wrong type
    ({"n_layer": "twelve"}, ["n_layer: 'twelve'", "integer"]),
    ({"epochs": 2.5}, ["epochs: 2.5", "integer"]),
    ({"batch_size": True}, ["batch_size: True", "integer"]),
    ({"batch_size": {"size": 4}}, ["batch_size", "integer"]),
    ({"learning_rate": None}, ["learning_rate: None", "number"]),
    ({"learning_rate": "fast"}, ["learning_rate: 'fast'", "give a number"]),
    ({"dropout": True}, ["dropout: True", "give a number, not true or false"]),
    ({"causal": "false"}, ["causal: 'false'", "boolean"]),
    ({"tie_embeddings": 1}, ["tie_embeddings: 1", "boolean"]),
    ({"dataset": 5}, ["dataset: 5", "string"]),
    ({"dataset": None}, ["dataset: None", "string"]),
    ({"prompt": 5}, ["prompt: 5", "string", "needs quotes", "-S 'prompt=\"...\"'"]),
    ({"prompt": True}, ["prompt: True", "string", "needs quotes"]),
    ({"prompt": {"Once": "a time"}}, ["prompt: {'Once': 'a time'}", "string", "needs quotes"]),
    ({"prompt": None}, ["prompt: None", "string"]),
    ({"dataset_revision": 1234567}, ["dataset_revision: 1234567", "string", "-S 'dataset_revision=\"...\"'"]),
    ({"init_from": 5}, ["init_from: 5", "string"]),
    ({"init_revision": 5}, ["init_revision: 5", "string"]),
    ({"prompt": ["a", 5]}, ["prompt", "string"]),
    ({"min_learning_rate": 0.001}, ["min_learning_rate: 0.001", "a share of learning_rate", "1/10"]),  # what it was before
    ({"min_learning_rate": "tenth"}, ["min_learning_rate: 'tenth'", "a share of learning_rate"]),
    ({"min_learning_rate": "1/0"}, ["min_learning_rate: '1/0'", "a share of learning_rate"]),
    # out of range
    ({"min_learning_rate": "3/2"}, ["min_learning_rate: '3/2'", "up to 1/1"]),
    ({"max_samples": -5}, ["max_samples: -5", "greater than or equal to 1"]),
    ({"max_samples": 10**30}, ["max_samples: 1000", "less than or equal to"]),
    ({"n_embd": 10**9}, ["n_embd: 1000000000", "less than or equal to"]),
    ({"epochs": -1}, ["epochs: -1", "greater than or equal to 0"]),
    ({"init_from": ""}, ["init_from: ''", "at least 1 character"]),
    ({"block_size": -1}, ["block_size: -1", "greater than or equal to 1"]),
    ({"learning_rate": float("nan")}, ["learning_rate: nan", "finite"]),
    ({"learning_rate": float("inf")}, ["learning_rate: inf", "finite"]),
    ({"weight_decay": -0.1}, ["weight_decay: -0.1", "greater than or equal to 0"]),
    ({"dropout": 1.0}, ["dropout: 1.0", "less than 1"]),
    ({"top_p": 0}, ["top_p: 0", "greater than 0"]),
    ({"top_k": 0}, ["top_k: 0", "greater than or equal to 1"]),
    ({"temperature": -1}, ["temperature: -1", "greater than or equal to 0"]),
    ({"temperature": float("nan")}, ["temperature: nan", "finite"]),
    ({"seed": -1}, ["seed: -1", "greater than or equal to 0"]),
    ({"seed": 2**40}, ["seed: 1099511627776", "less than 4294967296"]),
    ({"threads": -2}, ["threads: -2", "greater than or equal to 0"]),
    ({"checkpoint_every": 0}, ["checkpoint_every: 0", "greater than or equal to 1"]),
    ({"prompt": "a" * 1_000_000}, ["prompt: 'aaa", "at most 10000 characters"]),
    ({"prompt": []}, ["prompt: []", "at least 1 item"]),
    ({"dataset": ""}, ["dataset: ''", "at least 1 character"]),
    # not one of the choices
    ({"vocabulary": "bpe"}, ["vocabulary: 'bpe'", "'corpus' or 'full'"]),
    ({"optimizer": "sgd"}, ["optimizer: 'sgd'", "'adamw' or 'muon'"]),
    ({"position": "relative"}, ["position: 'relative'", "'sinusoidal' or 'learned'"]),
    ({"keep": "first"}, ["keep: 'first'", "'last' or 'best'"]),
    ({"device": "gpu"}, ["device: 'gpu'", "auto|cpu|cuda"]),
    ({"launcher": "python; touch owned"}, ["launcher: 'python; touch owned'", "pattern"]),
    ({"launcher": "torchrun $(touch owned)"}, ["launcher", "pattern"]),
    # contradictory
    ({"n_head": 3}, ["n_head: 3 does not divide n_embd (16)", "take a divisor"]),
    ({"stride": 33}, ["stride: 33 is above block_size (32)", "lower it"]),
    ({"eval_stride": 33}, ["eval_stride: 33 is above block_size (32)", "lower it"]),
    ({"max_samples": None}, ["max_samples: the storybook has no end", "give a number"]),
    ({"max_val_samples": None}, ["max_val_samples: the storybook has no end", "give a number"]),
    ({"sharding": "fsdp"}, ["sharding: fsdp needs several processes", "set launcher"]),
    # many at once
    ({"seed": MISSING, "colour": 1, "top_p": 0, "n_layer": "x"}, ["4 problems", "seed", "colour", "top_p", "n_layer"]),
    ({"n_head": 3, "stride": 33, "eval_stride": 33}, ["3 problems", "n_head: 3", "stride: 33", "eval_stride: 33"]),
]

FILES: dict[str, tuple[str | bytes, list[str]]] = {  # what the whole file is
    "empty": ("", ["params.yaml", "it holds nothing", "git checkout params.yaml"]),
    "only comments": ("# nothing\n", ["params.yaml", "it holds nothing"]),
    "a list": ("- a\n- b\n", ["params.yaml", "it holds a list", "key: value"]),
    "one text": ("hello\n", ["params.yaml", "it holds one text"]),
    "no key at all": ("{}", ["problems", "seed: missing"]),
    "a key twice": (f"{TEXT}seed: 5\n", ["params.yaml", "seed: given twice", "keep one"]),
    "YAML 1.1's yes": (TEXT.replace("causal: true", "causal: yes"), ["causal: 'yes'", "boolean"]),
    "a time, not a number": (TEXT.replace("seed: 1337", "seed: 1:30"), ["seed: '1:30'", "integer"]),
    "a number in quotes": (TEXT.replace("dropout: 0.0", "dropout: '0.1'"), ["dropout: '0.1'", "give a number"]),
    "a tab": (TEXT.replace("seed: ", "\tseed: "), ["params.yaml is not YAML", "line", "tab character"]),
    "an open quote": (f'{TEXT}prompt2: "never closed\n', ["params.yaml is not YAML", "quoted scalar"]),
    "two documents": (f"{TEXT}---\n{TEXT}", ["params.yaml is not YAML", "another document"]),
    "a Python object": (f"{TEXT}colour: !!python/object/apply:os.system ['touch owned']\n", ["params.yaml is not YAML", "tag"]),
    "an unknown alias": (f"{TEXT}colour: *nothing\n", ["params.yaml is not YAML", "undefined alias"]),
    "a thousand brackets": ("[" * 5_000, ["params.yaml is not YAML"]),
    "a billion laughs": (laughs(), ["prompt"]),
    "not UTF-8": (TEXT.encode() + b"# caf\xe9\n", ["params.yaml is not UTF-8", "save it as UTF-8"]),
    "UTF-16": (TEXT.encode("utf-16"), ["params.yaml is not UTF-8", "save it as UTF-8"]),
    "binary": (bytes(range(256)) * 4, ["params.yaml is not"]),
    "a NUL": (TEXT.replace("storybook", "story\0book"), ["params.yaml is not YAML"]),
    "a key that is a list": (f"{TEXT}? [a, b]\n: 1\n", ["params.yaml"]),
}


@pytest.fixture(scope="module")
def folder(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with outputs, for all cases: none may change them."""
    return Path(shutil.copytree(tokenized, tmp_path_factory.mktemp("params") / "project"))


@pytest.mark.parametrize(("changes", "words"), VALUES, ids=[str(next(iter(changes.items())))[:40] for changes, _ in VALUES])
def test_a_wrong_value_is_refused_by_its_key(
    folder: Path, changes: dict[str, Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that is missing, unknown, of another type, out of range or against another one is named, with what to do."""
    (folder / "params.yaml").write_text(edited(changes), encoding="utf-8")
    refused(folder, "download", ["params.yaml has", *words], capsys)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_mapping_is_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A params.yaml that is no flat YAML mapping is refused in one sentence."""
    content, words = FILES[name]
    (folder / "params.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(folder, "download", words, capsys)
    assert not (folder / "owned").exists()


def test_a_missing_file_says_where_to_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without params.yaml, as when started from another folder, the message says where to start."""
    (folder / "params.yaml").unlink(missing_ok=True)
    refused(folder, "download", ["params.yaml is missing", "Run from the project's folder"], capsys)


def test_a_folder_in_its_place_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder named params.yaml is not a file."""
    (folder / "params.yaml").unlink(missing_ok=True)
    (folder / "params.yaml").mkdir()
    try:
        refused(folder, "download", ["params.yaml", "folder stands where a file is expected", "Move it away"], capsys)
    finally:
        (folder / "params.yaml").rmdir()


@pytest.mark.parametrize("stage", pipeline.stages())
def test_every_stage_checks_all_of_it(folder: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong value stops every stage, not only the one that reads it: it is found before the first hour of work."""
    (folder / "params.yaml").write_text(edited({"top_p": 0, "n_head": 3}), encoding="utf-8")
    refused(folder, stage, ["params.yaml has", "top_p: 0"], capsys)


@pytest.mark.parametrize("how", ["--debug", "DEBUG"])
def test_debug_shows_the_traceback(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--debug` or DEBUG=1 shows the traceback before the message."""
    (folder / "params.yaml").write_text("[]")
    if how == "DEBUG":
        monkeypatch.setenv("DEBUG", "1")
    message = call_stage(folder, "download", *(["--debug"] if how == "--debug" else [])).stderr
    assert "Traceback" in message
    assert message.splitlines()[-1].startswith("error: params.yaml must hold")


def test_a_command_shows_one_message_and_nothing_else(folder: Path) -> None:
    """What the cases above see from inside is what a user sees: exit code 1, one message on standard error, nothing else."""
    (folder / "params.yaml").write_text(edited({"top_p": 0}), encoding="utf-8")
    before = digests(folder)
    done = run_stage(folder, "generate")
    assert done.returncode == 1
    assert done.stdout == ""
    check_message(done.stderr, ["top_p: 0"])
    assert digests(folder) == before
