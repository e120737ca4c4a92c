"""Model card: the README.md in the model's folder that says what the model is, how it came about, and what it is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from model import GPT2Config
from stages.common import files

TEMPLATE = Path(__file__).with_suffix(".md")
WARNING = "- Trained without the causal mask: its loss means nothing, and it cannot write text. It exists to show why.\n"


def write_card(
    folder: Path,
    config: GPT2Config,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float],
    params: Mapping[str, Any],
    start: Mapping[str, Any] | None = None,
) -> None:
    """Write `folder`/README.md; the same text for the same arguments.

    Args:
        folder: the model's folder, data/train/model.
        config: the network's shape.
        meta: data/tokenize/meta.json.
        metrics: data/train/metrics.json.
        params: the training's params, from params.yaml.
        start: of the network that training started from, data/download/init/about.json; None = random weights.
    """
    files.write_text(folder / "README.md", text(config, meta, metrics, params, start))


def text(
    config: GPT2Config,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float],
    params: Mapping[str, Any],
    start: Mapping[str, Any] | None = None,
) -> str:
    """The card as Markdown with the Hub's YAML head; see `write_card`."""
    storybook = meta["dataset"] == "storybook"  # of other people's text only the name is known
    data = "the storybook" if storybook else _name(str(meta["dataset"]))
    pruned = ", pruned to what the training text uses" if meta["vocabulary"] == "corpus" else ""
    network = {
        "parameters": f"{config.parameters:,}",
        "layers, heads, width": f"{config.n_layer}, {config.n_head}, {config.n_embd}",
        "context": f"{config.block_size:,} tokens",
        "vocabulary": f"{config.vocab_size:,} tokens, GPT-2's byte-level BPE{pruned}",
        "positions": config.position,
        "attention": "causal" if config.causal else "**not masked: it sees the tokens it is asked to predict**",
        "head": "shares the token embedding's weights" if config.tie_embeddings else "has weights of its own",
    }
    if start:
        commit = f", commit {start['revision']}" if start["revision"] else ""
        network["first weights"] = f"{_name(str(start['init_from']))}{commit}"
    if params.get("keep") == "best":
        network["weights"] = f"of step {metrics['best_step']:,}, at the lowest validation loss"
    params = {key: value for key, value in params.items() if key != "keep"}
    sizes = ["stories", "tokens", "words", "bytes"]
    splits = [[name, *(f"{split[size]:,}" for size in sizes)] for name, split in meta["splits"].items()]
    numbers = [(f"`{key}`", f"{value:,}" if isinstance(value, int) else f"{value:.4f}") for key, value in metrics.items()]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        language="language: en\n" if storybook else "",
        data=data,
        network=files.markdown_table(["", ""], network.items()),
        origin="The storybook (mini-stories from the grammar that the project brings along)" if storybook else data,
        splits=files.markdown_table(["split", *sizes], splits),
        params=files.markdown_table(["parameter", "value"], ((f"`{key}`", _code(value)) for key, value in params.items())),
        metrics=files.markdown_table(["metric", "value"], numbers),
        warning="" if config.causal else WARNING,
        content=": stories, no facts about the world, no dialogue with a user" if storybook else "",
        context=f"{config.block_size:,}",
    )


def _name(dataset: str) -> str:
    """The data set as code; of a local path only its last part, because a card says nothing about its machine."""
    local = Path(dataset).is_absolute() or dataset.startswith((".", "~"))
    return _code(Path(dataset).name if local else dataset)


def _code(value: object) -> str:
    """A value as code, without the characters that would end its table cell or its code."""
    plain = str(value).replace("`", "'").replace("|", "/")
    return f"`{' '.join(plain.split())}`"
