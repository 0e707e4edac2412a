"""Faults of the tracking server: a run of record goes on, and each value arrives once, or it is said where it is."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from processes import BIN, Marked, wait_for
from tracking_server import Stage

from mltoolkit import run_notebook
from mltoolkit.cli import main
from mltoolkit.errors import UNDELIVERED, KernelDied, NotebookFailed
from mltoolkit.execution.run import _measured
from mltoolkit.record import delivery, recorder, runs, shipping, spool, tracking

LOOP = """
import mlflow, pathlib, time
for step in range(50):
    mlflow.log_metrics({"loss": 1 / (1 + step), "rate": 0.1}, step=step)
mlflow.log_param("depth", 3)
mlflow.set_tag("phase", "trained")
mlflow.log_text("a note", "note.txt")
"""


@pytest.fixture
def stage(tracking_stage: Stage) -> Iterator[Stage]:
    tracking_stage.proxy.delay = 3.0
    yield tracking_stage
    tracking_stage.proxy.fate = lambda: "well"


@pytest.fixture
def served(bare_workspace: Path, stage: Stage) -> Path:
    """A workspace whose tracking store is the server behind the proxy."""
    (bare_workspace / "settings.ini").write_text(f"[mltoolkit]\ntracking_uri = {stage.proxy.uri}\n")
    return bare_workspace


@pytest.fixture(autouse=True)
def nobody_ships_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Processes that would go on shipping are noted, and not started."""
    started: list[Path] = []
    monkeypatch.setattr("mltoolkit.record.recorder.leave_to_itself", started.append)
    monkeypatch.setattr(delivery, "SETTLING", 0.5)
    return started


def points(stage: Stage, run_id: str, key: str = "loss") -> list[tuple[int, float]]:
    return stage.rows("select step, value from metrics where run_uuid = ? and key = ? order by step", run_id, key)


def tags(stage: Stage, run_id: str) -> dict[str, str]:
    return dict(stage.rows("select key, value from tags where run_uuid = ?", run_id))


def status(stage: Stage, run_id: str) -> str:
    return str(stage.rows("select status from runs where run_uuid = ?", run_id)[0][0])


EXPECTED = [(step, 1 / (1 + step)) for step in range(50)]


