"""Hub data set: stories from the Hugging Face Hub, streamed, so that the cost follows the number of stories taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from stages.common import session
from stages.common.errors import UserError
from stages.sources import partial_download, table_stream
from stages.sources.source import TEXT, Source

TIMEOUT = 20  # seconds for the Hub's first answer


def open_source(dataset: str, revision: str | None) -> Source:
    """Ask the Hub for the data set at `revision` (None = its newest commit).

    Raises:
        UserError: no network, no such data set or revision, no access, or no training split.
    """
    with _explained(dataset, revision):
        library = table_stream.library()
        from huggingface_hub import HfApi

        info = HfApi().dataset_info(dataset, revision=revision, timeout=TIMEOUT)
        builder = library.load_dataset_builder(dataset, revision=info.sha)
        names = list(builder.as_streaming_dataset())
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
            yield from table_stream.tables(builder, split, TEXT.names, unfinished)

    return Source(dataset, info.sha, licence, TEXT, splits, tables, done=lambda: partial_download.forget(unfinished))


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
    except (DatasetsError, pa.ArrowException, ValueError, OSError, EOFError, RuntimeError, StopIteration) as error:
        raise UserError(
            f"dataset: {dataset} at revision {revision} cannot be read ({_first_line(error)}). Give another revision. {without}"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:200]
