"""Samples: seeded one by one, the same in any company, streamed as they are written; and the stage that keeps them."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository import digests
from tiny import save_model

from model import GPT2
from stages import generate as stage
from stages.common import command
from stages.common.errors import UserError
from stages.common.params import Params, load_params, parse_params, read_yaml, write_yaml
from stages.common.terminal import printable
from stages.compute import saved_model
from stages.corpus.tokenizer import Tokenizer
from stages.generation import sampler

Ready = tuple[GPT2, Tokenizer, Callable[..., Params]]


@pytest.fixture(scope="session")
def written(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with tokens and an untrained network that ends its texts now and then. Copy it; don't write in it."""
    folder = tmp_path_factory.mktemp("written") / "project"
    shutil.copytree(tokenized, folder)

    def make_the_end_likelier(net: GPT2) -> None:
        net.lm_head.weight.normal_(std=0.5)
        net.ln_f.bias.copy_(net.lm_head.weight[-1])  # the vocabulary's last token is end-of-text

    save_model(folder, make_the_end_likelier, tie_embeddings=False)
    return folder


@pytest.fixture(scope="session")
def ready(written: Path) -> Ready:
    """The network, its tokenizer, and a maker of params."""
    committed = load_params(Params, written / "params.yaml").model_dump()

    def params(**changes: Any) -> Params:
        return parse_params(committed | changes)

    tokenizer = Tokenizer.load(written / "data/tokenize/tokenizer.json")
    return saved_model.load(written / "data/train/model", written / "data/tokenize"), tokenizer, params


def texts(found: Iterable[sampler.Sample]) -> list[str]:
    return [sample.text for sample in found]


# -- samples --------------------------------------------------------------------------------------------


def test_more_samples_leave_the_first_as_they_are(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample depends on the seed, its prompt's place and its number; not on how many there are or are written at once."""
    net, tokenizer, params = ready
    few = texts(sampler.write(net, tokenizer, params(num_samples=2)))
    many = texts(sampler.write(net, tokenizer, params(num_samples=7)))
    assert many[:2] == few
    assert len(set(many)) == 7
    monkeypatch.setattr(sampler, "ROWS", 3)
    assert texts(sampler.write(net, tokenizer, params(num_samples=7))) == many
    assert texts(sampler.write(net, tokenizer, params(num_samples=7, seed=5))) != many


def test_a_sample_says_what_it_is(ready: Ready) -> None:
    """Prompt, number, text, ids and how it ended belong together; of many samples some end by themselves and some are cut."""
    net, tokenizer, params = ready
    prompts = ["One day", " ", "日本 🎈", " "]
    found = sampler.write(net, tokenizer, params(prompt=prompts, num_samples=40))
    assert [(sample.prompt, sample.number) for sample in found] == [(p, number) for p in prompts for number in range(1, 41)]
    assert texts(found[40:80]) != texts(found[120:]), "a prompt that is given twice is continued in two ways"
    for sample in found:
        assert sample.text == sample.prompt + tokenizer.decode(sample.tokens)
        assert tokenizer.end_of_text not in sample.tokens
        assert len(sample.tokens) < 12 if sample.finished else len(sample.tokens) == 12
    assert {sample.finished for sample in found} == {True, False}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(min_size=1, max_size=40), number=st.integers(1, 12))
def test_any_text_is_a_prompt_and_spoken_as_written(ready: Ready, prompt: str, number: int) -> None:
    """Any Unicode text can be continued, and piece by piece it is the text that `write` gives."""
    net, tokenizer, params = ready
    given_params = params(prompt=prompt, num_samples=number, max_new_tokens=20)
    pieces = list(sampler.speak(net, tokenizer, given_params, 0, number))
    assert "".join(pieces) == sampler.write(net, tokenizer, given_params)[-1].continuation


