# Every target sets up what it needs by itself, from a fresh checkout.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# A stamp for each set of requirements, so that nobody waits for what a target does not need.
TORCH := $(VENV)/.torch
DEMO := $(VENV)/.demo
TEST := $(VENV)/.test
LINT := $(VENV)/.lint
DEV := $(VENV)/.dev

.PHONY: venv check test test-long fast lint format wheel bench bench-probe bench-mutations bench-faults fuzz screenshots clean

venv: $(DEV)

# torch first and alone: the constraint then decides which build every later requirement is resolved against.
$(TORCH): constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	@touch $@

$(DEMO) $(TEST) $(LINT) $(DEV): $(VENV)/.%: $(TORCH) pyproject.toml
	$(PIP) --editable '.[$*]'
	@$(BIN)/python -m compileall -q lrlint rules  # quick from the first call on
	@touch $@

# Succeeds exactly when the demo's seeded faults, and nothing else, were found on their lines.
check: $(DEMO)
	@PATH="$(abspath $(BIN)):$$PATH" python examples/verify.py examples/gpt2_finetune.py

test: $(TEST)
	$(BIN)/python -m pytest -n 2 --durations=15

# Everything: also what `make test` samples, every seeded fault on every model it can be planted in.
test-long: $(TEST)
	$(BIN)/python -m pytest -n 2 -m "long or not long"

# Seconds: facts, rules' engine, configuration and formats, all without torch.
fast: $(TEST)
	$(BIN)/python -m pytest $(FAST)

FAST := tests/config tests/facts/test_codec.py tests/lint tests/text/test_names.py

lint: $(LINT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(LINT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The wheel is built, installed into a fresh environment and used from there.
wheel: $(DEV)
	$(BIN)/python .ci/wheel.py

bench: $(TEST)
	$(BIN)/python benchmarks/speed.py

bench-probe: $(TEST)
	$(BIN)/python -m benchmarks.probe

# How many small faults in the rules their own fixtures notice.
bench-mutations: $(TEST)
	$(BIN)/python -m benchmarks.rule_mutations

# Pairs of a faulty and a fixed setup from public reports: recall by kind, and findings on the fixed twins.
bench-faults: $(TEST)
	$(BIN)/python -m benchmarks.faults

# What nobody wrote: fuzzed inputs for so many minutes, hostile targets between good ones, generated setups in training.
MINUTES ?= 2
fuzz: $(TEST)
	$(BIN)/python -m benchmarks.fuzz.inputs --minutes $(MINUTES)
	$(BIN)/python -m benchmarks.fuzz.run_hostile 2> /dev/null
	$(BIN)/python -m benchmarks.fuzz.setups --count 500

# The pictures in docs/, with the Chromium of this machine.
screenshots: $(DEMO)
	$(BIN)/python benchmarks/screenshots.py

clean:
	rm -rf $(VENV) build dist *.egg-info
