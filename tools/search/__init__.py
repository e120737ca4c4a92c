"""A search over params: each trial is an experiment of its own, on this machine or on the nodes of a Ray cluster."""
