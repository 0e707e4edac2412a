"""Run a kernel, and leave nothing of it behind.

A plain module, not exported from a notebook: it is started as a script of its own, by path, with
`python -I -S supervisor.py REPORT COMMAND...`, so it imports the standard library only and as little of
it as it can. It is the parent of the kernel and the adopter ("child subreaper", prctl(2)) of everything
that the kernel starts, also of what leaves the kernel's session. When the kernel ends, when the runner
asks (SIGTERM), or when the runner dies in whatever way, the supervisor kills all that is left and writes
REPORT, unless that is empty: one JSON object with `exit_code` or `signal`, `cpu_s`, `peak_memory_bytes` and
`leftover`, the number of processes it had to end.

SIGINT is passed on to the kernel's process group, as Jupyter clients expect. Tests: tests/execution/.
"""

from __future__ import annotations

import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Set a process attribute on Linux; elsewhere do nothing."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def descendants() -> list[int]:
    """List the processes below this one, children before their children (Linux's /proc)."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def sweep(kernel: int, patience: float = 5.0) -> tuple[int, int | None]:
    """Kill and reap every descendant; return how many there were and the kernel's wait status, if seen."""
    ended: set[int] = set()
    status = None
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            while True:
                pid, code = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == kernel:
                    status = code
        except ChildProcessError:
            break  # what is left behind is, or becomes, a child of this process
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
            ended.add(pid)
        time.sleep(0.005)
    return len(ended - {kernel}), status


def usage(status: int | None, leftover: int) -> dict[str, int | float | None]:
    """What became of the kernel, and what it used."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    scale = 1 if sys.platform == "darwin" else 1024
    killed = status is not None and os.WIFSIGNALED(status)
    return {
        "exit_code": os.WEXITSTATUS(status) if status is not None and not killed else None,
        "signal": os.WTERMSIG(status) if status is not None and killed else None,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_memory_bytes": used.ru_maxrss * scale,
        "leftover": leftover,
    }


def report(path: str, status: int | None, leftover: int) -> None:
    """Write what became of the kernel, in one step."""
    if not path:
        return
    import json

    content = usage(status, leftover)
    try:
        with open(path + ".tmp", "w") as file:
            json.dump(content, file)
        os.replace(path + ".tmp", path)
    except OSError:
        pass  # the runner does without the figures; the exit status still reaches it


def tidy(path: str) -> None:
    """Remove the folder of REPORT, which the runner did not live to remove."""
    folder = os.path.dirname(path)
    if os.path.basename(folder).startswith("mlt-"):
        try:
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        except OSError:
            pass


def spawn(command: list[str]) -> int:
    """Start the kernel in a session of its own; it dies with this process. Return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.environ["JPY_PARENT_PID"] = os.environ["_MLTOOLKIT_SUPERVISOR"] = str(os.getppid())
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
    os._exit(127)


def main() -> None:
    """Run the command line; exit as the kernel did."""
    path, command = sys.argv[1], sys.argv[2:]
    runner = int(os.environ.get("JPY_PARENT_PID", os.getppid()))
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if not stopping:  # once: a second one must not break into the sweep
            stopping = True
            raise InterruptedError

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    kernel = 0
    signal.signal(signal.SIGINT, lambda number, frame: _pass_on(kernel, number))
    status: int | None = None
    try:
        kernel = spawn(command)
        if os.getppid() != runner:  # the runner died before the parent-death signal was set
            raise InterruptedError
        while status is None:
            pid, code = os.waitpid(-1, 0)
            status = code if pid == kernel else None
    except (InterruptedError, ChildProcessError):
        pass
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stopping = stopping or status is None
    leftover, seen = sweep(kernel)
    status = seen if status is None else status
    report(path, status, leftover)
    if os.getppid() != runner:
        tidy(path)
    if stopping or status is None:
        os._exit(143)
    os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _pass_on(kernel: int, number: int) -> None:
    if not kernel:
        return  # it is not there yet; group 0 would be this process's own
    try:  # noqa: SIM105 (importing contextlib costs more than all the rest here)
        os.killpg(kernel, number)
    except OSError:
        pass


if __name__ == "__main__":
    main()
