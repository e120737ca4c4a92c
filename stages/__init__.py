"""The pipeline's stages: `python -m stages.<name>`, one for each node of dvc.yaml."""

import importlib.util
import os
import sys
import time
import warnings

STARTED = time.time_ns()  # source files that are younger than the process were edited while it imported them

# PyTorch's CPU threads wait for each other by spinning, for milliseconds by default. Where two trainings (such as those of
# `dvc queue start -j 2`) or any other work share the cores, each then steals the other's time, and a step takes 10 times as
# long. So: spin for some 30 microseconds, then sleep. It must be set before torch is imported; on an idle machine it costs
# nothing measurable.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# With OMP_DYNAMIC the load of the machine decides how many threads share a sum, and so its last bits.
os.environ["OMP_DYNAMIC"] = "false"

# PYTHONWARNINGS=error and -W error are for one's own code. Here they would turn a library's remark about itself into the end of
# a stage. The remarks are shown instead.
if any(action == "error" for action, *_ in warnings.filters):
    warnings.simplefilter("default")

if sys.argv[:1] == ["-m"] and importlib.util.find_spec("pydantic") is None:
    sys.exit(
        f"error: {sys.executable} does not have the project's packages. Activate the environment that has them "
        "(source .venv/bin/activate), or make it: make setup"
    )
