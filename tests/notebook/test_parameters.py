"""The contract of a notebook: read without running, checked before anything runs."""

from __future__ import annotations

import json
import math
import pickle
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Le
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mltoolkit.errors import NotebookInvalid, ParameterError
from mltoolkit.notebook.parameters import Contract, Parameter, check_name, contract, read_cell


def notebook(source: str = "", *more: str, tag: str = "parameters", **metadata: Any) -> NotebookNode:
    cells = [new_markdown_cell("# title"), new_code_cell(source, metadata={"tags": [tag]}), *map(new_code_cell, more)]
    return new_notebook(cells=cells, metadata=metadata)


def one(source: str) -> Parameter:
    (found,) = read_cell(source).values()
    return found


@pytest.mark.parametrize(
    ("source", "kind", "default"),
    [
        ("x = 3", int, 3),
        ("x = -3", int, -3),
        ("x = 1 << 20", int, 1 << 20),
        ("x = 0.5", float, 0.5),
        ("x = 'a'", str, "a"),
        ("x = True", bool, True),
        ("x = b'a'", bytes, b"a"),
        ("x = date(2013, 1, 31)", date, date(2013, 1, 31)),
        ("import datetime as d\nx = d.date(2013, 1, 31)", date, date(2013, 1, 31)),
        ("x = timedelta(hours=1)", timedelta, timedelta(hours=1)),
        ("x = Path('a')", Path, Path("a")),
        ("x = [1, 'a']", list, [1, "a"]),
        ("x = list(range(3))", list, [0, 1, 2]),
        ("x = {'a': 1}", dict, {"a": 1}),
        ("x = (1, 2)", tuple, (1, 2)),
        ("x = set()", set, set()),
        ("x = None", Any, None),
        ("x: int = 3", int, 3),
        ("x: 'int' = 3", int, 3),
        ("x: list[int] = []", list[int], []),
        ("x: Literal['a', 'b'] = 'a'", Literal["a", "b"], "a"),
        ("x: Annotated[int, Field(ge=1, le=12)] = 1", Annotated[int, Ge(1), Le(12)], 1),
        ("x: float = 1", float, 1),
        ("x: int = None", int | None, None),
        ("x: int | None = None", int | None, None),
        ("x: DataFrame = None", Any, None),
        ("x = 1  # type: float", float, 1),
        ("x = 1  # type: float  the rate", float, 1),
        ("x = 1\nx = 'b'", str, "b"),
        ("x: int\nx = 3", int, 3),
        ("x: int = 3\nx: float", float, 3),
        ("x: int = 3\nx = 4", int, 4),
    ],
)
def test_type_and_default(source: str, kind: Any, default: Any) -> None:
    found = one(source)
    assert found.annotation == kind
    assert found.default == default
    assert type(found.default) is type(default)
    assert not found.required
    assert not found.computed


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("x = f()", "f()"),
        ("x = date.today()", "date.today()"),
        ("x = os.environ['A']", "os.environ['A']"),
        ("x = f'{1}'", "f'{1}'"),
        ("x = y = z", "z"),
        ("x, y = f()", "f()[0]"),
        ("x = 1\nx += 1", "x + 1"),
        ("x = object", "object"),
        ("x = 1j", "1j"),
        ("x = 10 ** 10 ** 10", "10 ** 10 ** 10"),
    ],
)
def test_what_cannot_be_known_is_computed(source: str, shown: str) -> None:
    found = read_cell(source)["x"]
    assert found.computed
    assert found.source == shown
    assert found.annotation is Any
    assert not found.required


def test_a_computed_default_keeps_its_annotation() -> None:
    found = one("x: int = f()")
    assert (found.annotation, found.computed, found.default) == (int, True, None)


@pytest.mark.parametrize("source", ["x: int", "x: int = ...", "x = ...", "x: 'int'"])
def test_required(source: str) -> None:
    assert one(source).required


def test_several_names_in_one_statement() -> None:
    found = read_cell("a = b = 1\n(c, [d]), e = (2, [3]), 4\nf, *g = 1, 2\n(h) = 5")
    assert {name: each.default for name, each in found.items()} == {
        **dict.fromkeys("ab", 1),
        **{"c": 2, "d": 3, "e": 4, "f": None, "h": 5},
    }
    assert found["f"].computed


