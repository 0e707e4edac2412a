"""Notice that what a process has loaded is no longer what a new one would load.

A plain module, not exported from a notebook: zygote.py loads it by its path, and it imports the standard library only.

Looking at the thousands of files of a scientific environment takes tens of milliseconds, more than all else that
is done when a kernel is asked for. So the system is asked to say when something happens in their folders (inotify);
only then, and every few seconds for file systems that other machines write to, they are looked at.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import sys
import time
from collections.abc import Iterable

_EVENTS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800  # linux/inotify.h: all that writes, moves, makes or removes


class Loaded:
    """The files of what is loaded now, to be compared with what is there later."""

    def __init__(self) -> None:
        folders = {os.path.dirname(path) for path in _files()} | set(_site_packages())
        self.events = watch(sorted(folders))  # before looking: what happens in between is looked at again
        self.installed, self.files = installed(), {path: _changed(path) for path in _files()}
        self.tops = {  # the standard library is loaded before the folder counts, also in a cold kernel
            name: path
            for name, module in list(sys.modules.items())
            if "." not in name and name not in sys.stdlib_module_names and (path := getattr(module, "__file__", None)) in self.files
        }
        self.looked, self.verdict = time.monotonic(), ""

    def close(self) -> None:
        """Stop listening; after a fork, for the child."""
        if self.events >= 0:
            os.close(self.events)
            self.events = -1

    def outdated(self, within: float) -> str:
        """Say what was changed, or nothing. What nothing is heard of is looked at again after `within` seconds."""
        quiet = self.events >= 0 and not self._heard()
        if not self.verdict and not (quiet and time.monotonic() - self.looked < within):
            self.verdict = self._look()
            self.looked = time.monotonic()
        return self.verdict

    def _heard(self) -> bool:
        heard = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self.events, 1 << 16):
                heard = True
        return heard

    def _look(self) -> str:
        if installed() != self.installed:
            return "a package was installed or removed"
        for path, changed in self.files.items():
            now = _changed(path)
            if now != changed:
                return f"{path} is gone" if now is None else f"{path} was changed"
        return ""

    def shadowed(self, folder: str) -> str:
        """Say which file of a folder would be imported instead of what is loaded, or nothing."""
        if "matplotlib" in sys.modules and os.path.exists(os.path.join(folder, "matplotlibrc")):
            return "the notebook's folder has a matplotlibrc, which is read when matplotlib is imported"
        try:
            there = set(os.listdir(folder))
        except OSError:
            there = set()
        for name, loaded in self.tops.items():
            for own in (f"{name}.py", name):
                path = os.path.join(folder, own if own.endswith(".py") else os.path.join(name, "__init__.py"))
                if own in there and os.path.exists(path) and not os.path.samefile(path, loaded):
                    return f"{path} would be imported instead of {loaded}"
        return ""


def _files() -> list[str]:
    paths = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({path for path in paths if isinstance(path, str)})


def _changed(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _site_packages() -> list[str]:
    return sorted({path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")})


def installed() -> str:
    """A digest of what is installed: names and times of the packages' metadata."""
    found = [f"{sys.executable} {_changed(sys.executable)}"]
    for folder in _site_packages():
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            found += sorted(
                f"{entry.name} {entry.stat().st_mtime_ns}"
                for entry in entries
                if entry.name.endswith((".dist-info", ".egg-info", ".pth", ".egg-link"))
            )
    return hashlib.blake2b("\n".join(found).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def watch(folders: Iterable[str]) -> int:
    """Return a file that becomes readable when something happens in one of the folders; -1 where that cannot be had."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        events: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except AttributeError:  # not Linux
        return -1
    for folder in folders if events >= 0 else ():
        if os.path.isdir(folder) and library.inotify_add_watch(events, os.fsencode(folder), _EVENTS) < 0:
            os.close(events)  # the user has no more watches
            return -1
    return events
