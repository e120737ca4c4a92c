"""params.yaml: checked whole, and every problem said at once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from repository import COMMITTED

from stages.common.errors import UserError
from stages.common.params import (
    EvaluateParams,
    GenerateParams,
    Params,
    load_params,
    parse_params,
    parse_part,
    read_yaml,
    write_yaml,
)


def test_committed_file_is_valid() -> None:
    """The committed params.yaml is the original experiment except for the stated changes, and valid."""
    params = parse_params(COMMITTED)
    original = {"n_layer": 12, "n_head": 12, "block_size": 128, "batch_size": 8, "epochs": 5, "max_samples": 10_000}
    assert original.items() <= params.model_dump().items()
    assert (params.optimizer, params.num_samples, params.prompt) == ("adamw", 5, "Once upon a time")
    assert (params.n_embd, params.dataset, params.vocabulary) == (96, "storybook", "corpus")


@given(
    st.sampled_from(sorted(COMMITTED)), st.integers(-5, 10**7) | st.floats() | st.text(max_size=20) | st.none() | st.booleans()
)
def test_any_value_is_taken_or_explained(key: str, value: object) -> None:
    """Any value of a key is either accepted as it is or refused by that key's name."""
    try:
        params = parse_params(COMMITTED | {key: value})
    except UserError as error:
        assert key in str(error) or "n_head" in str(error) or "stride" in str(error) or "learning_rate" in str(error)
    else:
        assert params.model_dump().keys() == COMMITTED.keys()


texts = st.text(min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "dataset": st.just("roneneldan/TinyStories") | texts.map("my/{}".format),
            "dataset_revision": st.none() | texts,
            "max_samples": st.integers(1, 10**12),
            "causal": st.booleans(),
            "learning_rate": st.floats(1e-300, 100.0),
            "weight_decay": st.floats(0, 1e6),
            "seed": st.integers(0, 2**32 - 1),
            "prompt": texts | st.lists(texts, min_size=1, max_size=4),
            "temperature": st.floats(0, 100),
            "top_k": st.none() | st.integers(1, 10**6),
            "top_p": st.none() | st.floats(1e-9, 1),
        },
    )
)
def test_params_survive_a_round_trip(changes: dict[str, Any]) -> None:
    """Whatever texts and numbers the params hold, written as YAML and read again they are the same."""
    params = parse_params(COMMITTED | changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(write_yaml(params.model_dump()), encoding="utf-8")
        assert load_params(Params, path) == params


# fmt: off
READ_DIFFERENTLY = [
    "010", "0o17", "0x1F", "0b101", "yes", "no", "on", "Off", "TRUE", "false", "~", "null", "Null", "1:30", "12:30:45", "1_000",
    "1e-3", "1E5", "1.", ".5", "-.inf", ".nan", "+7", "-0", "2020-01-01", "2020-01-01T10:00:00Z", "=", "<<", "%x", "@x",
    '"open', "'quoted'", '"dou\\nble"', "${launcher}", "*a",
]
WITH_SPACES = [
    "!!str 5", "!!int '5'", "!!float 1", "!!binary aGk=", "!!null ''", "!foo 1", "!!set {x}", "&a 5", "&a [x, *a]",
    ">-\n  folded\n  text", "{a: 1, a: 2}", "[1, yes, 010]", "? x", "&b {x: 1}", "{<<: *b, y: 2}", "{<<: {x: 1}, x: 2}",
    "|\n  a\n  b\n", "- x", "a: b",
]
# fmt: on
SCALARS = st.one_of(
    st.sampled_from(READ_DIFFERENTLY + WITH_SPACES),
    st.text(alphabet="0123456789abcdefox_:.+-~'\"!&*#{}[],<=@` \n\t\x85\u2028é😀", max_size=12),
    st.integers().map(str),
    st.floats().map(repr),
)


@pytest.mark.kind("params.yaml read as DVC reads it")
@pytest.mark.filterwarnings("ignore:(?s).*duplicate anchor")
@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "seed", "010", "yes", "~", "1e3", "<<"]), SCALARS), max_size=5))
def test_a_file_is_read_as_dvc_reads_it(lines: list[tuple[str, str]]) -> None:
    """Whatever the file holds, the stages read the values that DVC reads and records, or both refuse it."""
    text = "".join(f"{key}: {value}\n" for key, value in lines)
    try:
        theirs = parse_yaml(text, "params.yaml")
    except (YAMLFileCorruptedError, ValueError, TypeError):
        with pytest.raises(UserError, match=r"not YAML|given twice"):
            read_yaml(text)
    else:
        assert repr(read_yaml(text) or {}) == repr(theirs)  # repr: nan equals nan, and True is not 1


def test_a_stage_gets_its_own_part_of_a_file_that_is_right_as_a_whole(tmp_path: Path) -> None:
    """A stage has the keys that it reads and no other, and another stage's wrong key stops it all the same."""
    path = tmp_path / "params.yaml"
    path.write_text(write_yaml(COMMITTED), encoding="utf-8")
    assert load_params(EvaluateParams, path).model_dump() == {
        "compile": "auto",
        "device": "auto",
        "threads": 0,
        "eval_stride": None,
    }
    assert not hasattr(load_params(EvaluateParams, path), "learning_rate")
    path.write_text(write_yaml(COMMITTED | {"top_p": 0}), encoding="utf-8")
    with pytest.raises(UserError, match="top_p: 0"):
        load_params(EvaluateParams, path)


def test_one_part_is_checked_with_its_own_hints() -> None:
    """What `generate` takes from the command line is checked by the same limits, and named as coming from there."""
    options = {key: COMMITTED[key] for key in GenerateParams.model_fields}
    assert parse_part(GenerateParams, options | {"top_k": 5}, "the command line").top_k == 5
    with pytest.raises(UserError, match=r"^the command line has 2 problems:\n  temperature: -1: .*\n  sead: unknown key"):
        parse_part(GenerateParams, {**options, "temperature": -1, "sead": 1}, "the command line")
