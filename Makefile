# SPDX-License-Identifier: Apache-2.0
# Two commands for people: `make run` and `make test`. Both work on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := api proto sdk controller suggestion earlystopping metrics_collector observation

.PHONY: run test test-cluster test-long check format proto clean cluster-up cluster-down
TIER ?= node
# One thread, as the service sets it: small matrices gain nothing by more.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/pytest
# A file of tests is one worker's, the long ones of clusters begin. `make test WORKERS=` is one process.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder
# Containers of a hundredth of a processor, which have seconds to begin: not beside a whole node.
ALONE := tests/integration/test_containers.py

run: $(VENV)/.local ## tune the digits example to its result
	$(BIN)/tunesmith run examples/digits/tpe.yaml --fresh

test: $(VENV)/.dev check ## everything: style, types, layers, tests; says what was skipped and why
	tests/set-up.sh
	tests/cluster/set-up.sh
	$(BIN)/python tests/cluster/up.py --images
	$(PYTEST) $(ALONE)
	$(PYTEST) $(WORKERS) $(foreach file,$(ALONE),--ignore=$(file))

test-cluster: $(VENV)/.dev ## only what runs on a real Kubernetes, which it builds and starts
	tests/cluster/set-up.sh
	$(BIN)/python tests/cluster/up.py --images
	$(PYTEST) tests/cluster

cluster-up: $(VENV)/.dev ## a real Kubernetes of your own, TIER=node or api; says how to use it
	tests/cluster/set-up.sh
	$(BIN)/python tests/cluster/up.py --tier $(TIER)

cluster-down: $(VENV)/.dev ## end it
	$(BIN)/python tests/cluster/up.py --down

test-long: $(VENV)/.dev ## the large numbers: outages and odd programs of a cluster, all seeds and spaces of the algorithms, an hour or two
	tests/cluster/set-up.sh
	$(BIN)/python tests/cluster/up.py --images
	TUNESMITH_LONG=1 $(PYTEST) --timeout=3600 tests/cluster/test_faults_of_an_installation.py tests/contract/test_kill_and_resume.py tests/property/test_every_algorithm_on_random_spaces.py

check: $(VENV)/.dev ## style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/mypy tests --exclude '^tests/(foreign|cluster)/'
	$(BIN)/mypy tests/foreign  # its conftest.py has the name of another
	$(BIN)/mypy tests/cluster  # so has this one's
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: ## regenerate the messages
	proto/generate.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "tunesmith needs Python 3.11 or newer; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) \
	  || { echo "could not create $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.local: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local,examples]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.local
