"""Records of runs that nothing ran."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mltoolkit.errors import Status
from mltoolkit.record import environment, runs, tracking
from mltoolkit.record.manifest import Kernel, Run

HERE = {"mltoolkit.host": environment.host(), "mltoolkit.user": "me", "mltoolkit.trigger": "cli"}


def keep(root: Path, run_id: str, status: Status = Status.succeeded, *, began: float = 0.0, **fields: Any) -> Path:
    """A run's folder as a runner leaves it."""
    folder = runs.runs_folder(root) / run_id
    folder.mkdir(parents=True)
    values: dict[str, Any] = {"notebook": "a.ipynb", "kernel": Kernel(name="python3"), "started_at": datetime.now(UTC), "output": str(folder / "a.ipynb"), "html": str(folder / "a.html")}
    run = Run(run_id=run_id, status=status, **(values | fields))
    (folder / runs.MANIFEST).write_text(run.to_json())
    (folder / "requirements.txt").write_text("")
    os.utime(folder / "requirements.txt", (began, began))
    return folder


def tracked(store: Any, root: Path, status: Status = Status.succeeded, *, local: bool = True, experiment: str = "default", tags: dict[str, str] | None = None, **fields: Any) -> str:
    """A record in the store as a runner leaves it; with its folder, or only its artifacts."""
    place = tracking.experiment_id(store, experiment, str(root / ".mltoolkit" / "artifacts"))
    said = {**HERE, "mltoolkit.pid": "1", "mltoolkit.pid_start": "long ago", "mltoolkit.notebook": "a.ipynb", **(tags or {})}
    run_id = tracking.open_run(store, place, "a", said)
    folder = keep(root, run_id, status, host=environment.host(), pid=1, pid_start="long ago", **fields)
    if status is not Status.running:
        tracking.close_run(store, run_id, status, files=folder)
    if not local:
        shutil.rmtree(folder)
    return run_id
