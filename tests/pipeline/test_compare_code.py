"""The comparison that a pull request gets: the same small pipeline at two commits."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project

from stages.common.params import read_yaml
from tools.elsewhere import TINY


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_commits_side_by_side(finished: Project, tmp_path: Path) -> None:
    """A commit that changes a param: its value and the metrics of both sides are on the page.

    The clone uses a cache in which the first commit's results are.
    """
    project = finished.duplicate(tmp_path / "project")
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "config").write_text(f"[cache]\n    dir = {project.folder}/.dvc/cache\n", encoding="utf-8")
    project.env["DVC_GLOBAL_CONFIG_DIR"] = str(tmp_path / "dvc")
    before = read_yaml((project.folder / "params.yaml").read_text(encoding="utf-8"))
    project.set(temperature=0.5)
    project.commit()
    words = [word for key in TINY for word in ("-S", f"{key}={before[key]}")]
    said = project.python("-m", "tools.compare_code", "HEAD~1", *words)
    assert "temperature" in said.split("### Params")[1]
    assert "data/generate/metrics.json" in said.split("### Metrics")[1].split("### Params")[0]
