"""Contracts: what is reported, and that nothing is repaired."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest

from mltoolkit.errors import ContractViolated
from mltoolkit.record.contract import EXAMPLES, check_contract, summary

# with tblib, which comes with Dask, exceptions are pickled together with their causes, and pandera's say what they lose
pytestmark = pytest.mark.filterwarnings("ignore:Pickling SchemaErrors? does not preserve state")

FRAME = pd.DataFrame({"a": [1, -2, 3, 3], "b": ["x", "q", "y", "y"], "c": [5.0, None, 9.0, 9.0]})


def violated(contract, data=FRAME, **options):
    with pytest.raises(ContractViolated) as caught:
        check_contract(contract, data, **options)
    json.dumps(caught.value.failures)
    assert pickle.loads(pickle.dumps(caught.value)).failures == caught.value.failures
    return caught.value


def test_all_failures_are_found_at_once():
    schema = pandera.DataFrameSchema(
        {
            "a": pandera.Column(int, pandera.Check.ge(0)),
            "b": pandera.Column("str", pandera.Check.isin(["x", "y"])),
            "c": pandera.Column(float, nullable=False),
            "d": pandera.Column(int),
        },
        strict=True,
        name="flights",
    )
    error = violated(schema, FRAME.assign(e=1))
    found = {(each["column"], each["check"]): each for each in error.failures}
    assert set(found) == {
        ("a", "greater_than_or_equal_to(0)"),
        ("b", "isin(['x', 'y'])"),
        ("c", "not_nullable"),
        ("d", "is missing"),
        ("e", "is not in the schema"),
    }
    assert found["a", "greater_than_or_equal_to(0)"]["examples"] == [{"row": 1, "value": -2}]
    assert found["c", "not_nullable"]["examples"] == [{"row": 1, "value": None}]
    assert found["d", "is missing"] == {"column": "d", "check": "is missing", "count": 1, "examples": []}
    assert "a: greater_than_or_equal_to(0) in 1 row (row 1: -2)" in str(error)
    assert "'flights'" in str(error)
    assert error.contract == "flights"


def test_a_wrong_type_is_a_failure():
    [failure] = violated(pandera.DataFrameSchema({"a": pandera.Column(float)})).failures
    assert failure == {"column": "a", "check": "dtype('float64'): int64", "count": 1, "examples": []}


def test_many_bad_rows_are_counted_and_a_few_shown():
    schema = pandera.DataFrameSchema({"a": pandera.Column(int, pandera.Check.ge(0))})
    [failure] = violated(schema, pd.DataFrame({"a": np.full(10_000, -1)})).failures
    assert failure["count"] == 10_000
    assert [each["row"] for each in failure["examples"]] == list(range(EXAMPLES))


def test_rows_with_the_same_label_count_each():
    schema = pandera.DataFrameSchema({"a": pandera.Column(int, pandera.Check.ge(0))})
    [failure] = violated(schema, pd.DataFrame({"a": [-1, -2]}, index=["same", "same"])).failures
    assert failure["count"] == 2
    assert failure["examples"] == [{"row": "same", "value": -1}, {"row": "same", "value": -2}]


def test_a_check_on_the_whole_frame_shows_whole_rows():
    schema = pandera.DataFrameSchema(
        checks=pandera.Check(lambda frame: frame["a"] < frame["c"], name="a below c")
    )
    frame = pd.DataFrame({"a": [1, 5], "c": [2.0, 3.0], "day": pd.to_datetime(["2013-01-01", "2013-01-02"])})
    [failure] = violated(schema, frame).failures
    assert failure["column"] is None
    assert failure["count"] == 1
    assert failure["examples"] == [{"row": 1, "value": {"a": 5, "c": 3.0, "day": "2013-01-02 00:00:00"}}]


def test_a_check_without_rows():
    schema = pandera.DataFrameSchema(checks=pandera.Check(lambda frame: len(frame) > 10, name="enough rows"))
    assert violated(schema).failures == [{"column": None, "check": "enough rows", "count": 1, "examples": []}]


def test_unique_columns():
    failures = violated(pandera.DataFrameSchema(unique=["a", "b"])).failures
    assert [(each["check"], each["count"]) for each in failures] == [("multiple_fields_uniqueness", 2)]
    assert failures[0]["examples"][0] == {"row": 2, "value": {"a": 3, "b": "y"}}


def test_a_check_that_raises_is_a_failure():
    schema = pandera.DataFrameSchema({"a": pandera.Column(int, pandera.Check(lambda values: 1 / 0))})
    assert "ZeroDivisionError" in str(violated(schema))


def test_infinite_values_are_shown_as_text():
    schema = pandera.DataFrameSchema({"c": pandera.Column(float, pandera.Check.lt(10))})
    [failure] = violated(schema, pd.DataFrame({"c": [1.0, np.inf]})).failures
    assert failure["examples"] == [{"row": 1, "value": "inf"}]


def test_data_that_keeps_its_contract():
    class Flights(pandera.DataFrameModel):
        a: int = pandera.Field(ge=-5)
        b: str
        c: float = pandera.Field(nullable=True)

    assert check_contract(Flights, FRAME)["name"] == "Flights"
    assert check_contract(Flights.to_schema(), FRAME)["kind"] == "pandera"


def test_a_model_can_be_violated():
    class Flights(pandera.DataFrameModel):
        a: int = pandera.Field(ge=0)

    assert violated(Flights).failures[0]["column"] == "a"


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pandera.DataFrameSchema({"a": pandera.Column(float)}, coerce=True), "a from int64 to float64"),
        (pandera.DataFrameSchema({"a": pandera.Column(int)}, strict="filter"), "its values"),
        (
            pandera.DataFrameSchema({"z": pandera.Column(int, default=7)}, add_missing_columns=True),
            "z is new",
        ),
        (
            pandera.DataFrameSchema({"a": pandera.Column(int, parsers=pandera.Parser(lambda a: a + 1))}),
            "its values",
        ),
    ],
)
def test_a_contract_that_repairs_is_refused(schema, message):
    before = FRAME.copy()
    error = violated(schema)
    assert message in str(error)
    assert "validate()" in str(error)
    pd.testing.assert_frame_equal(FRAME, before)


def test_coercion_that_has_nothing_to_do_is_fine():
    check_contract(pandera.DataFrameSchema({"a": pandera.Column(int)}, coerce=True), FRAME)


def test_a_schema_for_pandas_gets_a_frame():
    schema = pandera.DataFrameSchema({"a": pandera.Column(int)})
    check_contract(schema, object(), lambda: FRAME)
    with pytest.raises(ContractViolated):
        check_contract(schema, object(), lambda: FRAME.drop(columns="a"))


@pytest.mark.parametrize("no", [np.False_, pa.scalar(False), pd.Series([True, False]), np.array([False]), pd.Series([True, False], dtype="boolean")], ids=repr)
def test_a_no_is_a_no_in_whatever_type(no):
    assert "returned False" in str(violated(lambda data: no))


@pytest.mark.parametrize("yes", [None, True, np.True_, pa.scalar(True), pd.Series([True]), pd.Series([0]), pd.DataFrame({"a": [False]}), 0], ids=repr)
def test_anything_else_is_not(yes):
    check_contract(lambda data: yes, FRAME)


def test_functions():
    seen = []
    assert check_contract(seen.append, FRAME) == {"kind": "function", "name": "list.append"}
    assert seen[0] is FRAME
    assert "returned False" in str(violated(lambda data: False))
    assert "KeyError: 'z'" in str(violated(lambda data: data["z"]))
    inner = pandera.DataFrameSchema({"a": pandera.Column(int, pandera.Check.ge(0))})
    assert violated(lambda data: inner.validate(data, lazy=True)).failures[0]["column"] == "a"
    assert "greater_than_or_equal_to(0)" in str(violated(inner.validate))


def test_a_function_may_raise_the_error_itself():
    def contract(data):
        raise ContractViolated("mine", failures=[])

    assert str(violated(contract)) == "mine"


def test_any_object_with_validate():
    class Contract:
        def validate(self, data):
            raise ValueError("no")

    error = violated(Contract())
    assert "ValueError: no" in str(error)
    assert error.contract == "Contract"


def test_the_summary_says_what_was_promised():
    schema = pandera.DataFrameSchema(
        {"a": pandera.Column(int, pandera.Check.ge(0), unique=True), "b": pandera.Column(nullable=True)},
        checks=pandera.Check(lambda frame: len(frame) > 0, name="not empty"),
        name="flights",
    )
    assert summary(schema) == {
        "kind": "pandera",
        "name": "flights",
        "columns": {
            "a": {
                "type": "int64",
                "nullable": False,
                "unique": True,
                "checks": ["greater_than_or_equal_to(0)"],
            },
            "b": {"type": None, "nullable": True, "unique": False, "checks": []},
        },
        "checks": ["not empty"],
    }


def test_importing_the_module_does_not_import_pandera():
    code = "import sys, mltoolkit.record.contract; print('pandera' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
