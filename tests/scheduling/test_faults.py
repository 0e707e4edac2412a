"""What goes wrong around the jobs: other definitions, other clocks, a full disk, a stopped approval, forked kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from processes import Marked
from serving import Place, kill
from warm import zygote_folder

__all__ = ["zygote_folder"]  # a fixture


@pytest.fixture
def place(workspace: Path, tiny: str, mark: Marked, write: Callable[..., Path]) -> Place:
    return Place(workspace, mark, write, tiny)


ANOTHER_VERSION = """
import mltoolkit
mltoolkit.__version__ = "99.0.0"
"""


def test_another_version_and_other_definitions_while_jobs_are_queued(place: Place) -> None:
    place.slow()
    place.notebook("says.ipynb", "print(word)", parameters="word: str = 'old'")
    others = "  changed:\n    notebook: says.ipynb\n    needs: [slow]\n  gone:\n    notebook: says.ipynb\n    needs: [slow]\n"
    place.jobs("  slow:\n    notebook: slow.ipynb\n" + others)
    place.hold.touch()
    served = place.start("serve", "--slots", "1")
    place.ask("jobs", "run", "slow", "--date", "2013-01-01", "--detach")
    place.begun()
    place.jobs("  slow:\n    notebook: slow.ipynb\n  changed:\n    notebook: says.ipynb\n    parameters: {word: new}\n    needs: [slow]\n")
    served.kill()
    served.wait()
    served = place.start("serve", "--slots", "1", after=ANOTHER_VERSION)
    place.begun(2)
    place.hold.unlink()
    ends = [("changed@2013-01-01T00:00:00", "succeeded"), ("gone@2013-01-01T00:00:00", "invalid"), ("slow@2013-01-01T00:00:00", "succeeded")]
    place.until(lambda: sorted(place.rows()) == ends, "each to have an end")
    place.stop(served)
    assert place.run("jobs", "logs", "changed").stdout == "new\n"
    assert "there is no job gone any more" in place.rows("SELECT reason FROM mltoolkit_instances WHERE job = 'gone'")[0][0]
    place.no_run_is_left_running()


JUMPING = """
import datetime, pathlib, time
real = time.time
def offset():
    try:
        return float(pathlib.Path("offset").read_text())
    except (OSError, ValueError):
        return 0.0
time.time = lambda: real() + offset()
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(time.time(), tz)
from mltoolkit.scheduling import scheduler
scheduler.datetime, scheduler.HOUSE = Jumping, 0.2
"""
CLOCKS = """
  berlin: {notebook: quick.ipynb, schedule: {cron: "30 2 31,27 3,10 *", timezone: Europe/Berlin, catch_up: all}}
  early: {notebook: quick.ipynb, schedule: {cron: "30 1 10,3 3,11 *", timezone: America/New_York, catch_up: all}}
  late: {notebook: quick.ipynb, schedule: {cron: "30 2 10,3 3,11 *", timezone: America/New_York, catch_up: all}}
  often: {notebook: quick.ipynb, schedule: {every: 15m, timezone: UTC, catch_up: all, start: "2013-11-03 05:00", end: "2013-11-03 09:00"}}
