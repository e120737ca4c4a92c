"""Generation: cached steps are the network's own logits, recorded steps write the same text, and rows do not meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operations import questions
from tiny import network
from torch import Tensor

from model import GPT2, generate
from model.generation import LOOK_EVERY, ReplayFn, stream
from model.kv_cache import COLUMNS, KVCache
from model.sampling import SamplingParams
from stages.compute.cuda_graph import CaptureFailed, recorded_or_plain

SHAPE: dict[str, Any] = {"vocab_size": 50, "block_size": 16, "n_layer": 2, "n_head": 4, "n_embd": 32}
make = partial(network, 0.15, **SHAPE)  # large random weights: every token of context matters


def prompt(rows: int, columns: int, vocab_size: int = 50) -> Tensor:
    """Random tokens."""
    return torch.randint(0, vocab_size, (rows, columns), generator=torch.Generator().manual_seed(columns))


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator for each seed."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.no_grad()
def greedy_by_hand(net: GPT2, tokens: Tensor, count: int) -> Tensor:
    """The definition: all tokens of the window through the whole network at each step."""
    for _ in range(count):
        logits = net(tokens[:, -net.config.block_size :])[:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
    return tokens


# -- the cache ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
@torch.inference_mode()
def test_cached_logits_are_the_network_s(position: str, tied: bool, rows: int) -> None:
    """In pieces of any length up to the full context, the logits with a cache are those of one pass without."""
    net = make(position=position, tie_embeddings=tied)
    tokens = prompt(rows, 16)
    expected = net(tokens)
    for pieces in ([1] * 16, [7, *[1] * 9], [16], [3, 5, 1, 7]):
        cache = KVCache(net.config, rows, net.wte.weight)
        logits = torch.cat([net(piece, cache) for piece in tokens.split(pieces, dim=1)], dim=1)
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_columns_that_are_not_seen_do_not_count() -> None:
    """A cache of which only the filled part is read, and that was filled by a longer text before: the network's logits."""
    net, tokens = make(block_size=2 * COLUMNS + 7), prompt(3, 2 * COLUMNS + 7)
    cache = KVCache(net.config, 3, net.wte.weight)
    for start, stop in ((2 * COLUMNS - 2, 2 * COLUMNS + 7), (COLUMNS - 2, COLUMNS + 3), (1, 4)):
        cache.position.zero_()
        cache.read(start)
        net(tokens[:, :start], cache)
        for end in range(start + 1, stop + 1):
            cache.read(end)
            logits = net(tokens[:, end - 1 : end], cache)[:, -1]
            torch.testing.assert_close(logits, net(tokens[:, :end])[:, -1], atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_full_cache_takes_no_token() -> None:
    """A token beyond the context stops at once; a network without a mask gets no cache."""
    net = make()
    cache = KVCache(net.config, 1, net.wte.weight)
    net(prompt(1, 16), cache)
    with pytest.raises(IndexError):
        net(prompt(1, 1), cache)
    with pytest.raises(AssertionError, match="mask"):
        KVCache(make(causal=False).config, 1, net.wte.weight)


# -- greedy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 5, 16, 40])
@pytest.mark.parametrize("causal", [True, False])
def test_greedy_is_the_uncached_loop(length: int, causal: bool) -> None:
    """Temperature 0, within the context, past it and with a longer prompt: token for token the loop without a cache.

    Without the mask each new token changes what earlier ones computed; that too is what the uncached loop does.
    """
    net = make(causal=causal)
    start = prompt(3, length)
    assert torch.equal(generate(net, start, 40, temperature=0.0), greedy_by_hand(net, start, 40))


@pytest.mark.parametrize(
    "options", [{"temperature": low} for low in (1e-4, 1e-7, 1e-30, 5e-324)] + [{"top_k": 1}, {"top_p": 1e-9}]
)
def test_towards_its_limits_sampling_is_greedy(options: dict[str, Any]) -> None:
    """Temperatures towards 0, down to the smallest float, k = 1 and the smallest top_p leave the likeliest token only."""
    net, start = make(), prompt(2, 4)
    expected = generate(net, start, 20, temperature=0.0)
    assert torch.equal(generate(net, start, 20, generator=seeded([1, 2]), **options), expected)


# -- stopping -------------------------------------------------------------------------------------------


def test_rows_stop_at_the_stop_token() -> None:
    """A finished row is filled up with `stop`, the others go on as if it were not there, and the end is trimmed."""
    net, start = make(), prompt(6, 3)
    free = generate(net, start, 60, generator=seeded(range(6)))
    stop = 7
    text = generate(net, start, 60, generator=seeded(range(6)), stop=stop)
    ends = [(row == stop).nonzero()[0].item() if (row == stop).any() else 60 for row in free[:, 3:]]
    assert min(ends) < max(ends), "the example needs rows of several lengths"
    for row, end in enumerate(ends):
        assert torch.equal(text[row, : 3 + end], free[row, : 3 + end])
        assert (text[row, 3 + end :] == stop).all()
    assert text.size(1) == 3 + min(60, max(ends) + 1)


def test_a_stop_token_in_the_prompt_does_not_stop() -> None:
    """A text may begin with end-of-text, as every training text does."""
    start = torch.full((1, 1), 7)
    assert generate(make(), start, 5, temperature=0.0, stop=7).size(1) > 1
    assert generate(make(), start, 5, generator=seeded([3]), stop=None).size(1) == 6


# -- randomness -----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=6), st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 20))
def test_a_row_s_text_does_not_depend_on_the_batch(seeds: list[int], temperature: float, length: int) -> None:
    """With a generator of its own a row's text is the same alone and in any batch, also when the window slides."""
    net, start = make(), prompt(1, length).expand(len(seeds), -1)
    together = generate(net, start, 25, temperature, top_k=20, top_p=0.95, generator=seeded(seeds), stop=7)
    for row, seed in enumerate(seeds):
        alone = generate(net, start[:1], 25, temperature, top_k=20, top_p=0.95, generator=seeded([seed]), stop=7)[0]
        assert torch.equal(together[row, : len(alone)], alone)
        assert (together[row, len(alone) :] == 7).all()


def test_same_seed_same_text_and_nothing_else_moves() -> None:
    """One generator for all rows repeats itself; torch's global random state, the weights and the mode stay as they were."""
    net, start = make(dropout=0.5).train(), prompt(2, 3)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    before = torch.get_rng_state()
    texts = [generate(net, start, 10, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in net.state_dict().items())


def test_the_text_may_be_trained_on() -> None:
    """What `generate` returns is an ordinary tensor: a loss on it has gradients."""
    net = make()
    text = generate(net, prompt(2, 3), 8, generator=seeded([1, 2]))
    net.loss(text[:, :-1], text[:, 1:]).backward()


def test_text_follows_the_network_s_distribution() -> None:
    """At temperature T the first token's frequencies are softmax(logits / T)."""
    net, start, count = make(), prompt(1, 4), 5_000
    with torch.no_grad():
        logits = net(start)[0, -1]
    for temperature in (0.7, 1.0, 1.5):
        text = generate(net, start.expand(count, -1), 1, temperature, generator=torch.Generator().manual_seed(1))
        share = text[:, -1].bincount(minlength=50) / count
        p = torch.softmax(logits / temperature, dim=-1)
        assert ((share - p).abs() <= 5 * (p * (1 - p) / count).sqrt() + 1e-4).all()


# -- recorded steps -------------------------------------------------------------------------------------

PARAMS = {
    "greedy": SamplingParams(0.0),
    "sampled": SamplingParams(1.0),
    "top-k": SamplingParams(0.8, top_k=7),
    "top-p": SamplingParams(1.0, top_p=0.8),
    "top-k and top-p": SamplingParams(1.3, top_k=20, top_p=0.9),
}


def rehearsed(step: Callable[[], None]) -> Callable[[], None]:
    """A recorder for a CPU: like one for a GPU it runs the step a few times, and then repeats it."""
    for _ in range(3):
        step()
    return step


@pytest.mark.parametrize("params", PARAMS.values(), ids=PARAMS.keys())
@pytest.mark.parametrize(("length", "rows"), [(1, 3), (15, 1), (40, 2)])
def test_recorded_steps_write_the_same_tokens(params: SamplingParams, length: int, rows: int) -> None:
    """Within the context, past it, with a prompt of any length, with and without a stop: token for token the plain text."""
    net, start = make(), prompt(rows, length)
    for stop in (None, 7):
        plain, recorded = (
            list(stream(net, start, 40, params, seeded(range(rows)), stop, record)) for record in (None, rehearsed)
        )
        assert torch.equal(torch.stack(plain), torch.stack(recorded))


@pytest.mark.parametrize("count", [0, 1, LOOK_EVERY - 1, LOOK_EVERY, LOOK_EVERY + 1, LOOK_EVERY + 2])
def test_any_number_of_recorded_tokens(count: int) -> None:
    """Around the number of steps between two looks at the tokens too."""
    net, start = make(block_size=64), prompt(2, 3)
    expected = generate(net, start, count, temperature=0.0)
    assert expected.size(1) == 3 + count
    assert torch.equal(generate(net, start, count, temperature=0.0, record=rehearsed), expected)


def test_each_step_is_recorded_once() -> None:
    """One recording for a token within the context and one for those beyond it; without a mask nothing can be recorded."""
    steps: list[str] = []

    def record(step: Callable[[], None]) -> Callable[[], None]:
        steps.append(step.__name__)
        return rehearsed(step)

    generate(make(), prompt(2, 3), 40, generator=seeded([1, 2]), record=record)
    assert steps == ["decode_step", "slide_step"]
    generate(make(causal=False), prompt(2, 3), 40, generator=seeded([1, 2]), record=record)
    assert len(steps) == 2


@pytest.mark.parametrize("settings", [(0.0, None, None), (1.0, 9, None), (1.0, 9, 0.9), (1.0, None, 0.9)])
def test_nothing_in_a_recorded_step_asks_the_device(settings: tuple[float, int | None, int | None]) -> None:
    """A step reads no value on the CPU, with top_p and no top_k at 2,000 tokens too: all of it can be recorded."""
    asked: list[str] = []

    def watched(step: ReplayFn) -> ReplayFn:
        asked.extend(questions(step))
        return step

    net = make(vocab_size=2_000)
    list(stream(net, prompt(2, 14), 5, SamplingParams(*settings), seeded(range(2)), 7, watched))
    assert asked == []


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a driver cannot record a step of writing, one line says so, and the step itself is taken."""

    def fails(step: ReplayFn) -> ReplayFn:
        raise CaptureFailed("operation failed")

    calls: list[int] = []
    recorded_or_plain(fails, "writing a token")(lambda: calls.append(1))()
    assert calls == [1]
    said = capsys.readouterr().err
    assert said.startswith("warning: writing a token could not be captured (operation failed)") and said.count("\n") == 1


# -- arguments ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": torch.zeros(1, 0, dtype=torch.int64)}, "T0 >= 1"),
        ({"prompt": torch.zeros(3, dtype=torch.int64)}, "T0 >= 1"),
        ({"prompt": torch.zeros(1, 3)}, "int64"),
        ({"prompt": torch.tensor([[50]])}, "vocabulary of 50"),
        ({"prompt": torch.tensor([[-1]])}, "vocabulary of 50"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"generator": [torch.Generator()] * 2}, "2 generators for 1 rows"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], words: str) -> None:
    """Each argument out of range raises ValueError that names it."""
    good: dict[str, Any] = {"prompt": torch.zeros(1, 3, dtype=torch.int64), "max_new_tokens": 2}
    with pytest.raises(ValueError, match=words):
        generate(make(), **(good | changes))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_not_finite_are_reported(temperature: float) -> None:
    """NaN in the weights raises ValueError instead of writing nonsense."""
    net = make()
    net.ln_f.weight.data[3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        generate(net, prompt(2, 3), 5, temperature=temperature)
    with pytest.raises(ValueError, match="not finite"):
        generate(net, prompt(2, 3), 40, temperature=temperature, record=rehearsed)
