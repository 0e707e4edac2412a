"""A workspace with jobs, and real `mltoolkit serve` processes on it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coverage
from processes import BIN, Marked, wait_for

ROOT = Path(__file__).parents[2]

SLOW = """
import os, time
from pathlib import Path
folder = Path(os.environ["MLTOOLKIT_JOB_FOLDER"])
root = Path({root!r})
with open(root / "begun.txt", "a") as file:
    file.write(f"{{folder.parent.name}} {{os.getpid()}}\\n")
(folder / "made.txt").write_text("half")
deadline = time.monotonic() + 120
while (root / "hold").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
(folder / "made.txt").write_text("whole")
with open(root / "done.txt", "a") as file:
    file.write(f"{{folder.parent.name}}\\n")
"""  # says when it begins, goes on once there is no file `hold`, and says that it is done


ELSEWHERE = """
from mltoolkit.record import environment
environment.machine, environment.host = (lambda: "another.1"), (lambda: "another")
"""  # another machine, as far as anybody can tell
MAIN = "\nfrom mltoolkit.cli import main\nmain()\n"


def program() -> list[str | Path]:
    """The command; where the tests are measured, what it does in its own process counts as well."""
    if coverage.Coverage.current() is None:
        return [BIN / "mltoolkit"]
    data = os.environ.get("COVERAGE_FILE", ROOT / ".coverage")
    return [sys.executable, "-m", "coverage", "run", "--parallel-mode", f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={data}", "-m", "mltoolkit"]


class Place:
    """A workspace, the processes that serve it, and a look into its store."""

    def __init__(self, root: Path, mark: Marked, write: Callable[..., Path], tiny: str, store: str | None = None) -> None:
        self.root, self.mark, self._write, self.tiny, self.store = root, mark, write, tiny, store
        self.hold = root / "hold"
        mark.env["JUPYTER_PATH"] = os.environ["JUPYTER_PATH"]  # where the kernel is
        (root / "settings.ini").write_text("[mltoolkit]\ngrace = 1\n" + (f"job_store = {store}\n" if store else ""))

    def notebook(self, name: str, *cells: str, **options: Any) -> None:
        self._write(name, *cells, kernel=self.tiny, **options)

    def slow(self, name: str = "slow.ipynb") -> None:
        self.notebook(name, SLOW.format(root=str(self.root)))

    def jobs(self, text: str) -> None:
        (self.root / "jobs.yaml").write_text("jobs:\n" + text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.mark.run(*program(), *arguments, cwd=self.root)

    def ask(self, *arguments: str) -> None:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout

    def start(self, *arguments: str, after: str | None = None) -> subprocess.Popen[str]:
        """Start a `serve` or a `worker`, after a piece of Python if one is given; its log goes to a file."""
        command = [sys.executable, "-c", after + MAIN] if after else program()
        with (self.root / f"log-{len(list(self.root.glob('log-*')))}.txt").open("w") as log:
            return self.mark.start(*command, *arguments, cwd=self.root, stdout=log, stderr=log)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.root.glob("log-*.txt")))

    def rows(self, query: str = "SELECT key, state FROM mltoolkit_instances ORDER BY due") -> list[tuple[Any, ...]]:
        if self.store:
            import psycopg

            with psycopg.connect(self.store) as server, contextlib.suppress(psycopg.errors.UndefinedTable):
                return server.execute(query).fetchall()
            return []
        path = self.root / ".mltoolkit" / "jobs.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # the tables are being made
            return []
        finally:
            connection.close()

    def states(self) -> list[str]:
        return [state for _, state in self.rows()]

    def until(self, condition: Callable[[], object], what: str, within: float = 90.0) -> None:
        try:
            wait_for(condition, what, within)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.rows('SELECT key, state, reason, attempt, dispatch FROM mltoolkit_instances')}\n{self.logs()}") from None

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    def begun(self, number: int = 1) -> int:
        """Wait until so many notebooks have begun; return the process of the last one."""
        self.until(lambda: len(self.lines("begun.txt")) >= number, f"{number} notebooks to have begun")
        return int(self.lines("begun.txt")[number - 1].split()[1])

    def attempts(self) -> list[tuple[int, str]]:
        return self.rows("SELECT number, state FROM mltoolkit_attempts ORDER BY key, number")

    def runners(self) -> list[int]:
        return [pid for (pid,) in self.rows("SELECT pid FROM mltoolkit_attempts WHERE state = 'running'") if pid]

    def no_run_is_left_running(self) -> None:
        connection = sqlite3.connect(self.root / ".mltoolkit" / "mlflow.db", timeout=30)
        try:
            left = connection.execute("SELECT run_uuid FROM runs WHERE status = 'RUNNING'").fetchall()
        finally:
            connection.close()
        assert left == []

    def stop(self, *processes: subprocess.Popen[str]) -> None:
        """End processes as systemd does, and see that nothing of them is left."""
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            assert process.wait(60) == 0, self.logs()
        self.mark.all_gone()


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
