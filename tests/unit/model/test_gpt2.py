"""The network against the paper, against transformers' GPT-2, and against plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from networks import random_network
from torch import Tensor
from torch.nn import functional as F

import model.loss
from model import GPT2, GPT2Config
from model.gpt2 import POSITION_SCALE, sinusoidal_positions

SHAPE: dict[str, Any] = {"vocab_size": 61, "block_size": 24, "n_layer": 3, "n_head": 4, "n_embd": 32}


def make(**changes: Any) -> GPT2:
    """A network whose every parameter, biases included, is random and large enough to matter."""
    return random_network(SHAPE | changes, noise=0.2, seed=1)


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


@pytest.mark.parametrize("length", [100, 300])  # several blocks of queries
def test_long_sequences_equal_transformers(length: int) -> None:
    """Attention in blocks of queries is still attention: logits and gradient equal transformers' at any length."""
    net = make(block_size=length)
    twin = transformers_twin(net)
    x = tokens(2, length)
    logits, theirs = net(x), twin(x).logits
    torch.testing.assert_close(logits, theirs, atol=2e-5, rtol=1e-4)
    weights = torch.randn_like(logits)
    (logits * weights).sum().backward()
    (theirs * weights).sum().backward()
    torch.testing.assert_close(net.wte.weight.grad, twin.transformer.wte.weight.grad, atol=1e-2, rtol=1e-3)


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


def test_every_earlier_token_matters() -> None:
    """Each of the tokens before it moves the last logits: the mask hides the future only."""
    net = make()
    x = tokens(1)
    with torch.no_grad():
        last = net(x)[:, -1]
        for t in range(x.size(1)):
            changed = x.clone()
            changed[:, t] = (changed[:, t] + 1) % SHAPE["vocab_size"]
            assert (net(changed)[:, -1] - last).abs().max() > 1e-4, t


def test_rows_of_a_batch_are_independent() -> None:
    """A sequence has the same logits alone and in a batch."""
    net, x = make(), tokens(5)
    with torch.no_grad():
        together = net(x)
        for row in range(5):
            torch.testing.assert_close(net(x[row : row + 1])[0], together[row], atol=1e-5, rtol=1e-5)


def test_one_batch_can_be_overfitted() -> None:
    """200 steps of AdamW bring the loss of one batch of random tokens near 0 (from ln 61 = 4.1)."""
    torch.manual_seed(0)
    net = GPT2(GPT2Config(**SHAPE))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.0)
    x = tokens(4)
    first = net.loss(x[:, :-1], x[:, 1:]).item()
    for _ in range(200):
        loss = net.loss(x[:, :-1], x[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first == pytest.approx(math.log(61), abs=0.3)
    assert loss.item() < 0.05


@pytest.mark.parametrize(("width", "first"), [(768, 0.02), (48, 0.08)])
def test_initialisation_is_gpt2_s(width: int, first: float) -> None:
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


# -- the head's loss ------------------------------------------------------------------------------------


def reference_loss(net: GPT2, x: Tensor, y: Tensor, total: int | None = None) -> Tensor:
    """By the definition: cross-entropy of all logits."""
    losses = F.cross_entropy(net(x).flatten(0, 1), y.flatten(), ignore_index=-100, reduction="sum")
    return losses / (total if total is not None else max(1, int((y != -100).sum())))


def compare_with_cross_entropy(x: Tensor, y: Tensor, total: Any) -> None:
    """The network's loss and all its gradients equal those of cross_entropy on its logits."""
    results = []
    for loss_of in (GPT2.loss, reference_loss):
        net = make()
        loss = loss_of(net, x, y, total)
        (3.0 * loss).backward()
        results.append((loss.detach(), {name: parameter.grad for name, parameter in net.named_parameters()}))
    (ours, gradients), (theirs, expected) = results
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], atol=3e-6, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("chunk", [1, 7, 46, 47, 48, 1000])  # 2 x 23 = 46 scored positions
@pytest.mark.parametrize("total", [None, 13])
@pytest.mark.parametrize("ignored", [0, 10, 46])
def test_fused_head_is_cross_entropy(monkeypatch: pytest.MonkeyPatch, chunk: int, total: int | None, ignored: int) -> None:
    """At any chunk size, with ignored targets and any divisor, loss and all gradients equal cross_entropy(net(x), y)."""
    monkeypatch.setattr(model.loss, "_chunk", lambda weight: chunk)
    x, y = tokens()[:, :-1], tokens()[:, 1:].clone()
    y.view(-1)[torch.randperm(46, generator=torch.Generator().manual_seed(0))[:ignored]] = -100
    compare_with_cross_entropy(x, y, total)


def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU take the way of a GPU through the head."""

    def padded(hidden: Tensor, weight: Tensor, targets: Tensor, total: Any, dtype: torch.dtype) -> Tensor:
        kernel = model.loss.loss_and_gradient
        return model.loss._PaddedHeadLoss.apply(hidden, weight, targets, total, dtype, kernel)  # type: ignore[no-any-return,no-untyped-call]

    monkeypatch.setattr(model.loss._HeadLoss, "apply", padded)


@pytest.mark.parametrize("chunk", [1, 1_000_000])  # 1: as many chunks as can be
@pytest.mark.parametrize("total", [None, 13, torch.tensor(13)])
@pytest.mark.parametrize("ignored", [0, 10, 300])
def test_padded_head_is_cross_entropy(monkeypatch: pytest.MonkeyPatch, chunk: int, total: Any, ignored: int) -> None:
    """The GPU's head, with its matrix padded to 128 rows, gives cross_entropy(net(x), y) and all its gradients, too."""
    on_a_gpu(monkeypatch)
    monkeypatch.setattr(model.loss, "CHUNK_GPU_PLAIN", chunk)
    x, y = tokens(13)[:, :-1], tokens(13)[:, 1:].clone()  # 299 positions, more than two chunks of 128
    y.view(-1)[torch.randperm(299, generator=torch.Generator().manual_seed(0))[:ignored]] = -100
    compare_with_cross_entropy(x, y, total)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_padded_head_computes_its_loss_in_float32(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """In half precision the GPU's head loses nothing behind the logits: its loss is float32's of the same logits."""
    on_a_gpu(monkeypatch)
    torch.manual_seed(0)
    weight, targets = torch.randn(61, 32) * 0.3, torch.randint(61, (300,))
    hidden = torch.randn(300, 32) + 4 * weight[targets]
    logits = hidden.to(dtype) @ weight.to(dtype).t()
    with torch.autocast("cpu", dtype):
        loss = model.loss.head_loss(hidden, weight, targets)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), targets), atol=1e-6, rtol=1e-6)