def test_only_assignments_at_the_top_level_count() -> None:
    source = "import os\ndef f():\n    a = 1\nclass B:\n    c = 1\nif True:\n    d = 1\nf.x = 1\ny[0] = 1\nz: int = 1\nprint(e := 1)"
    assert list(read_cell(source)) == ["z"]


@pytest.mark.parametrize(
    ("source", "help_text"),
    [
        ("x = 1  # the help", "the help"),
        ("x = '# no'  # yes", "yes"),
        ("x = [\n  1,  # not this\n]  # but this", "but this"),
        ("# above\nx = 1", "above"),
        ("# first\n#  second\nx = 1", "first second"),
        ("# a heading\n\nx = 1", ""),
        ("y = 1  # of y\nx = 1", ""),
        ("# above\nx = 1  # beside", "beside"),
        ("x = 1  # noqa: E501", ""),
        ("x = 1  # the help  # noqa", "the help"),
        ("x = 1  # type: ignore", ""),
        ("x = 1  # type: int", ""),
        ("x = 1  # type: int how many", "how many"),
        ("x = 1  # type: of fuel", "type: of fuel"),
        ("#| export\nx = 1", ""),
        ("x: Annotated[int, 'how many'] = 1", "how many"),
        ("x: Annotated[int, Field(description='how many')]", "how many"),
        ("x = 1 # ümlaut", "ümlaut"),
    ],
)
def test_help(source: str, help_text: str) -> None:
    assert read_cell(source)["x"].help == help_text


def test_places_are_known() -> None:
    found = contract(notebook("import os\n\nx = 1\n# c\ny = [\n 1]")).parameters
    assert {name: (each.cell, each.line) for name, each in found.items()} == {"x": (1, 3), "y": (1, 5)}


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\nx = 1  # help",
        "!ls 'a b'\nx = 1  # help",
        "%%time\nx = 1  # help",
        "x = 1  # help\nlen?",
        "here = !pwd\nx = 1  # help",
        "  x = 1  # help",
    ],
)
def test_magics_are_passed_over(source: str) -> None:
    found = read_cell(source)
    assert (found["x"].default, found["x"].help) == (1, "help")
    assert all(each.computed for name, each in found.items() if name != "x")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x =", "invalid syntax in line 1"),
        ("x = 1\ny = (", "never closed in line 2"),
        ("x = '\0'", "null bytes|not text"),
        ("x = '\ud800'", "not text|surrogates"),
        ("(" * 300 + ")" * 300, "too many nested"),
        ("x: " + "-" * 100_000 + "1", "nested|too"),
        ("x: " + "a." * 20_000 + "b = 1", "nested"),
        ("x: " + "int | " * 700 + "int", "nested"),
    ],
    ids=range(8),
)
def test_what_is_not_python_is_refused_with_its_line(source: str, reason: str) -> None:
    with pytest.raises(NotebookInvalid, match=reason) as caught:
        read_cell(source, 4)
    assert "cell 4 (from 0), tagged 'parameters'" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_deep_default_is_computed() -> None:
    assert one("x = " + "1 + " * 2000 + "1").computed or one("x = " + "1 + " * 2000 + "1").default == 2001


def test_an_invalid_escape_is_no_warning_of_ours() -> None:
    assert one(r"x = '\d'").default == r"\d"


def test_a_bound_that_is_no_literal_names_the_parameter() -> None:
    with pytest.raises(ParameterError, match=r"parameter 'n', line 2 of cell 1 \(from 0\): the bound ge=LIMIT"):
        contract(notebook("LIMIT = 3\nn: Annotated[int, Field(ge=LIMIT)] = 1"))


