"""Model card: the README.md in the model's folder that says what the model is, how it came about, and what it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from model import GPT2Config
from stages.common import files

HEAD = """\
---
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
- gpt2
---
"""

ORIGIN = " (mini-stories from the grammar that the project brings along)"
USE = """\
```python
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("data/train/model")
tokenizer = AutoTokenizer.from_pretrained("data/train/model")
start = torch.tensor([[tokenizer.bos_token_id]])  # in training each text follows an end-of-text token
prompt = torch.cat([start, tokenizer("Once upon a time", return_tensors="pt").input_ids], dim=1)
print(tokenizer.decode(model.generate(prompt, do_sample=True, max_new_tokens=100)[0, 1:]))
```
"""


def write_card(
    folder: Path, config: GPT2Config, meta: Mapping[str, Any], metrics: Mapping[str, float], params: Mapping[str, Any]
) -> None:
    """Write `folder`/README.md; the same text for the same arguments.

    Args:
        folder: the model's folder, data/train/model.
        config: the network's shape.
        meta: data/tokenize/meta.json.
        metrics: data/train/metrics.json.
        params: the training's params, from params.yaml.
    """
    files.write_text(folder / "README.md", text(config, meta, metrics, params))


def text(config: GPT2Config, meta: Mapping[str, Any], metrics: Mapping[str, float], params: Mapping[str, Any]) -> str:
    """The card as Markdown with the Hub's YAML head; see `write_card`."""
    data = _data_name(str(meta["dataset"]))
    shape = {
        "parameters": f"{config.parameters:,}",
        "layers, heads, width": f"{config.n_layer}, {config.n_head}, {config.n_embd}",
        "context": f"{config.block_size:,} tokens",
        "vocabulary": f"{config.vocab_size:,} tokens, {_vocabulary(str(meta['vocabulary']))}",
        "positions": config.position,
        "attention": "causal" if config.causal else "**not masked: it sees the tokens it is asked to predict**",
        "head": "shares the token embedding's weights" if config.tie_embeddings else "has weights of its own",
    }
    splits = [
        [name, *(f"{split[key]:,}" for key in ("stories", "tokens", "words", "bytes"))]
        for name, split in meta["splits"].items()
    ]
    return "\n".join(
        [
            HEAD,
            f"# GPT-2 trained on {data}",
            "",
            "A GPT-2 language model, written and trained from scratch. The folder is in Hugging Face's format:",
            "",
            USE,
            "## Network",
            "",
            *_table(["", ""], shape.items()),
            "",
            "## Data",
            "",
            f"{data[0].upper()}{data[1:]}{ORIGIN if meta['dataset'] == 'storybook' else ''}, split by story.",
            "",
            *_table(["split", "stories", "tokens", "words", "bytes"], splits),
            "",
            "## Training",
            "",
            *_table(["parameter", "value"], ((f"`{key}`", f"`{_plain(value)}`") for key, value in params.items())),
            "",
            "## Result",
            "",
            *_table(["metric", "value"], ((f"`{key}`", _number(value)) for key, value in metrics.items())),
            "",
            "Losses are nats per token; exp(loss) is the perplexity. The stage evaluate scores the whole validation split.",
            "",
            "## Limits",
            "",
            *(f"- {line}" for line in _limits(config, data)),
            "",
        ]
    )


def _limits(config: GPT2Config, data: str) -> Iterable[str]:
    if not config.causal:
        yield "Trained without the causal mask: its loss means nothing, and it cannot write text. It exists to show why."
    yield f"It knows only what it read in {data}: stories, no facts about the world, no dialogue with a user."
    yield f"It sees {config.block_size:,} tokens at a time; earlier text is not used."
    yield "It was not trained to be safe, fair or true. It may repeat sentences of its training text (metric `longest_copy`)."
    yield "A research and teaching model: not for use where its text could do harm."


def _data_name(dataset: str) -> str:
    """The data set as code; of a local path only its last part, because a card says nothing about its machine."""
    if dataset == "storybook":
        return "the storybook"
    local = Path(dataset).is_absolute() or dataset.startswith((".", "~"))
    return f"`{_plain(Path(dataset).name if local else dataset)}`"


def _vocabulary(name: str) -> str:
    return "GPT-2's byte-level BPE" + (", pruned to what the training text uses" if name == "corpus" else "")


def _table(head: list[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _plain(value: object) -> str:
    """A value without the characters that would end its table cell or its code."""
    return " ".join(str(value).replace("`", "'").replace("|", "/").split())
