"""Writing text: the prompt in one pass, then a token at a time, with the keys and values of earlier tokens in a cache.

A GPU waits for the CPU that launches a step's few hundred kernels. So a step works on buffers that do not move, and can be
recorded as a CUDA graph by a recorder that is handed in; without one, the same function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from model.gpt2 import GPT2
from model.kv_cache import KVCache
from model.sampling import Generators, SamplingParams, exponential_noise, exponential_race, token_weights

ReplayFn = Callable[[], None]
Recorder = Callable[[ReplayFn], ReplayFn]  # runs a function a few times and returns one that repeats it
LOOK_EVERY = 16  # recorded steps between two looks at the tokens, for which the CPU must wait for the GPU


def generate(
    net: GPT2,
    prompt: Tensor,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generators = None,
    stop: int | None = None,
    record: Recorder | None = None,
) -> Tensor:
    """Continue each row of `prompt`, (B, T0) int64, to (B, <= T0 + max_new_tokens): shorter only if all rows are finished.

    Each token is drawn given the `block_size` tokens before it. Neither the network's mode nor its weights change, and no
    random numbers are taken from elsewhere than `generator`.

    `temperature`, `top_k` and `top_p` are those of `SamplingParams`. With a generator for each row, a row's text does not
    depend on the others; None = torch's global one. A row that yields `stop` is finished, and filled up with it. On a GPU,
    `record` makes a CUDA graph of a step.

    Raises:
        ValueError: an argument out of range, or logits that are not finite.
    """
    params = SamplingParams(temperature, top_k, top_p)
    new = [column[:, None] for column in stream(net, prompt, max_new_tokens, params, generator, stop, record)]
    return torch.cat([prompt, *new], dim=1)


@torch.inference_mode()
def stream(
    net: GPT2,
    prompt: Tensor,
    max_new_tokens: int,
    params: SamplingParams,
    generator: Generators = None,
    stop: int | None = None,
    record: Recorder | None = None,
) -> Iterator[Tensor]:
    """Like `generate`, but yields each step's new tokens (B,) as soon as they are known: one by one, or recorded in blocks."""
    _check(net, prompt, max_new_tokens, generator)
    texts, training = _Texts(net, prompt, max_new_tokens, params, stop, record), net.training
    waiting: list[Tensor] = []
    for left in reversed(range(max_new_tokens)):
        noise = None if params.greedy else exponential_noise(len(prompt), net.config.vocab_size, generator)
        if training:  # without dropout; between two tokens the mode is the caller's
            net.eval()
        waiting.append(texts.next(noise))
        if training:
            net.train()
        if record is not None and left and len(waiting) < LOOK_EVERY:
            continue
        if not bool(texts.finite):
            raise ValueError("the logits are not finite: the weights are damaged, or their training diverged")
        done = [False] * len(waiting) if stop is None else (torch.stack(waiting) == stop).all(dim=1).tolist()
        for new, all_finished in zip(waiting, done, strict=True):
            yield new
            if all_finished:
                return
        waiting.clear()


class _Texts:
    """A batch of texts that grow. A step uses buffers that do not move, so that it can be recorded."""

    def __init__(
        self,
        net: GPT2,
        prompt: Tensor,
        max_new_tokens: int,
        params: SamplingParams,
        stop: int | None,
        record: Recorder | None,
    ) -> None:
        self.net, self.params, self.stop, self.record = net, params, stop, record
        B, self.end = prompt.shape  # the end of what is known of `text`
        self.text = torch.cat([prompt, prompt.new_zeros(B, max_new_tokens)], dim=1)
        self.cache = KVCache(net.config, B, net.wte.weight) if net.config.causal else None
        self.prefilled = False
        self.newest = prompt.new_zeros(1)  # its place in `text`, which is not in the cache yet
        self.noise = exponential_noise(B, net.config.vocab_size, torch.Generator()).to(prompt.device)
        self.finished = torch.zeros(B, dtype=torch.bool, device=prompt.device)
        self.finite = torch.ones((), dtype=torch.bool, device=prompt.device)
        self.recorded: dict[str, ReplayFn] = {}

    def next(self, noise: Tensor | None) -> Tensor:
        """Draw the next token of each text, (B,), with these random numbers."""
        if noise is not None:
            self.noise.copy_(noise, non_blocking=True)
        self.newest.fill_(self.end - 1)
        if self.cache is None or not self.prefilled:
            self.prefill()
        elif self.end <= self.net.config.block_size:
            if self.record is None:
                self.cache.read(self.end)
            self._run(self.decode_step)
        else:
            self._run(self.slide_step)
        self.end += 1
        return self.text[:, self.end - 1]

    def prefill(self) -> None:
        """Put the known tokens into the cache and draw the next one. Without a mask there is no cache: each step is this."""
        known = self.text[:, max(0, self.end - self.net.config.block_size) : self.end]
        self._draw(self.net(known, self.cache, last=True))
        self.prefilled = True

    def decode_step(self) -> None:
        """Put the newest token into the cache and draw the next one."""
        assert self.cache is not None
        self.cache.position.copy_(self.newest)
        self._draw(self.net(self.text.index_select(1, self.newest), self.cache, last=True))

    def slide_step(self) -> None:
        """The window has moved by one: every position has changed, so all are computed again. Draw the next token."""
        context = self.net.config.block_size
        places = self.newest + torch.arange(1 - context, 1, device=self.newest.device)
        self._draw(self.net(self.text.index_select(1, places), last=True))

    def _draw(self, logits: Tensor) -> None:
        logits = logits.float()  # (B, V)
        largest, new = logits.max(dim=-1)
        self.finite.logical_and_(largest.isfinite().all())
        if not self.params.greedy:
            new = exponential_race(token_weights(logits.contiguous(), self.params), self.noise)
        if self.stop is not None:
            new = new.masked_fill(self.finished, self.stop)
            self.finished.logical_or_(new == self.stop)
        self.text.index_copy_(1, self.newest + 1, new[:, None])

    def _run(self, step: ReplayFn) -> None:
        if self.record is not None:
            if step.__name__ not in self.recorded:
                self.recorded[step.__name__] = self.record(step)
            step = self.recorded[step.__name__]
        step()


def _check(net: GPT2, prompt: Tensor, max_new_tokens: int, generator: Generators) -> None:
    if prompt.dim() != 2 or not prompt.size(1) or prompt.dtype != torch.int64:
        raise ValueError(f"prompt must be (B, T0) int64 with T0 >= 1, it is {tuple(prompt.shape)} {prompt.dtype}")
    if prompt.numel() and not 0 <= int(prompt.min()) <= int(prompt.max()) < net.config.vocab_size:
        raise ValueError(f"prompt has tokens outside the vocabulary of {net.config.vocab_size}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or more, it is {max_new_tokens}")
    if isinstance(generator, Sequence) and len(generator) != prompt.size(0):
        raise ValueError(f"{len(generator)} generators for {prompt.size(0)} rows")
