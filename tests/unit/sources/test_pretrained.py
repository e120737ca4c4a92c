"""init_from: a network of the Hub or a folder is fetched whole and checked, or refused in one message before any work."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

import gpt2_folder
import pytest
from gpt2_folder import NETWORK
from hub_server import Hub, hub_of_this_process
from refusal import digests, refused
from safetensors.torch import load_file, save_file
from stage_runs import call_stage, write_params
from tiny import save_model

from model import hf
from stages import train
from stages.common import files
from stages.corpus.tokenizer import GPT2_SIZE, Tokenizer

REPO = "somebody/gpt2-tiny"
COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in two files with an index."""
    folder = tmp_path_factory.mktemp("sharded")
    gpt2_folder.write(folder, max_shard_size="2MB")
    return folder


@pytest.fixture
def project(tokenized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that has been downloaded and tokenized."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return Path(shutil.copytree(tokenized, tmp_path / "project"))


@pytest.fixture
def hub(sharded: Path, tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Makes a Hub that serves the network, for this process."""
    with ExitStack() as opened:

        def make(without: str = "", more: dict[str, bytes] | None = None, **options: Any) -> Hub:
            served = {path.name: path.read_bytes() for path in sharded.iterdir() if path.name != without} | (more or {})
            server = Hub(REPO, COMMIT, served, kind="models", **options)
            return opened.enter_context(hub_of_this_process(server, tmp_path / "cache"))

        yield make


def about(project: Path) -> dict[str, Any]:
    """What data/download/init says of itself."""
    return dict(json.loads((project / "data/download/init/about.json").read_text()))


def test_a_network_of_the_hub_is_fetched_with_its_tokenizer(project: Path, sharded: Path, hub: Callable[..., Hub]) -> None:
    """The files of the newest commit, which is recorded, with their checksums; a file that broke off is fetched again."""
    hub(failures=["", "", "drop"])
    write_params(project, NETWORK | {"init_from": REPO})
    done = call_stage(project, "download")
    assert done.returncode == 0, done.stderr
    folder, facts = project / "data/download/init", about(project)
    assert (facts["init_from"], facts["revision"]) == (REPO, COMMIT)
    kept = {"config.json", "model.safetensors.index.json", *(path.name for path in sharded.glob("model-*"))}
    assert set(facts["files"]) == kept | {"tokenizer.json"}
    assert all(files.digest(folder / name) == facts["files"][name] for name in facts["files"])
    assert all(files.digest(folder / name) == files.digest(sharded / name) for name in kept)
    assert (folder / "tokenizer.json").read_text() == Tokenizer.gpt2().to_json()
    assert call_stage(project, "tokenize").returncode == 0
    assert json.loads((project / "data/tokenize/meta.json").read_text())["vocab_size"] == GPT2_SIZE


@pytest.mark.parametrize(
    ("options", "params", "words"),
    [
        ({"without": "model-00002-of-00002.safetensors"}, {}, [REPO, "model-00002-of-00002.safetensors is missing"]),
        ({"without": "config.json"}, {}, [REPO, "has no config.json"]),
        ({}, {"init_revision": "f" * 40}, ["init_revision", "has no revision ffff", "null for its newest"]),
        (
            {},
            {"init_from": "somebody/else"},
            ["init_from: somebody/else is neither a file here", "hf auth login"],
        ),
        ({"gated": True}, {}, [f"init_from: {REPO}", "private or gated", "hf auth login"]),
        ({"more": {"config.json": b'{"model_type": "llama"}'}}, {}, [REPO, "model_type is 'llama', not 'gpt2'"]),
        ({"more": {"config.json": b"<html>"}}, {}, [REPO, "config.json is damaged"]),
        ({"always": "500"}, {}, [REPO, "the Hub returned an error", "give that folder as init_from"]),
    ],
)
def test_what_the_hub_does_not_have_is_one_message(
    options: dict[str, Any],
    params: dict[str, Any],
    words: list[str],
    project: Path,
    hub: Callable[..., Hub],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing shard, commit, permission or network, and another kind: one message, and what was there stays."""
    server = hub(**options)
    write_params(project, NETWORK | {"init_from": REPO} | params)
    refused(project, "download", words, capsys)
    asked = [request for request in server.requests if "model-00001" in request]
    assert not asked, "weights were fetched before the rest was checked"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"n_embd": 32}, ["has n_embd 16 (not 32)", "-S init_from=../net -S n_embd=16"]),
        ({"n_layer": 3, "n_head": 1}, ["n_layer 2 (not 3), n_head 2 (not 1)", "-S n_layer=2 -S n_head=2"]),
        ({"position": "sinusoidal", "tie_embeddings": False}, ["-S position=learned -S tie_embeddings=true"]),
        ({"block_size": 64, "stride": 64}, ["block_size 40 (not 64)", "-S block_size=40 -S stride=40", "may also be smaller"]),
        ({"init_from": "../nothing"}, ["init_from: ../nothing: no such folder here"]),
        ({"init_from": "params.yaml"}, ["init_from: params.yaml is no folder"]),
        ({"init_from": "data"}, ["init_from: data has no config.json"]),
    ],
)
def test_the_shape_is_the_network_s(
    params: dict[str, Any], words: list[str], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Params of another shape, or a name with nothing behind it, are refused with the exact words to type."""
    gpt2_folder.write(tmp_path / "net")
    write_params(project, NETWORK | {"init_from": "../net"} | params)
    refused(project, "download", words, capsys)


def test_each_stage_checks_the_shape(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When only a param of the shape changes, download does not run again: the stage that reads it refuses."""
    gpt2_folder.write(tmp_path / "net")
    write_params(project, NETWORK | {"init_from": "../net"})
    for stage in ("download", "tokenize"):
        assert call_stage(project, stage).returncode == 0
    for stage, change in (("tokenize", {"vocabulary": "corpus"}), ("train", {"n_layer": 1}), ("train", {"block_size": 41})):
        write_params(project, NETWORK | {"init_from": "../net"} | change)
        refused(project, stage, [f"-S {next(iter(change))}="], capsys)


def test_our_own_network_brings_its_pruned_vocabulary(project: Path) -> None:
    """A folder that the stage train wrote is a network to start from; other stories are cut into its tokens, not GPT-2's."""
    own = Tokenizer.load(project / "data/tokenize/tokenizer.json")
    save_model(project, n_layer=2, position="sinusoidal")
    (project / "mine.txt").write_text("A zebra quickly vexed my fjord.\n" * 20)
    write_params(project, {"init_from": "data/train/model", "dataset": "mine.txt", "max_val_samples": 2})
    for stage in ("download", "tokenize"):
        done = call_stage(project, stage)
        assert done.returncode == 0, done.stderr
    assert (project / "data/tokenize/tokenizer.json").read_text() == own.to_json()
    assert json.loads((project / "data/tokenize/meta.json").read_text())["vocab_size"] == own.vocab_size


def test_a_table_that_others_trained_further_is_learned(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network of ours with sinusoidal positions, whose table another tool has trained: the words to type say learned."""
    save_model(project, n_layer=2, position="sinusoidal")
    weights = load_file(project / "data/train/model/model.safetensors")
    weights["transformer.wpe.weight"][3] += 0.1
    save_file(weights, project / "data/train/model/model.safetensors")
    (project / "data/train/model").rename(project / "net")
    write_params(project, {"init_from": "net"})
    assert call_stage(project, "download").returncode == 0
    refused(project, "train", ["position: sinusoidal, but init_from has learned positions", "-S position=learned"], capsys)
    write_params(project, {"init_from": "net", "position": "learned", "epochs": 0})
    assert call_stage(project, "download").returncode == 0
    with chdir(project):
        train.main(Namespace(no_log=True))


@pytest.mark.parametrize("kind", ["another BPE", "no tokenizer", "too many tokens"])
def test_a_foreign_vocabulary_is_refused(kind: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tokenizer that is not GPT-2's or a part of it, or does not fit the network, is refused."""
    folder = tmp_path / "net"
    gpt2_folder.write(folder)
    found = json.loads(Tokenizer.gpt2().to_json())
    if kind == "another BPE":
        found["model"]["merges"][5], found["model"]["merges"][4] = found["model"]["merges"][4], found["model"]["merges"][5]
        (folder / "tokenizer.json").write_text(json.dumps(found))
    else:
        config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 1000}
        (folder / "config.json").write_text(json.dumps(config))
        if kind == "too many tokens":
            (folder / "tokenizer.json").write_text(json.dumps(found))
    words = {
        "another BPE": "its tokenizer is neither GPT-2's nor a part of it",
        "no tokenizer": "it has 1,000 tokens and no tokenizer.json",
        "too many tokens": "its tokenizer has 50,257 tokens, its config.json only 1,000",
    }
    write_params(project, NETWORK | {"init_from": "../net"})
    refused(project, "download", [words[kind]], capsys)


def test_rows_of_no_token_are_not_used(project: Path, tmp_path: Path) -> None:
    """A vocabulary that others padded, or gave a token for padding, is GPT-2's with rows that nothing reads."""
    import transformers

    net = gpt2_folder.write(tmp_path / "net")
    net.resize_token_embeddings(50_304)
    net.save_pretrained(tmp_path / "net")
    tokenizer = json.loads(Tokenizer.gpt2().to_json())
    tokenizer["added_tokens"] = [{"id": 50_257, "content": "[PAD]"}]
    (tmp_path / "net/tokenizer.json").write_text(json.dumps(tokenizer))
    assert transformers.AutoConfig.from_pretrained(tmp_path / "net").vocab_size == 50_304
    write_params(project, NETWORK | {"init_from": str(tmp_path / "net"), "epochs": 0})
    assert "47 rows of the embedding belong to no token" in call_stage(project, "download").stdout
    assert call_stage(project, "tokenize").returncode == 0
    with chdir(project):
        train.main(Namespace(no_log=True))
    assert hf.load(project / "data/train/model").config.vocab_size == GPT2_SIZE
    assert str(tmp_path) not in (project / "data/download/init/about.json").read_text()


def test_a_second_download_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    """Nothing of an earlier network is left, and nothing in the folder depends on when or where it was made."""
    gpt2_folder.write(tmp_path / "net", max_shard_size="2MB")
    write_params(project, NETWORK | {"init_from": "../net"})
    assert call_stage(project, "download").returncode == 0
    first = digests(project / "data/download")
    write_params(project, {})
    assert call_stage(project, "download").returncode == 0
    assert about(project) == {"init_from": None}
    write_params(project, NETWORK | {"init_from": "../net"})
    assert call_stage(project, "download").returncode == 0
    assert digests(project / "data/download") == first
