# Needs Python 3.11 or later, git and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint lock clean

UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV := $(BIN)/python .ci/uv

# The first interpreter that is new enough; `make PYTHON=…` names another.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13 python3.14; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Install everything into .venv

demo: $(INSTALLED) ## Deploy a sample service on this machine; DEMO_ARGS=--yes approves by itself
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/erlmcp-deploy demo $(DEMO_ARGS)

test: $(INSTALLED) ## Run the tests, several files at a time; TEST_ARGS="-n 0 -k audit" runs some, one by one
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n 3 --dist loadfile $(TEST_ARGS)

bench: $(INSTALLED) ## Measure, as ratios within one run
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m sandbox.bench

lint: $(INSTALLED) ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock: $(VENV)/.uv ## Fix the newest allowed versions in requirements.lock
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-emit-index-url --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

clean: ## Remove .venv and everything that was generated
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .sandbox dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.lock pyproject.toml $(VENV)/.uv
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirement requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# pip comes with the environment and brings uv, which installs the locked set in seconds.
$(VENV)/.uv:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or later, e.g. apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: $(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@
