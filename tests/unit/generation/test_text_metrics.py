"""Text metrics: counts of samples that one can check by hand."""

from __future__ import annotations

import pytest

from stages.generation.sampler import Sample
from stages.generation.text_metrics import distinct_2, keeps_name, measure, name_of
from stages.storybook import story as storybook


def test_distinct_2_counts_pairs_within_a_text() -> None:
    """Pairs within a text only: "a b a b" and "a b" have ab, ba, ab, ab: 2 different of 4; no pairs at all give 0."""
    assert distinct_2(["a b a b", "a b"]) == 2 / 4
    assert distinct_2(["a b c"]) == 1.0
    assert distinct_2(["", "one", " \n"]) == 0.0
    assert distinct_2([]) == 0.0


def test_metrics_are_means_over_the_samples() -> None:
    """Means and shares over the samples, distinct_2 without the prompts."""
    found = [Sample("Once upon", 1, " a time", [1, 2], True), Sample("Once upon", 2, " a time", [1, 2, 3, 4], False)]
    assert measure(found, "elsewhere") == {"distinct_2": 0.5, "mean_tokens": 3.0, "eos_fraction": 0.5}
    assert measure(found, "storybook")["name_consistency"] == 0.0


def test_each_story_of_the_storybook_keeps_its_name() -> None:
    """True stories score 1: whatever falls below was the network's doing."""
    assert all(keeps_name(story.text) for story in storybook.stories(300, seed=77))


def test_a_text_about_somebody_else_has_lost_its_name() -> None:
    """A text that goes on about somebody else, or about nobody, has not kept its name."""
    one, other = (name_of(next(iter(storybook.stories(1, seed))).text) for seed in (1, 2))
    assert one != other
    assert keeps_name(f"Once there was a girl named {one}. {one} was glad.")
    assert not keeps_name(f"Once there was a girl named {one}. {other} was glad.")
    assert not keeps_name("Once there was a girl.")


@pytest.mark.parametrize("longer", ["s", "anna"])
def test_a_name_is_a_whole_word(longer: str) -> None:
    """A word that merely begins with a name is no name."""
    name = name_of(next(iter(storybook.stories(1, 1))).text)
    assert not keeps_name(f"The {name}{longer} was glad.")
