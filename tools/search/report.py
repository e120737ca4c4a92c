"""Report: what a search has found, as a table, as words to type, and as one HTML page of plots."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna import visualization
from optuna.trial import FrozenTrial

from stages.common import files
from stages.tracking.provenance import override_word
from tools.search import space
from tools.search.study import DONE, FAILED, PRUNED, WHY, Study

STATES = {DONE: "", PRUNED: "stopped early", FAILED: "failed"}
FOLDER = Path("build/search")


def line(study: Study, trial: FrozenTrial) -> str:
    """A trial that has ended, on one line."""
    value = f"{study.settings.metric} {trial.value:.5g}" if trial.state == DONE else STATES[trial.state]
    why = f": {trial.user_attrs[WHY]}" if WHY in trial.user_attrs else ""
    return f"{study.experiment(trial)}  {value}  ({searched(study, trial)}){why}"


def searched(study: Study, trial: FrozenTrial) -> str:
    """The values that a trial tries."""
    return ", ".join(f"{key}={_short(trial.params[key])}" for key in study.space.searched)


def table(study: Study) -> str:
    """The trials as a table in Markdown, the best one first."""
    sign = 1 if study.settings.direction == "minimize" else -1
    trials = sorted(study.finished(), key=lambda trial: (trial.state != DONE, sign * (trial.value or 0.0), trial.number))
    head = ["trial", study.settings.metric, *study.space.searched]
    rows = [
        [
            study.experiment(trial),
            f"{trial.value:.5g}" if trial.state == DONE else STATES[trial.state],
            *(_short(trial.params[key]) for key in study.space.searched),
        ]
        for trial in trials
    ]
    return files.markdown_table(head, rows, "lr" + "r" * len(study.space.searched))


def next_words(study: Study, is_cluster: bool) -> str:
    """The best trial, and what to type next."""
    best = study.best()
    if best is None:
        return "no trial has a result"
    name = study.experiment(best)
    fetch = f"dvc exp pull origin {name} && " if is_cluster else ""
    return "\n".join(
        [
            f"the best is {name}: {study.settings.metric} {best.value:.6g}",
            "  " + " ".join(f"-S '{word}'" for word in space.words(study.point(best))),
            f"{fetch}dvc exp apply {name}    # put its params and results into this folder",
            f"make reproduce RUN={name}    # run it again and compare every byte",
            f"make ui    # the search alone: tags.`search.name` = '{study.name}'",
        ]
    )


def write_page(study: Study) -> Path | None:
    """The page with history, importance and parallel coordinates; None while fewer than two trials have a result."""
    if len([trial for trial in study.finished() if trial.state == DONE]) < 2:
        return None
    settings = study.settings
    parts = [
        _part(study, "Each trial and the best so far", visualization.plot_optimization_history, first=True),
        _part(study, "Which param matters how much", visualization.plot_param_importances),
        _part(study, "Every trial, from its params to its result", visualization.plot_parallel_coordinate),
    ]
    text = f"""<!doctype html>
<meta charset="utf-8">
<title>{html.escape(study.name)}</title>
<style>body {{ font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 1100px }}</style>
<h1>{html.escape(study.name)}: {html.escape(settings.metric)}, {settings.direction}</h1>
<p><code>{html.escape(" ".join(f"-S '{word}'" for word in settings.words))}</code> ({settings.sampler})</p>
{"".join(parts)}
<pre>{html.escape(table(study))}

{html.escape(next_words(study, False))}</pre>
"""
    path = FOLDER / f"{study.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def _part(study: Study, title: str, draw: Callable[..., Any], first: bool = False) -> str:
    """A plot with its title; in words why there is none. The first brings the library, so that the page works offline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            figure = draw(study.study, target_name=study.settings.metric)
            figure.update_layout(title=None, margin={"t": 30})
            plot = figure.to_html(full_html=False, include_plotlyjs=first)
        except (ValueError, RuntimeError) as error:  # such as one param that never varied
            plot = f"<p>no plot: {html.escape(str(error))}</p>"
    return f"<h2>{title}</h2>\n{plot}\n"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else override_word(value)
