"""A training that diverges: its loss is the true one however large it is, and each stage says what happened in one message."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from step_pair import VALIDATION, finished, trainer
from tiny import token_file
from torch.nn import functional as F

from model.loss import CPU, GPU, IGNORE, HeadWay, head_loss
from stages import evaluate
from stages.common.errors import UserError
from stages.evaluation.scoring import StorySums, score
from stages.training.batches import validation_windows
from stages.training.step import divergence_advice

pytestmark = pytest.mark.kind("training that diverges")


@pytest.mark.parametrize("way", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e5, 1e9])
def test_the_loss_of_any_network_is_true(way: HeadWay, dtype: torch.dtype, scale: float) -> None:
    """However unlikely a target, its loss is logsumexp(logits) - logit, on a CPU as on a GPU; one not scored spoils nothing."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 32), torch.randn(61, 32) * scale
    targets = torch.randint(61, (300,))
    targets[::7] = IGNORE
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = head_loss(hidden.requires_grad_(), weight, targets, way=way)
    loss.backward()
    logits = (hidden.to(dtype) @ weight.to(dtype).t()).double()
    rel = 1e-5 if dtype == torch.float32 else 4e-3  # bf16 has 8 bits
    assert loss.item() == pytest.approx(F.cross_entropy(logits, targets).item(), rel=rel)
    assert hidden.grad is not None and hidden.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 20.0, 1e3, 1e6])
def test_training_and_evaluation_agree_on_any_weights(tmp_path: Path, scale: float) -> None:
    """The validation loss that training reports is what scoring the same windows gives, on networks that diverged too."""
    made = trainer(tmp_path, dropout=0.0)
    with torch.no_grad():
        made.net.ln_f.weight.mul_(scale)
    split = token_file([VALIDATION[: 9 * 32 - 1].tolist()])  # nine whole windows with their targets
    made.validation = validation_windows(split.stream, 32)
    sums = score(made.net.eval(), split, stride=32)
    assert made.validation_loss() == pytest.approx(sums.nll[0] / sums.tokens[0], rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 3.0}, {"learning_rate": 100.0}, {"learning_rate": 30.0, "optimizer": "muon"}]
)
@pytest.mark.parametrize("kind", ["eager", "captured"])
def test_a_loss_far_above_guessing_ends_the_training(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    """A finite loss that is far above that of guessing is a training that diverged: step, losses, and what to do."""
    with pytest.raises(
        UserError, match=r"diverged.* step \d+.*nats per token.*guessing has 3\.91.*Lower learning_rate"
    ) as error:
        finished(tmp_path, kind, warmup_steps=0, grad_clip=0.0, **changes)
    assert "set grad_clip to 1.0" in str(error.value)
    assert "precision" not in str(error.value), "it is fp32 already"


def test_advice_does_not_name_what_is_set_already(tmp_path: Path) -> None:
    """What is advised is not what the run has."""
    advice = divergence_advice(trainer(tmp_path, precision="bf16", grad_clip=1.0).step_parts)
    assert "fp32" in advice and "grad_clip" not in advice


def test_a_network_that_learned_by_heart_did_not_diverge(tmp_path: Path) -> None:
    """A validation loss far above guessing beside a small training loss is no divergence; one that is no number is."""
    made = trainer(tmp_path)
    made.history.training.append({"train_loss": 0.01})
    made._check_progress(val_loss=50.0)
    with pytest.raises(UserError, match="diverged"):
        made._check_progress(val_loss=math.nan)


@pytest.mark.parametrize("nats", [101.0, 720.0, 1_590_846.0])
def test_evaluate_says_that_a_network_diverged(nats: float) -> None:
    """A loss whose perplexity no number holds is one message; just below, all numbers are finite."""
    tokens = np.full(50, 40)
    with pytest.raises(UserError, match=r"guessing has 8\.76: its training diverged.*dvc repro"):
        evaluate.check_loss(StorySums(tokens * nats, tokens), 6_381)
    sums = StorySums(np.linspace(0, 190, 50) * tokens, tokens)
    evaluate.check_loss(sums, 6_381)
    found = evaluate.losses(sums, sums, {"bytes": 3_000, "words": 500})
    assert all(math.isfinite(value) for value in found.values())
