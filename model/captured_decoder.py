"""Generation on a GPU: one step, from token to token, recorded as a CUDA graph and replayed.

At batch sizes of a few rows a GPU waits for the CPU that launches some two hundred small kernels per step. Replaying a graph
launches them all at once. For that the CPU must not need any value from the GPU during a step: tokens, position, cache, mask
and random numbers are kept in buffers that never move, the attention reads the whole cache behind a mask, and the CPU looks at
the tokens only every `STEPS` steps. What was written beyond the last row's stop token is discarded.

The steps are plain functions of those buffers: tests run them on a CPU, without a graph, against `Decoder`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from model.choice import NOT_FINITE, Choice, Generators, Noise, choose_ahead
from model.decoder import Layer, normalise, through
from model.gpt2 import GPT2, Block

STEPS = 16  # between two looks at the tokens
Step = Callable[[], None]


def can_capture(net: GPT2, choice: Choice, generator: Generators) -> bool:
    """Whether `captured_steps` can write this: on a GPU, with the mask, and a known count of random numbers from the CPU."""
    if not net.wte.weight.is_cuda or not net.config.causal:
        return False
    own = [generator] if generator is None or isinstance(generator, torch.Generator) else generator
    on_cpu = all(one is None or one.device.type == "cpu" for one in own)
    return choice.greedy or (on_cpu and choice.candidates(net.config.vocab_size) is not None)


def captured_steps(
    net: GPT2, prompt: Tensor, count: int, choice: Choice, generator: Generators, stop: int | None
) -> Iterator[Tensor]:
    """The steps of `stream`, with arguments that it has checked. Except for rounding, the tokens are those of a CPU."""
    writer = _writer(net, prompt.size(0), choice, stop)
    noise = None if choice.greedy else Noise(prompt.size(0), choice.candidates(net.config.vocab_size) or 0, generator)
    yield from writer.write(prompt, count, noise)


class Writer:
    """One batch of rows in static buffers.

    Args:
        net: the network; the steps read its weights where they are, so a change of their values is seen.
        batch: B, rows.
        choice: how tokens are chosen, with a fixed number of candidates.
        stop: a row that yields this token is finished, and filled up with it.
    """

    def __init__(self, net: GPT2, batch: int, choice: Choice, stop: int | None) -> None:
        self.config = c = net.config
        self.choice, self.stop = choice, stop
        self.wte, self.wpe, self.head = net.wte.weight, net.positions(), net.lm_head.weight
        self.ln_f = (net.ln_f.weight, net.ln_f.bias)
        self.layers = [_layer(block) for block in net.h]  # type: ignore[arg-type]
        device = self.wte.device
        self.cache = self.wte.new_zeros(c.n_layer, 2, batch, c.n_head, c.block_size, c.head_size)  # 2: keys and values
        self.columns = torch.arange(c.block_size, device=device)
        self.noise = torch.ones(STEPS, batch, 0, dtype=torch.float64, device=device)
        if not choice.greedy:
            columns = Noise(batch, choice.candidates(c.vocab_size) or 0, None).columns
            self.noise = torch.ones(STEPS, batch, columns, dtype=torch.float64, device=device)
        self.token = torch.zeros(batch, 1, dtype=torch.int64, device=device)  # the newest one, not yet in the cache
        self.window = torch.zeros(batch, c.block_size, dtype=torch.int64, device=device)  # the tokens that count
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of `token`
        self.step = torch.zeros(1, dtype=torch.int64, device=device)  # within the block
        self.made = torch.zeros(batch, STEPS, dtype=torch.int64, device=device)
        self.finished = torch.zeros(batch, dtype=torch.bool, device=device)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.busy = False
        self._recorded: dict[str, Step] = {}

    def write(self, prompt: Tensor, count: int, noise: Noise | None) -> Iterator[Tensor]:
        """Continue the prompt by up to `count` tokens; yields (B,) for each step.

        Raises:
            ValueError: the logits are not finite.
        """
        self.busy = True
        try:
            yield from self._write(prompt, count, noise)
        finally:
            self.busy = False

    def _write(self, prompt: Tensor, count: int, noise: Noise | None) -> Iterator[Tensor]:
        context, known = self.config.block_size, min(prompt.size(1), self.config.block_size)
        self.finished.fill_(False)
        self.finite.fill_(True)
        finished = torch.zeros(len(prompt), dtype=torch.bool)  # as far as the CPU knows
        blocks = [min(STEPS, count - done) for done in range(0, count, STEPS)]
        drawn = _draw(noise, blocks[:1])
        for block, steps in enumerate(blocks):
            mark, numbers = drawn
            if numbers is not None:
                self.noise[:steps].copy_(numbers)
            self.step.zero_()
            for number in range(steps):
                if block == number == 0:
                    self._begin(prompt[:, -context:])
                elif known < context:
                    self._run("grow")
                    known += 1
                else:
                    self._run("slide")
            made = self.made[:, :steps].clone()
            drawn = _draw(noise, blocks[block + 1 : block + 2])  # while the device works
            used = self._used(made, finished)
            over = bool(finished.all())
            if over and noise is not None:
                noise.back_to(mark, used)
            yield from made[:, :used].unbind(1)
            if over:
                return

    def _used(self, made: Tensor, finished: Tensor) -> int:
        """Steps of the block until the last row was finished; `finished` (B,) on the CPU is brought up to date."""
        if not bool(self.finite):
            raise ValueError(NOT_FINITE)
        if self.stop is not None:
            for step, stopped in enumerate((made == self.stop).cpu().unbind(1), start=1):
                if bool(finished.logical_or_(stopped).all()):
                    return step
        return made.size(1)

    # -- the steps: plain functions of the buffers --------------------------------------------------------

    def _begin(self, prompt: Tensor) -> None:
        """Take in the prompt, (B, T) with T <= block_size, and choose the first token. Not recorded: T varies."""
        T = prompt.size(1)
        self.window[:, :T].copy_(prompt)
        self.position.fill_(T)
        x = F.embedding(prompt, self.wte).add_(self.wpe[:T])
        self._choose(self._whole(x, keep=True))

    def _grow(self) -> None:
        """Put the newest token into the cache and choose the next one."""
        B, H, hs = len(self.token), self.config.n_head, self.config.head_size
        self.window.index_copy_(1, self.position, self.token)
        mask = self.wte.new_zeros(1, 1, 1, len(self.columns)).masked_fill(self.columns > self.position, -torch.inf)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            parts = qkv.view(B, 3, H, 1, hs).transpose(0, 1)  # queries, keys, values, each (B, H, 1, hs)
            keys, values = self.cache[layer].index_copy_(3, self.position, parts[1:]).unbind(0)
            return F.scaled_dot_product_attention(parts[0], keys, values, attn_mask=mask).reshape(B, H * hs)

        x = F.embedding(self.token[:, 0], self.wte).add_(self.wpe.index_select(0, self.position))  # (B, C)
        x = through(self.layers, x, attend)
        self.position.add_(1)
        self._choose(normalise(x, self.ln_f))

    def _slide(self) -> None:
        """The context is full: move the window by the newest token, compute it all again, and choose the next one."""
        self.window.copy_(torch.cat([self.window[:, 1:], self.token], dim=1))
        self._choose(self._whole(F.embedding(self.window, self.wte).add_(self.wpe)))

    def _whole(self, x: Tensor, keep: bool = False) -> Tensor:
        """Embeddings (B, T, C) -> the last token's hidden state (B, C); `keep` fills the cache."""
        B, T, C = x.shape
        H, hs = self.config.n_head, self.config.head_size

        def attend(layer: int, qkv: Tensor) -> Tensor:
            q, k, v = qkv.view(B, T, 3, H, hs).permute(2, 0, 3, 1, 4)  # (B, H, T, hs) each
            if keep:
                self.cache[layer, 0, :, :, :T].copy_(k)
                self.cache[layer, 1, :, :, :T].copy_(v)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return y.transpose(1, 2).reshape(B * T, C)

        return normalise(through(self.layers, x.view(B * T, C), attend).view(B, T, C)[:, -1], self.ln_f)

    def _choose(self, hidden: Tensor) -> None:
        logits = F.linear(hidden, self.head).float()  # (B, V)
        noise = self.noise.index_select(0, self.step)[0]  # (B, 2 side)
        new, finite = choose_ahead(logits, self.choice, noise)
        self.finite.logical_and_(finite)
        if self.stop is not None:
            new = new.masked_fill(self.finished, self.stop)
            self.finished.logical_or_(new == self.stop)
        self.token.copy_(new[:, None])
        self.made.index_copy_(1, self.step, self.token)
        self.step.add_(1)

    # -- recording ----------------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        """Run a step. On a GPU it is recorded at its first use and replayed from then on."""
        if name not in self._recorded:
            step = self._grow if name == "grow" else self._slide
            self._recorded[name] = self._record(step) if self.wte.is_cuda else step
        self._recorded[name]()

    def _record(self, step: Step) -> Step:
        """The step as a CUDA graph. Recording runs it a few times; afterwards the buffers get their values back."""
        buffers = (self.token, self.window, self.position, self.step, self.made, self.finished, self.finite)
        values = [buffer.clone() for buffer in buffers]

        def restore() -> None:
            for buffer, value in zip(buffers, values, strict=True):
                buffer.copy_(value)

        try:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):  # libraries make their workspaces now, not while recording
                    step()
                    restore()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
        except RuntimeError as error:  # out of memory, an old driver
            restore()
            reason = str(error).strip().splitlines()[:1]
            print(f"generation runs without a CUDA graph, more slowly ({''.join(reason)})", file=sys.stderr)
            return step
        return graph.replay


def _draw(noise: Noise | None, blocks: list[int]) -> tuple[list[Tensor], Tensor | None]:
    """The random numbers of the next block, if there is one and it needs any, and where they begin."""
    if noise is None or not blocks:
        return [], None
    return noise.mark(), noise.take(blocks[0])


_latest: WeakKeyDictionary[GPT2, tuple[Any, Writer]] = WeakKeyDictionary()


def _writer(net: GPT2, batch: int, choice: Choice, stop: int | None) -> Writer:
    """The network's last writer if it fits (recording takes as long as some hundred steps). Moved weights need a new one."""
    places = tuple(parameter.data_ptr() for parameter in net.parameters())
    key = (batch, choice, stop, places)
    if net not in _latest or _latest[net][0] != key or _latest[net][1].busy:
        _latest[net] = (key, Writer(net, batch, choice, stop))
    return _latest[net][1]


def _layer(block: Block) -> Layer:
    """Views of the weights."""
    attn, mlp = block.attn, block.mlp
    linear = [(one.bias, one.weight.t()) for one in (attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj)]
    norm = [(one.weight, one.bias) for one in (block.ln_1, block.ln_2)]
    return Layer(norm[0], linear[0], linear[1], norm[1], linear[2], linear[3])
