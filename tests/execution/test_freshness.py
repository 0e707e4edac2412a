"""What was loaded is compared with what is there now, without looking at everything each time."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mltoolkit.execution import freshness
from mltoolkit.execution.freshness import Loaded, watch

NEVER = 1e9  # seconds: only what is heard of counts


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages with one that is loaded."""
    folder = tmp_path / "lib" / "site-packages"
    (folder / "fresh_package").mkdir(parents=True)
    (folder / "fresh_package" / "__init__.py").write_text("")
    (folder / "fresh_package-1.dist-info").mkdir()
    monkeypatch.syspath_prepend(folder)
    importlib.import_module("fresh_package")
    yield folder
    del sys.modules["fresh_package"]


@pytest.fixture
def loaded(packages: Path) -> Iterator[Loaded]:
    made = Loaded()
    yield made
    made.close()


def rewrite(packages: Path) -> None:
    path = packages / "fresh_package" / "__init__.py"
    path.write_text("x = 1")
    os.utime(path, ns=(1, 1))


CHANGES: list[tuple[Callable[[Path], object], str]] = [
    (rewrite, "__init__.py was changed"),
    (lambda packages: (packages / "fresh_package" / "__init__.py").unlink(), "__init__.py is gone"),
    (lambda packages: shutil.rmtree(packages / "fresh_package"), "__init__.py is gone"),
    (lambda packages: (packages / "fresh_package").rename(packages / "other"), "__init__.py is gone"),
    (lambda packages: (packages / "another-2.dist-info").mkdir(), "a package was installed or removed"),
    (lambda packages: (packages / "fresh_package-1.dist-info").rmdir(), "a package was installed or removed"),
]


@pytest.mark.parametrize(("change", "verdict"), CHANGES, ids=["written", "removed", "package removed", "moved", "installed", "uninstalled"])
@pytest.mark.skipif(sys.platform != "linux", reason="the system is asked by inotify")
def test_a_change_is_heard_of(packages: Path, loaded: Loaded, change: Callable[[Path], object], verdict: str) -> None:
    assert loaded.events >= 0
    assert loaded.outdated(NEVER) == ""
    change(packages)
    assert loaded.outdated(NEVER).endswith(verdict)
    assert loaded.outdated(NEVER).endswith(verdict), "it stays so"


@pytest.mark.parametrize(("change", "verdict"), CHANGES, ids=["written", "removed", "package removed", "moved", "installed", "uninstalled"])
def test_where_nothing_can_be_heard_it_is_looked_at_each_time(packages: Path, loaded: Loaded, change: Callable[[Path], object], verdict: str) -> None:
    loaded.close()
    assert loaded.outdated(NEVER) == ""
    change(packages)
    assert loaded.outdated(NEVER).endswith(verdict)


def test_what_nothing_was_heard_of_is_looked_at_now_and_then(packages: Path, loaded: Loaded) -> None:
    """Another machine may have written to the file system."""
    rewrite(packages)
    loaded._heard()  # as if nobody had told
    assert loaded.outdated(NEVER) == ""
    assert loaded.outdated(0.0).endswith("was changed")


def test_what_happens_beside_the_loaded_files_changes_nothing(packages: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(freshness, "installed", lambda: looked.append("") or loaded.installed)
    assert loaded.outdated(NEVER) == ""
    assert looked == []
    (packages / "fresh_package" / "notes.txt").write_text("")
    assert loaded.outdated(NEVER) == ""
    assert looked == [""]
    assert loaded.outdated(NEVER) == ""
    assert looked == [""]


def test_folders_that_cannot_be_watched(tmp_path: Path) -> None:
    events = watch([str(tmp_path), str(tmp_path / "not there")])
    assert (events >= 0) == (sys.platform == "linux")
    if events >= 0:
        os.close(events)


def test_shadows(packages: Path, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "notebooks"
    assert loaded.shadowed(str(folder)) == "", "a folder that is not there"
    folder.mkdir()
    assert loaded.shadowed(str(folder)) == ""
    assert loaded.shadowed(str(packages)) == "", "the very same file"
    (folder / "fresh_package").mkdir()
    assert loaded.shadowed(str(folder)) == "", "no package: it has no __init__.py"
    (folder / "fresh_package" / "__init__.py").touch()
    assert loaded.shadowed(str(folder)) == f"{folder}/fresh_package/__init__.py would be imported instead of {packages}/fresh_package/__init__.py"
    shutil.rmtree(folder / "fresh_package")
    (folder / "fresh_package.py").touch()
    assert "fresh_package.py would be imported" in loaded.shadowed(str(folder))
    (folder / "fresh_package.py").unlink()
    (folder / "matplotlibrc").touch()
    monkeypatch.setitem(sys.modules, "matplotlib", sys.modules["fresh_package"])
    assert "matplotlibrc" in loaded.shadowed(str(folder))
