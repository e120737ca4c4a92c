"""Files between the stages: one that is missing, damaged or from another run is rejected by its name, with what to run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from reference import Reference
from refusal import refused
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.kind("bad file between the stages")

WEIGHTS = "train/model/model.safetensors"
CONFIG = "train/model/config.json"
Damage = Callable[[Path], object]  # does it to a file


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)


def holed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:900] = bytes(700)
    path.write_bytes(bytes(content))


class Trap:
    """What a pickle file can do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("owned"),))


def trap(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def trapped_array(path: Path) -> None:
    np.save(path.with_suffix(""), np.array([Trap()], dtype=object), allow_pickle=True)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text(content: str) -> Damage:
    return lambda path: path.write_text(content, encoding="utf-8")


def changed(**values: Any) -> Damage:
    """JSON with other values; None takes a key out."""

    def change(path: Path) -> None:
        merged = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))

    return change


def array(change: Callable[[Any], Any]) -> Damage:
    def make(path: Path) -> None:
        np.save(path, change(np.load(path)))

    return make


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def make(path: Path) -> None:
        found = {name: tensor.clone() for name, tensor in load_file(path).items()}
        change(found)
        save_file(found, path)

    return make


def other_shape(weights: dict[str, torch.Tensor]) -> None:
    weights["transformer.ln_f.bias"] = torch.ones(3)


def not_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["transformer.ln_f.weight"].fill_(torch.nan)


def fewer_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(0, 5), path)


def other_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).rename_columns(["story", "logprob"]), path)


