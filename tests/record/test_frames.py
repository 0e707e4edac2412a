"""Frames, and what becomes of them on the way through Arrow."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal

from mltoolkit.errors import DataError
from mltoolkit.record.digest import digest
from mltoolkit.record.frames import frame_form, to_frame

MOMENT = dt.datetime(2020, 1, 1, 12)
SERIES = {
    "bool": pd.Series([True, False]),
    "uint64": pd.Series([2**64 - 1, 0], dtype="uint64"),
    "int8": pd.Series([1, -1], dtype="int8"),
    "float16": pd.Series([1.5, np.nan], dtype="float16"),
    "float": pd.Series([0.1, np.nan, -0.0, np.inf]),
    "Int64": pd.Series([2**62 + 1, None], dtype="Int64"),
    "UInt8": pd.Series([255, None], dtype="UInt8"),
    "Float32": pd.Series([1.5, None], dtype="Float32"),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "str": pd.Series(["a", None, ""]),
    "str python": pd.Series(["a", None], dtype=pd.StringDtype("python", na_value=np.nan)),
    "string": pd.Series(["a", None], dtype="string"),
    "string[python]": pd.Series(["a", None], dtype="string[python]"),
    "string[pyarrow]": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
    "int64[pyarrow]": pd.Series([1, None], dtype="int64[pyarrow]"),
    "timestamp[pyarrow]": pd.Series([MOMENT, None], dtype=pd.ArrowDtype(pa.timestamp("ns", "Europe/Berlin"))),
    "list[pyarrow]": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "dictionary[pyarrow]": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "category": pd.Series(pd.Categorical(["a", None, "b"], ["z", "b", "a"])),
    "ordered": pd.Series(pd.Categorical(["a", None, "b"], ["b", "a", "z"], ordered=True)),
    "category of int": pd.Series(pd.Categorical([3, 1])),
    "category of time": pd.Series(
        pd.Categorical(pd.to_datetime(["2020-01-02", None]).tz_localize("Asia/Tokyo"))
    ),
    "cut": pd.Series(pd.cut([1, 3, np.nan], [0, 2, 4])),
    "qcut": pd.Series(pd.qcut(np.arange(10.0), 4)),
    "cut labels": pd.Series(pd.cut([1, 3], [0, 2, 4], labels=["low", "high"])),
    **{
        f"datetime64[{unit}]": pd.Series(np.array([1, "NaT"], f"datetime64[{unit}]"))
        for unit in ("s", "ms", "us", "ns")
    },
    **{
        f"timedelta64[{unit}]": pd.Series(np.array([1, "NaT"], f"timedelta64[{unit}]"))
        for unit in ("s", "ms", "us", "ns")
    },
    "zone": pd.Series(
        pd.to_datetime(["2013-11-03 05:30", "2013-11-03 06:30"])
        .tz_localize("UTC")
        .tz_convert("America/New_York")
    ),
    "offset": pd.Series(pd.to_datetime(["2020-01-01T00:00:00+02:00"])),
    "period": pd.Series(pd.period_range("2020", periods=2, freq="M")),
    "interval": pd.Series(pd.arrays.IntervalArray.from_breaks([0, 1, 2], closed="left")),
    "date": pd.Series([dt.date(2020, 1, 1), None]),
    "time": pd.Series([dt.time(1, 2, 3), None]),
    "decimal": pd.Series([decimal.Decimal("1.10"), None]),
    "bytes": pd.Series([b"a\0", None]),
    "uuid": pd.Series([uuid.UUID(int=7), None]),
    "lists": pd.Series([[1, 2], None, []]),
    "lists of text": pd.Series([["a", None], []]),
    "nested lists": pd.Series([[[1], []], None]),
    "arrays": pd.Series([np.array([1.0, 2.0]), None, np.array([])]),
    "dicts": pd.Series([{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    "object text": pd.Series(["a", None], dtype=object),
    "object text, nan": pd.Series(["a", np.nan], dtype=object),
    "object int": pd.Series([1, None], dtype=object),
    "object big int": pd.Series([2**62 + 1, None], dtype=object),
    "object int, NA": pd.Series([1, pd.NA], dtype=object),
    "object bool": pd.Series([True, None], dtype=object),
    "object float": pd.Series([1.5, None], dtype=object),
    "object datetime": pd.Series([MOMENT, None], dtype=object),
    "nothing": pd.Series([None, None], dtype=object),
    "nothing, nan": pd.Series([np.nan, np.nan], dtype=object),
    "no rows": pd.Series([], dtype=object),
    "no rows int": pd.Series([], dtype="int32"),
}


def exactly(value):
    """A value with its type, at any depth, for a comparison that `==` would blur."""
    if isinstance(value, list | np.ndarray):
        return type(value).__name__, getattr(value, "dtype", None), [exactly(each) for each in value]
    if isinstance(value, dict):
        return [(key, exactly(each)) for key, each in value.items()]
    return type(value).__name__, repr(value)


def round_trip(frame: pd.DataFrame) -> pd.DataFrame:
    table = pa.RecordBatchReader.from_stream(frame).read_all()
    form = json.loads(json.dumps(frame_form(frame, table)))
    back = to_frame(table, form)
    assert_frame_equal(back, frame, check_exact=True, check_freq=True, check_column_type=True)
    assert list(back.dtypes) == list(frame.dtypes)
    assert digest(back) == digest(frame)
    return back


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES.keys())
def test_every_kind_of_column_comes_back(series):
    frame = pd.DataFrame({"x": series})
    back = round_trip(frame)
    if series.dtype == object:
        assert [exactly(each) for each in back["x"]] == [exactly(each) for each in series]
    if isinstance(series.dtype, pd.CategoricalDtype):
        assert list(back["x"].cat.categories) == list(series.cat.categories)


def test_columns_keep_their_places_beside_each_other():
    rows = 2
    parts = {
        name: series.iloc[:rows].reset_index(drop=True)
        for name, series in SERIES.items()
        if len(series) >= rows
    }
    frame = pd.DataFrame(parts)
    assert len(frame.columns) > 30
    round_trip(frame)
    round_trip(frame[frame.columns[::-1]].set_axis(pd.Index(["one", "two"], name="key")))


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(3),
        pd.RangeIndex(5, 11, 2, name="key"),
        pd.Index([3, 1, 2]),
        pd.Index(["a", "b", None], name="text"),
        pd.Index([1.5, np.nan, 2]),
        pd.date_range("2020", periods=3, freq="h", tz="Europe/Berlin"),
        pd.date_range("2020", periods=3, freq="MS"),
        pd.timedelta_range("1h", periods=3, freq="h"),
        pd.DatetimeIndex(["2020-01-05", "2020-01-01", "2020-03-01"]),
        pd.period_range("2020", periods=3, freq="Q"),
        pd.CategoricalIndex(["a", "b", "a"], ordered=True),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", None]),
        pd.MultiIndex.from_arrays(
            [list("aab"), pd.to_datetime(["2020", "2021", "2020"], utc=True)], names=["x", "y"]
        ),
    ],
    ids=lambda index: type(index).__name__,
)
def test_every_kind_of_index_comes_back(index):
    round_trip(pd.DataFrame({"a": [1, 2, 3], "b": [[1], [], None]}, index=index))


@pytest.mark.parametrize(
    "labels",
    [
        pd.Index([0, 1]),
        pd.Index(["a", "b"], name="what"),
        pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")], names=["one", "two"]),
        pd.Index([2019, 2020], name="year"),
    ],
    ids=str,
)
def test_every_kind_of_label_comes_back(labels):
    frame = pd.DataFrame([[1, [2]], [3, None]])
    round_trip(frame.set_axis(labels, axis=1))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([(1, 2), (3, 4)], r"row 0 holds \(1, 2\) \(tuple\)"),
        ([{1}, {2}], r"row 0 holds \{1\} \(set\)"),
        ([{"a": 1}, {"b": 2}], "row 0 holds"),
        (["a", None, np.nan], "row 1 holds None"),
        ([np.array([1]), [2]], "row 0 holds"),
        ([np.int8(1), np.int8(2)], r"row 0 holds np.int8\(1\)"),
    ],
)
def test_values_that_would_change_are_refused_with_their_row(values, reason):
    frame = pd.DataFrame({"good": range(len(values)), "bad": pd.Series(values, dtype=object)})
    with pytest.raises(
        DataError, match=f"column 'bad' .object. cannot be saved without loss: {reason}"
    ) as caught:
        frame_form(frame, pa.Table.from_pandas(frame))
    assert caught.value.column == "bad"


def test_an_index_or_labels_that_would_change_are_refused():
    mixed = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", None], dtype=object))
    with pytest.raises(DataError, match="the index cannot be saved without loss"):
        frame_form(mixed, pa.Table.from_pandas(mixed))
    number = pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 7], name=3))
    with pytest.warns(UserWarning, match="non-str index name"):
        table = pa.Table.from_pandas(number)
    with pytest.raises(DataError, match="the index cannot be saved without loss"):
        frame_form(number, table)
    dates = pd.DataFrame([[1, 2]], columns=[dt.date(2020, 1, 1), dt.date(2020, 1, 2)])
    with pytest.raises(DataError, match="column labels cannot be saved without loss"):
        frame_form(dates, pa.Table.from_pandas(dates))


def test_a_typed_column_that_changes_is_refused():
    frame = pd.DataFrame({"x": pd.Series([1, 2], dtype="int64")})
    other = pa.Table.from_pandas(pd.DataFrame({"x": pd.Series([1, 3], dtype="int64")}))
    with pytest.raises(DataError, match="comes back with other values"):
        frame_form(frame, other)
    narrow = pa.Table.from_pandas(frame.astype("int8"))
    with pytest.raises(DataError, match="comes back as int8"):
        frame_form(frame, narrow)


def test_a_table_that_never_was_a_frame():
    table = pa.table(
        {
            "int": pa.array([2**62 + 1, None]),
            "uint": pa.array([1, None], pa.uint16()),
            "whole": pa.array([1, 2], pa.int8()),
            "bool": pa.array([True, None]),
            "text": pa.array(["a", None]),
            "list": pa.array([[1], None]),
        }
    )
    frame = to_frame(table)
    assert list(map(str, frame.dtypes)) == ["Int64", "UInt16", "int8", "boolean", "str", "object"]
    assert frame.loc[0, "int"] == 2**62 + 1
    assert digest(frame) == digest(table)


def test_a_table_of_pandas_without_a_form_follows_its_metadata():
    frame = pd.DataFrame({"x": pd.array([1, None], "Int64")}, index=pd.Index([5, 7], name="key"))
    assert_frame_equal(to_frame(pa.Table.from_pandas(frame)), frame)


def test_what_pandas_cannot_hold_is_said():
    odd = pa.table({"t": pa.array([1], pa.int64()).cast(pa.time64("ns"))})
    with pytest.raises(DataError, match="load it as arrow"):
        to_frame(odd)


def test_chunks_do_not_matter():
    frame = pd.DataFrame(
        {"c": pd.cut([1, 3, np.nan, 1], [0, 2, 4]), "o": pd.Series([1, None, 2, None], dtype=object)}
    )
    table = pa.Table.from_pandas(frame)
    form = frame_form(frame, table)
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    assert_frame_equal(to_frame(pieces, form), frame)
