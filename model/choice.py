"""Choosing a token from logits: temperature, top-k, top-p, and a draw in which each row has its own random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.decoder_head import Logits

Generators = torch.Generator | Sequence[torch.Generator] | None
COLDEST = 1e-6  # a lower temperature is treated as greedy: logits are not precise enough for it
NUCLEUS = 1024  # tokens that top-p tries first; sorting them all takes ten times as long


@dataclass(frozen=True)
class Choice:
    """How tokens are chosen; `top_k` and `top_p` as in `generate`."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    @property
    def greedy(self) -> bool:
        """The likeliest token, without a random number."""
        return self.temperature < COLDEST

    @property
    def limited(self) -> bool:
        """Not every token may be drawn."""
        return self.top_k is not None or self.top_p is not None

    def candidates(self, vocab_size: int) -> int | None:
        """How many tokens each draw is made from; None if that depends on the logits."""
        if self.top_k is not None:
            return min(self.top_k, vocab_size)
        return vocab_size if self.top_p is None or vocab_size <= NUCLEUS else None


def choose(head: Logits, hidden: Tensor, choice: Choice, generator: Generators) -> Tensor:
    """(B, C) hidden states -> (B,) tokens.

    Raises:
        ValueError: the logits are not finite.
    """
    if choice.greedy:
        best, token = head.likeliest(hidden)
        _check_finite(best)
        return token
    logits = head(hidden).float()
    best = logits.amax(dim=-1, keepdim=True)
    _check_finite(best)
    weights = likelihoods(logits, best, choice.temperature)
    if not choice.limited:
        return draw(weights, generator)
    own = generator if isinstance(generator, Sequence) else [generator] * len(weights)
    return torch.cat([_draw_limited(row[None], choice, one) for row, one in zip(weights, own, strict=True)])


def choose_ahead(logits: Tensor, choice: Choice, noise: Tensor) -> tuple[Tensor, Tensor]:
    """`choose` without waiting for the device: the random numbers are given, and whether the logits are finite is returned.

    Args:
        logits: (B, V) float32.
        choice: with a fixed number of `candidates`.
        noise: (B, 2 side) of `Noise`; not used by a greedy choice.

    Returns:
        (B,) the tokens that `choose` gives, and () whether the logits are finite.
    """
    best = logits.amax(dim=-1, keepdim=True)
    finite = best.isfinite().all()
    if choice.greedy:
        return logits.argmax(dim=-1), finite
    weights = likelihoods(logits, best, choice.temperature)
    if not choice.limited:
        return race(weights, noise), finite
    values, tokens = weights.sort(dim=-1, descending=True, stable=True)
    kept = values[:, : choice.candidates(logits.size(1))]
    if choice.top_p is not None:
        kept = nucleus(kept, choice.top_p, (weights if choice.top_k is None else kept).sum(dim=-1, keepdim=True))
    return tokens.gather(1, race(kept, noise)[:, None])[:, 0], finite


def likelihoods(logits: Tensor, best: Tensor, temperature: float) -> Tensor:
    """(B, V) weights to draw by, the likeliest token's is 1."""
    weights = logits - best
    if temperature != 1.0:
        weights.div_(temperature)
    return weights.exp_()


def _draw_limited(weights: Tensor, choice: Choice, generator: Generators) -> Tensor:
    """One row at a time: the number of candidates, and so of random numbers taken, differs from row to row."""
    kept, tokens = keep(weights, choice.top_k, choice.top_p)
    return tokens[0, draw(kept, generator)]


NOT_FINITE = "the logits are not finite: the weights are damaged, or their training diverged"


def _check_finite(best: Tensor) -> None:
    if not all(map(math.isfinite, best.flatten().tolist())):  # a tenth of the time of three operations on a few numbers
        raise ValueError(NOT_FINITE)


def keep(weights: Tensor, top_k: int | None, top_p: float | None) -> tuple[Tensor, Tensor]:
    """The weights that top-k, then top-p leave, in falling order (0 where top-p removed one), and their tokens: (B, n) each."""
    V = weights.size(1)
    if top_k is not None:
        kept, tokens = likeliest(weights, top_k)
        total = kept.sum(dim=-1, keepdim=True)
    else:
        kept, tokens = likeliest(weights, min(NUCLEUS, V))
        total = weights.sum(dim=-1, keepdim=True)
        if top_p is not None and bool((kept.sum(dim=-1, keepdim=True) < top_p * total).any()):
            kept, tokens = likeliest(weights, V)
    if top_p is not None:
        kept = nucleus(kept, top_p, total)
    return kept, tokens


