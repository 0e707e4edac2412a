"""What a run reads and writes, on its record and in MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mltoolkit.record import inputs
from mltoolkit.record.inputs import log_to_active_run, mlflow_input, note, records

# MLflow's own models use a feature that SQLAlchemy 2.1 is going to remove.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

USE = {
    "event": "read",
    "name": "flights/raw",
    "version": 3,
    "digest": "3498738102bbe626c141276de2ab675e",
    "digest_version": 1,
    "rows": 336_776,
    "columns": 19,
    "uri": "/data/flights/raw",
    "fingerprint": "0" * 32,
    "time": "2026-01-01T00:00:00.000+00:00",
}


def test_lines_are_appended_in_order(bare_workspace, monkeypatch):
    folder = bare_workspace / "runs" / "abc"
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(folder))
    assert records(folder) == []
    for version in range(3):
        note({**USE, "version": version})
    assert records(folder) == [{**USE, "version": version} for version in range(3)]
    assert len((folder / "datasets.jsonl").read_text().splitlines()) == 3


def test_lines_of_many_writers_do_not_mix(bare_workspace, monkeypatch):
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(bare_workspace))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda version: note({**USE, "version": version, "owner": "x" * 20_000}), range(200)))
    assert sorted(each["version"] for each in records(bare_workspace)) == list(range(200))


def test_a_line_that_was_cut_off_is_left_out(bare_workspace):
    whole = json.dumps(USE)
    (bare_workspace / "datasets.jsonl").write_text(whole + "\n" + whole[:40])
    assert records(bare_workspace) == [USE]


def test_a_full_disk_is_not_passed_over(bare_workspace, monkeypatch):
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(bare_workspace))
    monkeypatch.setattr(inputs, "RECORDS", "/dev/full")
    with pytest.raises(OSError, match="No space left"):
        note(USE)


def test_the_entity_for_mlflow(bare_workspace):
    import mlflow.data

    entity = mlflow_input(USE)
    assert entity.dataset.name == "flights/raw"
    assert entity.dataset.digest == USE["digest"]
    assert json.loads(entity.dataset.profile) == {"num_rows": 336_776, "num_columns": 19}
    assert {tag.key: tag.value for tag in entity.tags} == {
        "mlflow.data.context": "read",
        "mltoolkit.dataset_version": "3",
        "mltoolkit.digest_version": "1",
    }
    source = mlflow.data.get_source(entity.dataset)
    assert (source.path, source.delta_table_version) == ("/data/flights/raw", 3)


@pytest.fixture
def tracking(workspace, monkeypatch):
    """MLflow over the store of a workspace."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{workspace}/.mltoolkit/mlflow.db")
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def logged(mlflow, run_id):
    inputs = mlflow.MlflowClient().get_run(run_id).inputs.dataset_inputs
    return [
        (each.dataset.name, each.dataset.digest, {tag.key: tag.value for tag in each.tags}) for each in inputs
    ]


def test_an_active_run_gets_its_inputs(tracking):
    with tracking.start_run() as run:
        note(USE)
        note({**USE, "event": "written", "version": 4, "digest": "f" * 32})
    found = logged(tracking, run.info.run_id)
    assert sorted(digest for _, digest, _ in found) == [USE["digest"], "f" * 32]
    assert {tags["mltoolkit.dataset_version"] for _, _, tags in found} == {"3", "4"}
    assert {tags["mlflow.data.context"] for _, _, tags in found} == {"read", "written"}


def test_reading_twice_is_one_input(tracking):
    with tracking.start_run() as run:
        note(USE)
        note(USE)
    assert len(logged(tracking, run.info.run_id)) == 1


@pytest.mark.parametrize("variable", ["MLFLOW_RUN_ID", "MLTOOLKIT_RUN_ID"])
def test_a_run_named_by_the_environment_gets_them(tracking, monkeypatch, variable):
    client = tracking.MlflowClient()
    run = client.create_run("0")
    monkeypatch.setenv(variable, run.info.run_id)
    note(USE)
    assert len(logged(tracking, run.info.run_id)) == 1


def test_in_a_run_of_record_only_the_line_is_written(tracking, workspace, monkeypatch):
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(workspace))
    with tracking.start_run() as run:
        note(USE)
    assert logged(tracking, run.info.run_id) == []
    tracking.MlflowClient().log_inputs(run.info.run_id, [mlflow_input(each) for each in records(workspace)])
    assert len(logged(tracking, run.info.run_id)) == 1


def test_loading_in_an_active_run(tracking, tmp_path):
    import pandas as pd

    from mltoolkit.record.dataset import load_dataset, save_dataset

    saved = save_dataset(pd.DataFrame({"x": [1]}), "flights", root=tmp_path)
    with tracking.start_run() as run:
        load_dataset("flights", root=tmp_path)
    [(name, digest, tags)] = logged(tracking, run.info.run_id)
    assert (name, digest, tags["mltoolkit.dataset_version"]) == ("flights", saved.digest, "1")


def test_without_a_run_nothing_happens(tracking, monkeypatch):
    log_to_active_run(USE)
    assert tracking.search_runs(output_format="list") == []


def test_a_process_without_mlflow_has_no_active_run(tracking, monkeypatch):
    with tracking.start_run() as run, monkeypatch.context() as patched:
        patched.delitem(sys.modules, "mlflow")
        log_to_active_run(USE)
    assert logged(tracking, run.info.run_id) == []


def test_a_store_that_refuses_is_a_warning(tracking, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef")
    with pytest.warns(
        UserWarning, match="'flights/raw' version 3 could not be logged to MLflow run 0123456789abcdef"
    ):
        log_to_active_run(USE)


def test_mlflow_is_not_imported_for_it():
    code = (
        "import sys; from mltoolkit.record.inputs import note; note({'event': 'read'}); "
        "print('mlflow' in sys.modules, 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
