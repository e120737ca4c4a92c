"""GPT-2 from scratch: tensors in, tensors out. It knows no YAML, DVC, MLflow or (except for `model.hf`) files."""

from model.config import GPT2Config
from model.generation import generate
from model.gpt2 import GPT2

__all__ = ["GPT2", "GPT2Config", "generate"]
