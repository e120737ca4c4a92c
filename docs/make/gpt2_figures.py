"""Draw the figures of docs/how-a-gpt-2-works.md and the README's loss curve: docs/images/gpt2-*.svg.

python -m docs.make.gpt2_figures, or `make drawings`, after `dvc repro` or `dvc pull`: attention and sampling are those of the
trained network.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from docs.make import pages
from model import GPT2
from model.gpt2 import sinusoidal_positions
from model.sampling import SamplingParams, token_weights
from stages.common import command, files
from stages.common.params import TrainParams, load_params
from stages.compute import saved_model
from stages.corpus.tokenizer import Tokenizer
from stages.explanation.attention_weights import attention_weights
from stages.explanation.head_roles import head_roles
from stages.tracking import figures as tracked
from stages.tracking.results import Results
from stages.training.schedule import learning_rate

MODEL, TOKENS, METRICS = Path("data/train/model"), Path("data/tokenize"), Path("data/train/metrics.json")
FOLDER = Path("docs/images")
TEXT = "Once upon a time, there was a little tiger called Lily. Her round carrot was on a shelf. Lily"
PROMPT = "Once upon a time, there was a"
TEMPERATURES = (0.5, 1.0, 1.5)
LIKELIEST, TOP_P = 24, 0.5  # tokens shown of a distribution, and those of them marked


def main(args: argparse.Namespace) -> None:
    """Read everything first, then draw."""
    params = load_params(TrainParams)
    steps = int(files.read_json(METRICS, "train", "steps")["steps"])
    tokenizer, net = Tokenizer.load(TOKENS / "tokenizer.json"), saved_model.load(MODEL, TOKENS)
    figures = {
        "flow": flow(),
        "positions": positions(params),
        "attention": attention(net, tokenizer),
        "schedule": schedule(params, steps),
        "sampling": sampling(net, tokenizer),
        "loss": tracked.loss(Results.read()),
    }
    for name, figure in figures.items():
        pages.save(figure, FOLDER / f"gpt2-{name}.svg", **{"svg.hashsalt": name, "svg.fonttype": "none"})  # text stays text


def flow() -> Figure:
    """How a batch passes through the network, with shapes."""
    figure = Figure(figsize=(7.2, 7.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 10), ylim=(0.4, 13.7))
    axes.axis("off")
    stream = [  # y, what, shape of what leaves it
        (13.2, "token ids", "(B, T)"),
        (12.1, "wte + positions", "(B, T, C)"),
        (8.6, "+", "(B, T, C)"),
        (4.7, "+", "(B, T, C)"),
        (3.2, "ln_f", "(B, T, C)"),
        (2.1, "lm_head = wte'", "logits (B, T, V)"),
        (0.9, "softmax, loss or sampling", ""),
    ]
    for y, what, _ in stream:
        _box(axes, 2.2, y, what, "#fff3c4" if what == "+" else "#e7eefb")
    for (y, _, shape), (below, *_) in itertools.pairwise(stream):
        axes.annotate("", (2.2, below + 0.32), (2.2, y - 0.32), arrowprops={"arrowstyle": "->"})
        axes.text(2.35, y - 0.55, shape, fontsize=8, color="#555")
    for top, join, words in (
        (11.3, 8.6, ["ln_1", "c_attn: (B, T, 3C)", "H heads: softmax(qk'/√hs + mask) v", "c_proj: (B, T, C)"]),
        (7.4, 4.7, ["ln_2", "c_fc: (B, T, 4C)", "GELU", "c_proj: (B, T, C)"]),
    ):
        places = [top - step * (top - join) / (len(words) - 1) for step in range(len(words))]
        axes.annotate("", (5.35, top), (2.2, top), arrowprops={"arrowstyle": "->"})
        for y, word in zip(places, words, strict=True):
            _box(axes, 7.2, y, word, "#e3f4e3", 3.7)
        for above, under in itertools.pairwise(places):
            axes.annotate("", (7.2, under + 0.3), (7.2, above - 0.3), arrowprops={"arrowstyle": "->"})
        axes.annotate("", (2.6, join), (5.35, join), arrowprops={"arrowstyle": "->"})
    axes.add_patch(FancyBboxPatch((0.2, 4.1), 9.3, 7.6, boxstyle="round,pad=0.05", fill=False, linestyle=":", edgecolor="#888"))
    axes.text(0.35, 4.25, "one block,\nn_layer of them", fontsize=8, color="#555", va="bottom")
    return figure


def _box(axes: Axes, x: float, y: float, text: str, color: str, width: float | None = None) -> None:
    wide = width or (0.6 if text == "+" else 3.0)
    axes.add_patch(
        FancyBboxPatch((x - wide / 2, y - 0.24), wide, 0.48, boxstyle="round,pad=0.06", facecolor=color, edgecolor="#666")
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def positions(params: TrainParams) -> Figure:
    """The sinusoidal table, and how similar two positions are."""
    table = sinusoidal_positions(params.block_size, params.n_embd)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    picture = left.imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    left.set(xlabel="dimension (even: sine, odd: cosine)", ylabel="position", title="the table, before its scale")
    figure.colorbar(picture, ax=left)
    for position in (params.block_size // 8, params.block_size // 2):
        right.plot(table @ table[position] * 2 / params.n_embd, label=f"with position {position}")
    right.set(xlabel="position", ylabel="dot product / (C/2)", title="similarity depends only on the distance")
    right.legend()
    right.grid(alpha=0.3)
    return figure


def attention(net: GPT2, tokenizer: Tokenizer) -> Figure:
    """The mask, and the heads that look most at the previous token, at earlier equal tokens, and at the start of the text."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(TEXT)]
    T = len(ids)
    weights = attention_weights(net, torch.tensor([ids]))
    scores = head_roles([(torch.tensor(ids), weights)], causal=True).scores
    figure = Figure(figsize=(9, 9), layout="constrained")
    panels = figure.subplots(2, 2).flat
    words = [tokenizer.decode([token]) or "start" for token in ids]
    mask = next(panels)
    mask.imshow(torch.ones(T, T).tril(), cmap="Greys", vmin=0, vmax=2)
    mask.set_title("the mask: white = -∞, nothing to see", fontsize=10)
    shown = {"previous": "the previous token", "same": "the same token", "first": "the start"}
    for panel, (role, what) in zip(panels, shown.items(), strict=True):
        share = scores[role]  # (L, H)
        layer, head = divmod(int(share.argmax()), net.config.n_head)
        panel.imshow(weights[layer, head], cmap="Blues", vmin=0, vmax=1)
        panel.set_title(f"block {layer + 1}, head {head + 1}: most on {what} ({float(share.max()):.0%})", fontsize=10)
    for panel in figure.axes:
        panel.set_xticks(range(T), words, rotation=90, fontsize=7)
        panel.set_yticks(range(T), words, fontsize=7)
        panel.set(xlabel="key: looked at", ylabel="query: looking")
    return figure


