"""Metrics: what each number in data/evaluate/metrics.json means; p(x) is the probability that the network gave to a token x."""

from __future__ import annotations

from stages.common.files import Metric

METRICS = {
    "perplexity": Metric(
        "exp(-Σ log p(x) / tokens) over the whole validation text. A story's end-of-text token counts as one of its tokens.",
        "tokens that are equally hard to choose from",
        "low; 1 is the least; compare within one vocabulary and one text only",
        interval=True,
    ),
    "train_perplexity": Metric(
        "The same over as many training stories. It is not exp(`train_loss`), which is measured while the weights change.",
        "as perplexity",
        "close to perplexity; far below it, the network has memorized",
        interval=True,
    ),
    "generalization_gap": Metric(
        "log(perplexity / train_perplexity).", "nats per token", "near 0; above 0, training text is known better", interval=True
    ),
    "nats_per_token": Metric("log(perplexity).", "nats per token", "low"),
    "bits_per_byte": Metric(
        "-Σ log2 p(x) / bytes of the validation text in UTF-8.",
        "bits per byte",
        "low; comparable between vocabularies, because all share the bytes",
    ),
    "perplexity_per_word": Metric(
        "exp(-Σ log p(x) / words), where a word ends at white space; absent for a text without spaces.",
        "words that are equally hard to choose from",
        "low; comparable between vocabularies",
    ),
    "initial_perplexity": Metric(
        "perplexity of the network that training started from; only with `init_from`.",
        "as perplexity",
        "above perplexity",
        interval=True,
    ),
    "gain_over_initial": Metric(
        "log(initial_perplexity / perplexity), story by story; only with `init_from`.",
        "nats per token",
        "above 0 with its whole interval",
        interval=True,
    ),
    "perplexity_floor": Metric(
        "perplexity of the storybook's own grammar, whose probability of each story is known; only for the storybook.",
        "as perplexity",
        "not the network's: no network can be below it, except by chance",
        interval=True,
    ),
    "floor_ratio": Metric(
        "perplexity / perplexity_floor, story by story; only for the storybook.",
        "ratio",
        "near 1, which would be all that can be known; below 1 is an alarm",
        interval=True,
    ),
    "below_floor": Metric(
        "1 if the interval of floor_ratio ends below 1, else 0; only for the storybook.",
        "0 or 1",
        "0; 1 proves a leak or memorized stories",
    ),
    "unigram_perplexity": Metric(
        "perplexity of counting single tokens of the training text (modified Kneser-Ney).",
        "as perplexity",
        "a yardstick: a network is far below it",
    ),
    "trigram_perplexity": Metric(
        "perplexity of counting three tokens in a row (modified Kneser-Ney).",
        "as perplexity",
        "a yardstick: a network that is not below it has learned little",
    ),
    "future_leak": Metric(
        "The largest change of any logit when only later tokens change.", "nats", "0; up to 1e-4 is rounding; more is a leak"
    ),
    "leak_alarm": Metric("1 if future_leak is above 1e-4, else 0.", "0 or 1", "0; with 1 no perplexity means anything"),
    "overlap_exact": Metric(
        "Validation stories that are in the training text word for word / validation stories.", "share", "0"
    ),
    "overlap_near": Metric(
        "The same for stories that share at least 80 % of their five-token sequences (Jaccard), exact copies included.",
        "share",
        "below 0.01",
    ),
    "accuracy": Metric("Validation tokens that the network had ranked first / validation tokens.", "share", "high"),
    "calibration_error": Metric(
        "Σ |confidence - accuracy| × tokens / all tokens over 20 bins of confidence, which is the likeliest token's "
        "probability (expected calibration error, Guo et al. 2017).",
        "share",
        "near 0: 70 % sure means right 70 % of the time",
    ),
    "validation_stories": Metric("Stories that were scored.", "stories", "more make the intervals shorter"),
    "validation_tokens": Metric("Tokens that were scored, end-of-text tokens included.", "tokens", "-"),
}