def test_pieces_hold_whole_characters(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character of several byte tokens comes in one piece; bytes that never become one come out at the end."""
    net, tokenizer, params = ready
    ids = tokenizer.encode(" é日🎈a")
    broken = tokenizer.encode("日")[:2]

    def speaks(tokens: list[int]) -> list[str]:
        monkeypatch.setattr(sampler, "stream", lambda *_: iter([torch.tensor([token]) for token in tokens]))
        return [piece for piece in sampler.speak(net, tokenizer, params(), 0, 1) if piece]

    assert len(ids) > 5, "the example needs characters of several tokens"
    assert "".join(speaks(ids)) == " é日🎈a"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in speaks(ids))
    assert "".join(speaks([*ids, *broken])) == tokenizer.decode([*ids, *broken])
    assert "".join(speaks([*ids, *broken, tokenizer.end_of_text])) == tokenizer.decode([*ids, *broken])


def test_long_prompts_use_their_tail_and_say_so(ready: Ready, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the context the last tokens count: another beginning changes nothing; the user is warned once per prompt."""
    net, tokenizer, params = ready
    tail = " a b c d" * 40
    one = sampler.write(net, tokenizer, params(prompt=f"First{tail}"))
    assert capsys.readouterr().err.count("the model sees the last 32") == 1
    other = sampler.write(net, tokenizer, params(prompt=f"Other words, many of them{tail}"))
    assert [sample.continuation for sample in one] == [sample.continuation for sample in other]
    assert one[0].text.startswith("First a b c")
    capsys.readouterr()
    sampler.write(net, tokenizer, params(prompt="short"))
    assert "sees the last" not in capsys.readouterr().err


# -- the stage ------------------------------------------------------------------------------------------


@pytest.fixture
def project(written: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a project folder of its own, with these params."""

    def make(**changes: Any) -> Path:
        folder = tmp_path / "project"
        shutil.copytree(written, folder)
        found = read_yaml((folder / "params.yaml").read_text(encoding="utf-8")) | changes
        (folder / "params.yaml").write_text(write_yaml(found), encoding="utf-8")
        return folder

    return make


def run(folder: Path, *words: str) -> None:
    """Run the stage with these words on its command line."""
    parser = argparse.ArgumentParser()
    stage.add_arguments(parser)
    with chdir(folder):
        stage.main(parser.parse_args(words))


def test_the_stage_leaves_three_files(project: Callable[..., Path]) -> None:
    """samples.md, samples.jsonl and metrics.json, in agreement; run again, the same bytes; an awkward prompt harms none."""
    prompts = ["Once upon a time", "# x\r\n<script>`*\\\u2028../../etc"]
    folder = project(prompt=prompts, num_samples=3)
    run(folder)
    place, first = folder / "data/generate", digests(folder / "data")
    assert {path.name for path in place.iterdir()} == {"samples.md", "samples.jsonl", "metrics.json"}
    rows = [json.loads(line) for line in (place / "samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(row["prompt"], row["sample"]) for row in rows] == [(prompt, number) for prompt in prompts for number in (1, 2, 3)]
    assert all(row["text"].startswith(row["prompt"]) for row in rows)
    metrics = json.loads((place / "metrics.json").read_text())
    assert set(metrics) == {"distinct_2", "mean_tokens", "eos_fraction", "name_consistency", "longest_copy"}
    assert metrics["mean_tokens"] == pytest.approx(sum(row["tokens"] for row in rows) / 6)
    assert metrics["eos_fraction"] == pytest.approx(sum(row["finished"] for row in rows) / 6)
    run(folder)
    assert digests(folder / "data") == first
    assert {path.name for path in (folder / "data").iterdir()} == {"download", "tokenize", "train", "generate"}


def test_options_write_to_the_terminal_and_change_no_file(
    project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With an option the text goes to the terminal and no file changes; it is the text that the stage would keep."""
    folder = project(num_samples=2)
    run(folder, "--prompt", "Once upon a time", "--num-samples", "2")
    spoken = capsys.readouterr().out
    assert not (folder / "data/generate").exists()
    run(folder)
    rows = (folder / "data/generate/samples.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert all(printable(json.loads(row)["text"]) in spoken for row in rows)
    run(folder, "--temperature", "0", "--max-new-tokens", "3")
    greedy = capsys.readouterr().out
    run(folder, "--temperature", "0", "--max-new-tokens", "3", "--seed", "9")
    assert capsys.readouterr().out in greedy


def test_an_empty_prompt_is_an_unconditional_sample(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """It begins with end-of-text alone, after which every training text began: in files and on the terminal, without a note."""
    folder = project(prompt="", num_samples=2)
    run(folder)
    rows = [json.loads(row) for row in (folder / "data/generate/samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt"] for row in rows] == ["", ""] and all(row["text"] for row in rows)
    assert "note: " not in capsys.readouterr().err
    run(folder, "--prompt", "", "--num-samples", "2")
    spoken = capsys.readouterr()
    assert all(printable(row["text"]) in spoken.out for row in rows)
    assert "note: " not in spoken.err


def test_a_prompt_that_training_never_saw_gets_a_note(project: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """By the stage and by hand; by hand also without the training tokens, where only what can be known is said."""
    folder = project(prompt="Once 日 ")
    run(folder)
    written = capsys.readouterr().err
    run(folder, "--prompt", "Once 日 ")
    spoken = capsys.readouterr().err
    for said in (written, spoken):
        assert said.count("note: the prompt 'Once 日 '") == 2
    (folder / "data/tokenize/train.npy").unlink()
    run(folder, "--prompt", "Once 日 ")
    assert capsys.readouterr().err.count("note: ") == 1


def test_a_terminal_gets_no_escape_sequence_and_no_letter_that_it_lacks(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that knows ASCII only gets question marks for the rest, and no escape sequence of a prompt."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with chdir(project()):
        command.run(stage.main, "", stage.add_arguments, ["--prompt", "日本\x1b[31m\x07"])
    assert raw.getvalue().startswith(b"???[31m?")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", "-1"], "command line has 1 problem:\n  temperature"),
        (["--top-k", "0", "--top-p", "2", "--num-samples", "0"], "command line has 3 problems"),
        (["--prompt", "\udcff"], "prompt"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
    ],
)
def test_bad_options_are_refused_by_name(project: Callable[..., Path], words: list[str], message: str) -> None:
    """An option out of range is refused with its name, all of them in one message, before any work."""
    with pytest.raises(UserError, match=message):
        run(project(), *words)
