"""Runs of record: how they end, what they leave, and what they never leave."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import notebook_of
from processes import BIN, Marked, wait_for

import mltoolkit
from mltoolkit.errors import (
    Cancelled,
    EndedEarly,
    Invalid,
    KernelDied,
    NotebookFailed,
    OutputRefused,
    Status,
    TimedOut,
    TrackingError,
)
from mltoolkit.execution.run import run_notebook
from mltoolkit.execution.session import Stop
from mltoolkit.notebook import document
from mltoolkit.record import runs, tracking
from mltoolkit.record.manifest import Run

PROGRAM = BIN / "mltoolkit"
WAIT = "import pathlib, time\npathlib.Path('started').touch()\nprint('before', flush=True)\ntime.sleep(100)"


def texts(path: str | Path) -> str:
    return "".join(output.get("text", "") for cell in document.read(path).cells for output in cell.get("outputs", []))


class TestStatuses:
    """Each status, by a real cause: the exception, the exit code, the manifest, the notebook."""

    @pytest.mark.parametrize(
        ("code", "options", "kind", "status", "code_of_exit"),
        [
            ("raise ValueError('no rows')", {}, NotebookFailed, "failed", 1),
            ("import sys; sys.exit(3)", {}, NotebookFailed, "failed", 1),
            ("import sys; sys.exit(0)", {}, EndedEarly, "ended_early", 5),
            ("import os; os._exit(0)", {}, KernelDied, "kernel_died", 3),
            ("import os; os.kill(os.getpid(), 9)", {}, KernelDied, "kernel_died", 3),
            ("while True: pass", {"cell_timeout": 0.5}, TimedOut, "timed_out", 4),
            ("while True: pass", {"timeout": 1.5}, TimedOut, "timed_out", 4),
        ],
    )
    def test_failures(
        self, bare_workspace: Path, tiny: str, write: Callable[..., Path], code: str, options: dict[str, Any], kind: type[NotebookFailed], status: str, code_of_exit: int
    ) -> None:
        source = write("a.ipynb", "print('kept')", code, "print('not reached')", kernel=tiny)
        with pytest.raises(kind) as caught:
            run_notebook(source, track=False, **options)
        run = caught.value.run
        assert type(caught.value) is kind
        assert (run.status, run.exit_code, caught.value.exit_code) == (status, code_of_exit, code_of_exit)
        assert run.failure.cell == 1
        assert texts(run.output) == "kept\n"
        assert runs.find("latest") == run
        assert status in str(caught.value)
        assert Path(run.html).exists()
        assert not (Path(run.output).parent / runs.JOURNAL).exists()
        assert pickle.loads(pickle.dumps(caught.value)).run == run

    def test_success(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        run = run_notebook(write("a.ipynb", "print('one')", kernel=tiny), track=False)
        assert (run.status, run.exit_code, run.cells.executed) == ("succeeded", 0, 1)
        assert run.cpu_s is not None
        assert run.peak_memory_bytes > 1_000_000
        assert run.environment.packages["pandas"]
        assert (Path(run.output).parent / "requirements.txt").read_text().count("==") > 100
        assert Run.from_json((Path(run.output).parent / "manifest.json").read_text()) == run

    def test_an_error_marks_the_notebook_as_papermill_does(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        with pytest.raises(NotebookFailed) as caught:
            run_notebook(write("a.ipynb", "1", "raise ValueError('no')", kernel=tiny), track=False)
        cells = document.read(caught.value.run.output).cells
        marked = [index for index, cell in enumerate(cells) if "papermill-error-cell-tag" in document.tags(cell)]
        assert marked == [0, 2]


class TestTracked:
    def test_a_failed_run_in_the_store(self, workspace: Path, write: Callable[..., Path]) -> None:
        source = write("projects/demo/a.ipynb", "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('loss', 0.5)\n    raise ValueError('no rows')", parameters="n: int = 1")
        with pytest.raises(NotebookFailed) as caught:
            run_notebook(source, parameters={"n": 2})
        run = caught.value.run
        store = tracking.client(workspace)
        found = store.get_run(run.run_id)
        assert found.info.status == "FAILED"
        assert found.data.params == {"n": "2"}
        assert found.data.metrics == run.metrics == {"loss": 0.5}
        assert found.data.tags["mltoolkit.status"] == "failed"
        assert found.data.tags["mltoolkit.failure"] == "ValueError: no rows"
        assert {each.path for each in store.list_artifacts(run.run_id)} == {"a.ipynb", "a.html", "manifest.json", "requirements.txt"}
        assert store.get_experiment(found.info.experiment_id).name == "demo"

    def test_no_store_no_run(self, bare_workspace: Path, tiny: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLTOOLKIT_TRACKING_URI", "postgresql://someone:hidden-password@127.0.0.1:9/mlflow")
        with pytest.raises((TrackingError, Exception)) as caught:
            run_notebook(write("a.ipynb", "1", kernel=tiny))
        assert "hidden-password" not in str(caught.value)
        assert list(bare_workspace.glob(".mltoolkit/runs/*")) == []


class TestInterruption:
    """Real signals to a real `mltoolkit run`."""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_stop_keeps_what_was_shown(self, bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, number: int, code: int) -> None:
        write("a.ipynb", WAIT, kernel=tiny)
        process = mark.start(PROGRAM, "run", "a.ipynb", "--no-track")
        wait_for(Path("started").exists, "the cell to start")
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        run = runs.find("latest")
        assert (run.status, run.exit_code) == (Status.cancelled, code)
        assert "before\n" in texts(run.output)
        mark.all_gone()

    def test_a_killed_runner_leaves_no_process_and_is_found_lost(self, workspace: Path, write: Callable[..., Path], mark: Marked) -> None:
        child = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        write("a.ipynb", "1 + 1", child + WAIT)
        process = mark.start(PROGRAM, "run", "a.ipynb")
        wait_for(Path("started").exists, "the cell to start")
        [folder] = (workspace / ".mltoolkit" / "runs").glob("*/")
        wait_for(lambda: b"before" in (folder / runs.JOURNAL).read_bytes(), "the output to be journalled")
        assert runs.repair() == []
        process.kill()
        process.communicate(timeout=60)
        mark.all_gone()
        assert runs.repair() == [folder.name]
        run = runs.find("latest")
        assert run.status == "lost"
        assert texts(run.output) == "before\n"
        store = tracking.client(workspace)
        assert store.get_run(folder.name).info.status == "KILLED"
        assert store.get_run(folder.name).data.tags["mltoolkit.status"] == "lost"
        assert runs.repair() == []

    def test_a_stop_from_another_thread(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        source = write("a.ipynb", WAIT, kernel=tiny)
        stop = Stop()

        def asking() -> None:
            wait_for(Path("started").exists, "the cell to start")
            stop.request()

        thread = threading.Thread(target=asking)
        thread.start()
        with pytest.raises(Cancelled):
            run_notebook(source, track=False, stop=stop)
        thread.join()
        stop.close()


class TestOutput:
    def test_a_path_of_ones_own(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        run = run_notebook(write("a.ipynb", "print(1)", kernel=tiny), "out.ipynb", track=False)
        assert run.output == str(bare_workspace / "out.ipynb")
        assert texts("out.ipynb") == "1\n"
        assert runs.find("out.ipynb").run_id == run.run_id

    def test_two_runs_cannot_write_one_path(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        source, other = write("a.ipynb", WAIT, kernel=tiny), write("b.ipynb", "1", kernel=tiny)
        stop = Stop()

        def first() -> None:
            with pytest.raises(Cancelled):
                run_notebook(source, "out.ipynb", track=False, stop=stop)

        thread = threading.Thread(target=first)
        thread.start()
        wait_for(Path("started").exists, "the first run's cell to start")
        with pytest.raises(OutputRefused, match="another run is writing"):
            run_notebook(other, "out.ipynb", track=False)
        stop.request()
        thread.join()
        stop.close()
        assert run_notebook(other, "out.ipynb", track=False).status == "succeeded"

    def test_a_full_disk_leaves_the_previous_output_whole(self, bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked) -> None:
        write("a.ipynb", "print('first')", kernel=tiny)
        run_notebook("a.ipynb", "out.ipynb", track=False)
        before = Path("out.ipynb").read_bytes()
        write("a.ipynb", "print('x' * 3_000_000)", kernel=tiny)

        def small_files() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

        done = mark.run(PROGRAM, "run", "a.ipynb", "out.ipynb", "--no-track", preexec_fn=small_files)
        assert done.returncode == 1, done.stderr
        assert "File too large" in done.stderr
        assert Path("out.ipynb").read_bytes() == before
        assert list(bare_workspace.glob("**/*.tmp")) == []
        assert runs.find("latest").status == "failed"
        mark.all_gone()


class TestIsolation:
    def test_a_notebook_leaves_the_next_one_and_its_caller_alone(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        Path("elsewhere").mkdir()
        write("a.ipynb", "import os, string\nos.chdir('elsewhere')\nos.environ['LEAK'] = '1'\nstring.digits = None")
        write("b.ipynb", "import os, string\nprint(os.path.basename(os.getcwd()), 'LEAK' in os.environ, string.digits)")
        run_notebook("a.ipynb", track=False)
        run = run_notebook("b.ipynb", track=False)
        assert texts(run.output) == "workspace False 0123456789\n"
        assert Path.cwd() == bare_workspace

    def test_seeds_make_runs_alike(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        write("a.ipynb", "import random, numpy\nprint(random.random(), numpy.random.rand(), hash('text'))")
        first, second = (texts(run_notebook("a.ipynb", track=False).output) for _ in range(2))
        assert first == second
        Path("settings.ini").write_text("[mltoolkit]\nseed = 7\n")
        assert texts(run_notebook("a.ipynb", track=False).output) != first

    def test_a_notebook_that_runs_a_notebook(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        write("inner.ipynb", "print('inner')", kernel=tiny)
        write("outer.ipynb", "import mltoolkit\nprint(mltoolkit.run_notebook('inner.ipynb', track=False).status)")
        assert texts(run_notebook("outer.ipynb", track=False).output) == "succeeded\n"

    def test_two_at_once_in_one_process(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        sources = [write(f"{name}.ipynb", f"print({name!r})", kernel=tiny) for name in "ab"]
        done: list[str] = []
        threads = [threading.Thread(target=lambda path=path: done.append(texts(run_notebook(path, track=False).output))) for path in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == ["a\n", "b\n"]

    def test_many_runs_leave_nothing(self, bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked) -> None:
        write("a.ipynb", "print(1)", kernel=tiny)
        program = (
            "import os, threading, glob, mltoolkit\n"
            "def left(): return len(os.listdir('/proc/self/fd')), threading.active_count()\n"
            "mltoolkit.run_notebook('a.ipynb', track=False)\n"
            "before = left()\n"
            "for _ in range(15): mltoolkit.run_notebook('a.ipynb', track=False)\n"
            "print(before == left(), before, left())\n"
        )
        done = mark.run(sys.executable, "-c", program)
        assert done.stdout.startswith("True"), done.stdout + done.stderr
        assert mark.alive() == []

    def test_input_fails_at_once(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        with pytest.raises(NotebookFailed, match="StdinNotImplementedError"):
            run_notebook(write("a.ipynb", "input('name? ')"), track=False)


class TestSecrets:
    def test_nothing_that_is_written_has_them(self, workspace: Path, write: Callable[..., Path]) -> None:
        value = "an-unlikely-secret-value"
        source = write(
            "a.ipynb",
            "import mlflow, sys\nprint(key)\nprint(key[:9], end='', flush=True); print(key[9:], flush=True)\nprint(repr(key), file=sys.stderr)",
            "raise ValueError(key)",
            parameters="key: str",
        )
        with pytest.raises(NotebookFailed) as caught:
            run_notebook(source, secrets={"key": value})
        assert value not in str(caught.value)
        holding = [path for path in workspace.rglob("*") if path.is_file() and value.encode() in path.read_bytes()]
        assert holding == []
        assert "[secret:key]" in texts(caught.value.run.output)
        assert caught.value.run.secrets == ["key"]

    def test_only_python_kernels_get_them(self, bare_workspace: Path, kernelspec: Callable[..., str], write: Callable[..., Path]) -> None:
        name = kernelspec("other", sys.executable, "-c", "", language="julia")
        source = write("a.ipynb", "1", kernel=name, parameters="key = 1")
        with pytest.raises(Invalid):
            run_notebook(source, secrets={"key": "long-enough"}, track=False)


class TestWatching:
    def test_start_output_end(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        seen: list[tuple[str, int]] = []
        run_notebook(write("a.ipynb", "print(1)", "2", kernel=tiny), track=False, watch=lambda event, index, node: seen.append((event, index)))
        assert seen[0] == ("start", 0)
        assert ("output", 0) in seen
        assert seen[-1] == ("end", 1)

    def test_a_watcher_that_raises_does_not_lose_the_run(self, bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
        def bad(event: str, index: int, node: Any) -> None:
            raise RuntimeError("watcher")

        with pytest.raises(RuntimeError, match="watcher"):
            run_notebook(write("a.ipynb", "print(1)", kernel=tiny), track=False, watch=bad)
        assert runs.find("latest").status == "failed"


def test_public_names() -> None:
    assert mltoolkit.run_notebook is run_notebook
    assert mltoolkit.Run is Run


def test_a_run_belongs_to_its_own_workspace_wherever_it_is_started(workspace: Path, prepared_store: Path) -> None:
    """Importing MLflow in one workspace sets the address of that workspace's store, which is not for others."""
    inner = workspace / "deeper"
    (inner / ".mltoolkit").mkdir(parents=True)
    (inner / "settings.ini").write_text("[mltoolkit]\n")
    shutil.copy(prepared_store, inner / ".mltoolkit" / "mlflow.db")
    document.write(notebook_of("import mlflow\nmlflow.log_metric('m', 1)"), inner / "one.ipynb")
    code = """import mlflow, os
from mltoolkit import run_notebook, settings
print(os.environ["MLFLOW_TRACKING_URI"], settings.get("tracking_uri"), settings.get("tracking_uri", start="deeper"))
print(run_notebook("deeper/one.ipynb").metrics)
os.environ["MLFLOW_TRACKING_URI"] = "sqlite:////elsewhere.db"
print(settings.get("tracking_uri", start="deeper"))"""
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    said = subprocess.run([sys.executable, "-c", code], cwd=workspace, env=env, capture_output=True, text=True, check=True).stdout.splitlines()
    here, there = (f"sqlite:///{folder}/.mltoolkit/mlflow.db" for folder in (workspace, inner))
    assert said == [f"{here} {here} {there}", "{'m': 1.0}", "sqlite:////elsewhere.db"]
    assert not runs.listing(start=workspace)
    assert len(runs.listing(start=inner)) == 1
