"""Complete this experiment's MLflow run, print the summary and leave it in data/track/: the last stage."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from stages.common import command, files, journal, session
from stages.common.params import Params, load_params
from stages.common.progress import bar
from stages.tracking import figures, provenance, results, store
from stages.tracking.run import COMPLETE, MODEL_MD5, SUMMARY, Run, link, open_run

MD5 = {  # tags with the checksums of data and model
    MODEL_MD5: "data/train/model",
    "md5.train_stories": "data/download/train.parquet",
    "md5.validation_stories": "data/download/validation.parquet",
    "md5.train_tokens": "data/tokenize/train.npy",
    "md5.validation_tokens": "data/tokenize/validation.npy",
}
NEXT = """
Next:
  make ui                                     every run in the browser (or: mlflow ui)
  dvc exp run -S temperature=0.7              an experiment: runs only what the change touches
  dvc exp run -S max_samples=30000            more stories
  make gpt2-small                             the original: GPT-2 small on TinyStories"""


def main(args: argparse.Namespace) -> None:
    """Attach to the run that training began, or make one if training came from the cache; fill in the rest."""
    params = load_params()
    summary, samples, _ = results.summary(), results.samples(), list(results.curve())  # read before any of it is logged
    where = "not logged"
    try:
        run = store.strictly(lambda: complete(params, summary))
        where = f"{run.id}  ({link(run)})"
        files.write_text(SUMMARY, summary + "\n")
    finally:
        print(f"\n{summary.replace('**', '')}\n")
        for row in samples[:2]:
            print(f"  » {one_line(row['text'])}\n")
        print(f"MLflow run: {where}")
        print(NEXT)


def complete(params: Params, summary: str) -> Run:
    """Log what the run does not have yet, and close it."""
    now = session.current()
    run = open_run(params.model_dump(), now)
    for step, metrics in results.curve():
        run.log(step, metrics)
    run.log(0, results.metrics())
    run.flush()
    run.stages(journal.ran(now))
    by_dvc = "DVC_STAGE" in os.environ  # of stages run by hand neither dvc.lock nor the journal knows anything
    outputs = provenance.outputs() if by_dvc else {}
    model = outputs.get("data/train/model", "")
    trained = journal.newest("train", params=params.model_dump())
    facts = provenance.machine() | trained["facts"] if trained else {}
    run.cached(["download", "tokenize", "train", "evaluate", "generate", "explain"] if by_dvc else [], model, facts)
    command = provenance.command(params.model_dump())
    run.facts()
    run.tag({tag: outputs.get(path, "") for tag, path in MD5.items()})
    run.dataset(results.about())
    run.table("samples/samples.json", results.samples())
    pictures, tables = figures.all_figures(), results.tables()
    pages = [
        ("samples", results.DATA / "generate" / "samples.md"),
        (None, results.DATA / "evaluate" / "report.md"),
        (None, results.DATA / "explain" / "explorer.html"),
    ]
    with bar(len(pictures) + len(tables) + len(pages), "track", "file") as progress:
        for name, figure in pictures.items():
            run.client.log_figure(run.id, figure, f"plots/{name}.png")
            progress.update()
        for folder, path in [*(("plots", path) for path in tables), *pages]:
            run.file(path, folder)
            progress.update()
    if outputs:
        run.file(Path("dvc.lock"))
    run.tag(
        {"reproduce": f"make reproduce RUN={run.id}", "command": command, "mlflow.note.content": note(summary, run.id, command)}
    )
    run.finish("FINISHED")
    run.tag({COMPLETE: "yes"})
    return run


def note(summary: str, run_id: str, command: str) -> str:
    """The run's description in MLflow, Markdown."""
    files = [results.DATA / "evaluate" / "report.md", results.DATA / "generate" / "samples.md"]
    parts = [summary, f"`{command}`, and the same bytes again: `make reproduce RUN={run_id}`"]
    return "\n\n".join([*parts, *(path.read_text(encoding="utf-8") for path in files)])


def one_line(text: str) -> str:
    """The text without line ends, and without control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


if __name__ == "__main__":
    command.run(main, __doc__)
