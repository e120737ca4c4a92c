"""True distribution: the exact probability of every next token of a storybook's story, given the tokens before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from stages.storybook.grammar import Grammar, State

Branch = tuple[tuple[int, ...], State]  # tokens of the word being written that are still to come, and the state after it


def true_distribution(
    book: Grammar, encode: Callable[[str], Sequence[int]], end_of_text: int, tokens: Sequence[int]
) -> Iterator[dict[int, float]]:
    """The distribution of each of `tokens` given those before it, over all stories that the grammar could be telling.

    Each is token -> probability, summing to 1; the product of the tokens' own is the story's probability.

    All derivations that agree with the tokens so far are followed word by word. GPT-2's tokens never reach over a blank, so
    each word is encoded by itself, with the blank before it, and a derivation agrees if its tokens are the same, not only its
    letters: " he" is not the beginning of " helped", where that is one token.

    Raises:
        ValueError: the grammar never tells a story that begins with these tokens.
    """
    known: dict[str, tuple[int, ...]] = {}
    branches: list[Branch] = [((), book.begin())]
    for token in tokens:
        ahead: list[Branch] = []
        for waiting, state in branches:
            if waiting:
                ahead.append((waiting, state))
                continue
            for word, ends, after in book.next_words(state):
                if word not in known:
                    known[word] = tuple(encode(word))
                ahead.append((known[word] + ((end_of_text,) if ends else ()), after))
        mass: dict[int, float] = {}
        for waiting, (_, _, probability) in ahead:
            mass[waiting[0]] = mass.get(waiting[0], 0.0) + probability
        if token not in mass:
            raise ValueError("the storybook tells no story that begins with these tokens")
        total = sum(mass.values())
        yield {candidate: probability / total for candidate, probability in mass.items()}
        branches = [(waiting[1:], state) for waiting, state in ahead if waiting[0] == token]
