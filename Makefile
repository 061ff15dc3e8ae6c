# The course in two commands: `make course` runs it headless, `make lab` opens it.  `make test` checks everything.
PYTHON ?= python3
MODE ?= laptop
BIN := .venv/bin

.PHONY: course lab test outputs clean

course: .venv/.course
	$(BIN)/python ci/run_notebooks.py --mode $(MODE)

lab: .venv/.course
	$(BIN)/jupyter trust notebooks/*.ipynb
	$(BIN)/jupyter lab --notebook-dir notebooks

test: .venv/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	$(BIN)/python ci/lint_notebooks.py
	$(BIN)/python ci/run_notebooks.py --mode quick
	$(BIN)/pytest

outputs: .venv/.course
	$(BIN)/python ci/run_notebooks.py --mode laptop --write-outputs

.venv/.course: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "This course needs Python 3.10 or newer; call e.g. make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/.test: .venv/.course ci/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r ci/requirements.txt
	@touch $@

clean:
	rm -rf build runs