def schedule(params: TrainParams, steps: int) -> Figure:
    """The learning rate of each step."""
    p = params
    rates = [learning_rate(step, steps, p.learning_rate, p.last_learning_rate, p.warmup_steps) for step in range(steps)]
    figure = Figure(figsize=(6, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, steps + 1), rates)
    axes.set(xlabel="optimizer step", ylabel="learning rate", ylim=(0, None))
    axes.grid(alpha=0.3)
    return figure


@torch.no_grad()
def sampling(net: GPT2, tokenizer: Tokenizer) -> Figure:
    """The likeliest next tokens at three temperatures, and those that top-p keeps."""
    logits = net(torch.tensor([[tokenizer.end_of_text, *tokenizer.encode(PROMPT)]]))[0, -1]  # (V,)
    best = logits.topk(LIKELIEST).indices
    figure = Figure(figsize=(9, 3), layout="constrained")
    for axes, temperature in zip(figure.subplots(1, len(TEMPERATURES), sharey=True), TEMPERATURES, strict=True):
        probability = (logits / temperature).softmax(-1)
        weights = token_weights(logits[None], SamplingParams(temperature, top_p=TOP_P))[0]
        nucleus = set(weights.nonzero()[:, 0].tolist())
        colors = ["#3b6fb6" if int(token) in nucleus else "#c9d3e0" for token in best]
        axes.bar(range(LIKELIEST), probability[best], color=colors)
        axes.set_xticks(range(LIKELIEST), [tokenizer.decode([int(token)]) for token in best], rotation=90, fontsize=6)
        axes.set_title(f"temperature {temperature}: {len(nucleus)} tokens hold {TOP_P:.0%}", fontsize=9)
    figure.axes[0].set_ylabel("probability")
    figure.suptitle(f"after “{PROMPT}”; dark = kept by top_p = {TOP_P}", fontsize=10)
    return figure


if __name__ == "__main__":
    command.run(main, __doc__)
