"""The Hugging Face folder: transformers reads it and computes what we compute, and it comes back as it was."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import digests
from safetensors.torch import load_file, save_file
from tiny import network
from torch import Tensor

from model import generate, hf

VOCABULARY, CONTEXT, END = 70, 24, 69
SHAPE: dict[str, Any] = {"vocab_size": VOCABULARY, "block_size": CONTEXT, "n_layer": 2, "n_head": 4, "n_embd": 32}
make = partial(network, 0.15, **SHAPE)


def theirs(folder: Path) -> Any:
    """transformers' model of the folder; every weight must have come from it."""
    import transformers

    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    return model.eval()


def tokens(rows: int = 3, columns: int = CONTEXT) -> Tensor:
    """Random token ids."""
    return torch.randint(0, VOCABULARY, (rows, columns), generator=torch.Generator().manual_seed(1))


def test_loading_starts_no_compiler(tmp_path: Path) -> None:
    """Reading a folder imports neither torch.compile's parts nor sympy: that is over a second at the start of three stages."""
    hf.save(make(position="sinusoidal"), tmp_path, END)
    code = "import sys; from model import hf; hf.load(sys.argv[1]); print({'torch._dynamo', 'sympy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_transformers_computes_the_same(tmp_path: Path, position: str, tied: bool, causal: bool) -> None:
    """AutoModelForCausalLM on the folder: the same logits; with the mask, the same perplexity and the same greedy text."""
    net = make(position=position, tie_embeddings=tied, causal=causal)
    hf.save(net, tmp_path, END)
    other, x = theirs(tmp_path), tokens()
    with torch.no_grad():
        torch.testing.assert_close(other(x).logits, net(x), atol=1e-5, rtol=1e-5)
    if causal:
        with torch.no_grad():
            loss = other(x, labels=x).loss
        assert net.loss(x[:, :-1], x[:, 1:]).exp().item() == pytest.approx(loss.exp().item(), rel=1e-5)
        start = x[:, :4]
        text = other.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=CONTEXT - 4, do_sample=False)
        ours = generate(net, start, CONTEXT - 4, temperature=0.0, stop=END)
        assert torch.equal(text, ours)


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_load_gives_the_network_back(tmp_path: Path, position: str, tied: bool, causal: bool) -> None:
    """What is loaded has the config, bits, ties and trained parameters of what was saved; saved again, the same bytes."""
    net = make(position=position, tie_embeddings=tied, causal=causal, dropout=0.1)
    hf.save(net, tmp_path / "one", END)
    before = torch.get_rng_state()
    again = hf.load(tmp_path / "one")
    assert torch.equal(torch.get_rng_state(), before), "loading draws no random numbers"
    assert again.config == net.config
    assert not again.training
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert (again.lm_head.weight is again.wte.weight) == tied
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in again.named_parameters() if parameter.requires_grad} == trained
    again.loss(tokens(), tokens()).backward()
    hf.save(again, tmp_path / "two", END)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_saved_in_float32_for_everyone(tmp_path: Path) -> None:
    """A network in bfloat16 is stored in float32; files follow the umask, none is left over. Other tools learn from the configs
    which token ends a text and where the context ends."""
    hf.save(make().bfloat16(), tmp_path, END)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}
    umask = os.umask(0)
    os.umask(umask)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    config, generation = (json.loads((tmp_path / name).read_text()) for name in ("config.json", "generation_config.json"))
    for found in (config, generation):
        assert found["bos_token_id"] == found["eos_token_id"] == END
    assert config["n_positions"] == config["n_ctx"] == generation["max_length"] == CONTEXT
    assert (generation["do_sample"], generation["pad_token_id"]) == (True, END)


def test_a_table_of_another_machine_is_the_table(tmp_path: Path) -> None:
    """Sinusoidal positions whose last digits were rounded in another way are the table still; a change of 1e-6 is training."""
    hf.save(make(position="sinusoidal"), tmp_path, END)
    path = tmp_path / "model.safetensors"
    for change, position in ((1 + 2**-24, "sinusoidal"), (1 + 1e-6, "learned")):
        weights = load_file(path)
        weights["transformer.wpe.weight"] *= change
        save_file(weights, path)
        assert hf.load(tmp_path).config.position == position
