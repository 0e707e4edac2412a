"""A job is added to a jobs.yaml whatever its lines end with, and wherever the package runs."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import pytest
from conftest import notebook_of

from mltoolkit.notebook import document
from mltoolkit.scheduling import adding
from mltoolkit.scheduling.adding import add_job


def test_a_job_is_added_with_the_ends_of_lines_that_are_there(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document.write(notebook_of("1"), bare_workspace / "train.ipynb")
    path = bare_workspace / "jobs.yaml"
    before = b"# ours\r\njobs:\r\n  first:\r\n    notebook: train.ipynb\r\n\r\nx-own: {a: 1}\r\n"
    path.write_bytes(before)
    opened, opening = [], io.open
    monkeypatch.setattr(io, "open", lambda file, *more, **options: opened.append(Path(file).name) or opening(file, *more, **options))
    add_job(bare_workspace / "train.ipynb", "second", {})
    assert opened.count("jobs.yaml") == 1
    assert path.read_bytes() == before.replace(b"\r\n\r\n", b"\r\n  second:\r\n    notebook: train.ipynb\r\n\r\n")
    path.write_bytes(b"# ours\r\nx-own: {a: 1}")
    add_job(bare_workspace / "train.ipynb", "second", {})
    assert path.read_bytes() == b"# ours\r\nx-own: {a: 1}\r\njobs:\r\n  second:\r\n    notebook: train.ipynb\r\n"


def test_a_job_is_added_where_files_are_not_locked(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document.write(notebook_of("1"), bare_workspace / "train.ipynb")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("mltoolkit.scheduling.adding_elsewhere", str(adding.__file__))
    assert spec
    assert spec.loader
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert elsewhere.add_job(bare_workspace / "train.ipynb", "first", {}).id == "first"
