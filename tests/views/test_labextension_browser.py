"""A real JupyterLab in a real browser: notebooks are scheduled and run from its menus, findings stand beside cells, and what goes wrong is said."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from conftest import notebook_of
from lab_of_tests import Lab, Page, choose, contrast, go, mltoolkit_lab, unnamed
from processes import BIN, wait_for
from warm import Place, runtime_folder

from mltoolkit.notebook import document

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
import chromium  # noqa: E402

PARAMETERS = """from typing import Annotated, Literal

from annotated_types import Ge, Le

month: Annotated[int, Ge(1), Le(12)]  # of the flights
carrier: Literal["UA", "DL"] = "UA"  # whose flights
token: str = "a"  # of the data"""
NOTEBOOK = "night.ipynb"
PATH = "path = '/home/me/data.csv'\nprint(path)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, prepared_store: Path) -> Iterator[Lab]:
    """A workspace whose notebooks have parameters, none, an end in the middle, and a place elsewhere."""
    folder = tmp_path_factory.mktemp("labextension")
    with runtime_folder() as runtime:
        place = Place.make(folder / "workspace", "sqlite3")
        document.write(notebook_of("print(month, carrier)", PATH, parameters=PARAMETERS), place.root / NOTEBOOK)
        document.write(notebook_of("print(1)"), place.root / "plain.ipynb")
        (place.root / "broken.ipynb").write_text('{"cells": [')
        document.write(notebook_of("print(2)"), folder / "elsewhere.ipynb")
        (place.root / "outside.ipynb").symlink_to(folder / "elsewhere.ipynb")
        (place.root / ".mltoolkit").mkdir()
        shutil.copy(prepared_store, place.root / ".mltoolkit" / "mlflow.db")
        with mltoolkit_lab(place, folder, runtime, NOTEBOOK) as made:
            yield made


@pytest.fixture(scope="module")
def tab(lab: Lab) -> Iterator[chromium.Tab]:
    """The page of it, at the notebook, with the side panel open."""
    with chromium.browser() as tab:
        tab.size(1400)
        tab.call("Accessibility.enable")
        tab.open(lab.told["address"])
        Page(tab).kernel("Python 3 (ipykernel)")
        tab.press("j", alt=True, shift=True)
        tab.until("document.querySelector('.mlt-panel').innerText.includes('No runs yet')", "the panel")
        yield tab


def panel(tab: chromium.Tab) -> str:
    return str(tab.run("document.querySelector('.mlt-panel').innerText"))


def until_panel(tab: chromium.Tab, text: str, within: float = 60.0) -> None:
    tab.until(f"document.querySelector('.mlt-panel').innerText.includes({json.dumps(text)})", f"the panel to say {text}", within)


def until_dialog(tab: chromium.Tab, title: str) -> None:
    tab.until(f"document.querySelector('.jp-Dialog')?.innerText.includes({json.dumps(title)})", f"the dialog {title}")


def until_closed(tab: chromium.Tab) -> None:
    tab.until("!document.querySelector('.jp-Dialog')", "the dialog to be closed")


def problems(tab: chromium.Tab) -> dict[str, str]:
    """What the form says is wrong, by field; what it says above all by an empty name."""
    script = """[...document.querySelectorAll('.mlt-field')].map(each => [each.querySelector('input, select').name, each.querySelector('.mlt-problem').textContent])
        .concat([['', document.querySelector('.mlt-alert').textContent]]).filter(each => each[1])"""
    return dict(tab.run(script))


def focused(tab: chromium.Tab) -> str:
    return str(tab.run("document.activeElement.name || document.activeElement.textContent.trim()"))


def fill(tab: chromium.Tab, name: str, text: str) -> None:
    tab.click(f".mlt-form [name='{name}']")
    tab.run("document.activeElement.select()")
    tab.type(text)


def from_browser(tab: chromium.Tab, notebook: str, command: str) -> None:
    """Choose from the context menu of a file."""
    tab.click(".jp-DirListing-item", notebook, button="right")
    tab.click(f".lm-Menu-item[data-command='mltoolkit:{command}']")


def palette(tab: chromium.Tab, text: str) -> None:
    """Choose from the palette, by keys."""
    tab.press("C", control=True, shift=True)
    tab.until("document.activeElement.matches('.jp-ModalCommandPalette input')", "the palette")
    tab.type(text)
    tab.until("!!document.querySelector('.lm-CommandPalette-item.lm-mod-active')", f"{text} in the palette")
    tab.press("Enter")


