"""The space of a search: `-S` words as `dvc exp run` takes them, and one message for all that is wrong in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import COMMITTED

from stages.common.errors import UserError
from tools.search import space
from tools.search.space import Choice, Interval


@pytest.mark.parametrize(
    ("word", "dimension"),
    [
        ("learning_rate=tag(log, interval(0.0003, 0.01))", Interval(0.0003, 0.01, log=True)),
        ("dropout=interval(0, 1)", Interval(0.0, 1.0)),
        ("n_embd=interval(64, 256)", Interval(64, 256)),  # its value in params.yaml is a whole number
        ("max_samples=tag(int, log, interval(100, 10000))", Interval(100, 10000, log=True)),
        ("top_k=int(interval(1, 50))", Interval(1, 50)),
        ("n_embd=choice(96, 192)", Choice((96, 192))),
        ("learning_rate=0.001,0.003", Choice((0.001, 0.003))),
        ("position=choice(sinusoidal, learned)", Choice(("sinusoidal", "learned"))),
        ("min_learning_rate=choice(1/10, 1/3)", Choice(("1/10", "1/3"))),
        ("causal=true,false", Choice((True, False))),
        ('prompt="One day,","He said"', Choice(("One day,", "He said"))),
        ("n_layer=range(2, 9, 3)", Interval(2, 8, step=3)),
        ("dropout=range(0.1, 0.4, 0.1)", Interval(0.1, 0.3, step=0.1)),
    ],
)
def test_a_word_is_read_as_hydra_has_it(word: str, dimension: object) -> None:
    """Each form of the pages gives the values that it says; an interval of a whole number gives whole numbers."""
    found = space.read([word, "epochs=2"], COMMITTED)
    assert dict(found.searched) == {word.partition("=")[0]: dimension}
    assert found.fixed == {"epochs": 2}
    (one,) = found.searched.values()
    if isinstance(one, Interval) and isinstance(dimension, Interval):
        assert one.whole is dimension.whole


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("n_heads=2,3", "params.yaml has no key n_heads; did you mean n_head?"),
        ("+color=1,2", "none can be added or removed"),
        ("~seed", "none can be added or removed"),
        ("seed", "Write one of: key=value, key=choice(1, 2)"),
        ("n_embd=choice(96", "Write one of"),
        ("n_embd=choice([1], [2])", "a choice is among texts, numbers"),
        ("n_embd=choice(96, 96)", "twice"),
        ("n_embd=glob(*)", "name the values"),
        ("n_embd=interval(256, 64)", "below the second"),
        ("n_embd=interval(0.5, 64)", "whole numbers"),
        ("dropout=tag(log, interval(0, 1))", "above 0"),
        ("n_layer=range(9, 2)", "empty"),
    ],
)
def test_a_wrong_word_is_named(word: str, said: str) -> None:
    """The message has the word, what is wrong with it, and what to write; another wrong word is in the same message."""
    with pytest.raises(UserError) as caught:
        space.read([word, "also_wrong=1"], COMMITTED)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"-S {word}: ")
    assert said in first
    assert second.startswith("-S also_wrong=1: params.yaml has no key")


@pytest.mark.parametrize("words", [[], ["epochs=2"]])
def test_without_several_values_there_is_nothing_to_search(words: list[str]) -> None:
    """It says so, with the forms that a word may have."""
    with pytest.raises(UserError, match=r"nothing to search.*choice\(1, 2\)"):
        space.read(words, COMMITTED)


def test_a_key_is_given_once() -> None:
    """Of two values for one key none is dropped without a word."""
    with pytest.raises(UserError, match="seed is given twice"):
        space.read(["seed=1,2", "seed=3"], COMMITTED)


def test_a_grid_has_all_points_or_says_why_not() -> None:
    """Choices and ranges have single values, written without the noise of adding; an interval has not."""
    found = space.read(["dropout=range(0.1, 0.4, 0.1)", "causal=true,false", "n_layer=interval(2, 4)"], COMMITTED)
    assert found.grid() == {"dropout": [0.1, 0.2, 0.3], "causal": [True, False], "n_layer": [2, 3, 4]}
    with pytest.raises(UserError, match="-S dropout: --sampler grid needs single values"):
        space.read(["dropout=interval(0, 1)"], COMMITTED).grid()


values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text(min_size=1, max_size=20)


@given(value=values | st.none())
def test_what_a_trial_is_told_is_the_value(value: Any) -> None:
    """Whatever value is proposed, DVC reads the word as this value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = space.words({"prompt": value})
    read = OverridesParser.create().parse_override(word).value()
    same = lambda text: text.replace("$\\{", "${") if isinstance(text, str) else text  # noqa: E731 - as `Params.prompts` has it
    assert same(read) == same(value)
