"""A JupyterLab for tests, and its notebook as a browser shows it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from processes import BIN, wait_for
from warm import Place, inhabitants

from mltoolkit.execution import kernels

if TYPE_CHECKING:
    import chromium

TOKEN = "for-this-test-only"


@contextmanager
def lab(root: Path, env: Mapping[str, str], kernelspecs: Path, folder: Path) -> Iterator[str]:
    """The address of a JupyterLab, which ends well."""
    own = {f"JUPYTER_{name.upper()}": str(folder / name) for name in ("config_dir", "data_dir", "runtime_dir")}
    settings = folder / "config_dir" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}))
    variables = {**env, **own, "JUPYTER_PATH": str(kernelspecs), "JUPYTER_TOKEN": TOKEN, "IPYTHONDIR": str(folder / "ipython")}
    options = ["--debug", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", f"--ServerApp.root_dir={root}", "--LabApp.extension_manager=readonly"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([str(BIN / "jupyter-lab"), *options], cwd=root, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        said = folder / "runtime_dir" / f"jpserver-{server.pid}.json"
        wait_for(lambda: (said.exists() and said.read_text().endswith("}")) or server.poll() is not None, "JupyterLab to start")
        assert server.poll() is None, (folder / "log").read_text()
        yield str(json.loads(said.read_text())["url"])
    finally:
        server.terminate()
        try:
            code = server.wait(60)
        finally:
            server.kill()
            server.wait()
    text = (folder / "log").read_text()
    assert code == 0, text
    assert not [line for line in text.splitlines() if re.match(r"\[E |Traceback", line)], text


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


class Lab:
    """A JupyterLab that `mltoolkit lab` has become."""

    def __init__(self, place: Place, folder: Path, shown: str = "lab.ipynb") -> None:
        own = {
            f"JUPYTER_{name.upper()}": str(folder / name)
            for name in ("config_dir", "data_dir", "runtime_dir")
        }
        quiet = folder / "config_dir" / "labconfig" / "default_setting_overrides.json"
        quiet.parent.mkdir(parents=True)
        quiet.write_text(
            json.dumps(
                {
                    "@jupyterlab/apputils-extension:notification": {
                        "fetchNews": "false",
                        "checkForUpdates": False,
                    }
                }
            )
        )
        env = {**place.env, **own, "JUPYTER_TOKEN": TOKEN, "IPYTHONDIR": str(folder / "ipython")}
        self.place, self.folder = place, folder
        with open(folder / "out", "w") as out, open(folder / "log", "w") as log:
            command = [
                str(BIN / "mltoolkit"),
                "lab",
                str(place.root / shown),
                "--no-browser",
                "--port",
                "0",
                "--json",
            ]
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=log
            )
        try:
            wait_for(
                lambda: self.said().endswith("}\n") or self.process.poll() is not None,
                "JupyterLab to answer",
                120,
            )
        finally:
            if not self.said():
                self.process.kill()
        self.told = json.loads(self.said())
        self.address = self.told["address"].partition("?")[0]

    def said(self) -> str:
        return (self.folder / "out").read_text()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, what: str, body: dict[str, Any] | None = None, token: str = TOKEN) -> tuple[int, Any]:
        """Ask below /mltoolkit/; return status and answer."""
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(
            f"{self.address}mltoolkit/{what}", None if body is None else json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(
                    answer, parse_constant=pytest.fail
                )  # a browser knows no Infinity
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@contextmanager
def mltoolkit_lab(place: Place, folder: Path, runtime: Path, shown: str = "lab.ipynb") -> Iterator[Lab]:
    """One that is gone afterwards, with all that it started."""
    made = Lab(place, folder, shown)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
        kernels.stop_zygotes()
        wait_for(lambda: not inhabitants(runtime), "JupyterLab, its kernels and MLflow to be gone")


def there(tab: chromium.Tab, wanted: str) -> bool:
    """Whether what has the focus is what is wanted, which a script says of `element`."""
    return bool(tab.run(f"(() => {{ const element = document.activeElement; return {wanted}; }})()"))


def go(tab: chromium.Tab, wanted: str, back: bool = False) -> None:
    """Press Tab until what is wanted has the focus."""
    for _ in range(100):
        if there(tab, wanted):
            return
        tab.press("Tab", shift=back)
    raise AssertionError(f"no Tab leads to {wanted}: {tab.run('document.activeElement.outerHTML')[:300]}")


def choose(tab: chromium.Tab, menu: str, command: str) -> None:
    """Choose from JupyterLab's main menu, by keys."""
    go(tab, "element.matches('.lm-MenuBar-item')")
    for key, shown, wanted in (
        ("ArrowRight", "document.activeElement.textContent", menu),
        ("ArrowDown", "document.querySelector('.lm-Menu-item.lm-mod-active')?.dataset.command", command),
    ):
        for _ in range(40):
            if tab.run(shown) == wanted:
                break
            tab.press(key)
        else:
            raise AssertionError(f"no {key} leads to {wanted}")
        tab.press("Enter")


def unnamed(tab: chromium.Tab, selector: str) -> list[str]:
    """Whatever can be used below an element and has no name for who cannot see it."""
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    found = tab.call("DOM.querySelectorAll", nodeId=root, selector=f"{selector} :is(input, select, button, iframe, [role=slider], [contenteditable=true]:not(.cm-content))")["nodeIds"]
    assert found
    missing = []
    for each in found:
        (node,) = tab.call("Accessibility.getPartialAXTree", nodeId=each, fetchRelatives=False)["nodes"]
        if not node.get("ignored") and not node.get("name", {}).get("value"):
            missing.append(str(node))
    return missing


_CONTRAST = """(() => {
  const parse = text => { const part = text.match(/[\\d.]+/g).map(Number); return text.startsWith('color(srgb') ? part.slice(0, 3).map(each => each * 255).concat(part.slice(3)) : part; };
  const over = (top, below) => { const share = top[3] ?? 1; return [0, 1, 2].map(at => top[at] * share + below[at] * (1 - share)); };
  const light = color => { const [r, g, b] = color.map(each => each / 255).map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const below = element => { const own = parse(getComputedStyle(element).backgroundColor); return (own[3] ?? 1) === 1 ? own.slice(0, 3) : over(own, element.parentElement ? below(element.parentElement) : [255, 255, 255]); };
  const weak = [], seen = [];
  for (const element of document.querySelectorAll(%s)) {
    const text = [...element.childNodes].filter(each => each.nodeType === 3).map(each => each.data.trim()).join('');
    if ((!text && !element.placeholder) || !element.checkVisibility()) continue;
    for (const pseudo of text ? [''] : ['', '::placeholder']) {
      const ground = below(element), [one, two] = [light(over(parse(getComputedStyle(element, pseudo || null).color), ground)), light(ground)].sort((a, b) => b - a);
      const ratio = (one + 0.05) / (two + 0.05);
      seen.push(text);
      if (ratio < 4.5) weak.push(`${text || element.name} ${pseudo} ${element.className} ${ratio.toFixed(2)}`);
    }
  }
  return [seen.length, weak];
})()"""


def contrast(tab: chromium.Tab, selector: str) -> tuple[int, list[str]]:
    """How many texts are seen, and those of them that are less than 4.5 times as light or dark as what is below them."""
    count, weak = tab.run(_CONTRAST % json.dumps(selector))
    return count, weak
