"""Several machines on one store: real workers, a real PostgreSQL, and SIGKILL for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from postgresql import Server, server
from processes import Marked
from serving import Place

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


def test_two_workers_run_200_jobs_once_each(place: Place) -> None:
    backlog(place, "2013-07-19", 4)
    assert place.states() == ["waiting"] * 200
    workers = [place.start("worker", "--name", name) for name in ("one", "two")]
    place.until(lambda: finished(place) == 200, "200 jobs to be done", 240)
    place.stop(*workers)
    done = Counter(place.lines("done.txt"))
    assert (len(done), set(done.values())) == (200, {1})
    assert place.attempts() == [(1, "succeeded")] * 200
    shares = dict(place.rows("SELECT split_part(worker, ':', 1), count(*) FROM mltoolkit_attempts GROUP BY 1"))
    assert set(shares) == {"one", "two"}
    assert min(shares.values()) > 20, "neither did it alone"
    place.no_run_is_left_running()
