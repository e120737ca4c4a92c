"""Hugging Face's GPT2LMHeadModel folder: written from our network, read back into it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from model.gpt2 import GPT2, POSITION_SCALE, sinusoidal_positions
from model.hf_layouts import (
    CONFIG,
    PREFIX,
    WEIGHTS,
    check_weights,
    config_json,
    read_config,
    read_weights,
    stored,
    weight_files,
)


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
    with _atomic(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    for name, value in (("generation_config.json", generation), (CONFIG, config_json(net.config, end_of_text))):
        with _atomic(folder / name) as temporary:
            temporary.write_text(f"{json.dumps(value, indent=2)}\n")


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
    names = {path.name for path in folder.iterdir()}
    paths = [folder / name for name in weight_files(names, folder.joinpath, f"{folder}{os.sep}")]
    weights = read_weights(paths)
    check_weights(config, weights, paths[0])
    table = POSITION_SCALE * sinusoidal_positions(config.block_size, config.n_embd)
    rounding = torch.finfo(torch.float32).eps  # another machine's sine may differ in the last digit
    if not torch.allclose(weights["wpe.weight"], table, rtol=rounding, atol=0.0):
        config = replace(config, position="learned")  # other tools train the table further, and leave our key as it was
    config = replace(config, **changes)
    weights["wpe.weight"] = weights["wpe.weight"][: config.block_size]
    if config.tie_embeddings:
        weights["lm_head.weight"] = weights["wte.weight"]
    for name in ("wte.weight", "lm_head.weight"):
        weights[name] = weights[name][: config.vocab_size]
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


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; sync what was written there, put it in place: a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(mode)  # safetensors makes files for their owner only
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
