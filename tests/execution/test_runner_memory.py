"""How much memory the runner needs for a large notebook, in sizes of the notebook."""

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
import json, os, sys
import mltoolkit

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

mltoolkit.run_notebook("small.ipynb", track=False)
before = peak()
run = mltoolkit.run_notebook("large.ipynb", track=False)
print(json.dumps({"extra": peak() - before, "executed": os.path.getsize(run.output), "page": os.path.getsize(run.html)}))
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak")

Cells = list[dict[str, Any]]
PICTURE = base64.b64encode(random.Random(0).randbytes(75_000)).decode()
COUNT = 400


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "source": source, "outputs": list(outputs)}


def words(**more: Any) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": "![a](attachment:a.png)", **more}


LARGE: dict[str, Callable[[], Cells]] = {
    "one output in it": lambda: [code("1", {"output_type": "stream", "name": "stdout", "text": ["y" * 99 + "\n"] * 1000 * COUNT})],
    "many outputs in it": lambda: [code("1", {"output_type": "display_data", "metadata": {}, "data": {"image/png": PICTURE}}) for _ in range(COUNT)],
    "attachments": lambda: [code("1"), *[words(attachments={"a.png": {"image/png": PICTURE}}) for _ in range(COUNT)]],
    "outputs of its own": lambda: [code("print(('y' * 99 + '\\n') * 1000, end='')") for _ in range(COUNT)],
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_notebook_needs_no_more_than_three_times_its_size(kind: str, tiny: str, bare_workspace: Path) -> None:
    for name, cells in (("small", [code("1")]), ("large", LARGE[kind]())):
        kept = [{**cell, "id": f"c{number}"} for number, cell in enumerate(cells)]
        metadata = {"kernelspec": {"name": tiny, "display_name": tiny, "language": "python"}}
        Path(f"{name}.ipynb").write_text(json.dumps({"cells": kept, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1))
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    size = max(found["executed"], Path("large.ipynb").stat().st_size)
    assert size > 39_000_000
    assert found["extra"] < 3 * size
    assert (found["page"] > 39_000_000) == (kind in ("attachments", "outputs of its own"))
