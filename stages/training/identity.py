"""Identity: a key for one training, made of all that decides its result: params, tokens, code and machine.

Two trainings with the same key end with the same bytes, so a checkpoint may be continued by any of them and by nobody else.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stages.common.files import digest
from stages.common.params import TrainParams
from stages.compute.machine import cpu_name, has_compiler

PROJECT = Path(__file__).parents[2]
FORMAT = "2"  # of the checkpoint file
# Variables that change which kernels the libraries take, or how these round; OpenMP's are settled by `stages` and `set_threads`
LIBRARIES = re.compile(
    r"(CUBLAS|CUDNN|DNNL|MKL|NPY|ONEDNN|OPENBLAS|TORCHINDUCTOR|TRITON)_\w+"
    r"|ATEN_CPU_CAPABILITY|GLIBC_TUNABLES|NVIDIA_TF32_OVERRIDE|TORCH_(ALLOW_TF32|BLAS_PREFER)\w+"
)
HARMLESS = re.compile(r"\w*(VERBOSE|LOG|DIR|NUM_THREADS|MKL_DYNAMIC)\w*")  # of these; PyTorch sets the last two itself
KERNELS = re.compile(r"(amx|avx|fma|sve|sme|bf16|i8mm)\w*")  # a processor's features by which kernels are chosen


def training_params(params: TrainParams) -> dict[str, Any]:
    """The params that can change a training: all but `launcher`, because how many processes it starts is a fact of the machine.

    The params of the data are not among them: the checksums of the tokens are part of the key.
    """
    return params.model_dump(exclude={"launcher"})


def training_facts(params: TrainParams, tokens: Path, init: Path, facts: dict[str, str]) -> dict[str, Any]:
    """Everything that decides the bits of a training. With other facts it is another training.

    meta.json holds the checksums of the token files, and about.json those of the weights that it starts from; reading the files
    themselves would delay the start.

    Args:
        params: the stage's.
        tokens: the folder of the tokens.
        init: the folder of the initial network.
        facts: see `machine_facts`.
    """
    sums = {path.name: digest(path, "md5") for path in (tokens / "meta.json", tokens / "tokenizer.json", init / "about.json")}
    return {"params": training_params(params), "data": sums, "code": code_digests(PROJECT), "machine": facts}


def make_key(facts: Mapping[str, Any]) -> str:
    """16 hex digits that change as soon as one fact changes."""
    text = json.dumps({"format": FORMAT, **facts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is different in two trainings' facts, such as "threads: 2 -> 1"."""
    for group in ("params", "machine"):
        old, new = before[group], now[group]
        for key in dict.fromkeys([*new, *old]):
            if old.get(key) != new.get(key):
                yield f"{key}: {old.get(key) or 'none'} -> {new.get(key) or 'none'}"
    if before["data"] != now["data"]:
        yield "the tokens or the weights to start from"
    code = [path for path in now["code"] if before["code"].get(path) != now["code"][path]] or ["a file that is gone"]
    if before["code"] != now["code"]:
        yield f"the code ({', '.join(code[:3])}{' ...' if len(code) > 3 else ''})"


def code_digests(root: Path) -> dict[str, str]:
    """The checksum of each of the project's own source files that this process has imported."""
    paths = {Path(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    own = sorted(path for path in paths if path.is_relative_to(root / "model") or path.is_relative_to(root / "stages"))
    return {path.relative_to(root).as_posix(): digest(path) for path in own}


def machine_facts(device: str, precision: str, threads: int, processes: int) -> dict[str, str]:
    """What decides the bits of a run besides params, data and code. It is recorded with the run."""
    gpu = device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "torch": torch.__version__,
        "torch_build": hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:8],
        "system": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_features": " ".join(cpu_features()),
        "environment": " ".join(f"{key}={value}" for key, value in sorted(os.environ.items()) if _decides(key)),
        "device": device,
        "gpu": torch.cuda.get_device_name() if gpu else "",
        "triton": version("triton") if gpu and has_compiler(device) else "",  # with which torch.compile makes kernels
        "precision": precision,
        "threads": str(threads),
        "processes": str(processes),
    }


def cpu_features() -> list[str]:
    """The processor's features and cache size, by which libraries choose their kernels: a virtual machine may hide some."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    features = sorted(name for name, has in known.items() if has is True and KERNELS.fullmatch(name))
    return [*features, f"L2:{known['l2_cache_size']}"] if "l2_cache_size" in known else features


def _decides(variable: str) -> bool:
    return bool(LIBRARIES.fullmatch(variable)) and not HARMLESS.fullmatch(variable)
