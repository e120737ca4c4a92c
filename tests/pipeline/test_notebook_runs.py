"""notebooks/colab.ipynb runs from the first cell to the last, and shows what it says, on a tiny copy of the project."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest
import servers
from nbclient import NotebookClient
from project import Project
from stage_runs import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # seconds: two real pipelines and a server


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[nbformat.NotebookNode, Path]]:
    """The notebook after *Run all*, and the folder where it worked.

    A cell with other settings stands after the cell tagged `parameters`, as papermill does it. Nothing is installed: the
    kernel's environment is that of an activated .venv. There is no git identity, as on Colab.
    """
    folder = tmp_path_factory.mktemp("notebook")
    Project.copy(folder / "origin")
    settings = {"REPO": str(folder / "origin"), "FOLDER": str(folder / "my clone"), "KEEP": str(folder / "my drive")}
    settings |= {"SETUP": False, "PORT": servers.free_port(), "CHANGES": "-S max_samples=40 -S epochs=1"}
    book = nbformat.read(ROOT / "notebooks/colab.ipynb", as_version=4)
    (at,) = [at for at, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", [])]
    book.cells.insert(at + 1, nbformat.v4.new_code_cell("\n".join(f"{key} = {value!r}" for key, value in settings.items())))
    run_all(book, folder)
    nbformat.write(book, folder / "executed.ipynb")
    yield book, folder
    for process in psutil.process_iter():  # the server outlives the kernel, which is intended
        with suppress(psutil.Error):
            if process.cwd() == str(folder / "my clone"):
                process.terminate()


def run_all(book: nbformat.NotebookNode, folder: Path) -> None:
    """*Run all*, with a new kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", Project(folder).environment())
        os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "IPYTHONDIR": str(folder / "ipython")}
        NotebookClient(book, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()


def shown(book: nbformat.NotebookNode, source: str) -> str:
    """All that the cell with this text in it shows, as JSON."""
    (cell,) = [cell for cell in book.cells if cell.cell_type == "code" and source in cell.source]
    return json.dumps(cell.outputs, ensure_ascii=False)


def test_it_shows_what_came_out(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    """The loss as a picture, the report and the samples as text, the explorer as a page, MLflow's address, in their cells."""
    book, _ = executed
    assert "image/png" in shown(book, "plt.plot")
    assert "MLflow is at http://127.0.0.1:" in shown(book, "tools.ui")
    assert "perplexity" in shown(book, "data/evaluate/report.md")
    assert "Once upon a time" in shown(book, "data/evaluate/report.md")
    assert "srcdoc" in shown(book, "data/explain/explorer.html")
    assert "<script" not in shown(book, "data/explain/explorer.html")  # the page is escaped: it cannot act on the notebook


def test_it_compares_two_experiments(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    """The second experiment runs only what its change touches; the changed param and metrics are shown for both."""
    book, folder = executed
    said = shown(book, 'new_name("cooler")')
    assert "Running stage 'generate'" in said
    assert "Running stage 'train'" not in said
    table = shown(book, "dvc metrics diff")
    assert "temperature" in table
    assert "data/generate/metrics.json" in table
    runs = {run.name for run in Project(folder / "my clone").runs()}
    assert runs == {"first", "cooler"}


def test_what_was_kept_can_be_continued(executed: tuple[nbformat.NotebookNode, Path], tmp_path: Path) -> None:
    """The commands that the notebook prints bring code, experiments, data and runs back into another folder."""
    book, _ = executed
    (output,) = [
        output.text
        for cell in book.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and "To resume from there:" in output.text
    ]
    script = output.split("To resume from there:\n")[1]
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=Project(tmp_path).environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    back = Project(tmp_path / "gpt2-pipeline")
    assert {"first", "cooler"} <= set(back.dvc("exp", "list", "--name-only").split())
    assert (back.folder / "data/train/model/model.safetensors").is_file()
    assert len(back.runs()) == 2


def test_run_all_again(executed: tuple[nbformat.NotebookNode, Path]) -> None:
    """A second *Run all*, with a new kernel, gives experiments of new names with the same results, without training."""
    book, folder = executed
    again = copy.deepcopy(book)
    run_all(again, folder)
    said = shown(again, 'new_name("first")')
    assert "Running stage 'track'" in said and "Running stage 'train'" not in said
    runs = {run.name: run for run in Project(folder / "my clone").runs()}
    assert set(runs) == {"first", "cooler", "first-2", "cooler-2"}
    for name in ("first", "cooler"):
        assert runs[f"{name}-2"].params == runs[name].params
        assert runs[f"{name}-2"].metrics["evaluate/perplexity"] == runs[name].metrics["evaluate/perplexity"]
