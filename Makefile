# Two commands do everything: `make search` and `make test`. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help search test lint docs bench clean

help:
	@echo "make search   set up and run the embedded example: digits, a front, plots and ONNX files in runs/digits"
	@echo "make test     set up and run the tests"
	@echo "make lint     set up and run ruff and mypy"
	@echo "make docs     set up and build the pages of docs/ into docs/_build/html; a warning is an error"
	@echo "make bench    set up and print the figures of the quick benchmarks"
	@echo "make clean    remove the environment and runs/"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aebnas needs Python 3.11 or newer: name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

search: $(VENV)/.installed
	$(BIN)/aebnas search

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.thresholds --quick
	$(BIN)/python -m benchmarks.latency --quick
	$(BIN)/python -m benchmarks.regimes --quick
	$(BIN)/python -m benchmarks.search --quick

clean:
	rm -rf $(VENV) runs docs/_build
