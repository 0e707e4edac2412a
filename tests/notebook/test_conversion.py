"""What can travel, and what fits a declared type: nothing is lost, nothing is guessed."""

from __future__ import annotations

import ast
import collections
import enum
import json
import math
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltoolkit.notebook.annotations import read_annotation
from mltoolkit.notebook.conversion import convert, jsonable, plain, read_word


def read(text: str) -> Any:
    return read_annotation(ast.parse(text, mode="eval").body)


class Colour(enum.StrEnum):
    red = "red"


class Size(enum.IntEnum):
    small = 1


class Plain(enum.Enum):
    thing = 1


class Text(str):
    __slots__ = ()


class Raw(bytes):
    pass


class Money(Decimal):
    pass


class Pause(timedelta):
    pass


class Day(date):
    pass


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.red, "red"),
        (Size.small, 1),
        (Text("a"), "a"),
        (Raw(b"a"), b"a"),
        (Money("1.50"), Decimal("1.50")),
        (Pause(hours=1), timedelta(hours=1)),
        (Day(2013, 1, 31), date(2013, 1, 31)),
        (np.int64(3), 3),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), b"a"),
        (pd.Timestamp("2013-01-31 06:30"), datetime(2013, 1, 31, 6, 30)),
        (pd.Timestamp("2013-01-31", tz="Europe/Berlin"), datetime(2013, 1, 31, tzinfo=ZoneInfo("Europe/Berlin"))),
        (pd.Timedelta("1h"), timedelta(hours=1)),
        (Pair(1, 2), (1, 2)),
        (collections.OrderedDict(a=np.int8(1)), {"a": 1}),
        (range(3), [0, 1, 2]),
        (Path("a"), Path("a")),
        (frozenset({Size.small}), frozenset({1})),
        ([None, True, 1, 1.5, "a"], [None, True, 1, 1.5, "a"]),
    ],
)
def test_plain_gives_builtin_types(value: Any, expected: Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        [object()],
        {"a": object()},
        Plain.thing,
        np.arange(3),
        np.longdouble(1),
        np.complex128(1),
        np.datetime64("2013-01-31"),
        np.datetime64(1, "ns"),
        pd.NaT,
        pd.NA,
        pd.Timestamp(1),
        pd.Timedelta(1, "ns"),
        pd.Series([1]),
        1j,
        PurePosixPath("a"),
        len,
        bytearray(b"a"),
        (each for each in [1]),
    ],
    ids=repr,
)
def test_plain_refuses_what_source_cannot_say(value: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be written|finer than a microsecond"):
        plain(value)


def test_plain_refuses_what_is_endless() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    wide = ["x"] * 10
    for _ in range(7):
        wide = [wide] * 10  # type: ignore[list-item]
    for value, reason in ((loop, "deeper"), (deep, "deeper"), (wide, "too large"), (range(10**30), "too large")):
        with pytest.raises(ValueError, match=reason):
            plain(value)
    assert len(plain("x" * 1_000_000)) == 1_000_000


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.builds(Path, st.text(st.characters(exclude_characters="\0"), max_size=5)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3) | st.integers() | st.dates(), inner, max_size=3),
        st.sets(st.integers() | st.text(max_size=3)),
    ),
    max_leaves=8,
)


