# make          say what can be made
# make course   run the whole course headless (MODE=quick for a short one)
# make lab      read and run it in JupyterLab
# make test     linter, unit tests, and every notebook on reduced epochs
# make test-slow   the tests that take longer: every check on every planted failure, our attacks beside the published ones
# make test-browser   read the course in a real JupyterLab with a headless Chromium, and move its sliders; skips without one
# make site     the course as web pages in build/site, as `make course` ran it last (what changed since runs in quick mode)
# make outputs  run the course and put its text and pictures into notebooks/, ready to commit
# make slides   slides of the course for a lecture, in build/slides
# make links    write the links between notebooks, and into Colab and Binder
# make bench    time the attack and the training loop beside others', and the sliders; writes results/benchmarks/
# make results  train what notebooks 01 to 08 read from results/ (STAGE=cifar10: on photographs, if CIFAR-10 is at hand)
# make clean    remove what the runs above left, but neither .venv nor trained runs, which cost time to make again

PYTHON ?= python3
MODE ?= laptop
STAGE ?= digits
PY := .venv/bin/python

.PHONY: help course lab test test-slow test-browser site outputs links results slides bench clean

help:
	@sed -n 's/^# \(make .*\)/\1/p;/^$$/q' Makefile

course: .venv/installed
	$(PY) ci/run_notebooks.py --mode $(MODE)

lab: .venv/installed
	$(PY) -m jupyter trust notebooks/*.ipynb
	$(PY) -m jupyter lab notebooks

test: .venv/tested
	$(PY) -m ruff check
	$(PY) -m pytest -n 2
	$(PY) ci/lint_notebooks.py
	$(PY) ci/run_notebooks.py --mode quick

test-slow: .venv/tested
	$(PY) -m pytest -n 2 -m slow

test-browser: .venv/tested .venv/documented
	$(PY) -m pytest -rsx ci/browser

site: .venv/installed .venv/documented
	$(PY) ci/pages.py

outputs: .venv/installed
	$(PY) ci/run_notebooks.py --mode laptop --write-outputs
	$(PY) ci/picture.py notebooks/05_srat_training.ipynb photographs results/photographs.png

slides: .venv/installed
	$(PY) ci/slides.py

links: .venv/installed
	$(PY) ci/links.py

results: .venv/installed
	$(PY) -m srat_utils.course.studies $(STAGE) --laptop

bench: .venv/tested build/peers/installed
	$(PY) benchmarks/bench.py
	$(PY) ci/browser/latency.py

# Without what they require: their pins clash with JupyterLab's, and the attacks need nothing else.
build/peers/installed: benchmarks/requirements.txt
	$(PY) -m pip install --quiet --upgrade --no-deps --target build/peers -r $<
	@touch $@

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info

.venv/installed: pyproject.toml requirements.txt $(wildcard requirements/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: name one, as in  make $(MAKECMDGOALS) PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo 'This Python cannot make virtual environments: install its venv package (Debian, Ubuntu: python3-venv)'; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements.txt -e .
	@touch $@

.venv/tested: .venv/installed ci/requirements.txt
	$(PY) -m pip install --quiet -r ci/requirements.txt
	@touch $@

.venv/documented: .venv/installed docs/requirements.txt
	$(PY) -m pip install --quiet -r docs/requirements.txt
	@touch $@
