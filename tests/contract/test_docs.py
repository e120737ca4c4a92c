"""Whatever the pages name exists: make targets, modules, params, files, functions. After renaming, they must be updated."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pages
import pytest
from dvc.config_schema import REMOTE_SCHEMAS
from source_tree import PARAMS, ROOT, STAGES

from docs.make import pictures
from stages.common.params import Params, parse_params, read_yaml

OWN = ("model/", "stages/", "tests/", "tools/", "benchmarks/", "docs/")  # data/ does not exist before the first run


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_name_what_exists(page: str) -> None:
    """Each `make` target, `python -m` module and `-S` key in a page's code exists."""
    for text in pages.code(pages.read(page)):
        for target in re.findall(r"(?:^|&& )make ([a-z0-9-]+)", text):
            assert target in pages.targets(), text
        for module in re.findall(r"python -m ((?:stages|tools|benchmarks)\.\w+)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), text
        for key in re.findall(r"-S '?(\w+)=", text):
            assert key in PARAMS, text
        for stage in re.findall(r"dvc repro (?:-f )?(\w+)", text):
            assert stage in STAGES, text


@pytest.mark.parametrize("page", pages.PAGES)
def test_commands_are_understood(page: str, tmp_path: Path) -> None:
    """Programs have the options that a page gives them; `-S` sets what params.yaml may have; `make` reads the variables."""
    kind = ""  # of the remote that was added last
    for command, _ in pages.commands(pages.read(page)):
        for words in pages.words(command):
            match words:
                case ["dvc", "remote", "add" | "modify", *_, name, value]:
                    _dvc(words[1:])
                    if words[2] == "add":
                        kind = value.partition("://")[0] if "://" in value else ""
                    else:
                        assert name in map(str, REMOTE_SCHEMAS[kind]), command
                case ["dvc", *rest]:
                    for overrides in _sweep(_dvc(rest)):
                        shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
                        _override(tmp_path / "params.yaml", overrides)
                        values = read_yaml((tmp_path / "params.yaml").read_text(encoding="utf-8"))
                        parse_params({key: value for key, value in values.items() if key in Params.model_fields}, command)
                case ["mlflow", *rest]:
                    _mlflow(rest)
                case ["python", "-m", module, *rest] if (ROOT / f"{module.replace('.', '/')}.py").is_file():
                    _own(module, rest)
                case ["make", *rest]:
                    for word in (word for word in rest if "=" in word):
                        assert word.split("=")[0] in re.findall(r"\b[A-Z]+\b", pages.read("Makefile")), command


def _dvc(words: list[str]) -> Any:
    """DVC's own reading of a command; it raises for what DVC would not understand."""
    from dvc.cli import parse_args

    return parse_args(words)


def _sweep(args: Any) -> list[list[str]]:
    """The experiments that `-S` makes: each the list of its changes."""
    from dvc.utils.hydra import get_hydra_sweeps

    given = getattr(args, "set_param", None)
    return [list(one["params.yaml"]) for one in get_hydra_sweeps({"params.yaml": given})] if given else []


def _override(path: Path, overrides: list[str]) -> None:
    from dvc.utils.hydra import apply_overrides

    apply_overrides(path, overrides)


def _own(module: str, words: list[str]) -> None:
    """The own reading of a stage or tool; of a benchmark, whose parser is in its `main`, that the options are there."""
    loaded = importlib.import_module(module)
    if hasattr(loaded, "add_arguments"):
        parser = argparse.ArgumentParser(exit_on_error=False)
        loaded.add_arguments(parser)
        parser.parse_args(words)
    else:
        known = Path(loaded.__file__).read_text(encoding="utf-8")
        assert all(f'"{word}"' in known for word in words if word.startswith("--"))


def _mlflow(words: list[str]) -> None:
    """MLflow's own reading of a command."""
    import click
    from mlflow.cli import cli

    command: Any = cli
    while isinstance(command, click.Group):
        name, *words = words
        command = command.commands[name]
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words if word.startswith("-")} <= known, words


