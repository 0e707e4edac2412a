"""A real Chromium, driven over its DevTools protocol: just enough of it for tests of pages."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]


def require() -> None:
    """Skip where there is no Chromium; in CI, fail."""
    if PROGRAM is None:
        reason = "no chromium on PATH: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Tab:
    """One tab: commands, and the events that came in meanwhile."""

    def __init__(self, address: str) -> None:
        import websocket

        self.socket = websocket.create_connection(address, timeout=60)
        self.number = 0
        self.events: list[dict[str, Any]] = []
        self.dialogs: list[str] = []
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        wanted = self.number
        self.socket.send(json.dumps({"id": wanted, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == wanted:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv())
        if "method" in message:
            self.events.append(message)
            if message["method"] == "Page.javascriptDialogOpening":
                self.dialogs.append(message["params"]["message"])
                self.number += 1
                answer = {"id": self.number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                self.socket.send(json.dumps(answer))
        return message

    def wait(self, event: str) -> None:
        while not any(seen["method"] == event for seen in self.events):
            self._receive()

    def open(self, address: str) -> None:
        """Load a page to its end, and forget what happened before."""
        self.events.clear()
        self.dialogs.clear()
        self.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return what a script evaluates to."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def media(self, scheme: str = "light", kind: str = "screen") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def size(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, path: Path, whole: bool = False) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def until(self, script: str, what: str, within: float = 60.0) -> Any:
        """Wait until a script evaluates to something true, and return it; fail, saying what was waited for, if it never does."""
        deadline = time.monotonic() + within
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"waited {within:g} s for: {what}"
            time.sleep(0.05)
        return value

    def click(self, selector: str, text: str = "", button: str = "left") -> None:
        """Click the middle of the first element that can be seen, that holds the text, and that nothing covers."""
        found = self.until(_PLACE % (json.dumps(selector), json.dumps(text)), f"{selector} {text}")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **found)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button=button, clickCount=1, **found)

    def press(self, key: str, shift: bool = False, alt: bool = False, control: bool = False) -> None:
        """Press a key and let it go: a letter, a digit, or one with a name."""
        named = {"Tab": 9, "Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        number = named.get(key) or ord(key.upper())
        code = key if len(key) > 1 else "Space" if key == " " else f"Digit{key}" if key.isdigit() else f"Key{key.upper()}"
        text = {} if alt or control else {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        names = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": alt + 2 * control + 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **text, **names)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    def type(self, text: str) -> None:
        """Put a text where the focus is."""
        self.call("Input.insertText", text=text)

    def complaints(self) -> list[str]:
        """Return what was thrown, and what went to the console as an error, since the page was opened."""
        found = []
        for seen in self.events:
            told = seen["params"]
            if seen["method"] == "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                found.append(str(details.get("exception", {}).get("description") or details["text"]))
            elif seen["method"] == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
                found.append(" ".join(str(each.get("value", each.get("description"))) for each in told["args"]))
            elif seen["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        return found

    def requests(self) -> list[str]:
        """Return the addresses asked for since the page was opened, but what it holds itself."""
        asked = (seen for seen in self.events if seen["method"] == "Network.requestWillBeSent")
        return [seen["params"]["request"]["url"] for seen in asked if seen["params"]["request"]["url"][:5] != "data:"]


_PLACE = """((selector, text) => {
  for (const element of document.querySelectorAll(selector)) {
    const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
    const top = box.width && box.height && element.textContent.includes(text) ? document.elementFromPoint(x, y) : null;
    if (top && (element.contains(top) || top.contains(element))) return {x, y};
  }
  return null;
})(%s, %s)"""


@contextmanager
def browser() -> Iterator[Tab]:
    """Yield a tab of a new Chromium with a profile of its own; both are gone afterwards."""
    require()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(PROGRAM), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            tab = Tab(_address(process, Path(profile)))
            with closing(tab.socket):
                yield tab
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    import urllib.request

    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.exists() and (lines := port_file.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise RuntimeError(f"chromium did not start (exit code {process.poll()})")
