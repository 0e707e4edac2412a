"""Packing columns for a Delta table and getting them back."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from arrow_types import ARRAYS, one
from deltalake import Schema

from mltoolkit.errors import DataError
from mltoolkit.record import columns
from mltoolkit.record.columns import pack, stored_type, unpack
from mltoolkit.record.digest import digest

REFUSED = {"interval", "dense union", "sparse union", "struct of union", "empty struct", "decimal256(60, 2)"}
KEPT = {name: array for name, array in ARRAYS.items() if name not in REFUSED | {"runs of lists"}}
kept = pytest.mark.parametrize("array", KEPT.values(), ids=KEPT.keys())


def through_parquet(table: pa.Table) -> pa.Table:
    """Store the packed table as a Delta table does, without any note of Arrow's types, and read it back."""
    stored, form = pack(table)
    Schema.from_arrow(stored.schema)  # Delta has a type for each column
    sink = io.BytesIO()
    parquet.write_table(stored, sink, store_schema=False)
    return unpack(parquet.read_table(sink), form)


def assert_same(found: pa.Table, table: pa.Table) -> None:
    assert found.schema.equals(table.schema, check_metadata=True)
    assert digest(found) == digest(table)
    found.validate(full=True)
    if not any(np.isnan(each) for each in table.column(0).to_pylist() if isinstance(each, float)):
        assert found.column(0).to_pylist() == table.column(0).to_pylist()


@kept
def test_every_type_comes_back(array):
    assert_same(through_parquet(one(array)), one(array))


@kept
def test_slices_and_chunks_come_back(array):
    table = one(pa.chunked_array([array.slice(1), array.slice(0, 0), array]))
    stored, form = pack(table)
    assert_same(unpack(stored, form), table)
    assert_same(through_parquet(table), table)


@kept
def test_no_rows_and_nothing_but_nulls_come_back(array):
    assert_same(through_parquet(one(array.slice(0, 0))), one(array.slice(0, 0)))
    assert_same(through_parquet(one(array.slice(1, 1))), one(array.slice(1, 1)))
    empty = pa.table({"x": pa.chunked_array([], array.type)})
    assert digest(through_parquet(empty)) == digest(empty)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_has_no_place_is_refused_with_column_and_reason(name):
    with pytest.raises(DataError, match=r"column 'x' \(.*\) cannot be saved without loss: ") as caught:
        pack(one(ARRAYS[name]))
    assert caught.value.column == "x"


def test_more_reasons_to_refuse():
    with pytest.raises(DataError, match="60 digits"):
        pack(one([decimal.Decimal(1)], pa.decimal256(60, 0)))
    with pytest.raises(DataError, match="two fields of a struct"):
        pack(one(pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "A"])))
    with pytest.raises(DataError, match="lose data"):
        pack(one(pa.array([1], pa.int64()).view(pa.date64())))  # a date that is not midnight
    for names in (["a", "a"], ["a", "A"]):
        with pytest.raises(DataError, match="rename one") as caught:
            pack(pa.table([[1], [2]], names=names))
        assert caught.value.column == names[1]
    with pytest.raises(DataError, match="at least one column"):
        pack(pa.table({}))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "+05:30"])
def test_timestamps_keep_unit_zone_and_every_digit(unit, zone):
    kind = pa.timestamp(unit, zone)
    whole = pa.array([0, None, 1_000_000_000], pa.int64()).cast(kind)
    odd = pa.array([1, None, 1_000_000_001], pa.int64()).cast(kind)
    far = pa.array([2**62, None, -(2**62)], pa.int64()).cast(kind)
    for array in (whole, odd, far):
        stored, form = pack(one(array))
        found = unpack(stored, form)
        assert found.schema == one(array).schema
        assert found.column(0).cast(pa.int64()).to_pylist() == array.cast(pa.int64()).to_pylist()
    assert pack(one(whole))[0].schema.field(0).type == pa.timestamp("us", "UTC" if zone else None)


def test_nanoseconds_deep_inside():
    moment = pa.array([1, 2], pa.int64()).cast(pa.timestamp("ns"))
    nested = pa.ListArray.from_arrays([0, 2], pa.StructArray.from_arrays([moment], ["t"]))
    assert pack(one(nested))[0].schema.field(0).type == pa.list_(pa.struct([("t", pa.int64())]))
    assert_same(through_parquet(one(nested)), one(nested))


def test_categories_keep_their_order_and_those_unused():
    kind = pd.CategoricalDtype(["z", "a", "unused"], ordered=True)
    frame = pd.DataFrame({"c": pd.Categorical(["a", None, "z"], dtype=kind)})
    found = through_parquet(pa.Table.from_pandas(frame)).to_pandas()
    assert found["c"].dtype == kind
    assert list(found["c"].cat.categories) == ["z", "a", "unused"]


