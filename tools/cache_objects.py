"""Find the objects of DVC's cache, and of a remote that is a folder, whose bytes are not those that their names say.

python -m tools.cache_objects      (make verify does this first)

What is written into an output through a hard link, as root can, changes the object behind it, and so does a disk at fault. DVC
does not read it again, and would give the changed bytes to everybody.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from dvc.repo import Repo

from stages.common import command, files, session
from stages.common.errors import UserError
from stages.common.progress import bar
from stages.tracking import provenance

FOLDER = ".dir"  # ends the name of an object that lists a folder's files


def main(args: argparse.Namespace) -> None:
    """Look at them all; those that are not what their names say are an error, with what to do.

    Raises:
        UserError: some are not what their names say; the message names them and what to do.
    """
    with Repo(str(session.project_root())) as repo:
        remotes = [repo.cloud.get_remote_odb(name) for name in repo.config["remote"]]
        places = [Path(odb.path) for odb in (repo.cache.local, *remotes) if odb.fs.protocol == "local"]
    found = [path for place in places for path in corrupted(place)]
    if not found:
        return
    outputs = names(places[0])
    lines, away = [], []
    for path in found:
        output = outputs.get(path.parent.name + path.name)
        lines.append(f"  {path}{f' ({output})' if output else ''}\n")
        away += [str(path), output] if output else [str(path)]
    raise UserError(
        "objects of DVC have other bytes than their names say; they were written into, or the disk is at fault:\n"
        f"{''.join(lines)}Delete them, and what came from them: rm -rf {shlex.join(dict.fromkeys(away))}\n"
        "Then `dvc repro` recreates them (or `dvc pull` fetches them), and `dvc push` restores them on a remote"
    )


def corrupted(place: Path) -> Iterator[Path]:
    """The objects in a folder of DVC's whose md5 is not their name."""
    objects = sorted(path for path in place.glob("[0-9a-f][0-9a-f]/*") if path.is_file() and not path.name.endswith(".tmp"))
    with bar(len(objects), "check DVC's cache", "object") as progress:
        for path in objects:
            if files.digest(path, "md5") != path.parent.name + path.name.removesuffix(FOLDER):
                yield path
            progress.update()


def names(place: Path) -> Mapping[str, str]:
    """The outputs in dvc.lock, and the files in those that are folders, by their objects' names."""
    found = {}
    for output, md5 in provenance.outputs(session.project_root() / "dvc.lock").items():
        found[md5] = output
        if md5.endswith(FOLDER) and (listed := place / md5[:2] / md5[2:]).is_file():
            try:
                found |= {one["md5"]: f"{output}/{one['relpath']}" for one in json.loads(listed.read_text(encoding="utf-8"))}
            except (ValueError, KeyError, TypeError):
                continue  # the list itself is corrupted
    return found


if __name__ == "__main__":
    command.run(main, __doc__)
