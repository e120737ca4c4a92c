"""What must not get out, and what must not get in: no secret in a run, no code in a file, no path in a prompt."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from reference import PROMPTS, WORD, Reference
from stage_runs import ROOT

from stages.common.params import read_yaml
from tools import ui

pytestmark = pytest.mark.kind("security")

OURS = ("model", "stages", "tools", "benchmarks")
RUN_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}  # whose files are programs
CALLS = {"torch.load", "torch.save", "torch.jit.load", "pickle.load", "yaml.unsafe_load", "eval", "exec", "os.system"}


def sources() -> list[Path]:
    """The project's own Python files, except the tests."""
    return [path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_is_run() -> None:
    """No source file reads or writes pickle in any form, evaluates text, or hands text to a shell."""
    for path in sources():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & RUN_CODE, path
            if isinstance(node, ast.Call):
                where = f"{path}:{node.lineno}"
                words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                only_tensors = words.get("weights_only") == "True"  # torch.load then runs no code
                assert only_tensors or ast.unparse(node.func) not in CALLS, where
                assert words.get("allow_pickle", "False") == "False", where
                assert words.get("shell", "False") == "False", where


def test_servers_are_for_this_machine() -> None:
    """What we start listens on 127.0.0.1, and nothing that we type or document opens it to the network."""
    command = ui.server(5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    texts = [*sources(), ROOT / "Makefile", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert "0.0.0.0" not in text, path
        for host in re.findall(r"--host[\"', =]+([\w.:]+)", text):
            assert host in ("127.0.0.1", "localhost"), path


@pytest.mark.slow
def test_no_secret_in_a_run(reference: Reference) -> None:
    """Keys and passwords of the environment stand in no file that DVC, MLflow or a stage wrote, and in nothing they said."""
    secret = WORD.encode()
    assert [path for path in reference.folder.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    assert WORD not in reference.said
    for run in reference.project.runs():
        assert WORD not in json.dumps([run.tags, run.params, run.name])


@pytest.mark.slow
def test_no_pickle_in_a_run(reference: Reference) -> None:
    """No file that a run leaves is a pickle, or a zip with one in it."""
    for path in [*(reference.folder / "data").rglob("*"), *(reference.folder / "mlruns").rglob("*")]:
        if path.is_file():
            head = path.read_bytes()[:2]
            assert not (head[:1] == b"\x80" and head[1:2] <= b"\x05"), path
            assert head != b"PK", path


@pytest.mark.slow
def test_a_prompt_is_no_path(reference: Reference) -> None:
    """Prompts that look like paths, commands, terminal codes or DVC's templates: nothing outside, each text whole."""
    made = [path for path in reference.folder.rglob("*") if ".git" not in path.parts and ".dvc" not in path.parts]
    for path in made:
        assert re.fullmatch(r"[\w.@+-]+", path.name), path
    assert not Path("/tmp/owned").exists()
    assert not [path for path in [*made, *reference.folder.parent.iterdir()] if path.name == "owned"]
    rows = (reference.folder / "data/generate/samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(row)["prompt"] for row in rows if row] == [prompt.replace("\\{", "{") for prompt in PROMPTS]
    kept = read_yaml((reference.folder / "params.yaml").read_text(encoding="utf-8"))
    assert kept["prompt"] == PROMPTS
    assert "\x1b" not in reference.said and "\0" not in reference.said
