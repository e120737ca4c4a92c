"""Score the trained network: data/evaluate/ gets metrics.json, report.md (the same in words) and the curves for plots."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from stages.lib import baselines, curves, errors, files, interval, perplexity, report, runtime, stories, trained
from stages.lib.errors import UserError
from stages.lib.leak import future_leak
from stages.lib.overlap import overlap
from stages.lib.params import load_params
from stages.lib.perplexity import StorySums
from stages.lib.tokens import TokenFile

MODEL, TOKENS, STORIES = Path("data/train/model"), Path("data/tokenize"), Path("data/download/validation.parquet")
FOLDER = Path("data/evaluate")
MOST_NATS = 100.0  # a word: more has a text without blanks, as Chinese, whose "words" mean nothing (and exp soon overflows)


def main(args: argparse.Namespace) -> None:
    """Open every input first, so that a missing or foreign file is told before any work."""
    params = load_params()
    runtime.keep_freed_memory()
    runtime.set_threads(params.threads)
    train, validation = TokenFile.open(TOKENS, "train"), TokenFile.open(TOKENS, "validation")
    size = files.read_json(TOKENS / "meta.json", made_by="tokenize")["splits"]["validation"]
    logprobs = stories.logprobs(STORIES)
    if logprobs is not None and len(logprobs) != validation.stories:
        raise UserError(f"{STORIES} has {len(logprobs):,} stories, {TOKENS} has {validation.stories:,}. Run `dvc repro`")
    net = trained.load(MODEL, TOKENS).to(runtime.pick_device(params.device))
    position, calibration = curves.LossByPosition(min(net.config.block_size, len(validation))), curves.Calibration()
    ours = perplexity.score(net, validation, params.eval_stride, watchers=[position, calibration], title="validation")
    share = perplexity.share(train.stories, validation.stories)
    theirs = perplexity.score(net, train, params.eval_stride, share, title="training share")
    unigram, trigram = baselines.perplexities(train, validation, net.config.vocab_size)
    exact, near = overlap(train, validation)
    metrics = losses(ours, theirs, size) | floor(ours, logprobs)
    metrics |= {"unigram_perplexity": unigram, "trigram_perplexity": trigram, "future_leak": future_leak(net, validation)}
    metrics |= {"overlap_exact": exact, "overlap_near": near}
    metrics |= {"accuracy": calibration.accuracy, "calibration_error": calibration.error}
    metrics |= {"stories": validation.stories, "tokens": len(validation)}

    files.start_over(FOLDER, "metrics.json")
    files.write_text(FOLDER / "loss_by_position.csv", position.csv())
    files.write_text(FOLDER / "calibration.csv", calibration.csv())
    files.write_text(FOLDER / "report.md", report.text(metrics))
    files.write_json(FOLDER / "metrics.json", metrics)
    print(f"\n{report.text(metrics)}")


def losses(ours: StorySums, theirs: StorySums, size: dict[str, int]) -> dict[str, float]:
    """What the nats come to: ours = validation, theirs = the training share, size = bytes and words of the validation text."""
    loss, nats = interval.ratio(ours.nll, ours.tokens), float(ours.nll.sum())
    per_word = nats / max(1, size["words"])
    return {
        **interval.exp(loss).named("perplexity"),
        **interval.exp(interval.ratio(theirs.nll, theirs.tokens)).named("train_perplexity"),
        **interval.difference((ours.nll, ours.tokens), (theirs.nll, theirs.tokens)).named("generalisation_gap"),
        "nats_per_token": loss.value,
        "bits_per_byte": nats / math.log(2) / size["bytes"],
        **({"perplexity_per_word": math.exp(per_word)} if per_word < MOST_NATS else {}),
    }


def floor(ours: StorySums, logprobs: NDArray[Any] | None) -> dict[str, float]:
    """The text's true entropy as a perplexity, and ours over it; nothing where the text's probability is not known."""
    if logprobs is None:
        return {}
    above = interval.exp(interval.ratio(ours.nll + logprobs, ours.tokens))  # story by story: most of the chance cancels
    least = interval.exp(interval.ratio(-logprobs, ours.tokens))
    return {**least.named("perplexity_floor"), **above.named("floor_ratio"), "below_floor": int(above.high < 1)}


if __name__ == "__main__":
    errors.run(main, __doc__)
