"""Generation: the cached steps are the network's own logits, samples follow the distribution, and rows do not meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import random_network
from torch import Tensor

import model.decoder_head
from model import GPT2, generate
from model.choice import Choice, choose, draw, keep, likeliest
from model.decoder import COLUMNS, Decoder
from model.decoder_head import Logits, logits_of
from model.sampling import stream

SHAPE: dict[str, Any] = {"vocab_size": 50, "block_size": 16, "n_layer": 2, "n_head": 4, "n_embd": 32}


def make(**changes: Any) -> GPT2:
    """A network with large random weights: every token of context matters."""
    return random_network(SHAPE | changes, noise=0.15)


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


# -- the decoder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 5])
def test_cached_logits_are_the_network_s(position: str, tied: bool, rows: int) -> None:
    """After a prompt of any length, each cached step up to the full context gives the logits of an uncached forward."""
    net = make(position=position, tie_embeddings=tied)
    tokens = prompt(rows, 16)
    with torch.inference_mode():
        for start in (1, 7, 16):
            decoder = Decoder(net, rows)
            hidden = decoder(tokens[:, :start])
            for end in range(start, 17):
                expected = net(tokens[:, :end])[:, -1]
                torch.testing.assert_close(logits_of(net)(hidden), expected, atol=2e-5, rtol=1e-5)
                if end < 16:
                    hidden = decoder(tokens[:, end : end + 1])
            assert decoder.room == 0


@torch.inference_mode()
def test_columns_that_are_not_seen_do_not_count() -> None:
    """A cache that is read in several blocks of columns, and again after a longer text: the logits are the network's."""
    net, tokens = make(block_size=2 * COLUMNS + 7), prompt(3, 2 * COLUMNS + 7)
    decoder = Decoder(net, 3)
    for start, stop in ((2 * COLUMNS - 2, 2 * COLUMNS + 7), (COLUMNS - 2, COLUMNS + 3), (1, 4)):
        decoder.forget()
        decoder(tokens[:, :start])
        for end in range(start + 1, stop + 1):
            hidden = decoder(tokens[:, end - 1 : end])
            torch.testing.assert_close(net.lm_head(hidden), net(tokens[:, :end])[:, -1], atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_full_context_takes_no_token() -> None:
    """A step beyond the context is our bug and stops at once; `forget` makes room."""
    decoder = Decoder(make(), 1)
    decoder(prompt(1, 16))
    with pytest.raises(AssertionError, match="full"):
        decoder(prompt(1, 1))
    decoder.forget()
    assert decoder.room == 16


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


def test_window_slides_by_one() -> None:
    """Past the context each token is drawn given exactly the last `block_size` tokens: the logits are the network's there."""
    net = make()
    text = generate(net, prompt(1, 3), 60, generator=seeded([1]))
    for end in (17, 30, 63):
        window = text[:, end - 16 : end]
        again = generate(net, window, 1, temperature=0.0)
        longer = generate(net, text[:, :end], 1, temperature=0.0)
        assert torch.equal(again[:, -1], longer[:, -1])


def test_tiny_temperature_is_greedy() -> None:
    """Temperatures towards 0, down to the smallest float, end in the greedy text, without NaN."""
    net, start = make(), prompt(2, 4)
    expected = generate(net, start, 12, temperature=0.0)
    for temperature in (1e-4, 1e-7, 1e-30, 5e-324):
        assert torch.equal(generate(net, start, 12, temperature=temperature, generator=seeded([1, 2])), expected)
    generate(net, start, 12, temperature=1e30, generator=seeded([1, 2]))


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


def test_no_new_tokens() -> None:
    """`max_new_tokens=0` returns the prompt."""
    assert torch.equal(generate(make(), prompt(2, 20), 0), prompt(2, 20))


def test_stream_is_generate() -> None:
    """`stream` yields the columns that `generate` returns, each as soon as it is drawn."""
    net, start = make(), prompt(3, 4)
    steps = stream(net, start, 20, generator=seeded([1, 2, 3]), stop=7)
    first = next(steps)
    columns = torch.stack([first, *steps], dim=1)
    assert torch.equal(generate(net, start, 20, generator=seeded([1, 2, 3]), stop=7)[:, 4:], columns)


# -- randomness -----------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6), st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 20))
def test_a_row_s_text_does_not_depend_on_the_batch(seeds: list[int], temperature: float, length: int) -> None:
    """With a generator of its own a row's text is the same alone and in any batch, also when the window slides."""
    net, start = make(), prompt(1, length).expand(len(seeds), -1)
    together = generate(net, start, 25, temperature, top_k=20, top_p=0.95, generator=seeded(seeds), stop=7)
    for row, seed in enumerate(seeds):
        alone = generate(net, start[:1], 25, temperature, top_k=20, top_p=0.95, generator=seeded([seed]), stop=7)[0]
        assert torch.equal(together[row, : len(alone)], alone)
        assert (together[row, len(alone) :] == 7).all()


def test_a_wide_row_does_not_touch_its_neighbours() -> None:
    """With top_p one row may need thousands of tokens and the next a few: each draws as if alone."""
    torch.manual_seed(0)
    logits = torch.stack([torch.zeros(3000), torch.randn(3000) * 4, torch.zeros(3000), torch.randn(3000) * 9])
    sizes = [int((keep(row[None].exp(), None, 0.9)[0] > 0).sum()) for row in logits]
    assert sizes[0] == sizes[2] == 2700
    assert max(sizes[1], sizes[3]) < 100

    def chosen(rows: list[int]) -> list[int]:
        head: Any = lambda hidden: hidden  # noqa: E731
        return choose(head, logits[rows], Choice(1.0, None, 0.9), seeded(rows)).tolist()

    assert chosen([0, 1, 2, 3]) == [chosen([row])[0] for row in range(4)]


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


def test_dropout_is_off_in_training_mode_too() -> None:
    """A network in training mode writes what it writes in evaluation mode."""
    net, start = make(dropout=0.5), prompt(2, 3)
    text = generate(net, start, 10, temperature=0.0)
    assert torch.equal(generate(net.train(), start, 10, temperature=0.0), text)


def test_the_text_may_be_trained_on() -> None:
    """What `generate` returns is an ordinary tensor: a loss on it has gradients."""
    net = make()
    text = generate(net, prompt(2, 3), 8, generator=seeded([1, 2]))
    net.loss(text[:, :-1], text[:, 1:]).backward()


@pytest.mark.parametrize("vocab_size", [1, 2, 5, 9, 10, 101])
def test_draws_follow_the_weights(vocab_size: int) -> None:
    """100,000 draws: each index as often as its weight says (chi-squared, p > 1e-4), those of weight 0 never."""
    from scipy.stats import chi2  # comes with mlflow

    generator = torch.Generator().manual_seed(vocab_size)
    weights = torch.rand(1, vocab_size, generator=generator) ** 3
    weights[0, 1::4] = 0.0
    count = 100_000
    drawn = draw(weights.expand(count, -1), generator).bincount(minlength=vocab_size).double()
    expected = (weights[0] / weights.sum()).double() * count
    assert (drawn[expected == 0] == 0).all()
    used = expected > 0
    statistic = float(((drawn - expected)[used] ** 2 / expected[used]).sum())
    assert statistic <= chi2.ppf(1 - 1e-4, max(1, int(used.sum()) - 1))


def test_text_follows_the_network_s_distribution() -> None:
    """At temperature T the first token's frequencies are softmax(logits / T)."""
    net, start, count = make(), prompt(1, 4), 20_000
    with torch.no_grad():
        logits = net(start)[0, -1]
    for temperature in (0.7, 1.0, 1.5):
        text = generate(net, start.expand(count, -1), 1, temperature, generator=torch.Generator().manual_seed(1))
        share = text[:, -1].bincount(minlength=50) / count
        p = torch.softmax(logits / temperature, dim=-1)
        assert ((share - p).abs() <= 5 * (p * (1 - p) / count).sqrt() + 1e-4).all()


def test_a_random_number_of_zero_chooses_nothing_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.rand may return exactly 0; a token of weight 0 is not drawn even then."""
    rand = torch.rand

    def with_zeros(*size: int, **options: Any) -> Tensor:
        values = rand(*size, **options)
        values[:, 0] = 0.0
        return values

    monkeypatch.setattr(torch, "rand", with_zeros)
    weights = torch.tensor([[0.0, 0.0, 0.0, 0.3, 0.7, 0.0, 0.0, 0.0, 0.0]]).expand(50, -1)
    assert set(draw(weights, None).tolist()) <= {3, 4}


# -- top-k and top-p ------------------------------------------------------------------------------------

ROUGH = st.lists(st.integers(0, 3), min_size=1, max_size=12).filter(any)  # many equal weights


def by_hand(values: list[int], k: int) -> list[int]:
    """Places of the k largest values, of equals the first."""
    return sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]


@given(ROUGH, st.integers(1, 14))
def test_top_k_keeps_exactly_k(values: list[int], k: int) -> None:
    """Exactly the k largest, of equals at the edge the first; weights of 0 are drawn by nobody and may come in any order."""
    weights = torch.tensor([values, values], dtype=torch.float32)
    kept, tokens = likeliest(weights, min(k, len(values)))
    assert tokens.size(1) == min(k, len(values))
    for row in range(2):
        assert kept[row].tolist() == [values[token] for token in tokens[row].tolist()]
        assert kept[row].tolist() == sorted(kept[row].tolist(), reverse=True)
        assert {int(token) for token in tokens[row] if values[token]} == {
            place for place in by_hand(values, k) if values[place]
        }


@given(ROUGH, st.integers(1, 99), st.none() | st.integers(1, 14))
def test_top_p_keeps_the_smallest_set(values: list[int], percent: int, top_k: int | None) -> None:
    """The fewest likeliest tokens with the share `top_p` of what top_k left."""
    weights = torch.tensor([values], dtype=torch.float32) / 7
    kept, tokens = keep(weights, top_k, percent / 100)
    order = by_hand(values, top_k or len(values))
    goal = percent * sum(values[place] for place in order)
    sums = [100 * sum(values[place] for place in order[: count + 1]) for count in range(len(order))]
    fewest = next(count + 1 for count, reached in enumerate(sums) if reached >= goal)
    one_more = fewest + (sums[fewest - 1] == goal)  # where a sum meets the share exactly, rounding decides
    stayed = [int(token) for token, weight in zip(tokens[0], kept[0], strict=True) if weight > 0]
    assert set(stayed) <= set(order)
    assert len(stayed) == len(set(stayed))
    assert [values[token] for token in stayed] in ([values[place] for place in order[:count]] for count in (fewest, one_more))


@pytest.mark.parametrize("spread", [0.1, 8.0])
def test_a_wide_nucleus_is_not_cut_short(spread: float) -> None:
    """top_p of a flat distribution over many tokens, and of a steep one, keeps what a full sort keeps."""
    torch.manual_seed(0)
    weights = (torch.randn(3, 5000) * spread).exp()
    for share in (0.01, 0.5, 0.999):
        kept, tokens = keep(weights, None, share)
        ordered, places = weights.double().sort(dim=-1, descending=True)
        p = ordered / ordered.sum(-1, keepdim=True)
        sizes = (p.cumsum(-1) - p < share).sum(-1)
        for row in range(3):
            assert abs(int((kept[row] > 0).sum()) - int(sizes[row])) <= (1 if spread < 1 else 0)
            assert set(tokens[row, : sizes[row] - 1].tolist()) == set(places[row, : sizes[row] - 1].tolist())


def test_top_k_of_one_is_greedy() -> None:
    """k = 1 and the smallest top_p leave the likeliest token only."""
    net, start = make(), prompt(3, 4)
    expected = generate(net, start, 20, temperature=0.0)
    assert torch.equal(generate(net, start, 20, top_k=1, generator=seeded([1, 2, 3])), expected)
    assert torch.equal(generate(net, start, 20, top_p=1e-9, generator=seeded([1, 2, 3])), expected)


def test_limits_that_keep_all_change_nothing() -> None:
    """top_k at or above the vocabulary and top_p = 1 give the text without them."""
    net, start = make(), prompt(2, 4)
    expected = generate(net, start, 20, generator=seeded([1, 2]))
    assert torch.equal(generate(net, start, 20, top_k=1000, top_p=1.0, generator=seeded([1, 2])), expected)


# -- the head in float16 --------------------------------------------------------------------------------


@pytest.fixture
def large_head(monkeypatch: pytest.MonkeyPatch) -> GPT2:
    """A network whose head counts as large."""
    monkeypatch.setattr(model.decoder_head, "LARGE", 1)
    return make(vocab_size=500)


def test_half_logits_stay_within_the_bound(large_head: GPT2) -> None:
    """Float16 moves no logit by more than `error`, for tiny, ordinary and huge weights; where there is none, by nothing."""
    torch.manual_seed(0)
    for scale in (1e-9, 1e-4, 1.0, 1e3, 1e6):
        weight, hidden = torch.randn(300, 32) * scale, torch.randn(4, 32)
        head = Logits(weight)
        off = (head(hidden) - hidden @ weight.t()).abs().amax(dim=-1)
        bound = head.error if head.half is not None else 0.0
        assert (off <= (bound + 3e-6 * scale) * hidden.norm(dim=-1)).all(), scale


def test_likeliest_is_float32_s(large_head: GPT2) -> None:
    """The greedy token is that of the float32 logits even where float16 cannot tell the best two apart."""
    torch.manual_seed(0)
    weight = torch.randn(300, 32)
    weight[200:] = weight[:100] * (1 + 1e-5 * torch.randn(100, 1))  # pairs closer than float16 resolves
    head, hidden = Logits(weight), torch.cat([torch.randn(400, 32), 3 * weight[:200]])
    exact = hidden.double() @ weight.double().t()
    best, token = head.likeliest(hidden)
    torch.testing.assert_close(best.double(), exact.amax(-1), atol=1e-2, rtol=1e-3)
    chosen = exact.gather(1, token[:, None])[:, 0]
    assert (chosen >= exact.amax(-1) * (1 - 1e-6)).all()


def test_greedy_with_a_half_head_is_the_uncached_loop(large_head: GPT2) -> None:
    """The whole loop, too."""
    start = prompt(3, 4, 500)
    assert torch.equal(generate(large_head, start, 30, temperature=0.0), greedy_by_hand(large_head, start, 30))


def test_changed_weights_are_noticed(large_head: GPT2) -> None:
    """The kept copy follows the weights, however they are changed."""
    start = prompt(1, 4, 500)
    texts = [generate(large_head, start, 10, temperature=0.0)]
    assert logits_of(large_head) is logits_of(large_head)
    large_head.wte.weight.data.neg_()  # torch's version counter does not see this
    texts.append(generate(large_head, start, 10, temperature=0.0))
    assert not torch.equal(texts[0], texts[1])
    assert torch.equal(texts[1], greedy_by_hand(large_head, start, 10))


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
def test_broken_weights_are_told(temperature: float) -> None:
    """NaN in the weights raises ValueError instead of writing nonsense."""
    net = make()
    net.ln_f.weight.data[3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        generate(net, prompt(2, 3), 5, temperature=temperature)
