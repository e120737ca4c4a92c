"""Samples: texts that the network writes, each from its own seed, whole or piece by piece."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model import GPT2
from model.generation import stream
from model.sampling import SamplingParams
from stages.common import progress
from stages.common.params import GenerateParams
from stages.compute import saved_model
from stages.compute.cuda_graph import cuda_graph, recorded_or_plain
from stages.corpus.tokenizer import Tokenizer

ROWS = 32  # samples written at once; a sample does not depend on the others in its batch


@dataclass(frozen=True)
class Sample:
    """One text: the prompt and what the network wrote after it."""

    prompt: str
    number: int  # of this prompt's samples, from 1
    continuation: str
    tokens: list[int]  # the continuation's ids, without end-of-text
    finished: bool  # ended with end-of-text, not cut at max_new_tokens

    @property
    def text(self) -> str:
        """The whole text."""
        return self.prompt + self.continuation


def write(net: GPT2, tokenizer: Tokenizer, params: GenerateParams) -> list[Sample]:
    """`num_samples` texts of each prompt. The same params give the same texts; more samples leave the first as they are.

    Raises:
        UserError: the network's logits are not finite.
    """
    starts = [_start(net, tokenizer, prompt) for prompt in params.prompts]
    samples = []
    batches = -(-params.num_samples // ROWS)
    with progress.bar(len(starts) * batches * params.max_new_tokens, "generate", " steps") as bar:
        for place, (prompt, start) in enumerate(zip(params.prompts, starts, strict=True)):
            for first in range(1, params.num_samples + 1, ROWS):
                numbers = range(first, min(first + ROWS, params.num_samples + 1))
                steps = []
                for new in _stream(net, tokenizer, params, start, place, numbers):
                    steps.append(new)
                    bar.update()
                bar.update(params.max_new_tokens - len(steps))  # all have finished
                rows = torch.stack(steps, dim=1).tolist()
                samples += [_sample(tokenizer, prompt, number, row) for number, row in zip(numbers, rows, strict=True)]
    return samples


def speak(net: GPT2, tokenizer: Tokenizer, params: GenerateParams, place: int, number: int) -> Iterator[str]:
    """The continuation of prompt `place` (from 0), sample `number`, in pieces as they come; a piece holds whole characters.

    It is the text that `write` gives.
    """
    start = _start(net, tokenizer, params.prompts[place])
    waiting: list[int] = []  # tokens whose bytes end inside a character
    for new in _stream(net, tokenizer, params, start, place, range(number, number + 1)):
        token = int(new[0])
        if token == tokenizer.end_of_text:
            break
        waiting.append(token)
        piece = tokenizer.decode(waiting)
        if not piece.endswith("\N{REPLACEMENT CHARACTER}"):
            yield piece
            waiting = []
    yield tokenizer.decode(waiting)


def _stream(
    net: GPT2, tokenizer: Tokenizer, params: GenerateParams, start: Tensor, place: int, numbers: range
) -> Iterator[Tensor]:
    sampling = SamplingParams(params.temperature, params.top_k, params.top_p)
    generators = [_generator(params.seed, place, number) for number in numbers]
    record = recorded_or_plain(cuda_graph(start.device), "writing a token") if start.is_cuda else None
    prompt = start.expand(len(numbers), -1)
    try:
        yield from stream(net, prompt, params.max_new_tokens, sampling, generators, tokenizer.end_of_text, record)
    except ValueError as error:  # what else it checks, params.yaml's limits exclude
        raise saved_model.not_finite() from error


def _start(net: GPT2, tokenizer: Tokenizer, prompt: str) -> Tensor:
    """(1, T): end-of-text, after which every training text begins, and the prompt; its tail if it exceeds the context."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)]
    context = net.config.block_size
    if len(ids) > context:
        print(f"the prompt {prompt[:30]!r}… has {len(ids):,} tokens; the model sees the last {context:,}", file=sys.stderr)
    return torch.tensor([ids[-context:]], device=net.wte.weight.device)


def _generator(seed: int, place: int, number: int) -> torch.Generator:
    """Random numbers for one sample; neighboring seeds have nothing in common."""
    digest = hashlib.sha256(f"sample/{seed}/{place}/{number}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))  # mt19937 takes 32 bits


def _sample(tokenizer: Tokenizer, prompt: str, number: int, row: list[int]) -> Sample:
    finished = tokenizer.end_of_text in row
    tokens = row[: row.index(tokenizer.end_of_text)] if finished else row
    return Sample(prompt, number, tokenizer.decode(tokens), tokens, finished)
