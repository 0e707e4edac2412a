"""What is stopped for longer than any sign of life may be late, and then goes on: no tick is lost, none runs twice, no two at a time."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from processes import Marked
from serving import ELSEWHERE, Place

SOON = """
from mltoolkit.scheduling import store, workflow
workflow.BEAT = 0.3
store.SILENCE = workflow.SILENCE = 1.0
"""  # a minute without a sign of life is over in a second
STOPPED = 3.0  # seconds

TICK = """
import os, time
from pathlib import Path
logical, root = Path(os.environ["MLTOOLKIT_JOB_FOLDER"]).parent.name, Path({root!r})
def say(what):
    with open(root / "said.txt", "a") as file:
        file.write(f"{{what}} {{logical}} {{os.getpid()}}\\n")
say("begins")
deadline = time.monotonic() + 120
while (root / "hold").exists() and time.monotonic() < deadline:
    time.sleep(0.02)
say("ends")
"""


@pytest.fixture
def place(workspace: Path, tiny: str, mark: Marked, write: Callable[..., Path]) -> Place:
    return Place(workspace, mark, write, tiny)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_servers_runners_and_kernels_that_are_stopped_for_long(place: Place) -> None:
    place.notebook("tick.ipynb", TICK.format(root=str(place.root)))
    place.jobs("  tick:\n    notebook: tick.ipynb\n    schedule: {every: 2s, catch_up: all}\n")
    servers = [place.start("serve", "--slots", "1", "--name", "far", after=SOON + ELSEWHERE), place.start("serve", "--slots", "1", "--name", "near", after=SOON)]

    def said(what: str) -> list[str]:
        return [line for line in place.lines("said.txt") if line.startswith(what)]

    def running() -> int:
        """Wait until one runs that goes on as long as it is held; return its kernel."""
        place.hold.touch()
        place.until(lambda: len(said("begins")) == len(said("ends")) + 1, "one that runs")
        return int(said("begins")[-1].split()[2])

    place.until(lambda: len(said("ends")) >= 2, "two ticks")
    for what in ("server", "runner", "supervisor", "kernel"):
        kernel = running()
        supervisor = psutil.Process(kernel).ppid()
        runner = psutil.Process(supervisor).ppid()
        owner = psutil.Process(runner).ppid()
        victims = {"server": owner, "runner": runner, "supervisor": supervisor, "kernel": kernel}
        count = len(said("begins"))
        with stopped(victims[what]):
            assert len(said("begins")) == count, f"nothing else of the job begins while its {what} is stopped"
        place.hold.unlink()
        place.until(lambda count=count: len(said("ends")) > count, "the next one to end")
    place.stop(*servers)
    lines = [line.split()[:2] for line in place.lines("said.txt")]
    assert all(first == ["begins", logical] for first, (_, logical) in zip(lines[::2], lines[1::2], strict=False)), "no two at a time"
    ends = Counter(logical for what, logical in lines if what == "ends")
    assert set(ends.values()) == {1}
    rows = place.rows("SELECT key, state, due FROM mltoolkit_instances ORDER BY due")
    assert {state for _, state, _ in rows} <= {"succeeded", "waiting"}, "those that wait had no time left"
    assert sum(state == "succeeded" for _, state, _ in rows) == len(ends)
    due = [at for _, _, at in rows]
    assert due == [due[0] + 2.0 * number for number in range(len(due))], "every tick has its row"
    assert Counter(state for _, state in place.attempts()) - Counter({"cancelled": 1}) == {"succeeded": len(ends)}
    place.no_run_is_left_running()
