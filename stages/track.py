"""Complete this experiment's MLflow run, print the summary and leave it in data/track/: the last stage."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from stages.common import command, files, inputs, journal, session
from stages.common.errors import UserError
from stages.common.params import Params, load_params
from stages.common.progress import bar
from stages.common.terminal import one_line, pluralize
from stages.corpus import initial
from stages.tracking import figures, liveness, pipeline, provenance, store, unrecorded
from stages.tracking.provenance import Provenance
from stages.tracking.results import Results
from stages.tracking.run import COMPLETE, MODEL_MD5, OUTPUTS, TAG_LENGTH, Run, link, open_run

SUMMARY = Path("data/track/summary.md")
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
    params, results, code = load_params(Params), Results.read(), Provenance.gather()
    summary, where = results.summary(), "not logged"
    try:
        run = store.as_user_error(lambda: complete(params, results, code))
        store.as_user_error(unrecorded.record)
        where = f"{run.id}  ({link(run)})"
        files.write_text(SUMMARY, summary + "\n")
    finally:
        print(f"\n{summary.replace('**', '')}\n")
        for row in results.samples[:2]:
            print(f"  » {one_line(row['text'])}\n")
        print(f"MLflow run: {where}")
        print(explain_git_status(code, params), end="")
        print(NEXT)


def explain_git_status(code: Provenance, params: Params) -> str:
    """A line that says why git shows results as changed, and how to go back; empty if it does not, or you changed something."""
    changed = code.committed_outputs_that_differ(params.model_dump())
    if not changed:
        return ""
    return (
        f"git status: {pluralize(len(changed), 'file')} of results differ from the commit's, as on another kind of machine. "
        "To go back: git restore dvc.lock data\n"
    )


def complete(params: Params, results: Results, code: Provenance) -> Run:
    """Log what the run does not have yet, and close it."""
    now = session.session_id()
    if code.problem:
        print(f"warning: {code.problem} (The run is recorded without its commit.)", file=sys.stderr)
    for name in code.ignored:
        print(f"warning: git ignores {name}: if it is imported, the run cannot be rebuilt", file=sys.stderr)
    check_unedited()
    run = open_run(params.model_dump(), now, code.name)
    for step, metrics in results.curve:
        run.log(step, metrics)
    run.log(0, results.metrics)
    run.flush()
    run.stages(ran := journal.finished_stages(now))
    by_dvc = "DVC_STAGE" in os.environ  # of stages run by hand neither dvc.lock nor the journal knows anything
    outputs = provenance.outputs() if by_dvc else {}
    trained = ran.get("train") or journal.last_entry("train", params=params.model_dump())
    facts = provenance.machine() | trained["facts"] if trained else {}
    others = [stage for stage in pipeline.stages() if stage != "track"] if by_dvc else []
    run.cached(others, outputs.get("data/train/model", ""), facts)
    run.code(code)
    run.tag({tag: outputs.get(path, "") for tag, path in MD5.items()})
    if start := initial.read():
        run.tag({"init.revision": start["revision"] or "", "md5.init": outputs.get(initial.FOLDER.as_posix(), "")})
    run.tag({OUTPUTS: provenance.checksum(Path("dvc.lock").read_text(encoding="utf-8")) if outputs else ""})
    run.dataset(results.about)
    run.table("samples/samples.json", results.samples)
    with tempfile.TemporaryDirectory(prefix="track-") as name:
        kept = [("plots", path) for path in [*results.tables, *draw(results, Path(name, "loss.png"))]]
        kept += [("samples", results.samples_page), ("", results.report), ("", results.explorer)]
        kept += [("", Path("dvc.lock"))] if outputs else []
        with bar(len(kept), "track", "file") as progress:
            for folder, path in kept:
                run.file(path, folder)
                progress.update()
    made_by, reproduce = code.command(params.model_dump()), f"make reproduce RUN={run.id}"
    if len(made_by) > TAG_LENGTH:  # half a command would be another one
        made_by = reproduce
    note = [results.summary(), f"Command: `{made_by}`. To run it again and compare every byte: `{reproduce}`"]
    note += [path.read_text(encoding="utf-8") for path in (results.report, results.samples_page)]
    run.tag({"reproduce": reproduce, "command": made_by, "mlflow.note.content": "\n\n".join(note)})
    check_unedited()
    run.finish("FINISHED")
    run.tag({COMPLETE: "yes"})
    liveness.release(now)
    return run


def draw(results: Results, picture: Path) -> list[Path]:
    """Draw the loss; a drawing that fails costs no run."""
    try:
        figures.loss(results).savefig(picture)
        return [picture]
    except Exception as error:
        print(f"warning: the run has no picture: {one_line(repr(error))}", file=sys.stderr)
        return []


def check_unedited() -> None:
    """Fail unless params, code and data are what they were for every stage: the run is to say what ran.

    Raises:
        UserError: something was edited since.
    """
    inputs.check()
    by_dvc = "DVC_STAGE" in os.environ
    if by_dvc and (found := pipeline.edited()):
        raise UserError(
            f"edited since a stage ran: {', '.join(found)}. The run is not recorded as complete. Put it back, or leave it "
            "as it is, and run `dvc repro` again"
        )
    if by_dvc and (wrong := pipeline.recorded_otherwise(journal.finished_stages(session.session_id()))):
        raise UserError(
            f"edited in the instant before DVC looked at it: recorded is {'; '.join(wrong.values())}. The run "
            f"is not recorded as complete. Type: dvc repro --force --single-item {' '.join(wrong)} && dvc repro"
        )


if __name__ == "__main__":
    command.run(main, __doc__)
