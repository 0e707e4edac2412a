"""A kernel in a few lines that starts in a tenth of a second: for tests of what surrounds a kernel.

It speaks enough of the protocol for Python code that prints, raises, or leaves. Its name makes the toolkit
treat it like the real one."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import os
import signal
import sys
import uuid

import zmq


class Tiny:
    def __init__(self, connection: dict[str, object]) -> None:
        self.key = str(connection["key"]).encode()
        self.context = zmq.Context()
        self.sockets = {}
        for name, kind in (("shell", zmq.ROUTER), ("control", zmq.ROUTER), ("iopub", zmq.PUB), ("hb", zmq.REP)):
            port = connection[f"{name}_port"]
            ipc = connection["transport"] == "ipc"
            self.sockets[name] = socket = self.context.socket(kind)
            socket.bind(f"ipc://{connection['ip']}-{port}" if ipc else f"tcp://{connection['ip']}:{port}")
        self.scope: dict[str, object] = {"__name__": "__main__"}
        self.count = 0

    def send(self, channel: str, kind: str, content: dict[str, object], parent: dict[str, object], to: list[bytes]) -> None:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "tiny", "username": "", "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        parts = [json.dumps(part).encode() for part in (header, parent, {}, content)]
        signature = hmac.new(self.key, b"".join(parts), hashlib.sha256).hexdigest().encode()
        self.sockets[channel].send_multipart([*to, b"<IDS|MSG>", signature, *parts])

    def serve(self) -> None:
        poller = zmq.Poller()
        for name in ("shell", "control"):
            poller.register(self.sockets[name], zmq.POLLIN)
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                for socket, _ in poller.poll():
                    self.answer("shell" if socket is self.sockets["shell"] else "control", socket.recv_multipart())

    def answer(self, channel: str, frames: list[bytes]) -> None:
        at = frames.index(b"<IDS|MSG>")
        header, content = json.loads(frames[at + 2]), json.loads(frames[at + 5])
        self.send("iopub", "status", {"execution_state": "busy"}, header, [b"status"])
        kind, reply = header["msg_type"], {"status": "ok"}
        if kind == "kernel_info_request":
            reply |= {"protocol_version": "5.3", "language_info": {"name": "python", "mimetype": "text/x-python"}}
        elif kind == "execute_request":
            reply |= self.execute(content["code"], header, content["silent"])
        self.send(channel, kind.replace("request", "reply"), reply, header, frames[:at])
        self.send("iopub", "status", {"execution_state": "idle"}, header, [b"status"])
        if kind == "shutdown_request":
            self.context.destroy(linger=100)
            sys.exit(0)

    def execute(self, code: str, header: dict[str, object], silent: bool) -> dict[str, object]:
        self.count += not silent
        shown, reply = io.StringIO(), {"execution_count": self.count, "payload": []}
        try:
            with contextlib.redirect_stdout(shown):
                exec(compile(code, "<cell>", "exec"), self.scope)
        except BaseException as error:  # noqa: BLE001 (it is the reply)
            said = {"ename": type(error).__name__, "evalue": str(error), "traceback": [repr(error)]}
            if not silent:
                self.send("iopub", "error", said, header, [b"error"])
            reply |= {"status": "error", **said}
        if shown.getvalue():
            self.send("iopub", "stream", {"name": "stdout", "text": shown.getvalue()}, header, [b"stream"])
        return reply


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(sys.argv[1]) as file:
        Tiny(json.load(file)).serve()
    os._exit(0)
