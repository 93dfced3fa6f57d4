# `make demo` and `make test` set up all they need: uv in .tools, the locked environment in .venv.
PYTHON ?= python3.11
UV := .tools/bin/uv
BIN := .venv/bin
READY := .venv/.ready
DEMO ?= demo

# Ray imports 12,000 files; without compiled ones a session starts three times slower.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format clean

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

$(UV):
	$(PYTHON) -m venv .tools
	.tools/bin/pip install --quiet --disable-pip-version-check uv

$(READY): pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --compile-bytecode --quiet
	@touch $(READY)

clean:
	rm -rf .venv .tools $(DEMO)
