"""Say which data exactly `download` is to read: data/identify/source.json, and links by which DVC notices a change.

source.json has the checksums of a local data set's files, or the commit of a data set of the Hub; of `init_from` as well.
`download` depends on it, so that another file of the same name never gets the stories of the first one from DVC's cache.
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
INIT_LINK = FOLDER / "init"  # leads to a local network in the same way


def main(args: argparse.Namespace) -> None:
    """Write source.json and the links. A data set or network that cannot be read changes nothing."""
    params, known = load_params(IdentifyParams), known_source()
    start, init_place = initial_network(params.init_from, params.init_revision, known.pop("init_from", {}))
    if is_missing("dataset", params.dataset, known):
        print(f"note: {params.dataset} does not exist here: the stories that were downloaded from it are used")
        source, place = known, changing_file()
    else:
        path = None if params.dataset == "storybook" else local_files.find(params.dataset)
        if path:
            check_place(params.dataset, path.resolve())
        source, place = identify(params.dataset, params.dataset_revision), watched(path)
    files.write_json(SOURCE, source | ({"init_from": start} if start else {}))
    link_to(place, LINK)
    link_to(init_place, INIT_LINK)


def initial_network(init_from: str | None, revision: str | None, known: Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """Which network training starts from, and what DVC is to look at.

    What is known of it stays where it can only be that one: at a commit of the Hub, in a colleague's folder, or in a folder of
    a stage, where training has put its own result in the network's place.
    """
    if not init_from:
        return {}, SOURCE
    path = local_files.existing(init_from)
    same = known.get("name") == local_files.name_of(init_from)
    if same and any(map(is_output, local_files.places(init_from))) and "files" in known:
        return dict(known), SOURCE
    if path is None and same and "revision" in known and revision in (None, known["revision"]):
        return dict(known), SOURCE
    if is_missing("init_from", init_from, known):
        print(f"note: {init_from} does not exist here: the weights that were fetched from it are used")
        return dict(known), changing_file()
    return pretrained.identify(init_from, revision), watched(None if path and is_output(path) else path)


def known_source() -> dict[str, Any]:
    """What source.json says: that of the last run, or a colleague's; nothing if it cannot be read."""
    with suppress(OSError, ValueError):
        return dict(json.loads(SOURCE.read_text(encoding="utf-8")))
    return {}


def is_missing(key: str, name: str, known: Mapping[str, Any]) -> bool:
    """Whether the param names a file or folder of a colleague, of which `dvc pull` has brought what was fetched from it.

    Raises:
        UserError: it was here, and is gone.
    """
    places = local_files.places(name)
    if name == "storybook" or any(map(os.path.lexists, places)):
        return False
    if any(map(checksums.has_seen, places)):
        raise UserError(
            f"{key}: {name} was here and is gone. Put it back, or give another one. To continue with what was fetched from it, "
            f"remove {os.path.relpath(checksums.memory())}"
        )
    return "files" in known and local_files.name_of(name) in (known.get("dataset"), known.get("name"))


def check_place(dataset: str, path: Path) -> None:
    """Fail if the file or folder is in a folder of a stage, or this project is in it: the pipeline must leave it alone.

    Raises:
        UserError: it is in a folder of a stage, or this project is in it.
    """
    if any((root / "data").resolve().is_relative_to(path) for root in roots()):
        raise UserError(f"dataset: {dataset} holds this project's own data. Give a folder with stories and nothing else")
    if is_output(path):
        raise UserError(f"dataset: {dataset} is what the pipeline makes, and removes before it runs. Copy it elsewhere")


def is_output(path: Path) -> bool:
    """Whether it is in a folder of a stage."""
    scripts, path = list(Path(__file__).parent.glob("*.py")), path.resolve()
    return any(path.is_relative_to((root / "data").resolve() / script.stem) for root in roots() for script in scripts)


def roots() -> tuple[Path, Path]:
    """Where the project is: here, and in the main checkout."""
    return Path.cwd(), session.project_root()


def watched(path: Path | None) -> Path:
    """The path that DVC watches for a file or folder of this machine, or for none.

    In an experiment's temporary copy it is not the file itself, which DVC would hash once more.
    """
    if path is None:
        return SOURCE
    here = Path.cwd()
    return path if here == session.project_root().resolve() or path.resolve().is_relative_to(here) else changing_file()


def changing_file() -> Path:
    """DVC's rwlock, whose content differs in every DVC process: while the link leads there, DVC reruns this stage."""
    here = Path.cwd()
    top = next((top for top in (here, *here.parents) if (top / ".dvc").is_dir()), here)
    return Path(os.path.relpath(top / ".dvc" / "tmp" / "rwlock"))


def link_to(path: Path, link: Path) -> None:
    """Make a link. It is this checkout's own: git ignores it, so a clone has none and looks for the data set itself.

    It moves with the checkout where the param does.
    """
    link.unlink(missing_ok=True)
    link.symlink_to(path if path.is_absolute() else os.path.relpath(path, FOLDER.resolve()))


if __name__ == "__main__":
    command.run(main, __doc__)
