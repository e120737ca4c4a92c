"""CSV rows: stories from the column `text` of a CSV or TSV file, read to the letter: no value is converted, no row repaired."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from stages.sources.data_file import DataFile

LONGEST = 1 << 26  # characters of a field: more is a quote that never ends
REMEDY = 'Put stories that hold a comma, a tab, a quote or a line end in quotes, and write each quote in them twice ("")'


def rows(file: DataFile, delimiter: str) -> Iterator[str]:
    """Each row's field `text`, which may go over several lines in quotes.

    Raises:
        UserError: no or two columns `text`; a row with more or fewer fields than the header; quotes that do not fit. The
            message names the line.
    """
    csv.field_size_limit(LONGEST)
    line = ""  # the one that the reader read last

    def lines() -> Iterator[str]:
        nonlocal line
        for line in file.lines():  # noqa: UP028
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    first, end = 1, ""  # line of the row; what rows end with
    several = bare = 0  # first line of the first row that goes over several; line of the first quote in an unquoted field
    try:
        header = next(filter(None, reader), [])
        if header.count("text") > 1:
            raise file.refusal(f"its header names {header.count('text')} columns `text`", "Rename all but one")
        if header and "text" not in header:
            raise file.no_text(header)
        column, width = header.index("text") if header else 0, len(header)
        first = reader.line_num + 1
        for row in reader:
            if len(row) != width and row:  # an empty line is no row
                raise file.refusal(f"line {first:,} has {_fields(len(row))}, the header has {_fields(width)}", REMEDY)
            if line[-1:] in "\r\n" and line[-1:] != (end := end or line[-1:]):  # the last line may have no end
                other = "does not end like the lines before it: \\r may end a line or be part of the text"
                raise file.refusal(f"line {first:,} {other}", REMEDY)
            if reader.line_num > first and row:
                several = several or first
                file.note(
                    f"the row in line {several:,} continues on the next line, because it is in quotes. "
                    "If each line is meant to be a row, quotes are missing: write it again with a CSV library"
                )
            elif '"' in line and not bare and any(_is_bare(field, line) for field in row):
                bare = first
            if several and bare:
                raise file.refusal(
                    f"its quotes do not fit: the row in line {several:,} goes over several lines in quotes, but "
                    f"in line {bare:,} quotes are part of an unquoted field",
                    REMEDY,
                )
            first = reader.line_num + 1
            if row:
                yield row[column]
    except csv.Error as error:
        raise file.refusal(f"the row in line {first:,} has quotes that do not fit ({error})", REMEDY) from error


def _fields(count: int) -> str:
    return f"{count} field" if count == 1 else f"{count} fields"


def _is_bare(field: str, line: str) -> bool:
    """Whether quotes stand in the line as they do in the field: within quotes each would be doubled."""
    return '"' in field and field in line and field.replace('"', '""') not in line
