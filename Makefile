# The environment in .venv serves every target but `demo` and `rivals`, which have their own. Environments are made once,
# and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.made-from-pyproject
LIGHT := .venv-light
RIVALS := .venv-rivals/bin
# The included graphs, if there are any, need no torch.
DEMO := $(if $(wildcard src/blinddiff/weights/default/blinddiff.json),$(LIGHT),.venv)

.DEFAULT_GOAL := help
.PHONY: help env demo test test-long test-browser lint format types check docs web rivals clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## make the environment in .venv and install the package into it

$(STAMP): EXTRAS := [dev]
%/.made-from-pyproject: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRAS)'
	@touch $@

demo: $(DEMO)/.made-from-pyproject ## restore a sample photograph and write a comparison sheet, in the light environment
	$(DEMO)/bin/blinddiff demo

# A file runs in one process, because its tests share servers, weights and images.
test: env ## run the test suite in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-long: env ## run the tests that take minutes
	$(BIN)/python -m pytest -m long

test-browser: env ## drive both pages in Chromium; installs what that needs
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

web: env ## build the page that restores photographs in the browser into build/web
	$(BIN)/python scripts/build_web.py $(ARGS)

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
	rm -rf .venv .venv-light .venv-rivals .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
