# make run         the main sweep on MNIST, with its figures          make quickstart   a small one, no download of data
# make test        all tests                                          make lint         ruff and mypy
# make reproduce   the published studies, every grid                  make bench        the speed claims
# make docs        the generated parts of docs/
#
# An environment that has torch already is used as it is by `make … PYTHON=path/to/its/python`.

VENV := .venv
BASE_PYTHON ?= python3

ifdef PYTHON
  HAS_TORCH := $(shell $(PYTHON) -c 'import torch' 2>/dev/null && echo yes)
endif

ifeq ($(HAS_TORCH),yes)
  PY := $(PYTHON)
  STAMP := .make-$(shell $(PYTHON) -c 'import sys, zlib; print("%08x" % zlib.crc32(sys.prefix.encode()))')
  PINS :=
else
  BASE_PYTHON := $(or $(PYTHON),$(BASE_PYTHON))
  PY := $(VENV)/bin/python
  STAMP := $(VENV)/.make
  PINS := -c constraints.txt
endif

PIP := $(PY) -m pip install --quiet --disable-pip-version-check $(PINS)

.PHONY: run quickstart test lint reproduce bench docs install
.DELETE_ON_ERROR:

run: $(STAMP)
	$(PY) -m qsweep run configs/lr_bitwidth.yaml

quickstart: $(STAMP)
	$(PY) -m qsweep run configs/quickstart.yaml

reproduce: $(STAMP)
	$(PY) -m qsweep reproduce

test: $(STAMP)-dev
	$(PY) -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: $(STAMP)-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(STAMP)
	for file in benchmarks/*.py; do $(PY) $$file || exit 1; done

docs: $(STAMP)-dev
	$(PY) -m cogapp -r -I tools docs/*.md

install: $(STAMP)

$(VENV)/bin/python:
	@$(BASE_PYTHON) tools/preflight.py
	@$(BASE_PYTHON) -m venv $(VENV)

$(VENV)/.make: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(PIP) -e .
	@touch $@

.make-%: pyproject.toml
	@echo "installing qsweep beside the torch of $(PY)"
	@$(PIP) -e .
	@touch $@

$(STAMP)-dev: $(STAMP)
	@$(PIP) -e '.[dev]'
	@touch $@
