"""Messages that arrive, at real programs and real servers on the loopback."""

from __future__ import annotations

import base64
import ipaddress
import itertools
import json
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mltoolkit.errors import Invalid, MltoolkitError
from mltoolkit.scheduling import notify
from mltoolkit.scheduling.incidents import NOTICES, prepare
from mltoolkit.scheduling.jobs import Jobs, load
from mltoolkit.scheduling.notify import (
    TRIES,
    Post,
    channel,
    deliver,
    outbox,
    send_command,
    send_email,
    send_webhook,
)
from mltoolkit.scheduling.store import INSTANCES, Store, open_store


@pytest.fixture
def store(bare_workspace: Path) -> Iterator[Store]:
    """The job store of the workspace."""
    opened = open_store(bare_workspace)
    prepare(opened)
    yield opened
    opened.close()


@pytest.fixture
def message(bare_workspace: Path) -> dict[str, Any]:
    """A message as the outbox has it."""
    return {"event": "failure", "job": "it", "subject": "it failed", "text": "it failed\ncause: böse ☃\n", "workspace": str(bare_workspace), "host": "here"}


def jobs_of(notify: str, write: Callable[..., Path]) -> Jobs:
    """One job `it` with these alerts."""
    write("a.ipynb")
    Path("jobs.yaml").write_text(f"jobs:\n  it: {{notebook: a.ipynb, notify: {notify}}}\n")
    return load()


def post(store: Store, message: dict[str, Any], channel: str = "command", **more: Any) -> None:
    """Put a message into the outbox."""
    row = {"job": "it", "event": "failure", "channel": channel, "message": message, "made": 0, "tries": 0, "not_before": 0, "error": ""} | more
    store.write(lambda connection: connection.execute(sa.insert(NOTICES).values(**row)))


# --- servers


class Answers(BaseHTTPRequestHandler):
    """Keeps what is posted; the path says how to answer."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(int(self.path.strip("/") or 200))
        if self.path == "/302":
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[Any]:
    """An HTTP server; `got` has what was posted."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.got = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield SimpleNamespace(got=server.got, url=f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


class Mailbox(socketserver.StreamRequestHandler):
    """Enough of SMTP to take a mail: RFC 5321 without what nobody asks for here."""

    def handle(self) -> None:
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(":")[0].split(" ")[0].upper()
            if verb == "EHLO":
                offered = self.server.secure and not isinstance(self.connection, ssl.SSLSocket)  # type: ignore[attr-defined]
                self.say("250-here", *(["250-STARTTLS"] if offered else []), "250 AUTH PLAIN")
            elif verb == "STARTTLS":
                self.say("220 go on")
                self.connection = self.server.secure.wrap_socket(self.connection, server_side=True)  # type: ignore[attr-defined]
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            elif verb == "AUTH":
                self.server.auth.append(base64.b64decode(line.split()[2]).decode())  # type: ignore[attr-defined]
                self.say("235 welcome")
            elif verb == "RCPT":
                self.say("550 nobody" if "nobody@" in line else "250 yes")
            elif verb == "DATA":
                self.say("354 go on")
                mail = b""
                while not mail.endswith(b"\r\n.\r\n"):
                    mail += self.rfile.readline()
                self.server.got.append(message_from_bytes(mail[:-5], policy=default))  # type: ignore[attr-defined]
                self.say("250 taken")
            elif verb == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 yes")

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A mail server; `got` has its mails, `auth` who logged in. The setting `smtp` names it."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that leaves
        server.got, server.auth, server.secure = [], [], None  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("MLTOOLKIT_SMTP", f"smtp://127.0.0.1:{server.server_address[1]}")
        yield SimpleNamespace(got=server.got, auth=server.auth, port=server.server_address[1], server=server)  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


# --- channels


def test_a_program_gets_the_message(message: dict[str, Any], bare_workspace: Path) -> None:
    send_command(message, [sys.executable, "-c", "import sys, os; open('got', 'wb').write(sys.stdin.buffer.read())"])
    assert json.loads((bare_workspace / "got").read_text()) == message


