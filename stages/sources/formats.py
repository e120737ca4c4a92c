"""Formats: the kinds of file that can hold stories. A reader takes the text unchanged, or rejects the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.common.errors import UserError
from stages.common.terminal import pluralize
from stages.corpus.tokenizer import END_OF_TEXT
from stages.sources.data_file import PACKED, DataFile
from stages.sources.source import TEXT

Reader = Callable[[DataFile], Iterator[pa.Table]]
BATCH, CHARACTERS = 2048, 1 << 23  # most rows and characters of a table
FIRST = 2048  # rows of a JSON file in which a key `text` must have come
LONGEST = 1 << 26  # characters of a CSV field: more is a quote that never ends
JSON_REMEDY = "The file may be truncated. Each row is an object on a line of its own, or an item of one array"
CSV_REMEDY = 'Put stories that hold a comma, a tab, a quote or a line end in quotes, and write each quote in them twice ("")'
TEXTS = (pa.string(), pa.large_string(), pa.string_view())
BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())  # Spark may write text so


def row_reader(rows: Callable[[DataFile], Iterator[str | None]]) -> Reader:
    """The reader of a format that is read row by row."""

    def tables(file: DataFile) -> Iterator[pa.Table]:
        batch: list[str | None] = []
        characters = 0
        for text in rows(file):
            batch.append(text)
            characters += len(text or "")
            if len(batch) == BATCH or characters >= CHARACTERS:
                yield pa.table({"text": batch}, schema=TEXT)
                batch, characters = [], 0
        yield pa.table({"text": batch}, schema=TEXT)

    return tables


def json_rows(file: DataFile) -> Iterator[str | None]:
    """Each object's `text`; None for null and where an object lacks the key, as some writers leave null out.

    Raises:
        UserError: a row is broken, or its `text` is not text; the message names the row.
    """
    count, has_text = 0, False
    with file.text() as lines:
        for where, row in _json_values(file, lines):
            if not isinstance(row, dict):
                raise file.error(f"{where} is {json.dumps(row)[:80]}, not an object with a key `text`", "Correct or remove it")
            text = row.get("text")
            if not isinstance(text, str | None):
                raise file.error(f"{where} holds {json.dumps(text)[:80]} in `text`, not text", "Correct or remove it")
            try:
                (text or "").encode()
            except UnicodeEncodeError as error:
                raise file.error(f"{where} holds half a character in `text` (a surrogate)", "Correct or remove it") from error
            count, has_text = count + 1, has_text or "text" in row
            if count == FIRST and not has_text:
                break
            yield text
    if count and not has_text:
        raise file.no_text(row)


def _json_values(file: DataFile, lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Each row with what messages call it: one a line, or the items of one array, which is held in memory."""
    first = next(lines, "")
    if first.lstrip().startswith("["):
        for number, row in enumerate(_parse_json(file, first + "".join(lines), 1), start=1):
            yield f"row {number:,}", row
        return
    for number, line in enumerate(chain([first], lines), start=1):
        if line.strip():
            yield f"line {number:,}", _parse_json(file, line, number)


def _parse_json(file: DataFile, text: str, line: int) -> Any:
    """The JSON value that begins in this line."""
    try:
        return json.loads(text, object_pairs_hook=_json_object)
    except json.JSONDecodeError as error:
        raise file.error(f"line {line + error.lineno - 1:,} is not JSON ({error.msg})", JSON_REMEDY) from error
    except (ValueError, RecursionError) as error:
        raise file.error(f"line {line:,}: {error}", "Correct or remove it") from error


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs) and [key for key, _ in pairs].count("text") > 1:
        raise ValueError("an object gives `text` twice")
    return made


def csv_rows(file: DataFile, delimiter: str) -> Iterator[str]:
    """Each row's field `text`, which may go over several lines in quotes.

    Raises:
        UserError: no or two columns `text`; a row with more or fewer fields than the header; quotes that do not fit, or a
            carriage return outside quotes, which may end a line or be part of the text. The message names the line.
    """
    csv.field_size_limit(LONGEST)
    with file.text(newline="\n") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        first = 1  # line of the row
        try:
            header = next(filter(None, reader), [])
            column = _the_column(file, header) if header else 0
            first = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(header):
                    fields = pluralize(len(row), "field")
                    raise file.error(f"the row in line {first:,} has {fields}, the header {len(header)}", CSV_REMEDY)
                if row:  # an empty line is no row
                    yield row[column]
                first = reader.line_num + 1
        except csv.Error as error:
            raise file.error(f"the row that begins in line {first:,} is not CSV ({error})", CSV_REMEDY) from error


def text_lines(file: DataFile) -> Iterator[str]:
    """A story a line.

    Raises:
        UserError: a line holds `<|endoftext|>`, so that lines are not stories. (Of files here that is known before.)
    """
    with file.text() as lines:
        for number, line in enumerate(lines, start=1):
            if END_OF_TEXT in line:
                raise file.error(
                    f"line {number:,} holds {END_OF_TEXT}, so its stories are not its lines",
                    "Fetch the file and give it as dataset: local files are read twice, and split there",
                )
            yield line.removesuffix("\n")