@settings(database=None, deadline=None, max_examples=200)
@given(VALUES)
def test_jsonable_is_strict_json_in_utf8(value: Any) -> None:
    text = json.dumps(jsonable(value), allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == jsonable(value)


def test_jsonable_of_each_kind() -> None:
    huge = 10**5000
    assert jsonable({"n": huge, 1: math.inf, None: -math.inf}) == {"n": hex(huge), "1": "Infinity", "None": "-Infinity"}
    assert jsonable({huge: 1}) == {hex(huge): 1}
    assert jsonable("\ud800é😀") == "\\ud800é😀"
    assert jsonable([Decimal("1.50"), time(6, 30), b"\x00", {2, 1}, (1,)]) == ["1.50", "06:30:00", "AA==", [1, 2], [1]]
    assert jsonable(timedelta(days=1, seconds=1, microseconds=500_000)) == "P1DT1.5S"


@settings(database=None, deadline=None)
@given(st.timedeltas())
def test_durations_round_trip_as_text(value: timedelta) -> None:
    assert read_word(timedelta, str(value)) == value
    assert read_word(timedelta, jsonable(value)) == value


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "42", 42),
        (int, "-1_000", -1000),
        (float, "1e-3", 0.001),
        (float, "-inf", -math.inf),
        (bool, "TRUE", True),
        (bool, "no", False),
        (bool, "1", True),
        (str, "007", "007"),
        (Any, "x", "x"),
        (bytes, "é", "é".encode()),
        (bytes, "\udcff", b"\xff"),
        (type(None), "null", None),
        (date, "2013-01-31", date(2013, 1, 31)),
        (datetime, "2013-01-31T06:30Z", datetime(2013, 1, 31, 6, 30, tzinfo=UTC)),
        (datetime, "2013-01-31", datetime(2013, 1, 31)),
        (time, "06:30", time(6, 30)),
        (timedelta, "90", timedelta(seconds=90)),
        (timedelta, "1.5 h", timedelta(minutes=90)),
        (timedelta, "-1 day, 23:00:00", timedelta(hours=-1)),
        (timedelta, "2 days", timedelta(days=2)),
        (timedelta, "0:00:00.000001", timedelta(microseconds=1)),
        (timedelta, "-PT1H", timedelta(hours=-1)),
        (Decimal, "1.50", Decimal("1.50")),
        (Path, "a/b", Path("a/b")),
    ],
)
def test_read_word(kind: Any, text: str, expected: Any) -> None:
    found = read_word(kind, text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "1.0"),
        (int, "x"),
        (int, "9" * 5000),
        (float, "1,5"),
        (bool, "maybe"),
        (bool, ""),
        (type(None), ""),
        (date, "2013-02-30"),
        (datetime, "tomorrow"),
        (time, "25:00"),
        (timedelta, ""),
        (timedelta, "a while"),
        (timedelta, "999999999999 days, 0:00:00"),
        (Decimal, "1,5"),
        (bytes, "\ud800"),
        (list, "[1]"),
    ],
)
def test_read_word_refuses(kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"^should be "):
        read_word(kind, text)


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("int", 3, 3),
        ("int", 3.0, 3),
        ("int", np.int64(3), 3),
        ("int", "1e6", 1_000_000),
        ("float", 1, 1.0),
        ("float", 2**53, float(2**53)),
        ("float", "1e-3", 0.001),
        ("float", "1.5E+3", 1500.0),
        ("bool", True, True),
        ("str", "007", "007"),
        ("str", "1e3", "1e3"),
        ("bytes", b"a", b"a"),
        ("date", "2013-01-31", date(2013, 1, 31)),
        ("datetime", date(2013, 1, 31), datetime(2013, 1, 31)),
        ("datetime", "2013-01-31T06:30", datetime(2013, 1, 31, 6, 30)),
        ("time", "06:30", time(6, 30)),
        ("timedelta", "PT1H", timedelta(hours=1)),
        ("Path", "a/b", Path("a/b")),
        ("Decimal", 1, Decimal(1)),
        ("Decimal", 0.1, Decimal("0.1")),
        ("Decimal", "1.50", Decimal("1.50")),
        ("None", None, None),
        ("list", (1, "a"), [1, "a"]),
        ("list[int]", range(3), [0, 1, 2]),
        ("list[date]", ["2013-01-31"], [date(2013, 1, 31)]),
        ("tuple[int, str]", [1, "a"], (1, "a")),
        ("tuple[int, ...]", [], ()),
        ("set[int]", [1, 1.0, 2], {1, 2}),
        ("set[tuple[int, int]]", [[1, 2]], {(1, 2)}),
        ("frozenset[str]", {"a"}, frozenset({"a"})),
        ("dict[int, float]", {"1": 2}, {1: 2.0}),
        ("dict[date, bool]", {"2013-01-31": True}, {date(2013, 1, 31): True}),
        ("dict[str, int]", {"1": 2}, {"1": 2}),
        ("dict", {1: [2]}, {1: [2]}),
        ("Optional[date]", "2013-01-31", date(2013, 1, 31)),
        ("Optional[date]", None, None),
        ("Annotated[int | None, Ge(1)]", None, None),
        ("Annotated[int | str, Ge(1)] | None", 3, 3),
        ("int | float", 1.0, 1.0),
        ("int | float", 1, 1),
        ("float | int", 1, 1),
        ("bool | int", 1, 1),
        ("date | str", "2013-01-31", "2013-01-31"),
        ("date | int", "2013-01-31", date(2013, 1, 31)),
        ("list[int] | int | None", None, None),
        ("Annotated[int | str, Ge(0)] | Literal['a']", "a", "a"),
        ("Path | date", "2013-01-31", date(2013, 1, 31)),
        ("Literal['a', 1, True]", True, True),
        ("Literal['a', 1, True]", 1, 1),
        ("Literal['\\ud800']", "\ud800", "\ud800"),
        ("Annotated[str, Field(pattern='^a+$')] | None", "aa", "aa"),
        ("Annotated[date, Ge(date(2013, 1, 1))]", "2013-01-31", date(2013, 1, 31)),
        ("SecretStr", "x", "x"),
        ("Any", {"a": (1,)}, {"a": (1,)}),
        ("DataFrame", {"a": (1,)}, {"a": (1,)}),
    ],
)
def test_convert_accepts_what_loses_nothing(declared: str, value: Any, expected: Any) -> None:
    found = convert(read(declared), value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("int", 3.5),
        ("int", True),
        ("int", "3"),
        ("int", math.nan),
        ("int", math.inf),
        ("int", "1e-3"),
        ("int", None),
        ("float", True),
        ("float", "0.5"),
        ("float", 2**53 + 1),
        ("float", 10**400),
        ("bool", 1),
        ("bool", "true"),
        ("str", 7),
        ("str", True),
        ("str", None),
        ("str", b"a"),
        ("bytes", "a"),
        ("date", datetime(2013, 1, 31)),
        ("date", 20130131),
        ("date", "31.1.2013"),
        ("datetime", 0),
        ("time", 630),
        ("timedelta", 90),
        ("Path", 3),
        ("Decimal", True),
        ("Decimal", "x"),
        ("None", 0),
        ("list", "abc"),
        ("list", {1}),
        ("list", {"a": 1}),
        ("list[int]", [1, True]),
        ("tuple", "ab"),
        ("tuple[int, str]", [1]),
        ("set", "ab"),
        ("set", {"a": 1}),
        ("dict", [("a", 1)]),
        ("dict[int, int]", {"x": 1}),
        ("Optional[int]", "3"),
        ("int | list[int]", "3"),
        ("Literal[1]", True),
        ("Literal[1]", 1.0),
        ("Literal[True]", 1),
        ("Annotated[int, Ge(1)]", 0),
        ("Annotated[int, Ge(1)] | None", 0),
        ("Annotated[str, Field(pattern='^a+$')]", "ab"),
        ("Annotated[str, MinLen(2)]", "a"),
        ("Annotated[list[int], MaxLen(1)]", [1, 2]),
        ("Annotated[float, Ge(0)]", math.nan),
        ("list[Annotated[int, Le(12)]]", [13]),
    ],
)
def test_convert_refuses_what_would_lose_or_guess(declared: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"should |is a whole number|is missing"):
        convert(read(declared), value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("Annotated[str, Ge(1)]", "a"),
        ("Annotated[int, Ge('a')]", 1),
        ("Annotated[str, Field(pattern='(')]", "a"),
        ("Annotated[int, MultipleOf(0)]", 1),
        ("Annotated[int, Field(pattern='a')]", 1),
        ("Annotated[list[str], Field(pattern='a')]", ["a"]),
        ("set[list[int]]", [[1]]),
    ],
)
def test_an_annotation_that_cannot_work_says_so(declared: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"its annotation does not work|should be a valid|should be hashable"):
        convert(read(declared), value)


