"""A place in which kernels are forked: a workspace and zygotes of its own, ended with it."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import notebook_of
from processes import gone

PACKAGES = {  # installed in the place's own folder of packages
    "its_own_log": "import logging\nlog = logging.getLogger(__name__)\nlog.addHandler(logging.StreamHandler())\nlog.setLevel('INFO')\n",
    "its_own_streams": "import sys\nout, err = sys.stdout, sys.stderr\ndef say(text, file=sys.stdout): print(text, file=file)\n",
    "its_own_generators": (
        "import random, numpy\n"
        "plain, legacy, modern = random.Random(), numpy.random.RandomState(), numpy.random.default_rng()\n"
        "def draws(): return plain.random(), legacy.random(), modern.random()\n"
    ),
    "its_own_variable": "import os\nwanted = os.environ.get('WANTED_BY_A_PACKAGE', 'nothing')\n",
}
PRELOAD = ["pandas", "matplotlib.pyplot", "sklearn.ensemble", "scipy.stats", "mlflow", "ipywidgets", "tqdm.auto", "its_own_log", "its_own_streams"]


def variables(**more: str) -> dict[str, str]:
    """The environment of a kernel, as a shell would give it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_", "_ML", "PYTEST", "COV_", "JPY"))}
    return {**kept, **more}


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """A folder for zygotes, which end with it. Its name is short: it becomes part of addresses of sockets."""
    from mltoolkit.execution.kernels import stop_zygotes, zygotes

    folder = Path(tempfile.mkdtemp(prefix="z", dir="/tmp"))  # noqa: S108
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        yield folder
    finally:
        os.environ["XDG_RUNTIME_DIR"] = str(folder)
        ended = {state.pid for state in stop_zygotes()}
        deadline = time.monotonic() + 20
        while not all(gone(pid) for pid in ended) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not zygotes()
        shutil.rmtree(folder, ignore_errors=True)  # spares take theirs away at the same time
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before


def inhabitants(folder: Path) -> list[int]:
    """Processes whose zygotes are in a folder: these, what they forked, and what was started there."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"XDG_RUNTIME_DIR={folder}\0".encode() in (entry / "environ").read_bytes() and not gone(int(entry.name)):
                found.append(int(entry.name))
    return found


@dataclass
class Place:
    """A workspace whose kernels are forked from zygotes of its own."""

    root: Path
    packages: Path  # a folder like site-packages
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, preload: str, **packages: str) -> Place:
        """Make one, with a folder of packages."""
        root.mkdir(parents=True, exist_ok=True)
        (root / "settings.ini").write_text(f"[mltoolkit]\npreload = {preload}\nwarm = yes\n")
        folder = root.parent / "lib" / "site-packages"
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in packages.items():
            (folder / f"{name}.py").write_text(source)
        return cls(root, folder, variables(PYTHONPATH=str(folder), PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1"))

    def execute(self, *cells: Any, folder: str = ".", warm: bool | None = True, files: dict[str, str] | None = None, env: dict[str, str] | None = None, **options: Any) -> Ran:  # fmt: skip
        """Execute cells in a folder of the workspace."""
        from mltoolkit.execution.engine import Order, execute

        cwd = self.root / folder
        cwd.mkdir(parents=True, exist_ok=True)
        for stale in cwd.glob("ipython_config.py"):
            stale.unlink()
        for name, text in (files or {}).items():
            (cwd / name).parent.mkdir(exist_ok=True)
            (cwd / name).write_text(text)
        notebook = notebook_of(*copy.deepcopy(cells))
        order = Order("python3", cwd=cwd, env={**self.env, **(env or {})}, warm=warm, **{"cell_timeout": 120, **options})
        outcome = execute(notebook, order)
        return Ran(notebook, outcome, cwd)


@dataclass
class Ran:
    """An executed notebook."""

    notebook: Any
    outcome: Any
    cwd: Path

    @property
    def text(self) -> str:
        """All it printed."""
        return "".join(output.get("text", "") for cell in self.notebook.cells for output in cell.outputs)

    def shown(self) -> dict[str, Any]:
        """All that must not depend on how the kernel was started."""
        found = {
            "cells": [{"count": cell.execution_count, "status": cell.metadata.papermill.status, "outputs": cell.outputs} for cell in self.notebook.cells],
            "language": self.notebook.metadata.language_info,
            "widgets": self.notebook.metadata.get("widgets"),
            "outcome": {name: getattr(self.outcome, name) for name in ("status", "message", "cell", "ename", "evalue", "signal", "executed", "skipped", "warnings")},
            "usage": [self.outcome.usage.exit_code, self.outcome.usage.signal],
            "files": {path.name: path.read_text() for path in sorted(self.cwd.glob("left-*"))},
        }  # fmt: skip
        plain: dict[str, Any] = alike(found, str(self.cwd))
        return plain


_DIFFERENT = [  # what differs from one process to the next
    (re.compile(r"ipykernel_\d+/"), "ipykernel_PID/"),
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "0xADDRESS"),
    (re.compile(r"\bT_[0-9a-f]{5}"), "T_TABLE"),
    (re.compile(r"<dc:date>.*?</dc:date>|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"StreamHandler \d+ "), "StreamHandler NUMBER "),
]
_NAMED = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?![0-9a-f])")


def alike(content: Any, folder: str) -> Any:
    """Replace what differs from one process to the next: addresses, process numbers, the folder, random names in their order."""
    names: dict[str, str] = {}

    def text(value: str) -> str:
        value = value.replace(folder, "FOLDER")
        for pattern, replacement in _DIFFERENT:
            value = pattern.sub(replacement, value)
        return _NAMED.sub(lambda found: names.setdefault(found[0], f"name-{len(names)}"), value)

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {text(str(name)): walk(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [walk(each) for each in value]
        return text(value) if isinstance(value, str) else value

    return walk(content)


@pytest.fixture
def zygote_folder() -> Iterator[Path]:
    """A folder of this test's own for zygotes."""
    with runtime_folder() as folder:
        yield folder
