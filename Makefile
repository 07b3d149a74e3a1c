# Two commands for a newcomer, each of which sets up all that it needs:
#   make run     two mail servers on loopback, one message refused, one relayed and shown
#   make test    everything that CI runs
# The others: make fast (starts nothing, half a minute), make bench, make fuzz (an hour and more), make stop, make clean.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHELL := /bin/sh

.DEFAULT_GOAL := help
.PHONY: help run stop test fast lint bench fuzz clean

help:
	@sed -n 's/^#   //p; s/^# The others/Others/p' Makefile

$(STAMP): pyproject.toml
	python=$(PYTHON); "$${python:=$$(scripts/python)}" -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

run: $(STAMP)
	@$(BIN)/python scripts/demo.py

stop: $(STAMP)
	@$(BIN)/python scripts/demo.py --stop

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(STAMP)
	scripts/system-packages
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

fast: $(STAMP)
	$(BIN)/python -m pytest -m "not system"

bench: $(STAMP)
	$(BIN)/python -m bench

# make fuzz MINUTES=1: so long for each target
fuzz: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	nice $(BIN)/python -m fuzz --minutes $(or $(MINUTES),12)

clean:
	-@test ! -x $(BIN)/python || $(BIN)/python scripts/demo.py --stop
	rm -rf $(VENV) .run .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
