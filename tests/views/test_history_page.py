"""`mltoolkit jobs history --page` writes what really ran as a page that is one with the others: inert, readable in light and dark, with links to the runs."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from lab_of_tests import contrast
from processes import BIN, Marked

from mltoolkit.scheduling.history import Entry
from mltoolkit.scheduling.store import State
from mltoolkit.views.history import page

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
import chromium  # noqa: E402

JOBS = """jobs:
  good: {notebook: good.ipynb}
  bad: {notebook: bad.ipynb}
"""


def test_the_history_of_jobs_as_a_page(workspace: Path, write: Callable[..., Path], tiny: str, mark: Marked) -> None:
    def ask(*arguments: str, code: int = 0) -> str:
        done = mark.run(BIN / "mltoolkit", "jobs", *arguments, cwd=workspace)
        assert done.returncode == code, done.stdout + done.stderr
        return str(done.stdout)

    write("good.ipynb", "1 + 1", kernel=tiny)
    write("bad.ipynb", "raise ValueError('<script>alert(1)</script>')", kernel=tiny)
    (workspace / "jobs.yaml").write_text(JOBS)
    assert ask("history", "--page", "empty.html") == "empty.html: 0 instances\n"
    assert "nothing yet" in (workspace / "empty.html").read_text()
    ask("run", "good", "--date", "2013-03-01")
    ask("run", "bad", "--date", "2013-03-01", code=1)
    (workspace / "out").mkdir()
    assert json.loads(ask("history", "--page", "out/history.html", "--json")) == {"page": "out/history.html", "instances": 2}
    text = (workspace / "out/history.html").read_text()
    assert "1 succeeded" in text
    assert "1 failed" in text
    assert "ValueError: &lt;script&gt;" in text
    assert "<script" not in text
    assert "default-src 'none'" in text
    links = re.findall(r'<td><a href="([^"]+)">', text)
    assert len(links) == 2
    assert all((workspace / "out" / link).is_file() for link in links)
    assert ask("history", "good", "--page", "good.html") == "good.html: 1 instance\n"
    refused = mark.run(BIN / "mltoolkit", "jobs", "history", "--page", "x.html", "--summary", cwd=workspace)
    assert (refused.returncode, "choose one" in refused.stderr) == (2, True)


def test_it_can_be_read_in_light_and_dark(tmp_path: Path) -> None:
    chromium.require()
    states = [State.succeeded, State.failed, State.running, State.approval, State.waiting, State.skipped]
    entries = [
        Entry(
            f"delays/train@2013-0{number}-01T02:30:00", "delays/train", f"2013-0{number}-01T02:30:00", state, "the notebook failed: ValueError" if state is State.failed else "", "tick", number,
            "", f"2013-0{number}-01T02:31:00+01:00", None, None, 75.0, 60.0, 300_000_000, f"{number}" * 32, approved_by="ada" if number == 1 else None, approved_at="2013-01-01T08:00:00+01:00", note="as good as before",
        )
        for number, state in enumerate(states, 1)
    ]  # fmt: skip
    (path := tmp_path / "history.html").write_text(page(entries, title="History of delays/train"))
    with chromium.browser() as tab:
        tab.size(1300, 700)
        for scheme in ("light", "dark"):
            tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            tab.open(path.as_uri())
            count, weak = contrast(tab, "body *")
            assert (count > 20, weak) == (True, [])
            tab.screenshot(Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"history-{scheme}.png")
        assert tab.complaints() == []
