# Every target makes what it needs first: a virtual environment in .venv, with mfserver installed in it.
#
#   make run  [ARGS="--auth=x509"]     start the server in the foreground; Ctrl-C ends it
#   make test [TESTS=tests.mqtt]       run the tests
#   make check                         all that has to pass before a change lands
#   make fuzz  [FUZZ=3600]             fuzz MQTT and TLS for so many seconds; make test does it for a few,
#                                      the same each time
#   make bench [BENCH="--quick --rows 1,3"]  the server beside Mosquitto: see bench/README.rst
#   make venv                          only the virtual environment
#
# With MFSERVER_MYPYC=1 each of them is about the other build, whose hot modules mypyc has compiled: it is
# installed in .venv-mypyc as a wheel, and the tree stays as it is. "make test-compiled" is short for one.

PYTHON ?= python3
ARGS   ?=
TESTS  ?= tests
JOBS   ?= 2
FUZZ   ?= 3600
BENCH  ?=

ifeq ($(MFSERVER_MYPYC),1)
VENV   ?= .venv-mypyc
export MFSERVER_MYPYC
# Python does not look into the working directory, where the modules that are not compiled are.
export PYTHONSAFEPATH = 1
export PYTHONPATH = $(abspath $(VENV))/tree
else
VENV   ?= .venv
unexport MFSERVER_MYPYC
endif

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

.PHONY: run test test-compiled check lint types coverage fuzz bench venv interop clean

run: $(VENV)/.installed
	@exec $(BIN)/twistd --nodaemon --pidfile= mainflux $(ARGS)

# trial hides what its workers print: the tables of identity and of certificates, how many statements of MQTT
# are proved, and what kills, a full disk and slow subscribers cost are shown when they are done.
SHOW_TABLES = cat $(addprefix _trial_temp/_,identity_table.txt certificates_table.txt mqtt_statements.txt \
    mqtt_figures.txt) 2> /dev/null || true

test: $(VENV)/.tested
	@$(BIN)/python -m twisted.trial --jobs=$(JOBS) --temp-directory=_trial_temp $(TESTS); \
	    status=$$?; $(SHOW_TABLES); exit $$status

test-compiled:
	@$(MAKE) --no-print-directory test MFSERVER_MYPYC=1

check: lint types test

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

types: $(VENV)/.dev
	@$(BIN)/mypy

# Branch coverage of every room, with the bounds that the project keeps.
coverage: $(VENV)/.dev
	@$(BIN)/coverage erase
	@COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(BIN)/coverage run -m twisted.trial \
	    --jobs=$(JOBS) --temp-directory=_trial_temp $(TESTS)
	@$(SHOW_TABLES)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/python tests/coverage_bounds.py

# A failure names the number that repeats it alone: MF_FUZZ_SEED=... make fuzz
fuzz: $(VENV)/.tested
	@MF_FUZZ_SECONDS=$(FUZZ) $(BIN)/python -m twisted.trial --temp-directory=_trial_temp \
	    tests.mqtt.test_fuzz tests.mqtt.test_fuzz_codec tests.adapters.test_mqtt_fuzz tests.tls.test_fuzz

# What is measured is what is installed: of the tree the bench alone is seen.
bench: $(VENV)/.installed $(if $(findstring --plot,$(BENCH)),$(VENV)/.drawing)
	@env -u PYTHONSAFEPATH -u PYTHONPATH $(BIN)/python -m bench $(BENCH)

$(VENV)/.drawing: setup.cfg $(VENV)/.installed
	@echo "installing what draws (once)"
	@$(PIP) install 'mfserver[bench]'
	@touch $@

# Node's ws and mqtt, which some of tests/interop drive; they are skipped without.
interop: tests/interop/node_modules/.package-lock.json

tests/interop/node_modules/.package-lock.json: tests/interop/package.json tests/interop/package-lock.json
	@cd tests/interop && npm ci --silent --no-audit --no-fund

venv: $(VENV)/.installed

$(BIN)/python:
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

ifeq ($(MFSERVER_MYPYC),1)

WHEEL := $(shell find mfserver twisted -name '*.py')

# What is left of an earlier build would be packed into this one's wheel.
$(VENV)/.installed: setup.cfg setup.py pyproject.toml $(WHEEL) | $(BIN)/python
	@echo "compiling mfserver, and installing it with the libraries it stands on"
	@rm -rf build/lib* build/bdist*
	@$(PIP) install .
	@$(BIN)/twistd --help > /dev/null
	@touch $@

# The tests are those of the tree; the modules of the tree are not where Python looks.
TREE := $(filter-out %/build %/mfserver %/twisted,$(wildcard $(CURDIR)/*))

$(VENV)/.tested: setup.cfg $(VENV)/.installed
	@echo "installing what the tests need (once)"
	@$(PIP) install 'mfserver[test]'
	@rm -rf $(VENV)/tree && mkdir $(VENV)/tree && ln -s $(TREE) $(VENV)/tree
	@touch $@

$(VENV)/.dev:
	@echo "the checkers look at the tree: without MFSERVER_MYPYC=1"; false

else

$(VENV)/.installed: setup.cfg setup.py pyproject.toml | $(BIN)/python
	@echo "installing mfserver and the libraries it stands on (once)"
	@$(PIP) install --editable .
	@$(BIN)/twistd --help > /dev/null
	@touch $@

$(VENV)/.tested: setup.cfg $(VENV)/.installed
	@echo "installing what the tests need (once)"
	@$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/.dev: setup.cfg $(VENV)/.tested
	@echo "installing the checkers (once)"
	@$(PIP) install --editable '.[dev]'
	@touch $@

endif

clean:
	@rm -rf .venv .venv-mypyc _trial_temp* .coverage* .mypy_cache .ruff_cache build dist *.egg-info
