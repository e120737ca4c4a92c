"""CONTRIBUTING's recipes, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import pytest
from reference import Reference
from stage_runs import ROOT, environment

pytestmark = pytest.mark.slow
CONTRACT = ("tests/contract", "-m", "not slow", "-k", "not commands")  # to read the pages' commands takes all of DVC and MLflow
UNIT = (  # the unit tests that know of the stages and of the network's shape
    "tests/unit/tracking/test_pipeline.py",
    "tests/unit/tracking/test_results.py",
    "tests/unit/model/test_config.py",
)
MOST_LINES = 40  # changed for rotary positions
ROTARY = """
import torch
from model import GPT2, GPT2Config, generate, hf
from torch.nn import functional as F

torch.manual_seed(0)
net = GPT2(GPT2Config(50, block_size=16, n_layer=2, n_head=2, n_embd=16, position="rotary"))
batch = torch.randint(50, (4, 17))
optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
losses = []
for _ in range(20):
    loss = net.loss(batch[:, :-1], batch[:, 1:])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
assert losses[-1] < 0.8 * losses[0], losses

net.eval()
text = batch[:, :3]
for _ in range(30):  # beyond the context
    text = torch.cat([text, net(text[:, -16:])[:, -1:].argmax(dim=-1)], dim=1)
assert torch.equal(generate(net, batch[:, :3], 30, temperature=0), text)

turned = net(batch[:, [1, 0, 2, 3]])[:, -1]
assert not torch.allclose(turned, net(batch[:, :4])[:, -1], atol=1e-3), "the order of the tokens has no effect"
try:
    hf.save(net, "saved")
except ValueError as error:
    print(error)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's files in a new folder, with the tests, without data and without git."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


def blocks(recipe: str) -> list[tuple[str, str]]:
    """The fenced blocks of a recipe: their languages and texts."""
    (section,) = re.findall(rf"^### {recipe}\n(.*?)^##", pages.read("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    return pages.FENCE.findall(section)


def follow(folder: Path, recipe: str) -> None:
    """Apply a recipe's diffs and run its commands. Where it lists failing tests, exactly these fail; in the end, none."""
    for language, block in blocks(recipe):
        if language == "diff":
            subprocess.run(["git", "apply", "-"], input=block, cwd=folder, text=True, check=True)
        elif language == "sh":
            python(folder, *block.split()[1:])
        else:
            assert failing(folder, *CONTRACT) == set(block.split())
    assert not failing(folder, *CONTRACT)
    assert not failing(folder, *UNIT)
    for words in (["check"], ["format", "--check"]):
        subprocess.run([sys.executable, "-m", "ruff", *words, "."], cwd=folder, check=True)


def failing(folder: Path, *tests: str) -> set[str]:
    """Which of these tests fail in a copy."""
    said = python(folder, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *tests)
    assert "passed" in said, said
    return set(re.findall(r"^FAILED \S+\.py::(\S+)", said, re.MULTILINE))


def python(folder: Path, *words: str, code: Path | None = None) -> str:
    """What Python says in a folder, with the code of the copy."""
    env = environment(folder, PYTHONPATH=str(code or folder))
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_add_a_parameter(copy: Path, tokenized: Path, tmp_path: Path) -> None:
    """The recipe's parameter is known everywhere, and has its effect in a training."""
    follow(copy, "Add a parameter")
    shutil.copytree(tokenized, tmp_path / "run")
    params = (tokenized / "params.yaml").read_text(encoding="utf-8")
    found = set()
    for windows in (1, 2):
        (tmp_path / "run" / "params.yaml").write_text(f"{params}val_windows: {windows}\n", encoding="utf-8")
        said = python(tmp_path / "run", "-m", "stages.train", "--no-log", code=copy)
        assert "trained to step" in said, said
        found.add((tmp_path / "run" / "data" / "train" / "validation.csv").read_text(encoding="utf-8"))
    assert len(found) == 2


def test_add_a_metric(copy: Path, reference: Reference, tmp_path: Path) -> None:
    """The recipe's metric is computed, with its interval."""
    follow(copy, "Add a metric")
    (tmp_path / "run").mkdir()
    said = python(reference.copy_data(tmp_path / "run"), "-m", "stages.evaluate", code=copy)
    metrics = json.loads((tmp_path / "run" / "data" / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["nats_per_story_low"] < metrics["nats_per_story"] < metrics["nats_per_story_high"], said
    tokens = metrics["nats_per_story"] / metrics["nats_per_token"]
    assert tokens > 10  # per story


def test_add_a_stage(copy: Path, reference: Reference, tmp_path: Path) -> None:
    """The recipe's stage runs, and `track` logs its metrics and its table."""
    follow(copy, "Add a stage")
    (tmp_path / "run").mkdir()
    run = reference.copy_data(tmp_path / "run")
    said = python(run, "-m", "stages.lengths", code=copy)
    assert (run / "data" / "lengths" / "metrics.json").is_file(), said
    look = "from stages.tracking.results import Results; found = Results.read(); print(found.metrics, *found.tables)"
    logged = python(run, "-c", look, code=copy)
    assert "'lengths/longest_story': " in logged
    assert "data/lengths/lengths.csv" in logged


def test_try_another_network(copy: Path) -> None:
    """Rotary positions take 40 lines at most: the network trains, its cache changes no text, and it is not saved as GPT-2."""
    ((_, diff),) = blocks("Try another network")
    changed = [line for line in diff.splitlines() if line.startswith(("+", "-")) and not line.startswith(("+++ ", "--- "))]
    assert len(changed) <= MOST_LINES
    follow(copy, "Try another network")
    assert "transformers' GPT-2 has no rotary positions" in python(copy, "-c", ROTARY)
