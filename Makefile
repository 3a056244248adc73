# make run     install what is needed and run the benchmark of luigi.cfg (ARGS="--dataset folder --videos DIR" adds to it)
# make test    install what the tests need and run lint, import contracts, types and tests
# make status  what is done, what is to do

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: run test status clean

run: .venv/installed
	$(BIN)/luigi --module tasks RunBenchmark $(ARGS)

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy pipeline extractors model tasks
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

status: .venv/installed
	$(BIN)/python -m tasks status $(ARGS)

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
