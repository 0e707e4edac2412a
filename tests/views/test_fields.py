"""Each type has the widget that suits it, and what a field reads is what the contract takes."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest
from conftest import notebook_of

from mltoolkit.errors import MissingExtra
from mltoolkit.notebook.parameters import Contract, contract
from mltoolkit.views import style
from mltoolkit.views.fields import UNGIVEN, Field, chosen, field, problems

CELL = """
from datetime import date, datetime, time
from pathlib import Path
from typing import Annotated, Literal, Optional
month: Annotated[int, Ge(1), Le(12)] = 4  # of 2013
open_ended: Annotated[int, Gt(0), Lt(10)] = 9
even: Annotated[int, Ge(0), Le(10), MultipleOf(2)] = 2
huge: Annotated[int, Ge(0), Le(10**9)] = 5
rate: Annotated[float, Gt(0), Le(1)] = 0.05
tiny: Annotated[float, Gt(0), Le(1)] = 1e-5
infinite: Annotated[float, Ge(0), Le(float("inf"))] = 1.0
bounded_choice: Annotated[int, Ge(1), Le(3)]
model: Literal["linear", "trees"] = "trees"
must_choose: Literal[1, 2]
maybe: Optional[Literal["a"]] = None
verbose: bool = False
asked: bool
perhaps: bool | None = None
since: date = date(2013, 1, 1)
no_day: date | None = None
at: datetime = datetime(2013, 1, 1, 12)
zoned: datetime = datetime(2013, 1, 1, tzinfo=timezone.utc)
limit: int | None = None
name: str = "x"
empty: str = ""
note: str | None = None
place: Path = Path("a")
origins: list[str] = ["EWR"]
mapping: dict[str, int] = {"a": 1}
codes: set[int] = {1, 2}
long: list[int] = [1000000, 2000000, 3000000, 4000000, 5000000]
today: date = date.today()
flag: bool = bool(input)
odd: float = float("nan")
either: int | str = 7
anything = None
owner: str
key: SecretStr
token: Annotated[str, "secret"] = None
"""


REQUIRED = {"bounded_choice": 1, "must_choose": 1, "asked": True, "owner": "x"}


@pytest.fixture(scope="module")
def declared() -> Contract:
    return contract(notebook_of(parameters=CELL))


@pytest.fixture
def fields(declared: Contract) -> dict[str, Field]:
    return {name: field(each) for name, each in declared.parameters.items()}


def test_the_widget_suits_the_type(fields: dict[str, Field]) -> None:
    kinds = {name: type(each.control).__name__ for name, each in fields.items()}
    assert [name for name, kind in kinds.items() if kind == "IntSlider"] == ["month", "open_ended", "even"]
    assert [name for name, kind in kinds.items() if kind == "FloatSlider"] == ["rate"]
    assert [name for name, kind in kinds.items() if kind == "Dropdown"] == ["model", "must_choose", "maybe", "asked", "perhaps", "flag"]
    assert [name for name, kind in kinds.items() if kind == "Checkbox"] == ["verbose"]
    assert [name for name, kind in kinds.items() if "Date" in kind] == ["since", "no_day", "at", "today"]
    assert [name for name, kind in kinds.items() if kind == "Password"] == ["key"]
    assert [name for name, kind in kinds.items() if kind == "Textarea"] == ["long"]
    month, ended, even, rate = (fields[name].control for name in ("month", "open_ended", "even", "rate"))
    assert (month.min, month.max, month.value, month.description) == (1, 12, 4, "month")
    assert "1 to 12" in month.tooltip
    assert "of 2013" in month.tooltip
    assert "of 2013" in fields["month"].message.value
    assert (ended.min, ended.max) == (1, 9)
    assert even.step == 2
    assert (rate.min, rate.max, rate.value) == (0, 1, 0.05)


def test_untouched_fields_have_the_defaults_and_give_nothing(declared: Contract, fields: dict[str, Field]) -> None:
    for name, default in declared.defaults.items():
        if name != "odd":  # a number that is none equals nothing
            assert repr(declared.check({**REQUIRED, name: fields[name].value}, secrets=["key"])[name]) == repr(default), name
    ungiven = [name for name, each in fields.items() if each.value is UNGIVEN]
    assert ungiven == ["bounded_choice", "must_choose", "asked", "today", "flag", "odd", "owner", "key"]
    assert chosen(list(fields.values())) == ({}, {})
    missing = problems(declared, list(fields.values()))
    assert sorted(missing) == ["asked", "bounded_choice", "key", "must_choose", "owner"]
    assert missing["bounded_choice"] == "must be given: int (1 to 3)"


FILLED: list[tuple[str, Any, Any]] = [
    ("month", 12, 12), ("rate", 0.5, 0.5), ("tiny", "1e-3", 1e-3), ("bounded_choice", "2", 2), ("must_choose", 2, 2), ("maybe", "a", "a"), ("asked", False, False),
    ("perhaps", True, True), ("since", date(2014, 2, 3), date(2014, 2, 3)), ("no_day", date(2014, 1, 1), date(2014, 1, 1)),
    ("at", datetime(2014, 1, 1), datetime(2014, 1, 1)), ("limit", "5", 5), ("name", "", ""), ("note", "five", "five"), ("place", "b/c", "b/c"),
    ("origins", '["JFK", "LGA"]', ["JFK", "LGA"]), ("mapping", "{a: 2}", {"a": 2}), ("codes", "[3]", [3]), ("either", "x", "x"),
    ("today", date(2014, 1, 1), date(2014, 1, 1)), ("flag", True, True), ("owner", "Ö'\"", "Ö'\""), ("key", "hunter2", "hunter2"),
]  # fmt: skip


def test_what_is_filled_in_is_read_and_passes(declared: Contract, fields: dict[str, Field]) -> None:
    for name, held, _ in FILLED:
        fields[name].control.value = held
    assert problems(declared, list(fields.values())) == {}
    values, secrets = chosen(list(fields.values()))
    assert secrets == {"key": "hunter2"}
    for name, _, expected in FILLED:
        if name != "key":
            assert values[name] == expected or str(values[name]) == expected, name
    assert set(values) == {name for name, _, _ in FILLED} - {"key"}
    checked = declared.check(values, secrets=secrets)
    assert checked["codes"] == {3}


@pytest.mark.parametrize(
    ("name", "held", "said"),
    [("huge", "-1", "greater"), ("tiny", "0", "greater than 0"), ("rate", 0.0, "greater than 0"), ("limit", "many", "int"), ("origins", '["a", 7', "list"), ("mapping", "[1]", "dict"), ("codes", '["x"]', "int"), ("huge", "", "")],
)  # fmt: skip
def test_what_is_wrong_is_said_beside_the_field(declared: Contract, fields: dict[str, Field], name: str, held: Any, said: str) -> None:
    fields[name].control.value = held
    found = problems(declared, list(fields.values()))
    if not said:  # cleared: as in the notebook
        assert name not in found
        return
    assert said in found[name]
    fields[name].tell(found[name] + "<script>")
    assert 'role="alert"' in fields[name].message.value
    assert "<script" not in fields[name].message.value


def test_a_field_shows_a_value_that_is_given(declared: Contract) -> None:
    assert field(declared.parameters["month"], 7).value == 7
    assert field(declared.parameters["limit"], 7).control.value == "7"
    assert field(declared.parameters["model"], "forest").value is UNGIVEN
    assert field(declared.parameters["zoned"]).value == datetime.fromisoformat("2013-01-01T00:00:00+00:00")


def test_a_secret_is_never_shown(declared: Contract) -> None:
    made = field(declared.parameters["key"], "hunter2")
    assert "hunter2" not in made.control.value + made.control.placeholder + made.control.tooltip


def test_without_ipywidgets_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mltoolkit\[lab\]'"):
        style.widgets()
