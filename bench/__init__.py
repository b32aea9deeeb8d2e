"""Measurements: `make bench`, or `python -m bench.steps` for one of them."""
