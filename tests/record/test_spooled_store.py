"""The spooled store: plain MLflow through it, on a real SQLite store, and what it does when there is no space."""

from __future__ import annotations

import errno
import functools
import inspect
import math
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service.client import TrackingServiceClient

from mltoolkit.record import spool, spooled_store, tracking
from mltoolkit.record.limits import ArtifactBudget, limit_uploads
from mltoolkit.record.outlets import Outlet, _Passage
from mltoolkit.record.remembered import remembered, unfinished
from mltoolkit.record.shipping import sync
from mltoolkit.record.spooled_store import LIMITED, SpooledStore
from mltoolkit.record.stores import PREFIX, SCHEMES, can_be_spooled, is_remote, plain_address, spool_of


@pytest.fixture
def client(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """A client as a kernel of a run of record has it."""
    uri = tracking.workspace_environment(workspace)["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLTOOLKIT_SPOOL_FOLDER", str(spool.spool_folder(workspace)))
    monkeypatch.setenv("MLTOOLKIT_SPOOL_TARGET", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = MlflowClient(uri)
    assert isinstance(found._tracking_client.store, SpooledStore)
    yield found
    found._tracking_client.store.spool.close()


def store_of(client: MlflowClient) -> SpooledStore:
    found: SpooledStore = client._tracking_client.store
    return found


def test_plain_mlflow_reads_what_it_wrote(client: MlflowClient, workspace: Path) -> None:
    store = store_of(client)
    with mlflow.start_run(run_name="outer") as outer:
        mlflow.log_params({"depth": 3, "kind": "tree"})
        mlflow.log_metrics({"loss": math.nan, "rate": math.inf}, step=1)
        mlflow.log_metric("late", 1.5, synchronous=False)
        mlflow.set_tags({"phase": "first", "gone": "soon"})
        mlflow.delete_tag("gone")
        mlflow.log_input(mlflow.data.from_numpy(__import__("numpy").zeros((2, 2)), name="zeros"), context="training")
        with mlflow.start_run(nested=True) as inner:
            for _ in range(5):
                mlflow.log_metric("same", 0.1)
        assert store.plain.get_run(outer.info.run_id).data.params == {}  # it is still here
        found = mlflow.get_run(outer.info.run_id)
    assert found.data.params == {"depth": "3", "kind": "tree"}
    assert math.isnan(found.data.metrics["loss"])
    assert found.data.metrics["late"] == 1.5
    assert found.data.tags["phase"] == "first"
    assert "gone" not in found.data.tags
    assert [each.dataset.name for each in found.inputs.dataset_inputs] == ["zeros"]
    assert len(client.get_metric_history(inner.info.run_id, "same")) == 5  # as if each had taken its millisecond
    assert {run.info.run_id: run.info.status for run in mlflow.search_runs(output_format="list")} == {outer.info.run_id: "FINISHED", inner.info.run_id: "FINISHED"}
    with pytest.raises(MlflowException, match="already logged with value='3'"):
        client.log_param(outer.info.run_id, "depth", 4)
    with pytest.raises(MlflowException, match="valid double"):
        client.log_metric(outer.info.run_id, "word", "high")  # type: ignore[arg-type]
    client.update_run(outer.info.run_id, name="renamed")
    assert client.get_run(outer.info.run_id).info.run_name == "renamed"
    client.delete_run(inner.info.run_id)
    client.log_metric(inner.info.run_id, "after", 1.0)  # acknowledged, and refused by the store for good
    report = sync(start=workspace)
    assert (report.rejected, report.complete) == (1, True)
    assert "after" in (spool.spool_folder(workspace) / "rejected.jsonl").read_text()
    assert report.line().startswith(f"{report.delivered} entries shipped; 1 refused, see ")


def test_a_full_disk_is_no_reason_to_lose_a_value(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(client)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "before", 1.0)
    full = lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))  # noqa: E731
    monkeypatch.setattr(store.spool, "append", full)
    client.log_metric(run, "during", 2.0)
    assert store.plain.get_run(run).data.metrics == {"before": 1.0, "during": 2.0}
    monkeypatch.setattr(type(store.plain), "log_batch", full)
    with pytest.raises(MlflowException, match=r"what was logged could not be kept: the spool .* cannot be written"):
        client.log_param(run, "depth", 1)


