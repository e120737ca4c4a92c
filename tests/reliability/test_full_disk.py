"""The disk fills up at any write of any stage: one message, no half file under a final name, and the next run ends well."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import faults
import pytest
from reference import QUIET, STAGES, Reference, at_once, outputs
from refusal import check_message, digests
from stage_runs import run_stage

pytestmark = [pytest.mark.slow, pytest.mark.kind("disk full at a write")]
FEWEST = {"download": 20, "tokenize": 20, "train": 50, "evaluate": 11, "generate": 8}  # writes; of other stages: 1
WRITERS = [stage for stage in STAGES if stage != "track"]
MOST = 24  # writes tried of each stage, evenly spread, in the long test


def run(folder: Path, stage: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The stage, without MLflow: its store is elsewhere."""
    return run_stage(folder, stage, *(["--no-log"] if stage == "train" else []), **QUIET, **more)


def count_writes(reference: Reference, folder: Path, stage: str) -> int:
    """How many writes the stage needs."""
    reference.copy_data(folder)
    count = folder.parent / f"writes-{stage}"
    done = run(folder, stage, **faults.full_disk(folder, 0, count))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder)
    return max(map(int, count.read_text().split()))


def fill_up(reference: Reference, folder: Path, stage: str, at: int, fails: bool) -> None:
    """Run a stage whose folder has no room for write number `at`, and then once more with room.

    The last write is to the journal of stages, which only tells durations: a stage that has no room for it does not fail.
    """
    reference.copy_data(folder)
    before = digests(folder / "data")
    done = run(folder, stage, **faults.full_disk(folder, at))
    assert done.returncode == (1 if fails else 0), f"write {at}: {done.stderr}"
    if fails:
        check_message(done.stderr, ["the disk is full", "Free some space"])
    after = digests(folder / "data")
    assert set(after) <= set(before), f"write {at} left {set(after) - set(before)}"
    assert {name: after[name] for name in after} == {name: before[name] for name in after}, "a file is whole or not there"
    again = run(folder, stage)
    assert again.returncode == 0, again.stderr
    assert outputs(folder) == outputs(reference.folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_disk_full_at_some_write(reference: Reference, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """At one write of each stage, drawn at random."""
    faults.library()
    tries = [(stage, random.Random(stage).randint(1, FEWEST.get(stage, 1))) for stage in WRITERS]
    at_once([partial(fill_up, reference, tmp_path / stage, stage, at, True) for stage, at in tries], record_property)


@pytest.mark.extra
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("stage", WRITERS)
def test_disk_full_at_each_write(
    reference: Reference, stage: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """At every write, or at 24 of them from the first to the last."""
    last = count_writes(reference, tmp_path / stage, stage)
    places = range(1, last + 1) if last <= MOST else [1 + round(i * (last - 1) / (MOST - 1)) for i in range(MOST)]
    at_once([partial(fill_up, reference, tmp_path / str(at), stage, at, at < last) for at in places], record_property)
