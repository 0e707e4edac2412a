"""A real MLflow server behind a proxy that does to its connections what networks and servers do."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from processes import gone, wait_for

FATES = ("well", "refused", "500", "delayed", "cut", "lost")


class Proxy:
    """Passes requests on to a server, as `fate` says of each."""

    def __init__(self, target: int) -> None:
        self.target, self.delay, self.asked = target, 3.0, 0
        self.fate: Callable[[], str] = lambda: "well"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle_one_request()

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.asked += 1
                fate = proxy.fate()
                if fate in ("cut", "refused"):
                    self.cut()
                    return
                if fate == "500":
                    self.answer(500, b"<html>an error of something in between</html>", "text/html")
                    return
                if fate == "delayed":
                    time.sleep(proxy.delay)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
                try:
                    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=30)) as connection:
                        connection.request(self.command, self.path, body, {**headers, "Host": f"localhost:{proxy.target}"})
                        answer = connection.getresponse()
                        content, kind = answer.read(), answer.getheader("Content-Type", "application/json")
                except (OSError, http.client.HTTPException):
                    self.cut()
                    return
                if fate == "lost":
                    self.cut()
                else:
                    self.answer(answer.status, content, kind)

            def answer(self, status: int, content: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def cut(self) -> None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *arguments: Any) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *arguments: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()


class Stage:
    """Servers, notebooks and shipping workers that can be killed; see tracking_stage.py."""

    def __init__(self, folder: Path, *, hasty: bool = False) -> None:
        self.folder = folder
        self.port = _free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW"))}
        command = [sys.executable, str(Path(__file__).with_name("tracking_stage.py")), str(folder), *(["hasty"] if hasty else [])]
        self.errors = (folder / "errors.txt").open("w")
        self.process = subprocess.Popen(command, cwd=folder, env=inherited, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", (folder / "errors.txt").read_text()
        self.server = 0
        self.proxy = Proxy(self.port)

    def start(self, name: str, *arguments: Any) -> int:
        """Fork a process that does something; return its pid."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def serve(self) -> None:
        """Start the server, and wait until it answers."""
        self.server = self.start("serve", self.port, str(self.folder))
        wait_for(lambda: _answers(self.port), "the tracking server to answer")

    def kill_server(self) -> None:
        """Let the server be gone, as with kill -9."""
        kill(self.server)
        wait_for(lambda: gone(self.server), "the server to be gone")

    def rows(self, question: str, *values: Any) -> list[Any]:
        """Ask the server's database."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/server.db?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(question, values).fetchall()

    def close(self) -> None:
        """End everything."""
        self.proxy.close()
        if self.server:
            kill(self.server)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(20)
        self.process.stdout.close()
        self.errors.close()


def kill(pid: int) -> None:
    """kill -9."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def ended(pid: int, within: float = 60.0) -> None:
    """Wait for a process."""
    wait_for(lambda: gone(pid), f"process {pid} to end", within)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        return ask(port, "GET", "/health") == b"OK"
    except (OSError, http.client.HTTPException):
        return False


def ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    """Ask the server, past the proxy."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        return connection.getresponse().read()


@contextlib.contextmanager
def staged(folder: Path, *, hasty: bool = False) -> Iterator[Stage]:
    """A stage with a server that answers."""
    stage = Stage(folder, hasty=hasty)
    try:
        stage.serve()
        yield stage
    finally:
        stage.close()
