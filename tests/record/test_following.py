"""Following: MLflow runs that a notebook leaves open end as it did. Real kernels: tests/execution/test_faults_process.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mltoolkit.errors import Status
from mltoolkit.record import tracking
from mltoolkit.record.following import FOLLOWING, RUNS, _note, end_runs, open_runs

SCRIPT = FOLLOWING + """
import mlflow
mlflow.start_run(run_name="ended by itself")
mlflow.end_run("FAILED")
mlflow.start_run(run_name="outer")
with mlflow.start_run(run_name="inner", nested=True): pass
given = mlflow.MlflowClient().create_run("0", run_name="somebody's own")
"""


def states(root: Path) -> dict[str, str]:
    return {run.info.run_name: run.info.status for run in tracking.client(root).search_runs(["0"])}


@pytest.mark.parametrize("status", [Status.succeeded, Status.failed, Status.cancelled])
def test_what_is_left_open_ends_with_the_notebook(status: Status, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_NOTES", str(tmp_path))
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True)
    mine = {"ended by itself": "FAILED", "inner": "FINISHED", "somebody's own": "RUNNING"}
    assert states(workspace) == mine | {"outer": "RUNNING"}, "MLflow's exit handler says nothing"
    assert end_runs(tmp_path, status) == []
    assert states(workspace) == mine | {"outer": status.mlflow}


def test_nothing_noted_is_nothing_to_do(tmp_path: Path) -> None:
    assert end_runs(tmp_path, Status.failed) == []
    program = f"import sys\nfrom mltoolkit.record.following import end_runs\nend_runs({str(tmp_path)!r}, 'failed')\nsys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_a_line_cut_off_with_the_kernel_and_a_run_that_is_not_there(workspace: Path, tmp_path: Path) -> None:
    store = f"sqlite:///{workspace}/.mltoolkit/mlflow.db"
    _note(tmp_path / RUNS, "started", "0" * 32, store)
    with (tmp_path / RUNS).open("a") as file:
        file.write('["started", "11')
    assert open_runs(tmp_path) == {"0" * 32: store}
    [said] = end_runs(tmp_path, Status.failed)
    assert said.startswith(f"the MLflow run {'0' * 32} could not be ended as FAILED: ")


def test_no_password_is_noted_and_a_relative_path_means_the_same_to_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _note(tmp_path / RUNS, "started", "a", "postgresql://someone:swordfish@db.example.org/mlflow")
    _note(tmp_path / RUNS, "started", "b", "sqlite:///mlflow.db")
    noted = [json.loads(line) for line in (tmp_path / RUNS).read_text().splitlines()]
    assert [uri for _, _, uri in noted] == ["postgresql://db.example.org/mlflow", f"sqlite:///{tmp_path}/mlflow.db"]
