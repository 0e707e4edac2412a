"""jobs.yaml, from its text to what a run is given."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import yaml

from mltoolkit.errors import Invalid, ParameterError, Status
from mltoolkit.scheduling.jobs import (
    Job,
    Jobs,
    Retries,
    load,
    parameters_for,
    read,
    reference,
    resolve_secrets,
)
from mltoolkit.scheduling.specification import JobSpec, schema

PARAMETERS = {
    "prepare": "month: Annotated[int, Field(ge=1, le=12)] = 1\nsample: float = 1.0",
    "train": "months: list[int] = [1]\nday: date = None\napi_key: SecretStr = None\noptions: dict[str, str] = {}\nfree = None",
    "evaluate": "model_run: str\nmonth: int = 3\nlimit: float = 0.5",
}
CHAIN = """
jobs:
  evaluate:
    notebook: evaluate.ipynb
    needs: [train]
    parameters: {model_run: "{train.run_id}", limit: "{train.metrics.auc}", month: "{logical_date-1mo:%m}"}
  train:
    notebook: train.ipynb
    needs: prepare
    parameters: {months: ["{logical_date-2mo:%m}"], day: "{logical_date-1d}", api_key: {env: WEATHER_KEY}}
  prepare:
    notebook: prepare.ipynb
    parameters: {month: "{logical_date-1mo:%m}"}
    schedule: {cron: "30 2 1 * *", timezone: Europe/Berlin}
