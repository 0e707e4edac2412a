"""A real JupyterLab without a mouse: whatever the views offer is reached and worked by keys, has a name for who cannot see it, and can be read."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import notebook_of
from lab_of_tests import Page, choose, contrast, go, mltoolkit_lab, there, unnamed
from warm import Place, runtime_folder

import mltoolkit
from mltoolkit.notebook import document
from mltoolkit.record import tracking
from mltoolkit.scheduling.store import INSTANCES, State, instance, open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
import chromium  # noqa: E402

TRAIN = """
from typing import Annotated, Literal
from annotated_types import Ge, Le
depth: Annotated[int, Ge(1), Le(12)] = 3  # how deep a tree may be
model: Literal["linear", "trees"] = "trees"  # what is fitted
wait: int = 0  # seconds
"""
CELLS = ["import time\nprint('epoch 1', model, flush=True)", "time.sleep(wait)"]
SHOWN = ["import mltoolkit\nmltoolkit.form('train.ipynb', gate=False, track=False)", "mltoolkit.board(every=0.5)", "mltoolkit.inbox()"]
WAITS = "flights/train@2013-03-01T02:30:00"
NOTEBOOK = r"(document.querySelector('.jp-Notebook')?.innerText ?? '').replace(/\s+/g, ' ')"
NAME = "(element.labels?.[0]?.textContent || element.textContent).trim()"


def said(tab: chromium.Tab, text: str) -> None:
    """Wait until the notebook shows a text."""
    try:
        tab.until(f"{NOTEBOOK}.includes({json.dumps(text)})", text, 90)
    except AssertionError as error:
        raise AssertionError(f"{error}; it shows {tab.run(NOTEBOOK)[-2000:]}, {tab.complaints()}") from error


def called(name: str, cell: int) -> str:
    """What is below a cell and has a name."""
    return f"element.closest('.jp-OutputArea') && element.closest('.jp-Cell').dataset.windowedListIndex === '{cell}' && {NAME} === {json.dumps(name)}"


def push(tab: chromium.Tab, name: str, cell: int, back: bool = False, stays: bool = True) -> None:
    """Go to a button, press it, and see that the focus is not lost."""
    go(tab, called(name, cell), back)
    tab.press("Enter")
    tab.run("new Promise(done => setTimeout(done, 300))")
    assert not stays or there(tab, called(name, cell)), f"{name} loses the focus"


def fill(tab: chromium.Tab, name: str, text: str, back: bool = False) -> None:
    go(tab, called(name, 0), back)
    tab.press("A", control=True)
    tab.type(text)


def run(tab: chromium.Tab, cell: int, text: str) -> None:
    """Go to a cell, in the notebook's command mode, run it, and wait for what it shows."""
    go(tab, "element.matches('.jp-Notebook .jp-Cell')", back=True)
    for _ in range(cell - int(tab.run("document.activeElement.dataset.windowedListIndex"))):
        tab.press("ArrowDown")
    tab.until(f"document.activeElement.dataset.windowedListIndex === '{cell}'", f"cell {cell} to have the focus")
    tab.press("Enter", control=True)
    said(tab, text)


def readable(tab: chromium.Tab, cell: int) -> None:
    """All that can be used has a name, and all texts of ours stand out."""
    below = f".jp-Cell[data-windowed-list-index='{cell}'] .jp-OutputArea"
    assert unnamed(tab, below) == []
    count, weak = contrast(tab, f"{below} .mlt *")
    assert count
    assert weak == []


