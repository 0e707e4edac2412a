"""A real JupyterLab in a real browser, with a warm kernel: run, interrupt, restart, run, shut down."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import notebook_of
from lab_of_tests import TOKEN, Page, lab
from processes import gone, wait_for
from warm import Place, inhabitants, runtime_folder

from mltoolkit import cli
from mltoolkit.execution import kernels
from mltoolkit.notebook import document

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
import chromium  # noqa: E402

BEGIN = """
import os, pathlib
kept, turn = 'something', 0
print('process', os.getpid(), 'of', pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_text().split('\\0')[1])
"""
LOOP = """
turn += 1
print('turn', turn, flush=True)
while True: pass
"""
AGAIN = """
import os
print('process', os.getpid(), 'knows', globals().get('kept', 'nothing'))
"""
@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A workspace with a notebook, and a zygote that is ready."""
    chromium.require()
    with runtime_folder() as folder:
        made = Place.make(tmp_path / "workspace", "sqlite3")
        document.write(notebook_of(BEGIN.strip(), LOOP.strip(), AGAIN.strip()), made.root / "lab.ipynb")
        assert made.execute("1").outcome.warm
        yield made
        kernels.stop_zygotes()
        wait_for(lambda: not inhabitants(folder), "the zygote, its kernels and JupyterLab to be gone")


@pytest.fixture
def kernelspecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the environment's own kernelspec, made warm by the command, and put back by it."""
    prefix = tmp_path / "prefix"
    path = prefix / "share" / "jupyter" / "kernels" / "python3" / "kernel.json"
    shutil.copytree(Path(sys.prefix, "share", "jupyter", "kernels", "python3"), path.parent)
    before = json.loads(path.read_text())
    monkeypatch.setattr(kernels.install, "__defaults__", (str(prefix),))
    assert CliRunner().invoke(cli.main, ["kernels", "install"]).exit_code == 0
    assert json.loads(path.read_text()) != before
    yield prefix / "share" / "jupyter"
    assert CliRunner().invoke(cli.main, ["kernels", "install", "--remove"]).exit_code == 0
    assert json.loads(path.read_text()) == before


def test_a_warm_kernel_in_jupyterlab(place: Place, kernelspecs: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "lab").mkdir()
    with chromium.browser() as tab, lab(place.root, place.env, kernelspecs, folder) as address:
        tab.size(1200)
        tab.open(f"{address}lab/tree/lab.ipynb?token={TOKEN}")
        page = Page(tab)
        page.kernel("Python 3 (ipykernel)")
        page.run(0)
        first = page.output(0, r"process (\d+) of (.*)")
        assert first[2] == kernels.zygote.__file__, [line for line in (folder / "log").read_text().splitlines() if "mltoolkit:" in line]
        wait_for(lambda: _listed() == 1, "this one to be listed")

        page.run(1)
        page.output(1, "turn 1")
        page.menu("kernelmenu:interrupt")
        page.output(1, "turn 1(?s:.*)KeyboardInterrupt")
        page.kernel("Python 3 (ipykernel)")  # what is asked of it earlier is dropped, as after any error
        page.run(1)
        page.output(1, "turn 2")
        tab.press("Escape")
        tab.press("i")
        tab.press("i")
        page.output(1, "turn 2(?s:.*)KeyboardInterrupt")
        page.kernel("Python 3 (ipykernel)")
        page.run(2)
        assert page.output(2, r"process (\d+) knows something")[1] == first[1]

        page.menu("kernelmenu:restart")
        tab.click(".jp-Dialog .jp-mod-accept", "Restart")
        wait_for(lambda: gone(int(first[1])), "the first kernel to be gone")
        page.kernel("Python 3 (ipykernel)")
        page.run(2)
        second = page.output(2, r"process (\d+) knows nothing")
        assert second[1] != first[1]
        wait_for(lambda: _listed() == 1, "the second one to be listed, alone")
        tab.screenshot(folder / "page.png")

        page.menu("kernelmenu:shutdown")
        wait_for(lambda: gone(int(second[1])), "the second kernel to be gone")
        page.kernel("No Kernel", "unknown")
        wait_for(lambda: _listed() == 0, "none to be left")
        assert tab.complaints() == []


def _listed() -> int:
    """The number of kernels that `mltoolkit kernels list` tells of."""
    (state,) = json.loads(CliRunner().invoke(cli.main, ["kernels", "list", "--json"]).output)
    return int(state["kernels"])
