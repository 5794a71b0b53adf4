# make demo [DAYS=4]   run twelve real days through Airflow, Spark, MLflow and the registry
#                      [SOURCE=simulated] with the settings of configs/simulated.toml
#                      [DATABASE=postgres] on a PostgreSQL server of its own; also for make up
#                      [STORAGE=s3] with lake and registry in a bucket of a real S3 server
# make up              start the services to browse the results; Ctrl-C stops them
# make docs            build the documentation into site/
# make check           make lint (format, lint, types, documentation) and make test; the same as CI
# make test            run the tests, without the slow ones
# make test-all        run the slow tests as well
# make test-faults     a storm of kills and damage [KILLS=200] [SEED=0] [STORAGE=s3]; takes about
#                      half an hour
# make test-cluster    executors of a Spark cluster are killed in every job [ROUNDS=3] [SEED=0]
# make check-manifests Checkov's policies for infra/, in an environment of its own
# make bench-NAME      run one measurement of perf/ [SEED=0] [SIZE=...]
# make install         create .venv with the pinned packages
# make doctor          check whether this machine can run Evergreen
# make clean           delete results and caches; asks before it deletes .evergreen
# Needs GNU make, Python 3.11 and Java 17 or newer. Results are in .evergreen (or EVERGREEN_HOME).

PYTHON ?= $(firstword $(shell command -v python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tests run in two processes, each with a Spark of its own; a file of tests stays in one of them. In
# the order of their names, or files with few but long tests would come last, one after the other.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
# Without what it depends on: that would be the fbgemm-gpu of CUDA, over the one of CPUs.
TORCHREC := torchrec fbgemm-gpu-cpu
EVERGREEN := $(BIN)/evergreen$(if $(SOURCE), --settings configs/$(SOURCE).toml)
ifeq ($(DATABASE),postgres)
export EVERGREEN_DATABASE__URL := local
endif
# A bucket by settings alone; `make up STORAGE=s3` shows what the demo has left in it. A storm of faults
# has a server and settings of its own.
ifeq ($(STORAGE),s3)
demo up doctor: export EVERGREEN_STORAGE__URL ?= s3://evergreen/demo
demo up doctor: export EVERGREEN_STORAGE__ENDPOINT ?= http://127.0.0.1:8333
demo up doctor: export EVERGREEN_STORAGE__SERVE ?= true
endif
.DEFAULT_GOAL := help
.PHONY: help install doctor demo up docs lint test test-all test-faults test-cluster check check-manifests clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

install: $(INSTALLED)

# torch first and by its exact version: packages that depend on it then find it installed.
$(INSTALLED): pyproject.toml infra/constraints.txt
	@echo "Installing into $(VENV): PyTorch first, then the rest. Takes some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c infra/constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c infra/constraints.txt --editable '.[dev,docs,export,manifests,peers]'
	$(BIN)/pip install --quiet -c infra/constraints.txt --no-deps $(TORCHREC) || \
	    echo "There is no TorchRec for this machine: what compares with it is skipped."
	@touch $@

doctor: $(INSTALLED)
	$(EVERGREEN) doctor

demo: doctor
	$(EVERGREEN) demo $(if $(DAYS),--days $(DAYS))

up: doctor
	$(EVERGREEN) up

# The variable silences Material's advertisement for its successor.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(MAKE) --no-print-directory docs

test: $(INSTALLED)
	$(BIN)/python -m pytest $(TWO)

test-all: $(INSTALLED)
	$(BIN)/python -m pytest $(TWO) -m "" --hypothesis-profile=search

test-faults: $(INSTALLED)
	$(BIN)/python -m tests.faults.storm --kills $(or $(KILLS),200) --seed $(or $(SEED),0) $(if $(STORAGE),--storage $(STORAGE))

test-cluster: $(INSTALLED)
	$(BIN)/python -m tests.faults.cluster_storm --rounds $(or $(ROUNDS),3) --seed $(or $(SEED),0)

check: lint test

# Checkov needs other versions of what is pinned, so it has an environment of its own.
check-manifests: $(INSTALLED)
	$(PYTHON) -m venv .checkov
	.checkov/bin/pip install --quiet checkov==3.3.30
	$(BIN)/python -m pytest -m slow tests/infra/test_policy.py

bench-%: $(INSTALLED)
	$(BIN)/python -m perf.$(subst -,_,$*) $(if $(SEED),--seed $(SEED)) $(if $(SIZE),--size $(SIZE))

clean:
	@if [ -d .evergreen ] && [ -z "$(YES)" ]; then \
	    du -sh .evergreen; \
	    read -p "Delete .evergreen, with its lake, registry and models? [y/N] " answer; \
	    [ "$$answer" = y ] || { echo "Kept. (make clean YES=1 does not ask.)"; exit 1; }; \
	fi
	rm -rf .evergreen .pytest_cache .mypy_cache .ruff_cache .hypothesis
