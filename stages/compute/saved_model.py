"""Saved networks: the trained one, checked against the tokens that it is used with, and the one that training started from."""

from __future__ import annotations

from pathlib import Path

from model import GPT2, GPT2Config, hf
from stages.common import files
from stages.common.errors import UserError


def load(model: Path, tokens: Path) -> GPT2:
    """The network in data/train/model, float32 on the CPU, in evaluation mode; `tokens` is data/tokenize.

    Raises:
        UserError: a file is missing or damaged, or the network was trained on another vocabulary's tokens.
    """
    files.require(model / "config.json", made_by="train")
    try:
        net = hf.load(model)
    except ValueError as error:
        raise UserError(f"{error}. Recreate it: dvc repro -f train") from error
    size = files.read_json(tokens / "meta.json", made_by="tokenize")["vocab_size"]
    theirs, ours = _vocabulary(model, made_by="train"), _vocabulary(tokens, made_by="tokenize")
    if net.config.vocab_size != size or theirs != ours:
        raise UserError(
            f"{model} does not belong to {tokens}: it was trained on another vocabulary ({net.config.vocab_size:,} tokens, "
            f"not these {size:,}). Run `dvc repro`, which trains it again"
        )
    return net


def load_initial(folder: Path, config: GPT2Config) -> GPT2:
    """The network in data/download/init with this config: later positions cut off, in evaluation mode, float32 on the CPU.

    Raises:
        UserError: a file is missing or damaged, or the network does not fit the config.
    """
    changes = {"block_size": config.block_size, "vocab_size": config.vocab_size}
    try:
        net = hf.load(folder, **changes, dropout=config.dropout, causal=config.causal)
        if net.config.position != config.position:
            found = net.config.position
            raise UserError(f"position: {config.position}, but init_from has {found} positions. Type -S position={found}")
        if net.config != config:
            raise ValueError(f"{folder} is another network than config.json of the trained one describes")
    except ValueError as error:
        raise UserError(f"{error}. Recreate it: dvc repro -f download") from error
    return net


def _vocabulary(folder: Path, made_by: str) -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """The tokens and merges of a folder's tokenizer.json: other tools write the same tokenizer in other bytes."""
    path = folder / "tokenizer.json"
    try:
        model = files.read_json(path, made_by)["model"]
        return model["vocab"], [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    except (KeyError, TypeError) as error:
        raise files.damaged(path, repr(error), made_by) from error


def not_finite() -> UserError:
    """The error for a network whose losses or logits are not finite numbers."""
    return UserError(
        "data/train/model: the network's predictions are not finite: the weights are damaged, or their training diverged. "
        "Look at the training's losses; train again: dvc repro -f train"
    )
