"""The design's promises, checked in the source: imports go one way, and dvc.yaml is correct."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import source_tree
from repository import committed
from source_tree import ROOT, STAGES

from stages.common import params
from stages.common.params import read_yaml
from stages.tracking import pipeline


def _sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def _third_party(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(source_tree.tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_model_is_tensors_only() -> None:
    """The network's files import no YAML, DVC, MLflow or transformers, and use no ready-made Transformer layer."""
    for path in _sources("model"):
        assert not _third_party(path) & {"yaml", "dvc", "mlflow", "transformers", "datasets", "stages"}, path
        text = path.read_text(encoding="utf-8")
        assert "nn.Transformer" not in text and "MultiheadAttention" not in text, path


def test_one_package_knows_mlflow() -> None:
    """In the pipeline, only the package stages/tracking imports mlflow."""
    users = {path.parent.name for path in _sources("stages") if "mlflow" in _third_party(path)}
    assert users == {"tracking"}


def test_stages_that_compute_do_not_know_mlflow() -> None:
    """Only the stage `track` imports the package that uses mlflow; `train` starts it as a separate process."""
    assert {stage for stage in STAGES if any("stages/tracking/" in path for path in source_tree.code_of(stage))} == {"track"}


def test_what_is_imported_is_declared() -> None:
    """pyproject.toml names each package that the pipeline imports itself, and requirements.txt pins it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {_canonical(line) for line in project["dependencies"]}
    pinned = {_canonical(line) for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in line}
    assert declared <= pinned
    known = packages_distributions()
    for path in [*_sources("model"), *_sources("stages")]:
        for name in _third_party(path) - sys.stdlib_module_names - {"model", "stages"}:
            assert {_canonical(package) for package in known[name]} & declared, f"{path.name} imports {name}"


def _canonical(requirement: str) -> str:
    """The canonical form of a package's name."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>~!; ]", requirement)[0]).lower()


def test_stage_is_script_is_folder() -> None:
    """Each script in stages/ is a node of dvc.yaml, started as a module; its outputs are in data/<its name>/ only."""
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)
    for stage, node in pipeline.stages().items():
        assert node["cmd"].endswith(f" -m stages.{stage}"), stage
        for out in [*node.get("outs", []), *node.get("metrics", [])]:
            path = out if isinstance(out, str) else next(iter(out))
            assert path.startswith(f"data/{stage}/"), path


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_import_tree(stage: str) -> None:
    """A stage's code deps in dvc.yaml are exactly the files that it imports: no stale result, no needless rerun.

    A folder is named where the stage imports all of it, else the file. `track` depends on all code: when another stage runs
    again, even with the same bytes, there is a run to complete.
    """
    deps = pipeline.stages()[stage]["deps"]
    declared = [dep for dep in deps if dep.startswith(("model", "stages"))]
    if stage == "track":
        assert declared == ["model", "stages"]
    else:
        assert declared == source_tree.deps_of(stage)
        assert source_tree.expanded(declared) == source_tree.code_of(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_params_declared_are_the_stage_s_class(stage: str) -> None:
    """A stage's params in dvc.yaml are the fields of its class, in that order (`track` depends on all of params.yaml)."""
    declared = pipeline.stages()[stage].get("params", [])
    if stage == "track":
        assert declared == [{"params.yaml": None}]
    else:
        assert declared == list(fields(stage))


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_every_param_is_used(stage: str) -> None:
    """A stage has no param that its code does not use: each is an attribute somewhere in the files that it imports."""
    files = source_tree.import_tree(ROOT / "stages" / f"{stage}.py")
    used = {node.attr for path in files for node in ast.walk(source_tree.tree(path)) if isinstance(node, ast.Attribute)}
    assert used >= set(fields(stage))


def fields(stage: str) -> dict[str, object]:
    """The fields of a stage's class of params; a stage without params has none."""
    part = getattr(params, f"{stage.title()}Params", None)
    return part.model_fields if part else {}


def test_params_yaml_is_flat_and_commented() -> None:
    """params.yaml has one key per line, each with a comment that explains it, and the class Params has the same keys."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert list(read_yaml(text)) == list(params.Params.model_fields)
    for line in text.splitlines():
        assert not line or line.startswith("#") or "  # " in line or "   # " in line, line


def test_lock_is_of_this_code() -> None:
    """The committed dvc.lock belongs to the committed source files, so nobody who clones the project has to run anything."""

    if not (ROOT / ".git").exists():
        pytest.skip("this copy of the project is no git repository")
    stale = {
        f"{stage}: {dep['path']}"
        for stage, state in read_yaml(committed("dvc.lock").decode())["stages"].items()
        for dep in state["deps"]
        if dep["path"].startswith(("model", "stages", "requirements")) and _md5(dep["path"]) != dep["md5"]
    }
    assert not stale, "run `make repro` and commit dvc.lock"


def _md5(path: str) -> str:
    """The md5 that DVC gives a committed file or folder."""
    names = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if names == [path]:
        return hashlib.md5(committed(path)).hexdigest()
    entries = [
        {"md5": hashlib.md5(committed(name)).hexdigest(), "relpath": name.removeprefix(f"{path}/")} for name in sorted(names)
    ]
    return hashlib.md5(json.dumps(sorted(entries, key=lambda entry: entry["relpath"])).encode()).hexdigest() + ".dir"
