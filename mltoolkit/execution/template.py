"""Kernels whose shell was made before they were asked for, and which talk over one socket.

A plain module like zygote.py, which loads it by its path. A *template* is a fork of the zygote in which
ipykernel's application is made as far as that goes without threads, sockets, or knowing for whom: reading
its configuration and building IPython's shell is most of what a kernel does when it starts. From there
each kernel is forked, one ahead of need.

The kernel is ipykernel's own, with its thread that writes output and its readers of what C code prints;
what is left out are the five sockets of ZeroMQ, with their threads, that the world would connect to. In
their place there is one socket to the runner. Requests go in; what the kernel publishes, and its
replies, come out, in the order in which they were sent. Each message is that of the Jupyter protocol, with a
frame in front that names the channel.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

SHELL, IOPUB, END = b"shell", b"iopub", b"end"
LEFT_OUT = ("init_connection_file", "init_poller", "init_sockets", "init_heartbeat", "write_connection_file", "log_connection_info", "init_io")


# -- framing -----------------------------------------------------------------------------------------------

_FIRST, _LAST = 1, 2
_PART = 65_536  # bytes of a packet at most; a socket takes somewhat more at once


def packets(frames: list[Any]) -> Iterator[bytes]:
    """Make a message of frames: how many, how long each, then all; in packets, each sent whole or not at all."""
    parts = [frame if isinstance(frame, bytes) else bytes(frame) for frame in frames]
    message = b"".join((struct.pack(f"!I{len(parts)}Q", len(parts), *map(len, parts)), *parts))
    for at in range(0, len(message), _PART):
        flags = (_FIRST if at == 0 else 0) | (_LAST if at + _PART >= len(message) else 0)
        yield bytes((flags,)) + message[at : at + _PART]


class Assembling:
    """Puts messages together from their packets; one that was broken off is followed by the first of another."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def feed(self, packet: bytes) -> list[bytes] | None:
        """Return the frames of the message that is complete now, if one is."""
        if packet[0] & _FIRST:
            self.parts.clear()
        self.parts.append(packet[1:])
        if not packet[0] & _LAST:
            return None
        message = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts.clear()
        (count,) = struct.unpack_from("!I", message)
        at, frames = 4 + 8 * count, []
        for length in struct.unpack_from(f"!{count}Q", message, 4):
            frames.append(message[at : at + length])
            at += length
        return frames


# -- the kernel's end --------------------------------------------------------------------------------------


class Publishing:
    """What ipykernel's output thread takes for its socket.

    Whoever publishes writes to the wire himself, one at a time, instead of waking that thread for it. A signal
    may break off a long message, but not mix it with another: what its handler shows in the middle of one follows it."""

    def __init__(self) -> None:
        import threading

        import zmq

        self.context = zmq.Context()  # for the thread's own events, and for what forked children show
        self.wire: socket.socket | None = None
        self.turn = threading.RLock()
        self.waiting: deque[list[Any]] = deque()
        self.sending = False

    def send_multipart(self, frames: list[Any], flags: int = 0, copy: bool = True, track: bool = False, *, channel: bytes = IOPUB) -> None:
        """Send one message to the runner; without one, which is before it came or after it went, drop it."""
        with self.turn:
            if self.wire is None:
                return
            self.waiting.append([channel, *frames])
            if self.sending:
                return
            self.sending = True
            try:
                while self.waiting:
                    for packet in packets(self.waiting.popleft()):
                        self.wire.send(packet)
            except OSError:
                self.wire = None
            finally:
                self.sending = False

    def close(self) -> None:
        """Do nothing: the wire is closed by the end of the process."""


def _publish_at_once(thread: Any) -> None:
    """Let the output thread's clients do without it, but for what forked children have it do."""
    through_thread = thread.send_multipart

    def send_multipart(*args: Any, **more: Any) -> None:
        if thread._is_master_process():
            thread.socket.send_multipart(*args, **more)
        else:
            through_thread(*args, **more)

    thread.send_multipart = send_multipart


def _flush_what_is_there(stream: Any, publishing: Publishing) -> None:
    """Spare the output thread from being asked to flush nothing, which it is six times for each cell."""
    import threading

    through_thread, in_thread = stream.flush, stream._flush
    turn = threading.RLock()

    def _flush() -> None:
        if stream._is_master_process():
            with turn:
                in_thread()
        else:
            in_thread()

    def flush() -> None:
        if stream._is_master_process():
            if publishing.turn._is_owned():  # type: ignore[attr-defined]
                in_thread()  # a signal's handler: the output thread waits for the message in whose middle this is
                return
            with turn:  # what is being flushed will have been sent
                if not stream._buffers:
                    return
        through_thread()

    stream._flush, stream.flush = _flush, flush


