# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
.PHONY: setup lab test check bench lock clean help
BIN := .venv/bin

setup: ## make this machine ready (root, Debian or Ubuntu); at once if it is
	@tools/setup

lab: setup ## bring up the data center in a box and show what it does
	$(BIN)/serai lab up
	$(BIN)/serai lab tour

test: setup check ## all checks, then all tests
	$(BIN)/pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20

check: setup ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## measure the promised numbers
	$(BIN)/python -m bench

lock: setup ## choose new versions of the Python packages
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --group dev pyproject.toml -o requirements.lock

clean: ## remove everything that was built (a running lab stays: serai lab down)
	rm -rf .venv build dist src/serai/datapath/gate.o
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
