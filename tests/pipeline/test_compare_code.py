"""The comparison that a pull request gets: the same small pipeline at two commits."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project

from stages.common.params import read_yaml
from tools import compare_code
from tools.verify import TINY


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_commits_side_by_side(finished: Project, tmp_path: Path) -> None:
    """A commit that changes a param: its value, the metrics of both sides and both curves are on the page.

    The clones share a cache, in which the first commit's results are.
    """
    project = finished.duplicate(tmp_path / "project")
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "config").write_text(f"[cache]\n    dir = {project.folder}/.dvc/cache\n", encoding="utf-8")
    project.env["DVC_GLOBAL_CONFIG_DIR"] = str(tmp_path / "dvc")
    before = read_yaml((project.folder / "params.yaml").read_text(encoding="utf-8"))
    project.set(temperature=0.5, learning_rate=0.001)
    project.commit()
    words = [word for key in TINY for word in ("-S", f"{key}={before[key]}")]
    said = project.python("-m", "tools.compare_code", "HEAD~1", *words)
    assert "temperature" in said.split("### Params")[1]
    assert "perplexity" in said.split("### Metrics")[1].split("### Params")[0]
    assert "```mermaid\nxychart-beta" in said
    assert said.split("```mermaid")[1].count("  line [") == 2
    place = project.folder / compare_code.PLACE
    assert "<svg" in (place / "loss.svg").read_text(encoding="utf-8")
    assert (place / "summary.md").read_text(encoding="utf-8").strip() in said


def test_curves_of_other_steps_share_a_table() -> None:
    """Steps at which only one side was measured have an empty cell for the other."""
    losses = {"base": [(10, 3.0), (20, 2.0)], "head": [(10, 2.5), (25, 1.5)]}
    assert compare_code.table(losses).splitlines()[2:] == [
        "| 10 | 3.0000 | 2.5000 |",
        "| 20 | 2.0000 |  |",
        "| 25 |  | 1.5000 |",
    ]
    assert "line [3.0000, 2.0000]\n  line [2.5000, 1.5000]" in compare_code.chart(losses)
