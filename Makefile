# `make` lists the targets. Those that need an environment build .venv first, and rebuild it when the requirements change.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint format clean
TRANSFORMERS := $(shell sed -n 's/^transformers==//p' constraints.txt)
SUITES := .venv/transformers-$(TRANSFORMERS)

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed  ## Train and evaluate on the demo corpus; the results are in runs/demo
	$(BIN)/python scripts/make_demo_encoders.py runs/demo_encoders
	$(BIN)/python train.py recipes/demo.yaml

test: .venv/installed $(SUITES)/tests  ## Run the tests, transformers' own suites among them
	$(BIN)/python -m pytest

lint: .venv/installed-dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed-dev  ## Apply what lint asks for, as far as ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove .venv and caches; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The suites are in transformers' source distribution alone. They are unpacked beside and renamed, so they are whole or
# not there; the package's marker file is not in the distribution.
$(SUITES)/tests: .venv/installed
	rm -rf $(SUITES) $(SUITES).unpacking
	mkdir -p $(SUITES).unpacking
	$(BIN)/python -m pip download --no-deps --no-binary transformers -d $(SUITES).unpacking "transformers==$(TRANSFORMERS)"
	tar -xzf $(SUITES).unpacking/transformers-$(TRANSFORMERS).tar.gz -C $(SUITES).unpacking --strip-components 1
	touch $(SUITES).unpacking/tests/__init__.py
	mv $(SUITES).unpacking $(SUITES)
	touch $(SUITES)/tests

# The stamps are written last, so an install that was interrupted or failed is taken up again by the next make.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@
