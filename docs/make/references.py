"""Write the reference pages docs/params.md and docs/metrics.md from the code.

python -m docs.make.references      (make references)

A param's meaning and unit are its comment in params.yaml, its limits are those of `Params`, its readers are in dvc.yaml. A
metric's meaning is declared beside the code that measures it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from stages.common import command, files
from stages.common.files import Metric
from stages.common.params import Params
from stages.tracking import pipeline
from stages.tracking.results import by_step, prefixed
from stages.training.history import BY_EPOCH, CURVES

MADE = "<!-- made by `make references`; edit {} instead -->\n"
PARAMS = """# Parameters

Every key of `params.yaml`. `dvc exp run -S <key>=<value>` changes one for an experiment: the stages that read it run again, and
those after them. `track` records all keys.
"""
METRICS = """# Metrics

Every number that is measured. *p(x)* is the probability that the network gave to the token *x* before it saw it, *log* is the
natural logarithm, and Σ is over all tokens that are scored. *Interval*: the number has a 95 % confidence interval, found by
drawing whole stories with replacement (BCa bootstrap); its ends are `<name>_low` and `<name>_high`.

MLflow's names begin with the group that its chart view shows as a section. `dvc metrics show` and `dvc exp show` have the
files' names.
"""
SECONDS = {"seconds_<stage>": Metric("Time that the stage ran; absent if its result came from the cache.", "s", "low")}


def params_page() -> str:
    """docs/params.md."""
    parts = [MADE.format("params.yaml"), PARAMS]
    readers = {stage: node.get("params", []) for stage, node in pipeline.stages().items() if stage != "track"}
    schema = Params.model_json_schema()["properties"]
    text = Path("params.yaml").read_text(encoding="utf-8")
    for title, lines in re.findall(r"^# -- (\w+) -+\n((?:\w.*\n)+)", text, re.MULTILINE):
        rows = []
        for line in lines.splitlines():
            setting, comment = re.split(r"\s+# ", line, maxsplit=1)
            key, value = setting.split(": ", 1)
            stages = [stage for stage, keys in readers.items() if key in keys]
            rows.append([f"`{key}`", f"`{value}`", comment, limits(schema[key]), ", ".join(stages)])
        parts.append(section(title.capitalize(), ["key", "default", "meaning and unit", "allowed", "read by"], rows))
    return "\n".join(parts)


def limits(schema: Mapping[str, Any]) -> str:
    """The values that a key may have, in words."""
    if "anyOf" in schema:
        return ", or ".join(limits(part) for part in schema["anyOf"])
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" for value in values)
    if "pattern" in schema:
        return f"text: `{schema['pattern']}`"
    if "type" not in schema:  # checked by a function, whose rule the comment says
        return "see its meaning"
    kind, low, high = schema["type"], "minimum", "maximum"
    if kind in ("integer", "number"):
        least = f"from {number(schema[low])}" if low in schema else f"above {number(schema['exclusiveMinimum'])}"
        most = f"to {number(schema[high])}" if high in schema else f"below {number(schema['exclusiveMaximum'])}"
        return f"{'whole ' if kind == 'integer' else ''}number {least} {most}"
    words = {"null": "`null`", "boolean": "`true`, `false`", "string": "text", "array": "a list of texts"}
    length = schema.get("maxLength") or schema.get("maxItems")
    empty = "not empty, " if schema.get("minLength") or schema.get("minItems") else ""
    return words[kind] + (f" ({empty}at most {length:,}{' characters' if kind == 'string' else ''})" if length else "")


def number(value: float) -> str:
    """A limit as people read it."""
    return f"{value:,.0f}" if value == int(value) else str(value)


def metrics_page() -> str:
    """docs/metrics.md."""
    parts = [MADE.format("the declarations beside the code"), METRICS]
    for stage in pipeline.measured():
        parts.append(metrics(f"data/{stage}/metrics.json", import_module(f"stages.{stage}").METRICS, partial(prefixed, stage)))
    parts.append(metrics("By optimizer step", CURVES, by_step))
    parts.append(metrics("By epoch", BY_EPOCH, partial(prefixed, "epochs")))
    parts.append(metrics("Seconds", SECONDS, partial(prefixed, "machine")))
    parts.append("`system/…` is MLflow's own: CPU, memory, disk, network and GPU, every five seconds while `train` runs.\n")
    return "\n".join(parts)


def metrics(title: str, declared: Mapping[str, Metric], in_mlflow: Callable[[Mapping[str, float]], Mapping[str, float]]) -> str:
    """A section with a row for each metric."""
    names = in_mlflow(dict.fromkeys(declared, 0.0))
    rows = [
        [f"`{key}`{', interval' if metric.interval else ''}", metric.meaning, metric.unit, metric.good, f"`{name}`"]
        for name, (key, metric) in zip(names, declared.items(), strict=True)
    ]
    return section(title, ["metric", "meaning", "unit", "good", "in MLflow"], rows)


def section(title: str, head: list[str], rows: list[list[str]]) -> str:
    """A heading and a table, whose cells may have a `|`."""
    table = files.markdown_table(head, ([cell.replace("|", "\\|") for cell in row] for row in rows))
    return f"## {title}\n\n{table}\n"


PAGES = {"docs/params.md": params_page, "docs/metrics.md": metrics_page}


def main(args: argparse.Namespace) -> None:
    """Write both."""
    for path, page in PAGES.items():
        files.write_text(Path(path), page())
        print(path)


if __name__ == "__main__":
    command.run(main, __doc__)
