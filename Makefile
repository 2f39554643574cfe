# Everything happens in .venv; `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
.PHONY: help run test check bench test-faults test-timescale test-insider fuzz docs
.DEFAULT_GOAL := help
# Bytecode is kept whatever the shell says: the tests start hundreds of processes, and each would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up: installing what constraints.txt pins (a few minutes the first time)"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]' -c constraints.txt || $(BIN)/python -m tests.support.installed
	@touch $(READY)

run: $(READY) ## start everything, with a simulated province; Ctrl-C stops it
	@exec $(BIN)/stackwitness up --demo

test: $(READY) ## run every test
	@.ci/chromium
	@$(BIN)/pytest -n 3 --dist worksteal

check: $(READY) ## formatting, lint, types, layers, and that the docs are true
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/pytest tests/docs

bench: $(READY) ## measure on this machine; results in bench/results
	@$(BIN)/stackwitness bench

test-faults: $(READY) ## break every write and every system call of the log, and print the table
	@$(BIN)/python -m tests.fault

test-timescale: $(READY) ## the database tests on a real TimescaleDB (needs node and npm); FILES="tests/service/test_x.py ..." for some
	@$(BIN)/python -m tests.support.timescale_server $(FILES)

test-insider: $(READY) ## what an insider does, for real, and the check that finds it: the table
	@$(BIN)/python -m tests.insider

fuzz: $(READY) ## 100,000 and more hostile inputs to every parser
	@$(BIN)/python -m tests.fuzz.many

docs: $(READY) ## check that the docs are true
	@$(BIN)/pytest tests/docs
