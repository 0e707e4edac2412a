# Each target sets itself up; `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test check bench clean

help:  ## show the targets
	@grep -hE '^[a-z.]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

.venv: .venv/.installed  ## set up the environment from requirements.lock

.venv/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv  ## run the flights project: prepare, train, evaluate; then three dates of its schedule
	$(BIN)/python projects/flights/demo.py

test: .venv  ## run every test
	$(BIN)/python -m pytest $(ARGS)

bench: .venv  ## measure, side by side with the tools it replaces
	$(BIN)/python projects/benchmarks/bench.py

check: .venv  ## run all checks, in CI's order
	@echo "== notebooks are clean"
	@find nbs -name '*.ipynb' -exec sha256sum {} + > .venv/.notebooks
	@$(BIN)/nbdev-clean && sha256sum --quiet --check .venv/.notebooks
	@echo "== modules are in step with their notebooks"
	@$(BIN)/mltoolkit export --check
	@echo "== notebooks and jobs keep the conventions"
	@$(BIN)/mltoolkit check
	@echo "== ruff and mypy"
	@$(BIN)/ruff check && $(BIN)/mypy
	@echo "== notebooks run"
	@$(BIN)/nbdev-test --do-print --n-workers 2 --pause 0
	@echo "== tests"
	@$(MAKE) --no-print-directory test ARGS="--cov --cov-report=term:skip-covered"
	@echo "== the wheel works in an empty environment"
	@rm -rf dist build && $(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	@rm -rf build/wheel && $(BIN)/uv venv --quiet --python $(BIN)/python build/wheel
	@$(BIN)/uv pip install --quiet --python build/wheel/bin/python --constraint requirements.lock "mltoolkit[flights] @ file://$(CURDIR)/$$(ls dist/*.whl)"
	@cp -r projects/flights build/wheel/flights && printf '[mltoolkit]\n' > build/wheel/settings.ini
	@build/wheel/bin/mltoolkit run build/wheel/flights/01_prepare.ipynb -p month 1
	@rm -rf build dist

clean:  ## remove the environment and local state
	rm -rf .venv .mltoolkit build dist ./*.egg-info
