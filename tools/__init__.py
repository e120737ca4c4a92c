"""Tools around the pipeline, for people: `make reproduce`, `make verify`, `make register`... No stage imports them."""
