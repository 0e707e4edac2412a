"""The command's beginning: `mltoolkit run` and `mltoolkit sweep` from a shell are done by a process that has the toolkit loaded, if there is one.

A plain module, not exported from a notebook: it is imported before anything else, and imports little.

Importing what a run needs takes longer than a short notebook. So after a run with a warm kernel a zygote is
started for the command, too (see execution/zygote.py): it has the toolkit and MLflow imported, and forks
a process that does what this one was told to, in its folder, with its environment and its files. This one
waits, passes signals on, and ends as the other did. If it is killed, the other is."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mltoolkit.execution.kernels import Request, WarmProcess

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


_request: Request | None = None  # what another process was asked, or could have been


def main() -> None:
    """Run the command line, here or in a process that was forked for it."""
    os.environ.pop("MLTOOLKIT_SPOOL_FOLDER", None)  # of a notebook that calls this; what is done here is seen at once
    if sys.argv[1:2] in (["run"], ["sweep"]) and sys.platform == "linux" and not {"--cold", "--help"} & set(sys.argv):
        code = elsewhere(sys.argv)
        if code is not None:
            _end_like(code)
    from mltoolkit.cli import main as command

    command()


def elsewhere(arguments: list[str]) -> int | None:
    """Have a command line run by a fork of the command's zygote; return how it ended, or None if there is no zygote."""
    from mltoolkit.errors import MltoolkitError
    from mltoolkit.execution.kernels import Unavailable, command_request, fork_kernel

    global _request  # noqa: PLW0603 (the run may change the environment, by which a zygote is found)
    try:
        _request = command_request(arguments)
        if _request is None:
            return None
        process = fork_kernel(_request, files=[0, 1, 2])
    except (Unavailable, MltoolkitError, OSError):
        return None
    return _accompany(process)


def _accompany(process: WarmProcess) -> int:
    """Pass signals on until a process ends; return its exit code, negative for a signal."""

    def pass_on(number: int, frame: object) -> None:
        process.send_signal(number)

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    return process.wait()


def _end_like(code: int) -> None:
    """End as another process did, by the same signal if it was one."""
    if code < 0:
        with contextlib.suppress(OSError):  # which cannot be handled, has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def prepare() -> None:
    """After a command that was run here because there was no zygote, start one for the next."""
    from mltoolkit import settings
    from mltoolkit.execution.kernels import Unavailable, start_zygote

    if _request is not None:
        with contextlib.suppress(Unavailable, OSError):  # the next command starts as this one did
            start_zygote(_request, settings.get("warm_idle", start=_request.root) or 1e9)


if __name__ == "__main__":
    main()
