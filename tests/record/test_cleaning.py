"""What may be removed, and what must stay."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mltoolkit.errors import Status
from mltoolkit.record import cleaning, runs, tracking
from mltoolkit.record.dataset import load_dataset, save_dataset
from mltoolkit.record.manifest import DatasetUse, Kernel, Run
from mltoolkit.record.spool import Spool, Written, files, spool_folder

DAY = 86400.0


def past_run(root: Path, run_id: str, days: float, **fields: Any) -> Path:
    """Put a run that began so many days ago into the workspace's folder of runs."""
    folder = runs.runs_folder(root) / run_id
    folder.mkdir(parents=True)
    settled = {"status": Status.succeeded, "notebook": "a.ipynb", "tracked": False, **fields}
    run = Run(run_id=run_id, kernel=Kernel(name="python3"), started_at=datetime.now(UTC) - timedelta(days=days), **settled)
    (folder / runs.MANIFEST).write_text(run.to_json())
    return folder


def names(items: list[cleaning.Item]) -> set[str]:
    return {item.name for item in items}


def test_age_and_count_decide_for_each_notebook(bare_workspace: Path) -> None:
    for days in (1, 40, 50, 60):
        past_run(bare_workspace, f"a{days}", days)
        past_run(bare_workspace, f"b{days}", days, notebook="b.ipynb")
    assert names(cleaning.survey(keep=2)) == {"a50", "a60", "b50", "b60"}
    assert names(cleaning.survey(keep=0, older_than=55 * DAY)) == {"a60", "b60"}
    assert cleaning.survey(keep=4) == []


def test_looking_removes_nothing_and_removing_says_how_much(bare_workspace: Path) -> None:
    folder = past_run(bare_workspace, "old", 100)
    (folder / "a.ipynb").write_bytes(b"x" * 1000)
    items = cleaning.survey(keep=0)
    assert (folder / "a.ipynb").exists()
    assert cleaning.remove(items) == sum(item.size_bytes for item in items) > 1000
    assert not folder.exists()
    assert cleaning.survey(keep=0) == []


def test_a_run_that_is_going_on_stays(bare_workspace: Path) -> None:
    past_run(bare_workspace, "going", 100, status=Status.running)
    assert cleaning.survey(keep=0) == []


def test_removing_twice_is_no_error(bare_workspace: Path) -> None:
    past_run(bare_workspace, "old", 100)
    items = cleaning.survey(keep=0)
    cleaning.remove(items)
    cleaning.remove(items)


def test_caches_go_by_age(bare_workspace: Path) -> None:
    for name, days in (("old", 40), ("new", 1)):
        path = bare_workspace / ".mltoolkit" / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        os.utime(path, (time.time() - days * DAY,) * 2)
    items = cleaning.survey()
    assert names(items) == {"locks/old"}
    cleaning.remove(items)
    assert [each.name for each in (bare_workspace / ".mltoolkit" / "locks").iterdir()] == ["new"]


def test_a_spool_goes_when_it_is_old_and_all_of_it_has_arrived(bare_workspace: Path) -> None:
    folder = spool_folder(bare_workspace)
    writers = {name: Spool(folder, "sqlite:///x") for name in ("arrived", "new", "waiting", "alive", "damaged")}
    paths = {}
    for name, writer in writers.items():
        writer.append("log", "run", name)
        paths[name] = writer.path
        assert writer.path is not None
        if name == "damaged":
            with writer.path.open("ab") as file:
                file.write(b"what a power cut left\n")
        written = Written(writer.path)
        if name != "waiting":
            written.advance(written.size)
        if name != "alive":
            writer.close()
        if name != "new":
            os.utime(written.path, (time.time() - 40 * DAY,) * 2)
    (item,) = cleaning.survey()
    assert (item.kind, item.path, item.size_bytes) == ("spool", str(paths["arrived"]), os.path.getsize(item.path))
    assert cleaning.survey(older_than=50 * DAY) == []
    cleaning.remove([item])
    assert {written.path for written in files(folder)} == {path for name, path in paths.items() if name != "arrived"}
    assert len(list(folder.glob("*.shipped"))) == 3
    writers["alive"].close()


def test_dataset_versions_that_a_kept_run_used_stay(bare_workspace: Path) -> None:
    for value in range(4):
        saved = save_dataset(pd.DataFrame({"value": [value]}), "numbers")
        for file in Path(saved.uri).glob("*.parquet"):
            os.utime(file, (time.time() - 40 * DAY,) * 2)
    used = DatasetUse(event="read", name="numbers", version=2, digest="d")
    past_run(bare_workspace, "reader", 40, datasets=[used])
    items = cleaning.survey(keep=1)
    assert {(item.name, item.version) for item in items} == {("numbers", 1), ("numbers", 3)}
    cleaning.remove(items)
    assert load_dataset("numbers", 2)["value"].tolist() == [1]
    assert load_dataset("numbers")["value"].tolist() == [3]
    assert {item.version for item in cleaning.survey(keep=0) if item.kind == "dataset version"} == {2}


def test_a_shared_data_store_is_left_alone(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_DATA_ROOT", "s3://bucket/data")
    assert cleaning.survey() == []


def test_what_something_refers_to_stays(workspace: Path) -> None:
    """An alias, an approval, the last success of a job: each keeps its run, through the real store."""
    store = tracking.client(workspace)
    experiment = tracking.experiment_id(store, "default", str(workspace / ".mltoolkit" / "artifacts"))

    def tracked(name: str, **tags: str) -> str:
        run_id = tracking.open_run(store, experiment, name, {f"mltoolkit.{key}": value for key, value in tags.items()})
        artifact = workspace / f"{name}.txt"
        artifact.write_text(name)
        store.log_artifact(run_id, str(artifact))
        tracking.close_run(store, run_id, Status.succeeded)
        past_run(workspace, run_id, 100, tracked=True)
        return run_id

    record = tracked("record")
    child = tracked("child", record=record)
    approved, plain = tracked("approved", approval="yes"), tracked("plain")
    first, last = tracked("first", job="nightly"), tracked("last", job="nightly")
    store.create_registered_model("late")
    version = store.create_model_version("late", source=f"runs:/{child}/model", run_id=child)
    store.set_registered_model_alias("late", "champion", version.version)

    items = cleaning.survey(keep=0)
    assert names(items) == {plain, first}
    assert {record, child, approved, last} <= cleaning.protected_runs(workspace)
    place = Path(store.get_run(plain).info.artifact_uri.removeprefix("file://"))
    assert (place / "plain.txt").exists()
    cleaning.remove(items)
    assert store.get_run(plain).info.lifecycle_stage == "deleted"
    assert not place.exists()
    assert store.get_run(last).info.lifecycle_stage == "active"
