"""Identity: a key for one training, made of all that decides its result: params, tokens, code and machine.

Two trainings with the same key end with the same bytes, so a checkpoint may be continued by any of them and by nobody else.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.common.files import digest
from stages.common.params import TrainParams
from stages.compute.machine import cpu_name, has_compiler

PROJECT = Path(__file__).parents[2]
FORMAT = "2"  # of the checkpoint file


def training_params(params: TrainParams) -> dict[str, Any]:
    """The params that can change a training: all but `launcher`, because how many processes it starts is a fact of the machine.

    The params of the data are not among them: the checksums of the tokens are part of the key.
    """
    return params.model_dump(exclude={"launcher"})


def training_key(params: TrainParams, tokens: Path, init: Path, facts: dict[str, str]) -> str:
    """A name for everything that decides the bits of a training. Another key is another training.

    meta.json holds the checksums of the token files, and about.json those of the weights that it starts from; reading the files
    themselves would delay the start.

    Args:
        params: the stage's.
        tokens: the folder of the tokens.
        init: the folder of the initial network.
        facts: see `machine_facts`.
    """
    sums = {path.name: digest(path, "md5") for path in (tokens / "meta.json", tokens / "tokenizer.json", init / "about.json")}
    return make_key(params=training_params(params), data=sums, code=code_digest(PROJECT), machine=facts)


def make_key(**facts: Any) -> str:
    """16 hex digits that change as soon as one fact changes."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_digest(root: Path) -> str:
    """One checksum over the project's own source files that this process has imported, by name and content."""
    paths = {Path(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    own = sorted(path for path in paths if path.is_relative_to(root / "model") or path.is_relative_to(root / "stages"))
    return hashlib.sha256("".join(f"{path.relative_to(root)} {digest(path)}\n" for path in own).encode()).hexdigest()


def machine_facts(device: str, precision: str, threads: int, processes: int) -> dict[str, str]:
    """What decides the bits of a run besides params, data and code. It is recorded with the run."""
    gpu = device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        "gpu": torch.cuda.get_device_name() if gpu else "",
        "triton": version("triton") if gpu and has_compiler(device) else "",  # with which torch.compile makes kernels
        "precision": precision,
        "threads": str(threads),
        "processes": str(processes),
    }
