"""Inputs: what a stage depends on, as dvc.yaml lists it, and what of it was edited while the stage ran.

DVC reads params and code when a stage has ended, and records them as what ran. So a stage looks at them when it starts and when
it is done, and fails if anything is not what it was: then DVC records nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.files import digest
from stages.common.params import read_yaml

MOST_SHOWN = 5  # edits in a message
PIPELINE, PARAMS = Path("dvc.yaml"), Path("params.yaml")


@dataclass(frozen=True)
class Inputs:
    """What a stage depends on at one moment.

    Attributes:
        entry: what dvc.yaml says of the stage.
        params: the values of its params in params.yaml.
        files: its code with checksums, its data with size, time of change and inode.
    """

    entry: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, stage: str) -> Inputs:
        """The stage's inputs as they are now.

        Raises:
            UserError: dvc.yaml or params.yaml cannot be read.
        """
        entry, values = _mapping(_mapping(_mapping(PIPELINE).get("stages", {})).get(stage, {})), _mapping(PARAMS)
        params = [key for item in entry.get("params", []) for key in ([item] if isinstance(item, str) else values)]
        return cls(
            {key: value for key, value in entry.items() if key != "desc"},
            {key: values[key] for key in params if key in values},
            {path.as_posix(): _state(path) for dep in entry.get("deps", []) for path in _files(Path(dep))},
        )

    def code(self) -> str:
        """One checksum of all the code."""
        return hashlib.sha256(
            repr(sorted(pair for pair in self.files.items() if isinstance(pair[1], str))).encode()
        ).hexdigest()

    def differences(self, now: Inputs) -> list[str]:
        """What differs, in words."""
        pairs = {key: (self.params.get(key, "(none)"), now.params.get(key, "(none)")) for key in {**self.params, **now.params}}
        texts = [f"{key}: {str(old)[:100]} -> {str(new)[:100]}" for key, (old, new) in pairs.items() if old != new]
        texts += [key for key in {**self.files, **now.files} if self.files.get(key) != now.files.get(key)]
        return ([f"the stage in {PIPELINE}"] if self.entry != now.entry else []) + texts


_stage = ""  # that DVC has started in this process; of one that is run by hand it records nothing
_at_start = Inputs()


def note() -> None:
    """Look at the inputs of the stage that DVC has started in this process.

    Raises:
        UserError: a source file was edited while the stage started: it is not known what of it was imported.
    """
    global _stage, _at_start
    _stage = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    _at_start = Inputs.read(_stage) if _stage else Inputs()
    started = vars(sys.modules["stages"])["STARTED"]
    if late := [name for name in _at_start.files if name.endswith(".py") and Path(name).stat().st_ctime_ns > started]:
        raise UserError(f"{', '.join(late)}: edited while the stage {_stage} started. Run the same command again")


def noted() -> Inputs:
    """The inputs as `note` saw them."""
    return _at_start


def edited() -> list[str]:
    """What was edited since `note`: params with both values, files, the stage in dvc.yaml."""
    try:
        return _at_start.differences(Inputs.read(_stage)) if _stage else []
    except (OSError, UserError) as error:
        return [" ".join(str(error).split())]


def written_into(found: Sequence[str], ending: str) -> bool:
    """Whether new bytes are in one of the edited files, which is still the same file, instead of another one in its place."""
    paths = [Path(name) for name in found if name.endswith(ending)]
    return any(path.exists() and path.stat().st_ino == _at_start.files[path.as_posix()][2] for path in paths)


def check() -> None:
    """Fail if anything was edited.

    Raises:
        UserError: it was; the message names it.
    """
    if found := edited():
        more = f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        raise UserError(
            f"edited while the stage {_stage} ran: {', '.join(found[:MOST_SHOWN])}{more}. Nothing is recorded. "
            "Put it back, or leave it as it is, and run the same command again"
        )


def _mapping(value: Path | Any) -> Mapping[str, Any]:
    """A YAML file's, or a value's, keys and values; none if it is something else."""
    if isinstance(value, Path):
        path = value
        try:
            value = read_yaml(path.read_text(encoding="utf-8")) or {}
        except (UserError, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read any more ({error})") from error
    return value if isinstance(value, Mapping) else {}


def _files(dep: Path) -> Iterator[Path]:
    """The file, or the files in the folder; not Python's byte code, nor what editors leave."""
    if not dep.is_dir():
        yield dep
        return
    for path in sorted(dep.rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith((".", "#")) and not path.name.endswith("~"):
            yield path


def _state(path: Path) -> Any:
    """What a change of the file changes; None if it is missing. Data is not read: it may be large."""
    if not path.exists():
        return None
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ino] if path.parts[0] == "data" else digest(path, "md5")
