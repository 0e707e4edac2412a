"""Serving jobs: real processes and real signals. After each: every instance has one end, and nothing is left over."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Marked
from serving import Place, kill


@pytest.fixture
def place(workspace: Path, tiny: str, mark: Marked, write: Callable[..., Path]) -> Place:
    return Place(workspace, mark, write, tiny)


ONE = """
  slow:
    notebook: slow.ipynb
"""


def test_a_tick_becomes_one_run_of_record(place: Place) -> None:
    place.notebook("quick.ipynb", "print('hello')")
    place.jobs("  quick:\n    notebook: quick.ipynb\n    schedule: {every: 2s}\n  then:\n    notebook: quick.ipynb\n    needs: [quick]\n")
    first, second = place.start("serve"), place.start("serve")  # on one store
    place.until(lambda: place.states().count("succeeded") >= 4, "two ticks and what follows them")
    place.stop(first, second)
    keys = [key for key, _ in place.rows()]
    assert len(keys) == len(set(keys))
    assert all(number == 1 for number, state in place.attempts() if state == "succeeded"), "each tick ran once"
    ends = place.rows("SELECT key, count(*) FROM mltoolkit_attempts WHERE state = 'succeeded' GROUP BY key")
    assert all(count == 1 for _, count in ends)
    listed = json.loads(place.run("jobs", "history", "--state", "succeeded", "--json").stdout)
    tagged = json.loads(place.run("runs", "show", listed[0]["run_id"], "--json").stdout)
    assert (tagged["trigger"], tagged["job"], tagged["attempt"]) == ("job", listed[0]["job"], 1)
    assert Path(listed[0]["page"]).exists()
    assert place.run("jobs", "logs", f"{listed[0]['job']}@{listed[0]['logical_date']}").stdout == "hello\n"
    place.no_run_is_left_running()


def test_sigterm_puts_what_runs_back_into_the_queue(place: Place) -> None:
    place.slow()
    place.jobs(ONE + "    retries: {times: 0}\n")
    place.hold.touch()
    served = place.start("serve")
    place.ask("jobs", "run", "slow", "--date", "2013-01-01", "--detach")
    place.begun()
    place.stop(served)
    assert place.rows() == [("slow@2013-01-01T00:00:00", "waiting")]
    place.hold.unlink()
    served = place.start("worker")
    place.until(lambda: place.states() == ["succeeded"], "the job to be done")
    place.stop(served)
    assert place.attempts() == [(1, "cancelled"), (2, "succeeded")]
    assert place.lines("done.txt") == ["2013-01-01T00-00-00"]
    published = place.root / ".mltoolkit" / "jobs" / "slow" / "2013-01-01T00-00-00" / "output"
    assert (published / "made.txt").read_text() == "whole"
    place.no_run_is_left_running()


@pytest.mark.parametrize("victims", ["worker", "runner", "everything"])
def test_kill_9_costs_a_repetition_and_nothing_else(place: Place, victims: str) -> None:
    place.slow()
    place.jobs(ONE)
    place.hold.touch()
    served = place.start("serve")
    for date in ("2013-01-01", "2013-01-02"):
        place.ask("jobs", "run", "slow", "--date", date, "--detach")
    kernel = place.begun()
    if victims == "everything":
        kill(*place.mark.alive())
    else:
        kill(served.pid if victims == "worker" else place.runners()[0])
    if victims != "runner":
        served.wait()
        served = place.start("serve")
    place.begun(2)
    assert not Path(f"/proc/{kernel}").exists(), "the first attempt is gone before the second begins"
    place.hold.unlink()
    place.until(lambda: place.states() == ["succeeded", "succeeded"], "both to be done")
    place.stop(served)
    assert place.attempts() == [(1, "lost"), (2, "succeeded"), (1, "succeeded")]
    assert sorted(place.lines("done.txt")) == ["2013-01-01T00-00-00", "2013-01-02T00-00-00"]
    place.no_run_is_left_running()


def test_a_killed_kernel_is_the_job_s_to_retry(place: Place) -> None:
    place.slow()
    place.jobs(ONE + "    retries: {times: 1, backoff: 1s, on: [kernel_died]}\n")
    place.hold.touch()
    served = place.start("serve")
    place.ask("jobs", "run", "slow", "--date", "2013-01-01", "--detach")
    kill(place.begun())
    place.begun(2)
    place.hold.unlink()
    place.until(lambda: place.states() == ["succeeded"], "the job to be done")
    place.stop(served)
    assert place.attempts() == [(1, "kernel_died"), (2, "succeeded")]
    place.no_run_is_left_running()


LEAVES = """
import os, signal, subprocess, time
from pathlib import Path
child = Path({root!r}, "child.txt")
if not child.exists():
    child.write_text(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
stat = Path("/proc", child.read_text(), "stat")
print(stat.exists() and ") Z " not in stat.read_text())  # it has ended, though nobody may have asked how
"""  # ends its supervisor, and with it itself


def test_what_a_dead_supervisor_could_not_end_is_gone_before_the_retry(place: Place) -> None:
    place.notebook("leaves.ipynb", LEAVES.format(root=str(place.root)))
    place.jobs("  leaves:\n    notebook: leaves.ipynb\n    retries: {times: 1, backoff: 1s, on: [kernel_died]}\n")
    place.ask("jobs", "run", "leaves", "--date", "2013-01-01")
    assert place.attempts() == [(1, "kernel_died"), (2, "succeeded")]
    assert place.run("jobs", "logs", "leaves").stdout == "False\n"
    place.mark.all_gone()


def test_another_worker_of_the_machine_takes_over_at_once(place: Place) -> None:
    place.slow()
    place.jobs(ONE)
    place.hold.touch()
    first = place.start("serve")
    place.ask("jobs", "run", "slow", "--date", "2013-01-01", "--detach")
    place.begun()
    second = place.start("worker", "--name", "other")
    place.until(lambda: len(place.rows("SELECT id FROM mltoolkit_workers")) == 2, "the second worker")
    first.kill()
    first.wait()
    place.begun(2)
    place.hold.unlink()
    place.until(lambda: place.states() == ["succeeded"], "the job to be done")
    place.stop(second)
    assert place.attempts() == [(1, "lost"), (2, "succeeded")]
    place.no_run_is_left_running()


def test_a_locked_database_loses_nothing(place: Place) -> None:
    place.slow()
    place.jobs(ONE)
    served = place.start("serve", "--slots", "1")
    for number, name in enumerate(("jobs.db", "mlflow.db"), 1):
        place.hold.touch()
        place.ask("jobs", "run", "slow", "--date", f"2013-01-0{number}", "--detach")
        place.begun(number)
        connection = sqlite3.connect(place.root / ".mltoolkit" / name, isolation_level=None, timeout=30)
        connection.execute("BEGIN IMMEDIATE")
        place.hold.unlink()  # it ends while nothing can be written
        time.sleep(20)
        connection.execute("ROLLBACK")
        connection.close()
        place.until(lambda number=number: place.states() == ["succeeded"] * number, f"the job to be done in spite of {name}")
    place.stop(served)
    assert place.attempts() == [(1, "succeeded")] * 2
    place.no_run_is_left_running()
    assert sorted(run["status"] for run in json.loads(place.run("runs", "--json").stdout)) == ["succeeded"] * 2


def test_a_failed_pipeline_goes_on_from_the_failed_job(place: Place) -> None:
    place.notebook("one.ipynb", f"open({str(place.root / 'one.txt')!r}, 'a').write('x')")
    place.notebook("two.ipynb", f"open({str(place.root / 'key')!r})")
    place.notebook("three.ipynb", "print(before)", parameters="before: str = ''")
    place.jobs("  one: {notebook: one.ipynb}\n  two: {notebook: two.ipynb, needs: [one]}\n"
               "  three: {notebook: three.ipynb, needs: [one, two], parameters: {before: '{two.run_id} {one.output}'}}\n")  # fmt: skip
    failed = place.run("jobs", "run", "one", "--date", "2013-01-01")
    assert failed.returncode == 1
    assert place.states() == ["succeeded", "failed", "blocked"]
    assert "FileNotFoundError" in failed.stdout
    (place.root / "key").touch()
    place.ask("jobs", "run", "one", "--from-failure")
    assert place.states() == ["succeeded"] * 3
    assert (place.root / "one.txt").read_text() == "x", "what had succeeded was not repeated"
    left = {row["job"]: row["run_id"] for row in json.loads(place.run("jobs", "history", "--json").stdout)}
    run_id, _, output = place.run("jobs", "logs", "three").stdout.strip().partition(" ")
    assert run_id == left["two"], "of the attempt that succeeded"
    assert Path(output).exists()
    tags = json.loads(place.run("runs", "show", left["three"], "--json").stdout)
    assert sorted(tags["upstream"]) == sorted([left["one"], left["two"]])
    again = place.run("jobs", "run", "one", "--date", "2013-01-01")
    assert (again.returncode, "nothing is repeated" in again.stderr) == (2, True)
    place.mark.all_gone()


def test_cancelling_what_runs_and_what_waits(place: Place) -> None:
    place.slow()
    place.jobs(ONE + "    retries: {times: 3, backoff: 1s, on: [failed]}\n")
    place.hold.touch()
    served = place.start("serve")
    for date in ("2013-01-01", "2013-01-02"):
        place.ask("jobs", "run", "slow", "--date", date, "--detach")
    place.begun()
    place.ask("jobs", "cancel", "slow@2013-01-02")
    place.ask("jobs", "cancel", "slow@2013-01-01")
    place.until(lambda: place.states() == ["cancelled", "cancelled"], "both to be cancelled")
    place.stop(served)
    assert place.attempts() == [(1, "cancelled")]
    place.no_run_is_left_running()


def test_a_backfill_is_restartable(place: Place) -> None:
    place.slow()
    place.jobs('  slow:\n    notebook: slow.ipynb\n    schedule: {cron: "0 0 1 * *", timezone: Europe/Berlin, end: "2013-12-31"}\n')
    plan = json.loads(place.run("jobs", "backfill", "slow", "--from", "2013-01", "--to", "2013-03", "--dry-run", "--json").stdout)
    assert [each["state"] for each in plan] == [None] * 3
    place.hold.touch()
    filling = place.start("jobs", "backfill", "slow", "--from", "2013-01", "--to", "2013-03", "--workers", "2")
    place.begun(2)
    kill(*place.mark.alive())
    filling.wait()
    place.hold.unlink()
    place.ask("jobs", "backfill", "slow", "--from", "2013-01", "--to", "2013-03", "--workers", "2")
    assert place.states() == ["succeeded"] * 3
    assert sorted(place.lines("done.txt")) == [f"2013-0{month}-01T00-00-00" for month in (1, 2, 3)]
    place.no_run_is_left_running()
    place.mark.all_gone()
