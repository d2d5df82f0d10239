# One screen: set up, show, prove. Everything lands in .venv; PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
TESTS := $(BIN)/python -m pytest

.PHONY: demo test test-slow prove check fix bench clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/browser: .venv/installed  ## pages are looked at in Debian's Chromium, unless there is one
	command -v chromium || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -qq --yes --no-install-recommends \
	  chromium fonts-dejavu-core fonts-noto-color-emoji)
	touch $@

.venv/ray: .venv/installed     ## an engine that the fast tests do without
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,ray]'
	touch $@

demo: .venv/installed          ## draw pictures, shard, embed, train, caption, score: no network
	$(BIN)/nightcap demo nightcap-demo

test: check                    ## everything that answers within minutes
	OMP_NUM_THREADS=1 $(TESTS) -m "not slow" -n 2  # two workers with two threads each would fight

test-slow: .venv/browser .venv/ray  ## proofs that kill, install, or draw thousands of pictures
	OMP_NUM_THREADS=1 $(TESTS) -m slow --timeout 1200 -n 2

prove: .venv/installed         ## the whole counts of every proof: hours; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python -m proofs --table docs/proofs.md

check: .venv/installed         ## style, types, and who may know whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed         ## figures of this machine
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv nightcap-demo dist
