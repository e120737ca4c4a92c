"""What a reader uses of the pages: the commands in their blocks, code spans, links."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from source_tree import ROOT

PAGES = [
    *(path.relative_to(ROOT).as_posix() for folder in ("", "docs") for path in sorted((ROOT / folder).glob("*.md"))),
    "data/README.md",
    "mlruns/README.md",
]
SHELL = ("", "sh", "bash", "console")  # languages of a fence that holds commands; pictures and output are ```text
NEEDS = re.compile(r"needs (the Hub|a GPU)")
INDENTED = re.compile(r"(?:^|(?<=\n\n))(?: {4}[^\n]*\n(?:[ ]*\n)*)+")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    """A page's text; `page` is its path from the root."""
    return (ROOT / page).read_text(encoding="utf-8")


def commands(text: str) -> Iterator[tuple[str, bool]]:
    """Each command of a page's blocks and its tables' columns `command`, and whether it is said to need the Hub or a GPU.

    A block is indented by four spaces or fenced. A command goes on in the next line after a backslash or within quotes.
    """
    for block in _blocks(text):
        command = ""
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            command += re.split(r"(?:^|\s+)# ", line)[0].strip()
            if _quotes_fit(command):
                if command:
                    yield command, bool(NEEDS.search(line))
                command = ""
            else:
                command += "\n"
        assert not command, f"a quote is not closed: {command}"
    column = -1
    for line in FENCE.sub("", text).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if "command" in cells:
            column = cells.index("command")
        elif not cells:
            column = -1
        elif column >= 0:
            yield from ((command, bool(NEEDS.search(line))) for command in re.findall(r"`([^`]+)`", cells[column]))


def words(command: str) -> Iterator[list[str]]:
    """The words of each program that a command starts, without the variables set before it."""
    found = shlex.shlex(re.sub(r"<([\w ]+)>", r"\1", command), posix=True, punctuation_chars="|&;")
    found.whitespace_split = True
    programs: list[list[str]] = [[]]
    for word in found:
        if set(word) <= set("|&;"):
            programs.append([])
        elif programs[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            programs[-1].append(word)
    yield from filter(None, programs)


def _quotes_fit(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def _blocks(text: str) -> Iterator[str]:
    yield from (block for language, block in FENCE.findall(text) if language in SHELL)
    yield from INDENTED.findall(FENCE.sub("", text) + "\n")


def code(text: str) -> Iterator[str]:
    """All code on a page: spans, and the lines of blocks."""
    for block in _blocks(text):
        yield from (line.strip() for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def links(text: str) -> list[tuple[str, str]]:
    """The text and target of each link and picture."""
    prose = FENCE.sub("", text)
    return re.findall(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    """The anchors (`#...`) of a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def defined(path: Path) -> set[str]:
    """The names that a Python file defines at its top level or in a class: functions, classes, constants, methods."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    found: set[str] = set()
    for node in (node for body in bodies for node in body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def targets() -> set[str]:
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
