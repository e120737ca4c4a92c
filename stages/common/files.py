"""Files: written completely or not at all, locked by one process at a time, and identified by their checksum."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from stages.common.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; if the block ends without an error, sync the file and rename it to `path`.

    A crash, a full disk or an error in the block leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        temporary.chmod(mode)  # safetensors makes files for their owner only
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def invalidate(folder: Path, marker: str) -> None:
    """Prepare a stage's folder to be written again: remove temporary files that a killed run left, and `marker`, the file that
    is written last and shows that the others are complete."""
    remove_temporary(folder)
    (folder / marker).unlink(missing_ok=True)


def remove_temporary(folder: Path) -> None:
    """Make the folder if it is missing, and remove temporary files that a killed run left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in (".*.*", ".tmp*"):  # safetensors has temporary files of its own, .tmpXXXXXX
        for path in folder.glob(pattern):
            if path.is_file():
                path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make sure that a rename in `folder` survives a power cut (where the system can sync folders)."""
    with suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON that is the same for the same value: keys in the given order, indented, no NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class Metric(NamedTuple):
    """What a stage says of a number that it measures; docs/metrics.md is made from this."""

    meaning: str  # with its formula
    unit: str
    good: str  # which values are
    interval: bool = False  # the number has a 95 % interval: two more numbers, <name>_low and <name>_high


def write_metrics(path: Path, values: Mapping[str, float], declared: Mapping[str, Metric]) -> None:
    """Write a metrics.json. A number that nobody has said the meaning of is a mistake of the code."""
    ends = {key: ("", "_low", "_high") if metric.interval else ("",) for key, metric in declared.items()}
    known = {f"{key}{end}" for key in declared for end in ends[key]}
    assert values.keys() <= known, f"{path}: not declared: {', '.join(sorted(values.keys() - known))}"
    write_json(path, values)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a line of JSON for each row."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows with the keys of the first one as header (without rows: `columns`); numbers in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path, made_by: str, *keys: str) -> dict[str, Any]:
    """Read a JSON object that the stage `made_by` writes.

    Raises:
        UserError: the file is missing or damaged, or one of the `keys` is not in it.
    """
    require(path, made_by)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}, not an object")
        if missing := [key for key in keys if key not in value]:
            raise ValueError(f"it has no {', '.join(missing)}")
        return value
    except ValueError as error:
        raise damaged(path, error, made_by) from error


def read_jsonl(path: Path, made_by: str, *keys: str) -> list[dict[str, Any]]:
    """The rows of a JSON lines file; with `keys`, only these of each row.

    Raises:
        UserError: the file is missing or damaged, or one of the `keys` is not in every row.
    """
    require(path, made_by)
    try:
        rows = [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return [{key: row[key] for key in keys} for row in rows] if keys else rows
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, repr(error), made_by) from error


def read_csv(path: Path, made_by: str, *keys: str) -> list[dict[str, float]]:
    """The rows of a table of numbers, without the empty cells.

    Raises:
        UserError: the file is missing or damaged, or one of the `keys` is not in every row.
    """
    try:
        with open(require(path, made_by), encoding="utf-8", newline="") as file:
            rows = [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]
        if missing := {key for row in rows for key in keys if key not in row}:
            raise ValueError(f"a row has no {', '.join(sorted(missing))}")
        return rows
    except (ValueError, TypeError, csv.Error) as error:
        raise damaged(path, error, made_by) from error


def markdown_table(head: Sequence[object], rows: Iterable[Iterable[object]], align: str = "") -> str:
    """A table in Markdown. `align` has an "l" or "r" for each column; without it all are aligned to the left."""
    rule = ["---:" if side == "r" else "---" for side in align or "l" * len(head)]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in (head, rule, *rows))


def damaged(path: Path, error: object, made_by: str) -> UserError:
    """The error for a file of the stage `made_by` that cannot be read as that stage wrote it."""
    return UserError(f"{path} is damaged ({' '.join(str(error).split())}). Recreate it: dvc repro -f {made_by}")


def require(path: Path, made_by: str) -> Path:
    """Return `path`, which must exist.

    Raises:
        UserError: it does not; the message names the stage that makes it.
    """
    if not path.exists():
        raise UserError(
            f"{path} is missing. The stage {made_by} makes it: "
            f"run `dvc repro` (or `python -m stages.{made_by}`), or `dvc pull` to fetch a colleague's"
        )
    return path


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The file's checksum in hex, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


class Lock(FileLock):
    """A lock. A file system that has none is an error, not a lock by the file's existence, which a kill would leave forever.

    Raises:
        UserError: its file system has no locks.
    """

    def __init__(self, path: Path | str, timeout: float = -1) -> None:
        super().__init__(path, timeout, fallback_to_soft=False)

    def _acquire(self) -> None:
        try:
            super()._acquire()
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            raise UserError(
                f"{self.lock_file}: its file system has no locks, like some network disks. "
                "Work in a folder on a disk of this machine"
            ) from error
