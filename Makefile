# Two commands: `make run` and `make test`; each does all its own set-up in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRAS := tiny,gguf,math,code,plot
define CANNOT_FETCH
echo "make: pip could not fetch what isoflop needs (its own words are above)." >&2; \
echo "  No network? Connect, or point pip at a registry you can reach: PIP_INDEX_URL=https://... make $(MAKECMDGOALS)" >&2; \
echo "  Wrong Python? Name one that is 3.11 or newer: make clean; make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
exit 1
endef

.PHONY: run test lint bench clean

run: .venv/run
	$(BIN)/isoflop demo

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

# Without the extras the main job still runs, on the mock. Without a registry and without an earlier set-up nothing can.
.venv/run: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv, once: a minute or so"
	@if $(PIP) torch==2.13.0 && $(PIP) --editable '.[$(EXTRAS)]'; then touch $@; \
	elif $(PIP) --editable . 2>/dev/null; then \
		echo "make: could not fetch the extras $(EXTRAS) (see above); going on without them" >&2; \
	elif [ -x $(BIN)/isoflop ]; then \
		echo "make: pip could not bring .venv up to date (see above); going on with what is there" >&2; \
	else $(CANNOT_FETCH); fi

.venv/dev: pyproject.toml constraints.txt | .venv/bin/python
	@echo "setting up .venv with all that is tested, once: a few minutes"
	@$(PIP) torch==2.13.0 && $(PIP) --editable '.[gguf,tiny,torch,shrink,examples,math,code,parquet,plot,ray,dev]' || { $(CANNOT_FETCH); }
	@$(BIN)/isoflop pull examples >/dev/null || echo "make: going on without the examples; their tests are skipped" >&2
	touch $@

.venv/bench: .venv/dev
	@$(PIP) --editable '.[bench]' || { $(CANNOT_FETCH); }
	touch $@

clean:
	rm -rf .venv build dist
