"""The space of a search: `-S` words as `dvc exp run` takes them, and one message for all that is wrong in them."""

from __future__ import annotations

import pytest
from repository import COMMITTED

from stages.common.errors import UserError

pytest.importorskip("optuna", reason="Optuna is not installed (`make search` installs it)")
from optuna.distributions import CategoricalDistribution as Choice
from optuna.distributions import FloatDistribution as Number
from optuna.distributions import IntDistribution as Whole

from tools.search import space


@pytest.mark.parametrize(
    ("word", "dimension"),
    [
        ("learning_rate=tag(log, interval(0.0003, 0.01))", Number(0.0003, 0.01, log=True)),
        ("dropout=interval(0, 1)", Number(0, 1)),
        ("n_embd=interval(64, 256)", Whole(64, 256)),  # its value in params.yaml is a whole number
        ("max_samples=tag(int, log, interval(100, 10000))", Whole(100, 10000, log=True)),
        ("top_k=int(interval(1, 50))", Whole(1, 50)),
        ("n_embd=choice(96, 192)", Choice((96, 192))),
        ("learning_rate=0.001,0.003", Choice((0.001, 0.003))),
        ("position=choice(sinusoidal, learned)", Choice(("sinusoidal", "learned"))),
        ("min_learning_rate=choice(1/10, 1/3)", Choice(("1/10", "1/3"))),
        ("causal=true,false", Choice((True, False))),
        ('prompt="One day,","He said"', Choice(("One day,", "He said"))),
        ("n_layer=range(2, 9, 3)", Whole(2, 8, step=3)),
        ("dropout=range(0.1, 0.4, 0.1)", Number(0.1, 0.3, step=0.1)),
    ],
)
def test_a_word_is_read_as_hydra_has_it(word: str, dimension: object) -> None:
    """Each form of the pages gives the values that it says; an interval of a whole number gives whole numbers."""
    found = space.read([word, "epochs=2"], COMMITTED)
    assert dict(found.searched) == {word.partition("=")[0]: dimension}
    assert found.fixed == {"epochs": 2}


@pytest.mark.parametrize("words", [[], ["epochs=2"]])
def test_without_several_values_there_is_nothing_to_search(words: list[str]) -> None:
    """It says so, with the forms that a word may have."""
    with pytest.raises(UserError, match=r"nothing to search.*choice\(1, 2\)"):
        space.read(words, COMMITTED)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=3", "seed is given twice"),
        ("n_heads=2,3", "params.yaml has no key n_heads; did you mean n_head?"),
        ("+color=1,2", "none can be added or removed"),
        ("~seed", "none can be added or removed"),
        ("seed", "Write one of: key=value, key=choice(1, 2)"),
        ("n_embd=choice(96", "Write one of"),
        ("n_embd=choice([1], [2])", "a choice is among texts, numbers"),
        ("n_embd=choice(96, 96)", "twice"),
        ("n_embd=glob(*)", "name the values"),
        ("n_embd=interval(256, 64)", "`low <= high` must hold"),
        ("n_embd=interval(0.5, 64)", "whole numbers"),
        ("n_embd=interval(64, inf)", "finite"),
        ("dropout=tag(log, interval(0, 1))", "`low > 0` must hold"),
        ("n_layer=range(9, 2)", "empty"),
    ],
)
def test_a_wrong_word_is_named(word: str, said: str) -> None:
    """The message has the word, what is wrong with it, and what to write; another wrong word is in the same message."""
    with pytest.raises(UserError) as caught:
        space.read(["seed=1,2", word, "also_wrong=1"], COMMITTED)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"-S {word}: ")
    assert said in first
    assert second.startswith("-S also_wrong=1: params.yaml has no key")


def test_a_grid_has_all_points_or_says_why_not() -> None:
    """Choices and ranges have single values, written without the noise of adding; an interval has not."""
    found = space.read(["dropout=range(0.1, 0.4, 0.1)", "causal=true,false", "n_layer=interval(2, 4)"], COMMITTED)
    assert found.grid() == {"dropout": [0.1, 0.2, 0.3], "causal": [True, False], "n_layer": [2, 3, 4]}
    with pytest.raises(UserError, match="-S dropout: --sampler grid needs single values"):
        space.read(["dropout=interval(0, 1)"], COMMITTED).grid()
