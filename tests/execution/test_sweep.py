"""Sweeps: every point once, whatever happens, and nothing before all of it is checked."""

from __future__ import annotations

import json
import os
import pty
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from processes import BIN, Marked, wait_for

import mltoolkit
from mltoolkit.cli import main
from mltoolkit.errors import (
    Cancelled,
    GateRefused,
    Invalid,
    MltoolkitError,
    NotebookFailed,
    OutputRefused,
    Status,
)
from mltoolkit.execution.sweep import Definition, children, resume_sweep, sweep
from mltoolkit.execution.workers import run_point
from mltoolkit.notebook import document
from mltoolkit.record import runs, tracking

PROGRAM = BIN / "mltoolkit"
LOG = """
import os, pathlib, sqlite3, time
def log(name, value, step=0):  # what mlflow.log_metric does, without three seconds of imports
    with sqlite3.connect(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"), timeout=30) as db:
        row = (name, value, int(time.time() * 1000) + step, os.environ["MLFLOW_RUN_ID"], step)
        db.execute("insert into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)", row)
        db.execute("insert or replace into latest_metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)", row)
"""
HOLD = """
import os, pathlib, time
pathlib.Path(f"started-{x}-{os.getpid()}").touch()
while x in (2, 3) and not pathlib.Path("go").exists():
    time.sleep(0.02)
"""