def _requests() -> Any:
    from zmq.eventloop.zmqstream import ZMQStream

    class Requests(ZMQStream):
        """The stream of requests and replies, on the wire; the kernel asks for a stream of ZeroMQ's."""

        def __init__(self) -> None:
            self.thread: Any = None
            self.callback: Any = None
            self.kernel: Any = None
            self.tasks: set[Any] = set()
            self.assembling = Assembling()

        def on_recv(self, callback: Any, copy: bool = True) -> None:
            self.callback = callback

        def send_multipart(self, msg: Any, *args: Any, **more: Any) -> None:
            self.thread.socket.send_multipart(msg, channel=SHELL)

        def flush(self, *args: Any, **more: Any) -> int:
            """Do nothing: it is written in the order in which it was sent."""
            return 0

        def arrived(self, wire: socket.socket, events: int) -> None:
            """Take what has come from the runner."""
            import asyncio

            from zmq import Frame

            try:
                data = wire.recv(2 * _PART, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:  # the runner is gone; the supervisor sees to the rest
                self.io_loop.remove_handler(wire.fileno())
                return
            frames = self.assembling.feed(data)
            if frames is not None:
                task = asyncio.ensure_future(self.end() if frames == [END] else self.callback([Frame(frame) for frame in frames]))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

        async def end(self) -> None:
            """Do what a request to shut down does on the control channel: it does not become the parent of what is shown."""
            done = self.kernel.do_shutdown(False)
            if inspect.isawaitable(done):
                await done
            await self.kernel._at_shutdown()
            self.io_loop.stop()

    return Requests()


def _end_children_soon(kernel: Any, children: Any) -> None:
    """When it ends, let the kernel ask the processes that it left to end, but not wait for those that do not heed it."""
    import asyncio

    patiently = kernel._progressively_terminate_all_children

    async def end_children() -> None:
        if children():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(patiently(), 1.0)

    kernel._progressively_terminate_all_children = end_children


def _look_parameters_up_once() -> None:
    """Spare each request that the parameters of the method which executes it are looked up; another method has others."""
    import functools

    from ipykernel import kernelbase

    accepts = functools.lru_cache(maxsize=8)(kernelbase._accepts_parameters)
    kernelbase._accepts_parameters = lambda meth, param_names: accepts(meth, tuple(param_names))


class NoThread:
    """In place of the thread that would read requests: the kernel is told that there is none, but asks whose child it is."""

    def __init__(self) -> None:
        import threading

        self.parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class Template:
    """An application of ipykernel's, made up to the point at which a kernel differs from another."""

    def __init__(self, arguments: list[str], zygote: Any) -> None:
        from ipykernel.kernelapp import IPKernelApp

        self.zygote = zygote
        app: Any = IPKernelApp.instance()
        self.app = app
        for name in LEFT_OUT:
            setattr(app, name, lambda: None)
        app._ports = {}
        app.init_kernel = self._init_kernel
        app.initialize(["-f", "", *arguments])
        app.configure_tornado_logger()
        _look_parameters_up_once()
        _end_children_soon(app.kernel, zygote.children)
        self._use_once()
        self.configured = self.configuration()
        zygote.answer_late()

    def _init_kernel(self) -> None:
        app = self.app
        app.kernel_class._supports_kernel_subshells = False
        app.session.key = b""  # nobody else has the other end
        app.kernel = app.kernel_class.instance(
            parent=app, session=app.session, shell_stream=_requests(), shell_channel_thread=NoThread(), log=app.log,
            profile_dir=app.profile_dir, user_ns=app.user_ns,
        )  # fmt: skip

    def _use_once(self) -> None:
        """Have made what is made when it is first used."""
        formatter = self.app.shell.display_formatter
        formatter.format(0)
        compile(self.app.shell.transform_cell("0\n"), "<first>", "exec")
        try:
            raise ValueError
        except ValueError:
            self.app.shell.InteractiveTB.structured_traceback(*sys.exc_info())

    def configuration(self) -> list[Any]:
        """What the application was configured by."""
        found: list[Any] = [sorted(name for name in os.listdir(self.app.profile_dir.startup_dir) if name.endswith((".py", ".ipy")))]
        for folder in self.app.config_file_paths:
            for name in ("ipython_config.py", "ipython_config.json", "ipython_kernel_config.py", "ipython_kernel_config.json"):
                try:
                    found.append([folder, name, os.stat(os.path.join(folder, name)).st_mtime_ns])
                except OSError:
                    continue
        return found

    def unchanged(self) -> bool:
        """Whether the application would be configured the same now."""
        return self.configuration() == self.configured

    def unlike(self, request: dict[str, Any], variables: dict[str, str], read: set[str]) -> str:
        """Say why a kernel from here is not what would have been started for this request, or nothing."""
        lasting = self.zygote.lasting
        env = lasting(request["env"])
        names = {name for name in read if env.get(name) != variables.get(name)} & set(lasting(dict.fromkeys(read, "")))
        if names:
            return f"it was made with another value of {', '.join(sorted(names))}"
        if not self.unchanged():
            return "IPython's configuration was changed"
        if self.configured[0]:
            return "IPython has files to execute at the start"
        for name in ("ipython_config", "ipython_kernel_config"):
            for kind in (".py", ".json"):
                if os.path.exists(os.path.join(request["cwd"], name + kind)):
                    return f"the notebook's folder has a {name}{kind}"
        return ""

    def open(self) -> list[int]:
        """In the fork: make what threads and files belong to one process; return the descriptors of its standard streams."""
        import atexit
        import threading
        from uuid import uuid4

        from ipykernel import iostream

        app, kernel, shell = self.app, self.app.kernel, self.app.kernel.shell
        app.session.pid, app.session.session, kernel.ident = os.getpid(), str(uuid4()), str(uuid4())
        app.parent_handle = os.getppid()
        threading._counter()  # type: ignore[attr-defined]  # the number of a thread that watches whether the parent lives
        made: Any = iostream.IOPubThread
        thread = app.iopub_thread = kernel.iopub_thread = made(Publishing(), pipe=True, session=app.session)
        app.iopub_socket = kernel.iopub_socket = thread.background_socket
        thread.start()
        _publish_at_once(thread)
        kernel.shell_stream.thread, kernel.shell_stream.kernel = thread, kernel
        kernel._execute_sleep = 0.0  # it is for output that comes another way than the reply
        type(app).init_io(app)
        for output in (sys.stdout, sys.stderr):
            _flush_what_is_there(output, thread.socket)
        type(app).init_signal(app)
        kernel._stdout, kernel._stderr = sys.stdout, sys.stderr
        app.displayhook.get_execution_count = lambda: kernel.execution_count
        shell.displayhook.pub_socket = shell.display_pub.pub_socket = app.iopub_socket
        shell.displayhook.topic = kernel._topic("execute_result")
        shell._orig_sys_module_state.update(stdout=sys.stdout, stderr=sys.stderr)
        atexit.unregister(shell.atexit_operations)
        atexit.register(shell.atexit_operations)  # before the output thread is stopped, as it is where that was made first
        self._start()
        return [0, *(getattr(stream, "_original_stdstream_copy", number) for number, stream in ((1, sys.stdout), (2, sys.stderr)))]

    def _start(self) -> None:
        """Let the kernel be ready for requests, and answer one of which nothing is left but the memory that it changed."""
        from ipykernel import kernelbase
        from tornado.ioloop import IOLoop
        from zmq import Frame

        kernel, stream, shell = self.app.kernel, self.app.kernel.shell_stream, self.app.shell
        self.app.io_loop = stream.io_loop = loop = IOLoop.current()
        start: Any = kernelbase.Kernel.start
        start(kernel)
        content = {"code": "pass", "silent": True, "store_history": False, "user_expressions": {}, "allow_stdin": False, "stop_on_error": False}
        message = self.app.session.serialize(self.app.session.msg("execute_request", content))

        async def practise() -> None:
            await stream.callback([Frame(part) for part in message])

        loop.run_sync(practise, timeout=5.0)
        shell.display_formatter.format(0)
        shell.exit_now = False

    def assign(self, arguments: list[str], cwd: str) -> None:
        """Take over what is known of a kernel since it was asked for."""
        import pathlib

        shell = self.app.shell
        self.app.connection_file = self.app.config.IPKernelApp.connection_file = arguments[arguments.index("-f") + 1]
        shell.starting_dir = cwd
        shell.user_ns["_dh"][:] = [pathlib.Path(cwd)]

    def run(self, wire: socket.socket) -> None:
        """Serve requests until one says that it is enough."""
        from tornado.ioloop import IOLoop

        stream = self.app.kernel.shell_stream
        self.app.iopub_thread.socket.wire = wire
        loop = stream.io_loop
        loop.add_handler(wire.fileno(), lambda _, events: stream.arrived(wire, events), IOLoop.READ)
        with contextlib.suppress(KeyboardInterrupt):
            loop.start()
