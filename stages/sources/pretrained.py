"""Pretrained network: the weights that `init_from` names, on the Hugging Face Hub or in a folder, checked before any work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import GPT2Config
from model.hf_layouts import CONFIG, INDEX, PICKLED, WEIGHTS, check_weights, read_config, read_weights, weight_files
from stages.common import addresses, files
from stages.common.errors import UserError
from stages.corpus import initial
from stages.corpus.tokenizer import BYTES, END_OF_TEXT, GPT2_SIZE, Tokenizer
from stages.sources import checksums
from stages.sources.hub_errors import Wanted, explained
from stages.sources.local_files import HUB_ID, existing, name_of

TIMEOUT = 20  # seconds for the Hub's first answer
TOKENIZER, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"


@dataclass(frozen=True)
class Repository:
    """Where a network lies."""

    name: str  # as `init_from` says it; of an absolute path its last part
    revision: str | None  # a commit of the Hub; None for a folder
    names: Collection[str]  # its files
    fetch: Callable[[str], Path]  # makes one of them a local file


@dataclass(frozen=True)
class Pretrained:
    """A network that was fetched and checked."""

    about: dict[str, Any]  # what about.json says of it
    paths: dict[str, Path]  # its files, by the names that they get in data/download/init
    tokenizer: Tokenizer  # its own


def identify(init_from: str, revision: str | None) -> dict[str, Any]:
    """Which network exactly `init_from` names: its commit on the Hub, or the checksums of what is read in a folder.

    They are the same for what `write` makes of it, so a run can be rebuilt from that.

    Raises:
        UserError: there is no such network, or it cannot be read.
    """
    folder = _folder(init_from)
    with _repository(init_from, revision) as repository:
        if folder is None:
            return {"name": init_from, "revision": repository.revision}
        _, tokenizer = _describe(repository)
    sums = checksums.sha256([folder / name for name in sorted(_names(repository))])
    files_read = {path.name: digest for path, digest in sums.items()}
    vocabulary = hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
    return {"name": repository.name, "files": files_read, "tokenizer": vocabulary}


def open_network(init_from: str, revision: str | None, params: Mapping[str, Any]) -> Pretrained:
    """Fetch the network's files, its weights last, and check all that can be wrong with them.

    Args:
        init_from: a Hub id, or a folder in Hugging Face's layout, which goes before a Hub id of the same spelling.
        revision: of the Hub; None = the newest commit.
        params: all params: those of the shape must be the network's.

    Raises:
        UserError: there is no such network, it cannot be read, or it is another one than the params describe.
    """
    with _repository(init_from, revision) as repository:
        config, tokenizer = _describe(repository)
        shape = _shape(config, tokenizer)
        initial.check_shape(init_from, shape, params)
        names = _names(repository)
        with _in_words(repository):
            paths = {name: repository.fetch(name) for name in names}
            shards = [path for name, path in paths.items() if not name.endswith(".json")]
            weights = read_weights(shards)
            check_weights(config, weights, shards[0])
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise UserError(f"init_from: {init_from}: its weights are not finite numbers. Give another network")
    if more := config.vocab_size - tokenizer.vocab_size:
        print(f"init_from: {more:,} rows of the embedding belong to no token of the tokenizer: they are not used")
    about = {"init_from": repository.name, "revision": repository.revision, "shape": shape}
    return Pretrained(about, paths, tokenizer)


def shape_of(init_from: str, revision: str | None) -> dict[str, Any]:
    """The params that the network decides, and its context as `block_size`; see `open_network`, which has the same errors."""
    with _repository(init_from, revision) as repository:
        return _shape(*_describe(repository))


def write(network: Pretrained | None, folder: Path) -> None:
    """Write data/download/init; without a network only an about.json, which says so."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if network is None:
        files.write_json(folder / "about.json", {"init_from": None})
        return
    for name, path in network.paths.items():
        with files.atomic(folder / name) as temporary:
            shutil.copyfile(path, temporary)
    files.write_text(folder / TOKENIZER, network.tokenizer.to_json())
    sums = {name: files.digest(folder / name) for name in [*network.paths, TOKENIZER]}
    files.write_json(folder / "about.json", network.about | {"files": sums})


def _folder(init_from: str) -> Path | None:
    """The folder that `init_from` names; None = a Hub id."""
    if path := existing(init_from):
        if not path.is_dir():
            raise UserError(f"init_from: {init_from} is no folder. Give the folder that has config.json and the weights")
        return path
    if HUB_ID.fullmatch(init_from):
        return None
    given = addresses.shown(init_from) or "an address" if "://" in init_from else init_from
    raise UserError(
        f"init_from: {given}: no such folder here. Give a folder in Hugging Face's layout, or a Hub id as in "
        "openai-community/gpt2, or null"
    )


