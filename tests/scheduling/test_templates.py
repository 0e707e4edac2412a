"""Parameters made of the logical date and of what other jobs left."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltoolkit.notebook.parameters import read_cell
from mltoolkit.scheduling.templates import LogicalDate, Upstream, fields, fill, parse, shift, upstream_value

BERLIN = ZoneInfo("Europe/Berlin")
AT = datetime(2013, 3, 1, 2, 30, tzinfo=BERLIN)
RUN = {"run_id": "a41f", "output": "/w/a.ipynb", "html": None, "metrics": {"auc": 0.74, "val/a b": 1}, "parameters": {"month": 2, "day": "2013-02-01"}}


def filled(text: Any, declared: str = "", at: datetime = AT) -> Any:
    """What a value becomes for a parameter `p` that is declared so."""
    parameter = read_cell(declared)["p"] if declared else None

    def resolve(field: LogicalDate | Upstream, annotation: Any) -> Any:
        return field.text(at, annotation) if isinstance(field, LogicalDate) else upstream_value(field, RUN)

    return fill(text, parameter, resolve)


@pytest.mark.parametrize(
    ("at", "number", "unit", "expected"),
    [
        ("2013-03-31T02:00", -1, "mo", "2013-02-28T02:00"),
        ("2012-03-31T02:00", -1, "mo", "2012-02-29T02:00"),
        ("2013-01-15T02:00", -1, "mo", "2012-12-15T02:00"),
        ("2013-01-15T02:00", -25, "mo", "2010-12-15T02:00"),
        ("2012-12-31T02:00", 2, "mo", "2013-02-28T02:00"),
        ("2012-02-29T02:00", -1, "y", "2011-02-28T02:00"),
        ("2012-02-29T02:00", 4, "y", "2016-02-29T02:00"),
        ("2013-03-01T02:00", -1, "d", "2013-02-28T02:00"),
        ("2013-03-31T03:00", -1, "d", "2013-03-30T03:00"),
        ("2013-03-31T03:00", -1, "h", "2013-03-31T01:00"),
        ("2013-10-27T03:00", -1, "h", "2013-10-27T02:00"),
        ("2013-01-01T00:00", -2, "w", "2012-12-18T00:00"),
    ],
)
def test_dates_are_moved_on_the_calendar(at: str, number: int, unit: str, expected: str) -> None:
    moved = shift(datetime.fromisoformat(at).replace(tzinfo=BERLIN), number, unit)
    assert moved.replace(tzinfo=None, fold=0) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(("number", "unit"), [(-3000, "y"), (-30000, "mo"), (9000, "y"), (-999999, "d"), (999999, "w"), (-99999999, "h"), (7986, "y")])
def test_no_date_leaves_the_calendar(number: int, unit: str) -> None:
    with pytest.raises(ValueError, match=r"leaves the calendar|out of range|must be in"):
        shift(datetime(2013, 12, 31, tzinfo=UTC), number, unit)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(-500, 500))
def test_months_count_months(at: datetime, number: int) -> None:
    moved = shift(at, number, "mo")
    assert (moved.year * 12 + moved.month) - (at.year * 12 + at.month) == number
    assert moved.day == at.day or (moved.day < at.day and (moved.replace(day=28).month == moved.month))


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("{logical_date-1mo:%m}", "p: int = 1", 2),
        ("{logical_date-1mo:%m}", "p: str = ''", "02"),
        ("{logical_date:%m}", "p = None", 3),
        ("{logical_date:%m}", "", "03"),
        ("{ logical_date-1mo:%Y-%m }", "p: str = ''", "2013-02"),
        ("{logical_date}", "p: date = None", date(2013, 3, 1)),
        ("{logical_date}", "p: date | None = None", date(2013, 3, 1)),
        ("{logical_date-1d}", "p: datetime = None", datetime(2013, 2, 28, 2, 30)),
        ("{logical_date}", "p: str = ''", "2013-03-01T02:30:00"),
        ("{logical_date+1y-2mo+1w-1d+3h:%Y-%m-%d %H:%M}", "p: str = ''", "2014-01-07 05:30"),
        ("{logical_date:%H:%M}", "p: str = ''", "02:30"),
        ("{logical_date:100%%}", "p: str = ''", "100%"),
        ("month {logical_date:%m}, {logical_date:%Y}", "p: str = ''", "month 03, 2013"),
        ("{{{logical_date:%m}}}", "p: str = ''", "{03}"),
        ("{{}}", "p: str = ''", "{}"),
        ("plain", "p: str = ''", "plain"),
        (["{logical_date-2mo:%m}", "{logical_date-1mo:%m}", 7], "p: list[int] = []", [1, 2, 7]),
        (["{logical_date:%m}"], "p: list[Annotated[int, Field(ge=1)]] | None = None", [3]),
        (["{logical_date:%m}"], "p: tuple[int, ...] = ()", [3]),
        (["{logical_date:%m}"], "p: list = []", ["03"]),
        (["{logical_date:%m}"], "p = None", [3]),
        ([["{logical_date:%m}"]], "p: list[list[int]] = []", [[3]]),
        ({"from": "{logical_date:%m}"}, "p: dict[str, int] = {}", {"from": 3}),
        ({"from": ["{logical_date:%d}"]}, "", {"from": ["01"]}),
        ({"from": "{logical_date}"}, "p: dict[str, date] = {}", {"from": date(2013, 3, 1)}),
        ("{prepare.metrics.auc}", "p: float = 0", 0.74),
        ("{flights/prepare.metrics.val/a b}", "p: int = 0", 1),
        ("{prepare.metrics.auc}", "", 0.74),
        ("auc {prepare.metrics.auc}", "p: str = ''", "auc 0.74"),
        ("{prepare.output}", "p: Path = None", Path("/w/a.ipynb")),
        ("{prepare.run_id}", "p: str = ''", "a41f"),
        ("{prepare.parameters.month}", "p: int = 0", 2),
        ("{prepare.parameters.day}", "p: date = None", date(2013, 2, 1)),
        (3, "p: int = 1", 3),
        (None, "p: int = None", None),
        ("{logical_date:%B}", "p: int = 1", "March"),
    ],
)
def test_templates_become_values_of_the_declared_type(text: Any, declared: str, expected: Any) -> None:
    value = filled(text, declared)
    assert value == expected
    assert type(value) is type(expected)


def test_early_years_have_four_digits() -> None:
    assert filled("{logical_date:%Y}", at=datetime(813, 1, 1, tzinfo=UTC)) == "0813"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "a single '{'"),
        ("a } b", "a single '}'"),
        ("{logical_date", "a single '{'"),
        ("{{logical_date}", "a single '}'"),
        ("{}", "no field of a template"),
        ("{logical_date-1m:%m}", "months are 'mo'"),
        ("{logical_date-1}", "no field of a template"),
        ("{logical_date - 1d}", "no field of a template"),
        ("{logical_date-1s}", "no field of a template"),
        ("{logical_date:}", "nothing after the colon"),
        ("{logical_date:%}", "no directive"),
        ("{logical_date:%-m}", "no directive"),
        ("{logical_date:%s}", "no directive"),
        ("{prepare}", "no field of a template"),
        ("{prepare.metrics}", "no field of a template"),
        ("{prepare.metrics.}", "no field of a template"),
        ("{prepare.__class__}", "no field of a template"),
        ("{prepare.output.x}", "no field of a template"),
        ('{"a": 1}', "written twice"),
    ],
)
def test_what_is_no_template_is_refused(text: str, problem: str) -> None:
    for action in (parse, fields, lambda text: fields([{"a": text}])):
        with pytest.raises(ValueError, match=problem):
            action(text)


def test_fields_are_found_wherever_they_are() -> None:
    value = {"a": ["x {logical_date}", 3], "b": {"c": "{prepare.run_id}"}}
    assert fields(value) == [LogicalDate(), Upstream("prepare", "run_id")]
    assert fields(7) == []


@given(st.text(alphabet="ab{}%:.-", max_size=12))
def test_text_without_fields_comes_back(text: str) -> None:
    assert filled(text.replace("{", "{{").replace("}", "}}"), "p: str = ''") == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{prepare.metrics.acu}", "has no metric 'acu'; did you mean 'auc'"),
        ("{prepare.parameters.year}", "has no parameter 'year'; known: day, month"),
        ("{prepare.html}", "has no html"),
    ],
)
def test_what_a_run_has_not_left_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        filled(text)
