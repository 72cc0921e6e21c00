# `make demo` and `make test` need nothing but Python 3.10 or newer, make, and pip's package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT := demo-out
DEMO_CLASSES := sky, mountain|peak|rock, tree|forest, grass|meadow, water|river, building|temple, road|pavement, flower, leaves|plant, cat, person, cup|coffee, table, wall

.PHONY: demo test clean

demo: $(VENV)/installed
	$(BIN)/ovseg segment examples/photos --classes "$(DEMO_CLASSES)" -o $(DEMO_OUT) --overwrite
	@echo
	@echo "The result is in $(DEMO_OUT): overlays/ to look at, labels/ for programs, stats.csv for tables."

test: $(VENV)/installed-test
	$(BIN)/python -m pytest

$(VENV)/installed: $(VENV)/bin/pip setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/bin/pip setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	@touch $(VENV)/installed $@

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "make: Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments;" \
			"on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(DEMO_OUT) build dist *.egg-info
