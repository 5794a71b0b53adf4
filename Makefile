# make demo [DAYS=4]   twelve real days through Airflow, Spark, MLflow and the registry; ends with what came of them
# make up              the services, to browse; Ctrl-C stops them
# make test            the tests; make test-all the slow ones too; make check also format, lint and types
# make bench-NAME      one measurement of perf/ [SEED=0] [SIZE=...]
# Needs GNU make, Python 3.11 and Java 17 or newer. State lives in .evergreen (EVERGREEN_HOME); `make clean` removes it.

PYTHON ?= $(firstword $(shell command -v python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help install doctor demo up test test-all check clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

install: $(INSTALLED)

# torch first and by its exact version: whatever else asks for torch then finds it there.
$(INSTALLED): pyproject.toml infra/constraints.txt
	@echo "Installing into $(VENV): PyTorch first, then the pinned rest. This takes some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c infra/constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c infra/constraints.txt --editable '.[dev,peers]'
	@touch $@

doctor: $(INSTALLED)
	$(BIN)/evergreen doctor

demo: doctor
	$(BIN)/evergreen demo $(if $(DAYS),--days $(DAYS))

up: doctor
	$(BIN)/evergreen up

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m "" --hypothesis-profile=search

check: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest

bench-%: $(INSTALLED)
	$(BIN)/python -m perf.$(subst -,_,$*) $(if $(SEED),--seed $(SEED)) $(if $(SIZE),--size $(SIZE))

clean:
	rm -rf .evergreen .pytest_cache .mypy_cache .ruff_cache .hypothesis