def assert_readable(tab: chromium.Tab) -> None:
    count, weak = contrast(tab, ".mlt-panel *, .mlt-form *, .mlt-mark")
    assert count > 10
    assert weak == []


def assert_quiet(tab: chromium.Tab, refused: str = "400") -> None:
    """Nothing is in the console but that the server refused what was to be refused, and that a test left the page."""
    heard = [each for each in tab.complaints() if "'beforeunload'" not in each]
    assert [each for each in heard if f"status of {refused}" not in each or "/mltoolkit/" not in each] == []
    tab.events.clear()


# --- findings


def test_findings_are_beside_cells(lab: Lab, tab: chromium.Tab) -> None:
    mark = ".jp-Notebook .jp-Cell[data-windowed-list-index='2'] > .mlt-mark"
    tab.until(f"!!document.querySelector({json.dumps(mark)})", "a finding in the margin")
    assert "MLT205: 'path' is a path" in tab.run(f"document.querySelector({json.dumps(mark)}).title")
    assert unnamed(tab, ".jp-Notebook .jp-Cell[data-windowed-list-index='2']") == []
    tab.click(mark)
    assert tab.run("document.activeElement.closest('.mlt-panel') && document.activeElement.innerText").startswith("! warning")
    tab.press("Enter")  # leads back to the cell
    tab.until("!!document.querySelector('.jp-Cell[data-windowed-list-index=\"2\"].jp-mod-active')", "the cell to be active")
    saved = document.read(lab.place.root / NOTEBOOK)
    tab.run(f"document.querySelector({json.dumps(mark)}).focus()")
    tab.press("Enter")  # and the other way, by keys: the notebook does not take it for itself
    tab.until("!!document.activeElement.closest('.mlt-panel')", "the finding in the panel")
    tab.click(".jp-Cell[data-windowed-list-index='2'] .cm-content")
    tab.press("A", control=True)
    tab.type("print(1)")
    tab.press("S", control=True)
    tab.until(f"!document.querySelector({json.dumps(mark)})", "the finding to be gone when it is saved")
    document.write(nbformat.from_dict(saved), lab.place.root / NOTEBOOK)
    assert unnamed(tab, ".mlt-panel") == []
    assert_quiet(tab)


# --- jobs


def test_a_notebook_is_scheduled_from_the_file_browser(lab: Lab, tab: chromium.Tab, tmp_path: Path) -> None:
    from_browser(tab, NOTEBOOK, "schedule")
    until_dialog(tab, f"Schedule {NOTEBOOK}")
    assert unnamed(tab, ".jp-Dialog") == []
    tab.click(".jp-Dialog button", "Schedule")
    tab.until("!!document.querySelector('.mlt-problem:not(:empty)')", "the refusal")
    assert list(problems(tab)) == ["cron", "parameters.month"]
    assert "must be given: int (1 to 12)" in problems(tab)["parameters.month"]
    assert focused(tab) == "cron"
    tab.type("61 2 1 * *")
    tab.until("document.querySelector('[name=cron] ~ .mlt-problem').innerText.includes('range')", "what is typed to be held against the rules")
    fill(tab, "cron", "30 2 1 * *")
    fill(tab, "timezone", "Europe/Berlin")
    tab.until("/^Next: \\d{4}-\\d\\d-01 02:30, /.test(document.querySelector('.mlt-next').innerText)", "the next times")
    fill(tab, "parameters.month", "13")
    fill(tab, "parameters.token", "{ never")
    tab.press("Enter")
    tab.until("document.querySelector('[name=\"parameters.month\"]').ariaInvalid === 'true'", "the refusal")
    assert list(problems(tab)) == ["parameters.month", "parameters.token"]
    assert "got 13" in problems(tab)["parameters.month"]
    assert not (lab.place.root / "jobs.yaml").exists()
    tab.screenshot(tmp_path / "refused.png")
    assert_readable(tab)
    fill(tab, "parameters.token", "{{}}")
    fill(tab, "parameters.month", "{logical_date:%m}")
    tab.press("Enter")
    until_closed(tab)
    assert yaml.safe_load((lab.place.root / "jobs.yaml").read_text()) == {
        "jobs": {
            "night": {
                "notebook": NOTEBOOK,
                "schedule": {"cron": "30 2 1 * *", "timezone": "Europe/Berlin"},
                "parameters": {"month": "{logical_date:%m}", "token": "{{}}"},
            }
        }
    }
    until_panel(tab, "never run")
    assert "night" in panel(tab)
    assert_quiet(tab)