def nucleus(kept: Tensor, top_p: float, total: Tensor) -> Tensor:
    """The weights, which are in falling order, with 0 from the place on where those before it sum to `top_p` of the total."""
    before = kept.cumsum(dim=-1, dtype=torch.float64) - kept
    return kept.masked_fill(before >= top_p * total, 0.0)


def likeliest(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest weights of each row in falling order, of equals at the edge the first, and their tokens: (B, k) each."""
    if k < weights.size(1):
        values, tokens = weights.topk(k + 1)
        if not bool(((values[:, k - 1] == values[:, k]) & (values[:, k] > 0)).any()):
            return values[:, :k], tokens[:, :k]
    values, tokens = weights.sort(dim=-1, descending=True, stable=True)
    return values[:, :k], tokens[:, :k]


def draw(weights: Tensor, generator: Generators) -> Tensor:
    """Draw one index of each row with probability proportional to its weight, (B, V) -> (B,).

    Two exponential races: one draws a block of about sqrt(V) neighbouring tokens, the other a token of that block. A race's
    winner changes only when two runners are within rounding of each other, so a row's draw is the same in any batch; an
    inverted cumulative sum would pass each rounding error on to all boundaries after it. Two races also need only 2 sqrt(V)
    random numbers instead of V.
    """
    B, V = weights.shape
    return race(weights, _exponentials(B, 2 * _side(V), generator).to(weights.device))


def race(weights: Tensor, noise: Tensor) -> Tensor:
    """(B, V) weights, (B, 2 side) exponential variates -> (B,) winners, see `draw`."""
    B, V = weights.shape
    side = _side(V)
    blocks = F.pad(weights, (0, side * side - V)).view(B, side, side)
    block = (blocks.sum(-1) / noise[:, :side]).argmax(-1, keepdim=True)  # (B, 1)
    entries = blocks.gather(1, block[:, :, None].expand(-1, 1, side))[:, 0]  # (B, side)
    return block[:, 0] * side + (entries / noise[:, side:]).argmax(-1)


def _side(V: int) -> int:
    """Blocks, and tokens in a block."""
    return math.isqrt(V - 1) + 1


class Noise:
    """The random numbers of several steps at once, taken from the generators in the order in which single steps take them.

    Args:
        rows: B.
        candidates: tokens that each draw is made from.
        generator: as in `generate`, on the CPU.
    """

    def __init__(self, rows: int, candidates: int, generator: Generators) -> None:
        self._shape = (rows, 2 * _side(candidates))
        self._several = isinstance(generator, Sequence)
        one = torch.default_generator if generator is None else generator
        self._generators: list[torch.Generator] = list(one) if isinstance(one, Sequence) else [one]

    @property
    def columns(self) -> int:
        """Random numbers a row takes at each step."""
        return self._shape[1]

    def mark(self) -> list[Tensor]:
        """The generators' states, to come back to."""
        return [one.get_state() for one in self._generators]

    def take(self, steps: int) -> Tensor:
        """(steps, B, 2 side) standard exponential variates, float64."""
        return -self._uniform(steps).log()

    def back_to(self, mark: list[Tensor], used: int) -> None:
        """Leave the generators as if only `used` steps had been taken since the mark."""
        for one, state in zip(self._generators, mark, strict=True):
            one.set_state(state)
        self._uniform(used)

    def _uniform(self, steps: int) -> Tensor:
        rows, columns = self._shape
        if self._several:
            parts = [torch.rand(steps, columns, dtype=torch.float64, generator=one) for one in self._generators]
            return torch.stack(parts, dim=1)
        return torch.rand(steps, rows, columns, dtype=torch.float64, generator=self._generators[0])


def _exponentials(rows: int, columns: int, generator: Generators) -> Tensor:
    """(rows, columns) standard exponential variates, above 0, float64, on the generator's device."""
    if isinstance(generator, Sequence):
        uniform = torch.cat([_uniform(1, columns, one) for one in generator])
    else:
        uniform = _uniform(rows, columns, generator)
    return -uniform.log()  # from (0, inf]: rand is below 1 and may be 0


def _uniform(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.rand(rows, columns, dtype=torch.float64, generator=generator, device=device)
