"""Everybody's GPT-2: each layout that exists gives transformers' logits; another computation is refused by the key's name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model import hf

VOCABULARY, CONTEXT = 70, 24
Edit = Callable[[Path], object]


def tokens(columns: int = CONTEXT) -> Tensor:
    """Random token ids."""
    return torch.randint(0, VOCABULARY, (3, columns), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs() -> Callable[..., Any]:
    """Makes transformers' GPT-2 with random weights, all of which matter."""
    import transformers

    def make(kind: str = "GPT2LMHeadModel", **changes: Any) -> Any:
        torch.manual_seed(0)
        shape = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2, "n_head": 4} | changes
        net = getattr(transformers, kind)(transformers.GPT2Config(**shape)).eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        return net

    return make


def pickled(folder: Path) -> None:
    """PyTorch's own format, which older repositories have, instead of safetensors."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_shards(folder: Path) -> None:
    """Two of these, with an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in parts.items():
        torch.save({name: weights[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()


def in_weights(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Edit:
    """An edit of the tensors."""

    def edit(folder: Path) -> None:
        save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")

    return edit


def in_config(**changes: Any) -> Edit:
    """An edit of config.json; a value of None takes the key away."""

    def edit(folder: Path) -> None:
        path = folder / "config.json"
        found = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return edit


def with_masks(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The Hub's openai-community/gpt2: no prefix, and the masks of the attention among the weights."""
    bare = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    masks = {"attn.bias": torch.ones(1, 1, CONTEXT, CONTEXT).tril(), "attn.masked_bias": torch.tensor(-1e4)}
    return bare | {f"h.{layer}.{name}": mask.clone() for layer in range(2) for name, mask in masks.items()}


def nothing(folder: Path) -> None:
    """As transformers wrote it."""


LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any], Edit]] = {  # config, how it is saved, what is done to the folder
    "one file": ({}, {}, nothing),
    "shards": ({}, {"max_shard_size": "20KB"}, nothing),
    "pytorch_model.bin": ({}, {}, pickled),
    "shards of it": ({}, {}, pickled_shards),
    "no prefix, masks": ({}, {}, in_weights(with_masks)),
    "untied head": ({"tie_word_embeddings": False}, {}, nothing),
    "stored head": ({}, {}, in_weights(lambda w: w | {"lm_head.weight": w["transformer.wte.weight"].clone()})),
    "n_ctx": ({}, {}, in_config(n_ctx=CONTEXT, n_positions=None)),
    "no n_inner": ({}, {}, in_config(n_inner=None)),
    "n_inner": ({"n_inner": 128}, {}, nothing),
    "gelu_pytorch_tanh": ({"activation_function": "gelu_pytorch_tanh"}, {}, nothing),
    "reorder_and_upcast_attn": ({"reorder_and_upcast_attn": True}, {}, nothing),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_transformers_logits(layout: str, theirs: Callable[..., Any], tmp_path: Path) -> None:
    """Logits to 1e-5."""
    config, saving, edit = LAYOUTS[layout]
    other = theirs(**config)
    other.save_pretrained(tmp_path, **saving)
    edit(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(hf.load(tmp_path)(tokens()), other(tokens()).logits, atol=1e-5, rtol=1e-5)


def test_a_network_without_a_head_is_tied(theirs: Callable[..., Any], tmp_path: Path) -> None:
    """The folder of a bare GPT2Model: its head is its embedding."""
    other = theirs("GPT2Model")
    other.save_pretrained(tmp_path)
    with torch.no_grad():
        logits = other(tokens()).last_hidden_state @ other.wte.weight.t()
        torch.testing.assert_close(hf.load(tmp_path)(tokens()), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_those_numbers(dtype: torch.dtype, theirs: Callable[..., Any], tmp_path: Path) -> None:
    """Weights in two bytes are read as the numbers that they are, and the network computes in float32."""
    other = theirs().to(dtype)
    other.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(hf.load(tmp_path)(tokens()), other.float()(tokens()).logits, atol=1e-5, rtol=1e-5)


def test_a_smaller_context_cuts_positions(theirs: Callable[..., Any], tmp_path: Path) -> None:
    """With a smaller block_size and vocabulary the network computes what the whole one does with so few tokens."""
    other = theirs()
    other.save_pretrained(tmp_path)
    net = hf.load(tmp_path, block_size=10, vocab_size=60, dropout=0.2)
    assert (net.config.block_size, net.config.vocab_size, net.config.dropout) == (10, 60, 0.2)
    x = tokens(10) % 60
    with torch.no_grad():
        torch.testing.assert_close(net(x), other(x).logits[:, :, :60], atol=1e-5, rtol=1e-5)


class Trap:
    """What a pickle file can do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("owned"),))


def trap(folder: Path) -> None:
    """A file of weights that holds code."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"wte.weight": Trap()}))


def cut(folder: Path) -> None:
    """PyTorch's format, half of it."""
    pickled(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:5000])


def shard_missing(folder: Path) -> None:
    """One of two shards."""
    pickled_shards(folder)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()


def in_utf_16(folder: Path) -> None:
    """A config.json that is not UTF-8."""
    (folder / "config.json").write_bytes(b"\xff\xfe{}")


def index_damaged(folder: Path) -> None:
    """An index that is no JSON object."""
    pickled_shards(folder)
    (folder / "pytorch_model.bin.index.json").write_text("[]")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (in_config(activation_function="gelu"), "activation_function is 'gelu'"),
        (in_config(n_inner=64), "n_inner is 64"),
        (in_config(layer_norm_epsilon=1e-6), "layer_norm_epsilon is 1e-06"),
        (in_config(scale_attn_weights=False), "scale_attn_weights is False"),
        (in_config(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx is True"),
        (in_config(add_cross_attention=True), "add_cross_attention is True"),
        (in_config(architectures=["GPT2ForSequenceClassification"]), "architectures is 'GPT2ForSequenceClassification'"),
        (in_config(model_type="gpt_neo"), "model_type is 'gpt_neo'"),
        (lambda folder: (folder / "config.json").write_text("[]"), "model_type is 'list'"),
        (in_utf_16, "config.json is damaged"),
        (in_config(n_layer="two"), "config.json"),
        (in_config(n_layer=3), "its n_layer is 2, not 3"),
        (in_config(n_layer=1), "its n_layer is 2, not 1"),
        (in_config(vocab_size=71), "its vocab_size is 70, not 71"),
        (in_config(tie_word_embeddings=False), "missing tensors, such as lm_head.weight"),
        (in_config(quantization_config={"load_in_8bit": True}), "quantization_config is"),
        (in_config(pruned_heads={"0": [1]}), "pruned_heads is"),
        (in_weights(lambda w: w | {"transformer.ln_f.bias": torch.zeros(32, dtype=torch.int8)}), "ln_f.bias holds torch.int8"),
        (shard_missing, "pytorch_model-00002-of-00002.bin is missing; pytorch_model.bin.index.json names it"),
        (index_damaged, "pytorch_model.bin.index.json is damaged"),
        (cut, "pytorch_model.bin is damaged or no PyTorch file"),
        (trap, "its code is not run"),
    ],
)
def test_another_computation_is_refused_by_name(
    edit: Edit, words: str, theirs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this network does not compute, and files that are missing or damaged: a ValueError with the key or file."""
    monkeypatch.chdir(tmp_path)
    theirs().save_pretrained(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        hf.load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert len(str(error.value)) < 500
    assert not Path("owned").exists()