def test_a_program_that_does_not_read_is_no_failure(message: dict[str, Any]) -> None:
    send_command(message | {"text": "x" * 500_000}, [sys.executable, "-c", "pass"])


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["no-such-program-here"], "cannot be run: No such file"),
        ([sys.executable, "-c", "raise SystemExit('no network')"], "ended with 1: no network"),
        ([sys.executable, "-c", "import os; os._exit(3)"], "ended with 3: $"),
    ],
)
def test_a_program_that_fails_says_why(message: dict[str, Any], command: list[str], reason: str) -> None:
    with pytest.raises(MltoolkitError, match=reason):
        send_command(message, command)


def test_a_program_that_does_not_end_is_ended_with_all_it_started(message: dict[str, Any], monkeypatch: pytest.MonkeyPatch, mark: Any) -> None:
    monkeypatch.setattr(notify, "_PATIENCE", 1.0)
    program = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"
    monkeypatch.setenv("TEST_MARK", mark.value)
    with pytest.raises(MltoolkitError, match="was ended after 1 s"):
        send_command(message, [sys.executable, "-c", program])
    mark.all_gone()


def test_a_webhook_gets_the_message(message: dict[str, Any], web: Any) -> None:
    send_webhook(message, f"{web.url}/200")
    send_webhook(message, f"{web.url}/204")
    assert web.got == [("/200", "application/json", message), ("/204", "application/json", message)]


@pytest.mark.parametrize("code", [302, 404, 500])
def test_an_answer_that_is_no_success_is_a_failure(message: dict[str, Any], web: Any, code: int) -> None:
    with pytest.raises(MltoolkitError, match=f"the webhook at 127.0.0.1 answered {code}") as caught:
        send_webhook(message, f"{web.url}/{code}")
    assert len(web.got) == 1, "no redirect is followed"
    assert f"/{code}" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/hunter2", "http://no-such-host.invalid/hunter2", "ftp://a/hunter2", "file:///hunter2", "http://[bad/hunter2", "http://127.0.0.1:9/hunter2 x"])
def test_no_error_holds_the_secret_part_of_a_url(message: dict[str, Any], url: str) -> None:
    with pytest.raises(MltoolkitError) as caught:
        send_webhook(message, url)
    assert "hunter2" not in str(caught.value)


