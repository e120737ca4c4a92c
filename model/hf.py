"""Hugging Face's GPT2LMHeadModel folder: written from our network, read back into it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model.config import GPT2Config
from model.gpt2 import GPT2, POSITION_SCALE, sinusoidal_positions

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # GPT-2's Conv1D keeps (in, out), nn.Linear (out, in)
PREFIX = "transformer."  # of all but the head; checkpoints of the bare GPT2Model have none
BUFFERS = (".attn.bias", ".attn.masked_bias")  # masks that old checkpoints carry
SIZES = {key: key for key in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")} | {"n_positions": "block_size"}
FIXED: dict[str, Any] = {  # what our network always does, under transformers' names and its defaults
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


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
    weights = {PREFIX + name: _stored(name, tensor) for name, tensor in ours.items()}
    if not net.config.tie_embeddings:  # else transformers ties it again
        weights["lm_head.weight"] = _stored("lm_head.weight", head)
    generation = {
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end_of_text),
        "max_length": net.config.block_size,  # without it, transformers' pipeline writes beyond the context, which fails
        "do_sample": True,
    }
    _replace(folder / WEIGHTS, lambda path: save_file(weights, path, metadata={"format": "pt"}))
    _replace(folder / GENERATION, lambda path: _write_json(path, generation))
    _replace(folder / CONFIG, lambda path: _write_json(path, _to_json(net.config, end_of_text)))


def load(folder: Path | str) -> GPT2:
    """Read a folder that `save` wrote, or any single-file GPT-2 checkpoint: float32, on the CPU, in evaluation mode.

    Raises:
        ValueError: a file is missing, damaged, or of another architecture.
    """
    folder = Path(folder)
    config = _from_json(folder / CONFIG)
    theirs = _read(folder / WEIGHTS, load_file, "damaged or no safetensors file")
    weights = {
        name.removeprefix(PREFIX): _stored(name, tensor) for name, tensor in theirs.items() if not name.endswith(BUFFERS)
    }
    _check_sizes(config, weights, folder / WEIGHTS)
    config = _with_positions_as_stored(config, weights.get("wpe.weight"))
    if config.tie_embeddings and "wte.weight" in weights:
        weights["lm_head.weight"] = weights["wte.weight"]
    with torch.device("meta"), _NoInitialisation():
        net = GPT2(config)
    _check(net, weights, folder / WEIGHTS)
    if config.position == "sinusoidal":
        weights["wpe.weight"] = sinusoidal_positions(config.block_size, config.n_embd) * POSITION_SCALE
    net.load_state_dict(weights, assign=True)
    if config.tie_embeddings:
        net.lm_head.weight = net.wte.weight
    net.wpe.weight.requires_grad_(config.position == "learned")
    return net.eval()


class _NoInitialisation(TorchFunctionMode):
    """Skips `torch.nn.init`. On the meta device it costs only the import of `torch._dynamo`: a second of each start."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _stored(name: str, tensor: Tensor) -> Tensor:
    """The tensor in the layout of transformers' GPT-2, or back in ours: it is the same function in both directions."""
    tensor = tensor.detach().to("cpu", torch.float32)
    return (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()


def _with_positions_as_stored(config: GPT2Config, table: Tensor | None) -> GPT2Config:
    """The config, with learned positions where the stored ones are not the sinusoidal table.

    To other tools the table is a weight like the others. They train it further, and leave our key `position` as it was.
    """
    if config.position != "sinusoidal" or table is None:
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


def _from_json(path: Path) -> GPT2Config:
    raw = _read(path, lambda path: json.loads(path.read_text(encoding="utf-8")), "damaged")
    if not isinstance(raw, dict) or raw.get("model_type") != "gpt2":
        kind = raw.get("model_type") if isinstance(raw, dict) else type(raw).__name__
        raise ValueError(f"{path}: model_type is {kind!r}, not 'gpt2'; this network is GPT-2 only")
    for key, value in FIXED.items():
        if raw.get(key, value) != value:
            raise ValueError(f"{path}: {key} is {raw[key]!r}; this network has {value!r} only")
    try:
        if raw.get("n_inner") not in (None, 4 * raw["n_embd"]):
            raise ValueError(f"n_inner is {raw['n_inner']}; this network has 4 * n_embd only")
        return GPT2Config(
            **{ours: raw[theirs] for theirs, ours in SIZES.items()},
            dropout=raw.get("resid_pdrop", 0.0),
            position=raw.get("position", "learned"),
            causal=raw.get("is_causal", True),
            tie_embeddings=raw.get("tie_word_embeddings", True),
        )
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} is missing") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _check_sizes(config: GPT2Config, weights: dict[str, Tensor], path: Path) -> None:
    """Raise ValueError where a size in the config is not the weights': a network of that size might never be built."""
    sizes = {"n_layer": len({name.split(".")[1] for name in weights if name.startswith("h.")})}
    for name, keys in (("wte.weight", ("vocab_size", "n_embd")), ("wpe.weight", ("block_size", "n_embd"))):
        if name in weights:  # its absence is reported later
            sizes |= zip(keys, weights[name].shape, strict=False)
    for key, size in sizes.items():
        if getattr(config, key) != size:
            raise ValueError(f"{path} does not fit {CONFIG}: its {key} is {size}, not {getattr(config, key)}")


def _check(net: GPT2, weights: dict[str, Tensor], path: Path) -> None:
    """Raise ValueError unless every tensor is there, with its shape, and no other."""
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    for what, names in (("missing", wanted.keys() - weights.keys()), ("unknown", weights.keys() - wanted.keys())):
        if names:
            raise ValueError(f"{path} does not fit {CONFIG}: {len(names)} {what} tensors, such as {min(names)}")
    for name, shape in wanted.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{path} does not fit {CONFIG}: {name} is {tuple(weights[name].shape)}, not {shape}")


def _read(path: Path, read: Callable[[Path], Any], otherwise: str) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        return read(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is {otherwise} ({error})") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8", newline="\n")


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside `path`, sync it, put it in place: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors makes files for their owner only
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
