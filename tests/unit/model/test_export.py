"""Export: the network in torch.export, TorchScript and ONNX computes the same for texts of every length."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import network
from torch import Tensor

from model import GPT2

VOCABULARY, CONTEXT = 70, 160  # longer than two blocks of queries, see model/attention.py
SHAPES = [(1, 1), (3, 5), (1, 64), (2, 65), (1, CONTEXT)]  # the example has another
make = partial(network, 0.15, vocab_size=VOCABULARY, block_size=CONTEXT)


def assert_same_at_every_length(run: Callable[[Tensor], Tensor], net: GPT2) -> None:
    """Logits."""
    for shape in SHAPES:
        torch.testing.assert_close(run(tokens(*shape)), net(tokens(*shape)), atol=1e-5, rtol=1e-5)


def tokens(rows: int, columns: int) -> Tensor:
    """Random token ids."""
    return torch.randint(0, VOCABULARY, (rows, columns), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_torch_export_keeps_no_length(causal: bool) -> None:
    """torch.export with dynamic rows and columns: the same logits for every length."""
    net = make(causal=causal)
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("length", max=CONTEXT)}
    exported = torch.export.export(net, (tokens(2, 32),), dynamic_shapes=(sizes,)).module()
    assert_same_at_every_length(exported, net)


@torch.no_grad()
def test_torchscript_keeps_no_length() -> None:
    """torch.jit.trace, saved and loaded: the same logits for every length."""
    net, file = make(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.jit.save(torch.jit.trace(net, (tokens(2, 32),)), file)
    file.seek(0)
    assert_same_at_every_length(torch.jit.load(file), net)


@pytest.mark.parametrize("dynamo", [True, False])
@torch.no_grad()
def test_onnx_keeps_no_length(tmp_path: Path, dynamo: bool) -> None:
    """Both of PyTorch's ONNX exporters: onnxruntime computes the same logits for every length."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install onnx onnxscript onnxruntime")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net, path, sizes = make(), tmp_path / "gpt2.onnx", {0: "rows", 1: "length"}
    names = {"input_names": ["tokens"], "output_names": ["logits"]}
    if dynamo:
        torch.onnx.export(net, (tokens(2, 32),), path, dynamo=True, dynamic_shapes=(sizes,), **names)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            axes = {"tokens": sizes, "logits": sizes}
            torch.onnx.export(net, (tokens(2, 32),), path, dynamo=False, dynamic_axes=axes, **names)
    session = runtime.InferenceSession(path)
    assert_same_at_every_length(lambda x: torch.from_numpy(session.run(None, {"tokens": x.numpy()})[0]), net)
