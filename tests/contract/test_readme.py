"""README.md's commands do what it says. Each command in a block runs here on a tiny copy of the project, or in a test that is
marked with it (`@pytest.mark.readme`), or the README says that it needs the Hub or a GPU. An unknown command fails.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pages
import pytest
from project import EXPERIMENT, Project
from repository import COMMITTED, committed
from source_tree import ROOT

CLONE = "git clone https://github.com/OWNER/gpt2-pipeline && cd gpt2-pipeline"
COMMANDS = list(pages.commands(pages.read("README.md")))
MARKED = {  # the commands that other tests run, with smaller numbers
    ast.literal_eval(command)
    for path in (ROOT / "tests").rglob("test_*.py")
    for command in re.findall(r"^@pytest\.mark\.readme\((.+)\)$", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@dataclass
class Reader:
    """A user who has cloned the project and types what the README says."""

    project: Project

    def type(self, command: str) -> str:
        """Run a command in a shell, in the project's folder, and return its output."""
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.project.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"exit {done.returncode} of {command}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @property
    def env(self) -> dict[str, str]:
        """This environment, with the Python that runs the tests first on the path, as in an activated .venv."""
        return self.project.environment()


@pytest.fixture(scope="module")
def reader(experimented: Project, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A user after `make repro` and an experiment."""
    return Reader(experimented.duplicate(tmp_path_factory.mktemp("readme") / "project"))


def clone(reader: Reader) -> None:
    """The project can be cloned and entered."""
    address = "https://github.com/OWNER/gpt2-pipeline"
    said = reader.type(CLONE.replace(address, "-q . gpt2-pipeline") + " && ls && rm -r ../gpt2-pipeline")
    assert {"Makefile", "dvc.yaml", "params.yaml"} <= set(said.split())


def compare(reader: Reader) -> None:
    """The table has the commit and the experiment with its param that differs and its results, and fits 100 columns."""
    said = reader.type("make compare")
    perplexity = json.loads((reader.project.folder / "data/evaluate/metrics.json").read_text(encoding="utf-8"))["perplexity"]
    for word in ("main", EXPERIMENT, "max_samples=30", "perplexity", f"{perplexity:.4f}"):
        assert word in said
    assert max(map(len, said.splitlines())) <= 100


def explore(reader: Reader) -> None:
    """It says where the page is; without a browser that is all."""
    said = reader.type("BROWSER=false make explore")
    assert "data/explain/explorer.html" in said


def free_the_disk(reader: Reader) -> None:
    """What the folder and the experiments use stays in the cache."""
    reader.type("dvc gc --workspace --all-experiments --force")
    reader.type(f"git stash && dvc exp apply {EXPERIMENT} && git restore . && git stash pop && dvc checkout")


def write(reader: Reader) -> None:
    """It prints the prompt and text after it, and changes no file."""
    before = reader.type("git status --porcelain")
    said = reader.type('python -m stages.generate --prompt "The little dog"')
    assert "The little dog" in said
    assert len(said.partition("The little dog")[2].strip()) > 0
    assert reader.type("git status --porcelain") == before


HERE: dict[str, Callable[[Reader], None]] = {
    CLONE: clone,
    "make compare": compare,
    'python -m stages.generate --prompt "The little dog"': write,
    "make explore": explore,
    "dvc gc --workspace --all-experiments": free_the_disk,
}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # seconds: a real pipeline, perhaps on a busy machine
@pytest.mark.parametrize("command", HERE)
def test_command_does_what_the_readme_says(command: str, reader: Reader) -> None:
    """The command, typed in a tiny copy of the project, succeeds and shows what is promised."""
    HERE[command](reader)


def test_every_command_has_a_test() -> None:
    """Each command has a test, except those marked `# needs the Hub` or `# needs a GPU`, and each test has its command."""
    typed = {command for command, needs in COMMANDS if not needs}
    assert typed - {*HERE, *MARKED} == set(), "mark the test that runs it with @pytest.mark.readme, or fence it as ```text"
    assert {*HERE, *MARKED} - typed == set(), "the README no longer has it"


@pytest.mark.parametrize("page", ["README.md", "docs/measurements.md"])
def test_figures_are_those_of_the_committed_run(page: str) -> None:
    """The perplexities, intervals and sizes that the pages give for the default are the committed data/*/metrics.json's."""
    train, evaluate = (json.loads(committed(f"data/{stage}/metrics.json")) for stage in ("train", "evaluate"))
    text = pages.read(page)
    keys = ("perplexity", "perplexity_low", "perplexity_high", "train_perplexity", "perplexity_floor", "floor_ratio")
    figures = {f"{evaluate[key]:.3f}" for key in keys}
    if page == "README.md":
        figures |= {f"{train['parameters']:,} parameters", f"{train['steps']:,} steps", f"{train['tokens'] / 1e6:.2f} million"}
    assert not {figure for figure in figures if figure not in text}, "put the committed metrics on the page"


def test_story_is_one_of_the_committed_samples() -> None:
    """The story on the README is in the committed data/generate/samples.md, word for word."""
    (story,) = (line.strip(" »") for line in pages.read("README.md").splitlines() if line.startswith("  »"))
    assert story in committed("data/generate/samples.md").decode().replace("**", "")


def test_readme_is_short() -> None:
    """Somebody decides in two minutes: at most 110 lines. Measurements have a page of their own, and so has troubleshooting."""
    assert len(pages.read("README.md").splitlines()) <= 110


@pytest.mark.parametrize("target", ["gpt2-small", "gpt2-small-muon"])
@pytest.mark.parametrize("data", ["roneneldan/TinyStories", "some/folder"])
def test_gpt2_small_is_the_original_experiment(target: str, data: str) -> None:
    """`make gpt2-small` and `gpt2-small-muon`, which take hours, give DVC keys that exist and values that they may have."""
    from stages.common.params import Params, parse_params, read_yaml

    makefile = pages.read("Makefile")
    assert "\nDATA ?= roneneldan/TinyStories\n" in makefile
    recipe = makefile.split(f"\n{target}:")[1].split("\n\n")[0].replace("\\\n", " ").replace('"$(DATA)"', data)
    given = dict(word.split("=", 1) for word in recipe.split("dvc exp run")[1].split() if "=" in word)
    known = {key: value for key, value in COMMITTED.items() if key in Params.model_fields}  # a new key has tests of its own
    params = parse_params(known | {key: read_yaml(value) for key, value in given.items()})
    assert (params.dataset, params.n_embd, params.vocabulary, params.epochs) == (data, 768, "full", 5)
