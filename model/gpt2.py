"""GPT-2 (Radford et al. 2019), written out: embeddings, pre-norm blocks of causal attention and MLP, a head.

Names are GPT-2's own (wte wpe h ln_1 attn ln_2 mlp ln_f). Shapes in comments: B sequences, T tokens of each,
C width (n_embd), H heads of size hs (C = H * hs), V vocabulary.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import has_flash, self_attention
from model.config import GPT2Config
        hidden = self.hidden(tokens).flatten(0, 1)
        return head_loss(hidden, self.lm_head.weight, targets.flatten(), total, self.head_kernel)
