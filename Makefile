# Two commands do all: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
# A CPU build is enough; any torch from 2.6 on works. Installed before what depends on it.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help demo lab test soak bench lint clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 8

$(VENV)/.ready: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sglnb needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ echo "Python's venv is missing. Run: apt-get install -y python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@echo "installing torch, Jupyter and the tests' tools into $(VENV) (some minutes) ..."
	$(BIN)/pip install "$(TORCH)"
	$(BIN)/pip install -e ".[lab,test]"
	@touch $@

EXECUTE = $(BIN)/python notebooks/execute.py notebooks/01_tour.ipynb --out out

demo: $(VENV)/.ready  ## run the tour on the embedded model; leaves out/01_tour.ipynb and .html
	$(EXECUTE)

out/01_tour.ipynb: $(VENV)/.ready notebooks/01_tour.ipynb
	$(EXECUTE)

lab: out/01_tour.ipynb  ## open the executed tour in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) out/01_tour.ipynb

# Older kernels for the tests: pure Python, the rest is the environment's. A second of pip each.
KERNELS := $(VENV)/ipykernels
$(KERNELS)/.ready: $(VENV)/.ready
	for v in 6.31 7.1; do \
		$(BIN)/pip install --quiet --no-deps --upgrade --target $(KERNELS)/$$v \
			"ipykernel==$$v.*" nest-asyncio || exit 1; done
	@touch $@

test: $(VENV)/.ready $(KERNELS)/.ready  ## all tests, browser ones too (installs chromium, graphviz, node if it may)
	@.ci/system chromium dot node
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/python -m pytest

soak: $(VENV)/.ready  ## the long random runs
	$(BIN)/python -m pytest -m soak

bench: $(VENV)/.ready  ## benchmarks, each a ratio of two sides in one run
	$(BIN)/python benchmarks/shared_prefix.py
	$(BIN)/python benchmarks/shared_prefix.py --busy
	$(BIN)/python benchmarks/neighbours.py
	$(BIN)/python benchmarks/constraints.py
	$(BIN)/python benchmarks/json_decode.py
	$(BIN)/python benchmarks/jump_forward.py
	$(BIN)/python benchmarks/deterministic.py
	$(BIN)/python benchmarks/int8.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/scheduling.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/language.py
	$(BIN)/python benchmarks/engine_cpu.py

lint: $(VENV)/.ready  ## style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:  ## remove what the other targets made
	rm -rf $(VENV) out build *.egg-info .pytest_cache .ruff_cache .hypothesis
