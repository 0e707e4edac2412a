"""Processes of a test: started with a mark in their environment, and found by it, wherever they went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

Found = TypeVar("Found")
BIN = Path(sys.executable).parent


def wait_for(condition: Callable[[], Found], what: str, within: float = 60.0) -> Found:
    """Wait until something is so, and return it; fail, saying what was waited for, if it never is."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {within:g} s for: {what}"
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended; whose child it was may not know it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "ZX"
    except OSError:
        return True


class Marked:
    """A mark that every process of a test carries in its environment."""

    def __init__(self) -> None:
        self.value = uuid4().hex
        foreign = ("MLTOOLKIT_", "MLFLOW_", "_MLFLOW")  # what importing MLflow here, in a workspace of ours, has set
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.env = {**kept, "MLTOOLKIT_WARM": "no", "TEST_MARK": self.value}

    def alive(self) -> list[int]:
        """The processes with the mark that have not ended."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if self.value.encode() in (entry / "environ").read_bytes():
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def all_gone(self, within: float = 30.0) -> None:
        """Wait until none is left."""
        wait_for(lambda: not self.alive(), "every process of the test to be gone", within)

    def start(self, *command: str | Path, **options: object) -> subprocess.Popen[str]:
        """Start a program with the mark."""
        return subprocess.Popen(
            [str(part) for part in command], env=self.env, text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        )  # type: ignore[call-overload]

    def run(self, *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a program with the mark to its end."""
        process = self.start(*command, **options)
        out, err = process.communicate(timeout=180)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def end(self) -> None:
        """Kill what a failed test left."""
        for pid in self.alive():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


def marked() -> Iterator[Marked]:
    """The body of a fixture: a mark, and nothing that carries it afterwards."""
    mark = Marked()
    os.environ["TEST_MARK"] = mark.value
    try:
        yield mark
    finally:
        del os.environ["TEST_MARK"]
        mark.end()


DAEMON = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", "600"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
"""  # a child in a session of its own, and a daemon that nobody is the parent of
