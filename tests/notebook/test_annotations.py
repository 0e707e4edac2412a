"""Reading types and values from source that must never run."""

from __future__ import annotations

import ast
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st

from mltoolkit.errors import ParameterError
from mltoolkit.notebook import annotations
from mltoolkit.notebook.annotations import HIDDEN, Described, Matches, NotLiteral


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def read(text: str, imports: str = "") -> Any:
    return annotations.read_annotation(expression(text), annotations.imported(ast.parse(imports)))


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "-1.5",
        "+3",
        "~7",
        "not True",
        "'a' 'b'",
        "b'x'",
        "None",
        "[1, (2,), {3}, {4: 5}]",
        "1 << 20",
        "24 * 60 * 60",
        "2 ** 10 - 1",
        "10 ** -2",
        "7 // 2 % 3 / 4",
        "8 >> 1 | 1 & 3 ^ 2",
        "[0] * 3 + [1]",
        "'ab' * 3",
        "float('-inf')",
        "int('ff', 16)",
        "int()",
        "int(3.9)",
        "str(3)",
        "bool(0)",
        "set()",
        "frozenset({1})",
        "tuple([1])",
        "list(range(1, 13))",
        "dict(a=1, b=[2])",
        "date(2013, 1, 31) - timedelta(days=1)",
        "datetime(2013, 1, 31, tzinfo=timezone.utc)",
        "timezone(timedelta(hours=1))",
        "ZoneInfo('Europe/Berlin')",
        "Decimal('1.50')",
        "Path('a') / 'b'",
    ],
)
def test_evaluate_agrees_with_python(text: str) -> None:
    from datetime import time, timezone

    names = {each.__name__: each for each in (date, datetime, time, timedelta, timezone, Decimal, Path, ZoneInfo)}
    expected = eval(text, names)
    found = annotations.evaluate(expression(text))
    assert found == expected
    assert type(found) is type(expected)


def test_evaluate_constants_of_modules() -> None:
    assert math.isnan(annotations.evaluate(expression("np.nan")))
    assert annotations.evaluate(expression("-math.inf")) == -math.inf
    assert annotations.evaluate(expression("datetime.UTC")) is UTC


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "open('x')",
        "__import__('os').system('true')",
        "().__class__",
        "f'{1}'",
        "f'a'",
        "...",
        "[*[1]]",
        "{**{}}",
        "dict(**{'a': 1})",
        "date(*[2013, 1, 1])",
        "1 if True else 2",
        "1 < 2",
        "lambda: 1",
        "(x := 1)",
        "[i for i in [1]]",
        "{[1]: 2}",
        "{'a': 1, 'a': 2}",
        "{[]}",
        "1 / 0",
        "1 @ 2",
        "'a' + 1",
        "-'a'",
        "10 ** 10 ** 10",
        "1 << 10 ** 9",
        "2.0 ** 100000",
        "1 << 1.5",
        "'a' * 10 ** 9",
        "10 ** 9 * [0]",
        "('a' * 60000) + ('a' * 60000)",
        "'%1000000000d' % 1",
        "range(10 ** 9)",
        "list(range(10 ** 30))",
        "int(Decimal('1e999999'))",
        "int('9' * 5000)",
        "date(2013, 13, 1)",
        "ZoneInfo('no/where')",
        "ZoneInfo('../etc')",
        "mylib.date(2013, 1, 1)",
        "date.today()",
        "datetime.datetime.now()",
    ],
)
def test_evaluate_refuses_what_is_no_literal(text: str) -> None:
    with pytest.raises(NotLiteral, match="without running"):
        annotations.evaluate(expression(text))


