"""A sweep on Dask: a real scheduler, two real workers, one of which is killed in the middle."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import Marked, wait_for

from mltoolkit.errors import MissingExtra
from mltoolkit.execution.sweep import sweep
from mltoolkit.record import runs, tracking

HOLD = """
import os, pathlib, time
pathlib.Path(f"started-{x}-{os.getpid()}").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.02)
"""


def test_a_killed_worker_costs_nothing(workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked) -> None:
    write("a.ipynb", HOLD, parameters="x: int = 1", kernel=tiny)
    serve = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    scheduler = mark.start(*serve, stdout=subprocess.DEVNULL)
    assert scheduler.stderr is not None
    address = next(found[1] for line in scheduler.stderr if (found := re.search(r"tcp://(127\.0\.0\.1:\d+)", line)))
    draining = threading.Thread(target=scheduler.stderr.read)
    draining.start()
    work = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://{address}", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    workers = [mark.start(*work, "--local-directory", f"dask-{at}", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for at in range(2)]
    outcome: list[Any] = []
    going = threading.Thread(target=lambda: outcome.append(sweep("a.ipynb", {"x": "1..6"}, executor=f"dask://{address}")))
    going.start()
    wait_for(lambda: len(list(workspace.glob("started-*"))) >= 2, "points to run on both workers", 120)
    workers[0].kill()
    workers[0].wait()
    (workspace / "go").touch()
    going.join(120)
    done = outcome[0]
    assert [point.status for point in done.points] == ["succeeded"] * 6
    assert len(list(workspace.glob("started-*"))) == 7  # one of them began twice
    assert done.table().run_id.nunique() == 6
    assert runs.repair() == []
    found = runs.search(tracking.client(workspace), 100, [f"tags.`mlflow.parentRunId` = '{done.run_id}'"])
    assert sorted(run.data.tags["mltoolkit.status"] for run in found) == ["lost"] + ["succeeded"] * 6
    for process in (workers[1], scheduler):
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
    draining.join()
    scheduler.stderr.close()
    mark.all_gone()


def test_without_dask(workspace: Path, tiny: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match=r"mltoolkit\[dask\]"):
        sweep(write("a.ipynb", "1", parameters="x: int = 1", kernel=tiny), {"x": [1]}, executor="dask://127.0.0.1:1")