def test_a_notebook_is_run_with_keys_only(lab: Lab, tab: chromium.Tab, tmp_path: Path) -> None:
    tab.click(".jp-Cell[data-windowed-list-index='0'] .cm-content")  # where somebody works
    palette(tab, "Run as job")
    until_dialog(tab, f"Run {NOTEBOOK} as a job")
    assert focused(tab) == "job"
    tab.press("End")  # a new job
    for name in ("name", "parameters.month"):
        tab.press("Tab")
        assert focused(tab) == name
    tab.type("4")
    tab.press("Tab")
    assert focused(tab) == "parameters.carrier"
    tab.press("ArrowDown")
    tab.press("Tab")
    tab.press("Tab")
    assert focused(tab) == "date"
    tab.type("2013-01-32")
    tab.press("Enter")
    tab.until("!!document.querySelector('.mlt-alert:not(:empty)')", "the refusal of the date")
    assert "2013-01-32" in problems(tab)[""]
    tab.run("document.querySelector('[name=date]').select()")
    tab.type("2013-01-01")
    tab.press("Tab")
    assert focused(tab) == "Cancel"
    tab.press("Tab")
    assert focused(tab) == "Run"
    tab.press("Enter")
    until_closed(tab)
    jobs = yaml.safe_load((lab.place.root / "jobs.yaml").read_text())["jobs"]
    assert jobs["night-2"] == {"notebook": NOTEBOOK, "parameters": {"month": 4, "carrier": "DL"}}
    tab.until("document.querySelector('[data-job=night-2]')?.innerText.includes('in progress')", "the panel to show that it runs")
    tab.until("document.querySelector('[data-job=night-2]')?.innerText.includes('succeeded')", "the panel to show its end", 120)
    tab.until("document.querySelector('[data-run]')?.innerText.includes('succeeded')", "the run")
    tab.run("document.querySelector('[data-run]').focus()")
    tab.press("Enter")
    tab.until("!!document.querySelector('iframe.mlt-page')", "the page of the run")
    assert "4 DL" in tab.run("document.querySelector('iframe.mlt-page').srcdoc")
    assert unnamed(tab, ".jp-MainAreaWidget") == []
    tab.screenshot(tmp_path / "page.png")
    assert_quiet(tab)


def test_a_notebook_is_scheduled_with_keys_only_and_seen_to_run(lab: Lab, tab: chromium.Tab, tmp_path: Path) -> None:
    tab.click(".lm-TabBar-tab", NOTEBOOK)
    choose(tab, "mltoolkit", "mltoolkit:schedule")
    until_dialog(tab, f"Schedule {NOTEBOOK}")
    for name, text in (("name", "each-minute"), ("cron", "* * * * *"), ("parameters.month", "7")):
        go(tab, f"element.name === {json.dumps(name)}")
        tab.press("A", control=True)
        tab.type(text)
    go(tab, "element.matches('.jp-Dialog button') && element.textContent === 'Schedule'")
    tab.press("Enter")
    until_closed(tab)
    assert yaml.safe_load((lab.place.root / "jobs.yaml").read_text())["jobs"]["each-minute"]["schedule"]["cron"] == "* * * * *"
    job = "document.querySelector('[data-job=each-minute]')?.innerText"
    tab.until(f"{job}?.includes('never run')", "the job in the panel")
    with (tmp_path / "log").open("w") as log:
        serving = subprocess.Popen([str(BIN / "mltoolkit"), "serve"], cwd=lab.place.root, env=lab.place.env, stdout=log, stderr=log)
    try:
        tab.until(f"{job}?.includes('succeeded')", "the panel to show that its time came", 150)
    finally:
        serving.terminate()
        serving.wait(60)
    tab.screenshot(tmp_path / "scheduled.png")
    assert_quiet(tab)


def test_it_is_readable_in_light_and_dark(lab: Lab, tab: chromium.Tab, tmp_path: Path) -> None:
    tab.click(".lm-TabBar-tab", NOTEBOOK)
    for name in ("light", "dark"):
        if name == "dark":
            palette(tab, "JupyterLab Dark")
            tab.until("document.body.dataset.jpThemeName === 'JupyterLab Dark'", "the dark theme")
        tab.press("S", alt=True, shift=True)
        until_dialog(tab, f"Schedule {NOTEBOOK}")
        assert_readable(tab)
        tab.screenshot(tmp_path / f"form-{name}.png")
        tab.press("Escape")
        until_closed(tab)
        tab.screenshot(tmp_path / f"panel-{name}.png")
        assert_readable(tab)
    assert_quiet(tab)


