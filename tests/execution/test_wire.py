"""One socket between a run and its kernel: what is long, broken off, or comes when nobody reads."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from warm import Place, runtime_folder

from mltoolkit.errors import Status
from mltoolkit.execution import template
from mltoolkit.execution.wire import Wire


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire = Wire(ours)
    with theirs:
        yield wire, theirs
    wire.close()


def message(kind: str, content: dict[str, Any], channel: bytes = template.IOPUB, buffers: tuple[bytes, ...] = ()) -> list[bytes]:
    parts = [json.dumps(part).encode() for part in ({"msg_id": "1", "msg_type": kind}, {"msg_id": "asked"}, {}, content)]
    return list(template.packets([channel, b"topic", b"<IDS|MSG>", b"", *parts, *buffers]))


def send(end: socket.socket, packets: list[bytes]) -> threading.Thread:
    """Send packets as a kernel does: for as long as it takes until they are taken."""
    sender = threading.Thread(target=lambda: [end.send(packet) for packet in packets])
    sender.start()
    return sender


def take(wire: Wire, number: int) -> list[tuple[bool, dict[str, Any]]]:
    """Take so many messages."""
    taken: list[tuple[bool, dict[str, Any]]] = []
    while len(taken) < number:
        assert select.select([wire], [], [], 30)[0]
        taken += wire.take()
    return taken


def test_messages_of_any_length(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    for length in (0, 1, template._PART - 300, template._PART, 100_000):
        sender = send(theirs, message("stream", {"text": "ü" * length}, buffers=(b"\0" * length, b"")))
        [(is_reply, taken)] = take(wire, 1)
        sender.join()
        assert (is_reply, taken["msg_type"], taken["parent_header"]) == (False, "stream", {"msg_id": "asked"})
        assert (taken["content"], taken["buffers"]) == ({"text": "ü" * length}, [b"\0" * length, b""])


def test_a_message_that_was_broken_off_is_forgotten(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    long = message("stream", {"text": "x" * 200_000})
    sender = send(theirs, [*long[:-1], *message("status", {"execution_state": "idle"}), *long])
    assert [taken["msg_type"] for _, taken in take(wire, 2)] == ["status", "stream"]
    sender.join()


def test_a_kernel_that_does_not_read(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    asked = [wire.execute("x = " + "1" * 300_000) for _ in range(4)]
    assert wire.events() == select.POLLIN | select.POLLOUT
    assembling, found = template.Assembling(), []
    while len(found) < 4:
        frames = assembling.feed(theirs.recv(1 << 17))
        if frames:
            found.append(json.loads(frames[2])["msg_id"])
        wire.flush()
    assert found == asked
    assert wire.events() == select.POLLIN


def test_a_kernel_that_ended(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    for packet in message("stream", {"text": "last"}):
        theirs.send(packet)
    theirs.close()
    wire.execute("1")  # nobody takes it
    assert [taken["content"]["text"] for _, taken in wire.take()] == ["last"]
    assert (wire.ended, wire.events(), list(wire.take())) == (True, 0, [])
    wire.execute("2")
    wire.flush()


def test_taking_is_no_longer_than_others_wait(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    for _ in range(5):
        for packet in message("stream", {"text": "x"}):
            theirs.send(packet)
    assert len(list(wire.take(patience=-1))) == 1
    assert len(list(wire.take())) == 4


# Real kernels


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with runtime_folder():
        made = Place.make(tmp_path_factory.mktemp("wire") / "workspace", "none")
        assert made.execute("1").outcome.warm
        yield made


def test_long_source_and_long_output(place: Place) -> None:
    source = f"text = {'y' * 3_000_000!r}\nprint(text)\ntext"
    ran = place.execute(source, "len(text)", output_limit=10_000_000)
    assert (ran.outcome.status, ran.outcome.warm) == (Status.succeeded, True)
    stream, result = ran.notebook.cells[0].outputs
    assert stream.text == "y" * 3_000_000 + "\n"
    assert len(result.data["text/plain"]) == 3_000_002
    assert ran.notebook.cells[1].outputs[0].data["text/plain"] == "3000000"


def test_interrupted_while_it_shows_something_long(place: Place) -> None:
    shows = "from IPython.display import display, HTML\nlong = HTML('z' * 700_000)\ntry:\n    while True: display(long)\nfinally:\n    print('the end')"
    for _ in range(3):
        ran = place.execute(shows, cell_timeout=0.7, output_limit=2_000_000)
        assert (ran.outcome.status, ran.outcome.warm) == (Status.timed_out, True)
        outputs = ran.notebook.cells[0].outputs
        assert [output.ename for output in outputs if output.output_type == "error"] == ["KeyboardInterrupt"]
        assert {len(output.data["text/html"]) for output in outputs if output.output_type == "display_data"} == {700_000}
        assert ran.outcome.warnings == []


def test_killed_while_it_shows_something_long(place: Place) -> None:
    kills = "import os, threading\nthreading.Timer(0.5, os.kill, (os.getpid(), 9)).start()\nfrom IPython.display import display, HTML\nwhile True: display(HTML('z' * 700_000))"
    ran = place.execute("print('before')", kills, output_limit=2_000_000)
    assert (ran.outcome.status, ran.outcome.signal, ran.outcome.cell) == (Status.kernel_died, 9, 1)
    assert ran.notebook.cells[0].outputs[0].text == "before\n"
    assert ran.notebook.cells[1].outputs


def test_much_is_shown_while_it_ends(place: Place) -> None:
    ran = place.execute("import atexit\natexit.register(lambda: (print('w' * 3_000_000, flush=True), open('left-it', 'w').close()))")
    assert (ran.outcome.usage.exit_code, ran.outcome.usage.signal) == (0, None)
    assert (ran.cwd / "left-it").exists()  # nobody shows it, but somebody takes it


def test_a_handler_of_signals_shows_something_in_the_middle_of_a_message(place: Place) -> None:
    shows = (
        "import signal\nfrom IPython.display import display, HTML\nlong = HTML('z' * 700_000)\ncalls = []\n"
        "def handler(*_):\n    calls.append(1)\n    display(HTML('from the handler'))\n    print('printed by it', flush=True)\n"
        "    if not done: signal.setitimer(signal.ITIMER_REAL, 0.002)\n"
        "done = False\nsignal.signal(signal.SIGALRM, handler)\nsignal.setitimer(signal.ITIMER_REAL, 0.002)\n"
        "for _ in range(40): display(long)\ndone = True\nsignal.setitimer(signal.ITIMER_REAL, 0)"
    )
    ran = place.execute(shows, "len(calls)", cell_timeout=30, output_limit=100_000_000)
    assert (ran.outcome.status, ran.outcome.warm) == (Status.succeeded, True)
    outputs = ran.notebook.cells[0].outputs
    shown = [output.data["text/html"] for output in outputs if output.output_type == "display_data"]
    calls = int(ran.notebook.cells[1].outputs[0].data["text/plain"])
    assert calls > 5
    assert (shown.count("z" * 700_000), shown.count("from the handler")) == (40, calls)
    assert ran.text.count("printed by it\n") == calls
    assert "timed out" not in ran.text