NO_TOKENS = '{"model": {"vocab": {}, "merges": []}}'
BELONGS = "train.npy does not belong to meta.json"
DOWNLOAD, TOKENIZE, TRAIN = "dvc repro -f download", "dvc repro -f tokenize", "dvc repro -f train"
CASES: list[tuple[str, str, Damage, list[str]]] = [  # stage, file below data/, what is done to it, what the message says
    ("tokenize", "download/about.json", removed, ["about.json is missing", "The stage download makes it", "dvc repro"]),
    ("tokenize", "download/about.json", text("[]"), ["about.json is damaged", DOWNLOAD]),
    ("tokenize", "download/train.parquet", removed, ["train.parquet is missing", "The stage download makes it"]),
    ("tokenize", "download/train.parquet", cut, ["train.parquet is damaged", DOWNLOAD]),
    ("tokenize", "download/train.parquet", foreign, ["train.parquet is damaged", DOWNLOAD]),
    ("tokenize", "download/train.parquet", holed, ["train.parquet is damaged", DOWNLOAD]),
    ("tokenize", "download/train.parquet", folder_instead, ["train.parquet is damaged", DOWNLOAD]),
    ("tokenize", "download/validation.parquet", cut, ["validation.parquet is damaged", DOWNLOAD]),
    ("tokenize", "download/validation.parquet", other_column, ["validation.parquet", "text", DOWNLOAD]),
    ("train", "tokenize/meta.json", removed, ["meta.json is missing", "The stage tokenize makes it"]),
    ("train", "tokenize/meta.json", text("[]"), ["meta.json is damaged", TOKENIZE]),
    ("train", "tokenize/meta.json", changed(splits=None), ["meta.json is damaged", TOKENIZE]),
    ("train", "tokenize/meta.json", changed(vocab_size=None), ["meta.json is damaged", TOKENIZE]),
    ("train", "tokenize/meta.json", changed(license=None), ["meta.json is damaged", "license", TOKENIZE]),
    ("train", "tokenize/train.npy", removed, ["train.npy is missing", "The stage tokenize makes it"]),
    ("train", "tokenize/train.npy", cut, ["train.npy is damaged", TOKENIZE]),
    ("train", "tokenize/train.npy", foreign, ["train.npy is damaged", TOKENIZE]),
    ("train", "tokenize/train.npy", trap, ["train.npy is damaged", TOKENIZE]),
    ("train", "tokenize/train.npy", trapped_array, ["train.npy is damaged", TOKENIZE]),
    ("train", "tokenize/train.npy", folder_instead, ["train.npy", "folder stands where a file is expected"]),
    ("train", "tokenize/train.npy", array(lambda a: a[:-1]), [BELONGS, TOKENIZE]),
    ("train", "tokenize/train.npy", array(lambda a: a.astype(np.float64)), [BELONGS, TOKENIZE]),
    ("train", "tokenize/train.npy", array(lambda a: a + 40_000), [BELONGS, TOKENIZE]),
    ("train", "tokenize/validation.npy", cut, ["validation.npy is damaged", TOKENIZE]),
    ("train", "tokenize/train.offsets.npy", array(lambda a: a[:-1]), ["train.offsets.npy does not belong", TOKENIZE]),
    ("train", "tokenize/train.offsets.npy", array(lambda a: a + 1), ["train.offsets.npy does not belong", TOKENIZE]),
    ("train", "tokenize/tokenizer.json", text("{}"), ["tokenizer.json is damaged", TOKENIZE]),
    ("evaluate", "train/model", removed, ["config.json is missing", "The stage train makes it"]),
    ("evaluate", CONFIG, text("{"), ["config.json is damaged", TRAIN]),
    ("evaluate", CONFIG, changed(model_type="bert"), ["model_type is 'bert', not 'gpt2'", TRAIN]),
    ("evaluate", CONFIG, changed(n_layer=None), ["config.json: n_layer is missing", TRAIN]),
    ("evaluate", CONFIG, changed(n_head=3), ["config.json", "n_head", TRAIN]),
    ("evaluate", CONFIG, changed(n_embd=10**9), ["model.safetensors does not fit config.json", TRAIN]),
    ("evaluate", CONFIG, changed(n_layer=10**9), ["model.safetensors does not fit config.json", TRAIN]),
    ("evaluate", WEIGHTS, removed, ["model.safetensors is missing", TRAIN]),
    ("evaluate", WEIGHTS, emptied, ["model.safetensors is damaged or no safetensors file", TRAIN]),
    ("evaluate", WEIGHTS, cut, ["model.safetensors is damaged or no safetensors file", TRAIN]),
    ("evaluate", WEIGHTS, trap, ["model.safetensors is damaged or no safetensors file", TRAIN]),
    ("evaluate", WEIGHTS, tensors(lambda t: t.pop("transformer.wte.weight")), ["does not fit config.json", "missing", TRAIN]),
    ("evaluate", WEIGHTS, tensors(lambda t: t.update(more=torch.ones(1))), ["does not fit config.json", "unknown", TRAIN]),
    ("evaluate", WEIGHTS, tensors(other_shape), ["does not fit config.json", "ln_f.bias is (3,)", TRAIN]),
    ("evaluate", WEIGHTS, tensors(not_finite), ["finite", TRAIN]),
    ("evaluate", "train/model/tokenizer.json", text("{}"), ["train/model/tokenizer.json is damaged", TRAIN]),
    ("evaluate", "train/model/tokenizer.json", text(NO_TOKENS), ["train/model does not belong to data/tokenize", "dvc repro"]),
    ("evaluate", "tokenize/meta.json", changed(vocab_size=7), ["train/model does not belong to data/tokenize", "dvc repro"]),
    ("evaluate", "download/validation.parquet", cut, ["validation.parquet is damaged", DOWNLOAD]),
    ("evaluate", "download/validation.parquet", fewer_rows, ["validation.parquet", "5 stories", "dvc repro"]),
    ("generate", "tokenize/tokenizer.json", text("{"), ["tokenizer.json is damaged", TOKENIZE]),
    ("generate", "tokenize/tokenizer.json", removed, ["tokenizer.json is missing", "The stage tokenize makes it"]),
    ("generate", WEIGHTS, tensors(not_finite), ["data/train/model", "finite", TRAIN]),
    ("explain", "tokenize/meta.json", changed(dataset=None), ["meta.json is damaged", "dataset", TOKENIZE]),
    ("explain", WEIGHTS, tensors(not_finite), ["data/train/model", "finite", TRAIN]),
    ("track", "train/metrics.json", removed, ["train/metrics.json is missing", "The stage train makes it"]),
    ("track", "evaluate/metrics.json", text("{"), ["evaluate/metrics.json is damaged", "dvc repro -f evaluate"]),
    ("track", "generate/metrics.json", text("[]"), ["generate/metrics.json is damaged", "dvc repro -f generate"]),
    ("track", "train/history.csv", removed, ["train/history.csv is missing", "The stage train makes it"]),
    ("track", "train/history.csv", text("step,train_loss\n1,never\n"), ["train/history.csv is damaged", TRAIN]),
    ("track", "generate/samples.jsonl", text('{"text": "never'), ["samples.jsonl is damaged", "dvc repro -f generate"]),
]


@pytest.fixture
def finished(reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A copy of the finished project's params and data."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setattr("stages.compute.machine.keep_freed_memory", lambda: None)  # this process's memory stays as it is
    return reference.copy_data(tmp_path / "project")


def name_of(case: Any) -> str | None:
    return None if not isinstance(case, str) else case.rpartition("/")[2]


@pytest.mark.parametrize(("stage", "name", "damage", "words"), CASES, ids=name_of)
def test_bad_file_is_rejected_by_name(
    stage: str, name: str, damage: Damage, words: list[str], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage that reads it names the file, says what is wrong and which stage to run, before any work."""
    damage(finished / "data" / name)
    refused(finished, stage, words, capsys)
    assert not (finished / "owned").exists(), "the content of a file is never run"
