# `make demo` and `make test` set up all they need: uv in .tools, the locked environment in .venv.
PYTHON ?= python3.11
UV := .tools/bin/uv
BIN := .venv/bin
READY := .venv/.ready
DEMO ?= demo
BENCH ?= runs/bench

# Ray imports 12,000 files; without compiled ones a session starts three times slower.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format bench clean

demo: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docs/demo.sh $(DEMO)

test: check
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The measures of scale, in one table; on a machine that does nothing else. About ten minutes on two cores.
bench: $(READY)
	$(BIN)/python benchmarks/scale.py $(BENCH)

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv

$(READY): pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --compile-bytecode --quiet
	@touch $(READY)

clean:
	rm -rf .venv .tools $(DEMO)
