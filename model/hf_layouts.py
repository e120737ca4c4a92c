"""Layouts: the forms in which a GPT-2 lies in a Hugging Face folder, read as our config and our tensors, float32.

Weights are one file or shards with an index, safetensors or PyTorch's own format, in any floating-point type, with or without
the prefix `transformer.`, with or without the masks that old checkpoints carry. What is another computation is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.config import GPT2Config

CONFIG, WEIGHTS, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"  # of shards, after the name that one file would have
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # GPT-2's Conv1D keeps (in, out), nn.Linear (out, in)
PREFIX = "transformer."  # of all but the head; checkpoints of the bare GPT2Model have none
BUFFERS = (".attn.bias", ".attn.masked_bias")  # masks that old checkpoints carry
SIZES = {key: key for key in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")} | {"n_positions": "block_size"}
ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")
FIXED: dict[str, Any] = {  # what our network always does, under transformers' names and its defaults
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
SAME = {"activation_function": "gelu_pytorch_tanh"}  # another name of the same function
ABSENT = ("pruned_heads", "quantization_config", "auto_map")  # change shapes, numbers or code where they are not empty


def read_config(path: Path) -> GPT2Config:
    """The shape that a config.json describes; the dropout is that of its residual stream.

    Raises:
        ValueError: the file is missing or damaged, or describes another computation: by the key's name.
    """
    raw = _read(path, lambda path: json.loads(path.read_text(encoding="utf-8")), "damaged")
    if not isinstance(raw, dict) or raw.get("model_type") != "gpt2":
        kind = raw.get("model_type") if isinstance(raw, dict) else type(raw).__name__
        raise ValueError(f"{path}: model_type is {kind!r}, not 'gpt2'; this network is GPT-2 only")
    for name in raw.get("architectures") or []:
        if name not in ARCHITECTURES:
            raise ValueError(f"{path}: architectures is {name!r}; this network is {' or '.join(ARCHITECTURES)} only")
    for key, value in FIXED.items():
        if raw.get(key, value) not in (value, SAME.get(key, value)):
            raise ValueError(f"{path}: {key} is {raw[key]!r}; this network has {value!r} only")
    for key in ABSENT:
        if raw.get(key):
            raise ValueError(f"{path}: {key} is {str(raw[key])[:60]!r}; this network has none")
    raw.setdefault("n_positions", raw.get("n_ctx"))  # the older name
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


def config_json(config: GPT2Config, end_of_text: int | None) -> dict[str, Any]:
    """What config.json says of a network of this shape; `end_of_text` is the token between texts."""
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


def weight_files(names: Collection[str], fetch: Callable[[str], Path], place: str = "") -> list[str]:
    """Which of a folder's files hold the weights: one file, or the shards that an index names; safetensors first.

    `names` are those of all files in the folder; `fetch` makes one of them a local file; `place` is the folder, for messages.

    Raises:
        ValueError: there are no weights, a shard is missing, or an index is damaged.
    """
    for whole in (WEIGHTS, PICKLED):
        if whole in names:
            return [whole]
        if f"{whole}{INDEX}" in names:
            index = fetch(f"{whole}{INDEX}")
            shards: set[str] = _read(
                index, lambda path: set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()), "damaged"
            )
            missing = sorted(str(shard) for shard in shards if shard not in names)
            if missing or not shards:
                raise ValueError(f"{place}{', '.join(missing[:3]) or 'every shard'} is missing; {index.name} names it")
            return sorted(shards)
    raise ValueError(f"{place}{WEIGHTS} is missing; neither its shards with an index nor {PICKLED} are there")


def read_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The tensors of these files under our names and in our layout, float32, on the CPU, as `hf.load` needs them.

    Nothing but tensors is read from PyTorch's own format (`weights_only`): no code in it runs.

    Raises:
        ValueError: a file is damaged, or a tensor holds no floating-point numbers.
    """
    weights: dict[str, Tensor] = {}
    for path in paths:
        if path.suffix == ".bin":
            theirs = _read(path, _load_pickled, "damaged or no PyTorch file")
        else:
            theirs = _read(path, load_file, "damaged or no safetensors file")
        for name, tensor in theirs.items():
            if name.endswith(BUFFERS):
                continue
            if not tensor.is_floating_point():
                raise ValueError(f"{path}: {name} holds {tensor.dtype}, not floating-point numbers")
            name = name.removeprefix(PREFIX)
            weights[name] = stored(name, tensor)
    return weights


def stored(name: str, tensor: Tensor) -> Tensor:
    """The tensor in the layout of transformers' GPT-2, or back in ours: it is the same function in both directions."""
    tensor = tensor.detach().to("cpu", torch.float32)
    return (tensor.t() if name.endswith(TRANSPOSED) else tensor).contiguous()


def check_weights(config: GPT2Config, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError unless the weights are those of a network of this shape: every tensor, in its size, and no other.

    A size in the config that is not the weights' is reported first: a network of that size might never be built.
    """
    sizes = {"n_layer": len({name.split(".")[1] for name in weights if name.startswith("h.")})}
    for name, keys in (("wte.weight", ("vocab_size", "n_embd")), ("wpe.weight", ("block_size", "n_embd"))):
        if name in weights:  # its absence is reported later
            sizes |= zip(keys, weights[name].shape, strict=False)
    for key, size in sizes.items():
        if getattr(config, key) != size:
            raise ValueError(f"{path} does not fit {CONFIG}: its {key} is {size}, not {getattr(config, key)}")
    wanted = _shapes(config)
    given = weights.keys() - ({"lm_head.weight"} if config.tie_embeddings else set())  # the embedding's, whatever is stored
    for what, names in (("missing", wanted.keys() - given), ("unknown", given - wanted.keys())):
        if names:
            raise ValueError(f"{path} does not fit {CONFIG}: {len(names)} {what} tensors, such as {min(names)}")
    for name, shape in wanted.items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{path} does not fit {CONFIG}: {name} is {tuple(weights[name].shape)}, not {shape}")


def _shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by our name; a tied head is no tensor of its own.

    It is written out, so that a stage that only checks weights need not depend on the network's code.
    """
    C, V = config.n_embd, config.vocab_size
    found: dict[str, tuple[int, ...]] = {"wte.weight": (V, C), "wpe.weight": (config.block_size, C)}
    linear = {"attn.c_attn": (3 * C, C), "attn.c_proj": (C, C), "mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    for layer in (f"h.{number}" for number in range(config.n_layer)):
        for name, shape in linear.items():
            found |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        found |= {f"{layer}.{norm}.{part}": (C,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")}
    found |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
    return found if config.tie_embeddings else found | {"lm_head.weight": (V, C)}


def _load_pickled(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises errors of many kinds
        if type(error).__name__ == "UnpicklingError":
            raise ValueError("it holds more than tensors, and its code is not run") from None
        raise ValueError(str(error).splitlines()[0][:100] if str(error) else type(error).__name__) from None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise ValueError("it holds more than tensors")
    return found


def _read(path: Path, read: Callable[[Path], Any], otherwise: str) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        return read(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is {otherwise} ({error})") from error