def separated_text(file: DataFile) -> Iterator[str]:
    """A story up to the next `<|endoftext|>`, wherever in a line that stands, and up to the file's end."""
    story: list[str] = []
    with file.text() as lines:
        for line in lines:
            *ended, rest = line.split(END_OF_TEXT)
            for part in ended:
                yield "".join([*story, part]).strip()
                story = []
            story.append(rest)
    yield "".join(story).strip()


def parquet(file: DataFile) -> Iterator[pa.Table]:
    """The column `text` of a parquet file."""
    with file.open() as opened:
        yield from parquet_tables(file, opened)


def parquet_tables(file: DataFile, opened: Any) -> Iterator[pa.Table]:
    """The column `text` of an opened parquet file, read on this thread only.

    The reader of `datasets` leaves threads behind when it is stopped early: the process then hangs or crashes at its end, now
    and then (github.com/apache/arrow/issues/45214, seen with pyarrow 25.0).
    """
    with pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 20) as table:
        _the_column(file, table.schema_arrow.names)
        kind = table.schema_arrow.field("text").type
        if (kind.value_type if pa.types.is_dictionary(kind) else kind) not in (*TEXTS, *BYTES, pa.null()):
            raise UserError(
                f"dataset: {file.name}: the column `text` holds {kind}, not text. Give a data set with one story a row"
            )
        row = 0
        for batch in table.iter_batches(BATCH, columns=["text"], use_threads=False):
            yield _as_text(file, batch.column(0), row)
            row += len(batch)


def _as_text(file: DataFile, column: pa.Array, before: int) -> pa.Table:
    """The column as valid UTF-8; `before` is the number of rows before it."""
    try:
        table = pa.table({"text": column.cast(pa.string())}, schema=TEXT)
        table.validate(full=True)
        return table
    except pa.ArrowInvalid:
        for number, value in enumerate(column.cast(pa.binary()).to_pylist(), start=before + 1):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                why = f"row {number:,} of `text` is not UTF-8 ({error.reason} at byte {error.start})"
                raise file.error(why, "Write the column again as UTF-8") from error
        raise


def _the_column(file: DataFile, names: Sequence[str]) -> int:
    """The number of the column `text`, of which there must be one."""
    if names.count("text") > 1:
        raise file.error(f"it has {names.count('text')} columns `text`", "Rename all but one")
    if "text" not in names:
        raise file.no_text(names)
    return names.index("text")


_json, _text_lines = row_reader(json_rows), row_reader(text_lines)
_separated_text = row_reader(separated_text)
READERS: dict[str, Reader] = {  # file name ends in -> reader
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": row_reader(partial(csv_rows, delimiter=",")),
    ".tsv": row_reader(partial(csv_rows, delimiter="\t")),
    ".parquet": parquet,
    ".txt": _text_lines,
}


def ending(path: Path) -> str | None:
    """The file's kind by its name, without what compresses it; None = unknown, or parquet, which is compressed in itself."""
    name = Path(path.name.lower())
    packed = name.suffix in PACKED
    suffix = Path(name.stem if packed else name).suffix
    return suffix if suffix in READERS and not (packed and suffix == ".parquet") else None


def readers_of(files: Sequence[DataFile]) -> list[Reader]:
    """Each file's reader; all are of one kind. A text file with `<|endoftext|>` has its stories between them: all or none.

    Raises:
        UserError: some text files are separated so, and in others each line could be a story or all could be one.
    """
    reader = READERS[str(ending(files[0].path))]
    if reader is not _text_lines:
        return [reader] * len(files)
    separated = {file.name: _is_separated(file) for file in files}
    lines = [name for name, answer in separated.items() if answer is False]
    if any(separated.values()) and lines:
        marked = next(name for name, answer in separated.items() if answer)
        more = f" (and {len(lines) - 1:,} more)" if lines[1:] else ""
        raise UserError(
            f"dataset: {marked} has {END_OF_TEXT} between its stories, {lines[0]}{more} has not: is each of its lines a "
            f"story, or are all of them one? Write {END_OF_TEXT} after each story in every file, or in none"
        )
    return [_separated_text if separated[file.name] else _text_lines for file in files]


def _is_separated(file: DataFile) -> bool | None:
    """Whether `<|endoftext|>` ends the stories in a text file, not the line; None = a single line, which is the same."""
    lines = 0
    with file.explained(), file.open() as opened:
        for line in opened:
            if END_OF_TEXT.encode() in line:
                return True
            if lines < 2:
                lines += sum(map(bool, map(bytes.strip, line.splitlines())))
    return False if lines > 1 else None


def tables(file: DataFile, reader: Reader) -> Iterator[pa.Table]:
    """A file's stories in order, in bounded memory."""
    with file.explained():
        yield from reader(file)
