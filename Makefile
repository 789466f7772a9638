# make install | demo | test | test-all | fuzz | check | docs | picture | lessons | schemas | bench | wheel
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPU_TORCH ?= https://download.pytorch.org/whl/cpu
TORCH := torch==2.13.0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install demo test test-all fuzz check lessons docs picture schemas bench wheel clean

help:            ## show what there is
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

install: $(VENV)/.done  ## make .venv with all pinned dependencies and fedinv in it

# torch first and alone: a CPU build from the local wheels or PyTorch's CPU index, so that PyPI's CUDA build is not
# pulled after it; where neither is on offer, the default index decides
$(VENV)/.done: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	@$(BIN)/python -c 'import torch' 2>/dev/null \
	  || $(PIP) --no-deps --no-index $(TORCH) 2>/dev/null \
	  || $(PIP) --no-deps --retries 1 --timeout 15 --index-url $(CPU_TORCH) $(TORCH) 2>/dev/null \
	  || $(PIP) --constraint constraints.txt $(TORCH)
	@$(PIP) --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

demo: install    ## run the hospital scenario and say where its report is
	@$(BIN)/fedinv run hospital

# byte code is kept, as the commands that tests start would otherwise compile every module anew
CORES := $(shell nproc 2>/dev/null || echo 1)
test: install    ## run the tests but the slow ones: minutes
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(or $(WORKERS),$(CORES)) --dist worksteal -m "not slow"

# one more than there are cores: slow tests wait for daemons
test-all: install ## run all tests, with real daemons, browsers, lessons and whole studies, as a change must pass
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(or $(WORKERS),$(shell echo $$(($(CORES) + 1))))

FUZZ ?= 10
fuzz: install    ## draw new examples for the fuzz tests, FUZZ=10 times as many as the tests do; SEED=.. as before
	@FUZZ=$(FUZZ) SEED=$(SEED) $(BIN)/python -m pytest tests/fuzz

check: install   ## lint, types and the wall between clients and server
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: install    ## build the site into site/: open site/index.html, no server needed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict

picture: install ## draw docs/report.png anew, the top of the demo's report, by an installed Chromium
	@$(BIN)/python docs/picture.py

lessons: install ## export the lessons as static pages and .ipynb into lessons/static/: nothing to install to read them
	@$(BIN)/python lessons/export.py

schemas: install ## write the JSON Schemas of scenarios and results
	@$(BIN)/python -m fedinv.scenario.json_schemas

bench: install   ## measure what the README states
	@$(BIN)/python -m benchmarks

wheel: install   ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:           ## remove .venv and what tools left behind
	@rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
