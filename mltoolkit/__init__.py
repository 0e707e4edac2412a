"""Notebook-first data science: notebooks become a tested package, and runs that can be repeated.

Modules:

- `mltoolkit.execution.freshness`: Notice that what a process has loaded is no longer what a new one would load.
- `mltoolkit.execution.supervisor`: Run a kernel, and leave nothing of it behind.
- `mltoolkit.execution.template`: Kernels whose shell was made before they were asked for, and which talk over one socket.
- `mltoolkit.execution.zygote`: Fork kernels from a process that has a workspace's imports done.
- `mltoolkit.start`: The command's beginning: `mltoolkit run` and `mltoolkit sweep` from a shell are done by a process that has the toolkit loaded, if there is one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "run_notebook": "mltoolkit.execution.run",
    "sweep": "mltoolkit.execution.sweep",
    "resume_sweep": "mltoolkit.execution.sweep",
    "board": "mltoolkit.views.board",
    "form": "mltoolkit.views.forms",
    "inbox": "mltoolkit.views.inbox",
    "look": "mltoolkit.views.look",
    "parameters": "mltoolkit.views.own",
    "Sweep": "mltoolkit.execution.results",
    "Run": "mltoolkit.record.manifest",
    "load_dataset": "mltoolkit.record.dataset",
    "save_dataset": "mltoolkit.record.dataset",
    "watch": "mltoolkit.record.watch",
    "load_model": "mltoolkit.record.models",
    "MltoolkitError": "mltoolkit.errors",
    "NotebookFailed": "mltoolkit.errors",
    "Status": "mltoolkit.errors",
    "TrainingStopped": "mltoolkit.errors",
}

__all__ = ["MltoolkitError", "NotebookFailed", "Run", "Status", "Sweep", "TrainingStopped", "board", "form", "inbox", "load_dataset", "load_model", "look",
           "parameters", "resume_sweep", "run_notebook", "save_dataset", "sweep", "watch"]  # fmt: skip

if TYPE_CHECKING:
    from mltoolkit.errors import MltoolkitError, NotebookFailed, Status, TrainingStopped
    from mltoolkit.execution.results import Sweep
    from mltoolkit.execution.run import run_notebook
    from mltoolkit.execution.sweep import resume_sweep, sweep
    from mltoolkit.record.dataset import load_dataset, save_dataset
    from mltoolkit.record.manifest import Run
    from mltoolkit.record.models import load_model
    from mltoolkit.record.watch import watch
    from mltoolkit.views.board import board
    from mltoolkit.views.forms import form
    from mltoolkit.views.inbox import inbox
    from mltoolkit.views.look import look
    from mltoolkit.views.own import parameters


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Offer `%check` in a notebook: `%load_ext mltoolkit`."""
    from mltoolkit.conventions.magic import load_ipython_extension as load

    load(shell)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
