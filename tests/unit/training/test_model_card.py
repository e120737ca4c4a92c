"""The model card: says what the model is, the same for the same model, and its example runs."""

from __future__ import annotations

import math
import re
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from model import GPT2, GPT2Config, hf
from stages.common.params import read_yaml
from stages.corpus.tokenizer import Tokenizer, save_for_transformers
from stages.training import model_card

META: dict[str, Any] = {
    "vocab_size": 300,
    "end_of_text": 299,
    "vocabulary": "corpus",
    "dataset": "storybook",
    "origin": "storybook",
    "license": "MIT",
    "splits": {name: {"stories": 1234, "tokens": 56789, "words": 4321, "bytes": 98765} for name in ("train", "validation")},
}
ESSAYS = META | {"dataset": "ann/essays", "origin": "hub", "license": "cdla-sharing-1.0"}
METRICS = {"train_loss": 1.23456, "val_loss": 2.0, "steps": 4321, "tokens": 56789, "parameters": 9999}
PARAMS = {"epochs": 5, "learning_rate": 0.002, "optimizer": "adamw", "seed": 1337}
CONFIG = GPT2Config(vocab_size=300, block_size=32, n_layer=2, n_head=2, n_embd=16, position="sinusoidal")


def test_the_card_has_every_split_param_and_metric() -> None:
    """Every split, every training parameter, every metric and the shape's numbers are on the card, under a YAML head."""
    text = model_card.text(CONFIG, META, METRICS, PARAMS)
    head, body = re.fullmatch(r"---\n(.*?)---\n(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    assert read_yaml(head)["pipeline_tag"] == "text-generation"
    splits, metrics = ("storybook", "1,234", "56,789"), ("1.2346", "4,321", f"{CONFIG.parameters:,}")
    for words in splits + metrics + ("`epochs` | `5`", "`learning_rate` | `0.002`", "## Limits"):
        assert words in body, words
    assert body.count("\n## ") == 6
    tables = [token for token in MarkdownIt("commonmark").enable("table").parse(body) if token.type == "table_open"]
    assert len(tables) == 4


def test_a_network_without_mask_is_no_language_model() -> None:
    """causal=false is said where nobody misses it."""
    text = model_card.text(GPT2Config(vocab_size=300, n_embd=16, n_head=2, causal=False), META, METRICS, PARAMS)
    assert "its loss means nothing" in text
    assert "its loss means nothing" not in model_card.text(CONFIG, META, METRICS, PARAMS)


@pytest.mark.parametrize("dataset", ["/home/ann/secret/stories", "~/secret/stories", "./secret/stories", "../secret/stories"])
def test_a_local_path_is_not_on_the_card(dataset: str) -> None:
    """Of a local data set the card gives the last part of the path only."""
    start = {"init_from": dataset, "revision": None}
    text = model_card.text(CONFIG, META | {"dataset": dataset, "origin": "local"}, METRICS, PARAMS, start)
    assert text.count("`stories`") == 6  # title, first weights twice, origin, limits, license
    assert "secret" not in text


def test_the_card_claims_nothing_about_other_people_s_text() -> None:
    """Of a data set that is not the project's own neither the language nor the kind of its texts is claimed."""
    own, other = (model_card.text(CONFIG, meta, METRICS, PARAMS) for meta in (META, ESSAYS))
    for claim in ("language: en", "license: mit", "mini-stories", "no facts"):
        assert claim in own
        assert claim not in other
    assert "It knows only what it read in `ann/essays`." in other


def test_the_hub_reads_the_card_s_head() -> None:
    """License, data set and results are metadata that huggingface_hub understands; a diverged training has no results."""
    own, other = (ModelCard(model_card.text(CONFIG, meta, METRICS, PARAMS)).data for meta in (META, ESSAYS))
    assert (own.license, own.datasets, other.license, other.datasets) == ("mit", None, None, ["ann/essays"])
    values = {result.metric_type: result.metric_value for result in other.eval_results}
    assert values == {"loss": 2.0, "perplexity": pytest.approx(math.exp(2))}
    assert {(result.dataset_type, result.dataset_split) for result in other.eval_results} == {("ann/essays", "validation")}
    kept = ModelCard(model_card.text(CONFIG, META, METRICS | {"best_val_loss": 1.5}, PARAMS)).data.eval_results
    assert kept[0].metric_value == 1.5
    for loss in (math.nan, math.inf, 1e6):
        assert "model-index" not in model_card.text(CONFIG, META, METRICS | {"val_loss": loss}, PARAMS)


@pytest.mark.parametrize(
    ("meta", "start", "words"),
    [
        (META, None, "so are the stories and these weights"),
        (META, {"init_from": "ann/gpt2", "revision": "0a1b"}, "The terms of `ann/gpt2` apply as well"),
        (ESSAYS, None, "License of the training text: `cdla-sharing-1.0`"),
        (ESSAYS | {"license": None}, None, "License of the training text: `not stated`"),
        (META | {"dataset": "mine.txt", "origin": "local"}, None, "License of the training text: not known here"),
    ],
)
def test_the_card_says_whose_terms_apply(meta: dict[str, Any], start: dict[str, Any] | None, words: str) -> None:
    """The weights are called MIT only where text and first weights are the project's own; else the sources are named."""
    text = model_card.text(CONFIG, meta, METRICS, PARAMS, start)
    assert words in text
    assert ("license: mit" in text) == (meta is META and not start)
    assert ModelCard(text).data.base_model == (start["init_from"] if start else None)


def test_odd_names_stay_within_their_cell() -> None:
    """A name with backticks, bars and line ends stays within its code span."""
    text = model_card.text(CONFIG, META | {"dataset": "a`|\n# b", "origin": "local"}, METRICS, {"note": "x|`y\nz"})
    assert "\n# b" not in text
    assert "| `note` | `x/'y z` |" in text


def test_the_example_on_the_card_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code on the card, pasted in a copy of the folder, writes a text with transformers and stops at the context's end."""
    folder, tokenizer = tmp_path / "copy", Tokenizer.gpt2()
    torch.manual_seed(0)
    net = GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=8))
    hf.save(net, folder, tokenizer.end_of_text)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    save_for_transformers(tmp_path / "tokenizer.json", folder, 16)
    code = re.search(r"```python\n(.*?)```", model_card.text(net.config, META, METRICS, PARAMS), re.DOTALL)
    assert code is not None
    with chdir(folder):
        exec(code[1], names := {})  # type: ignore[var-annotated]
    assert capsys.readouterr().out.startswith("Once upon a time")
    assert names["prompt"].input_ids[0].tolist() == [tokenizer.end_of_text, *tokenizer.encode("Once upon a time")]
