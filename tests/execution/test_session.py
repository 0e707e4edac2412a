"""A kernel session: starting, waiting, stopping, and leaving nothing behind, also when things go wrong."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import DAEMON, Marked, wait_for

from mltoolkit.errors import Cancelled, Invalid, KernelDied
from mltoolkit.execution import provisioner
from mltoolkit.execution.kernels import Unavailable
from mltoolkit.execution.session import Event, KernelSession, Stop, Usage, stop_on_signals


@pytest.fixture
def stop() -> Iterator[Stop]:
    made = Stop()
    yield made
    made.close()


def session(name: str, stop: Stop, **options: Any) -> KernelSession:
    return KernelSession(name, cwd=".", env=dict(os.environ), stop=stop, **options)


def ask(running: KernelSession, code: str, deadline: float | None = None) -> tuple[Event, str]:
    """Execute code; return how the waiting ended, and what was printed."""
    shown: list[str] = []
    event = running.wait(running.ask(code), lambda message: shown.append(message["content"].get("text", "")), deadline)
    return event, "".join(shown)


# Requests to stop


def test_stop_wakes_a_waiter_until_it_is_drained() -> None:
    import select

    made = Stop()
    made.request(signal.SIGTERM)
    made.request(signal.SIGINT)
    assert (made.signal, made.requests) == (signal.SIGTERM, 2)
    assert select.select([made], [], [], 0)[0] == [made]
    made.drain()
    assert select.select([made], [], [], 0)[0] == []
    made.close()
    made.request()  # after the end: nobody listens, nothing breaks


def test_signals_ask_and_are_given_back(stop: Stop) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        assert (stop.signal, stop.requests) == (signal.SIGTERM, 1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_whoever_insists_ends_the_process(stop: Stop) -> None:
    with stop_on_signals(stop):
        for _ in range(4):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_are_left_alone_in_a_thread(stop: Stop) -> None:
    handlers: list[object] = []

    def inside() -> None:
        with stop_on_signals(stop):
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


# Starting


def test_unknown_kernel(bare_workspace: Path, stop: Stop) -> None:
    with pytest.raises(Invalid, match="no kernel is called 'pyhton3'; did you mean 'python3'"), session("pyhton3", stop):
        pass


@pytest.mark.parametrize(
    ("script", "message"),
    [("import sys; sys.exit('no licence')", "ended while it started"), ("import time; time.sleep(600)", "did not start within 0.5 s")],
)
def test_kernel_that_does_not_start(
    bare_workspace: Path, kernelspec: Callable[..., str], mark: Marked, stop: Stop, script: str, message: str
) -> None:
    name = kernelspec("broken", sys.executable, "-c", script, "{connection_file}")
    with pytest.raises(KernelDied, match=message), session(name, stop, start_timeout=0.5 if "sleep" in script else 60):
        pass
    assert mark.alive() == []


def test_program_of_the_kernel_is_missing(bare_workspace: Path, kernelspec: Callable[..., str], stop: Stop) -> None:
    with pytest.raises(KernelDied, match="ended while it started"), session(kernelspec("gone", "no-such-program", "{connection_file}"), stop):
        pass


def test_what_is_done_meanwhile_is_done_once_also_if_the_zygote_refuses(
    bare_workspace: Path, tiny: str, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refusing(*arguments: object, meanwhile: Callable[[], None] = lambda: None, **options: object) -> None:
        meanwhile()
        asked.append("a zygote")
        raise Unavailable("the zygote refused: no memory")

    monkeypatch.setattr(provisioner, "warm_kernel", refusing)
    with session(tiny, stop, meanwhile=lambda: asked.append("meanwhile")) as running:
        assert not running.warm
        assert ask(running, "print(1)") == (Event.done, "1\n")
    assert asked[:2] == ["meanwhile", "a zygote"]
    assert asked.count("meanwhile") == 1


def test_stop_while_the_kernel_starts(bare_workspace: Path, kernelspec: Callable[..., str], mark: Marked, stop: Stop) -> None:
    name = kernelspec("slow", sys.executable, "-c", "import time; time.sleep(600)", "{connection_file}")
    stop.request()
    with pytest.raises(Cancelled, match="while the kernel started"), session(name, stop):
        pass
    assert mark.alive() == []


# Waiting


def test_output_reply_and_usage(bare_workspace: Path, tiny: str, stop: Stop) -> None:
    with session(tiny, stop) as running:
        assert ask(running, "print('one')\nprint('two')") == (Event.done, "one\ntwo\n")
        assert running.reply["status"] == "ok"
        assert running.language_info["name"] == "python"
        folder = running.folder
    assert (running.usage.exit_code, running.usage.signal, running.usage.leftover) == (0, None, 0)
    assert running.usage.cpu_s is not None
    assert running.usage.cpu_s > 0
    assert not folder.exists()
    running.close()  # once more does nothing


def test_deadline_and_interrupt(bare_workspace: Path, tiny: str, stop: Stop) -> None:
    with session(tiny, stop) as running:
        assert ask(running, "import time; time.sleep(600)", time.monotonic() + 0.3)[0] is Event.deadline
        running.interrupt()
        assert ask(running, "print('heard')") == (Event.done, "heard\n")


def test_stop_from_another_thread(bare_workspace: Path, tiny: str, mark: Marked, stop: Stop) -> None:
    with session(tiny, stop) as running:
        threading.Timer(0.2, stop.request).start()
        assert ask(running, "import time; time.sleep(600)")[0] is Event.stop
        running.close(grace=0)
    assert mark.alive() == []


def test_death_is_seen_and_what_was_said_before_it_kept(bare_workspace: Path, tiny: str, mark: Marked, stop: Stop) -> None:
    code = "import os, subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\nos.kill(os.getpid(), 11)"
    with session(tiny, stop) as running:
        assert ask(running, code)[0] is Event.died
        assert not running.alive()
        running.interrupt()  # nobody is there; nothing breaks
    assert (running.usage.signal, running.usage.leftover) == (signal.SIGSEGV, 1)
    assert mark.alive() == []


def test_output_of_a_kernel_that_dies_after_a_flood(bare_workspace: Path, stop: Stop) -> None:
    with session("python3", stop) as running:
        event, shown = ask(running, "for i in range(3000): print(i, flush=True)\nimport time; time.sleep(0.5)\nimport os; os._exit(0)")
    assert event is Event.died
    assert shown.split() == [str(number) for number in range(3000)]


# Ending


def test_daemons_of_the_notebook_are_gone_and_counted(bare_workspace: Path, tiny: str, mark: Marked, stop: Stop) -> None:
    with session(tiny, stop) as running:
        assert ask(running, DAEMON)[0] is Event.done
    assert running.usage.leftover == 2
    assert mark.alive() == []


def test_kernel_that_ignores_the_request_to_shut_down(bare_workspace: Path, tiny: str, mark: Marked, stop: Stop) -> None:
    with session(tiny, stop) as running:
        running.ask("import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)")
        running.close(grace=0.2)
    assert mark.alive() == []


def test_folder_that_was_tidied_away_meanwhile(bare_workspace: Path, tiny: str, mark: Marked, stop: Stop) -> None:
    with session(tiny, stop) as running:
        shutil.rmtree(running.folder)
        running.close(grace=0.2)  # it cannot be reached any more
    assert mark.alive() == []
    assert running.usage == Usage()


# Odd places


def test_long_temporary_folder(bare_workspace: Path, tiny: str, stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # too long for the address of a local socket
    with session(tiny, stop) as running:
        assert running.link.manager.transport == "tcp"
        assert ask(running, "print(1)") == (Event.done, "1\n")


def test_process_with_many_open_files(bare_workspace: Path, tiny: str, stop: Stop) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1200)]
    try:
        with session(tiny, stop) as running:
            assert running.link._pidfd > 1024
            assert ask(running, "print(1)") == (Event.done, "1\n")
    finally:
        for each in many:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("supervised", [True, False])
def test_without_what_only_linux_has(bare_workspace: Path, tiny: str, stop: Stop, monkeypatch: pytest.MonkeyPatch, supervised: bool) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    running = session(tiny, stop)
    if not supervised:
        monkeypatch.delattr(os, "fork")
    with running:
        assert ask(running, "print(1)") == (Event.done, "1\n")
        assert ask(running, "import os; os._exit(3)")[0] is Event.died
    assert running.usage.exit_code == (3 if supervised else None)


def test_nothing_is_left(
    bare_workspace: Path, tiny: str, mark: Marked, stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))

    def state() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def once() -> None:
        with session(tiny, stop) as running:
            ask(running, "print(1)")

    once()
    before = state()
    for _ in range(5):
        once()
    wait_for(lambda: state() <= before, f"descriptors and threads as before: {before} and not {state()}", 20)
    assert list((tmp_path / "t").iterdir()) == []
    assert mark.alive() == []