def test_a_mail_arrives(message: dict[str, Any], mailbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_MAIL_FROM", "jobs@example.org")
    send_email(message, ["a@example.org", "b@example.org"])
    (mail,) = mailbox.got
    assert (mail["Subject"], mail["From"], mail["To"], mail["Auto-Submitted"]) == ("it failed", "jobs@example.org", "a@example.org, b@example.org", "auto-generated")
    assert mail["Date"]
    assert mail["Message-ID"]
    assert mail.get_content().replace("\r\n", "\n").strip() == message["text"].strip()
    assert mailbox.auth == []


def test_a_password_goes_to_this_machine_or_encrypted_only(message: dict[str, Any], mailbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_SMTP_PASSWORD", "hunter2")
    monkeypatch.setenv("MLTOOLKIT_SMTP", f"smtp://me%40x@127.0.0.1:{mailbox.port}")
    send_email(message, ["a@example.org"])
    assert mailbox.auth == ["\0me@x\0hunter2"]
    assert mailbox.got[0]["From"] == "mltoolkit@here"
    monkeypatch.setenv("MLTOOLKIT_SMTP", f"smtp://me@127.0.0.2:{mailbox.port}")
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, *more: connect(("127.0.0.1", address[1]), *more))
    with pytest.raises(MltoolkitError, match="offers no encryption, so the password is not sent"):
        send_email(message, ["a@example.org"])
    assert len(mailbox.auth) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of its own for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    began = datetime.now(UTC) - timedelta(hours=1)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(began).not_valid_after(began + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_the_connection_is_encrypted_where_the_server_can(message: dict[str, Any], mailbox: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox.server.secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mailbox.server.secure.load_cert_chain(certificate)
    monkeypatch.setenv("MLTOOLKIT_SMTP_PASSWORD", "hunter2")
    monkeypatch.setenv("MLTOOLKIT_SMTP", f"smtp://me@127.0.0.1:{mailbox.port}")
    with pytest.raises(MltoolkitError, match=r"did not take the message: .*certificate verify failed"):
        send_email(message, ["a@example.org"])
    assert mailbox.auth == [], "an unknown server gets no password"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    send_email(message, ["a@example.org"])
    assert mailbox.auth == ["\0me\0hunter2"]
    assert len(mailbox.got) == 1


@pytest.mark.parametrize(
    ("server", "addresses", "reason"),
    [
        ("", ["a@example.org"], "the setting smtp must name a mail server"),
        ("mail.example.org", ["a@example.org"], "the setting smtp must name a mail server"),
        ("smtp://127.0.0.1:9", ["a@example.org"], "did not take the message: .*refused"),
        ("smtps://127.0.0.1:PORT", ["a@example.org"], "did not take the message"),
        ("smtp://127.0.0.1:PORT", ["nobody@example.org"], "did not take the message"),
        ("smtp://127.0.0.1:PORT", ["a@example.org", "nobody@example.org"], "refused nobody@example.org"),
        ("smtp://127.0.0.1:PORT", ["a@example.org\nBcc: all@example.org"], "did not take the message"),
    ],
)
def test_a_mail_that_is_not_taken_says_why(
    message: dict[str, Any], mailbox: Any, monkeypatch: pytest.MonkeyPatch, server: str, addresses: list[str], reason: str
) -> None:
    monkeypatch.setenv("MLTOOLKIT_SMTP", server.replace("PORT", str(mailbox.port)))
    with pytest.raises(MltoolkitError, match=reason):
        send_email(message, addresses)


def test_another_package_may_bring_a_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: dict[str, Any], store: Store, write: Callable[..., Path]) -> None:
    (tmp_path / "pigeons").mkdir()
    (tmp_path / "pigeons" / "pigeon.py").write_text("sent = []\ndef fly(message, config):\n    sent.append((message['subject'], config))\n")
    (tmp_path / "pigeons" / "pigeons-1.dist-info").mkdir()
    (tmp_path / "pigeons" / "pigeons-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1\n")
    (tmp_path / "pigeons" / "pigeons-1.dist-info" / "entry_points.txt").write_text("[mltoolkit.notify]\npigeon = pigeon:fly\n")
    monkeypatch.syspath_prepend(tmp_path / "pigeons")
    jobs = jobs_of("{channels: {pigeon: {loft: 7}}}", write)
    post(store, message, "pigeon")
    assert deliver(store, jobs) == 1
    assert sys.modules["pigeon"].sent == [("it failed", {"loft": 7})]
    with pytest.raises(Invalid, match="no channel is called 'pigeno'; did you mean 'pigeon'"):
        channel("pigeno")


# --- delivery


def test_what_is_sent_is_sent_once(message: dict[str, Any], store: Store, web: Any, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"{web.url}/200")
    jobs = jobs_of("{webhook: {env: HOOK}}", write)
    for _ in range(5):
        post(store, message, "webhook")
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: deliver(store, jobs), range(4))) == 5
    assert len(web.got) == 5
    assert outbox(store) == []
    assert deliver(store, jobs) == 0


