"""Say which data exactly `download` is to read: data/identify/source.json, and a link by which DVC notices a change.

source.json has the checksums of a local data set's files, or the commit of a data set of the Hub. `download` depends on it, so
that another file of the same name never gets the stories of the first one from DVC's cache.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.common import command, files, session
from stages.common.errors import UserError
from stages.common.params import IdentifyParams, load_params
from stages.sources import checksums, local_files, pretrained
from stages.sources.open_source import identify

FOLDER = Path("data/identify")
SOURCE = FOLDER / "source.json"
LINK = FOLDER / "dataset"  # leads to a local data set: DVC looks at what is there whenever it looks at its outputs


def main(args: argparse.Namespace) -> None:
    """Write source.json and the link. A data set that cannot be read changes nothing."""
    params = load_params(IdentifyParams)
    if is_missing(params.dataset, known_source()):
        print(f"note: {params.dataset} does not exist here: the stories that were downloaded from it are used")
        link_to(changing_file())
        return
    path = None if params.dataset == "storybook" else local_files.find(params.dataset)
    if path:
        check_place(params.dataset, path.resolve())
    source = identify(params.dataset, params.dataset_revision)
    if params.init_from:
        source |= {"init_from": pretrained.identify(params.init_from, params.init_revision)}
    files.write_json(SOURCE, source)
    link_to(SOURCE if path is None else path if is_ours(path) else changing_file())


def known_source() -> Mapping[str, Any]:
    """What source.json says: that of the last run, or a colleague's; nothing if it cannot be read."""
    with suppress(OSError, ValueError):
        return dict(json.loads(SOURCE.read_text(encoding="utf-8")))
    return {}


def is_missing(dataset: str, known: Mapping[str, Any]) -> bool:
    """Whether the data set is a file or folder of a colleague, whose stories `dvc pull` has brought.

    Raises:
        UserError: it was here, and is gone.
    """
    places = local_files.places(dataset)
    if dataset == "storybook" or any(map(os.path.lexists, places)):
        return False
    if any(map(checksums.has_seen, places)):
        raise UserError(
            f"dataset: {dataset} was here and is gone. Put it back, or give another data set. To continue with "
            f"the stories that were downloaded from it, remove {os.path.relpath(checksums.memory())}"
        )
    return "files" in known and known["dataset"] == local_files.name_of(dataset)


def check_place(dataset: str, path: Path) -> None:
    """Whether the pipeline leaves the file or folder alone.

    Raises:
        UserError: it is in a folder of a stage, or this project is in it.
    """
    for root in (Path.cwd(), session.project_root()):
        data = (root / "data").resolve()
        if data.is_relative_to(path):
            raise UserError(f"dataset: {dataset} holds this project's own data. Give a folder with stories and nothing else")
        if any(path.is_relative_to(data / script.stem) for script in Path(__file__).parent.glob("*.py")):
            raise UserError(f"dataset: {dataset} is what the pipeline makes, and removes before it runs. Copy it elsewhere")


def is_ours(path: Path) -> bool:
    """Whether to watch the data set from here: not from an experiment's temporary copy, where DVC would read it once more."""
    return Path.cwd() == session.project_root().resolve() or path.resolve().is_relative_to(Path.cwd())


def changing_file() -> Path:
    """A file of DVC's own with other content in each of its processes: DVC runs this stage again while the link leads there."""
    here = Path.cwd()
    top = next((top for top in (here, *here.parents) if (top / ".dvc").is_dir()), here)
    return Path(os.path.relpath(top / ".dvc" / "tmp" / "rwlock"))


def link_to(path: Path) -> None:
    """Make the link. It is this checkout's own: git ignores it, so a clone has none and looks for the data set itself.

    It moves with the checkout where `dataset` does.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(path if path.is_absolute() else os.path.relpath(path, FOLDER.resolve()))


if __name__ == "__main__":
    command.run(main, __doc__)
