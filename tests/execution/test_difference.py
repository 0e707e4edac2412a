"""What changed between two runs, as text, JSON and a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from conftest import markdown, notebook_of, tagged

from mltoolkit.cli import main
from mltoolkit.errors import Invalid
from mltoolkit.execution import difference
from mltoolkit.execution.run import run_notebook
from mltoolkit.record import manifest, runs
from mltoolkit.record.dataset import save_dataset


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


READ = "from mltoolkit import load_dataset, save_dataset\nflights = load_dataset('flights', version)\nprint(flights.delay.sum())"


@pytest.fixture
def pair(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> tuple[manifest.Run, manifest.Run]:
    """Two runs that differ in everything that a record knows."""
    save_dataset(pd.DataFrame({"delay": [1, 2, 3, None], "carrier": ["UA", "UA", "AA", "B6"], "same": [1, 2, 3, 4], "gone": [1, 1, 1, 1]}), "flights")
    save_dataset(pd.DataFrame({"delay": [1, 2, 3, 40.0], "carrier": ["UA", "AA", "AA", None], "same": [1, 2, 3, 4], "new": [[1], [2], [], [3]]}), "flights")
    cells = [markdown("# Delays"), READ, "same = 1\nprint('same')", "depth = 3\nprint('depth', depth)", "print('<script>alert(1)</script>')"]
    one = run_notebook(write("a.ipynb", *cells, parameters="version: int = 1\nname: str = 'x'", kernel=tiny), track=False)
    cells[3:4] = ["depth = 5\nprint('depth', depth)", tagged("save_dataset(flights, 'result')", "written")]
    other = run_notebook(write("a.ipynb", *cells, parameters="version: int = 1\nname: str = 'x'", kernel=tiny), parameters={"version": 2}, track=False)
    for run, facts in ((one, {"pandas": "2.9.0", "old": "1", "odd": "x"}), (other, {"pandas": "2.10.0", "new": "2", "odd": "y"})):
        run.environment.packages = facts
        run.metrics = {"auc": 0.75 if run is one else 0.5, "loss": float("nan"), **({} if run is one else {"rows": 4.0})}
        run.git = manifest.GitState(commit=("a" if run is one else "b") * 40, dirty=run is other)
        (runs.runs_folder(bare_workspace) / run.run_id / runs.MANIFEST).write_text(run.to_json())
    return one, other


def test_everything_that_changed_is_there(pair: tuple[manifest.Run, manifest.Run], bare_workspace: Path) -> None:
    one, other = pair
    done = cli("diff", one.run_id[:12], other.run_id, "--json", "--page", "both.html")
    told = json.loads(done.stdout)
    assert told["run_ids"] == [one.run_id, other.run_id]
    assert told["parameters"] == [{"name": "version", "before": 1, "after": 2, "difference": 1}]
    assert [(each["kind"], each["before"], each["after"]) for each in told["code"]] == [("changed", 4, 5), ("added", None, 6)]
    assert told["code"][0]["lines"][1:] == ["-depth = 3", "+depth = 5", " print('depth', depth)"]
    assert told["commit"] == ["a" * 40, "b" * 40 + "+"]
    assert (told["environment"], told["ending"]) == ([], [])
    assert {each["name"]: (each["before"], each["after"]) for each in told["packages"]} == {"pandas": ("2.9.0", "2.10.0"), "old": ("1", None), "odd": ("x", "y"), "new": (None, "2")}
    assert [(each["name"], each["before"], each["after"], each["difference"]) for each in told["metrics"]] == [("auc", 0.75, 0.5, -0.25), ("rows", None, 4.0, None)]
    assert {each["name"] for each in told["cost"]} >= {"duration_s"}
    read, written = told["data"]
    assert (read["event"], read["versions"], read["rows"]) == ("read", [1, 2], [4, 4])
    assert read["digests"] == [one.datasets[0].digest, other.datasets[0].digest]
    assert [(each["name"], each["before"], each["after"]) for each in read["schema"]] == [("gone", "int64", None), ("new", None, "list<item: int64>")]
    assert read["columns"]["delay"][0] == {"rows": 4, "missing": 1, "mean": 2.0, "least": 1.0, "quartiles": [1.5, 2.0, 2.5], "greatest": 3.0}
    assert read["columns"]["carrier"][0] == {"rows": 4, "missing": 0, "distinct": 3, "commonest": {"UA": 0.5, "AA": 0.25, "B6": 0.25}}
    assert read["columns"].keys() == {"delay", "carrier"}
    assert (written["event"], written["name"], written["versions"]) == ("written", "result", [None, 1])
    assert told["outputs"]["verdict"] == "different"
    assert [(each["what"], each["original"], each["repeated"]) for each in told["outputs"]["differences"]][:2] == [("stdout", "6.0", "46.0"), ("stdout", "depth 3", "depth 5")]

    text = cli("diff", one.run_id, other.run_id).stdout
    for line in (
        "parameters\n  version: 1 -> 2 (+1)\n", "  cell 5 -> 6 changed\n    -depth = 3\n    +depth = 5\n", "  pandas: 2.9.0 -> 2.10.0 (up)\n", "  old: removed 1\n", "  new: added 2\n",
        "  odd: x -> y (changed)\n", f"  read flights: version 1 (4 rows, {one.datasets[0].digest[:8]}) -> version 2", "    column delay, mean: 2 -> 11.5 (+9.5)\n", "    column gone: int64 -> (none)\n",
        "  written result: (none) -> version 1", "metrics\n  auc: 0.75 -> 0.5 (-0.25)\n  rows: (none) -> 4\n", "  cell 3, stdout: '6.0' became '46.0'\n",
    ):  # fmt: skip
        assert line in text, (line, text)
    assert "ending" not in text
    back = cli("diff", other.run_id, one.run_id).stdout
    assert "  pandas: 2.10.0 -> 2.9.0 (down)\n" in back
    assert "  cell 7 removed\n" in back
    _page(bare_workspace / "both.html", one)
    _same_and_gone(one, other, bare_workspace)


def _page(path: Path, one: manifest.Run) -> None:
    content = path.read_text()
    assert "<script" not in content
    assert "&lt;script&gt;alert(1)" in content
    assert content.count('<div class="pair">') >= 3
    assert f">a {one.run_id[:8]}</p>" in content
    assert "default-src 'none'" in content
    assert "<h2>Packages</h2>" in content


def _same_and_gone(one: manifest.Run, other: manifest.Run, bare_workspace: Path) -> None:
    assert difference.text(difference.compare(one, one)) == "nothing differs"
    assert "Cost" not in difference.page(difference.compare(one, one))
    shutil.rmtree(bare_workspace / ".mltoolkit/data/flights")
    [read, _] = difference.compare(one, other).data
    assert read.note.startswith("the content cannot be compared: ")
    assert "the content cannot be compared" in difference.text(difference.compare(one, other))
    failed = other.model_copy(update={"failure": manifest.Failure(message="no"), "seed": 7})
    text = difference.text(difference.compare(one, failed))
    assert "ending\n  failure: (none) -> no\n" in text
    assert "environment\n  seed: 0 -> 7 (+7)\n" in text
    assert cli("diff", one.run_id, "zzz").exit_code == 2
    done = cli("diff", one.run_id, other.run_id, "--page", "no/where.html")
    assert (done.exit_code, done.stdout) == (2, "")
    for file in (runs.runs_folder(bare_workspace) / one.run_id).glob("*.ipynb"):
        file.unlink()
    with pytest.raises(Invalid, match="the executed notebook is not in"):
        difference.compare(one, other)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([None, None], pa.int8()), {"rows": 2, "missing": 2}),
        (pa.array([Decimal(1), Decimal(2), None], pa.decimal128(5, 2)), {"rows": 3, "missing": 1, "mean": 1.5, "least": 1.0, "quartiles": [1.25, 1.5, 1.75], "greatest": 2.0}),
        (pa.array([True, False, True]), {"rows": 3, "missing": 0, "distinct": 2, "commonest": {"True": 0.6667, "False": 0.3333}}),
        (pa.array(["a", "b", "a"]).dictionary_encode(), {"rows": 3, "missing": 0, "distinct": 2, "commonest": {"a": 0.6667, "b": 0.3333}}),
        (pa.array([[1], [2]]), {"rows": 2, "missing": 0}),
    ],
)  # fmt: skip
def test_a_column_is_described_by_its_kind(values: pa.Array, expected: dict[str, Any]) -> None:
    assert difference.distribution(pa.chunked_array([values])) == expected


def test_cells_that_a_run_wrote_are_no_change_of_code() -> None:
    one, other = notebook_of("1", tagged("n = 1", "injected-parameters")), notebook_of("1", tagged("n = 2", "injected-parameters"))
    assert difference.code_changes(one, other, difference.compare_notebooks(one, other)) == []