@pytest.mark.timeout(900)
def test_everything_is_done_by_keys(bare_workspace: Path, prepared_store: Path, write: Callable[..., Path], tiny: str, tmp_path: Path) -> None:
    chromium.require()
    (folder := tmp_path / "lab").mkdir()
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with runtime_folder() as runtime:
        place = Place.make(bare_workspace, "sqlite3")
        (place.root / ".mltoolkit").mkdir()
        shutil.copy(prepared_store, place.root / ".mltoolkit" / "mlflow.db")
        train = write("train.ipynb", *CELLS, parameters=TRAIN)
        store = tracking.client(place.root)
        made = [mltoolkit.run_notebook(train, parameters={"depth": depth}, kernel=tiny, gate=False).run_id for depth in (4, 8)]
        for run_id, auc in zip(made, (0.71, 0.78), strict=True):
            store.log_metric(run_id, "auc", auc)
        document.write(notebook_of(*SHOWN), place.root / "lab.ipynb")
        jobs = open_store(place.root)
        row = {"key": WAITS, "job": "flights/train", "logical": WAITS.partition("@")[2], "state": State.approval, "approval": "before", "origin": "tick", "lane": "x", "due": 0, "created": 100}
        jobs.write(lambda connection: connection.execute(sa.insert(INSTANCES).values(**row)))
        with mltoolkit_lab(place, folder, runtime) as lab, chromium.browser() as tab:
            tab.size(1300, 1700)
            tab.call("Accessibility.enable")
            tab.open(lab.told["address"])
            Page(tab).kernel("Python 3 (ipykernel)")
            tab.until("document.activeElement.matches('.jp-Cell')", "the first cell to have the focus")

            # a cell's editor is left by Escape, and its output is what Tab comes to next
            tab.press("Enter")
            tab.until("!!document.activeElement.closest('.cm-content')", "the editor")
            tab.press("Escape")
            tab.until("document.activeElement.matches('.jp-Cell')", "the command mode")
            run(tab, 0, "how deep a tree may be")
            go(tab, "element.matches('[role=slider]')")
            tab.press("ArrowRight")
            tab.press("ArrowRight")
            tab.until("document.querySelector('.widget-readout').textContent === '5'", "the slider to move")
            go(tab, called("model", 0))
            for key in ("ArrowDown", "ArrowUp", "Enter"):  # a closed list leaves the arrows to JupyterLab
                tab.press(key, alt=key == "ArrowDown")
            tab.until("document.activeElement.value === 'linear'", "the choice")
            fill(tab, "wait", "many")
            said(tab, "wants int")
            fill(tab, "wait", "0")
            tab.until("![...document.querySelectorAll('.jupyter-button')].find(each => each.textContent.includes('Run')).disabled", "the button to wake up")
            push(tab, "Run", 0)
            said(tab, "✓ succeeded in")
            go(tab, "element.matches('.mlt summary')")
            tab.press("Enter")
            said(tab, "epoch 1 linear")
            fill(tab, "wait", "600", back=True)
            push(tab, "Run", 0)
            said(tab, "▶ running 3 of 4 cells")
            tab.until("document.querySelector('.mlt [role=progressbar]').ariaValueNow === '3'", "how far it is, in words for who cannot see the bar")
            readable(tab, 0)
            tab.screenshot(pictures / "keys-running.png")
            push(tab, "Cancel", 0)
            said(tab, "■ cancelled in")
            assert there(tab, called("Cancel", 0)), "the end takes the focus away"
            readable(tab, 0)

            run(tab, 1, "of the newest 2")
            for count, run_id in enumerate(made, 1):
                go(tab, called(f"select run {run_id[:8]}", 1))
                tab.press(" ")
                said(tab, f"{count} selected")
                store.log_metric(run_id, "auc", 0.9 + count / 100)
                said(tab, f"auc {0.9 + count / 100:g}")
                assert there(tab, called(f"select run {run_id[:8]}", 1)), "a refresh takes the focus away"
                go(tab, called("Sort by", 1), back=True)
            push(tab, "Compare", 1)
            said(tab, "Everything that differs")
            said(tab, "depth: 4 -> 8")
            assert there(tab, called("Compare", 1)), "the comparison takes the focus away"
            readable(tab, 1)
            tab.screenshot(pictures / "keys-board.png")
            push(tab, "Clear", 1)
            said(tab, "0 selected")

            run(tab, 2, "1 thing waits for you")
            go(tab, called("Note", 2))
            tab.type("as good as the one before")
            readable(tab, 2)
            push(tab, "Approve", 2, stays=False)
            said(tab, "Nothing waits for you")
            assert (instance(jobs, WAITS) or {})["state"] == State.waiting
            tab.until(f"(() => {{ const element = document.activeElement; return {called('Look again', 2)}; }})()", "the focus to be where it goes on")
            jobs.close()

            tab.press("C", control=True, shift=True)
            tab.until("document.activeElement.matches('.lm-CommandPalette-input')", "the palette")
            tab.type("JupyterLab Dark")
            tab.until("!!document.querySelector('.lm-CommandPalette-item.lm-mod-active')", "the theme in the palette")
            tab.press("Enter")
            tab.until("document.body.dataset.jpThemeLight === 'false'", "the dark theme")
            for cell in range(3):
                readable(tab, cell)
            tab.screenshot(pictures / "keys-dark.png")

            choose(tab, "File", "launcher:create")
            tab.until("!!document.querySelector('.jp-LauncherCard')", "the Launcher")
            go(tab, "element.matches('.jp-LauncherCard') && element.textContent.includes('MLflow')")
            tab.press("Enter")
            tab.until("(document.querySelector('iframe[src*=mlflow]')?.contentDocument?.body?.innerText ?? '').includes('Experiments')", "MLflow's page", 180)
            unknown = "mlflow/users/current"  # MLflow's page asks who is signed in, which a server without basic-auth answers with 404
            assert [each for each in tab.complaints() if not each.endswith(unknown)] == []
