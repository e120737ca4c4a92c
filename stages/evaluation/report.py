"""Report: the evaluation in words: a table, what it means, and whether it means anything at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

OVERFITTED = 0.02  # nats per token that the last validation loss may be above the best: 2 % of the perplexity
LEAK = 1e-4  # logits of a masked network do not move at all; this allows for kernels that round differently
BETTER = "These are the last step's weights: train with keep: best, for fewer epochs, on more text, or with dropout"

Metrics = Mapping[str, float]


def text(metrics: Metrics) -> str:
    """Markdown for the console, report.md and the run's page. `metrics` as data/evaluate/metrics.json holds them."""
    return "\n".join([*_table(metrics), "", *(f"- {line}" for line in _findings(metrics)), ""])


def _table(m: Metrics) -> Iterator[str]:
    yield "|                         | perplexity | 95 % interval      |"
    yield "|-------------------------|-----------:|--------------------|"
    rows = {
        "validation": "perplexity",
        "before training": "initial_perplexity",
        "training, same size": "train_perplexity",
        "floor": "perplexity_floor",
        "counting: trigrams": "trigram_perplexity",
        "counting: single tokens": "unigram_perplexity",
    }
    for label, key in rows.items():
        if key in m:
            interval = f"{m[f'{key}_low']:.4g} to {m[f'{key}_high']:.4g}" if f"{key}_low" in m else ""
            yield f"| {label:23} | {m[key]:10.4g} | {interval:18} |"


def _findings(m: Metrics) -> Iterator[str]:
    low, high = m["generalization_gap_low"], m["generalization_gap_high"]
    per_word = f"a perplexity of {m['perplexity_per_word']:.4g} per word, " if "perplexity_per_word" in m else ""
    yield (
        f"{m['nats_per_token']:.4f} nats per token, {m['bits_per_byte']:.4f} bits per byte, {per_word}"
        f"over {m['validation_tokens']:,} tokens of {m['validation_stories']:,} stories; "
        f"the likeliest token is right {m['accuracy']:.1%} of the time"
    )
    if m["future_leak"] > LEAK:
        yield (
            f"**This perplexity means nothing**: the network sees the tokens that it is asked to predict. When only later "
            f"tokens change, earlier predictions move by up to {m['future_leak']:.3g} (future_leak; exactly 0 with the mask). "
            "Train with causal: true; docs/why-1.23-was-wrong.md explains"
        )
    if m.get("below_floor"):
        why = "it leaks: see above" if m["future_leak"] > LEAK else "it has memorized these stories, or they leak into training"
        yield (
            f"**Below the floor**: {m['floor_ratio']:.4f} times the floor (upper end of the 95 % interval: "
            f"{m['floor_ratio_high']:.4f}). No honest model can be below it: {why}"
        )
    elif "floor_ratio" in m:
        yield (
            f"{m['floor_ratio']:.4f} times the floor (95 % interval {m['floor_ratio_low']:.4f} to "
            f"{m['floor_ratio_high']:.4f}); 1 would be perfect knowledge of the storybook"
        )
    if "initial_perplexity" in m:
        gain, least, most = (m[f"gain_over_initial{end}"] for end in ("", "_low", "_high"))
        effect = "improved" if least > 0 else "harmed" if most < 0 else "made no difference that can be seen to"
        yield (
            f"training {effect} the network that it started from: {gain:+.4f} nats per token, story by story (95 % interval "
            f"{least:+.4f} to {most:+.4f}); the perplexity was {m['initial_perplexity']:.4g} and is {m['perplexity']:.4g}"
        )
    if m.get("last_val_loss", 0.0) - m.get("best_val_loss", 0.0) > OVERFITTED:
        yield (
            f"**Overfitted**: while training, the validation loss was lowest after step {m['best_step']:,.0f} "
            f"({m['best_val_loss']:.4f} nats per token) and ended at {m['last_val_loss']:.4f}. "
            + ("These are the weights of the best step (keep: best)" if m["kept_best"] else BETTER)
        )
    meaning = "none that can be seen" if low <= 0 <= high else "it knows the text that it was trained on better"
    if high < 0:
        meaning = "the validation text is the easier one"
    yield f"generalization gap {m['generalization_gap']:+.4f} nats per token ({low:+.4f} to {high:+.4f}): {meaning}"
    if m["perplexity"] >= m["trigram_perplexity"]:
        yield "no better than counting trigrams: train longer, or look at the learning rate"
    so = "; they make the perplexity look better than it is" if m["overlap_near"] > 0.01 else ""
    yield (
        f"{m['overlap_exact']:.2%} of the validation stories are in the training split word for word, "
        f"{m['overlap_near']:.2%} nearly so{so}"
    )
    yield f"calibration error {m['calibration_error']:.4f}: mean gap between the likeliest token's probability and its accuracy"
