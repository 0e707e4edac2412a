"""MLflow's server is there for this machine only, does what a workspace needs and nothing that strangers could use, and goes with its owner."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from processes import BIN, Marked, wait_for

from mltoolkit import cli
from mltoolkit.errors import Invalid, MissingExtra, TrackingError
from mltoolkit.execution import server
from mltoolkit.record import tracking

PROGRAM = BIN / "mltoolkit"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def ask(address: str, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    """One request, as it is: no redirects, no proxies, any Host header."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Content-Type": "application/json"} if body else {})
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())


def started(mark: Marked, *arguments: str, root: Path, **more: Any) -> tuple[subprocess.Popen[str], str]:
    """Start a command that serves; return it and the line it prints when it answers."""
    process = mark.start(PROGRAM, *arguments, cwd=root, **more)
    assert process.stdout
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return process, line


def commands_of(mark: Marked) -> str:
    """The command lines of all processes of a test, as everybody on the machine can read them."""
    return "".join(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() + "\n" for pid in mark.alive())


# --- refused before anything is started


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--host", "0.0.0.0"], 2, "lets other machines in.*add --auth"),
        (["--host", "::"], 2, "add --auth"),
        (["--host", "mlflow.example.org"], 2, "add --auth"),
        (["--allowed-host", "*"], 2, "would switch the check off"),
        (["--allowed-host", "*.example.org"], 2, "would switch the check off"),
        (["--allowed-host", " "], 2, "give a name as others use it"),
        (["--allowed-host", "http://a.example.org"], 2, "give a name as others use it"),
        (["--host", "192.0.2.1", "--auth"], 1, "cannot listen on 192.0.2.1"),
        (["--host", "no such host", "--auth"], 1, "cannot listen on no such host"),
        (["--port", "70000"], 2, "70000 is not in the range"),
        (["--workers", "0"], 2, "0 is not in the range"),
    ],
)
def test_what_is_careless_is_refused(workspace: Path, arguments: list[str], code: int, why: str) -> None:
    done = run("tracking", "serve", *arguments)
    assert done.exit_code == code
    assert re.search(why, done.stderr), done.stderr
    assert done.stdout == ""


def test_a_port_that_is_taken(workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for command in (["ui"], ["tracking", "serve"]):
            done = run(*command, "--port", port)
            assert (done.exit_code, f"port {port} is taken; name another with --port" in done.stderr) == (1, True)


def test_a_port_that_is_taken_where_the_number_of_that_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: socket.socket, place: object) -> None:
        raise OSError(48, "Address already in use")  # as macOS has it

    monkeypatch.setattr(server.errno, "EADDRINUSE", 48)
    monkeypatch.setattr(server.socket.socket, "bind", bind)
    with pytest.raises(TrackingError, match="port 5000 is taken; name another with --port"):
        server.listening()


def test_names_of_a_machine_that_others_may_reach() -> None:
    wide = server.Listening("0.0.0.0", 5000, ("mlflow.example.org",), auth=True)
    assert wide.address == "http://127.0.0.1:5000"
    assert {"127.0.0.1:5000", "localhost:5000", f"{socket.gethostname()}:5000", "mlflow.example.org"} <= set(wide.hosts())
    assert "0.0.0.0:5000" not in wide.hosts()
    assert "10.0.0.7:5000" in server.Listening("10.0.0.7", 5000, auth=True).hosts()
    assert server.Listening("::1", 5000).address == "http://[::1]:5000"
    assert not any("*" in name for name in wide.hosts())


@pytest.mark.parametrize("password", ["password1234", "Password", "short", "aaaaaaaaaaaaaaaa", "", None])
def test_a_weak_or_missing_password_is_refused(workspace: Path, monkeypatch: pytest.MonkeyPatch, password: str | None) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    environ = {} if password is None else {"MLFLOW_AUTH_ADMIN_PASSWORD": password}
    with pytest.raises(Invalid, match="MLFLOW_AUTH_ADMIN_PASSWORD"):
        server.authentication(workspace, environ)


