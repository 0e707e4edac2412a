"""Asking for forked kernels: which may serve whom, refusals, the life of zygotes, and the commands about them."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from processes import Marked, gone, wait_for
from warm import Place, runtime_folder, zygote_folder

from mltoolkit.errors import Invalid
from mltoolkit.execution import kernels, zygote
from mltoolkit.execution.kernels import Request, Unavailable

__all__ = ["zygote_folder"]  # a fixture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.make(tmp_path_factory.mktemp("kernels") / "workspace", "sqlite3")


@pytest.fixture(scope="module")
def ready(place: Place) -> Iterator[Request]:
    """A request that a zygote can serve."""
    with runtime_folder():
        request = request_in(place)
        kernels.wait_for_zygote(request)
        yield request


def request_in(place: Place, **changes: Any) -> Request:
    made = Request((sys.executable,), ("-f", str(place.root / "kernel.json")), str(place.root), place.env, str(place.root), ["sqlite3"])
    return replace(made, **changes)


def forked(request: Request) -> kernels.WarmProcess:
    return kernels.fork_kernel(request, files=[os.open(os.devnull, os.O_RDWR) for _ in range(3)])


# The folder


def test_the_folder_is_ones_own(zygote_folder: Path) -> None:
    folder = kernels.runtime_folder()
    assert folder == zygote_folder / "mltoolkit"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert kernels.runtime_folder() == folder


def test_the_folder_without_one_of_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert kernels.runtime_folder() == tmp_path / f"mltoolkit-{os.getuid()}"


def test_a_folder_that_others_may_open_is_refused(zygote_folder: Path, place: Place) -> None:
    kernels.runtime_folder().chmod(0o755)
    with pytest.raises(Unavailable, match="only you may open; remove it"):
        kernels.runtime_folder()
    assert kernels.zygotes() == []
    ran = place.execute("1 + 1")
    assert (ran.outcome.status.value, ran.outcome.warm) == ("succeeded", False)


def test_a_link_in_its_place_is_refused(zygote_folder: Path, tmp_path: Path) -> None:
    (zygote_folder / "mltoolkit").symlink_to(tmp_path)
    with pytest.raises(Unavailable, match="only you may open"):
        kernels.runtime_folder()
    (zygote_folder / "mltoolkit").unlink()
    (zygote_folder / "mltoolkit").write_text("")
    with pytest.raises(Unavailable, match="cannot be made"):
        kernels.runtime_folder()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_folder_of_somebody_else_is_refused(zygote_folder: Path) -> None:
    os.chown(kernels.runtime_folder(), 12345, -1)
    with pytest.raises(Unavailable, match="only you may open"):
        kernels.runtime_folder()


# Which zygote may serve which request


def test_what_a_fork_cannot_change_is_in_the_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_in(place)
    assert request.key == request_in(place).key
    others = [
        replace(request, python=(sys.executable, "-Xdev")),
        replace(request, root="/elsewhere"),
        replace(request, preload=None),
        replace(request, preload=["json"]),
        *(replace(request, env={**place.env, name: "3"}) for name in ("PYTHONHASHSEED", "OMP_NUM_THREADS", "LC_ALL", "LD_PRELOAD", "MALLOC_ARENA_MAX")),
    ]
    keys = {other.key for other in others}
    assert len(keys) == len(others)
    assert request.key not in keys
    same = [replace(request, cwd="/"), replace(request, arguments=()), replace(request, notebook="a.ipynb"), replace(request, env={**place.env, "A": "1"})]
    assert {each.key for each in same} == {request.key}
    assert replace(request, preload=["b", "a"]).key == replace(request, preload=["a", "b"]).key


def test_limits_of_the_process_are_in_the_key(place: Place) -> None:
    request = request_in(place)
    before, limits = request.key, resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0] - 1, limits[1]))
    try:
        assert request.key != before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert request.key == before
    program = "import os, sys; from mltoolkit.execution.kernels import inherited; os.nice(int(sys.argv[1])); print(inherited({}) )"
    nice = [subprocess.run([sys.executable, "-c", program, by], capture_output=True, text=True, check=True).stdout for by in "01"]
    assert nice[0] != nice[1]


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["python", "-m", "ipykernel_launcher", "-f", "x"], ((sys.executable,), ("-f", "x"))),
        (["/usr/bin/python3", "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "x"], (("/usr/bin/python3", "-Xfrozen_modules=off"), ("-f", "x"))),
        (["py", "-I", "-S", "/a/supervisor.py", "report", "python3", "-m", "ipykernel_launcher"], ((sys.executable,), ())),
        (["ir", "-m", "ipykernel_launcher"], None),
        (["python", "script.py", "-m", "ipykernel_launcher"], None),
        (["python", "-m", "bash_kernel", "-f", "x"], None),
        (["python"], None),
    ],
)
def test_commands_that_can_be_forked(command: list[str], found: Any) -> None:
    if found is None:
        with pytest.raises(Unavailable, match="only kernels that start ipykernel"):
            kernels.understood(command)
    else:
        assert kernels.understood(command) == found


# A forked kernel as a process


def test_a_forked_kernel_is_like_a_process(ready: Request) -> None:
    kernel = forked(ready)
    assert (kernel.stdin, kernel.stdout, kernel.stderr, kernel.poll()) == (None, None, None, None)
    with pytest.raises(subprocess.TimeoutExpired):
        kernel.wait(0.05)
    kernel.terminate()
    assert kernel.wait(30) == -signal.SIGTERM
    assert (kernel.poll(), kernel.returncode) == (-signal.SIGTERM, -signal.SIGTERM)
    kernel.send_signal(signal.SIGKILL)  # after the end: nobody is hit
    kernel.kill()


def test_letting_go_ends_it(ready: Request) -> None:
    kernel = forked(ready)
    kernel.close()
    assert kernel.returncode == -signal.SIGKILL
    wait_for(lambda: gone(kernel.pid) and gone(kernel.supervisor), "the kernel to be gone")


def test_killed(ready: Request) -> None:
    kernel = forked(ready)
    kernel.kill()
    assert kernel.wait() == -signal.SIGKILL


def test_end_of_the_supervisor_is_the_end_of_the_kernel(ready: Request) -> None:
    kernel = forked(ready)
    os.kill(kernel.supervisor, signal.SIGKILL)
    assert kernel.wait(30) == -signal.SIGKILL
    wait_for(lambda: gone(kernel.pid), "the kernel to be gone")


TERMINATED_AT_ONCE = """
import os, signal, sys
from mltoolkit.execution import zygote
sys.modules["_mltoolkit_supervisor"] = zygote._sibling("supervisor")
supervision = zygote.Supervision()
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
supervision.fork(lambda: os._exit(7))
print(os.waitstatus_to_exitcode(os.waitpid(supervision.kernel, 0)[1]))
"""


def test_a_kernel_that_is_terminated_before_it_has_begun_ends() -> None:
    done = subprocess.run([sys.executable, "-c", TERMINATED_AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM}\n", "")


def test_what_has_ended_is_no_kernel_of_a_zygote() -> None:
    program = "import os, sys\nif os.fork() == 0: os._exit(0)\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdout.readline()
        wait_for(lambda: kernels._children(parent.pid) == [], "an ended child not to count")
        assert Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        parent.stdin.close()


# Refusals


def test_nothing_is_ready(zygote_folder: Path, place: Place) -> None:
    with pytest.raises(Unavailable, match="no zygote is ready") as caught:
        forked(request_in(place))
    assert caught.value.startable


def test_another_system(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(Unavailable, match="on Linux only"):
        kernels.fork_kernel(request_in(place))


def test_a_kernel_starts_no_zygote(zygote_folder: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MLTOOLKIT_SUPERVISOR", "1")
    assert not kernels.start_zygote(request_in(place))


@pytest.mark.parametrize("answer", [b"", b"\0\0\0\0\0\0\0\2no", b"\0\0\0"])
def test_what_listens_does_not_answer(zygote_folder: Path, place: Place, answer: bytes) -> None:
    request = request_in(place)
    folder = kernels.runtime_folder()
    (folder / f"{request.key}.variables").write_text("[]")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / f"{request.key}-{zygote.digest({})}.sock"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        zygote.receive(connection)
        connection.sendall(answer)
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(Unavailable, match="the zygote did not answer"):
        forked(request)
    thread.join()
    listener.close()


def test_somebody_elses_zygote_is_not_asked(ready: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zygote, "peer", lambda connection: os.getuid() + 1)
    with pytest.raises(Unavailable, match="no zygote is ready"):
        forked(ready)


def test_a_broken_list_of_variables_is_no_zygote(zygote_folder: Path, place: Place) -> None:
    request = request_in(place)
    (kernels.runtime_folder() / f"{request.key}.variables").write_text("{")
    with pytest.raises(Unavailable, match="no zygote is ready"):
        forked(request)


def test_a_request_that_asks_for_a_folder_that_is_gone_fails_by_itself(ready: Request) -> None:
    kernel = forked(replace(ready, cwd="/nowhere/at/all"))
    assert kernel.wait(30) == 1
    again = forked(ready)
    assert again.poll() is None
    again.close()


def test_garbage_does_not_disturb_a_zygote(ready: Request) -> None:
    (state,) = kernels.zygotes()
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0\0\4null", b"\0\0\0\0\0\0\0\2{}"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(state.socket)
            connection.sendall(garbage)
    kernel = forked(ready)
    assert kernel.poll() is None
    kernel.close()
    assert kernels.zygotes()[0].pid == state.pid


# Starting and ending zygotes


def test_two_at_once_start_one(zygote_folder: Path, place: Place, mark: Marked) -> None:
    request = request_in(place, env={**place.env, "TEST_MARK": mark.value})
    threads = [threading.Thread(target=kernels.wait_for_zygote, args=(request,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kernels.zygotes()) == 1
    assert len(mark.alive()) == 1


def test_an_interpreter_that_does_not_work(zygote_folder: Path, place: Place) -> None:
    with pytest.raises(Unavailable, match=r"ended while it started; see .*\.log"):
        kernels.wait_for_zygote(request_in(place, python=("/bin/false",)))


def test_patience(zygote_folder: Path, place: Place) -> None:
    with pytest.raises(Unavailable, match="not ready within 0 s"):
        kernels.wait_for_zygote(request_in(place), patience=0)
    kernels.wait_for_zygote(request_in(place))


def test_idle_end(zygote_folder: Path, place: Place) -> None:
    request = request_in(place)
    kernels.start_zygote(request, idle=0.1)
    wait_for(lambda: list(zygote_folder.glob("*/*.sock")), "the zygote")
    wait_for(lambda: not list(zygote_folder.glob("*/*.sock")) and not list(zygote_folder.glob("*/*.json")), "it to end unused")


def test_one_whose_socket_was_taken_away_ends(zygote_folder: Path, place: Place) -> None:
    request = request_in(place)
    kernels.wait_for_zygote(request)
    (first,) = kernels.zygotes()
    Path(first.socket).unlink()
    kernels.wait_for_zygote(request)
    wait_for(lambda: gone(first.pid), "the one that was replaced to end")
    (second,) = kernels.zygotes()
    assert second.pid != first.pid
    forked(request).close()


def test_listing_and_ending(zygote_folder: Path, place: Place) -> None:
    assert CliRunner().invoke(_main(), ["kernels", "list"]).output == "none; the next run starts one\n"
    assert CliRunner().invoke(_main(), ["kernels", "stop"]).output == "there was none\n"
    request = request_in(place, preload=["sqlite3", "not_there"])
    kernels.wait_for_zygote(request)
    kernel = forked(request)
    (folder,) = {path.parent for path in zygote_folder.glob("*/*.json")}
    (folder / "stale.json").write_text(json.dumps({"pid": os.getpid()}))
    (folder / "broken.json").write_text("{")
    listed = CliRunner().invoke(_main(), ["kernels", "list"]).output
    assert "sqlite3" in listed
    assert "a notebook imports not_there itself: it ModuleNotFoundError" in listed
    (state,) = json.loads(CliRunner().invoke(_main(), ["kernels", "list", "--json"]).output)
    assert (state["preloaded"], state["root"], state["served"], state["kernels"]) == (["sqlite3"], str(place.root), 1, 1)
    assert state["memory_bytes"] > 1_000_000
    assert kernels.stop_zygotes("/another/workspace") == []
    (ended,) = json.loads(CliRunner().invoke(_main(), ["kernels", "stop", "--json"]).output)
    assert ended["pid"] == state["pid"]
    wait_for(lambda: gone(state["pid"]), "the zygote to end")
    assert kernel.poll() is None  # a kernel goes on
    kernel.close()
    kernels.wait_for_zygote(request)
    assert CliRunner().invoke(_main(), ["kernels", "stop"]).output == "ended 1\n"


def _main() -> Any:
    from mltoolkit import cli

    return cli.main


def test_memory() -> None:
    mine = kernels.memory(os.getpid())
    assert mine is not None
    assert mine > 1_000_000
    assert kernels.memory(2**22 + 1) is None
    assert kernels._children(2**22 + 1) == []


# The kernel's own description


def test_install_and_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    path.parent.mkdir(parents=True)
    before = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python", "metadata": {"debugger": True}}
    path.write_text(json.dumps(before))
    monkeypatch.setattr(kernels.install, "__defaults__", (str(tmp_path),))
    assert "starts warm" in CliRunner().invoke(_main(), ["kernels", "install"]).output
    assert json.loads(path.read_text())["metadata"] == {"debugger": True, "kernel_provisioner": {"provisioner_name": "mltoolkit-warm"}}
    for _ in range(2):
        assert "the ordinary way" in CliRunner().invoke(_main(), ["kernels", "install", "--remove"]).output
        assert json.loads(path.read_text()) == before
    missing = CliRunner().invoke(_main(), ["kernels", "install", "--name", "other"])
    assert missing.exit_code == Invalid.exit_code
    other = {**before, "metadata": {"kernel_provisioner": {"provisioner_name": "theirs"}}}
    path.write_text(json.dumps(other))
    kernels.install(tmp_path, remove=True)
    assert json.loads(path.read_text()) == other


@pytest.mark.parametrize(("written", "expected"), [("auto", None), ("none", []), ("pandas, scipy.stats", ["pandas", "scipy.stats"])])
def test_what_the_setting_names(tmp_path: Path, written: str, expected: Any) -> None:
    (tmp_path / "settings.ini").write_text(f"[mltoolkit]\npreload = {written}\n")
    assert kernels.preloads(tmp_path) == expected


# With faults of the zygote


def test_zygote_killed_in_the_middle_of_a_run(zygote_folder: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_WARM", "yes")
    first = place.execute("1")
    (state,) = kernels.zygotes()
    ran = place.execute(f"import os, signal, time\nos.kill({state.pid}, signal.SIGKILL); time.sleep(0.5)", "2 + 2", "!echo still here")
    assert first.outcome.warm
    assert (ran.outcome.warm, ran.outcome.status.value, ran.outcome.usage.exit_code) == (True, "succeeded", 0)
    assert "still here" in ran.text
    following = place.execute("3", warm=None)
    assert following.outcome.status.value == "succeeded"
    assert not following.outcome.warm
    wait_for(lambda: kernels.zygotes() and kernels.zygotes()[0].pid != state.pid, "a new zygote")
    assert place.execute("4").outcome.warm
