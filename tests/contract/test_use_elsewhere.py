"""The network elsewhere: what docs/use-the-model.md says of a notebook and of `pip install` holds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pages
import pytest
from source_tree import ROOT
from tiny import network

from model import hf
from stages.corpus.tokenizer import GPT2_SIZE, Tokenizer, save_for_transformers

BLOCKS = re.findall(r"```python\n(.*?)```", pages.read("docs/use-the-model.md"), re.DOTALL)


def test_the_wheel_takes_no_name_in_site_packages(tmp_path: Path) -> None:
    """`pip install .` builds, and brings no `model` or `stages` for other projects to stumble over."""
    source = tmp_path / "source"  # a build leaves files beside the code
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("model", "stages", "tools"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(words, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert all(top.endswith(".dist-info") for top in tops), tops


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_page_s_code_runs_in_another_folder(tmp_path: Path, code: str) -> None:
    """Each Python block of the page, pasted beside a copied model folder, runs; where it writes a text, the text comes out.

    What it imports must be installed; TRL, PEFT and onnxscript are not among the project's requirements.
    """
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if not (ROOT / module).is_dir() and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if "onnx" in code and importlib.util.find_spec("onnxscript") is None:
        pytest.skip("onnxscript is not installed: pip install onnx onnxscript")
    tokenizer, _ = Tokenizer.gpt2().prune(np.zeros(GPT2_SIZE, dtype=bool))
    hf.save(network(vocab_size=tokenizer.vocab_size, block_size=64), tmp_path / "my-gpt2", tokenizer.end_of_text)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    save_for_transformers(tmp_path / "tokenizer.json", tmp_path / "my-gpt2", 64)
    elsewhere = "sys.path" in code or "from model" not in code
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("/path/to/gpt2-pipeline", str(ROOT))],
        cwd=tmp_path,
        env=environment if elsewhere else environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "print(" not in code or "Once upon a time" in done.stdout
