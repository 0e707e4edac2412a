"""Several machines on one store: real workers, a real PostgreSQL, and SIGKILL for both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from postgresql import Server, server
from processes import Marked
from serving import ELSEWHERE, MAIN, Place, kill

from mltoolkit.record import tracking

__all__ = ["server"]  # a fixture

DAILY = '    schedule: {cron: "0 0 * * *", timezone: Europe/Berlin, end: "2013-12-31"}\n'
COUNT = """
import os
from pathlib import Path
with open({path!r}, "a") as file:
    file.write(Path(os.environ["MLTOOLKIT_JOB_FOLDER"]).parent.name + "\\n")
"""


@pytest.fixture
def place(workspace: Path, tiny: str, mark: Marked, write: Callable[..., Path], server: Server) -> Place:
    return Place(workspace, mark, write, tiny, server.database())


def backlog(place: Place, last: str, width: int) -> None:
    """Ask for a job for each day from 2013-01-01."""
    place.notebook("count.ipynb", COUNT.format(path=str(place.root / "done.txt")))
    place.jobs("  count:\n    notebook: count.ipynb\n" + DAILY)
    place.ask("jobs", "backfill", "count", "--from", "2013-01-01", "--to", last, "--workers", str(width), "--detach")


def finished(place: Place) -> int:
    return place.states().count("succeeded")


def test_two_workers_run_200_jobs_once_each_though_the_server_dies(place: Place, server: Server) -> None:
    backlog(place, "2013-07-19", 4)
    assert place.states() == ["waiting"] * 200
    workers = [place.start("worker", "--name", name) for name in ("one", "two")]
    for number in (30, 60, 90):
        place.until(lambda number=number: finished(place) >= number, f"{number} jobs to be done", 240)
        server.kill()
        time.sleep(1)  # what runs ends meanwhile, and has nowhere to say so
        server.start()
    place.until(lambda: finished(place) == 200, "200 jobs to be done", 300)
    place.stop(*workers)
    done = Counter(place.lines("done.txt"))
    assert (len(done), set(done.values())) == (200, {1}), place.logs()
    assert place.attempts() == [(1, "succeeded")] * 200
    shares = dict(place.rows("SELECT split_part(worker, ':', 1), count(*) FROM mltoolkit_attempts GROUP BY 1"))
    assert set(shares) == {"one", "two"}
    assert min(shares.values()) > 20, "neither did it alone"
    place.no_run_is_left_running()


def end_all_of(worker: subprocess.Popen[str]) -> None:
    """Kill a worker, and wait until what it had started is gone, too; its notebooks may not finish in between."""
    below = psutil.Process(worker.pid).children(recursive=True)
    kill(worker.pid)
    worker.wait()
    assert psutil.wait_procs(below, 30)[1] == []


def test_a_dead_machine_s_work(place: Place) -> None:
    place.slow()
    place.jobs("  slow:\n    notebook: slow.ipynb\n" + DAILY)
    place.hold.touch()
    place.ask("jobs", "backfill", "slow", "--from", "2013-01-01", "--to", "2013-01-04", "--workers", "4", "--detach")
    far = place.start("worker", "--name", "far", after=ELSEWHERE)
    place.begun(2)
    near = place.start("worker", "--name", "near", "--slots", "1")
    place.begun(3)
    end_all_of(far)
    place.hold.unlink()
    place.until(lambda: sorted(place.states()) == ["running", "running", "succeeded", "succeeded"], "what was queued to be done by the other")
    place.stop(near)  # or it would take one of the two

    place.hold.touch()
    far = place.start("worker", "--name", "far", "--slots", "2", after=ELSEWHERE)
    place.begun(6)  # both that it was at, again
    end_all_of(far)
    near = place.start("worker", "--name", "near", "--slots", "1")
    refused = place.run("jobs", "rescue", "far")
    assert (refused.returncode, "alive" in refused.stderr) == (2, True), "it showed signs of life a moment ago"
    place.hold.unlink()
    assert json.loads(place.run("jobs", "rescue", "far", "--yes", "--json").stdout) == {"worker": "far", "jobs": 2}
    place.until(lambda: place.states() == ["succeeded"] * 4, "all to be done")
    place.stop(near)
    ends = Counter(place.rows("SELECT key, count(*) FROM mltoolkit_attempts WHERE state = 'succeeded' GROUP BY key"))
    assert sorted(count for _, count in ends) == [1] * 4
    assert Counter(state for _, state in place.attempts()) == {"succeeded": 4, "lost": 4}
    assert set(Counter(place.lines("done.txt")).values()) == {1}
    place.no_run_is_left_running()


def test_incidents_and_approvals(place: Place) -> None:
    place.notebook("bad.ipynb", "1 / 0")
    place.notebook("good.ipynb", "1")
    notify = f"    notify: {{command: [sh, -c, 'cat >> {place.root / 'told.txt'}'], on: [failure, recovery, waiting]}}\n"
    place.jobs("  bad:\n    notebook: bad.ipynb\n" + notify + "  good:\n    notebook: good.ipynb\n    approval: before\n" + notify)
    worker = place.start("serve", "--name", "one")
    for job in ("bad", "good"):
        place.ask("jobs", "run", job, "--date", "2013-01-01", "--detach")
    place.until(lambda: sorted(place.states()) == ["approval", "failed"], "one to fail, the other to wait")
    place.stop(worker)  # what waits for a person is no process
    worker = place.start("serve", "--name", "one")
    time.sleep(1)
    assert sorted(place.states()) == ["approval", "failed"]
    approve = ("jobs", "approve", "good", "--note", "looks right", "--json")
    approved = json.loads(place.mark.run(sys.executable, "-c", ELSEWHERE + MAIN, *approve, cwd=place.root).stdout)
    assert (approved["approved"], approved["note"], approved["state"]) == (True, "looks right", "waiting")
    assert approved["who"].endswith("@another")
    place.notebook("bad.ipynb", "1")
    place.until(lambda: sorted(place.states()) == ["failed", "succeeded"], "what was approved to be done")
    place.ask("jobs", "run", "bad", "--date", "2013-01-02", "--detach")
    place.until(lambda: sorted(place.states()) == ["failed", "succeeded", "succeeded"], "the other one to be well again")
    events = "SELECT job, event FROM mltoolkit_notices WHERE sent IS NOT NULL ORDER BY event"
    place.until(lambda: place.rows(events) == [("bad", "failure"), ("bad", "recovery"), ("good", "waiting")], "three notices")
    assert place.rows("SELECT job, count, first FROM mltoolkit_incidents WHERE closed IS NOT NULL") == [("bad", 1, "bad@2013-01-01T00:00:00")]
    place.stop(worker)
    place.no_run_is_left_running()
    tags = tracking.client(place.root).get_run(json.loads(place.run("jobs", "show", "good", "--json").stdout)["run_id"]).data.tags
    assert (tags["mltoolkit.approved_by"], tags["mltoolkit.approved_note"]) == (approved["who"], "looks right")
