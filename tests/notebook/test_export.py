"""Exporting: notebooks become modules, a second time changes nothing, and a check leaves no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mltoolkit.errors import NotebookInvalid, SettingsError
from mltoolkit.notebook import export

Write = Callable[..., Path]
FEATURES = ("#| default_exp features", "#| export\ndef double(n: int) -> int:\n    'Twice `n`.'\n    return 2 * n", "double(2)")
NBDEV = '[project]\nname = "mine"\nversion = "0.0.1"\n[tool.nbdev]\nlib_path = "mine"\nnbs_path = "nbs"\n'


def files_of(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def test_only_notebooks_that_export_are_found_in_order(write: Write, bare_workspace: Path) -> None:
    wanted = [write(name, *FEATURES) for name in ("projects/a/00_z.ipynb", "projects/a/01_a.ipynb", "projects/a/deep/00.ipynb")]
    write("projects/a/02_plain.ipynb", "1", "# default_exp is said, not done")
    for hidden in (".ipynb_checkpoints/x.ipynb", "_drafts/x.ipynb", "_x.ipynb"):
        write(f"projects/a/{hidden}", *FEATURES)
    (bare_workspace / "projects/a/binary.ipynb").write_bytes(b"\xff\xfe\x00")
    assert export.exporting(bare_workspace / "projects" / "a") == wanted
    assert export.exporting(bare_workspace / "nowhere") == []


def test_a_project_becomes_a_package_that_can_be_imported(write: Write, bare_workspace: Path) -> None:
    write("projects/night-flights/00_features.ipynb", *FEATURES)
    write("projects/night-flights/00a_deep.ipynb", "#| default_exp sub.deep", "#| export\nfrom night_flights.features import double\nSIX = double(3)")
    changed = ["projects/night-flights/night_flights/__init__.py", "projects/night-flights/night_flights/features.py",
               "projects/night-flights/night_flights/sub/deep.py"]  # fmt: skip
    assert export.export_workspace() == changed
    script = "from night_flights.sub.deep import SIX; import night_flights; print(SIX, night_flights.__doc__)"
    done = subprocess.run([sys.executable, "-c", script], cwd="projects/night-flights", capture_output=True, text=True, check=True)
    assert done.stdout == "6 Modules of the project night-flights, exported from its notebooks.\n"
    assert "double(2)" not in Path(changed[1]).read_text()
    before = files_of(bare_workspace)
    assert export.export_workspace("projects/night-flights") == []
    assert {name: content for name, content in files_of(bare_workspace).items() if "__pycache__" not in name} == {
        name: content for name, content in before.items() if "__pycache__" not in name
    }
    Path(changed[0]).write_text('"""Mine."""\n')
    assert export.export_project(bare_workspace / "projects" / "night-flights") == [bare_workspace / name for name in changed]
    assert Path(changed[0]).read_text() == '"""Mine."""\n'


def test_a_project_without_such_notebooks_gets_no_package(write: Write, bare_workspace: Path) -> None:
    write("projects/plain/00_look.ipynb", "1")
    (bare_workspace / "projects" / "README.md").write_text("no project")
    before = files_of(bare_workspace)
    assert export.export_workspace() == []
    assert files_of(bare_workspace) == before


def test_the_workspaces_own_package_and_a_check_that_leaves_no_trace(write: Write, bare_workspace: Path) -> None:
    Path("pyproject.toml").write_text(NBDEV)
    write("nbs/00_core.ipynb", *(cell.replace("features", "core") for cell in FEATURES))
    write("projects/flights/00_features.ipynb", *FEATURES)
    expected = ["mine/__init__.py", "mine/_modidx.py", "mine/core.py", "projects/flights/flights/__init__.py", "projects/flights/flights/features.py"]
    before = files_of(bare_workspace)
    assert export.export_workspace(check=True) == expected
    assert files_of(bare_workspace) == before
    assert export.export_workspace() == expected
    assert export.export_workspace(check=True) == []

    module = bare_workspace / "mine" / "core.py"
    module.write_text(module.read_text() + "# edited by hand\n")
    (bare_workspace / "mine" / "link.py").symlink_to("core.py")
    os.chmod(module, 0o640)
    before = files_of(bare_workspace)
    assert export.export_workspace(check=True) == ["mine/core.py"]
    assert files_of(bare_workspace) == before
    assert module.stat().st_mode & 0o777 == 0o640
    assert export.export_workspace() == ["mine/core.py"]
    assert "edited by hand" not in module.read_text()


def test_other_peoples_files_are_not_looked_at(write: Write, bare_workspace: Path) -> None:
    write("projects/flights/00_features.ipynb", *FEATURES)
    environment = bare_workspace / "env"
    (environment / "lib").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("")
    for path in (environment / "lib" / "x.py", bare_workspace / ".venv" / "x.py"):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to("nowhere")
        path.with_name("y.py").mkdir()
    (bare_workspace / "broken.py").symlink_to("nowhere")
    assert export._contents(bare_workspace) == {}
    assert len(export.export_workspace()) == 2


@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_notebook_is_named_and_a_check_undone(check: bool, write: Write, bare_workspace: Path) -> None:
    write("projects/flights/00_features.ipynb", *FEATURES)
    Path("projects/flights/01_more.ipynb").write_text('{"cells": "#| default_exp more "')
    before = files_of(bare_workspace)
    with pytest.raises(NotebookInvalid, match=r"01_more.ipynb is not valid JSON: .* at line 1, column 33"):
        export.export_workspace(check=check)
    assert (files_of(bare_workspace) == before) is check


def test_a_damaged_notebook_of_the_package_is_named(bare_workspace: Path) -> None:
    Path("pyproject.toml").write_text(NBDEV)
    Path("nbs").mkdir()
    Path("nbs/00_core.ipynb").write_text('{"nbformat": 4, "cells": ["#| default_exp core "]}')
    with pytest.raises(NotebookInvalid, match=r"00_core.ipynb is not a valid notebook: "):
        export.export_workspace()


@pytest.mark.parametrize("pyproject", [None, '[project]\nname = "mine"\n'])
def test_nbs_without_nbdevs_table_is_said(pyproject: str | None, write: Write, bare_workspace: Path) -> None:
    if pyproject:
        Path("pyproject.toml").write_text(pyproject)
    write("nbs/look.ipynb", "1")
    assert export.export_workspace() == []
    write("nbs/00_core.ipynb", *FEATURES)
    with pytest.raises(SettingsError, match=r"pyproject.toml has no \[tool.nbdev\], which says where nbs/ is exported to"):
        export.export_workspace()