def test_messages_name_the_position_and_never_the_value() -> None:
    with pytest.raises(ValueError, match=r"^\['a'\]\[1\] should be a valid integer$"):
        convert(read("dict[str, list[int]]"), {"a": [1, "s3cret"]})
    with pytest.raises(ValueError, match=r"\(and 2 more\)$") as caught:
        convert(read("list[int]"), ["s3cret"] * 5)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^should be int \| list\[int\] \| None$"):
        convert(read("int | list[int] | None"), "s3cret")


DECLARED = [
    "int | None",
    "float",
    "bool",
    "str",
    "date",
    "datetime",
    "time",
    "timedelta",
    "Path",
    "Decimal",
    "list[int]",
    "dict[str, float]",
    "set[int]",
    "tuple[int, ...]",
    "int | str",
    "Literal['a', 1]",
    "Annotated[int, '1 <= x <= 12']",
    "Annotated[str | int, MinLen(2)]",
]


@settings(database=None, deadline=None, max_examples=300)
@given(st.sampled_from(DECLARED), VALUES)
def test_convert_is_idempotent_or_refuses(declared: str, value: Any) -> None:
    try:
        once = convert(read(declared), value)
    except ValueError:
        return
    assert repr(convert(read(declared), once)) == repr(once)


def test_an_integer_of_any_size_passes() -> None:
    assert convert(int, 10**5000) == convert(read("Annotated[int, Ge(1)]"), 10**5000) == 10**5000
    assert convert(read("int | str"), 10**5000) == 10**5000


def test_zones_and_folds_survive() -> None:
    moment = datetime(2013, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert convert(datetime, moment).fold == 1
    assert convert(datetime, moment).tzinfo is moment.tzinfo
    assert convert(datetime, datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=1)))).utcoffset() == timedelta(hours=1)


def test_importing_loads_nothing_heavy() -> None:
    import subprocess

    code = "import sys, mltoolkit.notebook.values; print(sorted({'pydantic', 'papermill', 'nbformat', 'IPython', 'pandas', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
