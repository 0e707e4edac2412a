"""What JupyterLab's forms show, how what is typed is read, and what the panel is told; test_labextension_browser.py has the forms themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from mltoolkit.errors import Invalid, ParameterError
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook.parameters import Contract, read_cell
from mltoolkit.views import lab_answers, lab_forms

CELL = """from datetime import date
from typing import Literal
from pydantic import SecretStr
limit: float = float("inf")  # of what it costs
day: date | None = None
fast: bool = True
size: Literal["s", "m"] | None
steps: list[int] = [1]
tags: dict[str, int] = {}
host = "localhost"
where: str = str(len("x"))
key: SecretStr"""


def told() -> Contract:
    return Contract(read_cell(CELL), 0)


def test_each_field_says_what_is_to_be_drawn() -> None:
    drawn = {each["name"]: each for each in lab_forms.fields(told())}
    assert {name: each["options"] for name, each in drawn.items() if each["options"]} == {"fast": ["True", "False"], "size": ["s", "m", "None"]}
    assert {name: each["value"] for name, each in drawn.items()} == {
        "limit": "Infinity", "day": "None", "fast": "True", "size": None, "steps": "[1]", "tags": "{}", "host": "localhost", "where": None, "key": None,
    }  # fmt: skip
    assert [name for name, each in drawn.items() if each["required"]] == ["size", "key"]
    assert (drawn["limit"]["help"], drawn["where"]["source"], drawn["key"]["wanted"]) == ("of what it costs", 'str(len("x"))', "a secret")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("inf", "limit", float("inf")), ("2013-04-01", "day", "2013-04-01"), ("None", "day", None), ("False", "fast", False), ("None", "size", None), ("[2, 3]", "steps", [2, 3]),
        ('{"a": 1}', "tags", {"a": 1}), ("{{x}}", "host", "{{x}}"), ("{logical_date:%Y}", "limit", "{logical_date:%Y}"), ("file:~/key", "key", {"file": "~/key"}), ("", "where", ""),
    ],
)  # fmt: skip
def test_what_is_typed_is_read_as_on_the_command_line(text: str, name: str, value: Any) -> None:
    given = {"size": "s", "key": "env:KEY", name: text}
    read = lab_forms.understood(told(), given)[name]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("many", "limit", "got 'many'"), ("xl", "size", "got 'xl'"), ("hunter2", "key", "env:VARIABLE or file:PATH"), ("env:", "key", "env:VARIABLE"), ("{never}", "host", "no field of a template"),
        ("}", "limit", "a single"), (3, "host", "a text is needed"), ("1", "limt", "did you mean 'limit'"), ("[", "steps", "got '['"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_field_and_all_at_once(text: Any, name: str, problem: str) -> None:
    with pytest.raises(ParameterError) as caught:
        lab_forms.understood(told(), {"key": "env:KEY", name: text})
    problems = caught.value.fields["problems"]
    assert set(problems) == {name, "size"}
    assert problem in problems[name]
    assert "hunter2" not in str(caught.value)
    assert name == "size" or problems["size"].startswith("must be given: Literal")


def test_the_next_times_are_told_while_somebody_types() -> None:
    at = datetime(2013, 3, 30, 23, tzinfo=UTC)
    assert lab_forms.due({"cron": "30 2 * * *", "timezone": "Europe/Berlin"}, at)["next"][1] == "2013-04-01T02:30:00+02:00"
    assert "either, not both" in lab_forms.due({"cron": "0 0 1 * 1"}, at)["remarks"][0]
    assert lab_forms.due({"cron": "61 * * * *", "timezone": "Mars"})["next"] == []
    assert set(lab_forms.due({"cron": "61 * * * *", "timezone": "Mars"})["problems"]) == {"cron", "timezone"}
    assert set(lab_forms.due({})["problems"]) == {"cron"}


def test_a_form_knows_the_jobs_of_its_notebook_and_a_name_for_the_next(workspace: Path, write: Callable[..., Path]) -> None:
    path = write("projects/flights/02 train ü.ipynb", "depth", parameters="depth: int")
    other = write("other.ipynb", "1")
    shown, done = lab_answers.SHOWN, lab_answers.DONE
    asked = {"path": path.relative_to(workspace).as_posix()}
    form = shown["form"](workspace, asked)
    assert (form["name"], form["jobs"], form["note"]) == ("02-train", [], "")
    for texts, job, problems in (
        ({}, {"schedule": {"cron": "daily"}}, {"parameters.depth", "cron"}),
        ({"depth": "x"}, {"schedule": {}}, {"parameters.depth", "cron"}),
        ({"depth": "1"}, {"schedule": {"cron": "@daily", "catch_up": "never"}}, {"catch_up"}),
    ):
        with pytest.raises(Invalid) as caught:
            done["schedule"](workspace, {**asked, "name": "02-train", "texts": texts, "job": job})
        assert set(caught.value.fields["problems"]) == problems
    with pytest.raises(Invalid, match="by name"):
        done["schedule"](workspace, {**asked, "name": "02-train", "texts": []})
    assert not (path.parent / "jobs.yaml").exists()
    assert done["schedule"](workspace, {**asked, "name": "02-train", "texts": {"depth": "3"}, "job": {"schedule": {"cron": "@daily"}}})["job"] == "flights/02-train"
    assert yaml.safe_load((path.parent / "jobs.yaml").read_text())["jobs"]["02-train"]["parameters"] == {"depth": 3}
    form = shown["form"](workspace, asked)
    assert (form["name"], form["jobs"]) == ("02-train-2", [{"job": "flights/02-train", "schedule": "@daily UTC"}])
    form = shown["form"](workspace, {"path": other.name})
    assert (form["name"], form["jobs"], form["fields"]) == ("other", [], [])
    assert form["note"].startswith("This notebook takes no parameters")
    with pytest.raises(Invalid) as caught:
        done["schedule"](workspace, {"path": other.name, "name": "other", "texts": {"depth": "3"}})
    assert "no cell of the notebook is tagged" in str(caught.value)


def test_the_panel_is_told_why_a_job_did_not_succeed(workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from mltoolkit.scheduling.store import INSTANCES, open_store

    write("night.ipynb", "1")
    monkeypatch.setattr(lab_answers, "_work", lambda *given: None)
    lab_answers.DONE["schedule"](workspace, {"path": "night.ipynb", "name": "night"})
    (key,) = lab_answers.DONE["run"](workspace, {"job": "night", "date": "2013-01-01"})["keys"]
    (row,) = lab_answers.SHOWN["jobs"](workspace, {"path": "night.ipynb"})["jobs"]
    assert (row["notebook"], row["reason"], row["open"]) == ("night.ipynb", "", 1)
    store = open_store(workspace)
    store.write(lambda connection: connection.execute(INSTANCES.update().where(INSTANCES.c.key == key).values(state="failed", reason="it is too dark", ended=1.0)))
    store.close()
    (row,) = lab_answers.SHOWN["jobs"](workspace, {})["jobs"]
    assert (row["last_state"], row["reason"], row["open"]) == ("failed", "it is too dark", 0)


def test_to_look_at_a_folder_that_is_no_workspace_leaves_nothing_there(tmp_path: Path) -> None:
    assert lab_answers.SHOWN["jobs"](tmp_path, {}) == {"jobs": [], "findings": []}
    assert lab_answers.SHOWN["runs"](tmp_path, {}) == []
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_a_run_is_handed_over_or_it_is_said_why_not(workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("night.ipynb", "print('dark')")
    run = run_notebook(path, track=False, warm=False)
    page = lab_answers.SHOWN["page"]
    told = page(workspace, {"path": "night.ipynb", "run": run.run_id})
    assert told["title"] == "night (succeeded)"
    assert "dark" in told["html"]
    monkeypatch.setattr(lab_forms, "_MOST", 10)
    with pytest.raises(Invalid, match="too large"):
        page(workspace, {"run": run.run_id})
    os.unlink(str(run.html))
    with pytest.raises(Invalid, match="has no page here"):
        page(workspace, {"run": run.run_id})
    with pytest.raises(Invalid, match="run"):
        page(workspace, {})