def test_down_all_the_time_then_synchronised(served: Path, stage: Stage, write: Callable[..., Path], tiny: str, nobody_ships_behind_our_back: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    stage.proxy.fate = lambda: "cut"
    more = "with mlflow.start_run(nested=True):\n    mlflow.log_metric('inner', 1.0)\nprint(mlflow.get_run(mlflow.active_run().info.run_id).data.metrics['loss'] if mlflow.active_run() else 'closed')"
    began = time.monotonic()
    run = run_notebook(write("night.ipynb", LOOP, more, kernel=tiny))
    assert time.monotonic() - began < 90
    assert (run.status, run.exit_code) == ("succeeded", UNDELIVERED)
    assert run.metrics["loss"] == pytest.approx(1 / 50)
    folder = spool.spool_folder(served)
    assert f"it is in {folder}, and `mltoolkit runs sync` ships it" in run.warnings[-1]
    assert "until it can be shipped" in capsys.readouterr().err
    assert nobody_ships_behind_our_back == [served]
    kept = runs.load(runs.runs_folder(served) / run.run_id)
    assert kept is not None
    assert kept.exit_code == UNDELIVERED
    waiting = CliRunner().invoke(main, ["runs", "sync", "--wait", "1s", "--json"])
    said = json.loads(waiting.stdout)
    assert waiting.exit_code == UNDELIVERED
    assert (said["complete"], said["spool"]) == (False, str(folder))
    assert said["left_bytes"] > 2000
    assert "API request" in said["reason"]
    stage.proxy.fate = lambda: "well"
    done = CliRunner().invoke(main, ["runs", "sync"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().endswith("entries shipped; nothing is left")
    (server_id,) = (each for (each,) in stage.rows("select run_uuid from tags where key = 'mltoolkit.created_as' and value = ?", run.run_id))
    assert points(stage, server_id) == EXPECTED
    assert status(stage, server_id) == "FINISHED"
    told = tags(stage, server_id)
    assert (told["phase"], told["mltoolkit.status"], told["mltoolkit.notebook"]) == ("trained", "succeeded", "night.ipynb")
    assert stage.rows("select value from params where run_uuid = ? and key = 'depth'", server_id) == [("3",)]
    ((child,),) = stage.rows("select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?", server_id)
    assert points(stage, child, "inner") == [(0, 1.0)]
    assert status(stage, child) == "FINISHED"
    uploaded = {path.name for path in (stage.folder / "files").rglob("*") if server_id in path.parts}
    assert {"note.txt", "manifest.json", "night.ipynb", "night.html"} <= uploaded
    assert not [path for path in folder.iterdir() if path.suffix == ".spool"]
    assert not list((folder / "files").iterdir())


def test_gone_in_the_middle_and_back_before_the_end(served: Path, stage: Stage, write: Callable[..., Path], tiny: str) -> None:
    away = served / "away"
    stage.proxy.fate = lambda: "500" if away.exists() else "well"
    break_off = "import pathlib\npathlib.Path('away').touch()"
    back = "pathlib.Path('away').unlink()\nimport pathlib as p\nprint(len(mlflow.search_runs(output_format='list')) > 0)"
    run = run_notebook(write("day.ipynb", break_off, LOOP, back, kernel=tiny))
    assert (run.status, run.exit_code, run.warnings) == ("succeeded", 0, [])
    assert points(stage, run.run_id) == EXPECTED
    assert tags(stage, run.run_id)["phase"] == "trained"
    assert status(stage, run.run_id) == "FINISHED"
    assert run.metrics["loss"] == pytest.approx(1 / 50)


def test_replies_that_are_lost_and_a_delay_of_three_seconds(served: Path, stage: Stage, write: Callable[..., Path], tiny: str) -> None:
    lost = served / "lost"
    counted = {"lost": 0}

    def fate() -> str:
        if not lost.exists():
            return "well"
        counted["lost"] += 1
        return "lost" if counted["lost"] < 3 else "delayed"

    stage.proxy.fate = fate
    timed = "import time\nbegan = time.monotonic()\n" + LOOP + "\nprint(time.monotonic() - began < 20)"
    run = run_notebook(write("slow.ipynb", "import pathlib\npathlib.Path('lost').touch()", timed, "pathlib.Path('lost').unlink()", kernel=tiny))
    assert (run.status, run.exit_code) == ("succeeded", 0)
    assert "True" in str(json.loads(Path(run.output).read_text())["cells"][1]["outputs"])
    assert points(stage, run.run_id) == EXPECTED
    assert counted["lost"] < 40  # and not one a call


def test_what_was_logged_before_a_kill_or_an_exception_is_there(workspace: Path, write: Callable[..., Path], tiny: str) -> None:
    for end, kind in (("import os; os.kill(os.getpid(), 9)", KernelDied), ("1 / 0", NotebookFailed)):
        with pytest.raises(kind) as caught:
            run_notebook(write("end.ipynb", LOOP, end, kernel=tiny))
        run = caught.value.run
        store = tracking.client(workspace)
        assert [(each.step, each.value) for each in store.get_metric_history(run.run_id, "loss")] == EXPECTED
        assert run.metrics["loss"] == pytest.approx(1 / 50)
        assert store.get_run(run.run_id).data.tags["phase"] == "trained"
    assert not spool.files(spool.spool_folder(workspace))


def test_a_runner_that_is_killed_leaves_the_rest_to_the_next(workspace: Path, write: Callable[..., Path], tiny: str, mark: Marked) -> None:
    write("long.ipynb", LOOP + "\npathlib.Path('logged').touch()\ntime.sleep(600)", kernel=tiny)
    process = mark.start(BIN / "mltoolkit", "run", "long.ipynb", cwd=workspace, stdout=None, stderr=None)
    wait_for((workspace / "logged").exists, "the notebook to have logged")
    process.send_signal(signal.SIGKILL)
    process.wait()
    mark.all_gone()
    done = CliRunner().invoke(main, ["runs", "sync", "--json"])
    assert done.exit_code == 0, done.output
    store = tracking.client(workspace)
    ((run_id,),) = [[run.info.run_id for run in runs.search(store, 5)]]
    assert [(each.step, each.value) for each in store.get_metric_history(run_id, "loss")] == EXPECTED


def test_a_caretaker_sees_what_others_left(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()
    monkeypatch.setattr(shipping, "leave_to_itself", lambda root: started.set())
    writer = spool.Spool(spool.spool_folder(bare_workspace), "sqlite:///x")
    writer.append("log", "run", {})
    with shipping.Caretaker(bare_workspace, pause=0.05):
        assert not started.wait(0.3)  # somebody is still writing
        writer.close()
        assert started.wait(5)


def test_a_bad_wait_is_refused(bare_workspace: Path) -> None:
    done = CliRunner().invoke(main, ["runs", "sync", "--wait", "soon"])
    assert done.exit_code == 2
    assert "--wait soon: a duration is written" in done.output


def test_without_the_spool_nothing_of_it_is_used(workspace: Path, write: Callable[..., Path], tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_SPOOL", "no")
    run = run_notebook(write("plain.ipynb", "import mlflow\nmlflow.log_metric('a', 1)\nprint(type(mlflow.MlflowClient()._tracking_client.store).__name__)", kernel=tiny))
    assert run.metrics == {"a": 1.0}
    assert "SqlAlchemyStore" in Path(run.output).read_text()
    assert not spool.spool_folder(workspace).exists()
    del os.environ["MLTOOLKIT_SPOOL"]




def test_the_machines_figures_wait_for_no_server(served: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_SYSTEM_METRICS", "yes")
    client = tracking.client(served)
    run_id = client.create_run("0").info.run_id
    known = recorder.remember_run(served, client, run_id, "Default")
    assert known is not None
    recording: Any = SimpleNamespace(plan=SimpleNamespace(root=served), store=client, run=SimpleNamespace(run_id=run_id, warnings=[]))
    with _measured(recording):
        stage.proxy.fate = lambda: "cut"
        began = time.monotonic()
    assert time.monotonic() - began < 20, "MLflow itself goes on trying for a minute"
    assert recording.run.warnings == []
    known.close()
    stage.proxy.fate = lambda: "well"
    assert shipping.drain(served).complete
    assert stage.rows("select count(*) > 0 from metrics where run_uuid = ? and key like 'system/%'", run_id) == [(1,)]