def test_names_follow_the_imports_of_the_cell() -> None:
    imports = "import datetime as d, os.path\nfrom pathlib import Path as P\nfrom mylib import date\nfrom . import time\nx = 1"
    assert read("d.date", imports) is date
    assert read("P", imports) is Path
    assert read("date", imports) is Any
    assert read("time", imports) is Any
    assert read("datetime.date") is read("dt.date") is read("date") is date
    assert read("collections.abc.Mapping") is dict
    assert read("f().date") is Any


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", int),
        ("None", type(None)),
        ("'list[int]'", list[int]),
        ("' Optional[float] '", float | None),
        ("Union[int, str, None]", int | str | None),
        ("int | str", int | str),
        ("int | (str | None)", int | str | None),
        ("Annotated[int]", int),
        ("Literal['a', 1, None, True]", Literal["a", 1, None, True]),
        ("Literal['a']", Literal["a"]),
        ("List[Dict[str, Set[int]]]", list[dict[str, set[int]]]),
        ("Sequence[int]", list[int]),
        ("Mapping", dict),
        ("tuple[int, ...]", tuple[int, ...]),
        ("Tuple[int, str]", tuple[int, str]),
        ("frozenset[date]", frozenset[date]),
        ("Final[int]", int),
        ("Annotated[int, Unknown(3)]", int),
        ("Annotated[int, unknown]", int),
        ("Annotated[int, 'how many']", Annotated[int, Described("how many")]),
        ("Annotated[int, Doc('how many')]", Annotated[int, Described("how many")]),
        ("Annotated[int, Field(ge=1, le=12, title='x')]", Annotated[int, Ge(1), Le(12)]),
        ("Annotated[int, Ge(1), Le(le=12)]", Annotated[int, Ge(1), Le(12)]),
        ("Annotated[int, Interval(gt=0, lt=2.5, ge=None)]", Annotated[int, Gt(0), Lt(2.5)]),
        ("Annotated[int, '1 <= x <= 12']", Annotated[int, Ge(1), Le(12)]),
        ("Annotated[int, '12 >= x > 0']", Annotated[int, Le(12), Gt(0)]),
        ("Annotated[float, '>= 0, < 1']", Annotated[float, Ge(0), Lt(1)]),
        ("Annotated[date, 'day >= date(2013, 1, 1)']", Annotated[date, Ge(date(2013, 1, 1))]),
        ("Annotated[int, MultipleOf(2)]", Annotated[int, MultipleOf(2)]),
        ("Annotated[str, Len(1, 3)]", Annotated[str, MinLen(1), MaxLen(3)]),
        ("Annotated[str, Len(1, None)]", Annotated[str, MinLen(1)]),
        ("Annotated[str, StringConstraints(pattern='[A-Z]')]", Annotated[str, Matches("[A-Z]")]),
        ("conint(ge=1)", Annotated[int, Ge(1)]),
        ("PositiveInt", Annotated[int, Gt(0)]),
        ("pydantic.NonNegativeFloat", Annotated[float, Ge(0)]),
        ("SecretStr", Annotated[str, HIDDEN]),
        ("Secret[int]", Annotated[int, HIDDEN]),
        ("Annotated[str, Secret]", Annotated[str, HIDDEN]),
        ("Annotated[str, Secret()]", Annotated[str, HIDDEN]),
        ("DataFrame", Any),
        ("pd.DataFrame", Any),
        ("list[int, int]", Any),
        ("dict[str]", Any),
        ("DataFrame[int]", Any),
        ("Literal[Color.RED]", Any),
        ("Literal[[1]]", Any),
        ("'not python ('", Any),
        ("f()", Any),
        ("3", Any),
        ("int | DataFrame", int | Any),
        ("list[DataFrame]", list[Any]),
    ],
)
def test_read_annotation(text: str, expected: Any) -> None:
    assert read(text) == expected


@pytest.mark.parametrize("note", ["a < b", "x == 3", "x < 3, really", "x < LIMIT", "x <", "1 < 2", "x < y < 3", "", "< ["])
def test_a_string_that_is_no_comparison_is_help(note: str) -> None:
    assert read(f"Annotated[int, {note!r}]") == Annotated[int, Described(note)]


@pytest.mark.parametrize("note", ["Field(ge=LIMIT)", "Ge(len('a'))", "Len(MIN)", "Interval(le=f())"])
def test_a_bound_that_is_no_literal_is_refused(note: str) -> None:
    with pytest.raises(ParameterError, match="write it as a literal"):
        read(f"Annotated[int, {note}]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int", ""),
        ("Annotated[int, Ge(1), Le(12)] | None", "1 to 12"),
        ("Annotated[int, Gt(0), Lt(9)]", "> 0, < 9"),
        ("Annotated[int, Ge(2), MultipleOf(2)]", ">= 2, multiple of 2"),
        ("Annotated[str, Len(1, 3), Field(pattern='a+')]", "length >= 1, length <= 3, matches a+"),
        ("list[Annotated[int, Ge(1)]]", ""),
    ],
)
def test_bounds_in_words(text: str, words: str) -> None:
    assert annotations.bounds(read(text)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Optional[int]", "int | None"),
        ("Annotated[int, Ge(1)]", "int"),
        ("Literal['a', 1]", "Literal['a', 1]"),
        ("dict[str, tuple[int, ...]]", "dict[str, tuple[int, ...]]"),
        ("Unknown", "Any"),
    ],
)
def test_spelled(text: str, words: str) -> None:
    assert annotations.spelled(read(text)) == words


def test_a_secret_is_found_anywhere_in_a_type() -> None:
    for text in ("SecretStr", "SecretStr | None", "list[SecretStr]", "Annotated[SecretStr, Field(min_length=3)]"):
        assert annotations.is_secret(read(text)), text
    for text in ("str", "Literal['hidden']", "Any", "tuple[int, ...]", "Annotated[str, 'hidden']"):
        assert not annotations.is_secret(read(text)), text


ATOMS = st.sampled_from(
    ["int", "str", "x", "None", "...", "'a'", "1", "-1", "Ge", "Field(ge=1)", "Interval(gt='a')", "Literal", "Annotated", "Optional", "Secret", "tuple", "dict", "list", "1.5"]
)
NESTED = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: f"{a}[{b}]", inner, inner),
        st.builds(lambda a, b, c: f"{a}[{b}, {c}]", inner, inner, inner),
        st.builds(lambda a, b: f"{a} | {b}", inner, inner),
        st.builds(lambda a, b: f"{a}({b})", inner, inner),
    ),
    max_leaves=12,
)


@settings(database=None, deadline=None, max_examples=300)
@given(NESTED)
def test_no_annotation_breaks_the_reader(text: str) -> None:
    try:
        node = expression(text)
    except SyntaxError:
        return
    try:
        found = annotations.read_annotation(node)
    except ParameterError:
        return
    assert isinstance(annotations.spelled(found), str)
    assert isinstance(annotations.bounds(found), str)
    assert isinstance(annotations.is_secret(found), bool)
