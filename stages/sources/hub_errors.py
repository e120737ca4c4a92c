"""What the Hub's libraries raise, as one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stages.common import addresses
from stages.common.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What was asked of the Hub."""

    key: str  # in params.yaml, that names it
    revision_key: str  # that of its revision
    noun: str  # what it is, in words
    name: str  # its id
    revision: str | None  # as params.yaml has it
    without: str  # how to do without the Hub


@contextmanager
def explained(wanted: Wanted, *unreadable: type[Exception]) -> Iterator[None]:
    """Turn what the Hub's libraries raise in the block into a UserError; `unreadable`: more that says a file cannot be read."""
    import httpx2
    from huggingface_hub import errors as hub_errors

    key, name = wanted.key, wanted.name
    silent = (hub_errors.LocalEntryNotFoundError, hub_errors.HfHubHTTPError, httpx2.RequestError, ConnectionError, TimeoutError)
    unreadable += (ValueError, OSError, EOFError, RuntimeError, StopIteration)
    try:
        yield
    except UserError:
        raise
    except hub_errors.RevisionNotFoundError as error:
        raise UserError(
            f"{wanted.revision_key}: {name} has no revision {wanted.revision}. "
            f"Give a commit of that {wanted.noun}, or null for its newest"
        ) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.GatedRepoError) as error:
        raise UserError(
            f"{key}: {name} is neither a file here nor a {wanted.noun} of the Hub that you may read. "
            "Check the spelling; for a private or gated one, log in: hf auth login"
        ) from error
    except hub_errors.OfflineModeIsEnabled as error:
        raise UserError(f"{key}: {name} needs the Hub, but HF_HUB_OFFLINE is set. Unset it. {wanted.without}") from error
    except silent as error:
        raise UserError(
            f"{key}: {name}: the Hub returned an error ({_first_line(error)}). "
            f"Run the same command again later, or set HF_ENDPOINT to a mirror. {wanted.without}"
        ) from error
    except PermissionError as error:
        raise UserError(
            f"{key}: {name}: the Hub's libraries may not write to {error.filename or 'their cache'}. "
            "Set HF_HOME to a folder that this user can write to"
        ) from error
    except unreadable as error:
        raise UserError(
            f"{key}: {name} at revision {wanted.revision} cannot be read ({_first_line(error)}). "
            f"Give another revision. {wanted.without}"
        ) from error


def _first_line(error: Exception) -> str:
    return addresses.without_secrets(f"{type(error).__name__}: {str(error).strip()}").splitlines()[0][:200]
