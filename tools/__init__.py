"""Tools around the pipeline, for people: `make reproduce`, `make register`, `make screenshots`. No stage imports them."""