def test_parts_of_a_batch_add_up() -> None:
    """With `total` = the whole batch's tokens, the losses and gradients of its parts add up to the batch's."""
    net, x = make(), tokens(4)
    net.loss(x[:, :-1], x[:, 1:]).backward()
    whole = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}
    net.zero_grad()
    losses = []
    for part in x.split((1, 3)):
        loss = net.loss(part[:, :-1], part[:, 1:], total=4 * 23)
        loss.backward()
        losses.append(loss.item())
    assert sum(losses) == pytest.approx(net.loss(x[:, :-1], x[:, 1:]).item(), rel=1e-6)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], atol=1e-6, rtol=1e-4)


def test_bf16_loss_is_near_fp32() -> None:
    """Under bf16 autocast the loss differs from fp32's by less than 1 %, and the gradients point the same way."""
    net, x = make(), tokens(4)
    exact = net.loss(x[:, :-1], x[:, 1:])
    exact.backward()
    before = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rough = net.loss(x[:, :-1], x[:, 1:])
    rough.backward()
    after = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert rough.item() == pytest.approx(exact.item(), rel=0.01)
    assert F.cosine_similarity(before, after, dim=0) > 0.999


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


def test_dropout_keeps_the_mean() -> None:
    """Dropout in attention scales what it keeps: the mean output over many masks is the output without dropout."""
    from model.attention import self_attention

    torch.manual_seed(0)
    qkv = torch.randn(1, 6, 3 * 8)
    mean = torch.stack([self_attention(qkv, 2, causal=True, dropout=0.4) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, self_attention(qkv, 2, causal=True), atol=0.08, rtol=0.0)


def test_gradient_with_dropout_is_the_forward_s() -> None:
    """The hand-written backward of attention agrees with finite differences, with and without mask and dropout."""
    from model.attention import self_attention

    torch.manual_seed(0)
    for head_size in (2, 32):  # narrow heads are computed another way
        qkv = torch.randn(2, 70, 3 * 2 * head_size, dtype=torch.float64, requires_grad=True)
        for causal in (True, False):
            for dropout in (0.0, 0.3):

                def seeded(values: Tensor, causal: bool = causal, dropout: float = dropout) -> Tensor:
                    torch.manual_seed(3)
                    return self_attention(values, 2, causal=causal, dropout=dropout)

                assert torch.autograd.gradcheck(seeded, (qkv,), fast_mode=True)


def test_attention_gives_the_same_with_and_without_gradients() -> None:
    """Scoring is the training's attention: the same bits whether gradients are kept or not, near PyTorch's own."""
    from model.attention import self_attention

    torch.manual_seed(0)
    qkv = torch.randn(2, 150, 3 * 16, requires_grad=True)
    with torch.no_grad():
        scored = self_attention(qkv.detach(), 2, causal=True)
    assert torch.equal(self_attention(qkv, 2, causal=True), scored)
    fused = torch.nn.functional.scaled_dot_product_attention(
        *(part.transpose(1, 2) for part in qkv.detach().view(2, 150, 3, 2, 8).unbind(2)), is_causal=True
    )
    torch.testing.assert_close(scored, fused.transpose(1, 2).reshape(2, 150, 16))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("head_size", [8, 32])
def test_gradients_over_several_blocks_are_pytorchs(head_size: int, dtype: torch.dtype, tolerance: float) -> None:
    """In the types that train, whose products take ways of their own, the gradient is that of PyTorch's attention."""
    from model.attention import merge_heads, self_attention, split_heads

    torch.manual_seed(0)
    qkv = torch.randn(2, 150, 3 * 2 * head_size).to(dtype)  # 150 tokens are three blocks of queries
    grad = torch.randn(2, 150, 2 * head_size).to(dtype)
    ours = qkv.clone().requires_grad_()
    self_attention(ours, 2, causal=True).backward(grad)
    theirs = qkv.float().requires_grad_()
    q, k, v = split_heads(theirs, 2)
    merge_heads(torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)).backward(grad.float())
    assert ours.grad is not None and theirs.grad is not None
    error = (ours.grad.float() - theirs.grad).norm() / theirs.grad.norm()
    assert error < tolerance