def test_which_cell() -> None:
    assert contract(notebook("x = 1")).cell == 1
    assert contract(notebook("x = 1", tag="other")).cell is None
    nothing = notebook("x = 1", tag="other")
    nothing.cells[0].metadata["tags"] = ["parameters"]
    assert contract(nothing).cell is None, "a markdown cell declares nothing"
    twice = notebook("x = 1", "x = 2")
    twice.cells[2].metadata["tags"] = ["parameters"]
    with pytest.raises(NotebookInvalid, match="cells 1 and 2"):
        contract(twice)


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({}, "python"),
        ({"language_info": {"name": "python"}}, "python"),
        ({"language_info": {"name": "R"}, "kernelspec": {"language": "python", "name": "ir", "display_name": ""}}, "R"),
        ({"kernelspec": {"language": "julia", "name": "julia-1.10", "display_name": "Julia"}}, "julia"),
        ({"language_info": {"name": "ipython"}}, "python"),
        ({"kernelspec": {"name": "pysparkkernel", "language": "x", "display_name": ""}}, "python"),
    ],
)
def test_language(metadata: dict[str, Any], language: str) -> None:
    found = contract(notebook("x = 1", **metadata))
    assert found.language == language
    assert list(found.parameters) == (["x"] if language == "python" else [])
    assert found.typed is (language == "python")


def test_language_can_be_told() -> None:
    assert contract(notebook("x <- 1"), language="R").typed is False


FLIGHTS = """
month: Annotated[int, '1 <= month <= 12'] = 1  # month of 2013
learning_rate = 1
airports: list[str] = ["EWR"]
mode: Literal["fast", "exact"] = "fast"
day: date
api_key: SecretStr = SecretStr("s3cret")
token: SecretStr
"""


@pytest.fixture
def flights() -> Contract:
    return contract(notebook(FLIGHTS))


def problems(declared: Contract, values: Any, secrets: Any = ()) -> dict[str, str]:
    with pytest.raises(ParameterError) as caught:
        declared.check(values, secrets=secrets)
    assert caught.value.exit_code == 2
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    for problem in copy.problems.values():
        assert problem in str(copy)
    found: dict[str, str] = copy.problems
    return found


GIVEN = {"day": "2013-01-31"}


def test_properties(flights: Contract) -> None:
    assert flights.secrets == ("api_key", "token")
    assert flights.required == ("day", "token")
    assert flights.defaults == {"month": 1, "learning_rate": 1, "airports": ["EWR"], "mode": "fast"}
    assert flights.parameters["token"].wrapped
    assert not contract(notebook("key: Secret")).parameters["key"].wrapped


def test_check_converts_and_keeps_the_order(flights: Contract) -> None:
    found = flights.check({"mode": "exact", **GIVEN, "month": 2.0}, secrets=["token"])
    assert list(found.items()) == [("mode", "exact"), ("day", date(2013, 1, 31)), ("month", 2)]
    assert flights.check(GIVEN, secrets={"token": "x"}) == {"day": date(2013, 1, 31)}


def test_each_wrong_parameter_is_reported_at_once(flights: Contract) -> None:
    found = problems(flights, {"month": 13, "airprots": [], "mode": "slow", "learning_rate": 0.5})
    assert found == {
        "month": "parameter 'month' wants int (1 to 12), got 13 (int): should be less than or equal to 12",
        "airprots": "there is no parameter 'airprots'; did you mean 'airports'?",
        "mode": "parameter 'mode' wants Literal['fast', 'exact'], got 'slow' (str): should be one of 'fast', 'exact'",
        "learning_rate": "parameter 'learning_rate' wants int, as its default is 1, got 0.5 (float): "
        "should be a valid integer",
        "day": "parameter 'day' (date) has no default and must be given, as in -p day VALUE",
        "token": "parameter 'token' (SecretStr) has no default and must be given, as in --secret token",
    }


