# Chores. `make help` lists them; CI calls `make test`, and nothing else.
# They use the active virtual environment, or make one in .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),$(CURDIR)/.venv)
BIN := $(VENV)/bin
# what makes .venv: any Python from 3.11 on
PYTHON ?= python3
PYTEST_ARGS ?=
# of the tests that run side by side, how many do
JOBS ?= 2
INSTALLED := $(VENV)/.historian-installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# pip, mypy and the web build run one after another: two cores, and output that can be read
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/\1|\2/' | while IFS='|' read -r name what; do printf '%-10s%s\n' "$$name" "$$what"; done

.PHONY: test
test: lint types web unit ## everything that CI runs

.PHONY: install
install: $(INSTALLED) ## the package, editable, with all that the tests need

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

# editable: ingest/, query/ and schema/ are mapped in as historian.ingest, … and the tests run on the files as they stand. Builds the trend page too.
$(INSTALLED): pyproject.toml setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

.PHONY: lint
lint: install ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: install ## mypy, strict
	PYTHON=$(BIN)/python scripts/types

.PHONY: web
web: install ## the trend page: compiler, unit tests, and a fresh build of it
	$(BIN)/python scripts/build_web.py check
	$(BIN)/python scripts/build_web.py

.PHONY: unit
unit: install ## pytest; PYTEST_ARGS='tests/embedded -x', HISTORIAN_TEST_DSN=… for another server
	PYTHON=$(BIN)/python scripts/browser
	scripts/broker
	$(BIN)/python scripts/timescale.py
ifeq ($(strip $(PYTEST_ARGS)),)
	# what measures rates, memory or pictures has the machine to itself afterwards
	failed=0; \
	$(BIN)/pytest -n $(JOBS) --dist loadfile --durations=30 -m 'not alone' || failed=$$?; \
	$(BIN)/pytest --durations=30 -m alone || failed=$$?; \
	exit $$failed
else
	$(BIN)/pytest $(PYTEST_ARGS)
endif

.PHONY: format
format: install ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: demo
demo: install ## the demo, from this tree
	$(BIN)/historian demo

.PHONY: dist
dist: install ## sdist and wheel, in dist/
	$(BIN)/python -m pip install --quiet build
	rm -rf dist
	$(BIN)/python -m build

.PHONY: clean
clean: ## remove what the other targets made, .venv too
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis historian/server/static web/node_modules tests/timescale/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