"""


@pytest.fixture
def flights(bare_workspace: Path, write: Callable[..., Path]) -> Callable[..., Path]:
    """Writes projects/NAME/jobs.yaml, beside three notebooks."""

    def writing(text: str, name: str = "flights") -> Path:
        folder = bare_workspace / "projects" / name if name else bare_workspace
        for notebook, declared in PARAMETERS.items():
            write(folder / f"{notebook}.ipynb", parameters=declared)
        (folder / "jobs.yaml").write_text(text)
        return folder / "jobs.yaml"

    return writing


def one(fields: str, notebook: str = "prepare.ipynb") -> str:
    """A jobs.yaml with one job `it`, whose further fields begin in line 4."""
    return f"jobs:\n  it:\n    notebook: {notebook}\n" + "".join(f"    {line}\n" for line in fields.splitlines())


def said(path: Path) -> list[str]:
    """What is wrong, a line each: line number, code, message."""
    return [f"{each.line} {each.code} {each.message}" for each in load(path, strict=False).findings]


# --- reading


def test_a_chain_is_read_in_the_order_of_its_needs(flights: Callable[..., Path]) -> None:
    path = flights(CHAIN)
    jobs = load()
    assert list(jobs) == ["flights/prepare", "flights/train", "flights/evaluate"]
    assert [job.id for job in jobs.order()] == list(jobs)
    assert len(jobs) == 3
    assert not jobs.findings
    train = jobs["flights/train"]
    assert (train.project, train.file, train.line, train.timezone) == ("flights", path, 7, "Europe/Berlin")
    assert train.notebook == path.parent / "train.ipynb"
    assert train.needs == ("flights/prepare",)
    assert jobs.find("train") is jobs.find("flights/train") is train
    assert [job.name for job in jobs.upstream("train")] == ["prepare"]
    assert [job.name for job in jobs.downstream("prepare")] == ["train"]
    assert [job.name for job in jobs.downstream("prepare", indirect=True)] == ["train", "evaluate"]
    assert jobs.downstream("evaluate", indirect=True) == []
    assert read(path) == dict(jobs)
    assert Job.model_validate_json(train.model_dump_json()) == train


def test_a_workspace_without_jobs_has_none(bare_workspace: Path) -> None:
    assert dict(load()) == {}
    with pytest.raises(Invalid, match="no job is called 'train'; none is known"):
        load().find("train")


def test_names_are_found_across_projects(flights: Callable[..., Path]) -> None:
    flights(CHAIN)
    flights(one("needs: [flights/train, shared]", "evaluate.ipynb").replace("    needs", "    parameters: {model_run: a}\n    needs"), "trains")
    flights("jobs: {shared: {notebook: prepare.ipynb, schedule: {cron: '30 2 1 * *', timezone: Europe/Berlin}}, train: {notebook: train.ipynb}}", "")
    jobs = load()
    assert jobs["trains/it"].needs == ("flights/train", "shared")
    assert jobs["shared"].project is None
    assert jobs.find("it").id == "trains/it"
    assert jobs.find("train").id == "train", "the full name of a job of the workspace"
    assert [job.id for job in jobs.downstream("shared")] == ["trains/it"]
    assert set(read(Path("projects/trains/jobs.yaml"))) == {"trains/it"}
    with pytest.raises(Invalid, match="no job is called 'prepear'; did you mean 'prepare'"):
        jobs.find("prepear")


def test_a_name_of_several_projects_must_be_whole(flights: Callable[..., Path]) -> None:
    for project in ("a", "b"):
        flights(one(""), project)
    with pytest.raises(Invalid, match="'it' is a job of several projects; write a/it or b/it"):
        load().find("it")


def test_the_mistakes_of_one_project_leave_the_others_alone(flights: Callable[..., Path]) -> None:
    flights(CHAIN)
    flights("jobs: [1", "broken")
    flights(CHAIN.replace("month: \"{logical_date-1mo:%m}\"}\n    schedule", "mnth: 1}\n    schedule"), "wrong")
    jobs = load(strict=False)
    assert list(jobs) == ["flights/prepare", "flights/train", "flights/evaluate"]
    assert [(each.path, each.code) for each in jobs.findings] == [
        ("projects/broken/jobs.yaml", "JOB001"),
        ("projects/wrong/jobs.yaml", "JOB005"),
        ("projects/wrong/jobs.yaml", "JOB005"),
        ("projects/wrong/jobs.yaml", "JOB004"),
    ]
    assert "it needs wrong/prepare, which is refused itself" in jobs.findings[2].message
    assert len(read("projects/flights/jobs.yaml")) == 3
    with pytest.raises(Invalid, match=r"projects/broken/jobs.yaml:1: JOB001 expected ',' or ']'") as caught:
        load()
    assert len(caught.value.fields["findings"]) == 4
    with pytest.raises(Invalid, match=r"mnth.*did you mean 'month'") as caught:
        read("projects/wrong/jobs.yaml")
    assert "broken" not in str(caught.value)


def test_a_file_elsewhere_can_be_read(flights: Callable[..., Path], bare_workspace: Path) -> None:
    flights(CHAIN)
    (bare_workspace / "drafts").mkdir()
    path = bare_workspace / "drafts" / "other.yaml"
    path.write_text("jobs: {a: {notebook: ../projects/flights/prepare.ipynb, needs: [flights/prepare]}}")
    assert read(path)["drafts/a"].needs == ("flights/prepare",)
    with pytest.raises(Invalid, match="cannot read"):
        read(bare_workspace / "drafts" / "none.yaml")


def test_anchors_and_own_fields(flights: Callable[..., Path]) -> None:
    flights("x-all: &all {owner: a@b.c, retries: {times: 2, on: [failed]}}\njobs:\n  it: {<<: *all, notebook: prepare.ipynb}\n")
    job = load().find("it")
    assert (job.owner, job.retries.on) == ("a@b.c", ("failed",))


# --- what is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1 JOB002 the file must map `jobs` to a mapping of names to jobs"),
        ("[]", "1 JOB002 the file must map `jobs` to a mapping of names to jobs"),
        ("a: 1\njobs: {}", "1 JOB002 a: there is no field 'a' beside `jobs`; what is your own begins with x-"),
        ("jobs: 3", "1 JOB002 jobs: the file must map `jobs` to a mapping of names to jobs"),
        ("jobs:\n  a b: {}", "2 JOB002 jobs.a b: a job's name has letters, digits, - and _, and begins with a letter or digit"),
        ("jobs:\n  ../x: {}", "2 JOB002 jobs.../x: a job's name has letters, digits, - and _, and begins with a letter or digit"),
        ("jobs:\n  1: {}", "2 JOB002 jobs.1: a job's name has letters, digits, - and _, and begins with a letter or digit"),
        ("jobs:\n  it: train.ipynb", "2 JOB002 jobs.it: a job is a mapping, with at least `notebook`"),
        ("jobs:\n  it: {}", "2 JOB002 jobs.it.notebook: the field 'notebook' is missing"),
        ("jobs:\n  it: {notebook: 3}", "2 JOB002 jobs.it.notebook: is not a valid path for <class 'pathlib.Path'>, got 3"),
        (one("retrys: 3"), "4 JOB002 jobs.it.retrys: there is no field 'retrys'; did you mean 'retries'?"),
        (one("retries:\n  time: 3"), "5 JOB002 jobs.it.retries.time: there is no field 'time'; did you mean 'times'?"),
        (one("retries: {times: -1}"), "4 JOB002 jobs.it.retries.times: should be greater than or equal to 0, got -1"),
        (one("retries: {on: [cancelled]}"), "4 JOB002 jobs.it.retries.on.0: should be 'failed', 'kernel_died', 'timed_out', 'ended_early' or 'lost', got 'cancelled'"),
        (one("timeout: soon"), "4 JOB002 jobs.it.timeout: a duration is written 90, 90s, 20m, 2h or none, got 'soon'"),
        (one("timeout: true"), "4 JOB002 jobs.it.timeout: a duration is written 90, 90s, 20m, 2h or none, got True"),
        (one("memory: much"), "4 JOB002 jobs.it.memory: a size is written 1000, 100kB, 10MB or 1GiB, got 'much'"),
        (one("memory: [1]"), "4 JOB002 jobs.it.memory: a size is written 500MB or 4GiB"),
        (one("memory: 0"), "4 JOB002 jobs.it.memory: should be greater than 0"),
        (one("overlap: both"), "4 JOB002 jobs.it.overlap: should be 'queue', 'skip' or 'cancel_older', got 'both'"),
        (one("needs: {a: b}"), "4 JOB002 jobs.it.needs: should be a valid tuple"),
        (one("budget: 0"), "4 JOB002 jobs.it.budget: should be greater than 0"),
        (one("notify: {webhook: ftp://x}"), "4 JOB002 jobs.it.notify.webhook: string should match pattern '^https?://[^/]'"),
        (one("notify: {webhook: {url: x}}"), "4 JOB002 jobs.it.notify.webhook: should be a valid string"),
        (one("schedule:\n  cron: 30 2 * *"), "5 JOB002 jobs.it.schedule.cron: '30 2 * *' is no cron expression of five fields, minute hour day month weekday, as in '30 2 1 * *'"),
        (one("schedule:\n  cron: '@daily'\n  timezone: Berlin"), "6 JOB002 jobs.it.schedule.timezone: no time zone is called 'Berlin'; did you mean 'Europe/Berlin'?"),
        (one("schedule:\n  cron: 0 0 30 2 *"), "5 JOB002 jobs.it.schedule.cron: '0 0 30 2 *' never comes true: there is no such date"),
        (one("schedule: {}"), "4 JOB002 jobs.it.schedule: a schedule has either `cron` or `every`"),
        (one("schedule:\n  every: 1d\n  start: 2013-02-30"), "6 JOB002 jobs.it.schedule.start: '2013-02-30' is no date: day is out of range for month"),
        (one("", "prepair.ipynb"), "3 JOB003 jobs.it.notebook: there is no notebook 'prepair.ipynb'; did you mean 'prepare.ipynb'?"),
        (one("", "."), "3 JOB003 jobs.it.notebook: there is no notebook '.'; known: evaluate.ipynb, prepare.ipynb, train.ipynb"),
        (one("parameters: {mont: 3}"), "4 JOB004 jobs.it.parameters.mont: there is no parameter 'mont'; did you mean 'month'?"),
        (one("parameters:\n  sample: 1\n  month: 13"), "6 JOB004 jobs.it.parameters.month: parameter 'month' wants int (1 to 12), got 13 (int): should be less than or equal to 12"),
        (one("parameters:\n  month: '{logical_date:%d}'\nschedule: {cron: 0 0 31 * *}"), "5 JOB004 jobs.it.parameters.month: parameter 'month' wants int (1 to 12), got 31 (int): should be less than or equal to 12"),
        (one("parameters: {month: '{logical_date-1m:%m}'}"), "4 JOB004 jobs.it.parameters.month: {logical_date-1m:%m} counts in 'm'; months are 'mo'"),
        (one("parameters: {month: '{train.metrics.month}'}"), "4 JOB004 jobs.it.parameters.month: {train.metrics} is of a job that is not among its `needs`; none is known"),
        (one("parameters: {month: {logical_date-1mo:%m}}"), "4 JOB004 jobs.it.parameters.month: {logical_date-1mo:%m} is a mapping to YAML; a template is written in quotes"),
        (one("parameters:\n  months: [{logical_date}]", "train.ipynb"), "5 JOB004 jobs.it.parameters.months: {logical_date} is a mapping to YAML; a template is written in quotes"),
        (one("parameters: {month: '{logical_date-9999y:%m}'}"), "4 JOB004 jobs.it.parameters.month: parameter 'month': year -7975 is out of range"),
        (one("", "evaluate.ipynb"), "2 JOB004 jobs.it.parameters: parameter 'model_run' (str) has no default and must be given"),
        (one("parameters: {api_key: hunter2}", "train.ipynb"), "4 JOB004 jobs.it.parameters.api_key: parameter 'api_key' is a secret; write where it is to be found, {env: VARIABLE} or {file: PATH}"),
        (one("parameters: {api_key: '{train.run_id}'}\nneeds: [it]", "train.ipynb"), "5 JOB005 jobs.it.needs.0: jobs need each other in a circle: flights/it -> flights/it"),
        (one("needs: [trian]"), "4 JOB005 jobs.it.needs.0: there is no job 'trian'; none is known"),
        (one("schedule: {cron: 0 6 1 * 1}"), "4 JOB007 jobs.it.schedule.cron: '0 6 1 * 1' runs on day 1 of the month and also on each weekday 1: cron takes either, not both"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_line_field_and_way_out(flights: Callable[..., Path], text: str, expected: str) -> None:
    found = said(flights(text))
    assert found == [expected]


def test_all_that_is_wrong_is_said_at_once(flights: Callable[..., Path]) -> None:
    found = said(flights("jobs:\n  a: {notebook: nowhere.ipynb, timeout: x, overlap: y}\n  b: {notebook: gone.ipynb}\n  c: {notebook: train.ipynb, parameters: {months: 1, fre: 2}}\n"))
    assert [each[:8] for each in found] == ["2 JOB002", "2 JOB002", "3 JOB003", "4 JOB004", "4 JOB004"]


def test_no_secret_gets_into_a_message(flights: Callable[..., Path]) -> None:
    for text in (one("parameters: {api_key: hunter2}", "train.ipynb"), one("notify: {webhook: 'hunter2'}"), one("notify: {channels: hunter2}")):
        found = said(flights(text))
        assert found
        assert "hunter2" not in str(found)


def test_circles_are_shown_whole(flights: Callable[..., Path]) -> None:
    jobs = {"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "e": []}
    text = "jobs:\n" + "".join(f"  {name}: {{notebook: prepare.ipynb, needs: {needs}}}\n" for name, needs in jobs.items())
    path = flights(text)
    assert [each.split(": ", 1)[1] for each in said(path)] == [
        "jobs need each other in a circle: flights/a -> flights/b -> flights/c -> flights/a",
        "jobs need each other in a circle: flights/b -> flights/c -> flights/a -> flights/b",
        "jobs need each other in a circle: flights/c -> flights/a -> flights/b -> flights/c",
        "it needs flights/a, which is refused itself",
    ]
    assert list(load(path, strict=False)) == ["flights/e"]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("schedule: {cron: '@daily'}", "schedule: {cron: '@hourly'}", "it would hardly ever run, since what it needs has different schedules: flights/a (@daily UTC), flights/b (@hourly UTC)"),
        ("schedule: {cron: '@daily'}", "owner: x", "it would hardly ever run, since what it needs has different schedules: flights/a (@daily UTC), flights/b (no schedule)"),
        ("schedule: {cron: '@daily'}", "schedule: {cron: '@daily'}", ""),
        ("owner: x", "owner: y", ""),
    ],
)  # fmt: skip
def test_logical_dates_must_be_able_to_reach_a_job(flights: Callable[..., Path], first: str, second: str, problem: str) -> None:
    found = said(flights(f"jobs:\n  a: {{notebook: prepare.ipynb, {first}}}\n  b: {{notebook: prepare.ipynb, {second}}}\n  c: {{notebook: prepare.ipynb, needs: [a, b]}}\n"))
    assert found == ([f"4 JOB006 jobs.c.needs: {problem}"] if problem else [])


def test_a_schedule_beside_needs_is_refused(flights: Callable[..., Path]) -> None:
    text = "jobs:\n  a: {notebook: prepare.ipynb}\n  b: {notebook: prepare.ipynb, needs: [a], schedule: {every: 1h}}\n"
    assert said(flights(text)) == [
        "3 JOB006 jobs.b.schedule: a job that needs others runs when they have succeeded, for their logical date; take away `schedule` or `needs`"
    ]


def test_notebooks_outside_or_broken_are_refused(flights: Callable[..., Path], bare_workspace: Path) -> None:
    (bare_workspace.parent / "outside.ipynb").write_text("{}")
    assert "is outside the workspace" in said(flights(one("", "../../../outside.ipynb")))[0]
    path = flights(one(""))
    (path.parent / "prepare.ipynb").write_text('{"cells": [')
    assert "3 JOB003 jobs.it.notebook: prepare.ipynb" in said(path)[0]


def test_findings_are_in_the_order_of_the_file(flights: Callable[..., Path]) -> None:
    lines = [each.line for each in load(flights(CHAIN.replace("%m", "%Q").replace("1 * *", "1 * MON")), strict=False).findings]
    assert lines == sorted(lines)
    assert len(lines) > 3


# --- what a run is given


def test_parameters_are_those_of_the_logical_date(flights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    flights(CHAIN)
    jobs = load()
    at = datetime(2013, 3, 1, 1, 30, tzinfo=UTC)  # 02:30 in Berlin
    assert parameters_for(jobs["flights/prepare"], at) == ({"month": 2}, {})
    assert parameters_for(jobs["flights/prepare"], datetime(2013, 3, 1, 2, 30)) == ({"month": 2}, {})
    values, secrets = parameters_for(jobs["flights/train"], at, {"flights/prepare": {"run_id": "x"}})
    assert values == {"months": [1], "day": "2013-02-28"}
    assert secrets == {"api_key": "env:WEATHER_KEY"}
    assert json.loads(json.dumps(values)) == values
    left = {"run_id": "a41f", "metrics": {"auc": 0.75}}
    for name in ("flights/train", "train"):
        values, _ = parameters_for(jobs["flights/evaluate"], at, {name: left})
        assert values == {"model_run": "a41f", "limit": 0.75, "month": 2}
    with pytest.raises(ParameterError, match="parameter 'model_run': the run of train is not known; parameter 'limit'"):
        parameters_for(jobs["flights/evaluate"], at)
    with pytest.raises(ParameterError, match="the run of train has no metric 'auc'; none is known"):
        parameters_for(jobs["flights/evaluate"], at, {"train": {"run_id": "a41f"}})
    monkeypatch.setenv("WEATHER_KEY", "hunter2")
    assert resolve_secrets(secrets) == {"api_key": "hunter2"}


def test_a_logical_date_is_local_to_its_job(flights: Callable[..., Path]) -> None:
    flights(CHAIN)
    new_york = datetime(2013, 2, 28, 19, tzinfo=ZoneInfo("America/New_York"))  # 1 March, 01:00, in Berlin
    assert parameters_for(load()["flights/prepare"], new_york)[0] == {"month": 2}


def test_references_to_secrets(flights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = flights(one("parameters:\n  api_key: {file: key.txt}\n  options: {env: production}\n  free: {env: HOME, x: y}", "train.ipynb"))
    job = load().find("it")
    values, secrets = parameters_for(job, datetime(2013, 3, 1))
    assert values == {"options": {"env": "production"}, "free": {"env": "HOME", "x": "y"}}, "a dict is a dict where one is declared"
    assert secrets == {"api_key": f"file:{path.parent / 'key.txt'}"}
    with pytest.raises(ParameterError, match=r"cannot read file .*key.txt"):
        resolve_secrets(secrets)
    (path.parent / "key.txt").write_text("hunter2\n")
    assert resolve_secrets(secrets) == {"api_key": "hunter2"}
    home = flights(one("parameters:\n  api_key: {file: ~/key.txt}", "train.ipynb"))
    monkeypatch.setenv("HOME", str(path.parent))
    assert resolve_secrets(parameters_for(load(home).find("it"), datetime(2013, 3, 1))[1]) == {"api_key": "hunter2"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"env": "A"}, "env:A"), ({"file": "/a"}, "file:/a"), ({"env": ""}, None), ({"env": 3}, None), ({"env": "A", "file": "b"}, None), ({"url": "A"}, None), ("env:A", None), ([], None)],
)  # fmt: skip
def test_what_a_reference_is(value: Any, expected: str | None) -> None:
    assert reference(value) == expected


def test_a_notebook_changed_since_is_held_against_its_contract_again(flights: Callable[..., Path], write: Callable[..., Path]) -> None:
    path = flights(CHAIN)
    job = load()["flights/prepare"]
    write(path.parent / "prepare.ipynb", parameters="year: int = 2013")
    with pytest.raises(ParameterError, match="there is no parameter 'month'"):
        parameters_for(job, datetime(2013, 3, 1))


def test_values_survive_being_stored(bare_workspace: Path, write: Callable[..., Path]) -> None:
    from mltoolkit.notebook import document
    from mltoolkit.notebook.parameters import contract

    declared = "a: float = 1\nb: date = None\nc: set[int] = {1}\nd: dict[int, float] = {}\ne: tuple[int, str] = (1, 'a')\nf: bytes = b''\ng = None\nh: timedelta = None"
    path = write("it.ipynb", parameters=declared)
    (bare_workspace / "jobs.yaml").write_text(
        "jobs: {it: {notebook: it.ipynb, parameters: {a: .nan, h: PT1H, b: '{logical_date}', c: [3, 4], d: {1: 2}, e: [1, b], g: [null, true]}}}"
    )
    values, _ = parameters_for(load()["it"], datetime(2013, 3, 1))
    stored = json.loads(json.dumps(values))
    again = contract(document.read(path)).check(stored)
    assert again.pop("a") != again.pop("a", 0)
    assert (again["h"], again["b"], again["c"], again["d"], again["e"], again["g"]) == (timedelta(hours=1), date(2013, 3, 1), {3, 4}, {1: 2.0}, (1, "b"), [None, True])


# --- models


def test_waits_double_up_to_the_longest() -> None:
    retries = Retries(times=8, backoff="1m", longest="10m", on=["kernel_died"])
    assert [retries.again(Status.kernel_died, attempt) for attempt in range(1, 10)] == [60, 120, 240, 480, 600, 600, 600, 600, None]
    assert retries.again("failed", 1) is None
    assert Retries(times=1, backoff="2h").again("failed", 1) == 7200, "a wait asked for is not made shorter"
    assert Retries().again("failed", 1) is None


def test_the_published_schema_is_in_step() -> None:
    published = json.loads((files("mltoolkit.scheduling") / "jobs.schema.json").read_text(encoding="utf-8"))
    assert published == schema(), (
        "write it anew: Path('mltoolkit/scheduling/jobs.schema.json').write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + '\\n')"
    )


def test_the_schema_accepts_what_is_accepted_and_refuses_typing_errors() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    accepted = yaml.safe_load(CHAIN) | {"x-own": 1}
    accepted["jobs"]["all"] = {
        "notebook": "a.ipynb", "timeout": "20m", "cell_timeout": 90, "memory": "4GiB", "retries": {"times": 2, "backoff": "1m", "on": ["failed"]},
        "schedule": {"every": "6h", "start": "2013-02-01"}, "notify": {"webhook": {"env": "HOOK"}, "email": ["a@b.c"]}, "approval": "before",
    }  # fmt: skip
    validator.validate(accepted)
    for wrong in ({}, {"jobs": {"a": {}}}, {"jobs": {"a b": {"notebook": "x"}}}, {"jobs": {"a": {"notebook": "x", "retrys": 1}}}, {"jobs": {}, "more": 1}):
        assert not validator.is_valid(wrong)
    described = schema()["$defs"]["Job"]["properties"]
    assert set(described) == set(JobSpec.model_fields)
    assert all(each.get("description") for each in described.values())


def test_jobs_are_a_mapping_and_come_without_the_engine() -> None:
    assert issubclass(Jobs, Mapping)
    script = "import sys, mltoolkit.scheduling.jobs; print(sorted({'dbos', 'mlflow', 'pandas', 'papermill', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
