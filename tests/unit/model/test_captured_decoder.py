"""The GPU's way to generate, its steps run on a CPU: the tokens, and the random numbers taken, are those of the plain loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_sampling import make, prompt, seeded
from torch import Tensor

from model import GPT2, generate
from model.captured_decoder import STEPS, Writer, can_capture
from model.choice import NUCLEUS, Choice, Generators, Noise

CHOICES = {
    "greedy": Choice(0.0),
    "sampled": Choice(1.0),
    "hot": Choice(2.0),
    "top-k": Choice(0.8, top_k=7),
    "top-p": Choice(1.0, top_p=0.8),
    "top-k and top-p": Choice(1.3, top_k=20, top_p=0.9),
}


@torch.inference_mode()
def captured(
    net: GPT2, start: Tensor, count: int, choice: Choice, generator: Generators = None, stop: int | None = None
) -> Tensor:
    """What `generate` would return on a GPU."""
    candidates = choice.candidates(net.config.vocab_size)
    noise = None if choice.greedy else Noise(len(start), candidates or 0, generator)
    steps = list(Writer(net, len(start), choice, stop).write(start, count, noise))
    return torch.cat([start, *(step[:, None] for step in steps)], dim=1)


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES.keys())
@pytest.mark.parametrize("length", [1, 5, 15, 16, 40])
@pytest.mark.parametrize("rows", [1, 5])
def test_static_steps_write_the_same_tokens(choice: Choice, length: int, rows: int) -> None:
    """Within the context, past it, with a prompt of any length, with and without a stop: token for token `generate`'s."""
    net, start = make(), prompt(rows, length)
    for stop in (None, 7):
        one, other = seeded(range(rows)), seeded(range(rows))
        expected = generate(net, start, 40, choice.temperature, choice.top_k, choice.top_p, one, stop)
        assert torch.equal(captured(net, start, 40, choice, other, stop), expected)
        assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_kind_of_network(position: str, tied: bool) -> None:
    """Both position tables, both heads."""
    net = make(position=position, tie_embeddings=tied)
    expected = generate(net, prompt(2, 3), 30, generator=seeded([1, 2]))
    assert torch.equal(captured(net, prompt(2, 3), 30, Choice(), seeded([1, 2])), expected)


def test_one_generator_for_all_rows_and_torch_s_own() -> None:
    """A generator that all rows share, and torch's global one, give the plain loop's numbers and end in its state."""
    net, start = make(), prompt(3, 4)
    for choice in (Choice(), Choice(1.0, top_k=9)):
        one, other = seeded([5, 5])
        expected = generate(net, start, 25, top_k=choice.top_k, generator=one, stop=7)
        assert torch.equal(captured(net, start, 25, choice, other, stop=7), expected)
        assert torch.equal(one.get_state(), other.get_state())
        torch.manual_seed(3)
        expected = generate(net, start, 25, top_k=choice.top_k, stop=7)
        after = torch.get_rng_state()
        torch.manual_seed(3)
        assert torch.equal(captured(net, start, 25, choice, None, stop=7), expected)
        assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("count", [0, 1, STEPS - 1, STEPS, STEPS + 1])
def test_any_number_of_tokens(count: int) -> None:
    """Around the length of a block too."""
    net, start = make(), prompt(2, 3)
    assert torch.equal(captured(net, start, count, Choice(0.0)), generate(net, start, count, temperature=0.0))


@torch.inference_mode()
def test_a_writer_is_used_again() -> None:
    """A second text from the same buffers is what a fresh writer gives; a change of the weights shows."""
    net, writer = make(), None
    writer = Writer(net, 2, Choice(0.0), None)
    for length in (9, 2, 16):
        start = prompt(2, length)
        made = torch.stack(list(writer.write(start, 20, None)), dim=1)
        assert torch.equal(made, generate(net, start, 20, temperature=0.0)[:, length:])
    net.ln_f.weight.neg_()
    made = torch.stack(list(writer.write(start, 20, None)), dim=1)
    assert torch.equal(made, generate(net, start, 20, temperature=0.0)[:, 16:])


@pytest.mark.parametrize("choice", [Choice(0.0), Choice()])
def test_broken_weights_are_reported(choice: Choice) -> None:
    """NaN in the weights raises ValueError, at the latest a block later."""
    net = make()
    net.ln_f.weight.data[3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        captured(net, prompt(2, 3), 5, choice, seeded([1, 2]))


def test_noise_ahead_is_noise_step_by_step() -> None:
    """A block of random numbers holds what as many single steps take; what was not used is taken again."""

    def single(generators: Sequence[torch.Generator], steps: int) -> Tensor:
        noise = Noise(len(generators), 50, generators)
        return torch.cat([noise.take(1) for _ in range(steps)])

    ahead = Noise(3, 50, seeded([1, 2, 3]))
    mark, first = ahead.mark(), ahead.take(8)
    ahead.take(3)
    ahead.back_to(mark, 5)
    assert torch.equal(torch.cat([first[:5], ahead.take(8)]), single(seeded([1, 2, 3]), 13))
    assert bool((first > 0).all())


def test_where_it_does_not_suit() -> None:
    """Without a GPU, and where the number of candidates depends on the logits, the plain loop writes."""
    assert not can_capture(make(), Choice(), None)
    assert Choice(1.0, top_p=0.9).candidates(NUCLEUS + 1) is None
    assert Choice(1.0, top_k=5, top_p=0.9).candidates(NUCLEUS + 1) == 5
    assert Choice(1.0, top_k=80).candidates(50) == 50


def test_no_step_asks_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded step may not read a value back: on a GPU that ends the recording."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("a step reads a tensor's value")

    for choice in CHOICES.values():
        net = make()
        writer = Writer(net, 2, choice, stop=7)
        with torch.inference_mode():
            writer._begin(prompt(2, 15))
            with monkeypatch.context() as patch:
                for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "nonzero"):
                    patch.setattr(Tensor, name, refuse)
                writer._grow()
                writer._slide()
