# Two commands for people: `make demo` and `make test`. Both need nothing but Python 3.10+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format coverage frameworks lint types contracts clean

demo: $(READY)
	@$(BIN)/otel-posthog demo

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(ARGS)

check: lint types contracts test

format: $(READY)
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

coverage: $(READY)
	@$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term $(ARGS)

# Real frameworks, each in an environment of its own: half an hour, and some 4 GB in the user's cache directory.
# ARGS='langchain --fast' runs a part of it.
frameworks: $(READY)
	@$(BIN)/python -m tests.framework_matrix $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

contracts: $(READY)
	@$(BIN)/lint-imports

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "otel-posthog needs Python 3.10 or newer: try make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making the virtual environment $(VENV): about a minute, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	@touch $(READY)

clean:
	@rm -rf $(VENV) .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist build
