# One environment in .venv serves every target but `rivals`; it is made once, and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made-from-pyproject
RIVALS := .venv-rivals/bin

.DEFAULT_GOAL := help
.PHONY: help env demo test test-long test-browser lint format types check docs rivals clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## make the environment in .venv and install the package into it

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: env ## restore a sample photograph and write a comparison sheet
	$(BIN)/blinddiff demo

# A file runs in one process, because its tests share servers, weights and images.
test: env ## run the test suite in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: env ## run the tests that take minutes
	$(BIN)/python -m pytest -m long

test-browser: env ## drive the page in Chromium; installs what that needs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,browser-test]'
	scripts/install_chromium.sh
	$(BIN)/python -m pytest -m browser tests/browser

lint: env ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: env ## put every file into the common format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: env ## check types, strictly
	$(BIN)/mypy

check: lint types test ## everything that has to pass before a commit

docs: env ## build the site into site/, strictly; it loads nothing from other servers
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Without dependencies, because only the models in these packages are used; one by one, because a comparison without one
# of them is still of use, and the script says which are missing.
rivals: ## compare with other models; see docs/evaluation.md for the data it needs
	$(PYTHON) -m venv .venv-rivals
	$(RIVALS)/python -m pip install --quiet --disable-pip-version-check --editable '.[torch]'
	grep -v '^#' scripts/rivals-requirements.txt | while read -r package; do \
	    $(RIVALS)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: "$$package" \
	    || echo "not installed: $$package"; done
	$(RIVALS)/python scripts/compare_rivals.py $(ARGS)

clean: ## remove the environments and every cache
	rm -rf .venv .venv-rivals .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
