# Every target sets up what it needs by itself, from a fresh checkout.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: venv check test lint bench bench-probe bench-faults clean

venv: $(INSTALLED)

# torch first and alone: the constraint then decides which build every later requirement is resolved against.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q lrlint rules  # quick from the first call on
	@touch $@

# Succeeds exactly when the demo's seeded faults, and nothing else, were found on their lines.
check: venv
	@PATH="$(abspath $(BIN)):$$PATH" python examples/verify.py examples/gpt2_finetune.py

test: venv
	$(BIN)/python -m pytest -n 2

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv
	$(BIN)/python benchmarks/speed.py

bench-probe: venv
	$(BIN)/python -m benchmarks.probe

# Pairs of a faulty and a fixed setup from public reports: recall by kind, and findings on the fixed twins.
bench-faults: venv
	$(BIN)/python -m benchmarks.faults

clean:
	rm -rf $(VENV) build dist *.egg-info
