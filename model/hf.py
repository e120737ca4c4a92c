"""Hugging Face's GPT2LMHeadModel folder: written from our network, read back into it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model.config import GPT2Config
from model.gpt2 import GPT2, POSITION_SCALE, sinusoidal_positions
from model.hf_layouts import (
    CONFIG,
    FIXED,
    PREFIX,
    SIZES,
    WEIGHTS,
    check_weights,
    read_config,
    read_weights,
    stored,
    weight_files,
)

GENERATION = "generation_config.json"


def save(net: GPT2, folder: Path | str, end_of_text: int | None = None) -> None:
    """Write config.json, generation_config.json and model.safetensors: the same bytes for the same weights.

    Each file is written under another name and renamed, so it is never half-written. The position table is stored as `wpe`
    whether it is learned or sinusoidal, so transformers computes the same logits. Weights are stored in float32. Generation
    starts from `end_of_text`, the token between texts, draws each token, and stops at `end_of_text` or where the context ends.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ours = net.state_dict()
    head = ours.pop("lm_head.weight")
    weights = {PREFIX + name: stored(name, tensor) for name, tensor in ours.items()}
    if not net.config.tie_embeddings:  # else transformers ties it again
        weights["lm_head.weight"] = stored("lm_head.weight", head)
    generation = {
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text),
        "max_length": net.config.block_size,  # without it, transformers' pipeline writes beyond the context, which fails
        "do_sample": True,
    }
    _write(folder / WEIGHTS, safetensors.torch.save(weights, metadata={"format": "pt"}))
    _write(folder / GENERATION, _json(generation))
    _write(folder / CONFIG, _json(_to_json(net.config, end_of_text)))


def load(folder: Path | str, **changes: Any) -> GPT2:
    """Read a folder that `save` wrote, or a GPT-2 of anybody's: float32, on the CPU, in evaluation mode.

    Args:
        folder: in one of the forms that `model.hf_layouts` knows.
        changes: fields of the network's config to have instead of the folder's: `block_size` and `vocab_size`, which may be
            smaller (positions and tokens are cut off at the end), `dropout` and `causal`.

    Raises:
        ValueError: a file is missing, damaged, or of another architecture.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    paths = [folder / name for name in weight_files(names, folder.joinpath, f"{folder}{os.sep}")]
    weights = read_weights(paths)
    check_weights(config, weights, paths[0])
    config = replace(_with_positions_as_stored(config, weights["wpe.weight"]), **changes)
    weights["wpe.weight"] = weights["wpe.weight"][: config.block_size]
    for name in ("wte.weight", "lm_head.weight"):
        if name in weights:
            weights[name] = weights[name][: config.vocab_size]
    if config.tie_embeddings:
        weights["lm_head.weight"] = weights["wte.weight"]
    if config.position == "sinusoidal":
        weights["wpe.weight"] = sinusoidal_positions(config.block_size, config.n_embd) * POSITION_SCALE
    with torch.device("meta"), _NoInitialization():
        net = GPT2(config)
    net.load_state_dict(weights, assign=True)
    if config.tie_embeddings:
        net.lm_head.weight = net.wte.weight
    net.wpe.weight.requires_grad_(config.position == "learned")
    return net.eval()


class _NoInitialization(TorchFunctionMode):
    """Skips `torch.nn.init`. On the meta device it costs only the import of `torch._dynamo`: a second of each start."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _with_positions_as_stored(config: GPT2Config, table: Tensor) -> GPT2Config:
    """The config, with learned positions where the stored ones are not the sinusoidal table.

    To other tools the table is a weight like the others. They train it further, and leave our key `position` as it was.
    """
    if config.position != "sinusoidal":
        return config
    sinusoidal = POSITION_SCALE * sinusoidal_positions(config.block_size, config.n_embd)
    rounding = torch.finfo(torch.float32).eps  # another machine's sine may differ in the last digit
    same = torch.allclose(table, sinusoidal, rtol=rounding, atol=0.0)
    return config if same else replace(config, position="learned")


def _to_json(config: GPT2Config, end_of_text: int | None) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        "n_ctx": config.block_size,  # the older name of n_positions, which llama.cpp's converter reads
        "n_inner": None,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
        "is_causal": config.causal,  # transformers follows it too
        "position": config.position,  # ours: transformers reads the table from the weights
        **FIXED,
        "initializer_range": 0.02,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "use_cache": config.causal,  # without a mask, earlier keys change with each new token
        "dtype": "float32",
    }


def _json(value: dict[str, Any]) -> bytes:
    return f"{json.dumps(value, indent=2)}\n".encode()


def _write(path: Path, content: bytes) -> None:
    """Write a file beside `path`, sync it, put it in place: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
