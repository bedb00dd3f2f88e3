# Where everything is built; the stamp tells when that was last done.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
# How many processes share the tests; 0 runs them in pytest's own.
WORKERS ?= 2
# Servers, processes and signals share a busy machine with the tests: what failed is tried once more
# and listed. Tests of what a store may never get wrong have one try (tests/store/conftest.py).
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --reruns 1 -raR
NOTEBOOKS := first_look pipeline_graph langchain_chains langchain_agent

.DEFAULT_GOAL := help
.PHONY: help setup demo notebooks test test-all lint types imports clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1	\2/' | expand -t 16

setup: $(STAMP) ## build .venv with everything; does nothing when it is up to date

$(STAMP): pyproject.toml scripts/setup.sh scripts/constraints.txt
	@PYTHON="$(PYTHON)" bash scripts/setup.sh
	@touch $@

demo: setup ## ask a local model about the documents in examples/documents
	@$(BIN)/python examples/demo.py

notebooks: setup ## run the notebooks in examples/, and keep them as .ipynb with their pictures
	cd examples && ../$(BIN)/jupytext --quiet --to ipynb $(NOTEBOOKS:=.py)
	cd examples && ../$(BIN)/jupyter-execute --inplace --timeout=900 $(NOTEBOOKS:=.ipynb)

# One thread for each worker: more would wait for one another's cores. No test may reach a hub.
test test-all: export OMP_NUM_THREADS := 1
test test-all: export HF_HUB_OFFLINE := 1

test: setup ## run the tests, without the long ones
	$(PYTEST) -m "not slow"

test-all: setup ## run all tests
	$(PYTEST)

lint: setup ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## check types
	$(BIN)/mypy

imports: setup ## check which room imports which
	$(BIN)/lint-imports

clean: ## remove .venv and all that tools have left
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