@pytest.mark.parametrize(
    "categories",
    [
        [3, 1, 2],
        [2.5, float("nan"), -0.0],
        [dt.date(2020, 1, 1), dt.date(2019, 1, 1)],
        [[1], [2, 3]],
        [{"a": 1}, {"a": None}],
        [b"x", b"y"],
        ["only"],
    ],
    ids=str,
)
def test_categories_of_any_type(categories):
    values = pa.array(categories)
    codes = pa.array([*range(len(values)), None, 0], pa.int8())
    table = one(pa.DictionaryArray.from_arrays(codes, values))
    found = through_parquet(table)
    assert found.schema == table.schema
    assert found.column(0).chunk(0).indices.to_pylist() == codes.to_pylist()
    assert digest(found) == digest(table)


def test_dictionaries_that_differ_between_chunks():
    chunks = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["c", "a"])]
    assert_same(through_parquet(one(pa.chunked_array(chunks))), one(["a", "b", "c", "a"], chunks[0].type))


def test_a_dictionary_without_categories():
    table = one(pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int8()), pa.array([], pa.string())))
    assert_same(through_parquet(table), table)


def test_the_layout_of_runs_need_not_survive_but_their_type_does():
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int16()), pa.array(["a", "a", None]))
    assert_same(through_parquet(one(runs)), one(runs))


def test_runs_that_cannot_be_rebuilt_are_refused_when_unpacked():
    stored, form = pack(one(ARRAYS["runs of lists"]))
    with pytest.raises(DataError, match="cannot be given back as it was") as caught:
        unpack(stored, form)
    assert caught.value.column == "x"


def test_intervals_as_categories():
    bins = pd.DataFrame({"a": [1, 2, 3], "b": pd.cut([1, 2, np.nan], [0, 2, 4])})
    table = pa.Table.from_pandas(bins)
    found = through_parquet(table)
    assert found.schema.equals(table.schema, check_metadata=True)
    assert digest(found) == digest(table)
    nested = pa.ListArray.from_arrays([0, 3], table.column("b").chunk(0))
    with pytest.raises(DataError, match="do not survive Arrow's own format"):
        pack(one(nested))


def in_a_fresh_process(table: pa.Table) -> list[str]:
    """Unpack a table where nobody registered any extension type, and return its digest and types."""
    stored, form = pack(table)
    sink = io.BytesIO()
    parquet.write_table(stored, sink)
    code = """
import io, sys, pyarrow.parquet as parquet
from mltoolkit.record.columns import unpack
from mltoolkit.record.digest import digest
stored, form = eval(sys.stdin.read())
table = unpack(parquet.read_table(io.BytesIO(stored)), form)
print(digest(table), *map(str, table.schema.types), sep=chr(10))
"""
    given = repr((sink.getvalue(), form))
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_types_of_pandas_in_a_fresh_process():
    bins = pd.DataFrame(
        {"b": pd.cut([1, 2, np.nan], [0, 2, 4]), "p": pd.period_range("2020", periods=3, freq="M")}
    )
    table = pa.Table.from_pandas(bins)
    assert in_a_fresh_process(table) == [digest(bins), *map(str, table.schema.types)]


class Celsius(pa.ExtensionType):
    def __init__(self):
        super().__init__(pa.float64(), "test.degrees")

    def __arrow_ext_serialize__(self):
        return b"C"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls()


def test_extension_types_that_another_process_does_not_know():
    degrees = pa.ExtensionArray.from_storage(Celsius(), pa.array([1.5, 2.5]))
    coded = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), degrees)
    table = pa.table({"plain": pa.concat_arrays([degrees, degrees.slice(1)]), "coded": coded})
    pa.register_extension_type(Celsius())
    try:
        assert digest(through_parquet(table)) == digest(table)
        assert through_parquet(table).schema == table.schema
        assert in_a_fresh_process(table)[0] == digest(table)
    finally:
        pa.unregister_extension_type("test.degrees")


def test_metadata_of_schema_and_fields_survives():
    schema = pa.schema(
        [pa.field("x", pa.uint8(), metadata={"unit": "km"}, nullable=False)], metadata={"a": "b"}
    )
    table = pa.table([pa.array([1], pa.uint8())], schema=schema)
    assert through_parquet(table).schema.equals(schema, check_metadata=True)


def test_too_many_categories_are_refused(monkeypatch):
    monkeypatch.setattr(columns, "FORM_LIMIT", 1000)
    table = one(pa.array([f"{i:x}-{i * 7919:x}" for i in range(1000)]).dictionary_encode())
    with pytest.raises(DataError, match="turn a categorical"):
        pack(table)


def test_stored_types_are_those_of_delta():
    assert stored_type(pa.large_string()) == pa.large_string()
    assert stored_type(pa.list_(pa.uint8(), 3)) == pa.list_(pa.int16(), 3)
    assert stored_type(pa.duration("s")) == pa.int64()
