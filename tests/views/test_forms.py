"""A form runs a notebook in the background; a notebook's own form assigns, and is silent at night."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from processes import wait_for

import mltoolkit
from mltoolkit.errors import Invalid, ParameterError, Status
from mltoolkit.notebook import document
from mltoolkit.record import runs
from mltoolkit.record.manifest import Failure, Kernel, Run
from mltoolkit.views import own, style
from mltoolkit.views.background import Background, Progress, progress_html, reason
from mltoolkit.views.forms import result_html

PARAMETERS = "from typing import Annotated\nfrom annotated_types import Ge, Le\nfrom pydantic import SecretStr\nrows: Annotated[int, Ge(1), Le(9)] = 3  # how many\nkey: SecretStr = None\nnote: str"
PICTURE = """
from IPython.display import display
display({"image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "text/plain": "picture"}, raw=True)
"""
TRAIN = [
    "import os\nprint('\\x1b[1mrows', rows, '<script>', note, flush=True)",
    PICTURE,
]
SLOW = "import time\nprint('begun', flush=True)\ntime.sleep(600)"


def test_a_form_is_filled_in_run_and_cancelled(bare_workspace: Path, write: Callable[..., Path]) -> None:
    notebook = write("train.ipynb", *TRAIN, parameters=PARAMETERS)
    form = mltoolkit.form(notebook, {"note": "first"}, track=False, gate=False)
    assert not form.run_button.disabled
    form["note"].control.value = ""
    assert form.run_button.disabled
    assert "must be given" in form["note"].message.value
    form.start()
    assert form.background is None, "a form with a fault does not run"
    form["note"].control.value, form["rows"].control.value, form["key"].control.value = "a 'note'", 5, "hunter2-hunter2"
    assert not form.run_button.disabled
    begun = time.monotonic()
    form.run_button.click()
    assert time.monotonic() - begun < 5, "it does not wait"
    first = form.background
    form.run_button.click()
    assert form.background is first, "one at a time"
    assert (form.run_button.disabled, form.cancel_button.disabled) == (False, False), "what is disabled loses the focus"
    run = form.wait(120)
    assert run is not None, form.live.value
    assert (run.status, run.trigger, run.given, run.secrets) == (Status.succeeded, "interactive", ["note", "rows"], ["key"])
    shown = form.live.value
    assert "data:image/png;base64,iVBOR" in shown
    assert "rows 5 &lt;script&gt; a &#x27;note&#x27;" in shown
    assert "4 of 4 cells" in shown
    assert "hunter2" not in shown
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert (form.run_button.disabled, form.run_button.button_style) == (False, "primary")
    form.cancel_button.click()  # there is nothing to cancel
    assert form.run is run
    form.page_button.value = True
    assert "srcdoc" in form.page.value
    form.page_button.value = False
    assert "srcdoc" not in form.page.value
    form.reset_button.click()
    assert form["note"].control.value == "first"

    document.write(document.read(write("slow.ipynb", SLOW)), notebook)
    slow = mltoolkit.form(notebook, track=False, gate=False)
    slow.run_button.click()
    wait_for(lambda: "begun" in slow.live.value, "what the run says to be shown")
    assert "0 of 1 cells" in slow.live.value
    slow.cancel_button.click()
    assert not slow.cancel_button.disabled, "it keeps the focus"
    stopped = slow.wait(60)
    assert stopped is not None
    assert stopped.status is Status.cancelled
    assert "cancelled" in slow.live.value
    found = runs.load(runs.runs_folder(bare_workspace) / stopped.run_id)
    assert found is not None
    assert found.status is Status.cancelled


def test_what_refuses_a_run_is_shown(bare_workspace: Path, write: Callable[..., Path]) -> None:
    form = mltoolkit.form(write("x.ipynb", "1"), track=False, kernel="no-such-kernel", gate=False)
    assert "takes no parameters" in str(form.widget.children[0].value)
    form.cancel()
    form.run_button.click()
    assert form.wait(60) is None
    assert "no-such-kernel" in form.live.value
    assert not form.run_button.disabled
    form.page_button.value = True
    assert form.page.value == ""


def test_in_a_batch_run_a_form_is_a_table(bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    form = mltoolkit.form(write("x.ipynb", "1", parameters="n: int = 1"))
    assert "application/vnd.jupyter.widget-view+json" in form._repr_mimebundle_()
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", ".")
    assert form._repr_mimebundle_()["text/plain"].startswith("name")
    assert "application/vnd.jupyter.widget-view+json" not in form._repr_mimebundle_()


def test_what_came_of_a_run_is_shown() -> None:
    failed = Run(run_id="1" * 32, status=Status.failed, notebook="x.ipynb", kernel=Kernel(name="python3"), started_at=datetime(2013, 1, 1, tzinfo=UTC), duration_s=2.5,
                 failure=Failure(message="ValueError: <b>"), metrics={"auc": 0.83}, warnings=["slow"], output="gone.ipynb", html="gone.html")  # fmt: skip
    shown = result_html(failed)
    for each in ("✗ failed", "in 2.50 s", "ValueError: &lt;b&gt;", "auc<b>0.83</b>", "! slow", "gone.html"):
        assert each in shown
    assert "<img" not in shown


# --- in the background


def test_painting_is_rare_however_fast_cells_end() -> None:
    from types import SimpleNamespace

    progress = Progress(5000)
    threads: set[str] = set()

    def work(watch: Any, stop: Any) -> str:
        for index in range(5000):
            watch("start", index, SimpleNamespace(source="\n#| hide\nx = 1\n"))
            watch("end", index, None)
        time.sleep(1.0)
        return "done"

    def paint() -> None:
        threads.add(threading.current_thread().name)
        progress_html(progress)

    begun = time.monotonic()
    background = Background(work, paint, watch=progress.note).start()
    assert background.wait(60)
    seconds = time.monotonic() - begun
    assert background.result == "done"
    assert background.paintings <= 5 * seconds + 2
    assert progress.done == 5000
    assert progress.steps[0].title == "x = 1"
    assert "5000 of 5000" in progress_html(progress)
    assert threads == {"mltoolkit"}


def test_a_page_that_is_gone_ends_nothing() -> None:
    def paint() -> None:
        raise RuntimeError("the page is closed")

    background = Background(lambda watch, stop: 1 / 0, paint).start()
    assert background.wait(30)
    assert reason(background.error or Exception()) == "ZeroDivisionError: division by zero"
    background.cancel()
    assert not background.cancelling, "what is over cannot be cancelled"


def test_what_cannot_be_shown_is_said(bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def paint() -> None:
        seen.append(background.html("count"))
        if background.ended and background.error is None:
            raise ValueError("no picture of it")

    background = Background(lambda watch, stop: "3", paint)
    background.start()
    assert background.wait(30)
    assert seen[-1] == '<p class="wrong" role="alert">✗ count: ValueError: no picture of it</p>'
    assert (background.running, background.result) == (False, "3")

    form = mltoolkit.form(write("x.ipynb", "1"))
    done = Run(run_id="1" * 32, status=Status.succeeded, notebook="x.ipynb", kernel=Kernel(name="python3"), started_at=datetime(2013, 1, 1, tzinfo=UTC))
    monkeypatch.setattr("mltoolkit.views.forms.result_html", lambda run: 1 / 0)
    form.background = Background(lambda watch, stop: done, form._paint)
    form.background.start()
    assert form.background.wait(30)
    assert "ZeroDivisionError" in form.live.value


def test_a_run_ends_with_the_kernel_in_which_its_form_is(bare_workspace: Path, write: Callable[..., Path]) -> None:
    write("slow.ipynb", SLOW)
    program = """
import time, mltoolkit
form = mltoolkit.form("slow.ipynb", track=False, gate=False)
form.run_button.click()
while "begun" not in form.live.value and form.background.running:
    time.sleep(0.05)
"""
    subprocess.run([sys.executable, "-c", program], cwd=bare_workspace, check=True, timeout=120)
    (folder,) = (each for each in runs.runs_folder(bare_workspace).iterdir() if each.is_dir())
    found = runs.load(folder)
    assert found is not None
    assert found.status is Status.cancelled


# --- the notebook's own


def test_parameters_and_the_inbox_load_nothing_that_runs() -> None:
    program = "import sys, mltoolkit.views.own, mltoolkit.views.inbox\nprint({'nbclient', 'jupyter_client', 'mltoolkit.execution.run'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_values_are_copied(bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", ".")
    values = mltoolkit.parameters(write("a.ipynb", parameters="n: int = 1"), names={"n": 2})
    assert copy.copy(values).n == copy.deepcopy(values).n == 2
    with pytest.raises(AttributeError):
        pickle.loads(pickle.dumps(values)).other  # noqa: B018, S301


def test_own_parameters_assign_while_exploring(write: Callable[..., Path], bare_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    path = write("explore.ipynb", parameters=PARAMETERS + "\ncodes: set[int] = {1}")
    names: dict[str, Any] = {"rows": 3, "key": None, "note": "x", "codes": {1}}
    values = mltoolkit.parameters(path, names=names)
    assert len(shown) == 1
    fields = values._fields
    assert fields is not None
    fields["rows"].control.value = 7
    fields["codes"].control.value = "[2, 3]"
    fields["key"].control.value = "hunter2"
    assert (names["rows"], names["codes"], names["key"].get_secret_value()) == (7, {2, 3}, "hunter2")
    fields["codes"].control.value = "[2, "
    assert names["codes"] == {2, 3}, "what is wrong is not assigned"
    assert "✗" in fields["codes"].message.value
    assert (values.rows, values["note"], len(values), set(values)) == (7, "x", 4, {"rows", "key", "note", "codes"})
    assert "hunter2" not in repr(values)
    with pytest.raises(AttributeError, match="no parameter 'month'"):
        values.month  # noqa: B018
    values._ipython_display_()
    assert capsys.readouterr().out == "", "it has been shown"
    del names["note"]
    assert len(mltoolkit.parameters(path, names=names)) == 3, "a required one may come from the form"
    with pytest.raises(ParameterError, match="rows"):
        mltoolkit.parameters(path, names={"rows": 77, "key": None, "note": "x", "codes": {1}})

    monkeypatch.setattr(own, "widgets", lambda: (_ for _ in ()).throw(style.MissingExtra("forms need ipywidgets")))
    assert mltoolkit.parameters(path, names=names | {"note": "y"}).note == "y"
    assert "forms need ipywidgets" in (said := capsys.readouterr().out)
    assert "rows = 7" in said
    assert "hunter2" not in said


def test_the_notebook_at_hand(bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython

    shell = type("Shell", (), {"user_ns": {"n": 2}})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", lambda widget: None)
    for name in ("JPY_SESSION_NAME", "IPYNB_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Invalid, match=r"name it, as in `mltoolkit.parameters\('train.ipynb'\)`"):
        mltoolkit.parameters()
    monkeypatch.setenv("JPY_SESSION_NAME", str(write("a.ipynb", parameters="n: int = 1")))
    values = mltoolkit.parameters()
    assert values.n == 2
    assert values._fields is not None
    values._fields["n"].control.value = "3"
    assert shell.user_ns["n"] == 3


def test_a_page_is_framed_or_said_where_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p onclick='x'>")
    assert 'sandbox="" title="&lt;t&gt;" srcdoc="&lt;p' in style.framed(page, "<t>")
    assert "too large" in style.framed(page, "t", limit=3)
    assert "No such file" in style.framed(tmp_path / "gone.html", "t")


def test_own_parameters_need_a_notebook(bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="is for a notebook"):
        mltoolkit.parameters()
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", ".")
    with pytest.raises(Invalid, match="has not been executed: n has no value"):
        mltoolkit.parameters(write("a.ipynb", parameters="n: int = 1"), names={})


def test_a_notebook_that_explores_runs_at_night_unchanged(bare_workspace: Path, write: Callable[..., Path]) -> None:
    notebook = write(
        "explore.ipynb", "import mltoolkit\np = mltoolkit.parameters()\np", "print(p.rows * 2, rows, p['key'].get_secret_value() == 'hunter2' * 2)", parameters=PARAMETERS
    )
    run = mltoolkit.run_notebook(notebook, parameters={"rows": 4, "note": "n"}, secrets={"key": "hunter2hunter2"}, track=False, gate=False)
    cells = [cell for cell in document.read(run.output).cells if cell.cell_type == "code"]
    assert cells[-1].outputs[0].text == "8 4 True\n"
    assert [output.text for output in cells[-2].outputs] == ["rows = 4\nkey = (secret)\nnote = 'n'\n"]
