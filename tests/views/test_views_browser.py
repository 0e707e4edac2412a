"""Forms, the board, the inbox and a look in a real JupyterLab: fill in, run, cancel, compare, approve, explore; light and dark."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from conftest import notebook_of, tagged
from lab_of_tests import TOKEN, Page, lab
from warm import variables

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
rate: Annotated[float, Ge(0), Le(1)] = 0.05  # of learning
origins: list[str] = ["EWR", "JFK"]  # airports
verbose: bool = False  # tell more
"""
CELLS = ["import time\nprint('epoch 1', flush=True)", "if origins == ['LGA']: time.sleep(600)"]
SHOW = "import mltoolkit\nform = mltoolkit.form('train.ipynb', gate=False, track=False)\nform"
SEE = "board = mltoolkit.board(every=1)\nboard"
DECIDE = "mltoolkit.inbox()"
LOOK = "mltoolkit.look('flights', count=5)"
WAITS = "flights/train@2013-03-01T02:30:00"


def put(tab: chromium.Tab, label: str, text: str) -> None:
    """Type into the field of a label, as somebody does."""
    tab.until(f"(() => {{ const row = [...document.querySelectorAll('.widget-text')].find(each => each.textContent.includes({json.dumps(label)})); const field = row?.querySelector('input'); field?.focus(); field?.select(); return document.activeElement === field && !!field; }})()", f"the field {label}")  # fmt: skip
    tab.call("Input.insertText", text=text)


def said(tab: chromium.Tab, text: str, within: float = 90.0) -> None:
    """Wait until the notebook shows a text."""
    notebook = r"(document.querySelector('.jp-Notebook')?.innerText ?? '').replace(/\s+/g, ' ')"
    try:
        tab.until(f"{notebook}.includes({json.dumps(text)})", text, within)
    except AssertionError as error:
        raise AssertionError(f"{error}; it shows: {tab.run(notebook)[-3000:]}, {tab.complaints()}") from error


def dark(tab: chromium.Tab) -> None:
    tab.click(".lm-MenuBar-item", "Settings")
    tab.click(".lm-Menu-item", "Theme")
    tab.click(".lm-Menu-item", "JupyterLab Dark")
    tab.until("document.body.dataset.jpThemeLight === 'false'", "the dark theme")


@pytest.mark.timeout(900)
def test_forms_and_board_in_jupyterlab(workspace: Path, write: Callable[..., Path], tiny: str, tmp_path: Path) -> None:
    chromium.require()
    train = write("train.ipynb", *CELLS, parameters=TRAIN)
    store = tracking.client(workspace)
    made = []
    for depth, auc in ((4, 0.71), (8, 0.78)):
        made.append(mltoolkit.run_notebook(train, parameters={"depth": depth}, kernel=tiny, gate=False).run_id)
        for step in range(20):
            store.log_metric(made[-1], "auc", auc - 0.4 / (step + 1), step=step)
    own = (tagged("width: int = 4  # of the window", "parameters"), "own = mltoolkit.parameters()", "print('width is', width * 11)")
    document.write(notebook_of(SHOW, SEE, DECIDE, LOOK, *own), workspace / "look.ipynb")
    mltoolkit.save_dataset(pd.DataFrame({"carrier": ["UA"] * 30 + ["OO"], "delay": [*range(30), 900]}), "flights")
    jobs = open_store(workspace)
    row = {"key": WAITS, "job": "flights/train", "logical": WAITS.partition("@")[2], "state": State.approval, "approval": "before", "origin": "tick", "lane": "x", "due": 0, "created": 100}
    jobs.write(lambda connection: connection.execute(sa.insert(INSTANCES).values(**row)))
    pictures = Path(os.environ.get("SCREENSHOTS", tmp_path))
    (folder := tmp_path / "lab").mkdir()
    kernels = Path(sys.prefix, "share", "jupyter")
    with chromium.browser() as tab, lab(workspace, variables(MLTOOLKIT_WARM="no"), kernels, folder) as address:
        tab.size(1300, 1500)
        tab.open(f"{address}lab/tree/look.ipynb?token={TOKEN}")
        page = Page(tab)
        page.kernel("Python 3 (ipykernel)")
        page.run(0)
        said(tab, "how deep a tree may be")
        put(tab, "origins", '["LGA", 7')
        said(tab, "wants list[str]")
        assert tab.run("[...document.querySelectorAll('.jupyter-button')].find(each => each.textContent.includes('Run')).disabled")
        tab.screenshot(pictures / "form-wrong.png")
        put(tab, "origins", '["LGA"]')
        tab.until("![...document.querySelectorAll('.jupyter-button')].find(each => each.textContent.includes('Run')).disabled", "the button to wake up")
        tab.click(".jupyter-button", "Run")
        said(tab, "epoch 1")
        said(tab, "3 of 4 cells")
        tab.screenshot(pictures / "form-running.png")
        tab.click(".jupyter-button", "Cancel")
        said(tab, "■ cancelled in")
        tab.click(".jupyter-button", "Reset")
        tab.click(".jupyter-button", "Run")
        said(tab, "✓ succeeded in")
        tab.click(".jupyter-button", "Show the page")
        tab.until("document.querySelector('.mlt iframe')?.getAttribute('sandbox') === ''", "the page in its frame")
        tab.screenshot(pictures / "form-done.png")
        tab.click(".jupyter-button", "Show the page")
        tab.until("!document.querySelector('.mlt iframe')", "the page to be gone")  # what lies below it moves
        unlabelled = "[...document.querySelectorAll('.jp-OutputArea input, .jp-OutputArea select, .jp-OutputArea textarea')].filter(each => !each.labels?.length && !each.ariaLabel && !each.title).length"
        assert tab.run(unlabelled) == 0

        page.run(1)
        said(tab, made[0][:8])
        for run_id in made:
            line = f"[...document.querySelectorAll('.widget-hbox')].find(each => each.querySelectorAll('input[type=checkbox]').length === 1 && each.textContent.includes('{run_id[:8]}'))"
            tab.until(f"(() => {{ const box = {line}?.querySelector('input'); box?.click(); return !!box; }})()", f"the line of run {run_id}")
            said(tab, f"{made.index(run_id) + 1} selected")
        assert tab.run(unlabelled) == 0
        tab.click(".jupyter-button", "Compare")
        said(tab, "Everything that differs")
        said(tab, "depth: 4 -> 8")
        tab.until("document.querySelectorAll('.mlt svg').length === 2", "parallel coordinates and curves")
        tab.screenshot(pictures / "board-light.png")
        dark(tab)
        tab.screenshot(pictures / "form-dark.png")
        tab.click(".jupyter-button", "Clear")
        tab.until("document.querySelectorAll('.mlt svg').length === 0", "the comparison to be gone")
        tab.size(1300, 2200)
        page.run(2)
        said(tab, "1 thing waits for you")
        tab.screenshot(pictures / "inbox-dark.png")
        tab.click(".jupyter-button", "Approve")
        said(tab, "approved by")
        said(tab, "Nothing waits for you")
        assert (instance(jobs, WAITS) or {})["state"] == State.waiting
        jobs.close()
        page.run(3)
        said(tab, "You looked for 0 minutes at this dataset in the last seven days, at 5 rows this time")
        tab.screenshot(pictures / "look-dark.png")
        page.run(4)
        page.run(5)
        said(tab, "of the window")
        put(tab, "width", "7")
        tab.press("Enter")
        page.run(6)
        said(tab, "width is 77")
        assert tab.run(unlabelled) == 0
        assert tab.complaints() == []
