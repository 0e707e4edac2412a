"""How much memory reading a notebook and writing its page take, in sizes of the notebook."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MEASURE = """
import sys
from pathlib import Path
from mltoolkit.notebook import document, page

def memory(what):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(what))

def peak(action):
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    made = action()
    return made, memory("VmHWM") - before

small = document.read(sys.argv[1] + "/small.ipynb")
page.render(small, title="")
notebook, read = peak(lambda: document.read(sys.argv[1] + "/large.ipynb", outputs=sys.argv[2] == "all"))
_, written = peak(lambda: document.write_atomically(sys.argv[1] + "/page.html", page.pieces(notebook, title="")))
print(read, written)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process its peak")


def cell(*outputs: dict[str, Any], source: str = "1", **rest: Any) -> dict[str, Any]:
    return {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 1, "source": source, "outputs": list(outputs), **rest}


def notebook(path: Path, cells: list[dict[str, Any]]) -> int:
    cells = [{**each, "id": f"c{number}"} for number, each in enumerate(cells)]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1))
    return path.stat().st_size


def measured(folder: Path, cells: list[dict[str, Any]], keep: str) -> tuple[float, float]:
    """Peaks of reading and of writing the page, beyond what was there before, in sizes of the notebook."""
    notebook(folder / "small.ipynb", [cell(source="x = 1")])
    size = notebook(folder / "large.ipynb", cells)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder), keep], capture_output=True, text=True, check=True)
    read, written = (int(number) / size for number in done.stdout.split())
    return read, written


PICTURE = base64.b64encode(random.Random(0).randbytes(75_000)).decode()
STORED: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "one output of many lines": lambda: [cell({"output_type": "stream", "name": "stdout", "text": ["y" * 99 + "\n"] * 300_000})],
    "one output of one line": lambda: [cell({"output_type": "stream", "name": "stdout", "text": "y" * 30_000_000})],
    "many outputs": lambda: [cell({"output_type": "display_data", "metadata": {}, "data": {"image/png": PICTURE}}) for _ in range(300)],
}


@pytest.mark.parametrize("kind", STORED)
def test_outputs_that_are_not_kept_cost_no_more_than_their_text(kind: str, tmp_path: Path) -> None:
    read, written = measured(tmp_path, STORED[kind](), "none")
    assert read < 3
    assert written < 0.2
    whole = (tmp_path / "page.html").read_text()
    assert "<main" in whole
    assert len(whole) < 1_000_000


MADE: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "pictures": STORED["many outputs"],
    "attachments": lambda: [
        {"cell_type": "markdown", "metadata": {}, "source": "![a](attachment:a.png)", "attachments": {"a.png": {"image/png": PICTURE}}} for _ in range(300)
    ],
    "text": lambda: [cell({"output_type": "stream", "name": "stdout", "text": ["y" * 99 + "\n"] * 1000}) for _ in range(300)],
}


@pytest.mark.parametrize("kind", MADE)
def test_a_page_is_written_without_a_copy_of_the_whole(kind: str, tmp_path: Path) -> None:
    read, written = measured(tmp_path, MADE[kind](), "all")
    assert read < 3
    assert written < 1.5
    assert (tmp_path / "page.html").stat().st_size > 29_000_000
