"""A PostgreSQL of the tests' own: Debian's binaries, a temporary folder, a unix socket that nobody else knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ACCOUNT = "postgres"  # Debian's packages make it; PostgreSQL refuses to run as root
NEEDED = "apt-get install postgresql"


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Server:
    """A server that can be started, killed and started again."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.data = folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.databases = 0
        if os.getuid() == 0:
            shutil.chown(folder, ACCOUNT)
        folder.chmod(0o755)  # whoever tests may come in by the socket
        self._do("initdb", "--auth=trust", "--username=tests", "--encoding=UTF8", "--no-sync", "--pgdata", str(self.data))

    def _command(self, program: str, *arguments: str) -> list[str]:
        other = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups", "--"] if os.getuid() == 0 else []
        return [*other, str(self.binaries / program), *arguments]

    def _do(self, program: str, *arguments: str) -> str:
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TZ")}
        done = subprocess.run(self._command(program, *arguments), cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start it, and wait until it answers; it recovers from a kill by itself."""
        options = [f"unix_socket_directories={self.folder}", "listen_addresses=", "fsync=off", "shared_buffers=16MB", "max_connections=100"]
        with (self.folder / "log.txt").open("ab") as log:
            command = self._command("postgres", "-D", str(self.data), *(part for option in options for part in ("-c", option)))
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]}, start_new_session=True)
        deadline = time.monotonic() + 60
        while subprocess.run([self.binaries / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert self.process.poll() is None, (self.folder / "log.txt").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it and all its processes with SIGKILL."""
        assert self.process is not None
        children = [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]
        for pid in (self.process.pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
            time.sleep(0.02)

    def database(self) -> str:
        """Make an empty database; return its address."""
        self.databases += 1
        name = f"jobs{self.databases}"
        self._do("createdb", "--host", str(self.folder), "--username", "tests", name)
        return f"postgresql://tests@/{name}?host={self.folder}"

    def stop(self) -> None:
        """End it for good."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # at once, without waiting for clients
            self.process.wait(30)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running PostgreSQL."""
    binaries = programs()
    if binaries is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"PostgreSQL is missing; {NEEDED}")
        pytest.skip(f"PostgreSQL is missing; {NEEDED}")
    with tempfile.TemporaryDirectory(prefix="mlt-pg-", ignore_cleanup_errors=True) as folder:
        made = Server(Path(folder), binaries)
        made.start()
        try:
            yield made
        finally:
            made.stop()
