# Two commands: `make run` and `make test`; each does all its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test lint bench clean

run: .venv/run
	$(BIN)/python -m isoflop.cli demo

test: .venv/dev
	$(BIN)/pytest

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/bench
	$(BIN)/python -m benchmarks

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[gguf,math,code]'
	touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[gguf,torch,math,code,parquet,plot,ray,dev]'
	touch $@

.venv/bench: .venv/dev
	$(PIP) --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv build dist