@pytest.fixture
def notebook(workspace: Path, tiny: str, write: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a notebook with the integer parameter x for the quick kernel."""
    return lambda code="1", parameters="x: int = 1": write("a.ipynb", code, parameters=parameters, kernel=tiny)


@pytest.fixture
def one() -> Iterator[ThreadPoolExecutor]:
    """An executor that is there at once."""
    with ThreadPoolExecutor(1) as threads:
        yield threads


def ended(root: Path, run_id: str) -> dict[int, str]:
    """What the store has for each point, over all its runs."""
    return {index: run.data.tags["mltoolkit.status"] for index, run in children(tracking.client(root), run_id).items()}


class TestRecord:
    def test_a_parent_with_a_run_for_each_point(self, workspace: Path, notebook: Callable[..., Path]) -> None:
        source = notebook(LOG + "log('loss', x * rate)", "x: int = 1\nrate: float = 0.0\nname: str = ''")
        seen: list[int] = []
        done = mltoolkit.sweep(source, {"x": "1..2", "rate": "0.5..2 log 2"}, {"name": "n"}, workers=2, watch=lambda each: seen.append(len(each.succeeded)))
        assert (done.status, len(done.points), done.failed) == ("succeeded", 4, [])
        assert done.best("loss", "max").parameters == {"x": 2, "rate": 2.0}
        assert list(done.table().loss) == [0.5, 2.0, 1.0, 4.0]
        assert seen == [1, 2, 3, 4]
        store = tracking.client(workspace)
        parent = store.get_run(done.run_id)
        assert parent.info.status == "FINISHED"
        assert parent.data.params == {"name": "n"}
        assert {each.path for each in store.list_artifacts(done.run_id)} >= {"results.csv", "results.json", "results.png", "manifest.json", "sweep.json"}
        for point in done.points:
            run = runs.find(str(point.run_id))
            assert (run.trigger, run.parent_run_id, run.parameters) == ("sweep", done.run_id, {**point.parameters, "name": "n"})
            assert store.get_run(run.run_id).data.tags["mlflow.parentRunId"] == done.run_id
        record = runs.find(done.run_id)
        assert (record.status, record.trigger, record.output, record.parameters) == ("succeeded", "api", str(done.folder / "results.csv"), {"name": "n"})
        assert sorted(each.name for each in done.folder.iterdir()) == ["manifest.json", "requirements.txt", "results.csv", "results.json", "results.png", "sweep.json"]
        assert {row.run_id for row in runs.listing(limit=10)} == {done.run_id, *(str(point.run_id) for point in done.points)}

    def test_real_mlflow_in_a_real_kernel(self, workspace: Path, write: Callable[..., Path]) -> None:
        source = write("a.ipynb", "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('loss', x * 0.5)", parameters="x: int = 1")
        done = sweep(source, {"x": [3]}, warm=False)
        assert done.points[0].metrics == {"loss": 1.5}

    def test_a_frame_and_a_file(self, workspace: Path, notebook: Callable[..., Path], one: ThreadPoolExecutor) -> None:
        source = notebook("assert name != 'bad'", "x: int = 1\nname: str = ''")
        done = sweep(source, pd.DataFrame({"x": [3, 4], "name": ["good", "bad"]}), workers=1, executor=one)
        assert [(point.parameters, point.status) for point in done.points] == [({"x": 3, "name": "good"}, "succeeded"), ({"x": 4, "name": "bad"}, "failed")]
        assert done.status == "failed"
        assert done.failed[0].message.startswith("AssertionError")
        with pytest.raises(NotebookFailed, match="1 failed") as caught:
            done.raise_for_status()
        assert caught.value.exit_code == 1
        assert runs.find(done.run_id).failure is not None

    def test_outputs_secrets_and_options(self, workspace: Path, notebook: Callable[..., Path], one: ThreadPoolExecutor) -> None:
        source = notebook("import os; print(key.get_secret_value()[::-1], os.getcwd())", "x: int = 1\nkey: 'SecretStr'")
        (workspace / "out").mkdir()
        done = sweep(source, {"x": "1..2"}, secrets={"key": "hidden-value"}, output="out/{x}.ipynb", cwd="out", experiment="named", timeout=60, workers=1, executor=one)
        assert done.status == "succeeded", [point.message for point in done.points]
        assert sorted(each.name for each in (workspace / "out").glob("*.ipynb")) == ["1.ipynb", "2.ipynb"]
        text = document.read("out/2.ipynb").cells[-1].outputs[0].text
        assert text == f"eulav-neddih {workspace / 'out'}\n"
        assert all(b"hidden-value" not in each.read_bytes() for each in workspace.rglob("*") if each.is_file())
        assert runs.find(done.run_id).experiment == runs.find(str(done.points[0].run_id)).experiment == "named"


class TestRefused:
    @pytest.mark.parametrize(
        ("vary", "more", "reason"),
        [
            ({"y": [1]}, {}, "no parameter 'y'"),
            ({"x": [1, "two"]}, {}, "point 2 of 2"),
            ({"x": "1 to 3"}, {}, "neither a list nor a range"),
            ({"x": [1]}, {"parameters": {"x": 2}}, "both fixed and varied"),
            ({"x": [1]}, {"workers": 0}, "workers is 0"),
            ({"x": [1]}, {"executor": "spark://a:1"}, "the executor is"),
            ({"x": [1]}, {"executor": "dask://127.0.0.1:9"}, "no Dask scheduler answers"),
            ({"x": [1]}, {"kernel": "none"}, "no kernel is called"),
            ({"x": [1, 2]}, {"output": "out.ipynb"}, "two points would write"),
            ({"x": [1, 2]}, {"output": "none/{x}.ipynb"}, "none"),
            ({"x": "1..3"}, {"optimize": "loss"}, "how many trials"),
            ([{"x": 1}], {"optimize": "loss", "trials": 2}, "not from a table"),
            ({"x": "1..3"}, {"optimize": "loss", "trials": 2, "mode": "least"}, "'min' or 'max'"),
            ({"x": [1, "two"]}, {"optimize": "loss", "trials": 2}, "wants int"),
        ],
    )
    def test_before_anything_is_written(self, workspace: Path, notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, vary: Any, more: dict[str, Any], reason: str) -> None:
        monkeypatch.setattr("mltoolkit.execution.sweep._CONNECT", 1)
        with pytest.raises(Invalid, match=reason):
            sweep(notebook(), vary, **more)
        assert not (workspace / ".mltoolkit" / "runs").exists()
        assert runs.listing() == []


class TestFailures:
    def test_fail_fast(self, workspace: Path, notebook: Callable[..., Path], one: ThreadPoolExecutor) -> None:
        done = sweep(notebook("assert x != 2"), {"x": "1..5"}, workers=1, fail_fast=True, executor=one)
        assert [point.status for point in done.points] == ["succeeded", "failed", None, None, None]
        assert done.status == "failed"
        again = resume_sweep(done.run_id, workers=1, executor=one)
        assert again.run_id == done.run_id
        assert [point.status for point in again.points] == ["succeeded", "failed", "succeeded", "succeeded", "succeeded"]
        assert again.points[0].run_id == done.points[0].run_id

    def test_a_killed_worker_costs_a_repetition(self, workspace: Path, notebook: Callable[..., Path], mark: Marked) -> None:
        source = notebook(HOLD)
        outcome: list[Any] = []
        going = threading.Thread(target=lambda: outcome.append(sweep(source, {"x": "1..5"}, workers=2)))
        going.start()
        wait_for(lambda: len(list(workspace.glob("started-[23]-*"))) == 2, "two points to run")
        killed = [pid for pid in mark.alive() if b"serve()" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(killed[0], signal.SIGKILL)
        wait_for(lambda: len(list(workspace.glob("started-[23]-*"))) == 3, "the point to run again")
        (workspace / "go").touch()
        going.join()
        done = outcome[0]
        assert [point.status for point in done.points] == ["succeeded"] * 5
        assert sorted(point.attempts for point in done.points) == [1, 1, 1, 1, 2]
        found = runs.search(tracking.client(workspace), 100, [f"tags.`mlflow.parentRunId` = '{done.run_id}'"])
        assert sorted(run.data.tags["mltoolkit.status"] for run in found) == ["lost"] + ["succeeded"] * 5
        mark.all_gone()

    def test_an_executor_that_breaks(self, workspace: Path, notebook: Callable[..., Path]) -> None:
        class Broken(ThreadPoolExecutor):
            def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
                raise RuntimeError("no more")

        class Odd(ThreadPoolExecutor):
            def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
                return super().submit(divmod, 1, 0)

        with pytest.raises(MltoolkitError, match=r"no more.*--resume"):
            sweep(notebook(), {"x": "1..2"}, executor=Broken(1))
        assert runs.find("latest").status == "failed"
        done = sweep(notebook(), {"x": "1..2"}, executor=Odd(1))
        assert [point.message for point in done.failed] == ["ZeroDivisionError: integer division or modulo by zero"] * 2

    def test_a_point_whose_worker_always_dies_is_lost(self, workspace: Path, notebook: Callable[..., Path], mark: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mltoolkit.execution.sweep.run_point", lethal)
        monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parent.parent}")
        done = sweep(notebook(), {"x": "1..2"}, workers=1)
        assert [(point.status, point.attempts) for point in done.points] == [("lost", 2)] * 2
        assert "signal 9" in done.points[0].message

    def test_a_run_that_was_whole_when_its_worker_died_is_not_repeated(self, workspace: Path, notebook: Callable[..., Path], mark: Marked, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mltoolkit.execution.sweep.run_point", lethal_afterwards)
        monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parent.parent}")
        done = sweep(notebook(), {"x": [7]}, workers=1)
        assert [(point.status, point.attempts) for point in done.points] == [("succeeded", 1)]


def lethal(task: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lethal_afterwards(task: Any) -> None:
    run_point(task)
    os.kill(os.getpid(), signal.SIGKILL)


class TestInterrupted:
    @pytest.mark.parametrize(("number", "code", "status"), [(signal.SIGINT, 130, "cancelled"), (signal.SIGTERM, 143, "cancelled"), (signal.SIGKILL, -9, "running")])
    def test_and_resumed(self, workspace: Path, notebook: Callable[..., Path], mark: Marked, number: int, code: int, status: str, one: ThreadPoolExecutor) -> None:
        notebook(HOLD)
        process = mark.start(PROGRAM, "sweep", "a.ipynb", "--vary", "x", "1..5", "--workers", "2", "--json")
        wait_for(lambda: len(list(workspace.glob("started-[23]-*"))) == 2, "two points to run", 120)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        mark.all_gone()
        (record,) = [run for run in map(runs.load, (workspace / ".mltoolkit" / "runs").iterdir()) if run and run.parent_run_id is None]
        assert record.status == status
        if number != signal.SIGKILL:
            assert json.loads(out)["status"] == "cancelled"
            assert "--resume" in err
        before = {point.name for point in workspace.glob("started-1-*")}
        (workspace / "go").touch()
        done = resume_sweep(record.run_id[:8], workers=1, executor=one)
        assert [point.status for point in done.points] == ["succeeded"] * 5
        assert done.run_id == record.run_id
        assert {point.name for point in workspace.glob("started-1-*")} == before
        assert tracking.client(workspace).get_run(done.run_id).info.status == "FINISHED"
        assert runs.repair() == []
        assert ended(workspace, done.run_id) == dict.fromkeys(range(5), "succeeded")

    def test_what_cannot_go_on(self, workspace: Path, notebook: Callable[..., Path], one: ThreadPoolExecutor) -> None:
        done = sweep(notebook(), {"x": [1]}, workers=1, executor=one)
        with pytest.raises(Invalid, match="is no sweep"):
            resume_sweep(str(done.points[0].run_id))
        document.write(document.read(notebook("2")), "a.ipynb")
        with pytest.raises(Invalid, match="is not what it was"):
            resume_sweep(done.run_id)
        record = runs.find(done.run_id)
        record.status = Status.running
        (done.folder / "manifest.json").write_text(record.to_json())
        with pytest.raises(Invalid, match=f"is running, as process {os.getpid()}"):
            resume_sweep(done.run_id)


class TestExecutors:
    def test_threads_stop_by_the_tag_of_the_sweep(self, workspace: Path, notebook: Callable[..., Path], mark: Marked) -> None:
        """An executor that knows nothing of stopping: what runs ends, what waits is not begun."""
        source = notebook(HOLD)

        def interrupt() -> None:
            wait_for(lambda: len(list(workspace.glob("started-[23]-*"))) == 2, "two points to run")
            os.kill(os.getpid(), signal.SIGINT)

        asking = threading.Thread(target=interrupt)
        asking.start()
        with ThreadPoolExecutor(2) as threads, pytest.raises(Cancelled) as caught:
            sweep(source, {"x": "2..6"}, executor=threads)
        asking.join()
        done = caught.value.fields["sweep"]
        assert [point.status for point in done.points] == ["cancelled", "cancelled", None, None, None]
        assert caught.value.exit_code == 130
        mark.all_gone()

    def test_a_pool_of_processes_from_python(self, workspace: Path, notebook: Callable[..., Path]) -> None:
        import multiprocessing

        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert sweep(notebook(), {"x": "1..2"}, executor=pool, workers=1).status == "succeeded"


class TestOptimized:
    def test_trials_are_told_and_hopeless_ones_given_up(self, workspace: Path, notebook: Callable[..., Path]) -> None:
        """The seed gives 4.5 and 4.8 as the eighth and ninth point. After five points there is something to compare with, though none of them ran long enough to be looked at; from then on a hopeless one runs until it is given up."""
        wait = "while x > 4 and len(list(pathlib.Path().glob('done-*'))) > 5:\n    assert time.monotonic() < until\n    time.sleep(0.05)\n"
        code = f"{LOG}log('loss', x, step=0)\nuntil = time.monotonic() + 60\n{wait}log('loss', x / 2, step=1)\npathlib.Path(f'done-{{x}}').touch()"
        source = notebook(code, "x: float = 1.0")
        done = sweep(source, {"x": "0.0..5.0"}, optimize="loss", trials=10, workers=2)
        assert len(done.points) == 10
        assert done.status == "succeeded"
        pruned = [point for point in done.points if point.pruned]
        assert pruned
        assert all(point.parameters["x"] > 4 and point.status == "cancelled" for point in pruned)
        assert done.best().metrics["loss"] == min(point.metrics["loss"] for point in done.succeeded)
        store = tracking.client(workspace)
        assert store.get_run(str(pruned[0].run_id)).info.status == "KILLED"
        assert store.get_run(done.run_id).data.metrics == {"loss": done.best().metrics["loss"]}

    def test_goes_on(self, workspace: Path, notebook: Callable[..., Path], one: ThreadPoolExecutor) -> None:
        source = notebook(LOG + "log('loss', x)\nassert x < 8 or pathlib.Path('mended').exists()", "x: int = 1")
        done = sweep(source, {"x": "8..9"}, optimize="loss", mode="max", trials=3, workers=1, fail_fast=True, executor=one)
        assert [point.status for point in done.points] == ["failed"]
        (workspace / "mended").touch()
        again = resume_sweep(done.run_id, workers=1, executor=one)
        assert [point.status for point in again.points] == ["succeeded"] * 3
        assert again.points[0].parameters == done.points[0].parameters
        assert Definition.load(done.folder).points == [point.parameters for point in again.points]

    def test_a_notebook_that_does_not_log_the_metric(self, workspace: Path, notebook: Callable[..., Path], one: ThreadPoolExecutor) -> None:
        done = sweep(notebook(), {"x": "1..3"}, optimize="loss", trials=1, workers=1, executor=one)
        assert [(point.status, point.message) for point in done.points] == [("failed", "it logged no metric 'loss'")]


class TestCommand:
    def test_a_table_a_summary_and_an_exit_code(self, workspace: Path, notebook: Callable[..., Path], mark: Marked) -> None:
        notebook(LOG + "log('loss', x)\nassert x != 2")
        done = mark.run(PROGRAM, "sweep", "a.ipynb", "--vary", "x", "[1, 2, 3]")
        assert done.returncode == 1
        assert "point 1 failed: AssertionError" in done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].split() == ["point", "x", "status", "duration_s", "loss"]
        assert [line.split()[2] for line in lines[1:4]] == ["succeeded", "failed", "succeeded"]
        assert "left" not in done.stderr
        run_id = lines[4].split()[0]
        (workspace / "points.csv").write_text("x\n4\n")
        done = mark.run(PROGRAM, "sweep", "a.ipynb", "--table", "points.csv", "--json")
        assert json.loads(done.stdout)["points"][0]["metrics"] == {"loss": 4}
        shown = mark.run(PROGRAM, "show", run_id)
        assert "results.csv" in shown.stdout
        assert CliRunner().invoke(main, ["sweep", "--resume", run_id, "--workers", "1"]).exit_code == 1

    @pytest.mark.parametrize("wrong", [["a.ipynb"], ["a.ipynb", "--vary", "x", "[1]", "--table", "points.csv"], ["--resume", "1", "--table", "points.csv"], []])
    def test_usage(self, wrong: list[str]) -> None:
        assert CliRunner().invoke(main, ["sweep", *wrong]).exit_code == 2

    def test_progress_on_a_terminal(self, workspace: Path, notebook: Callable[..., Path], mark: Marked) -> None:
        notebook("assert x != 2")
        ours, theirs = pty.openpty()
        process = mark.start(PROGRAM, "sweep", "a.ipynb", "--vary", "x", "1..3", "--workers", "1", stderr=theirs)
        process.communicate(timeout=60)
        os.close(theirs)
        shown = os.read(ours, 100_000).decode()
        os.close(ours)
        assert "1 of 3 points, about" in shown
        assert "2 of 3 points, 1 failed, about" in shown


def test_gates_are_asked_for_the_sweep(workspace: Path, notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise GateRefused("no", findings=[])

    monkeypatch.setattr("mltoolkit.execution.plan._ask_gates", refuse)
    with pytest.raises(GateRefused):
        sweep(notebook(), {"x": [1]})


def test_output_is_refused_as_such(workspace: Path, notebook: Callable[..., Path]) -> None:
    with pytest.raises(OutputRefused, match=r"out/\{x\}.ipynb"):
        sweep(notebook(), {"x": [1, 2]}, output="same.ipynb")


