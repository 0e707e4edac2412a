"""The flights project as a schedule: what it says for each month."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from mltoolkit.scheduling.jobs import load, parameters_for
from mltoolkit.scheduling.ticks import due, moment, stamp

ROOT = Path(__file__).parents[2]


def test_the_jobs_are_in_order() -> None:
    jobs = load(ROOT)
    assert not jobs.findings
    flights = [job for job in jobs.order() if job.project == "flights"]
    assert [job.name for job in flights][-2:] == ["train", "evaluate"]
    assert {job.timezone for job in flights} == {"America/New_York"}
    assert [job.name for job in jobs.downstream("flights/prepare-3", indirect=True)] == ["train", "evaluate"]


def test_logical_dates_lie_in_2013() -> None:
    schedule = load(ROOT)["flights/prepare"].schedule
    assert schedule is not None
    ticks = due(schedule, moment("2000", schedule.zone), moment("2100", schedule.zone))
    assert [stamp(at)[:7] for at in ticks] == [f"2013-{month:02d}" for month in range(4, 13)]


def test_each_date_learns_from_two_months_and_is_judged_by_the_next() -> None:
    jobs = load(ROOT)
    for month in range(4, 13):
        given = {name: parameters_for(jobs[f"flights/{name}"], datetime(2013, month, 1, 2, 30), {"train": {"run_id": "a41f"}})[0] for name in
                 ("prepare", "prepare-2", "prepare-3", "train", "evaluate")}  # fmt: skip
        assert given == {
            "prepare": {"month": month - 1}, "prepare-2": {"month": month - 2}, "prepare-3": {"month": month - 3},
            "train": {"months": [month - 3, month - 2]}, "evaluate": {"model_run": "a41f", "month": month - 1},
        }  # fmt: skip
