"""The pipeline's stages: `python -m stages.<name>`, one for each node of dvc.yaml."""

import os

# PyTorch's CPU threads wait for each other by spinning, for milliseconds by default. Where two trainings
# (as `dvc queue start -j 2`) or any other work share the cores, each then steals the other's time, and a step takes
# 10 times as long. So: spin some 30 microseconds, then sleep. It must be set before torch is imported; on an idle machine
# it costs nothing measurable.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
