"""The supervisor, as the script it is: what it says of the kernel, and that nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import DAEMON, Marked, marked, wait_for

import mltoolkit.execution.supervisor as supervisor
from mltoolkit.execution import links

SCRIPT = supervisor.__file__
PYTHON = [sys.executable, "-I", "-S", "-c"]
mark = pytest.fixture(marked)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "usage.json"


def command(report: Path, *kernel: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(SCRIPT), str(report), *kernel]


def run(mark: Marked, report: Path, *kernel: str) -> tuple[int, dict[str, Any]]:
    mark.env["JPY_PARENT_PID"] = str(os.getpid())
    ended = mark.run(*command(report, *kernel))
    return ended.returncode, json.loads(report.read_text())


@pytest.mark.parametrize("code", [0, 3])
def test_exit_code(mark: Marked, report: Path, code: int) -> None:
    status, said = run(mark, report, *PYTHON, f"import os; os._exit({code})")
    assert (status, said["exit_code"], said["signal"], said["leftover"]) == (code, code, None, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_signal(mark: Marked, report: Path, number: signal.Signals) -> None:
    status, said = run(mark, report, *PYTHON, f"import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {number:d})")
    assert (status, said["exit_code"], said["signal"]) == (128 + number, None, number)


def test_figures(mark: Marked, report: Path) -> None:
    _, said = run(mark, report, *PYTHON, "x = bytearray(200_000_000); sum(range(10_000_000))")
    assert said["peak_memory_bytes"] > 200_000_000
    assert said["cpu_s"] > 0


def test_without_a_report(mark: Marked, tmp_path: Path) -> None:
    """Of what is started more than once in a folder, nothing is left there."""
    mark.env["JPY_PARENT_PID"] = str(os.getpid())
    ended = mark.run(*links.supervised([*PYTHON, "import os; os._exit(3)"]), cwd=tmp_path)
    assert (ended.returncode, ended.stderr, list(tmp_path.iterdir())) == (3, "", [])


def test_unknown_program(mark: Marked, report: Path) -> None:
    mark.env["JPY_PARENT_PID"] = str(os.getpid())
    ended = mark.run(*command(report, "no-such-program"))
    assert ended.returncode == 127
    assert "cannot start no-such-program" in ended.stderr


def test_children_and_daemons_end_with_the_kernel(mark: Marked, report: Path) -> None:
    status, said = run(mark, report, *PYTHON, DAEMON)
    assert status == 0
    assert said["leftover"] == 2
    assert mark.alive() == []


def test_sigterm_ends_everything(mark: Marked, report: Path) -> None:
    mark.env["JPY_PARENT_PID"] = str(os.getpid())
    process = mark.start(*command(report, *PYTHON, DAEMON + "time.sleep(600)"))
    wait_for(lambda: len(mark.alive()) >= 4, "supervisor, kernel, child and daemon")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert mark.alive() == []
    assert json.loads(report.read_text())["signal"] == signal.SIGKILL


def test_killed_runner_takes_everything_along(mark: Marked, report: Path) -> None:
    runner = f"import os, subprocess, time; os.environ['JPY_PARENT_PID'] = str(os.getpid()); subprocess.Popen({command(report, *PYTHON, DAEMON + 'time.sleep(600)')!r}); time.sleep(600)"
    process = mark.start(sys.executable, "-c", runner, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(mark.alive()) >= 5, "runner, supervisor, kernel, child and daemon")
    process.kill()
    process.wait()
    mark.all_gone()


def test_runner_that_is_gone_already(mark: Marked, report: Path) -> None:
    mark.env["JPY_PARENT_PID"] = "1"  # not the parent: it died, and somebody adopted the supervisor
    ended = mark.run(*command(report, *PYTHON, "import time; time.sleep(600)"))
    assert ended.returncode == 143
    assert mark.alive() == []


def test_interrupt_reaches_the_group_of_the_kernel(mark: Marked, report: Path) -> None:
    mark.env["JPY_PARENT_PID"] = str(os.getpid())
    kernel = "import os, signal, time\ntry: open('ready', 'w').close(); time.sleep(600)\nexcept KeyboardInterrupt: os._exit(7)"
    process = mark.start(*command(report, *PYTHON, kernel), cwd=report.parent)
    wait_for((report.parent / "ready").exists, "the kernel to wait")
    process.send_signal(signal.SIGHUP)  # is for terminals; a batch run does not mind
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 7


def test_report_that_cannot_be_written(mark: Marked, tmp_path: Path) -> None:
    mark.env["JPY_PARENT_PID"] = str(os.getpid())
    ended = mark.run(*command(tmp_path / "missing" / "usage.json", *PYTHON, "import os; os._exit(4)"))
    assert (ended.returncode, ended.stderr) == (4, "")


def test_descendants_are_found_at_any_depth(mark: Marked) -> None:
    process = mark.start("sh", "-c", "sh -c 'sleep 600; true'; true")
    wait_for(lambda: len(mark.alive()) == 3, "two shells and a sleep")
    found = supervisor.descendants()
    assert set(mark.alive()) <= set(found)
    mark.end()
    process.communicate()
