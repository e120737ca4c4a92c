"""Whatever the pages name exists: make targets, modules, params, files, functions. After renaming, they must be updated."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pages
import pytest
from source_tree import PARAMS, ROOT, STAGES

from docs.make import pictures
from stages.common.params import read_yaml

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
    from dvc.utils.hydra import apply_overrides

    command, _, said = line.partition("  # ")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    apply_overrides(tmp_path / "params.yaml", [shlex.split(command)[4]])
    expected, _ = json.JSONDecoder().raw_decode(said)
    assert read_yaml((tmp_path / "params.yaml").read_text(encoding="utf-8"))["prompt"] == expected


def test_one_version_everywhere() -> None:
    """pyproject.toml, CITATION.cff and CHANGELOG.md give the same version."""
    found = re.search(r'^version = "(.+)"$', pages.read("pyproject.toml"), re.MULTILINE)
    assert found
    assert str(read_yaml(pages.read("CITATION.cff"))["version"]) == found[1]
    assert f"\n## {found[1]}\n" in pages.read("CHANGELOG.md")


SCREENSHOTS = sorted(path.name for path in (ROOT / "docs/images").glob("*.png"))


@pytest.mark.parametrize("name", SCREENSHOTS)
def test_a_screenshot_is_on_one_page_with_its_day(name: str) -> None:
    """Each screenshot is shown once, and the line under it says when it was taken; the script that takes it writes the day."""
    shown = [page for page in pages.PAGES for _, target in pages.links(pages.read(page)) if target.endswith(f"images/{name}")]
    assert len(shown) == 1, shown
    assert re.search(pictures.CAPTION.format(name.removesuffix(".png")), pages.read(shown[0]))
