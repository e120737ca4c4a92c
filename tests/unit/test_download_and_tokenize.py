"""The stages download and tokenize, run as commands: their contracts, their determinism, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from repository import digests
from stage_runs import call_stage, run_python, write_params

from stages import tokenize
from stages.common import files
from stages.common.errors import UserError
from stages.corpus.tokenizer import GPT2_SIZE, Tokenizer
from stages.corpus.tokens import TokenFile
from stages.storybook import story as storybook

STAGES = ("download", "tokenize")
KILLED = """
import importlib, os, signal, sys
from stages.common import command

stage, replace = importlib.import_module(f"stages.{sys.argv[1]}"), os.replace

def killed_before(last):
    done = 0

    def replace_or_die(*words, **more):
        nonlocal done
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        replace(*words, **more)

    os.replace = replace_or_die
    command.run(stage.main, None, argv=[])

for folder in sys.argv[2:]:  # the number of renames before the kill
    if os.fork() == 0:
        os.chdir(folder)
        killed_before(int(folder))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""


def run(folder: Path, stage: str, *words: str) -> str:
    done = call_stage(folder, stage, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tokenized: Path, tmp_path: Path) -> Path:
    """A copy of the tiny project with data/download and data/tokenize."""
    return Path(shutil.copytree(tokenized, tmp_path / "project"))


def test_download_keeps_its_contract(tokenized: Path) -> None:
    """Two parquet files with text and log-probability, and about.json with counts and checksums."""
    folder = tokenized / "data/download"
    about = json.loads((folder / "about.json").read_text())
    assert (about["dataset"], about["revision"], about["license"]) == ("storybook", None, "MIT")
    for split, seed in (("train", storybook.TRAIN_SEED), ("validation", storybook.VALIDATION_SEED)):
        table, facts = pq.read_table(folder / f"{split}.parquet"), about["splits"][split]
        expected = list(storybook.stories(facts["stories"], seed))
        assert table["text"].to_pylist() == [story.text for story in expected]
        assert table["logprob"].to_pylist() == [story.logprob for story in expected]
        assert facts["bytes"] == sum(len(story.text.encode()) for story in expected)
        assert facts["sha256"] == files.digest(folder / f"{split}.parquet")


def test_tokenize_keeps_its_contract(tokenized: Path) -> None:
    """Each story's tokens decode to its text, and meta.json counts tokens, bytes and words."""
    folder = tokenized / "data/tokenize"
    tokenizer, meta = Tokenizer.load(folder / "tokenizer.json"), json.loads((folder / "meta.json").read_text())
    assert (meta["dataset"], meta["origin"], meta["license"]) == ("storybook", "storybook", "MIT")
    assert (meta["vocab_size"], meta["end_of_text"]) == (tokenizer.vocab_size, tokenizer.end_of_text)
    assert (meta["vocabulary"], meta["dataset"]) == ("corpus", "storybook")
    for split in ("train", "validation"):
        texts = pq.read_table(tokenized / f"data/download/{split}.parquet")["text"].to_pylist()
        file, facts = TokenFile.open(folder, split), meta["splits"][split]
        for i, text in enumerate(texts):
            story = file.stream[file.offsets[i] : file.offsets[i + 1]].tolist()
            assert story == [*tokenizer.encode(text), tokenizer.end_of_text]
        assert facts["tokens"] == len(file) and facts["stories"] == file.stories == len(texts)
        assert facts["bytes"] == sum(len(text.encode()) for text in texts)
        assert facts["words"] == sum(len(text.split()) for text in texts)
        assert facts["sha256"] == files.digest(folder / f"{split}.npy")


@pytest.mark.parametrize("vocabulary", ["corpus", "full"])
def test_the_tokenizer_s_threads_do_not_change_the_bytes(
    project: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 2 and 4 threads give the same files; so do as many as there are cores."""
    write_params(project, {"vocabulary": vocabulary})
    run(project, "tokenize")
    before = digests(project / "data/tokenize")
    for threads in ("1", "2", "4"):
        monkeypatch.setenv("RAYON_NUM_THREADS", threads)
        run(project, "tokenize")
        assert digests(project / "data/tokenize") == before
    size = json.loads((project / "data/tokenize/meta.json").read_text())["vocab_size"]
    assert size == GPT2_SIZE if vocabulary == "full" else size < 4000


def test_a_local_data_set_goes_through(project: Path, tmp_path: Path) -> None:
    """A folder of files becomes tokens; the stages say how many stories, and which blank ones were dropped."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text('{"text": "A story."}\n{"text": " "}\n' * 20)
    write_params(project, {"dataset": "../mine", "max_samples": None})
    assert "train: 20 stories, 0.0 MB of text, 20 blank stories dropped" in run(project, "download")
    about = json.loads((project / "data/download/about.json").read_text())
    assert (about["dataset"], tokenize.origin(about)) == ("../mine", "local")
    assert tokenize.origin({"dataset": "ann/essays", "revision": "0" * 40}) == "hub"
    assert "12 stories, 48 tokens, 4.0 per story" in run(project, "tokenize")


@pytest.mark.parametrize(("stage", "replaces"), [("download", 4), ("tokenize", 6)])
def test_a_kill_leaves_nothing_that_looks_whole(tokenized: Path, tmp_path: Path, stage: str, replaces: int) -> None:
    """Killed before any of its renames, a stage leaves no mark of completeness: the next stage refuses, a rerun repairs."""
    other = {"max_samples": 50, "max_val_samples": 10} if stage == "download" else {"vocabulary": "full"}
    marker = {"download": "about.json", "tokenize": "meta.json"}[stage]
    folders = [Path(shutil.copytree(tokenized, tmp_path / str(last))) for last in range(replaces)]
    for folder in folders:
        write_params(folder, other)
    done = run_python(["-c", KILLED, stage, *(folder.name for folder in folders)], tmp_path)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        assert not (folder / "data" / stage / marker).exists()
        if stage == "download":
            refused = call_stage(folder, "tokenize")
            assert refused.returncode == 1 and "The stage download makes it" in refused.stderr
        else:
            with pytest.raises(UserError, match="The stage tokenize makes it"):
                TokenFile.open(folder / "data/tokenize", "train")
    left = [name for name in os.listdir(folders[-1] / "data" / stage) if name.startswith(".")]
    assert left, "a kill before the last rename leaves what was to be renamed"
    write_params(folders[-1], {})
    run(folders[-1], stage)
    assert digests(folders[-1] / "data" / stage) == digests(tokenized / "data" / stage)
