"""Model card: the README.md in the model's folder that says what the model is, how it came about, and what it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from model import GPT2Config
from stages.common import files
from stages.common.params import write_yaml

TEMPLATE = Path(__file__).with_suffix(".md")
WARNING = (
    "- Trained without the causal mask: its loss means nothing, and it cannot write text. It exists to show why. "
    "(transformers 5 computes it as it was trained; transformers 4 applies the mask all the same.)\n"
)
LARGEST_LOSS = 100.0  # nats per token; a training that diverged has no result


def text(
    config: GPT2Config,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float],
    params: Mapping[str, Any],
    start: Mapping[str, Any] | None = None,
) -> str:
    """The card as Markdown with the Hub's YAML head; the same text for the same arguments.

    `meta` is data/tokenize/meta.json, `metrics` data/train/metrics.json, and `start` data/download/init/about.json: what is
    known of the network that training started from; None = random weights.
    """
    storybook = meta["origin"] == "storybook"  # of other people's text only the name is known
    data = "the storybook" if storybook else _code(_public(meta["dataset"]))
    initial = _public(str(start["init_from"])) if start else None  # the network that training started from
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
        network["first weights"] = f"{_code(initial)}{commit}"
    if params.get("keep") == "best":
        network["weights"] = f"of step {metrics['best_step']:,}, at the lowest validation loss"
    params = {key: value for key, value in params.items() if key != "keep"}
    sizes = ["stories", "tokens", "words", "bytes"]
    splits = [[name, *(f"{split[size]:,}" for size in sizes)] for name, split in meta["splits"].items()]
    numbers = [(f"`{key}`", f"{value:,}" if isinstance(value, int) else f"{value:.4f}") for key, value in metrics.items()]
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        head=write_yaml(head(config, meta, metrics, start)),
        data=data,
        start=f"first weights are those of {_code(initial)}" if initial else "first weights were random",
        network=files.markdown_table(["", ""], network.items()),
        origin="The storybook (mini-stories that the project's own grammar writes)" if storybook else data,
        splits=files.markdown_table(["split", *sizes], splits),
        params=files.markdown_table(["parameter", "value"], ((f"`{key}`", _code(value)) for key, value in params.items())),
        metrics=files.markdown_table(["metric", "value"], numbers),
        warning="" if config.causal else WARNING,
        content=": stories, no facts about the world, no dialogue with a user" if storybook and not initial else "",
        context=f"{config.block_size:,}",
        license=_license(meta["origin"], meta["license"], initial),
    )


def head(
    config: GPT2Config, meta: Mapping[str, Any], metrics: Mapping[str, float], start: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The card's metadata, in the Hub's keys. A license is claimed only where text and weights are the project's own."""
    loss = metrics.get("best_val_loss", metrics["val_loss"])  # of the weights that are kept
    found: dict[str, Any] = {"language": "en", "license": "mit"} if meta["origin"] == "storybook" and not start else {}
    if start and start["revision"]:  # only a network on the Hub has a commit
        found["base_model"] = start["init_from"]
    if meta["origin"] == "hub":
        found["datasets"] = [meta["dataset"]]
    found |= {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["gpt2"]}
    if config.causal and loss < LARGEST_LOSS:
        name = _public(meta["dataset"])
        on = "validation split, up to 128 windows"
        result = {
            "task": {"type": "text-generation"},
            "dataset": {"name": name, "type": name, "split": "validation"},
            "metrics": [
                {"type": "loss", "name": f"nats per token ({on})", "value": loss},
                {"type": "perplexity", "name": f"perplexity ({on})", "value": math.exp(loss)},
            ],
        }
        found["model-index"] = [{"name": "gpt2", "results": [result]}]
    return found


def _license(origin: str, license: str | None, initial: str | None) -> str:
    """Whose terms apply to the weights; of other people's text no more than its page says."""
    code = "The code that trained it is under the MIT license"
    if origin == "storybook" and not initial:
        return f"{code}, and so are the stories and these weights."
    stated = {"storybook": "`MIT`", "local": "not known here"}.get(origin, _code(license or "not stated"))
    more = f" The terms of {_code(initial)} apply as well." if initial else ""
    return (
        f"{code}. License of the training text: {stated}.{more} Add a `license` to the head of this file before you publish it."
    )


def _public(name: str) -> str:
    """A data set's or a network's name; of a local path only its last part, because a card says nothing about its machine."""
    local = Path(name).is_absolute() or name.startswith((".", "~"))
    return Path(name).name if local else name


def _code(value: object) -> str:
    """A value as code, without the characters that would end its table cell or its code."""
    plain = str(value).replace("`", "'").replace("|", "/")
    return f"`{' '.join(plain.split())}`"
