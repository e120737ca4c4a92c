"""Hub data set: stories from the Hugging Face Hub, streamed, so that the cost follows the number of stories taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pyarrow as pa

from stages.common import session
from stages.common.errors import UserError
from stages.sources import partial_download, table_stream
from stages.sources.data_file import DataFile
from stages.sources.source import TEXT, Source

TIMEOUT = 20  # seconds for the Hub's first answer
KINDS = ("parquet", "json", "csv", "text", "arrow")  # readers of `datasets` whose files are read here
CSV = {",": "csv", "\t": "tsv"}  # what is between two fields -> reader
OTHERS = {"name", "version", "data_dir", "data_files", "description", "features", "sep", "delimiter"}  # no reader's options


def open_source(dataset: str, revision: str | None) -> Source:
    """Ask the Hub for the data set at `revision` (None = its newest commit).

    Raises:
        UserError: no network, no such data set or revision, no access, or no training split.
    """
    with _explained(dataset, revision):
        library = _datasets()
        from huggingface_hub import HfApi

        info = HfApi().dataset_info(dataset, revision=revision, timeout=TIMEOUT)
        builder = library.load_dataset_builder(dataset, revision=info.sha)
        names, reader = [str(name) for name in builder.config.data_files or {}], _reader(dataset, builder)
    if info.sha is None:
        raise UserError(f"dataset: the Hub names no commit of {dataset}. Give dataset_revision as a commit")
    if "train" not in names:
        raise UserError(f"dataset: {dataset} has no split `train`, only {', '.join(names)}. Give another data set")
    held_out = next((name for name in ("validation", "test") if name in names), None)
    splits = {"train": "train"} | ({"validation": held_out} if held_out else {})
    licence = info.card_data.get("license") if info.card_data else None
    unfinished = session.root() / ".checkpoints" / f"download-{info.sha[:16]}"
    if unfinished.exists():
        print("going on with what an interrupted download has read")

    def tables(split: str) -> Iterator[pa.Table]:
        with _explained(dataset, revision):
            for address in builder.config.data_files[split]:
                file = DataFile(f"{dataset}/{address.partition(f'@{info.sha}/')[2]}", address, remote=True)
                yield from table_stream.tables(file, reader, unfinished)

    return Source(dataset, info.sha, licence, TEXT, splits, tables, done=lambda: partial_download.forget(unfinished))


def _datasets() -> Any:
    """The package `datasets`: 0.6 s to import, 2 s more if it may look for torch. Its logging and progress bars are off."""
    os.environ.setdefault("USE_TORCH", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # our own messages say what is wrong
    datasets.disable_progress_bars()
    return datasets


def _reader(dataset: str, builder: Any) -> str:
    """Which of our readers the data set's files need.

    Raises:
        UserError: they are of another kind, or the data set's card asks for options of a reader that ours has not.
    """
    config = builder.config
    kind = next((kind for kind in KINDS if builder.name == kind), "")
    separator = (config.delimiter or config.sep) if kind == "csv" else ","
    plain = type(config)(name=config.name)
    special = [f.name for f in fields(config) if f.name not in OTHERS and getattr(config, f.name) != getattr(plain, f.name)]
    packed = [name for names in (config.data_files or {}).values() for name in names if name.endswith((".zip", ".tar"))]
    if not kind or special or separator not in CSV or packed:
        why = f"are {builder.name} files" if not kind else f"are packed as {packed[0][-4:]}" if packed else "need options"
        raise UserError(
            f"dataset: {dataset}: its files {why}, which cannot be read as stories. Give a data set of {', '.join(KINDS)}"
        )
    return CSV[separator] if kind == "csv" else kind


@contextmanager
def _explained(dataset: str, revision: str | None) -> Iterator[None]:
    """Turn what the Hub's libraries raise into one sentence that says what to do."""
    import httpx2
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors as hub_errors

    without = (
        "To do without the Hub: dataset: storybook (built in), or fetch the data set where there is a network "
        f"(hf download {dataset} --repo-type dataset --local-dir FOLDER) and give that folder as dataset"
    )
    try:
        yield
    except UserError:
        raise
    except hub_errors.RevisionNotFoundError as error:
        raise UserError(
            f"dataset_revision: {dataset} has no revision {revision}. Give a commit of that data set, or null for its newest"
        ) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.GatedRepoError) as error:
        raise UserError(
            f"dataset: {dataset} is neither a file here nor a data set of the Hub that you may read. "
            "Check the spelling; for a private or gated one, log in: hf auth login"
        ) from error
    except hub_errors.OfflineModeIsEnabled as error:
        raise UserError(f"dataset: {dataset} needs the Hub, but HF_HUB_OFFLINE is set. Unset it. {without}") from error
    except (hub_errors.HfHubHTTPError, httpx2.RequestError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"dataset: {dataset}: the Hub does not answer as it should ({_first_line(error)}). "
            f"Run the same command again later, or set HF_ENDPOINT to a mirror. {without}"
        ) from error
    except PermissionError as error:
        raise UserError(
            f"dataset: {dataset}: the Hub's libraries may not write to {error.filename or 'their cache'}. "
            "Set HF_HOME to a folder that this user can write to"
        ) from error
    except (DatasetsError, pa.ArrowException, ValueError, OSError, EOFError, RuntimeError, StopIteration) as error:
        raise UserError(
            f"dataset: {dataset} at revision {revision} cannot be read ({_first_line(error)}). Give another revision. {without}"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:200]
