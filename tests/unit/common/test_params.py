"""params.yaml: checked whole, and every problem said at once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.common.errors import UserError
from stages.common.params import Params, load_params, parse_params

COMMITTED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text(encoding="utf-8"))


def test_committed_file_is_valid() -> None:
    """The committed params.yaml is the original experiment but for the stated changes, and valid."""
    params = parse_params(COMMITTED)
    original = {"n_layer": 12, "n_head": 12, "block_size": 128, "batch_size": 8, "epochs": 5, "max_samples": 10_000}
    assert original.items() <= params.model_dump().items()
    assert (params.optimizer, params.num_samples, params.prompt) == ("adamw", 5, "Once upon a time")
    assert (params.n_embd, params.dataset, params.vocabulary) == (96, "storybook", "corpus")


def test_all_problems_in_one_message() -> None:
    """Missing, unknown, wrong and contradictory keys are all named in one message."""
    raw = COMMITTED | {"n_head": 7, "top_p": 0, "learning_rate": "abc", "max_sample": 5}
    del raw["seed"]
    with pytest.raises(UserError) as caught:
        parse_params(raw)
    text = str(caught.value)
    for word in ("top_p", "learning_rate", "max_sample: unknown key", "seed: missing"):
        assert word in text


@given(
    st.sampled_from(sorted(COMMITTED)), st.integers(-5, 10**7) | st.floats() | st.text(max_size=20) | st.none() | st.booleans()
)
def test_any_value_is_taken_or_explained(key: str, value: object) -> None:
    """Whatever stands in a key, it is either accepted as it stands or refused by that key's name."""
    try:
        params = parse_params(COMMITTED | {key: value})
    except UserError as error:
        assert key in str(error) or "n_head" in str(error) or "stride" in str(error) or "learning_rate" in str(error)
    else:
        assert params.model_dump().keys() == COMMITTED.keys()


texts = st.text(min_size=1, max_size=40)
rates = st.floats(1e-300, 100.0)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{"dataset": st.just("roneneldan/TinyStories") | texts.map("my/{}".format), "dataset_revision": st.none() | texts},
            **{"max_samples": st.integers(1, 10**12), "dropout": st.floats(0, 0.999), "causal": st.booleans()},
            **{"learning_rate": rates, "weight_decay": st.floats(0, 1e6)},
            **{"seed": st.integers(0, 2**32 - 1), "prompt": texts | st.lists(texts, min_size=1, max_size=4)},
            **{
                "temperature": st.floats(0, 100),
                "top_k": st.none() | st.integers(1, 10**6),
                "top_p": st.none() | st.floats(1e-9, 1),
            },
        },
    )
)
def test_params_survive_a_round_trip(changes: dict[str, Any]) -> None:
    """Whatever texts and numbers the params hold, written as YAML and read again they are the same."""
    params = parse_params(COMMITTED | {"min_learning_rate": 0.0} | changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(
            yaml.safe_dump(params.model_dump()), encoding="utf-8"
        )  # allow_unicode would leave U+0085 bare: a line end
        assert load_params(path) == params


def test_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    """`learning_rate: 1e-3`, which YAML 1.1 reads as text, means what it says."""
    assert parse_params(COMMITTED | {"learning_rate": "1e-3", "min_learning_rate": 0}).learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("- a\n- b\n", "a list"),
        ("", "nothing"),
        ("seed: 1\nseed: 2\n", "given twice"),
        ("a: [1\n", "not YAML"),
        ("\tseed: 1\n", "not YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not YAML"),
    ],
)
def test_broken_files_are_explained(tmp_path: Path, text: str, word: str) -> None:
    """A file that is not a flat mapping of YAML is refused in one sentence."""
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=word):
        load_params(path)


def test_params_cannot_be_changed() -> None:
    """Params are frozen: no stage can change what another one reads."""
    params = parse_params(COMMITTED)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1  # type: ignore[misc]
    assert isinstance(params, Params)