@contextmanager
def _repository(init_from: str, revision: str | None) -> Iterator[Repository]:
    """Where the network is; what the Hub's libraries raise in the block is explained."""
    if (folder := _folder(init_from)) is not None:
        yield Repository(name_of(init_from), None, {path.name for path in folder.iterdir()}, folder.joinpath)
        return
    without = (
        f"To do without the Hub: fetch the network where there is one (hf download {init_from} --local-dir FOLDER) "
        "and give that folder as init_from"
    )
    with explained(Wanted("init_from", "init_revision", "network", init_from, revision, without)):
        from huggingface_hub import HfApi, hf_hub_download

        info = HfApi().model_info(init_from, revision=revision, timeout=TIMEOUT)
        commit = str(info.sha)
        names = {file.rfilename for file in info.siblings or []}
        yield Repository(init_from, commit, names, lambda name: Path(hf_hub_download(init_from, name, revision=commit)))


def _names(repository: Repository) -> list[str]:
    """The files that are read, the tokenizer's apart: the config, the index of the shards if there are any, the weights."""
    with _in_words(repository):
        names = weight_files(repository.names, repository.fetch)
    if names[0] in (WEIGHTS, PICKLED):
        return [CONFIG, *names]
    return [CONFIG, f"{WEIGHTS if names[0].endswith('.safetensors') else PICKLED}{INDEX}", *names]


def _describe(repository: Repository) -> tuple[GPT2Config, Tokenizer]:
    """What can be known without the weights."""
    if CONFIG not in repository.names:
        raise UserError(f"init_from: {repository.name} has no {CONFIG}: it is not a network in Hugging Face's layout")
    with _in_words(repository):
        config = read_config(repository.fetch(CONFIG))
        return config, _tokenizer(repository, config)


def _shape(config: GPT2Config, tokenizer: Tokenizer) -> dict[str, Any]:
    decided: dict[str, Any] = {"vocabulary": "full" if tokenizer.vocab_size == GPT2_SIZE else "corpus"}
    decided |= {key: getattr(config, key) for key in initial.SHAPE if key != "vocabulary"}
    return decided | {"block_size": config.block_size}


def _tokenizer(repository: Repository, config: GPT2Config) -> Tokenizer:
    """The network's own tokenizer: GPT-2's, or a part of it."""
    whole = Tokenizer.gpt2()
    if TOKENIZER in repository.names:
        raw = _json(repository.fetch(TOKENIZER))
        model, added = raw.get("model", {}), raw.get("added_tokens", [])
        tokens = dict(model.get("vocab", {})) | {one["content"]: one["id"] for one in added}
        merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges", [])]
    elif {VOCABULARY, MERGES} <= set(repository.names):
        tokens = _json(repository.fetch(VOCABULARY))
        lines = repository.fetch(MERGES).read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    elif config.vocab_size >= GPT2_SIZE:
        return whole
    else:
        raise ValueError(f"it has {config.vocab_size:,} tokens and no {TOKENIZER}")
    theirs = json.loads(whole.to_json())["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(theirs["merges"])}
    tokens = {token: place for token, place in tokens.items() if place <= tokens.get(END_OF_TEXT, -1)}  # others' pads follow
    in_order = sorted(tokens, key=lambda token: theirs["vocab"].get(token, -1))
    ordered = [ranks.get(pair, -1) for pair in merges]
    if (
        tokens != {token: place for place, token in enumerate(in_order)}
        or not tokens.keys() <= theirs["vocab"].keys()
        or ordered != sorted(set(ordered) - {-1})
        or len(tokens) != BYTES + len(merges) + 1
    ):
        raise ValueError("its tokenizer is neither GPT-2's nor a part of it; this pipeline has no other")
    if len(tokens) > config.vocab_size:
        raise ValueError(f"its tokenizer has {len(tokens):,} tokens, its {CONFIG} only {config.vocab_size:,} (vocab_size)")
    return Tokenizer.from_bpe(tokens, merges)


def _json(path: Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from None


@contextmanager
def _in_words(repository: Repository) -> Iterator[None]:
    """What `model` says of a file, with the key and without the folder that the file was fetched into."""
    try:
        yield
    except ValueError as error:
        if type(error) is not ValueError:  # the Hub's libraries have heirs of it
            raise
        folder = f"{repository.fetch(CONFIG).parent}{os.sep}"
        raise UserError(f"init_from: {repository.name}: {str(error).replace(folder, '')}. Give another network") from error
