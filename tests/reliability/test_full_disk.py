"""The disk fills up at any write of any stage: one message, no half file under a final name, and the next run ends well."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import faults
import pytest
from conftest import run_stage
from reference import QUIET, Reference, outputs, same
from refusal import check_message, digests

pytestmark = [pytest.mark.slow]
WRITERS = ("download", "tokenize", "train", "evaluate", "generate")
MOST = 40  # writes tried of each stage, evenly spread, in the long test


def fill_up(reference: Reference, folder: Path, stage: str, at: int) -> None:
    """Run a stage whose data/ (and checkpoints) has no room for write number `at`, and then once more with room."""
    reference.copy_data(folder)
    before = digests(folder / "data")
    done = run_stage(folder, stage, **QUIET, **faults.full_disk(folder, at))
    assert done.returncode == 1, f"write {at}: {done.stderr}"
    check_message(done.stderr, ["the disk is full", "Free some space"])
    after = digests(folder / "data")
    assert set(after) <= set(before), f"write {at} left {set(after) - set(before)}"
    assert {name: after[name] for name in after} == {name: before[name] for name in after}, "a file is whole or not there"
    again = run_stage(folder, stage, **QUIET)
    assert again.returncode == 0, again.stderr
    different = [path for path in outputs(reference.folder) if not same(path, folder / path.relative_to(reference.folder))]
    assert not different
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def writes(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """How many writes each stage needs."""
    folder, found = tmp_path_factory.mktemp("writes") / "project", {}
    reference.copy_data(folder)
    for stage in WRITERS:
        count = folder.parent / stage
        done = run_stage(folder, stage, **QUIET, **faults.full_disk(folder, 0, count))
        assert done.returncode == 0, done.stderr
        found[stage] = max(map(int, count.read_text().split()))
    return found


@pytest.mark.kind("disk full at a write")
@pytest.mark.parametrize("stage", WRITERS)
def test_disk_full_at_some_write(reference: Reference, writes: dict[str, int], stage: str, tmp_path: Path) -> None:
    """At one write of each stage, drawn at random."""
    fill_up(reference, tmp_path / "project", stage, random.Random(stage).randint(1, writes[stage]))


@pytest.mark.extra
@pytest.mark.kind("disk full at a write")
@pytest.mark.parametrize("place", range(MOST))
@pytest.mark.parametrize("stage", WRITERS)
def test_disk_full_at_each_write(reference: Reference, writes: dict[str, int], stage: str, place: int, tmp_path: Path) -> None:
    """At every write, or at 40 of them from the first to the last."""
    last = writes[stage] - 1
    if place > last:
        pytest.skip(f"{stage} has {last + 1} writes only")
    at = 1 + (place if last < MOST else round(place * last / (MOST - 1)))
    fill_up(reference, tmp_path / "project", stage, at)