def test_a_secret_url_may_be_in_a_file(message: dict[str, Any], store: Store, web: Any, write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = jobs_of("{webhook: {file: hook.txt}}", write)
    Path("hook.txt").write_text(f"{web.url}/200\n")
    monkeypatch.chdir(tmp_path)
    post(store, message, "webhook")
    assert deliver(store, jobs) == 1


def test_what_does_not_arrive_is_tried_again_later_and_given_up_in_the_end(message: dict[str, Any], store: Store, write: Callable[..., Path]) -> None:
    jobs, said, waits = jobs_of("{webhook: 'http://127.0.0.1:9/hunter2'}", write), [], []
    post(store, message, "webhook")
    for now in range(1000, 100_000, 3601):
        clock = itertools.repeat(float(now)).__next__
        assert deliver(store, jobs, said.append, clock) == 0
        assert deliver(store, jobs, said.append, clock) == 0, "not at once"
        (row,) = outbox(store)
        waits.append(row["not_before"] - now)
    assert row["tries"] == TRIES
    assert "cannot be reached" in row["error"]
    assert waits[:TRIES] == [120, 240, 480, 960, 1920] + [3600] * 7
    assert len(said) == TRIES
    assert said[-1].endswith("given up")
    assert "hunter2" not in str(said)


@pytest.mark.parametrize(
    ("job", "channel", "reason"),
    [("gone", "command", "there is no job gone any more"), ("it", "command", "no channel 'command' for it any more"), ("it", "webhook", "HOOK is not set"), ("it", "pigeon", "no channel is called 'pigeon'")],
)  # fmt: skip
def test_what_has_nowhere_to_go_is_said(message: dict[str, Any], store: Store, write: Callable[..., Path], job: str, channel: str, reason: str) -> None:
    jobs, said = jobs_of("{webhook: {env: HOOK}, channels: {pigeon: 1}}", write), []
    post(store, message, channel, job=job)
    assert deliver(store, jobs, said.append) == 0
    assert reason in said[0]


def test_a_channel_that_fails_keeps_no_other_from_its_message(message: dict[str, Any], store: Store, web: Any, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(notify._CHANNELS, "command", lambda message, command: {}["x"])
    jobs, said = jobs_of(f"{{webhook: '{web.url}/200', command: [x]}}", write), []
    post(store, message, "command")
    post(store, message, "webhook")
    assert deliver(store, jobs, said.append) == 1
    assert said == ["it: failure could not be told by command: KeyError: 'x'"]


def test_a_message_survives_the_death_of_who_was_sending_it(message: dict[str, Any], store: Store, write: Callable[..., Path], bare_workspace: Path) -> None:
    Path("tell.py").write_text(
        "import pathlib, sys, time\n"
        "if not pathlib.Path('began').exists():\n    pathlib.Path('began').touch()\n    time.sleep(20)\n"
        "pathlib.Path('told').write_text(sys.stdin.read())\n"
    )
    jobs = jobs_of(json.dumps({"command": [sys.executable, "tell.py"]}), write)
    post(store, message)
    program = "from mltoolkit.scheduling import notify, jobs, store; notify.deliver(store.open_store(), jobs.load())"
    sender = subprocess.Popen([sys.executable, "-c", program], env=os.environ, start_new_session=True)
    while not (bare_workspace / "began").exists():
        time.sleep(0.02)
    sender.kill()
    sender.wait()
    assert deliver(store, jobs) == 0, "its turn comes again later"
    assert deliver(store, jobs, now=lambda: time.time() + 130) == 1
    assert json.loads((bare_workspace / "told").read_text()) == message


# --- the post


def failed(store: Store, key: str) -> str:
    """An instance that failed just now."""
    job, _, logical = key.partition("@")
    row = {"key": key, "job": job, "logical": logical, "state": "failed", "reason": "boom", "origin": "tick", "lane": job, "due": 0, "created": 0, "ended": time.time(), "attempt": 1}
    store.write(lambda connection: connection.execute(sa.insert(INSTANCES).values(**row)))
    return key


def until(true: Callable[[], Any]) -> None:
    """Wait until something is so; the test's own limit ends it otherwise."""
    while not true():
        time.sleep(0.02)


def test_the_post_sends_what_it_is_told(store: Store, web: Any, write: Callable[..., Path]) -> None:
    jobs = jobs_of(f"{{webhook: '{web.url}/200'}}", write)
    post = Post(store, lambda: jobs, every=600)
    post.start()
    post(failed(store, "it@2013-03-01T00:00:00"), "failed")
    until(lambda: web.got)
    post(failed(store, "it@2013-03-02T00:00:00"), "failed")
    post.close()
    assert [body["subject"] for _, _, body in web.got] == ["it failed, 2013-03-01T00:00:00"]
    assert not post._thread.is_alive()


def test_the_post_finds_what_it_was_not_told(store: Store, web: Any, write: Callable[..., Path]) -> None:
    jobs = jobs_of(f"{{webhook: '{web.url}/200'}}", write)
    before = Post(store, lambda: jobs)
    before.start()
    before.close()
    failed(store, "it@2013-03-01T00:00:00")  # and whoever had seen it is dead
    post = Post(store, lambda: jobs)
    post.start()
    post.close(patience=600)
    assert [body["failures"] for _, _, body in web.got] == [1]


def test_the_post_goes_on_when_something_is_wrong_for_a_while(store: Store, web: Any, write: Callable[..., Path]) -> None:
    jobs, said, away = jobs_of(f"{{webhook: '{web.url}/200'}}", write), [], [True, True, True]

    def definitions() -> Jobs:
        if away:
            away.pop()
            raise OSError("away")
        return jobs

    post = Post(store, definitions, said.append, every=0.02)
    post.start()
    until(lambda: not away)
    post(failed(store, "it@2013-03-01T00:00:00"))
    until(lambda: web.got)
    post.close()
    assert said == ["nobody can be told anything for now: OSError: away"]


def test_a_post_that_was_not_started_is_closed_all_the_same(store: Store) -> None:
    Post(store, lambda: Jobs(store.root, {})).close()
