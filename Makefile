# Two commands: `make test` checks everything, `make demo` runs the main job. Both make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: test demo docs lint types unit smoke arviz1 clean

test: lint types docs unit smoke arviz1

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo --out demo

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,cluster,test]'
	touch $@

# the pages, into build/site; no network is needed once the packages are there
docs: $(STAMP)
	test -f $(VENV)/.docs -a $(VENV)/.docs -nt $(STAMP) || $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m pytest -m slow tests/docs/test_site.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# ArviZ 1.x needs Python 3.12: where there is one, the tests that touch ArviZ run with it too
PYTHON312 ?= $(shell for p in python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python3.12; do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)
VENV312 := .venv312

arviz1: pyproject.toml constraints.txt
ifneq ($(strip $(PYTHON312)),)
	test -f $(VENV312)/.installed || $(PYTHON312) -m venv $(VENV312)
	test -f $(VENV312)/.installed || $(VENV312)/bin/python -m pip install --quiet --no-cache-dir --constraint constraints.txt --editable '.[report,test]'
	touch $(VENV312)/.installed
	OMP_NUM_THREADS=1 $(VENV312)/bin/python -m pytest tests/export tests/result tests/cli tests/report tests/sampling/test_sample.py
else
	@echo "no Python 3.12 here: the tests with ArviZ 1.x are skipped"
endif

types: $(STAMP)
	$(BIN)/mypy

# the libraries that models come from, for tests/interop
$(VENV)/.models: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pymc,jax,pyro]'
	touch $@

unit: $(STAMP) $(VENV)/.models
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not cluster"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "cluster and not slow" tests/cluster

smoke: $(STAMP)
	$(BIN)/python -m benchmarks.published --smoke
	$(BIN)/python -m benchmarks.control_variate --smoke
	$(BIN)/python -m benchmarks.closed_form --smoke
	$(BIN)/python -m benchmarks.quality --smoke
	$(BIN)/python -m benchmarks.peers --smoke
	$(BIN)/python -m benchmarks.auto --smoke
	$(BIN)/python -m benchmarks.calibration --smoke
	$(BIN)/python -m benchmarks.unlike --smoke
	$(BIN)/python -m benchmarks.precision --smoke
	$(BIN)/python -m benchmarks.speed --smoke
	$(BIN)/python -m benchmarks.speed_float32 --smoke
	$(BIN)/python -m benchmarks.sbc --smoke
	$(BIN)/python -m benchmarks.scale --smoke
	$(BIN)/python -m benchmarks.path_weights --smoke
	$(BIN)/python -m benchmarks.distill --smoke

clean:
	rm -rf $(VENV) $(VENV312) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
