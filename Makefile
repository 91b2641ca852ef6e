# Two commands: `make test` checks everything, `make demo` runs the main job. Both make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: test demo lint types unit smoke clean

test: lint types unit smoke

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo --out demo

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[report,test]'
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/python -m pytest

smoke: $(STAMP)
	$(BIN)/python -m benchmarks.published --smoke
	$(BIN)/python -m benchmarks.control_variate --smoke
	$(BIN)/python -m benchmarks.closed_form --smoke

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
