"""The optimizer: AdamW, or Muon on the blocks' matrices with AdamW on the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.99)  # GPT-3's 0.95 is for batches of millions of tokens; over small ones the squares need more steps


def make_optimizers(
    net: nn.Module, name: str, learning_rate: float, weight_decay: float, fused: bool = True
) -> list[Optimizer]:
    """One optimizer, or two for muon; weight decay on matrices and token embeddings only (no biases, LayerNorm, positions).

    Muon (Jordan et al. 2024) takes AdamW's learning rate: its update is scaled to AdamW's size (Liu et al. 2025, "Muon is
    scalable for LLM training"), so `learning_rate` means the same for both.
    """
    trained = [(key, p) for key, p in net.named_parameters() if p.requires_grad]
    muon = [p for key, p in trained if name == "muon" and p.dim() == 2 and ".h." in f".{key}"]
    chosen = {id(p) for p in muon}
    decayed = {id(p) for key, p in trained if p.dim() >= 2 and not key.endswith("wpe.weight")}
    rest = [p for _, p in trained if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in rest if id(p) not in decayed], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [
        AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=BETAS, weight_decay=weight_decay, fused=fused)
    ]
    if muon:
        optimizers.append(torch.optim.Muon(muon, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def set_learning_rate(optimizers: list[Optimizer], rate: float) -> None:
    """Give every group this rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