def asked(tab: chromium.Tab) -> int:
    return sum("/mltoolkit/" in each for each in tab.requests())


def test_a_panel_that_nobody_sees_asks_for_nothing(tab: chromium.Tab) -> None:
    wake = "document.dispatchEvent(new Event('visibilitychange'))"
    tab.run(wake)
    wait_for(lambda: asked(tab) + bool(tab.run("0")) >= 2, "the panel to look for jobs and runs")
    tab.click(".jp-SideBar .lm-TabBar-tab[data-id='mltoolkit-jobs-and-runs']")
    tab.until("!document.querySelector('.mlt-panel').checkVisibility()", "the panel to be hidden")
    before = asked(tab)
    tab.run(wake)
    tab.run("fetch('/api')")  # whatever had been asked before is asked by now
    assert asked(tab) == before
    tab.press("J", alt=True, shift=True)
    wait_for(lambda: asked(tab) + bool(tab.run("0")) >= before + 2, "the panel to look again when it is seen")


# --- what goes wrong


@pytest.mark.parametrize(("notebook", "problem"), [("broken.ipynb", "not valid JSON"), ("outside.ipynb", "outside")])
def test_what_cannot_be_a_job_is_said(notebook: str, problem: str, tab: chromium.Tab) -> None:
    from_browser(tab, notebook, "run-as-job")
    until_dialog(tab, problem)
    tab.press("Enter")
    until_closed(tab)
    assert_quiet(tab)


def test_a_notebook_without_parameters_has_none_to_give(tab: chromium.Tab) -> None:
    from_browser(tab, "plain.ipynb", "run-as-job")
    until_dialog(tab, "This notebook takes no parameters")
    assert focused(tab) == "name"
    tab.press("Escape")
    until_closed(tab)
    assert_quiet(tab)


def test_a_job_store_out_of_reach_is_said_and_the_runs_are_there(lab: Lab, tab: chromium.Tab) -> None:
    ini = lab.place.root / "settings.ini"
    before = ini.read_text()
    ini.write_text(f"{before}job_store = postgresql://127.0.0.1:1/jobs\n")
    tab.click(".mlt-panel button", "Refresh")
    until_panel(tab, "The jobs cannot be shown.")
    assert "127.0.0.1" in panel(tab)
    assert tab.run("document.querySelectorAll('[data-run]').length") >= 2
    ini.write_text(before)
    tab.click(".mlt-panel button", "Refresh")
    tab.until("!!document.querySelector('[data-job=night]')", "the jobs to be back")
    assert_quiet(tab, "503")


def answered(tab: chromium.Tab, status: int, body: str) -> None:
    """Answer what is asked below /mltoolkit/ in the server's place, until the tab is asked something else."""
    while waiting := [each for each in tab.events if each["method"] == "Fetch.requestPaused"]:
        for each in waiting:
            tab.events.remove(each)
            encoded = base64.b64encode(body.encode()).decode()
            tab.call("Fetch.fulfillRequest", requestId=each["params"]["requestId"], responseCode=status, body=encoded)


@pytest.mark.parametrize(("status", "said"), [(500, "JupyterLab's server answered with 500."), (404, "JupyterLab's server has no mltoolkit.")])
def test_a_server_that_fails_is_said_once(status: int, said: str, lab: Lab, tab: chromium.Tab) -> None:
    tab.call("Fetch.enable", patterns=[{"urlPattern": "*/mltoolkit/*"}])
    tab.open(lab.told["address"])

    def seen() -> Any:
        answered(tab, status, "<html>no</html>")
        return tab.run(f"(document.querySelector('.mlt-panel')?.innerText ?? '').split({json.dumps(said)}).length === 4")

    wait_for(seen, f"the panel to say {said} of the notebook, jobs and runs")
    toasts = f"[...document.querySelectorAll('.Toastify__toast')].filter(each => each.innerText.includes({json.dumps('mltoolkit: ' + said)})).length"
    tab.until(f"{toasts} === 1", "the notification")
    if status == 404:
        before = asked(tab)
        tab.click(".mlt-panel button", "Refresh")
        palette(tab, "Run as job")
        until_dialog(tab, said)
        tab.press("Enter")
        until_closed(tab)
        assert asked(tab) == before  # it stays quiet
    assert tab.run(toasts) == 1
    assert_quiet(tab, str(status))
    tab.call("Fetch.disable")


def test_the_server_had_nothing_to_complain_about(lab: Lab) -> None:
    assert "Traceback" not in lab.log()
