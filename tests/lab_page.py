"""A notebook in JupyterLab, as a test looks at it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from processes import wait_for

sys.path.insert(0, str(Path(__file__).parent / "notebook"))
import chromium  # noqa: E402


class Page:
    """The notebook as JupyterLab shows it."""

    def __init__(self, tab: chromium.Tab) -> None:
        self.tab = tab

    def kernel(self, name: str, state: str = "idle") -> None:
        """Wait until this is the kernel's name and its state."""
        script = "[...document.querySelectorAll('.jp-KernelName, .jp-Notebook-ExecutionIndicator')].map(each => each.dataset.status ?? each.textContent)"
        self.tab.until(f"({script}).join(', ') === '{name}, {state}'", f"the kernel to be {name}, {state}")

    def run(self, cell: int) -> None:
        """Run a cell, counted from 0."""
        self.tab.click(f".jp-Notebook .jp-Cell[data-windowed-list-index='{cell}'] .cm-content")
        self.tab.press("Enter", shift=True)

    def output(self, cell: int, expected: str) -> re.Match[str]:
        """Wait for output of a cell that a pattern matches."""
        script = f"document.querySelector(`.jp-Notebook .jp-Cell[data-windowed-list-index='{cell}'] .jp-Cell-outputArea`)?.innerText ?? ''"
        found: list[re.Match[str]] = []
        wait_for(lambda: found.extend(re.finditer(expected, self.tab.run(script))) or found, f"{expected} below cell {cell}")
        return found[0]

    def menu(self, command: str) -> None:
        """Choose from the menu of kernels."""
        self.tab.click(".lm-MenuBar-item", "Kernel")
        self.tab.click(f".lm-Menu-item[data-command='{command}']")
