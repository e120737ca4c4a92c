"""Score the trained network: data/evaluate/ gets metrics.json, report.md (the same in words) and the curves for plots."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.common import command, files
from stages.common.errors import UserError
from stages.common.params import EvaluateParams, load_params
from stages.compute import machine, saved_model
from stages.corpus import initial, stories
from stages.corpus.tokens import TokenFile
from stages.evaluation import ngram_baselines, report, scoring
from stages.evaluation.calibration import Calibration
from stages.evaluation.confidence_interval import difference, exp, ratio
from stages.evaluation.future_leak import future_leak
from stages.evaluation.loss_by_position import LossByPosition
from stages.evaluation.metrics import METRICS
from stages.evaluation.overlap import overlap
from stages.evaluation.scoring import StorySums

TRAIN, TOKENS, STORIES = Path("data/train"), Path("data/tokenize"), Path("data/download/validation.parquet")
FOLDER = Path("data/evaluate")
MOST_NATS = 100.0  # per token or word: exp of more is no number to read, and above 709 none at all


def main(args: argparse.Namespace) -> None:
    """Open every input first, so that a missing or foreign file is reported before any work."""
    params = load_params(EvaluateParams)
    machine.keep_freed_memory()
    machine.set_threads(params.threads)
    train, validation = TokenFile.open(TOKENS, "train"), TokenFile.open(TOKENS, "validation")
    size = files.read_json(TOKENS / "meta.json", made_by="tokenize")["splits"]["validation"]
    logprobs = stories.logprobs(STORIES)
    if logprobs is not None and len(logprobs) != validation.stories:
        raise UserError(f"{STORIES} has {len(logprobs):,} stories, {TOKENS} has {validation.stories:,}. Run `dvc repro`")
    trained = training_losses()
    device = machine.pick_device(params.device)
    net = saved_model.load(TRAIN / "model", TOKENS).to(device)
    start = saved_model.load_initial(initial.FOLDER, net.config) if initial.read() else None
    position, calibration = LossByPosition(min(net.config.block_size, len(validation))), Calibration()
    stride = params.eval_stride or max(1, net.config.block_size // 2)
    if params.compile:
        scoring.compile_if_it_pays(net, 2 * len(validation), stride)  # validation and as many stories of training
    validation_sums = scoring.score(net, validation, stride, watchers=[position.add, calibration.add], title="validation")
    check_loss(validation_sums, net.config.vocab_size)
    part = scoring.evenly_spaced_stories(train.stories, validation.stories)
    initial_sums = None if start is None else scoring.score(start.to(device), validation, stride, title="before training")
    train_sums = scoring.score(net, train, stride, part, title="part of training")
    check_loss(train_sums, net.config.vocab_size)
    unigram, trigram = ngram_baselines.perplexities(train, validation, net.config.vocab_size)
    exact, near = overlap(train, validation)
    metrics = losses(validation_sums, train_sums, size) | floor(validation_sums, logprobs)
    metrics |= improvement(validation_sums, initial_sums) if initial_sums else {}
    metrics |= {"unigram_perplexity": unigram, "trigram_perplexity": trigram}
    with net.uncompiled():
        leak = future_leak(net, validation)
    metrics |= {"future_leak": leak, "leak_alarm": int(leak > report.LEAK)}
    metrics |= {"overlap_exact": exact, "overlap_near": near}
    metrics |= {"accuracy": calibration.accuracy, "calibration_error": calibration.error}
    metrics |= {"validation_stories": validation.stories, "validation_tokens": len(validation)}

    words = report.text(metrics | trained)
    files.invalidate(FOLDER, "metrics.json")
    files.write_csv(FOLDER / "loss_by_position.csv", position.rows())
    files.write_csv(FOLDER / "calibration.csv", calibration.rows())
    files.write_text(FOLDER / "report.md", words)
    files.write_metrics(FOLDER / "metrics.json", metrics, METRICS)
    print(f"\n{words}")


def check_loss(sums: StorySums, vocab_size: int) -> None:
    """Fail if the network's loss is far above that of guessing: it has no perplexity to speak of.

    Raises:
        UserError: it is far above that of guessing.
    """
    if (loss := float(sums.nll.sum() / sums.tokens.sum())) > MOST_NATS:
        raise UserError(
            f"{TRAIN / 'model'}: the network's loss is {loss:,.5g} nats per token, where guessing has "
            f"{math.log(vocab_size):.3g}: its training diverged. Lower learning_rate or raise "
            "warmup_steps, and train again: dvc repro"
        )


def losses(validation: StorySums, train: StorySums, size: dict[str, int]) -> dict[str, float]:
    """What the nats come to; `size` holds the bytes and words of the validation text."""
    loss, nats = ratio(validation.nll, validation.tokens), float(validation.nll.sum())
    per_word = nats / max(1, size["words"])
    return {
        **exp(loss).named("perplexity"),
        **exp(ratio(train.nll, train.tokens)).named("train_perplexity"),
        **difference((validation.nll, validation.tokens), (train.nll, train.tokens)).named("generalization_gap"),
        "nats_per_token": loss.value,
        "bits_per_byte": nats / math.log(2) / size["bytes"],
        # above this the text has no spaces (Chinese, say)
        **({"perplexity_per_word": math.exp(per_word)} if per_word < MOST_NATS else {}),
    }


def improvement(after: StorySums, before: StorySums) -> dict[str, float]:
    """The perplexity before training, and what training took off the loss, nats per token."""
    gain = ratio(before.nll - after.nll, after.tokens)  # paired by story, so most sampling noise cancels
    return {**exp(ratio(before.nll, before.tokens)).named("initial_perplexity"), **gain.named("gain_over_initial")}


def training_losses() -> dict[str, float]:
    """What the report says of the validation losses while training: the best, the last, and their steps."""
    rows = files.read_csv(TRAIN / "validation.csv", "train", "step", "val_loss")
    kept = files.read_json(TRAIN / "metrics.json", "train")
    if not rows:
        return {}
    best = min(rows, key=lambda row: row["val_loss"])
    found = {"best_step": best["step"], "best_val_loss": best["val_loss"], "last_val_loss": rows[-1]["val_loss"]}
    return found | {"kept_best": float("best_step" in kept)}


def floor(validation: StorySums, logprobs: NDArray[Any] | None) -> dict[str, float]:
    """The perplexity of the text's true distribution, and the network's over it; nothing where that is not known."""
    if logprobs is None:
        return {}
    above = exp(ratio(validation.nll + logprobs, validation.tokens))  # paired by story, so most sampling noise cancels
    least = exp(ratio(-logprobs, validation.tokens))
    return {**least.named("perplexity_floor"), **above.named("floor_ratio"), "below_floor": int(above.high < 1)}


if __name__ == "__main__":
    command.run(main, __doc__)
