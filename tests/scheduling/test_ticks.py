"""Which moments a schedule means, on ordinary days and on those on which clocks change."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mltoolkit.errors import Invalid, MissingExtra
from mltoolkit.scheduling import ticks
from mltoolkit.scheduling.ticks import (
    Decision,
    Schedule,
    decide,
    due,
    key,
    localize,
    moment,
    next_times,
    remarks,
    stamp,
)

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # its clocks change by half an hour
APIA = ZoneInfo("Pacific/Apia")  # had no 30 December 2011
DAY = timedelta(days=1)


def stamps(schedule: Schedule, first: str, last: str) -> list[str]:
    """The stamps of all ticks from one local time to another, both included."""
    after = moment(first, schedule.zone).astimezone(UTC) - timedelta(microseconds=1)
    return [stamp(at) for at in due(schedule, after, moment(last, schedule.zone, last=True))]


# --- the two nights


@pytest.mark.parametrize(
    ("zone", "cron", "day", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2013-03-31", "2013-03-31T03:00:00"),  # does not exist
        ("Europe/Berlin", "30 2 * * *", "2013-10-27", "2013-10-27T02:30:00"),  # comes twice
        ("America/New_York", "30 1 * * *", "2013-03-10", "2013-03-10T01:30:00"),
        ("America/New_York", "30 2 * * *", "2013-03-10", "2013-03-10T03:00:00"),  # does not exist
        ("America/New_York", "30 1 * * *", "2013-11-03", "2013-11-03T01:30:00"),  # comes twice
        ("America/New_York", "30 2 * * *", "2013-11-03", "2013-11-03T02:30:00"),
        ("Australia/Lord_Howe", "15 2 * * *", "2013-10-06", "2013-10-06T02:30:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2013-04-07", "2013-04-07T01:45:00"),
    ],
)
def test_a_daily_job_runs_once_on_the_days_on_which_clocks_change(zone: str, cron: str, day: str, expected: str) -> None:
    schedule = Schedule(cron=cron, timezone=zone)
    assert stamps(schedule, day, day) == [expected]
    at = due(schedule, moment(day, schedule.zone), moment(day, schedule.zone, last=True))[0]
    assert at.fold == 0
    assert decide(schedule, at, at + timedelta(hours=3)).run == (), "also while the hour comes again"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "30 1 * * *", "0 0 * * *", "59 23 * * *", "0 3 * * *"])
def test_a_year_has_as_many_ticks_as_days(zone: str, cron: str) -> None:
    schedule = Schedule(cron=cron, timezone=zone)
    found = stamps(schedule, "2013", "2013")
    assert len(found) == len(set(found)) == 365
    assert {each[:10] for each in found} == {str(datetime(2013, 1, 1).date() + n * DAY) for n in range(365)}


def test_each_quarter_of_an_hour_that_exists_is_a_tick_once() -> None:
    schedule = Schedule(cron="*/15 * * * *", timezone="Europe/Berlin")
    spring, autumn = stamps(schedule, "2013-03-31", "2013-03-31"), stamps(schedule, "2013-10-27", "2013-10-27")
    assert len(spring) == 23 * 4
    assert not any("T02:" in each for each in spring)
    assert spring.count("2013-03-31T03:00:00") == 1
    assert len(autumn) == len(set(autumn)) == 24 * 4


def test_an_interval_goes_on_through_the_hour_that_comes_twice() -> None:
    schedule = Schedule(every="30m", timezone="Europe/Berlin")
    found = stamps(schedule, "2013-10-27T01:30", "2013-10-27T03:00")
    assert [each[11:] for each in found] == [
        "01:30:00", "02:00:00", "02:30:00", "02:00:00+01:00", "02:30:00+01:00", "03:00:00",
    ]  # fmt: skip
    assert len(stamps(schedule, "2013-03-31", "2013-03-31")) == 46


def test_a_day_that_does_not_exist_costs_no_tick() -> None:
    assert localize(datetime(2011, 12, 30, 2, 30), APIA) == datetime(2011, 12, 31, tzinfo=APIA)
    assert stamps(Schedule(cron="30 2 * * *", timezone="Pacific/Apia"), "2011-12-29", "2011-12-31") == [
        "2011-12-29T02:30:00", "2011-12-31T00:00:00", "2011-12-31T02:30:00",
    ]  # fmt: skip


# --- order, ends, both directions


MOMENTS = st.datetimes(datetime(2012, 1, 1), datetime(2015, 1, 1), timezones=st.just(UTC))
SCHEDULES = st.sampled_from(
    [
        Schedule(cron=cron, timezone=zone)
        for cron in ("*/20 * * * *", "15 1,2,3 * * *", "30 2 L * *")
        for zone in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
    ]
    + [Schedule(every="7h"), Schedule(every="90m", start="2012-05-05T10:00", timezone="Europe/Berlin")]
)


@given(SCHEDULES, MOMENTS, st.integers(0, 72), st.integers(0, 72))
def test_ticks_of_two_stretches_are_those_of_the_whole(schedule: Schedule, after: datetime, first: int, second: int) -> None:
    middle = after + timedelta(hours=first)
    end = middle + timedelta(hours=second)
    whole = [at.astimezone(UTC) for at in due(schedule, after, end)]
    parts = [at.astimezone(UTC) for at in due(schedule, after, middle) + due(schedule, middle, end)]
    assert parts == whole == sorted(set(whole))
    assert all(after < at <= end for at in whole)
    assert len({stamp(at.astimezone(schedule.zone)) for at in whole}) == len(whole)


@given(SCHEDULES, MOMENTS, st.integers(1, 100))
def test_ticks_are_the_same_backwards(schedule: Schedule, after: datetime, hours: int) -> None:
    until = after + timedelta(hours=hours)
    forward = [at.astimezone(UTC) for at in due(schedule, after, until)]
    decision = decide(schedule, after, until)
    assert [at.astimezone(UTC) for at in (*decision.skipped, *decision.run)] == forward


@given(st.lists(st.integers(-90, 200), min_size=1, max_size=25), st.sampled_from(["skip", "latest", "all"]), SCHEDULES)
def test_whatever_the_clock_does_each_tick_is_accounted_for_once(steps: list[int], policy: str, schedule: Schedule) -> None:
    schedule = schedule.model_copy(update={"catch_up": policy})
    began = now = accounted = datetime(2013, 10, 26, 22, tzinfo=UTC)
    seen: list[datetime] = []
    for step in steps:
        now += timedelta(minutes=step)
        decision = decide(schedule, accounted, now)
        assert decision.accounted >= accounted
        seen += [at.astimezone(UTC) for at in (*decision.skipped, *decision.run)]
        accounted = decision.accounted
    assert seen == [at.astimezone(UTC) for at in due(schedule, began, accounted)]


def test_start_and_end_belong_to_the_schedule() -> None:
    schedule = Schedule(cron="30 2 1 * *", timezone="Europe/Berlin", start="2013-02-01T02:30", end="2013-04")
    assert [each[:7] for each in stamps(schedule, "2000", "2030")] == ["2013-02", "2013-03", "2013-04"]
    assert next_times(schedule, moment("2013-04-02", BERLIN), 5) == []
    late = decide(schedule, moment("2000", BERLIN), moment("2030", BERLIN))
    assert [stamp(at) for at in late.run] == ["2013-04-01T02:30:00"]
    assert [stamp(at) for at in late.skipped] == ["2013-02-01T02:30:00", "2013-03-01T02:30:00"]
    weekly = Schedule(every="7d", start="2013-01-07T06:00", end="2013-01-21T06:00", timezone="UTC")
    assert stamps(weekly, "2013", "2013") == ["2013-01-07T06:00:00", "2013-01-14T06:00:00", "2013-01-21T06:00:00"]
    assert decide(weekly, moment("2000", weekly.zone), moment("2013-01-07", weekly.zone)).run == ()


def test_intervals_do_not_depend_on_when_somebody_looks() -> None:
    assert stamps(Schedule(every="6h"), "2013-06-01", "2013-06-01") == [f"2013-06-01T{hour:02d}:00:00" for hour in (0, 6, 12, 18)]


@pytest.mark.parametrize("machine", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_zone_of_the_machine_does_not_matter(machine: str) -> None:
    program = (
        "from mltoolkit.scheduling.ticks import *; s = Schedule(cron='30 2 * * *', timezone='Europe/Berlin');"
        "print([stamp(at) for at in due(s, moment('2013-10-26', s.zone), moment('2013-10-28', s.zone))])"
    )
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "TZ": machine}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['2013-10-26T02:30:00', '2013-10-27T02:30:00']"


def test_too_many_ticks_are_refused_and_not_listed() -> None:
    minutely = Schedule(cron="* * * * *")
    assert len(due(minutely, moment(2013, ZoneInfo("UTC")), moment("2013-01-01T10:00", ZoneInfo("UTC")), limit=600)) == 600
    with pytest.raises(Invalid, match="more than 600 ticks"):
        due(minutely, moment(2013, ZoneInfo("UTC")), moment("2013-01-01T10:01", ZoneInfo("UTC")), limit=600)


# --- policies


NOW = datetime(2013, 6, 10, 6, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "run", "skipped"),
    [("skip", ["06:00"], ["03:00", "04:00", "05:00"]), ("latest", ["06:00"], ["03:00", "04:00", "05:00"]), ("all", ["03:00", "04:00", "05:00", "06:00"], [])],
)
def test_a_tick_on_time_runs_under_each_policy(policy: str, run: list[str], skipped: list[str]) -> None:
    decision = decide(Schedule(every="1h", catch_up=policy), NOW - timedelta(hours=3, minutes=10), NOW)
    assert [f"{at:%H:%M}" for at in decision.run] == run
    assert [f"{at:%H:%M}" for at in decision.skipped] == skipped
    assert decision.accounted == NOW
    assert bool(decision.reason) is bool(skipped)


def test_a_tick_that_is_late_is_skipped_only_by_skip() -> None:
    later = NOW + timedelta(minutes=5)
    skip, latest = (decide(Schedule(every="1h", catch_up=policy), NOW - timedelta(minutes=10), later) for policy in ("skip", "latest"))
    assert (len(skip.run), len(skip.skipped)) == (0, 1)
    assert skip.reason == "1 tick missed, 2013-06-10T06:00:00: skipped by catch_up: skip"
    assert (len(latest.run), len(latest.skipped)) == (1, 0)


def test_a_long_stop_is_told_by_its_ends() -> None:
    began = NOW - timedelta(days=700)
    decision = decide(Schedule(cron="* * * * *"), began, NOW, limit=100)
    assert len(decision.skipped) == 99
    assert decision.unlisted is not None
    assert [stamp(at) for at in decision.unlisted] == ["2011-07-11T06:01:00", "2013-06-10T04:20:00"]
    assert decision.unlisted[1] + timedelta(minutes=1) == decision.skipped[0]
    assert "more than 99 ticks missed, 2011-07-11T06:01:00 to 2013-06-10T05:59:00" in decision.reason
    assert decision.accounted == NOW


def test_all_ticks_of_a_long_stop_come_in_portions() -> None:
    schedule, accounted, seen = Schedule(every="1h", catch_up="all"), NOW - timedelta(hours=25), []
    decision = Decision((), (), None, accounted, more=True)
    while decision.more:
        decision = decide(schedule, decision.accounted, NOW, limit=10)
        seen += decision.run
    assert seen == due(schedule, accounted, NOW)
    assert decision.accounted == NOW


def test_a_clock_put_back_is_said_if_it_matters() -> None:
    schedule = Schedule(every="1h")
    assert decide(schedule, NOW, NOW - timedelta(seconds=5)) == Decision((), (), None, NOW)
    assert "90.0 min" not in (said := decide(schedule, NOW, NOW - timedelta(minutes=90)).reason)
    assert "1.5 h behind" in said
    assert "2.0 min behind" in decide(schedule, NOW, NOW - timedelta(minutes=2)).reason
    assert "30 s behind" in decide(schedule, NOW, NOW - timedelta(seconds=30), late=timedelta(0)).reason


# --- names


def test_a_stamp_is_read_back_to_the_same_moment() -> None:
    for zone in (BERLIN, NEW_YORK, LORD_HOWE):
        for at in due(Schedule(every="50m", timezone=zone.key), moment(2013, zone), moment("2013-12-31", zone)):
            assert moment(stamp(at), zone).astimezone(UTC) == at.astimezone(UTC)


def test_a_stamp_has_no_part_of_a_second() -> None:
    assert key("a/b", datetime(2013, 1, 2, 3, 4, 5, 678, tzinfo=BERLIN)) == "a/b@2013-01-02T03:04:05"
    assert stamp(datetime(2013, 3, 31, 2, 30, tzinfo=BERLIN, fold=1)) == "2013-03-31T01:30:00", "no such time: the moment's own name"
    assert stamp(datetime(2013, 1, 2, tzinfo=BERLIN, fold=1)) == "2013-01-02T00:00:00"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2013", "2013-01-01T00:00:00", "2013-12-31T23:59:59.999999"),
        (2013, "2013-01-01T00:00:00", "2013-12-31T23:59:59.999999"),
        ("2012-02", "2012-02-01T00:00:00", "2012-02-29T23:59:59.999999"),
        ("2013-02-28", "2013-02-28T00:00:00", "2013-02-28T23:59:59.999999"),
        ("2013-02-28 02:30", "2013-02-28T02:30:00", "2013-02-28T02:30:59.999999"),
        ("2013-02-28T02:30:07", "2013-02-28T02:30:07", "2013-02-28T02:30:07.999999"),
        ("2013-02-28T02:30Z", "2013-02-28T03:30:00", "2013-02-28T03:30:59.999999"),
        ("2013-02-28T02:30-0530", "2013-02-28T09:00:00", "2013-02-28T09:00:59.999999"),
    ],
)
def test_a_date_may_be_short(text: str | int, first: str, last: str) -> None:
    assert moment(text, BERLIN).replace(tzinfo=None).isoformat() == first
    assert moment(text, BERLIN, last=True).replace(tzinfo=None).isoformat() == last


@pytest.mark.parametrize("text", ["", "13", "2013-2", "2013-13", "2013-02-29", "2013-02-28T24:00", "tomorrow", "2013-02-28T02:30+99:00", "9999", "٢٠١٣"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="is no date"):
        moment(text, BERLIN, last=True)


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({}, (), "either `cron` or `every`"),
        ({"cron": "@daily", "every": "1h"}, (), "either `cron` or `every`"),
        ({"cron": "30 2 * *"}, ("cron",), "five fields"),
        ({"cron": "0 30 2 * * *"}, ("cron",), "five fields"),
        ({"cron": "R 2 * * *"}, ("cron",), "five fields"),
        ({"cron": "H H * * *"}, ("cron",), "five fields"),
        ({"cron": ""}, ("cron",), "five fields"),
        ({"cron": "@reboot"}, ("cron",), "no cron expression"),
        ({"cron": "0 25 * * *"}, ("cron",), "no cron expression"),
        ({"cron": "0 0 31 2,4,6 *"}, ("cron",), "there is no such date"),
        ({"cron": "@daily", "timezone": "Berlin"}, ("timezone",), "did you mean 'Europe/Berlin'"),
        ({"cron": "@daily", "timezone": "Europe/Berlinn"}, ("timezone",), "did you mean 'Europe/Berlin'"),
        ({"cron": "@daily", "timezone": "new york"}, ("timezone",), "did you mean 'America/New_York'"),
        ({"cron": "@daily", "timezone": "../etc/passwd"}, ("timezone",), "write UTC or a name such as"),
        ({"cron": "@daily", "timezone": "localtime"}, ("timezone",), "no time zone"),
        ({"cron": "@daily", "timezone": ""}, ("timezone",), "no time zone"),
        ({"cron": "@daily", "start": "2013-02-30"}, ("start",), "is no date"),
        ({"cron": "@daily", "end": True}, ("end",), "valid string"),
        ({"cron": "@daily", "start": "2014", "end": "2013"}, (), "ends .2013. before it starts .2014."),
        ({"cron": "0 0 29 2 *", "start": "2013", "end": "2015"}, (), "no tick lies between"),
        ({"every": "0"}, ("every",), "longer than 0"),
        ({"every": "none"}, ("every",), "longer than 0"),
        ({"every": "0.5s"}, ("every",), "greater than or equal to 1"),
        ({"every": True}, ("every",), "a duration is written"),
        ({"every": "soon"}, ("every",), "a duration is written"),
        ({"cron": "@daily", "catchup": "all"}, ("catchup",), "Extra inputs"),
        ({"cron": "@daily", "catch_up": "some"}, ("catch_up",), "'skip', 'latest' or 'all'"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(fields: dict[str, object], field: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        Schedule(**fields)
    assert caught.value.errors()[0]["loc"] == field


@pytest.mark.parametrize("cron", ["@daily", "0 9 * JAN-MAR Mon", "0 0 L * *", "0 0 * * 1#2", "0 0 ? * 5", "*/5  0-3,22 1-7 * *", "0 0 * * L5", "0 0 29 2 *"])
def test_what_cron_knows_is_accepted(cron: str) -> None:
    schedule = Schedule(cron=cron)
    assert len(next_times(schedule, moment(2013, schedule.zone), 3)) == 3


def test_a_schedule_may_be_spelled_and_stored() -> None:
    schedule = Schedule(every="90m", timezone="Europe/Berlin", start=2013, end="2013-06")
    assert str(schedule) == "every 5400 s Europe/Berlin from 2013 to 2013-06"
    assert str(Schedule(cron=" 0  6 * * *")) == "0 6 * * * UTC"
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


def test_day_and_weekday_together_are_remarked_on() -> None:
    assert "cron takes either" in remarks(Schedule(cron="0 6 1 * MON"))[0]
    for cron in ("0 6 1 * *", "0 6 * * 1", "0 6 ? * 1", "@weekly"):
        assert remarks(Schedule(cron=cron)) == []
    assert remarks(Schedule(every="1h")) == []


def test_without_croniter_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "croniter", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mltoolkit\[jobs\]'"):
        Schedule(cron="@daily")


def test_an_endless_interval_ends_where_dates_do() -> None:
    schedule = Schedule(every="1d")
    assert next_times(schedule, datetime(9999, 12, 31, 23, tzinfo=UTC), 3) == []
    assert len(list(ticks._intervals(schedule, datetime(9999, 12, 30, 1, tzinfo=UTC)))) == 1
    assert next(ticks._intervals(schedule, datetime(9999, 12, 30, 1, tzinfo=UTC))) == datetime(9999, 12, 31, tzinfo=UTC)
