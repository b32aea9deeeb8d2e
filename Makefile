# Everything a contributor needs. Only Python 3.11 or newer and make have to be there; all else is
# installed into .venv, from constraints.txt and checked against its hashes.

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
WORKERS ?= 2

# The first of these that is new enough; `make PYTHON=/path/to/python3.12 test` chooses another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help venv demo test check format browser chaos oracle bench pin docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

venv: $(STAMP)  ## make .venv with all that is needed here

demo: $(STAMP)  ## a durable run, killed half-way and resumed, against a local API
	@$(RUN) scripts/demo.py

test: $(STAMP)  ## all tests, on WORKERS=2 processes
	$(RUN) -m pytest -n $(WORKERS)

check: $(STAMP)  ## lint, formatting and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP)  ## put the formatting right
	$(RUN) -m ruff check --fix-only .
	$(RUN) -m ruff format .

browser:  ## install the browser that a test of pages needs, with apt-get
	$(shell test "$$(id -u)" = 0 || echo sudo) apt-get install -y --no-install-recommends \
		chromium-headless-shell

chaos: $(STAMP)  ## kill and freeze workers for a minute per store, more than `make test` does
	CHAOS_SECONDS=60 $(RUN) -m pytest -n 1 tests/chaos tests/flow/test_executor_crash.py \
		tests/runtimes/graph/test_graph_cost.py

oracle: $(STAMP)  ## compare 5,000 random state graphs with XState (`make test` does 300)
	PYTHONPATH=tests $(RUN) -m statechart_oracle

bench: $(STAMP)  ## measure what a step, a resume and a start cost
	PYTHONPATH=tests $(RUN) -m bench

docs: $(STAMP)  ## write the generated parts of docs/ and of the package again
	$(RUN) scripts/docs.py
	$(RUN) scripts/sync_engine.py

pin: $(STAMP)  ## choose the versions in constraints.txt again
	$(RUN) scripts/pin.py

clean:  ## remove .venv and everything that tools have left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' || { \
		echo "sequential-ecosystem needs Python 3.11 or newer, and" \
			"$(or $(PYTHON),python3) is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@test -x $(RUN) && $(RUN) -c '' || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
