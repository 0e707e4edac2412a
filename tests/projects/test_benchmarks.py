"""The benchmarks run, and their tables are complete. What they measure is not judged here."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mltoolkit.notebook import document
from mltoolkit.notebook.parameters import contract

PROJECT = Path(__file__).parents[2] / "projects" / "benchmarks"
TINY = {"rounds": 1, "warm_up": False, "cells": [3], "output_mb": 0.0, "rows": 1000}
TOOLS = [
    "papermill.execute_notebook", "papermill", "jupyter execute", "nbclient", "nbclient, spared an import",
    "mltoolkit.run_notebook", "mltoolkit run", "papermill --engine mltoolkit",
]  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's use of SQLAlchemy 2.1


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script that `make bench` calls."""
    spec = importlib.util.spec_from_file_location("bench", PROJECT / "bench.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(PROJECT.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quick": False, "repeat": 0}, {}),
        ({"quick": False, "repeat": 9}, {"rounds": 9}),
        ({"quick": True, "repeat": 3}, {"rounds": 3}),
    ],
)
def test_options_are_parameters_of_every_notebook(bench: ModuleType, options: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sorted(path.name for path in PROJECT.glob("*.ipynb")) == bench.NOTEBOOKS
    for name in bench.NOTEBOOKS:
        given = bench.parameters(argparse.Namespace(**options), name)
        assert (given if expected == {} else {each: given[each] for each in expected}) == expected
        assert contract(document.read(PROJECT / name)).check(given) == given
        assert (len(given) > 1) == options["quick"]


def test_the_tables_have_every_row(bench: ModuleType, workspace: Path) -> None:
    from mltoolkit import run_notebook

    project = Path(shutil.copytree(PROJECT, workspace / "projects" / "benchmarks"))
    run = run_notebook(project / "01_engine.ipynb", parameters=TINY)
    printed = bench.tables(run)
    lines = [line.strip() for line in printed.splitlines()]
    for tool in TOOLS:
        assert run.metrics[f"{tool}, 3 cells".replace(",", "").replace("--", "")] > 0
        assert any(line.removeprefix("3 cells").strip().startswith(f"{tool} ") for line in lines), tool
    for row in ("mltoolkit --help", "a run without tracking", "a run with tracking", "import mlflow", "in a live process, tracked", "tracking adds", "digest of 1,000 rows"):
        assert any(line.startswith(row) for line in lines), row
    assert printed.count("reached") == 1 + printed.count("≤") + printed.count("≥")
    assert "one digest in all runs: True" in printed


def test_views_are_measured(bench: ModuleType, workspace: Path) -> None:
    from mltoolkit import run_notebook

    project = Path(shutil.copytree(PROJECT, workspace / "projects" / "benchmarks"))
    run = run_notebook(project / "08_views.ipynb", parameters={"rounds": 1, "runs": 50, "cells": 5})
    printed = bench.tables(run)
    for row in ("form ", "board of 50 runs ", "messages a second ", "a form, seconds", "a board of 50 runs, seconds", "the same, the first in a warm kernel", "a live run of 5 cells, updates in its busiest second"):
        assert any(line.strip().startswith(row) for line in printed.splitlines()), row
    assert len(run.metrics) == 4
    assert all(value > 0 for value in run.metrics.values())