def test_limits_are_said_once(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(client)
    store.budget.limit = 10
    run = client.create_run("0").info.run_id
    for step in range(4):
        client.log_batch(run, [Metric(f"m{number}", 1.0, step, step) for number in range(4)])
    assert capsys.readouterr().err.count("the run has 10 metric points; further ones are left out (setting metric_limit)") == 1
    assert sum(len(client.get_metric_history(run, f"m{number}")) for number in range(4)) == 10
    assert LIMITED in client.get_run(run).data.tags


@pytest.mark.parametrize("name", ["log_artifact", "log_artifacts", "log_model_artifact", "log_model_artifacts"])
def test_uploads_are_counted_however_their_arguments_are_given(tmp_path: Path, name: str) -> None:
    uploaded: list[tuple[Any, ...]] = []

    class Uploads(TrackingServiceClient):
        def __init__(self) -> None:
            pass

    def upload(self: Any, *given: Any, **named: Any) -> None:
        uploaded.append((*given, *named.values()))

    setattr(Uploads, name, functools.wraps(getattr(TrackingServiceClient, name))(upload))
    owner, path = [*inspect.signature(getattr(TrackingServiceClient, name)).parameters][1:3]
    limit_uploads(Uploads, ArtifactBudget(100))
    file = tmp_path / "weights"
    file.write_bytes(bytes(60))
    getattr(Uploads(), name)(**{owner: "run", path: str(file)})
    getattr(Uploads(), name)("run", str(tmp_path / "missing"))
    with pytest.raises(MlflowException, match="weights has 60 bytes, and run has 60 of 100 already"):
        getattr(Uploads(), name)("run", **{path: str(file)})
    assert uploaded == [("run", str(file)), ("run", str(tmp_path / "missing"))]


def test_secrets_pass_no_name_and_no_value(client: MlflowClient, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Passage, "outlet", Outlet({"PASSWORD": "hunter2hunter2"}))
    run = client.create_run("0").info.run_id
    client.log_metric(run, "with hunter2hunter2", 1.0)
    client.log_param(run, "word", "hunter2hunter2")
    client.set_tag(run, "word", "hunter2hunter2")
    written = b"".join(each.path.read_bytes() for each in spool.files(spool.spool_folder(workspace)))
    assert b"hunter2hunter2" not in written
    found = client.get_run(run).data
    assert (found.params["word"], found.tags["word"]) == ("[secret:PASSWORD]", "[secret:PASSWORD]")
    assert [name for name in found.metrics if name.startswith("with ")]


def test_only_the_store_of_the_workspace_is_spooled(client: MlflowClient, workspace: Path) -> None:
    assert spool_of("sqlite:///another.db") is None
    assert plain_address("mltoolkit+https://a.example.org#/somewhere") == "https://a.example.org"
    doors = [{each.name for each in entry_points(group=group)} for group in ("mlflow.tracking_store", "mlflow.model_registry_store")]
    assert all({f"{PREFIX}{scheme}" for scheme in SCHEMES} <= names for names in doors)
    assert not can_be_spooled("mysql://db/mlflow")
    assert spool_of(f"mltoolkit+https://a.example.org#{workspace}") == str(spool.spool_folder(workspace))
    assert is_remote("https://a.example.org")
    value: Any = store_of(client).engine  # what is MLflow's own is to be had
    assert value.dialect.name == "sqlite"


def test_what_another_thread_logs_while_it_is_shipped_is_not_forgotten(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(client)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "first", 1.0)
    ship = spooled_store.ship

    def meanwhile(*args: Any, **kwargs: Any) -> Any:
        report = ship(*args, **kwargs)
        client.log_metric(run, "second", 2.0)
        monkeypatch.setattr(spooled_store, "ship", ship)
        return report

    monkeypatch.setattr(spooled_store, "ship", meanwhile)
    assert set(client.get_run(run).data.metrics) == {"first"}
    assert set(client.get_run(run).data.metrics) == {"first", "second"}
    assert store.settle()


def test_who_is_asked_for_a_run_while_the_store_is_away(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(client)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", 1.0)
    looked: list[str] = []

    def counted(folder: Path, run_id: str, before: Any = None) -> Any:
        looked.append(run_id)
        return remembered(folder, run_id, before)

    monkeypatch.setattr(spooled_store, "remembered", counted)
    store._silent_until = math.inf
    assert client.get_run(run).data.metrics == {"loss": 1.0}
    assert looked == [run], "the spool is read once"


def test_a_child_that_is_renamed_after_its_end_has_ended(tmp_path: Path) -> None:
    writer = spool.Spool(tmp_path, "sqlite:///x")
    for run in ("child", "other", "again"):
        writer.append("create", run, {"tags": [["mltoolkit.record", "record"]]})
        writer.append("log", run, {"g": [["phase", "update"]]})
        writer.append("update", run, {"status": "FINISHED" if run != "other" else "RUNNING", "end": 1, "name": None})
        writer.append("update", run, {"status": None, "end": None, "name": "renamed"})
    writer.append("update", "again", {"status": "RUNNING", "end": None, "name": None})
    writer.close()
    assert unfinished(tmp_path, "record") == ["other", "again"]
    assert unfinished(tmp_path, "another") == []


def test_a_value_makes_mlflow_look_for_no_package(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = client.create_run("0").info.run_id
    asked: list[str] = []

    class Noting:
        def find_spec(self, name: str, *_: Any) -> None:
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Noting(), *sys.meta_path])
    MlflowClient(client.tracking_uri).log_metric(run_id, "loss", 1.0)
    assert asked == []

    class SparkSession:
        @staticmethod
        def getActiveSession() -> None:  # noqa: N802 (pyspark's)
            asked.append("session")

    sql = ModuleType("pyspark.sql")
    sql.SparkSession = SparkSession  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))
    monkeypatch.setitem(sys.modules, "pyspark.sql", sql)
    MlflowClient(client.tracking_uri)
    assert asked == ["session"]