@pytest.mark.parametrize("page", pages.PAGES)
def test_files_named_exist(page: str) -> None:
    """Each file of the project that a page names as code exists."""
    for text in pages.code(pages.read(page)):
        if text.startswith(OWN) and re.fullmatch(r"[\w./-]+\.\w+", text):
            assert (ROOT / text).exists(), text


@pytest.mark.parametrize("page", pages.PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each link within the project leads to a file, and its anchor to a heading; a function it names is defined there."""
    for text, target in pages.links(pages.read(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in pages.anchors(path.read_text(encoding="utf-8")), target
        if name.endswith(".py"):
            for symbol in re.findall(r"`([A-Za-z_][\w.]*)`", text):
                if not symbol.endswith(".py"):
                    assert set(symbol.split(".")) <= pages.defined(path), f"{symbol} is not in {name}"


SCRIPTS = [
    (page, *found) for page in pages.PAGES for found in pages.FENCE.findall(pages.read(page)) if found[0] in ("shell", "yaml")
]


@pytest.mark.parametrize(("page", "language", "text"), SCRIPTS)
def test_scripts_that_are_not_run_here_are_parsed(page: str, language: str, text: str) -> None:
    """A script for a cluster is one for bash, one for SkyPilot is YAML with a script in it; their keys and modules exist."""
    script = text if language == "shell" else "\n".join(read_yaml(text)[key] for key in ("setup", "run"))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(re.findall(r"-S '?(\w+)=", script)) <= PARAMS
    assert "python -m" not in script or "python -m tools.search " in script


@pytest.mark.kind("odd prompts")
@pytest.mark.parametrize(
    "line", re.findall(r"^    (dvc exp run -S 'prompt=.*)", pages.read("docs/experiments.md"), re.MULTILINE)
)
def test_prompts_arrive_as_the_page_says(line: str, tmp_path: Path) -> None:
    """Each command under "A prompt with commas, quotes ...": the shell and DVC make of it the text or list beside it."""
    command, _, said = line.partition("  # ")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    _override(tmp_path / "params.yaml", [shlex.split(command)[4]])
    expected, _ = json.JSONDecoder().raw_decode(said)
    assert read_yaml((tmp_path / "params.yaml").read_text(encoding="utf-8"))["prompt"] == expected


def test_each_picture_is_on_one_page() -> None:
    """No picture is shown on two pages, and each picture in docs/images is shown."""
    targets = [Path(target) for page in pages.PAGES for _, target in pages.links(pages.read(page))]
    shown = Counter(target.name for target in targets if target.parent.name == "images")
    assert shown == Counter(path.name for path in (ROOT / "docs/images").iterdir())


def test_the_index_has_every_page() -> None:
    """docs/README.md links each page of docs/."""
    listed = {target for _, target in pages.links(pages.read("docs/README.md"))}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= listed


def test_one_version_everywhere() -> None:
    """pyproject.toml, CITATION.cff, the README's citation and CHANGELOG.md give the same version."""
    found = re.search(r'^version = "(.+)"$', pages.read("pyproject.toml"), re.MULTILINE)
    assert found
    assert str(read_yaml(pages.read("CITATION.cff"))["version"]) == found[1]
    assert f"version = {{{found[1]}}}" in pages.read("README.md")
    assert f"\n## {found[1]}\n" in pages.read("CHANGELOG.md")


SCREENSHOTS = sorted(path.name for path in (ROOT / "docs/images").glob("*.png"))


@pytest.mark.parametrize("name", SCREENSHOTS)
def test_a_screenshot_has_its_day(name: str) -> None:
    """The line under it, on the page that shows it, says when it was taken; the script that takes it writes the day."""
    (shown,) = [page for page in pages.PAGES for _, target in pages.links(pages.read(page)) if target.endswith(f"/{name}")]
    assert re.search(pictures.CAPTION.format(name.removesuffix(".png")), pages.read(shown))
