# `make` lists the targets. Those that need an environment build .venv first, and rebuild it when the requirements change.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2# processes that share the tests; each computes on one thread

.DEFAULT_GOAL := help
.PHONY: help demo test test-portable test-newest test-oldest lint format clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed  ## Train and evaluate on the demo corpus; the results are in runs/demo
	$(BIN)/python scripts/make_demo_encoders.py runs/demo_encoders
	$(BIN)/python train.py recipes/demo.yaml

# A file's tests share fixtures; tests/conftest.py sees to it that the longest come first.
SHARED := --dist loadfile --no-loadscope-reorder
TEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n $(WORKERS) $(SHARED)

test: .venv/suites  ## Run the tests, transformers' own suites among them
	$(call TEST,.venv)

test-newest: .venv-newest/suites  ## The same with the newest versions that pyproject.toml allows, in .venv-newest
	$(call TEST,.venv-newest)

test-oldest: .venv-oldest/suites  ## The same with the lowest versions that pyproject.toml allows, in .venv-oldest
	$(call TEST,.venv-oldest)

# The modules that compute, as on processors with other vector instructions, and on one thread and two.
COMPUTING := any_batch baselines batching cached_training checkpoints cif_mmin collator encoders features losses metrics \
  modeling pipeline processing resuming trainer transcription transformer transformers_suites

test-portable: .venv/suites  ## Run the tests that compute as older processors would, on one thread and on two
	set -e; for capability in default avx2 ""; do for threads in 1 2; do \
	  echo "ATEN_CPU_CAPABILITY=$$capability OMP_NUM_THREADS=$$threads"; \
	  env $${capability:+ATEN_CPU_CAPABILITY=$$capability} OMP_NUM_THREADS=$$threads \
	    $(BIN)/python -m pytest -n $$(( ($(WORKERS) + threads - 1) / threads )) $(SHARED) $(COMPUTING:%=tests/test_%.py); \
	done; done

lint: .venv/installed-dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed-dev  ## Apply what lint asks for, as far as ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environments and caches; runs/ stays
	rm -rf .venv .venv-newest .venv-oldest build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The suites are in transformers' source distribution alone, and are of the version that is installed. They are unpacked
# beside and renamed, so they are whole or not there; the package's marker file is not in the distribution.
%/suites: %/installed
	set -e; version=$$($*/bin/python -c "import importlib.metadata as of; print(of.version('transformers'))"); \
	suites=$*/transformers-$$version; rm -rf $$suites $$suites.unpacking; mkdir -p $$suites.unpacking; \
	$*/bin/python -m pip download --no-deps --no-binary transformers -d $$suites.unpacking "transformers==$$version"; \
	tar -xzf $$suites.unpacking/transformers-$$version.tar.gz -C $$suites.unpacking --strip-components 1; \
	touch $$suites.unpacking/tests/__init__.py; mv $$suites.unpacking $$suites
	@touch $@

# The stamps are written last, so an install that was interrupted or failed is taken up again by the next make.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

# Made anew: what is newest changes, and an environment that was there would keep what it has.
.venv-newest/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install -e ".[test]"
	@touch $@

.venv-oldest/installed: pyproject.toml scripts/lowest_versions.py
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) scripts/lowest_versions.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install -c .venv-oldest/constraints.txt -e ".[test]"
	@touch $@
