"""Tables: what a stage writes is what the next one reads, and a damaged file is reported by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common import files
from stages.common.errors import UserError


def test_json_lines_hold_any_text(tmp_path: Path) -> None:
    """A row is one line, whatever line ends its texts hold."""
    rows = [{"text": "two\nlines\u2028 and é 🦉", "ids": [1, 2]}, {"text": "", "ids": []}]
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert files.read_jsonl(tmp_path / "rows.jsonl", "generate", "text", "ids") == rows
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2


def test_numbers_of_a_csv_file_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Rows keep their numbers, without the empty cells; what is no number is damage; a missing file names its stage."""
    files.write_csv(tmp_path / "rows.csv", [{"step": 1, "loss": 0.1}, {"step": 2, "loss": None}])
    assert files.read_csv(tmp_path / "rows.csv", "train", "step") == [{"step": 1.0, "loss": 0.1}, {"step": 2.0}]
    (tmp_path / "bad.csv").write_text("step\nx\n")
    with pytest.raises(UserError, match=r"bad\.csv is damaged"):
        files.read_csv(tmp_path / "bad.csv", "train")
    with pytest.raises(UserError, match=r"none\.csv is missing. The stage train makes it"):
        files.read_csv(tmp_path / "none.csv", "train")


def test_a_markdown_table_aligns_its_columns() -> None:
    """One line for each row; numbers are aligned to the right where that is asked for."""
    assert files.markdown_table(["a", "b"], [["x", 1], ["y", 2]], "lr") == "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |"
    assert files.markdown_table(["a", "b"], []) == "| a | b |\n| --- | --- |"
