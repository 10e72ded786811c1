# `make quickstart` runs a real sweep, `make test` checks everything; both install into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

# More for a command: make quickstart ARGS="--name first", make unit PYTEST_ARGS="-k pareto -x".
ARGS ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup quickstart test lint types unit format pictures clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: setup ## run a sweep of about 6 minutes (12 without bf16) and show its Pareto front
	$(BIN)/rc-sweep launch tune_configs/quickstart.yaml $(ARGS)

test: lint types unit ## lint, types and tests

setup: $(INSTALLED) ## make .venv and install what constraints.txt pins

lint: setup ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict
	$(BIN)/mypy

unit: setup ## pytest; whole sweeps run one after the other beside the rest
	$(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadgroup --durations=12 $(PYTEST_ARGS)

format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: setup ## make the docs' pictures again: make pictures SWEEP=rc_storage/quickstart-1 STEM=quickstart
	$(BIN)/python -m tests.browser.pictures $(SWEEP) --out docs $(if $(STEM),--stem $(STEM))

clean: ## remove .venv, caches and builds; results in rc_storage/ stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find rc_core sweeps tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Only when the stamp is older than what it was made from is anything installed again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(SUPPORTED)' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, but $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name one: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c '$(SUPPORTED)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 \
	  || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (the first time takes a few minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt -e '.[quickstart,dev]'
	@touch $@
