# make demo: install, train on the bundled speech, predict.   make test: install, run the tests.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install clean

demo: install
	$(BIN)/phoneme-train

test: install
	$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv outputs multirun
