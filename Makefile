# Two commands: `make test` checks everything, `make demo` runs the main job. Both make their own environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WHOLE := $(VENV)/.whole
# modules are compiled when they are first imported, as most of a large library never is, and kept, whatever the environment says:
# every process of the checks would compile them anew
export PYTHONDONTWRITEBYTECODE :=
INSTALL := pip install --quiet --no-compile
TOGETHER := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

# the tensors are small: more threads would wait more than work, and two checks run at a time
export OMP_NUM_THREADS := 1

.PHONY: test demo docs lint types unit cluster smoke arviz1 clean

# checks of one process run three at a time, as some of them wait for other processes or the network, the longest first; then
# the tests, which have a process for every core
test:
	$(MAKE) -j3 $(TOGETHER) arviz1 lint cluster types smoke docs
	$(MAKE) unit

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo --out demo

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m $(INSTALL) --constraint constraints.txt --editable '.[all,cluster,test]'
	touch $@

# what the pages are built with, and the libraries that models come from, for tests/interop; all at once and before any check,
# because no process may run while its packages change
$(WHOLE): $(STAMP)
	$(BIN)/python -m $(INSTALL) --constraint constraints.txt --editable '.[docs,pymc,jax,pyro]'
	touch $@

# the pages, into build/site; no network is needed once the packages are there
docs: $(WHOLE)
	SITE=build/site $(BIN)/python -m pytest -m slow tests/docs/test_site.py

lint: $(WHOLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# ArviZ 1.x needs Python 3.12: where there is one, the tests that touch ArviZ run with it too
PYTHON312 ?= $(shell for p in python3.12 $(HOME)/.pyenv/versions/3.12*/bin/python3.12; do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)
VENV312 := .venv312

arviz1: pyproject.toml constraints.txt
ifneq ($(strip $(PYTHON312)),)
	test -f $(VENV312)/.installed || $(PYTHON312) -m venv $(VENV312)
	test -f $(VENV312)/.installed || $(VENV312)/bin/python -m $(INSTALL) --no-cache-dir --constraint constraints.txt --editable '.[report,test]'
	touch $(VENV312)/.installed
	$(VENV312)/bin/python -m pytest tests/export tests/result/test_result.py tests/report tests/parameters/test_arviz.py tests/cli/test_cli.py \
		tests/result/test_rules.py::test_numbers_do_not_depend_on_the_version_of_arviz \
		tests/sampling/test_sample.py::test_every_result_keeps_the_contract
else
	@echo "no Python 3.12 here: the tests with ArviZ 1.x are skipped"
endif

types: $(WHOLE)
	$(BIN)/mypy

unit: $(WHOLE)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not cluster"

# executors, with worker processes of their own
cluster: $(WHOLE)
	$(BIN)/python -m pytest -m "cluster and not slow" tests/cluster

smoke: $(WHOLE)
	$(BIN)/python -m benchmarks.smoke

clean:
	rm -rf $(VENV) $(VENV312) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