def test_a_single_problem_is_a_single_line(flights: Contract) -> None:
    with pytest.raises(ParameterError) as caught:
        flights.check({**GIVEN, "month": "3"}, secrets=["token"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["import os; x", "x y", "1x", "", "class", "None", "__debug__", "x\n", "os.system", "x=1", "a-b", 3, None]
)
def test_only_identifiers_are_names(flights: Contract, name: Any) -> None:
    assert "is not a name" in check_name(name)
    assert "is not a name" in problems(flights, {name: 1, **GIVEN}, ["token"])[str(name)]


@pytest.mark.parametrize("name", ["x", "_x", "été", "match", "print"])
def test_identifiers_are_names(name: str) -> None:
    assert check_name(name) == ""


def test_a_secret_is_never_shown(flights: Contract) -> None:
    with pytest.raises(ParameterError, match="'api_key' is a secret; give it by --secret") as caught:
        flights.check({"api_key": "s3cret", "token": "s3cret", **GIVEN})
    with pytest.raises(ParameterError, match="given as a secret and as a plain value") as second:
        flights.check({"month": "s3cret", **GIVEN}, secrets=["month", "token"])
    with pytest.raises(ParameterError, match="there is no parameter 'tokn'") as third:
        flights.check(GIVEN, secrets={"tokn": "s3cret", "token": "s3cret"})
    shown = [flights.table(), flights._repr_html_(), json.dumps(flights.json_schema()), repr(flights)]
    for text in [str(caught.value), str(second.value), str(third.value), repr(caught.value.fields), *shown]:
        assert "s3cret" not in text


def test_anything_may_be_given_as_a_secret(flights: Contract) -> None:
    assert flights.check(GIVEN, secrets=["month", "token"]) == {"day": date(2013, 1, 31)}


def test_parameters_without_a_cell_are_an_error() -> None:
    nothing = contract(notebook("x = 1", tag="other"))
    assert nothing.check({}) == {}
    for given_, secrets in (({"x": 1}, ()), ({}, ["x"]), ({3: 1}, ())):
        with pytest.raises(ParameterError, match="no cell of the notebook is tagged 'parameters'"):
            nothing.check(given_, secrets=secrets)  # type: ignore[arg-type]


def test_another_language_takes_any_name_but_only_names() -> None:
    foreign = contract(notebook("x <- 1"), language="R")
    assert foreign.check({"anything": (1, 2)}) == {"anything": (1, 2)}
    assert "is not a name" in problems(foreign, {"x; q()": 1})["x; q()"]
    assert "cannot be written" in problems(foreign, {"x": object()})["x"]


def test_long_and_odd_values_are_shown_briefly(flights: Contract) -> None:
    odd = [10**5000, "x" * 1000, object(), math.nan, [[object()]], "\x1b[31m\n", "\ud800"]
    for value in odd:
        text = problems(flights, {"month": value, **GIVEN}, ["token"])["month"]
        assert text.isprintable()
        assert len(text) < 300


def test_unchecked_types_pass_as_they_are() -> None:
    loose = contract(notebook("a = None\nb: DataFrame = None\nc = f()"))
    values = {"a": "3", "b": {"x": [1]}, "c": (1, None)}
    assert loose.check(values) == values


def test_none_is_admitted_where_it_is_the_default() -> None:
    assert contract(notebook("rate: float = None")).check({"rate": None}) == {"rate": None}
    assert "wants int" in problems(contract(notebook("n = 3")), {"n": None})["n"]


def test_the_table(flights: Contract) -> None:
    assert flights.table().splitlines() == [
        "name           type                      default   bounds   help",
        "month          int                       1         1 to 12  month of 2013",
        "learning_rate  int                       1",
        'airports       list[str]                 ["EWR"]',
        "mode           Literal['fast', 'exact']  \"fast\"",
        "day            date                      required",
        "api_key        SecretStr                 hidden    secret",
        "token          SecretStr                 required  secret",
    ]


def test_the_table_is_printable_and_says_when_it_is_empty() -> None:
    nasty = contract(notebook(f"x = [\n{'1, ' * 100}]  # \x1b[31mred\nkey: SecretStr = None"))
    assert all(line.isprintable() for line in nasty.table().splitlines())
    assert "None" in nasty.table().splitlines()[2]
    assert max(map(len, nasty.table().splitlines())) < 120
    assert "no cell is tagged" in contract(notebook("", tag="other")).table()
    assert "assigns nothing" in contract(notebook("print(1)")).table()
    assert "notebook in R" in contract(notebook("x <- 1"), language="R").table()


def test_the_page_is_inert() -> None:
    page = contract(notebook("x: '<script>' = 1  # <img onerror=x>"))._repr_html_()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("<tr>") == 2


def test_the_json_schema_checks_what_the_contract_checks(flights: Contract) -> None:
    schema = flights.json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good = {"day": "2013-01-31", "token": "x", "month": 12, "mode": "exact"}
    assert validator.is_valid(good)
    for change in ({"month": 13}, {"month": "3"}, {"mode": "slow"}, {"extra": 1}, {"airports": [1]}):
        assert not validator.is_valid(good | change)
    assert not validator.is_valid({"day": "2013-01-31"})
    assert schema["properties"]["month"]["description"] == "month of 2013"
    assert schema["properties"]["token"] == {"type": "string", "format": "password", "writeOnly": True}


def test_the_json_schema_is_json_whatever_is_declared() -> None:
    source = """
a = float("nan")
b: set[date] = {date(2013, 1, 31)}
c: Annotated[str, Ge(1)] = "a"
d: Annotated[str, Field(pattern="(")] | None = None
e: Annotated[int, Field(pattern="a")] = 1
f: Literal["\\ud800"] = "\\ud800"
g: Annotated[float, Ge(float("inf"))] = 1.5
h: Path = Path("a")
i: DataFrame = None
j: set[list[int]] = None
k: Annotated[int, MultipleOf(0)] = 1
l: Annotated[str | None, Field(pattern="a+")] = None
"""
    schema = contract(notebook(source)).json_schema()
    json.dumps(schema, allow_nan=False).encode()
    assert schema["properties"]["b"]["default"] == ["2013-01-31"]
    assert schema["properties"]["i"] == {"default": None}
    assert schema["properties"]["l"]["anyOf"] == [{"type": "string", "pattern": "a+"}, {"type": "null"}]


def test_nothing_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    code = f"open({str(target)!r}, 'w')"
    source = f"x = {code}\ny: {code} = 1\nz: Annotated[int, {code}] = 1\nw: '{code.replace(chr(39), chr(34))}' = {code}\n!touch {target}"
    found = contract(notebook(source))
    assert list(found.parameters) == ["x", "y", "z", "w"]
    found.check({"x": code, "y": code})
    found.table()
    found.json_schema()
    assert not target.exists()


FRAGMENTS = st.sampled_from(
    [
        *("x", "y", "month", ": ", " = ", "int", "Annotated[int, ", "Field(ge=", "]", ")", "(", "[", "{", "}", "1", "'a'"),
        *("\n", "  ", "# help", "# type: int", "...", ", ", "None", " | ", "Literal[", "Ge(", "**", "-", "def f():\n", "%m"),
        *("!ls", "?", "\\", '"""', "f'{", "lambda", "Optional[", "SecretStr", "date(2013, 1, 1)", "1e999", ";", "\t", "\r"),
        *("Interval(gt=1)", "MultipleOf(0)", "'>= 1'", "set[", "dict[", "tuple[", "range(", "* 9", "<<", "await x", "%%time\n"),
    ]
)
SOURCES = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(FRAGMENTS, max_size=25).map("".join),
    st.lists(FRAGMENTS | st.characters(exclude_categories=()), max_size=25).map("".join),
    st.lists(FRAGMENTS, max_size=8).map(lambda parts: "x: " + "".join(parts)),
    st.lists(FRAGMENTS, max_size=8).map(lambda parts: "x = " + "".join(parts)),
)


@settings(database=None, deadline=None, max_examples=400)
@given(SOURCES, st.none() | st.integers() | st.text() | st.lists(st.floats()))
def test_no_text_breaks_the_contract(source: str, value: Any) -> None:
    try:
        found = contract(notebook(source))
    except (NotebookInvalid, ParameterError):
        return
    assert all(line.isprintable() for line in found.table().splitlines())
    json.dumps(found.json_schema(), allow_nan=False).encode()
    found._repr_html_()
    for name in found.parameters:
        with suppress(ParameterError):
            assert set(found.check({name: value})) == {name}


@settings(database=None, deadline=None)
@given(st.text(st.characters(exclude_categories=())), st.text())
def test_no_name_runs_as_code(name: str, value: str) -> None:
    open_ended = contract(notebook("x <- 1"), language="R")
    try:
        assert set(open_ended.check({name: value})) == {name}
    except ParameterError:
        assert not name.isidentifier() or check_name(name)
    else:
        compile(f"{name} = 1", "cell", "exec")
