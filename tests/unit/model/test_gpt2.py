"""The network against the paper, against transformers' GPT-2, and against plain PyTorch."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from tiny import network
from torch import Tensor
from torch.nn import functional as F

from model import GPT2, GPT2Config, gpt2
from model.attention import attention, attention_probabilities
from model.gpt2 import POSITION_SCALE, RACE, embed, sinusoidal_positions
from model.loss import COMPILED_LOGITS, CPU, GPU, LEAST_TOKENS, HeadWay, head_loss

SHAPE: dict[str, Any] = {"vocab_size": 61, "block_size": 24, "n_layer": 3, "n_head": 4, "n_embd": 32}
make = partial(network, 0.2, 1, **SHAPE)  # every parameter, biases included, matters


def tokens(rows: int = 2, columns: int = 24, seed: int = 0) -> Tensor:
    """Random token ids, (rows, columns)."""
    return torch.randint(0, SHAPE["vocab_size"], (rows, columns), generator=torch.Generator().manual_seed(seed))


def transformers_twin(net: GPT2) -> Any:
    """transformers' GPT2LMHeadModel with the same weights, copied name by name (not through model.hf)."""
    import transformers

    config, c = net.config, transformers.GPT2Config
    twin = transformers.GPT2LMHeadModel(
        c(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            tie_word_embeddings=config.tie_embeddings,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
        )
    )
    ours = net.state_dict() | {"wpe.weight": net.positions()}
    for name, parameter in twin.named_parameters():
        value = ours[name.removeprefix("transformer.")]
        conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        parameter.data.copy_(value.t() if conv1d else value)
    return twin.eval()


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_gradients_equal_transformers(position: str, tied: bool) -> None:
    """Same weights, same tokens: logits, loss and the gradient of every parameter equal GPT2LMHeadModel's within 1e-5."""
    net = make(position=position, tie_embeddings=tied)
    twin = transformers_twin(net)
    x = tokens()
    with torch.no_grad():
        torch.testing.assert_close(net(x), twin(x).logits, atol=1e-5, rtol=1e-5)
    loss = net.loss(x[:, :-1], x[:, 1:])
    theirs = twin(x, labels=x).loss
    torch.testing.assert_close(loss, theirs, atol=1e-6, rtol=1e-6)
    loss.backward()
    theirs.backward()
    reference = dict(twin.named_parameters())
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:  # the sinusoidal table is not trained
            continue
        other = reference[name if name.startswith("lm_head") else f"transformer.{name}"].grad
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            other = other.t()
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, other, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_sinusoidal_table_is_the_paper_s() -> None:
    """PE[pos, 2i] = sin(pos / 10000^(2i/C)), PE[pos, 2i+1] = cos(the same), for even and odd widths, to float32's last bit."""
    for width in (32, 7):
        table = sinusoidal_positions(1000, width)
        for pos in (0, 1, 2, 500, 999):
            for column in range(width):
                angle = pos / 10_000 ** (2 * (column // 2) / width)
                expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
                assert table[pos, column].item() == pytest.approx(expected, abs=6e-8)
    net = make(position="sinusoidal")
    assert torch.equal(net.positions(), sinusoidal_positions(24, 32) * POSITION_SCALE)
    assert not net.wpe.weight.requires_grad


@pytest.mark.parametrize("length", [24, 150])
def test_no_token_sees_the_future(length: int) -> None:
    """Other tokens after position t change no logit at or before t, not by one bit; without the mask they do."""
    for causal in (True, False):
        net = make(causal=causal, block_size=length)
        x = tokens(1, length)
        for t in (0, 1, length // 2, length - 2):
            changed = x.clone()
            changed[:, t + 1 :] = (changed[:, t + 1 :] + 1) % SHAPE["vocab_size"]
            with torch.no_grad():
                difference = (net(x)[:, : t + 1] - net(changed)[:, : t + 1]).abs().max()
            assert (difference == 0) if causal else (difference > 1e-3), t


@pytest.mark.parametrize(("width", "first"), [(768, 0.02), (48, 0.08)])
def test_initialization_is_gpt2_s(width: int, first: float) -> None:
    """Matrices normal(0, 0.02) at GPT-2's width, more in a narrower one; into the residual stream less by sqrt(2 n_layer)."""
    torch.manual_seed(0)
    net = GPT2(GPT2Config(vocab_size=500, block_size=64, n_layer=8, n_head=4, n_embd=width, tie_embeddings=False))
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif parameter.dim() == 1:
            assert (parameter == 1).all(), name
        else:
            std = first / math.sqrt(16) if name.endswith("c_proj.weight") else first
            assert parameter.std().item() == pytest.approx(std, rel=0.05), name
            assert parameter.mean().item() == pytest.approx(0.0, abs=4 * std / math.sqrt(parameter.numel())), name


def test_too_many_tokens_are_refused() -> None:
    """More tokens than the context raise ValueError with both numbers."""
    with pytest.raises(ValueError, match=r"25 tokens .* 24"):
        make()(tokens(1, 25))


@pytest.mark.parametrize("shape", [(2, 1_008), (1, 2_017), (20, 128), (3, 1_024), (1, 3_073)])
def test_embeddings_avoid_the_kernel_with_a_race(shape: tuple[int, int]) -> None:
    """For a number of tokens with which PyTorch's gradient on a GPU has a race, more are looked up; rows and gradient are the
    same bits."""
    torch.manual_seed(0)
    weight, tokens = torch.randn(50, 4, requires_grad=True), torch.randint(50, shape)
    looked_up: list[int] = []
    gradients = []
    for padded in (False, True):
        rows = embed(tokens, weight, padded)
        assert torch.equal(rows, weight[tokens])
        node: Any = rows.grad_fn
        while "Embedding" not in node.name():
            node = node.next_functions[0][0]
        looked_up.append(node._saved_indices.numel())
        (rows * torch.arange(rows.numel()).view(rows.shape).cos()).sum().backward()
        assert weight.grad is not None
        gradients.append(weight.grad)
        weight.grad = None
    assert torch.equal(*gradients)
    count = tokens.numel()
    assert looked_up == [count, RACE[-1] + 1 if count in RACE else count]


# -- the head's loss ------------------------------------------------------------------------------------


def reference_loss(hidden: Tensor, weight: Tensor, targets: Tensor, total: Any) -> Tensor:
    """By the definition: cross-entropy of all logits."""
    losses = F.cross_entropy(hidden @ weight.t(), targets, ignore_index=-100, reduction="sum")
    return losses / (total if total is not None else max(1, int((targets != -100).sum())))


@pytest.mark.parametrize("way", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("tokens_at_once", [LEAST_TOKENS, 47, 299, 1000])  # 13 x 23 = 299 positions
@pytest.mark.parametrize("total", [None, 13, torch.tensor(13)])
@pytest.mark.parametrize("ignored", [0, 10, 299])
def test_fused_head_is_cross_entropy(
    way: HeadWay, dtype: torch.dtype, near: float, tokens_at_once: int, total: Any, ignored: int
) -> None:
    """A CPU's way and a GPU's, whose matrix is padded, at any chunk size, with ignored targets and any divisor: loss and
    gradients are those of cross_entropy of all logits, to the rounding of their type."""
    torch.manual_seed(0)
    targets = torch.randint(61, (299,))
    targets[torch.randperm(299)[:ignored]] = -100
    first = torch.randn(299, 32), torch.randn(61, 32)
    rows = 61 + -61 % way.multiple
    results = []
    for loss_of in (head_loss, reference_loss):
        hidden, weight = (part.clone().requires_grad_() for part in first)
        options = {"way": way._replace(logits=tokens_at_once * rows)} if loss_of is head_loss else {}
        with torch.autocast("cpu", dtype, enabled=loss_of is head_loss and dtype != torch.float32):
            loss = loss_of(hidden, weight, targets, total, **options)
        (3.0 * loss).backward()
        results.append((loss.detach(), hidden.grad, weight.grad))
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= near * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_gpu_s_head_computes_its_loss_in_float32(dtype: torch.dtype) -> None:
    """In half precision the GPU's head loses nothing behind the logits: its loss is float32's of the same logits."""
    torch.manual_seed(0)
    weight, targets = torch.randn(61, 32) * 0.3, torch.randint(61, (300,))
    hidden = torch.randn(300, 32) + 4 * weight[targets]
    logits = hidden.to(dtype) @ weight.to(dtype).t()
    with torch.autocast("cpu", dtype):
        loss = head_loss(hidden, weight, targets, way=GPU)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), targets), atol=1e-6, rtol=1e-6)


def test_uncompiled_the_head_takes_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network compiled for a GPU, a loss that runs uncompiled (validation, a failed capture) is not made of the compiled
    kernel's chunks, whose every operation would keep a result of gigabytes."""
    ways: list[HeadWay | None] = []

    def note(*args: Any) -> Tensor:
        ways.append(args[-1])
        return torch.zeros(())

    monkeypatch.setattr(gpt2, "head_loss", note)
    net, x = make(), tokens()
    net.compiled, net._head_way = True, GPU._replace(logits=COMPILED_LOGITS)
    net.loss(x, x)
    with net.uncompiled():
        net.loss(x, x)
    net.loss(x, x)
    assert [way and way.logits for way in ways] == [COMPILED_LOGITS, None, COMPILED_LOGITS]
    assert GPU.logits * 4 == COMPILED_LOGITS


# -- dropout --------------------------------------------------------------------------------------------


def test_dropout_is_seeded_and_off_in_evaluation() -> None:
    """In training the same seed gives the same bits and another seed others; in evaluation there is no dropout."""
    net, plain, x = make(dropout=0.3), make(), tokens()
    with torch.no_grad():
        assert torch.equal(net(x), plain(x))
        net.train()
        runs = []
        for seed in (5, 5, 6):
            torch.manual_seed(seed)
            runs.append(net(x))
    assert torch.equal(runs[0], runs[1])
    assert (runs[0] - runs[2]).abs().max() > 0.01


def heads(*shape: int, **options: Any) -> list[Tensor]:
    """Random queries, keys and values."""
    torch.manual_seed(0)
    return [torch.randn(*shape, **options) for _ in range(3)]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> Tensor:
    """The definition, for autograd."""
    return attention_probabilities(q, k, causal) @ v


def test_dropout_keeps_the_mean() -> None:
    """Dropout in attention scales what it keeps: the mean output over many masks is the output without dropout."""
    q, k, v = (part.expand(4000, -1, -1, -1) for part in heads(1, 2, 6, 4))
    mean = attention(q, k, v, dropout=0.4).mean(0)
    torch.testing.assert_close(mean, attention(q[:1], k[:1], v[:1])[0], atol=0.08, rtol=0.0)


def test_gradient_with_dropout_is_the_forward_s() -> None:
    """The hand-written backward of attention agrees with finite differences, with and without mask and dropout."""
    for head_size in (2, 32):  # narrow heads are computed another way
        inputs = heads(2, 2, 70, head_size, dtype=torch.float64, requires_grad=True)
        for causal in (True, False):
            for dropout in (0.0, 0.3):

                def seeded(q: Tensor, k: Tensor, v: Tensor, causal: bool = causal, dropout: float = dropout) -> Tensor:
                    torch.manual_seed(3)
                    return attention(q, k, v, causal=causal, dropout=dropout)

                assert torch.autograd.gradcheck(seeded, inputs, fast_mode=True)


def test_attention_gives_the_same_with_and_without_gradients() -> None:
    """Scoring is the training's attention: the same bits whether gradients are kept or not."""
    q, k, v = heads(2, 2, 150, 8, requires_grad=True)
    with torch.no_grad():
        scored = attention(q, k, v)
    assert torch.equal(attention(q, k, v), scored)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("head_size", [8, 32])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_is_its_definition(head_size: int, dtype: torch.dtype, tolerance: float, causal: bool) -> None:
    """In the types that train, over several blocks of queries, output and gradients are those of the plain definition."""
    first = [part.to(dtype) for part in heads(2, 2, 150, head_size)]  # 150 tokens are three blocks of queries
    grad = torch.randn(2, 2, 150, head_size).to(dtype)
    ours = [part.clone().requires_grad_() for part in first]
    theirs = [part.float().requires_grad_() for part in first]
    y, expected = attention(*ours, causal=causal), plain_attention(*theirs, causal)
    y.backward(grad)
    expected.backward(grad.float())
    for here, there in [(y, expected), *((a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))]:
        assert here is not None and there is not None
        assert (here.float() - there).norm() < tolerance * there.norm()
