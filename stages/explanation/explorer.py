"""Explorer: everything that the page shows of one network, measured and packed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from model import GPT2
from stages.common.progress import bar
from stages.corpus.tokenizer import Tokenizer
from stages.corpus.tokens import TokenFile
from stages.explanation import story_choice
from stages.explanation.attention_weights import attention_weights
from stages.explanation.head_roles import head_roles
from stages.explanation.packed import pack, pack_fractions, pack_nats
from stages.explanation.predictions import Ranking, logit_lens, rank
from stages.explanation.story_choice import SHORTEST, Story
from stages.explanation.token_text import TokenText, visible
from stages.explanation.true_distribution import true_distribution
from stages.storybook import story as storybook

STORIES, LONGEST = 8, 128  # shown: validation stories, and tokens of each
MEASURED = 48  # stories that the heads' roles are measured on
WEIGHTS = 3_200_000  # attention weights kept, of all stories together: what makes the page large
LIKELIEST, LENS = 5, 3  # tokens shown of a distribution: beside a token, in a layer


class Explorer:
    """Measures a network on a validation split; of a split from the storybook the true probabilities are known."""

    def __init__(self, net: GPT2, tokenizer: Tokenizer, validation: TokenFile, from_storybook: bool) -> None:
        self.net, self.tokenizer, self.validation, self.from_storybook = net, tokenizer, validation, from_storybook
        self.longest = min(LONGEST, net.config.block_size)
        heads = STORIES * net.config.n_layer * net.config.n_head
        self.attention_tokens = max(SHORTEST, min(self.longest, math.isqrt(WEIGHTS // heads)))  # of a story: all their weights
        self._show = TokenText(tokenizer)
        self._shown: set[int] = {tokenizer.end_of_text}  # tokens whose text the page needs

    def data(self, dataset: str) -> dict[str, Any]:
        """All of it, as JSON values; `dataset` is the name of what the network was trained on."""
        stories = story_choice.choose(self.validation, STORIES, self.attention_tokens, self.longest)
        with bar(len(stories) + 1, "explain", " parts") as progress:
            shown = []
            for story in stories:
                shown.append(self._story(story))
                progress.update()
            heads = self._heads()
            progress.update()
        return {"model": self._model(dataset), "stories": shown, "heads": heads, **self._vocabulary()}

    def _model(self, dataset: str) -> dict[str, Any]:
        c = self.net.config
        shape = {"layers": c.n_layer, "heads": c.n_head, "head_size": c.head_size, "width": c.n_embd, "context": c.block_size}
        rest = {"parameters": c.parameters, "position": c.position, "causal": c.causal}
        return {"dataset": visible(dataset), **shape, "vocabulary": c.vocab_size, **rest}

    def _story(self, story: Story) -> dict[str, Any]:
        """A story with all that is measured on it."""
        tokens, targets = torch.tensor(story.tokens), torch.tensor(story.targets)
        layers = []
        for log_probabilities in logit_lens(self.net, tokens):  # in the end those of the network
            layers.append(rank(log_probabilities, targets, LENS))
        ranking = rank(log_probabilities, targets, LIKELIEST)
        lens = {
            "nats": pack_nats(torch.stack([layer.nats for layer in layers], 1)),  # (T, L + 1)
            "rank": pack(torch.stack([layer.rank for layer in layers], 1), "u16"),
            "tokens": self._tokens(torch.stack([layer.tokens for layer in layers], 1)),  # (T, L + 1, LENS)
            "token_nats": pack_nats(torch.stack([layer.token_nats for layer in layers], 1)),
        }
        return {
            "number": story.number,
            "whole": story.whole,
            "tokens": self._tokens(torch.tensor([*story.tokens, story.targets[-1]])),  # (T + 1,)
            "nats": pack_nats(ranking.nats),
            "rank": pack(ranking.rank, "u16"),
            "likeliest": self._tokens(ranking.tokens),
            "likeliest_nats": pack_nats(ranking.token_nats),
            "truth": self._truth(story, log_probabilities, ranking),
            "attention": pack_fractions(self._attention(tokens)[:, :, : self.attention_tokens, : self.attention_tokens]),
            "lens": lens,
        }

    def _truth(self, story: Story, log_probabilities: Tensor, ranking: Ranking) -> dict[str, Any] | None:
        """The storybook's own probabilities beside the network's, in nats; None where nobody knows them."""
        if not self.from_storybook:
            return None
        places = list(true_distribution(storybook.grammar(), self.tokenizer.encode, self.tokenizer.end_of_text, story.targets))
        free, wrong = [], []
        for place, log_p in zip(places, log_probabilities, strict=True):
            q = torch.tensor(list(place.values()), dtype=torch.float64)
            network = log_p[torch.tensor(list(place))].double()
            free.append(float(-(q * q.log()).sum()))  # entropy: what even the best model is surprised by, on average
            wrong.append(max(0.0, float((q * (q.log() - network)).sum())))  # Kullback-Leibler: what this model adds to it
        own = [-math.log(place[target]) for place, target in zip(places, story.targets, strict=True)]
        truest = [
            [-math.log(place[token]) if token in place else math.inf for token in row]
            for place, row in zip(places, ranking.tokens.tolist(), strict=True)
        ]
        return {"nats": pack_nats(own), "likeliest": pack_nats(truest), "free": pack_nats(free), "wrong": pack_nats(wrong)}

    def _attention(self, tokens: Tensor) -> Tensor:
        return attention_weights(self.net, tokens[None].to(self.net.wte.weight.device))

    def _heads(self) -> dict[str, Any]:
        """What each head does, measured on stories from the whole split."""
        causal = self.net.config.causal

        def texts() -> Iterable[tuple[Tensor, Tensor]]:
            for tokens in story_choice.spread(self.validation, MEASURED, self.longest):
                row = torch.tensor(tokens)
                yield row, self._attention(row)

        found = head_roles(texts(), causal)
        return {
            "roles": list(found.scores),
            "scores": pack_fractions(torch.stack(list(found.scores.values()), -1)),  # (L, H, roles)
            "chance": [round(share, 4) for share in found.chance.values()],
            "stories": min(MEASURED, self.validation.stories),
        }

    def _tokens(self, tokens: Tensor) -> dict[str, Any]:
        self._shown.update(tokens.flatten().tolist())
        return pack(tokens, "u16")

    def _vocabulary(self) -> dict[str, Any]:
        """The text of each token that the page may have to show."""
        ids = sorted(self._shown)
        texts = [self._show.text(token) for token in ids]
        return {"ids": pack(ids, "u16"), "texts": texts, "end_of_text": self.tokenizer.end_of_text}