def test_what_basic_auth_is_given(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import configparser
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mlflow\[auth\]'"):
        server.authentication(workspace, {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    given = server.authentication(workspace, {"MLFLOW_AUTH_ADMIN_PASSWORD": "a long one, 42"})
    config = Path(given["MLFLOW_AUTH_CONFIG_PATH"])
    assert config.stat().st_mode & 0o777 == 0o600
    parser = configparser.ConfigParser()
    parser.read(config)
    assert parser["mlflow"]["database_uri"] == f"sqlite:///{workspace}/.mltoolkit/basic_auth.db"
    assert "password" not in config.read_text()
    assert len(given["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
    (workspace / ".mltoolkit" / "basic_auth.db").touch()  # its users are there already
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" not in server.authentication(workspace, {})
    own = server.authentication(workspace, {"MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow.ini", "MLFLOW_FLASK_SERVER_SECRET_KEY": "ours"})
    assert own == {"MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow.ini", "MLFLOW_FLASK_SERVER_SECRET_KEY": "ours"}


def test_a_wide_server_says_what_its_authentication_does_not_cover(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "serve", lambda where, **more: asked.append(where))
    asked: list[server.Listening] = []
    done = run("tracking", "serve", "--host", "0.0.0.0", "--port", "0", "--auth", "--allowed-host", "mlflow.example.org")
    assert done.exit_code == 0, done.stderr
    assert "unencrypted; put a proxy with TLS before it" in done.stderr
    assert f"default_permission in {workspace}/.mltoolkit/basic_auth.ini" in done.stderr
    assert (asked[0].auth, asked[0].names) == (True, ("mlflow.example.org",))


def test_variables_that_would_weaken_it_do_not_reach_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weakening = {
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true", "MLFLOW_UVICORN_OPTS": "--reload", "MLFLOW_SERVER_ALLOWED_HOSTS": "*", "MLFLOW_HOST": "0.0.0.0",
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "false", "MLFLOW_ENABLE_REMOTE_ASSISTANT": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true", "_MLFLOW_STATIC_PREFIX": "/x",
    }  # fmt: skip
    for name, value in {**weakening, "MLFLOW_S3_ENDPOINT_URL": "http://minio"}.items():
        monkeypatch.setenv(name, value)
    told, env = server.command(workspace, server.Listening(port=5001), proxied=True)
    passed = {name: value for name, value in env.items() if "MLFLOW" in name}
    assert passed == {
        "MLFLOW_S3_ENDPOINT_URL": "http://minio", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{workspace}/.mltoolkit/mlflow.db",
    }  # fmt: skip
    assert told[told.index("--allowed-hosts") + 1] == "127.0.0.1:5001,localhost:5001,[::1]:5001"
    assert told[told.index("--default-artifact-root") + 1] == "mlflow-artifacts:/"
    assert "--app-name" not in told
    local, _ = server.command(workspace, server.Listening(), proxied=False)
    assert local[local.index("--default-artifact-root") + 1] == (workspace / ".mltoolkit" / "artifacts").as_uri()


def test_a_store_of_another_schema_or_none_at_all(workspace: Path) -> None:
    store = workspace / ".mltoolkit" / "mlflow.db"
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    done = run("tracking", "serve", "--port", "0")
    assert done.exit_code == 1
    assert "out-of-date database schema" in done.stderr
    assert "mlflow db upgrade" in done.stderr
    store.write_text("this is no database, and was never one " * 100)
    for leftover in store.parent.glob("mlflow.db-*"):
        leftover.unlink()
    done = run("ui", "--port", "0", "--no-browser")
    assert done.exit_code == 1
    assert "mlflow.db did not accept a request" in done.stderr
    assert "Traceback" not in done.stderr


# --- its life, with a stand-in that answers at once

STAND_IN = """
import http.server, os, signal, subprocess, sys
how, port = sys.argv[1], int(sys.argv[2])
if how == "fails":
    sys.exit("it cannot: postgresql://me:hunter2@db.example.org/x")
subprocess.Popen(["sleep", "600"], start_new_session=True)  # what a server leaves behind
if how == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if how != "dies" else 503)
        self.end_headers()
        if how == "ends":
            os._exit(1)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
OWNER = """
import os, sys
from mltoolkit.errors import MltoolkitError
from mltoolkit.execution import server
how, stand_in = sys.argv[1:]
where = server.listening(port=0)
server.command = lambda root, where, **more: ([sys.executable, stand_in, how, str(where.port), "--artifacts-destination", "file:///a"], {**os.environ, "MLFLOW_BACKEND_STORE_URI": "sqlite:///x"})
server.tracking.client = lambda root: None
server._end.__defaults__ = (1.0,)
try:
    server.serve(where, ready=lambda served: print(served.address, flush=True))
except MltoolkitError as error:
    sys.exit((print(error, file=sys.stderr), error.exit_code)[1])
"""


@pytest.mark.parametrize(
    ("how", "number", "code"),
    [
        ("fine", signal.SIGTERM, 0), ("fine", signal.SIGINT, 0), ("fine", signal.SIGKILL, -9), ("deaf", signal.SIGINT, 0),
        ("fails", None, 1), ("ends", None, 1),
    ],
)  # fmt: skip
def test_nothing_of_it_is_left(bare_workspace: Path, mark: Marked, how: str, number: int | None, code: int) -> None:
    stand_in = bare_workspace / "stand_in.py"
    stand_in.write_text(STAND_IN)
    owner = mark.start(sys.executable, "-c", OWNER, how, stand_in, cwd=bare_workspace)
    assert owner.stdout
    line = owner.stdout.readline()
    if number is not None:
        assert ask(line.strip(), "/health")[0] == 200
        assert len(mark.alive()) >= 4  # the owner, the supervisor, the server and what it left
        owner.send_signal(number)
    _, said = owner.communicate(timeout=60)
    assert owner.returncode == code, said
    mark.all_gone()
    if how == "fails":
        assert "MLflow's server did not start" in said
        assert "it cannot" in said
        assert "hunter2" not in said
    if how == "ends":
        assert "ended by itself" in said


# --- the real one


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, prepared_store: Path) -> Iterator[tuple[Marked, subprocess.Popen[str], dict[str, Any], Path]]:
    """`mltoolkit tracking serve` over a workspace of its own."""
    root = tmp_path_factory.mktemp("served")
    (root / "settings.ini").write_text("[mltoolkit]\n")
    (root / ".mltoolkit").mkdir()
    shutil.copy(prepared_store, root / ".mltoolkit" / "mlflow.db")
    mark = Marked()
    process = mark.start(PROGRAM, "tracking", "serve", "--port", "0", "--json", cwd=root)
    try:
        assert process.stdout
        lines = ""
        while not lines.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines += line
        yield mark, process, json.loads(lines), root
    finally:
        process.kill()
        process.communicate()
        mark.end()


def test_it_answers_this_machine_and_nobody_elses_names(served: Any) -> None:
    _, _, told, root = served
    address = told["address"]
    port = int(address.rpartition(":")[2])
    assert (told["tracking_uri"], told["auth"]) == (f"sqlite:///{root}/.mltoolkit/mlflow.db", False)
    assert ask(address, "/health")[:2] == (200, "OK")
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    assert f"0100007F:{port:04X} 00000000:0000 0A" in listening
    assert f"00000000:{port:04X} 00000000:0000 0A" not in listening

    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        status, _, headers = ask(address, search, Host=host)
        assert status == 200
        assert {name.lower(): value for name, value in headers.items()}["x-frame-options"] == "SAMEORIGIN"
    for host in ("evil.example.org", f"evil.example.org:{port}", f"10.evil.example.org:{port}", f"192.168.evil.example.org:{port}", "127.0.0.1:1", f"0.0.0.0:{port}", ""):
        status, said, _ = ask(address, search, Host=host)
        assert (status, "Invalid Host header" in said) == (403, True), host
        assert ask(address, "/", Host=host)[0] == 403, "its pages as well"

    create = ("/api/2.0/mlflow/experiments/create", "POST", '{"name": "from elsewhere"}')
    for origin in ("http://evil.example.org", "null", "https://127.0.0.1.evil.example.org"):
        assert ask(address, *create, Origin=origin)[0] == 403
    names = json.loads(ask(address, "/api/2.0/mlflow/experiments/search?max_results=100")[1])["experiments"]
    assert [each["name"] for each in names] == ["Default"]


def test_it_executes_no_jobs(served: Any) -> None:
    mark, _, told, _ = served
    for place in ("/ajax-api/3.0/jobs/", "/api/3.0/jobs/"):
        status, said, _ = ask(told["address"], place, "POST", '{"job_name": "invoke_scorer", "params": {}}')
        assert status >= 400
        if status != 404:
            assert "job execution feature is not enabled" in said
            break
    else:
        pytest.fail("this version of MLflow has its jobs elsewhere")
    assert "huey" not in commands_of(mark)
    assert "_job_runner" not in commands_of(mark)


def test_files_go_through_it_and_not_elsewhere(served: Any, tmp_path: Path) -> None:
    _, _, told, root = served
    client = MlflowClient(tracking_uri=told["address"])
    experiment = client.create_experiment("through the server")
    run_id = client.create_run(experiment).info.run_id
    assert client.get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:/")
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 4000)
    client.log_artifact(run_id, str(tmp_path / "weights.bin"), "model")
    kept = root / ".mltoolkit" / "artifacts" / experiment / run_id / "artifacts" / "model" / "weights.bin"
    assert kept.read_bytes() == (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "back").mkdir()
    assert Path(client.download_artifacts(run_id, "model/weights.bin", str(tmp_path / "back"))).read_bytes() == kept.read_bytes()
    for path in ("../x", "/x", "a/../../x", "%2e%2e/x"):
        with pytest.raises((MlflowException, OSError)):  # by the client, or by the server's 400
            client.log_artifact(run_id, str(tmp_path / "weights.bin"), path)

    base = "/api/2.0/mlflow-artifacts/artifacts"
    (root / ".mltoolkit" / "secret.txt").write_text("secret")
    before = sorted(path for path in root.rglob("*") if path.is_file() and "mlflow.db" not in path.name)
    for path in ("../x", "..%2Fx", "%2e%2e/x", "%252e%252e%252fx", "a/../../x", f"{experiment}/../../x", "%2Ftmp%2Fx", "..%2Fsecret.txt", "../secret.txt"):
        for method, body in (("PUT", "planted"), ("GET", None), ("DELETE", None)):
            status, said, _ = ask(told["address"], f"{base}/{path}", method, body)
            assert status >= 300, (method, path)  # a redirect leads to where slashes are merged, inside
            assert said != "secret"
    assert sorted(path for path in root.rglob("*") if path.is_file() and "mlflow.db" not in path.name) == before
    assert not (root.parent / "x").exists()


def test_a_workspace_whose_store_is_a_server_already(served: Any, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, told, _ = served
    (bare_workspace / "settings.ini").write_text(f"[mltoolkit]\ntracking_uri = {told['address']}/\n")
    opened = bare_workspace / "opened.txt"
    browser = bare_workspace / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    env = {**os.environ, "BROWSER": f"{browser} %s", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    done = subprocess.run([PROGRAM, "ui"], cwd=bare_workspace, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, told["address"] + "\n"), done.stderr
    wait_for(opened.exists, "the browser")
    assert opened.read_text() == told["address"] + "\n"
    refused = run("tracking", "serve")
    assert (refused.exit_code, "is a server already" in refused.stderr) == (2, True)
    assert json.loads(run("ui", "--json", "--no-browser").stdout) == {"address": told["address"], "tracking_uri": told["address"]}
    missing = run("ui", "4f", "--no-browser")
    assert (missing.exit_code, missing.stdout) == (2, "")


def test_nothing_is_left_after_a_kill(served: Any) -> None:
    """The last of this server: whoever owns it is killed, and all of it goes."""
    mark, process, told, _ = served
    assert len(mark.alive()) >= 4
    process.kill()
    mark.all_gone()
    with pytest.raises(OSError, match="refused"):
        ask(told["address"], "/health")


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty PostgreSQL database, with a password in it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "record"))
    from postgresql import Server, programs

    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is missing; apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="mlt-pg-", ignore_cleanup_errors=True) as folder:
        made = Server(Path(folder), binaries)
        made.start()
        try:
            yield made.database().replace("postgresql://tests@", "postgresql+psycopg://tests:hunter2hunter2@")
        finally:
            made.stop()


def test_the_pages_of_a_run_over_postgresql(bare_workspace: Path, database: str, mark: Marked) -> None:
    """`mltoolkit ui RUN`: the browser is opened at the run, its files are served, and the password is nowhere to be seen."""
    (bare_workspace / "settings.ini").write_text(f"[mltoolkit]\ntracking_uri = {database}\n")
    from records import tracked

    store = tracking.client(bare_workspace)
    run_id = tracked(store, bare_workspace)
    opened, browser = bare_workspace / "opened.txt", bare_workspace / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    mark.env["BROWSER"] = f"{browser} %s"
    process, page = started(mark, "ui", run_id[:8], "--port", "0", root=bare_workspace)
    address = page.partition("/#/")[0]
    assert page.strip() == f"{address}/#/experiments/{store.get_run(run_id).info.experiment_id}/runs/{run_id}"
    wait_for(lambda: opened.exists() and opened.read_text() == page, "the browser")
    assert "hunter2" not in commands_of(mark)
    assert json.loads(ask(address, f"/get-artifact?path=manifest.json&run_uuid={run_id}")[1])["run_id"] == run_id
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Ctrl-C ends it" in said
    assert "hunter2" not in said
    mark.all_gone()


def test_basic_auth_asks_everybody(workspace: Path, mark: Marked) -> None:
    pytest.importorskip("flask_wtf", reason="needs MLflow's extra: pip install 'mlflow[auth]'")
    import base64

    mark.env["MLFLOW_AUTH_ADMIN_PASSWORD"] = "correct horse 42"
    process, line = started(mark, "tracking", "serve", "--auth", "--port", "0", root=workspace)
    address, search = line.strip(), "/api/2.0/mlflow/experiments/search?max_results=1"
    assert "correct horse" not in commands_of(mark)

    def as_user(password: str) -> dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}

    assert ask(address, search)[0] == 401
    assert ask(address, search, **as_user("password1234"))[0] == 401
    assert ask(address, search, **as_user("correct horse 42"))[0] == 200
    assert ask(address, "/api/2.0/mlflow-artifacts/artifacts/1/x", "PUT", "x")[0] == 401
    assert ask(address, search, Host="evil.example.org", **as_user("correct horse 42"))[0] == 403
    assert ask(address, "/health")[0] == 200
    assert (workspace / ".mltoolkit" / "basic_auth.db").exists()
    assert not list(workspace.glob("basic_auth*"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "put a proxy with TLS before it" in said
    mark.all_gone()


def test_a_server_that_never_answers_is_given_up(workspace: Path, tmp_path: Path) -> None:
    silent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    log = tmp_path / "log"
    log.write_text("still thinking")
    try:
        with pytest.raises(TrackingError, match=r"did not start.*still thinking"):
            server._answering(server.listening(port=0), silent, log, None, patience=0.3)
    finally:
        server._end(silent, 5)
    assert silent.returncode != 0


@pytest.mark.parametrize("left", [7, 16, 30, 60])
def test_wherever_the_log_is_cut_no_password_is_in_it(tmp_path: Path, left: int) -> None:
    """The end of a log is told; it may begin in the middle of an address."""
    address = "postgresql://me:hunter2hunter2@db.example.org/x"
    log = tmp_path / "log"
    log.write_text(f"no connection to {address}{'.' * (600 - left)}")  # so much of it is within the last 600 characters
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        with pytest.raises(TrackingError, match="did not start") as caught:
            server._answering(server.Listening(port=1), ended, log, None)
    assert "hunter2" not in str(caught.value)


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    """It took the port between looking for a free one and starting ours, which therefore ends."""

    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.send_response(200)
            self.end_headers()

        def log_message(self, *said: object) -> None:
            pass

    log = tmp_path / "log"
    log.write_text("the port is in use")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        ours = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"])
        try:
            with pytest.raises(TrackingError, match=r"did not start.*in use"):
                server._answering(server.Listening(port=stranger.server_address[1]), ours, log, None)
        finally:
            stranger.shutdown()
            server._end(ours)
