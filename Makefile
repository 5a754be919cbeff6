# `make` lists the targets. Targets that need .venv create it, and update it when the requirements change.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2# processes that run the tests, with one thread each

.DEFAULT_GOAL := help
.PHONY: help demo space docs test test-portable test-newest test-oldest test-space lint format clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed  ## Train and evaluate on the demo corpus; the results are in runs/demo
	$(BIN)/python scripts/make_demo_encoders.py runs/demo_encoders
	$(BIN)/python train.py recipes/demo.yaml

space: .venv-space/installed  ## Open the page in the browser, with the model of the package (mmer space)
	.venv-space/bin/mmer space

docs: .venv/installed  ## Build the documentation site in runs/site; a broken link or docstring is an error
	$(BIN)/python -m mkdocs build --strict

# The tests of a file share fixtures. tests/conftest.py puts the longest files first.
SHARED := --dist loadfile --no-loadscope-reorder
TEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -n $(WORKERS) $(SHARED)

test: .venv/suites  ## Run all tests, including transformers' common test suites
	$(call TEST,.venv)

test-newest: .venv-newest/suites  ## Run all tests with the newest versions that pyproject.toml allows, in .venv-newest
	$(call TEST,.venv-newest)

test-oldest: .venv-oldest/suites  ## Run all tests with the lowest versions that pyproject.toml allows, in .venv-oldest
	$(call TEST,.venv-oldest)

BROWSER ?= $(shell command -v chromium || command -v google-chrome)

test-space: .venv-space/installed  ## Run the tests of the page, in a browser (BROWSER=path of a Chromium) and, as root, its Dockerfile
	MMER_BROWSER=$(BROWSER) OMP_NUM_THREADS=1 .venv-space/bin/python -m pytest tests/space

# Test modules whose numerical results could depend on vector instructions or the number of threads.
COMPUTING := any_batch autoencoder baselines batching cached_training checkpoints cif_mmin collator contrastive \
  encoder_weights encoders features losses metrics modeling pipeline processing resuming trainer transcription \
  transformer transformers_suites

test-portable: .venv/suites  ## Run numerical tests with the instructions of older processors, on one and two threads
	set -e; for capability in default avx2 ""; do for threads in 1 2; do \
	  echo "ATEN_CPU_CAPABILITY=$$capability OMP_NUM_THREADS=$$threads"; \
	  env $${capability:+ATEN_CPU_CAPABILITY=$$capability} OMP_NUM_THREADS=$$threads \
	    $(BIN)/python -m pytest -n $$(( ($(WORKERS) + threads - 1) / threads )) $(SHARED) $(wildcard $(COMPUTING:%=tests/*/test_%.py)); \
	done; done

lint: .venv/installed-dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed-dev  ## Fix style and formatting, as far as ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove environments and caches, but not runs/
	rm -rf .venv .venv-newest .venv-oldest .venv-space build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The test suites of the installed transformers version are only in its source distribution. They are unpacked to a
# temporary folder and renamed, so that they are complete. The distribution lacks tests/__init__.py.
%/suites: %/installed
	set -e; version=$$($*/bin/python -c "import importlib.metadata as of; print(of.version('transformers'))"); \
	suites=$*/transformers-$$version; rm -rf $$suites $$suites.unpacking; mkdir -p $$suites.unpacking; \
	$*/bin/python -m pip download --no-deps --no-binary transformers -d $$suites.unpacking "transformers==$$version"; \
	tar -xzf $$suites.unpacking/transformers-$$version.tar.gz -C $$suites.unpacking --strip-components 1; \
	touch $$suites.unpacking/tests/__init__.py; mv $$suites.unpacking $$suites
	@touch $@

# The stamps are written last, so that the next make repeats an install that was interrupted or failed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

# Always created anew, because an existing environment would keep its versions.
.venv-newest/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install -e ".[test]"
	@touch $@

# Apart from .venv, whose pillow is newer than gradio allows.
.venv-space/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv-space
	grep -vi '^pillow==' constraints.txt > .venv-space/constraints.txt
	.venv-space/bin/python -m pip install -c .venv-space/constraints.txt -e ".[test-space]"
	@touch $@

.venv-oldest/installed: pyproject.toml scripts/lowest_versions.py
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) scripts/lowest_versions.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install -c .venv-oldest/constraints.txt -e ".[test]"
	@touch $@