"""
LOOKS = [  # UTC, around each change of the clocks; and at last an hour back, and on
    "03-09T12:00", "03-10T06:15", "03-10T06:45", "03-10T07:15", "03-10T07:45", "03-10T08:45", "03-31T00:15", "03-31T00:45", "03-31T01:15", "03-31T01:45",
    "10-27T00:15", "10-27T00:45", "10-27T01:15", "10-27T01:45", "11-03T05:15", "11-03T05:45", "11-03T06:15", "11-03T06:45", "11-03T07:15", "11-03T07:45",
    "11-03T06:45", "11-03T07:50", "11-03T08:50",
]  # fmt: skip


def test_clocks_that_change_and_jump_in_two_servers(place: Place) -> None:
    place.notebook("quick.ipynb", "1")
    place.jobs(CLOCKS)
    offset = place.root / "offset"

    def turn_to(look: str) -> None:
        offset.with_suffix(".new").write_text(str(datetime.fromisoformat(f"2013-{look}+00:00").timestamp() - time.time()))
        offset.with_suffix(".new").replace(offset)

    turn_to(LOOKS[0])
    servers = [place.start("serve", "--slots", "1", after=JUMPING) for _ in range(2)]
    place.until(lambda: len(place.rows("SELECT job FROM mltoolkit_schedules WHERE accounted IS NOT NULL")) == 4, "the schedules to be followed")
    there = []
    for look in LOOKS:
        turn_to(look)
        time.sleep(0.7)  # three looks of each server
        there.append(len(place.rows()))
    assert there[-3] == there[-4], "what was done before the clock went back is not done again"
    place.until(lambda: set(place.states()) == {"succeeded"}, "all to be done")
    place.stop(*servers)
    logical: dict[str, list[str]] = {}
    for key, _ in place.rows():
        job, _, at = key.partition("@")
        logical.setdefault(job, []).append(at)
    assert logical.pop("often") == [f"2013-11-03T{hour:02d}:{minute:02d}:00" for hour in range(5, 9) for minute in (0, 15, 30, 45)]
    assert {job: [at[:10] for at in every] for job, every in logical.items()} == {
        "berlin": ["2013-03-27", "2013-03-31", "2013-10-27", "2013-10-31"],
        "early": ["2013-03-10", "2013-11-03"], "late": ["2013-03-10", "2013-11-03"],
    }  # fmt: skip
    assert set(place.attempts()) == {(1, "succeeded")}
    assert len(place.attempts()) == len(place.rows())
    place.no_run_is_left_running()


FILL = """
import os
from pathlib import Path
root, folder = Path({root!r}), Path(os.environ["MLTOOLKIT_JOB_FOLDER"])
(folder / "made.txt").write_text("whole")
if (root / "fill").exists():
    (folder / ".reserve").unlink()
    with open(folder.parent / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            print(error)
"""


@pytest.fixture
def small_disk(workspace: Path) -> Iterator[Path]:
    """A disk of a megabyte, where the job called `full` has its folders."""
    folder = workspace / ".mltoolkit" / "jobs" / "full"
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_while_publishing(place: Place, small_disk: Path) -> None:
    place.notebook("full.ipynb", FILL.format(root=str(place.root)))
    place.jobs("  full:\n    notebook: full.ipynb\n    retries: {times: 1, backoff: 3s, on: [failed]}\n")
    (place.root / "fill").touch()
    served = place.start("serve", "--slots", "1")
    place.ask("jobs", "run", "full", "--date", "2013-01-01", "--detach")
    place.until(lambda: place.attempts() == [(1, "failed")], "the first attempt to fail")
    reason = place.rows("SELECT reason FROM mltoolkit_attempts")[0][0]
    assert "could not be published" in reason
    assert "No space left" in reason
    assert not list(small_disk.rglob("output"))
    (place.root / "fill").unlink()
    (small_disk / "2013-01-01T00-00-00" / "filler").unlink()
    place.until(lambda: place.states() == ["succeeded"], "the second one to succeed")
    place.stop(served)
    assert place.attempts() == [(1, "failed"), (2, "succeeded")]
    assert (small_disk / "2013-01-01T00-00-00" / "output" / "made.txt").read_text() == "whole"
    place.no_run_is_left_running()


def test_what_was_approved_is_done_by_asking_for_it(place: Place) -> None:
    place.notebook("quick.ipynb", "1")
    place.jobs("  careful:\n    notebook: quick.ipynb\n    approval: before\n")
    place.ask("jobs", "run", "careful", "--date", "2013-01-01")
    assert place.states() == ["approval"]
    assert "mltoolkit worker" in place.run("jobs", "approve", "careful").stderr
    place.ask("jobs", "run", "careful", "--date", "2013-01-01")
    assert place.states() == ["succeeded"]
    place.mark.all_gone()


def test_a_forked_kernel_of_a_killed_runner_is_gone_before_the_next(place: Place, zygote_folder: Path) -> None:
    place.tiny = "python3"  # the real one: only that can be forked
    place.slow()
    place.jobs("  slow:\n    notebook: slow.ipynb\n    warm: true\n")
    place.mark.env |= {"MLTOOLKIT_WARM": "yes", "MLTOOLKIT_PRELOAD": "none", "XDG_RUNTIME_DIR": str(zygote_folder)}
    place.hold.touch()
    served = place.start("serve", "--slots", "1")
    place.ask("jobs", "run", "slow", "--date", "2013-01-01", "--detach")
    kernel = place.begun()
    assert b"zygote.py" in Path(f"/proc/{kernel}/cmdline").read_bytes()
    supervisor = int(Path(f"/proc/{kernel}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGSTOP)  # it cannot see that the runner is gone, nor end the kernel
    kill(place.runners()[0])
    again = place.begun(2)
    assert again != kernel
    assert not Path(f"/proc/{kernel}").exists()
    assert not Path(f"/proc/{supervisor}").exists()
    place.hold.unlink()
    place.until(lambda: place.states() == ["succeeded"], "the job to be done")
    place.ask("kernels", "stop")
    place.stop(served)
    assert place.attempts() == [(1, "lost"), (2, "succeeded")]
    place.no_run_is_left_running()
