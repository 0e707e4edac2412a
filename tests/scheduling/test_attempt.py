"""One attempt of a job: its result, its folder, and what is left after a crash."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mltoolkit.record.environment import process_start
from mltoolkit.scheduling import attempt
from mltoolkit.scheduling.attempt import FOLDER, OUTPUT, Order, clear, folder_of, perform, place_of, result_of
from mltoolkit.scheduling.jobs import Job

KEY = "a@2013-02-01T02:30:00"


@pytest.fixture
def order(workspace: Path, write: Callable[..., Path], tiny: str) -> Callable[..., Order]:
    def make(source: str, parameters: dict[str, Any] | None = None, declared: str | None = None, number: int = 1, **more: Any) -> Order:
        notebook = write("a.ipynb", source, kernel=tiny, parameters=declared)
        job = Job(name="a", project=None, file=workspace / "jobs.yaml", line=1, notebook=notebook, parameters=parameters or {}, **more)
        return Order(str(workspace), job, KEY, "2013-02-01T02:30:00", number)

    return make


def test_a_success_is_published_with_what_the_notebook_made(order: Callable[..., Order]) -> None:
    made = order(
        "import os; print(day); open(os.path.join(os.environ['MLTOOLKIT_JOB_FOLDER'], 'made.txt'), 'w').write(day)",
        {"day": "{logical_date:%Y-%m-%d}"}, "day: str = ''",
    )  # fmt: skip
    result = perform(made)
    output = place_of(made.root, KEY) / OUTPUT
    assert (result["state"], (output / "made.txt").read_text(), (output / "log.txt").read_text()) == ("succeeded", "2013-02-01", "2013-02-01\n")
    assert result_of(made.root, KEY, 1) == json.loads((output / "result.json").read_text()) == result
    assert result["facts"]["parameters"] == {"day": "2013-02-01"}
    assert not folder_of(made.root, KEY, 1).exists()
    assert FOLDER not in os.environ


def test_a_failure_says_why_and_publishes_nothing(order: Callable[..., Order]) -> None:
    made = order("print('so far'); 1 / 0")
    result = perform(made)
    assert (result["state"], "ZeroDivisionError" in result["reason"], bool(result["run_id"])) == ("failed", True, True)
    assert not (place_of(made.root, KEY) / OUTPUT).exists()
    assert "so far" in (folder_of(made.root, KEY, 1) / "log.txt").read_text()
    assert result_of(made.root, KEY, 1) == result


def test_what_is_refused_is_invalid(order: Callable[..., Order]) -> None:
    result = perform(order("1", {"n": "{logical_date:%B}"}, "n: int = 1"))
    assert (result["state"], result["run_id"]) == ("invalid", None)
    assert "n" in result["reason"]


def test_what_does_not_pass_the_gate_is_not_begun(order: Callable[..., Order]) -> None:
    result = perform(order("open('begun', 'w'); nobody_knows_it"))
    assert (result["state"], result["run_id"], Path("begun").exists()) == ("invalid", None, False)
    assert "did not pass the gate" in result["reason"]
    assert "MLT103" in result["reason"]


def test_memory_has_a_limit(order: Callable[..., Order]) -> None:
    result = perform(order("import time; held = bytearray(400_000_000); held[::4096] = b'x' * len(held[::4096]); time.sleep(60)", memory=300_000_000))
    assert result["state"] == "kernel_died"
    assert "its limit is 300 MB" in result["reason"]


def test_memory_of_what_was_there_before_is_not_the_attempts(order: Callable[..., Order]) -> None:
    code = "held = bytearray(350_000_000); held[::4096] = b'x' * len(held[::4096]); print('x', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert perform(order("import time; time.sleep(1)", memory=300_000_000))["state"] == "succeeded"
        assert other.poll() is None
        other.communicate(b"\n")


def test_a_full_disk_while_publishing_is_a_failure_that_says_so(order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = order("1")
    with monkeypatch.context() as patch:
        patch.setattr(attempt, "write_atomically", full)
        result = perform(made)
    assert (result["state"], "could not be published" in result["reason"], "No space left" in result["reason"]) == ("failed", True, True)
    assert not (place_of(made.root, KEY) / OUTPUT).exists()
    assert perform(order("1", number=2))["state"] == "succeeded"


def test_a_folder_that_cannot_be_made(order: Callable[..., Order], workspace: Path) -> None:
    place_of(workspace, KEY).parent.mkdir(parents=True)
    place_of(workspace, KEY).write_text("in the way")
    assert "cannot be written" in perform(order("1"))["reason"]


def test_clearing_ends_a_runner_and_what_it_started(tmp_path: Path) -> None:
    folder = tmp_path / "attempt-1"
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); print('x', flush=True); import time; time.sleep(600)"
    runner = subprocess.Popen([sys.executable, "-c", child], env={**os.environ, FOLDER: str(folder)}, stdout=subprocess.PIPE)
    assert runner.stdout
    runner.stdout.readline()
    reaper = threading.Thread(target=runner.wait)
    reaper.start()
    clear(runner.pid, process_start(runner.pid), folder, patience=0.1)
    reaper.join()
    runner.stdout.close()
    assert attempt._marked(folder) == []


HOLDS = """
import os, sys, time
from mltoolkit.execution import zygote
if sys.argv[1] == "mark":
    zygote.hold({"env": {"MLTOOLKIT_JOB_FOLDER": sys.argv[2]}})
else:
    os.open(sys.argv[2], os.O_RDONLY)
print("x", flush=True)
time.sleep(600)
"""


def test_who_looks_into_the_folder_is_left_alone_and_who_has_its_mark_is_not(tmp_path: Path) -> None:
    beside, marked = (
        subprocess.Popen([sys.executable, "-c", HOLDS, how, str(tmp_path)], stdout=subprocess.PIPE) for how in ("folder", "mark")
    )  # fmt: skip
    reaper = threading.Thread(target=marked.wait)
    reaper.start()
    try:
        for each in (beside, marked):
            assert each.stdout
            each.stdout.readline()
        clear(0, None, tmp_path, patience=0.1)
        reaper.join(10)
        assert (marked.returncode, beside.poll()) == (-9, None)
    finally:
        for each in (beside, marked):
            each.kill()
            each.wait()
            each.stdout.close()  # type: ignore[union-attr]
