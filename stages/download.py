"""Fetch or make the stories: data/download/{train,validation}.parquet, and about.json with their origin and checksums.

`dataset` in params.yaml names the source: the storybook (built in), a Hugging Face Hub data set, or a local file or folder.
`init_from` names a trained network to start from, on the Hub or in a folder: it goes into data/download/init.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stages.common import command, errors, files
from stages.common.params import DownloadParams, Params, load_params
from stages.common.progress import bar
from stages.common.terminal import pluralize
from stages.corpus import initial, stories
from stages.corpus.tokenizer import END_OF_TEXT
from stages.sources import checksums, pretrained
from stages.sources.open_source import identify, open_source
from stages.sources.source import Source, SplitReader

IDENTIFIED, FOLDER = Path("data/identify/source.json"), Path("data/download")
LINKS = [IDENTIFIED.with_name(name) for name in ("dataset", "init")]  # removed where the stage `identify` must run again


def main(args: argparse.Namespace) -> None:
    """Write both splits, then about.json, which says that they are complete. A source that cannot be read changes nothing."""
    params, every = load_params(DownloadParams), load_params(Params).model_dump()  # the network must fit all of them
    identified = files.read_json(IDENTIFIED, "identify") if IDENTIFIED.exists() else {}  # without it, by hand
    start = identified.pop("init_from", {})
    check_same(params.dataset, identified)
    network = open_network(params, start, every) if params.init_from else None
    source = open_source(params.dataset, identified.get("revision", params.dataset_revision))
    files.remove_temporary(FOLDER)
    splits = {}
    with ExitStack() as unfinished:
        for split, limit in (("train", params.max_samples), ("validation", params.max_val_samples)):
            splits[split] = unfinished.enter_context(stories.writing(FOLDER / f"{split}.parquet", source.schema))
            fill(splits[split], source, split, limit)
        check_same(params.dataset, identified)
        (FOLDER / "about.json").unlink(missing_ok=True)  # all could be read: from here on the folder changes
    about: dict[str, Any] = {"dataset": source.dataset, "revision": source.revision, "license": source.license}
    about["splits"] = {split: facts(split, writer) for split, writer in splits.items()}
    pretrained.write(network, initial.FOLDER)
    files.write_json(FOLDER / "about.json", about | ({"files": source.files} if source.files else {}))


def open_network(params: DownloadParams, identified: Mapping[str, Any], every: Mapping[str, Any]) -> pretrained.Pretrained:
    """The network that `identify` saw: of the Hub its commit, of a folder the same files, or else an error.

    Raises:
        UserError: it changed since, or cannot be read.
    """
    init_from = str(params.init_from)
    if "files" in identified and pretrained.identify(init_from, None) != identified:
        look_again()
        raise errors.UserError(
            f"init_from: {init_from} is not the network that the stage identify saw. If it was changed while the pipeline ran, "
            "run `dvc repro` again; if a training has put its own result there, copy the network that you mean elsewhere "
            f"(cp -r {init_from} my-network) and give that folder"
        )
    revision = identified.get("revision") if identified.get("name") == init_from else params.init_revision
    return pretrained.open_network(init_from, revision, every)


def check_same(dataset: str, identified: Mapping[str, Any]) -> None:
    """Fail unless the data set is still the one that `identify` saw; a commit of the Hub is. `identify` then looks again.

    Raises:
        UserError: it is not. `identify` will look at it again.
    """
    if not identified or ("revision" in identified and identified["dataset"] == dataset):
        return
    if identify(dataset, None) != identified:
        look_again()
        raise errors.UserError(
            f"dataset: {dataset} is not what the stage identify saw: it was changed while the pipeline ran. "
            "When it stays as it is, run `dvc repro` again"
        )


def look_again() -> None:
    """Let the next `dvc repro` start with `identify`, which reads every file anew."""
    checksums.forget()
    for link in LINKS:
        link.unlink(missing_ok=True)


def fill(writer: stories.StoryWriter, source: Source, split: str, limit: int | None) -> None:
    """Write one split's stories and print how many there are."""
    chosen = SplitReader(source, split, limit)
    with bar(limit, f"download {split}", "story") as progress:
        for table in chosen:
            writer.add(table)
            progress.update(len(table))
    if not writer.stories:
        raise errors.UserError(f"dataset: {source.dataset}: {chosen.why_none()}")
    dropped = f", {pluralize(chosen.blank, 'blank story', 'blank stories')} dropped" if chosen.blank else ""
    few = f" ({limit:,} were requested; the data set has no more)" if limit and writer.stories < limit else ""
    print(f"{split}: {pluralize(writer.stories, 'story', 'stories')}, {writer.bytes / 1e6:,.1f} MB of text{few}{dropped}")
    if chosen.marked:
        print(
            f"note: {split}: {END_OF_TEXT} is within {pluralize(chosen.marked, 'story', 'stories')} and is taken for plain "
            "text, not for the end of a story. If it is meant to end them, give the stories as .txt",
            file=sys.stderr,
        )


def facts(split: str, writer: stories.StoryWriter) -> dict[str, Any]:
    """What about.json says about a split."""
    return {"stories": writer.stories, "bytes": writer.bytes, "sha256": files.digest(FOLDER / f"{split}.parquet")}


if __name__ == "__main__":
    command.run(main, __doc__)
