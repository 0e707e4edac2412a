"""A column of every type Arrow has, with values that are easily confused."""

from __future__ import annotations

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa


def one(values, kind=None) -> pa.Table:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
    return pa.table({"x": array})


DAY, NOON, MOMENT = dt.date(2013, 1, 1), dt.time(12, 0, 1), dt.datetime(2013, 1, 1, 12, 0, 1)
SPAN = dt.timedelta(days=1, seconds=2)
dictionary = pa.dictionary(pa.int8(), pa.string())
union_fields = [pa.field("number", pa.int64()), pa.field("text", pa.string())]
dense = pa.UnionArray.from_dense(
    pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["a"])]
)
sparse = pa.UnionArray.from_sparse(
    pa.array([0, 1, 0], pa.int8()), [pa.array([1, None, 2]), pa.array([None, "a", "junk"])]
)
ARRAYS = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    **{str(kind): pa.array([1, None, 2], kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{
        str(kind): pa.array([1, None, 2], kind)
        for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
    },
    "half": pa.array([np.float16(1), None, np.float16(2)]),
    "float": pa.array([1.0, None, float("nan")], pa.float32()),
    "double": pa.array([1.0, None, float("nan")], pa.float64()),
    **{
        str(kind): pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.50")], kind)
        for kind in (pa.decimal32(5, 2), pa.decimal64(12, 2), pa.decimal128(20, 2), pa.decimal256(60, 2))
    },
    **{str(kind): pa.array([DAY, None, DAY], kind) for kind in (pa.date32(), pa.date64())},
    **{
        str(kind): pa.array([NOON, None, NOON], kind)
        for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    },
    **{
        str(kind): pa.array([MOMENT, None, MOMENT], kind)
        for kind in map(pa.timestamp, ("s", "ms", "us", "ns"))
    },
    "zone": pa.array([MOMENT, None, MOMENT], pa.timestamp("us", "Europe/Berlin")),
    **{str(kind): pa.array([SPAN, None, SPAN], kind) for kind in map(pa.duration, ("s", "ms", "us", "ns"))},
    "interval": pa.array([pa.MonthDayNano([1, 2, 3]), None, pa.MonthDayNano([0, 0, 0])]),
    "string": pa.array(["ab", None, "c" * 20]),
    "large_string": pa.array(["ab", None, "d" * 20], pa.large_string()),
    "string_view": pa.array(["ab", None, "e" * 20], pa.string_view()),
    "binary": pa.array([b"ab", None, b"c" * 20]),
    "large_binary": pa.array([b"ab", None, b"d" * 20], pa.large_binary()),
    "binary_view": pa.array([b"ab", None, b"e" * 20], pa.binary_view()),
    "fixed_size_binary": pa.array([b"abc", None, b"def"], pa.binary(3)),
    "wide binary": pa.array([b"0123456789abcdef!", None, b"0123456789abcdef?"], pa.binary(17)),
    "list": pa.array([[1, None], None, []]),
    "large_list": pa.array([[1, 2], None, []], pa.large_list(pa.int8())),
    "list_view": pa.array([["a", "b"], None, []], pa.list_view(pa.string_view())),
    "large_list_view": pa.array([[1, 2], None, []], pa.large_list_view(pa.float64())),
    "fixed_size_list": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2)),
    "fixed_size_list of views": pa.array([["a", "b"], None, ["c", None]], pa.list_(pa.string_view(), 2)),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
    "struct of views": pa.array([{"a": "v"}, None, {"a": None}], pa.struct([("a", pa.string_view())])),
    "empty struct": pa.array([{}, None, {}], pa.struct([])),
    "map": pa.array([[("a", 1)], None, [("b", None), ("c", 3)]], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["a", None, "b"], dictionary),
    "ordered": pa.array(["a", None, "b"], pa.dictionary(pa.int8(), pa.string(), ordered=True)),
    "list of dictionary": pa.array([["a", "b"], None, ["c"]], pa.list_(dictionary)),
    "runs": pa.RunEndEncodedArray.from_arrays([1, 2, 3], pa.array(["a", None, "c"])),
    "runs of lists": pa.RunEndEncodedArray.from_arrays([1, 2, 3], pa.array([[7], None, [8, 9]])),
    "uuid": pa.array([b"0" * 16, None, b"1" * 16], pa.uuid()),
    "json": pa.array(["{}", None, "[]"], pa.json_()),
    "dense union": dense,
    "sparse union": sparse,
    "struct of union": pa.StructArray.from_arrays([sparse], ["u"], mask=pa.array([False, True, False])),
    "list of lists": pa.array([[["a"], []], None, [None, ["b"]]]),
}
