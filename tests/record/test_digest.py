"""The digest: what changes it, what must not, for every type Arrow and pandas have."""

from __future__ import annotations

import datetime as dt
import decimal
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from arrow_types import ARRAYS, dictionary, one, union_fields
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mltoolkit.errors import DataError
from mltoolkit.record.digest import DIGEST_VERSION, batches, digest, plain, row_hashes, type_name

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def both(data) -> tuple[str, str]:
    return digest(data), digest(data, ordered=False)


def same(*tables) -> None:
    assert len({both(table) for table in tables}) == 1


def different(*tables) -> None:
    assert len({digest(table) for table in tables}) == len(tables)
    assert len({digest(table, ordered=False) for table in tables}) == len(tables)


named = pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())


def test_it_is_32_hexadecimal_digits():
    found = digest(one([1]))
    assert len(found) == 32
    assert int(found, 16)


def test_every_type_has_a_digest_of_its_own():
    every = {name: both(one(array)) for name, array in ARRAYS.items()}
    # The same content in two encodings: the only pairs that must agree.
    assert every.pop("dense union") == every.pop("sparse union")
    assert len({ordered for ordered, _ in every.values()}) == len(every)
    assert len({unordered for _, unordered in every.values()}) == len(every)


@named
def test_chunks_and_slices_do_not_show(array):
    whole = both(one(array))
    padded = pa.concat_arrays([array, array, array]).slice(len(array), len(array))
    assert both(one(padded)) == whole
    pieces = pa.chunked_array([array.slice(0, 1), array.slice(1, 0), array.slice(1)])
    assert both(one(pieces)) == whole


@named
def test_rows_in_another_order(array):
    order = [2, 0, 1]
    turned = one(pa.concat_arrays([array.slice(i, 1) for i in order]))
    assert digest(turned, ordered=False) == digest(one(array), ordered=False)
    if array.slice(0, 1).to_pylist() != array.slice(2, 1).to_pylist() or array.null_count == 1:
        assert digest(turned) != digest(one(array))


@named
def test_an_empty_column_and_an_empty_stream_agree(array):
    schema = pa.schema([("x", array.type)])
    without = pa.RecordBatchReader.from_batches(schema, [])
    empty = pa.record_batch([array.slice(0, 0)], schema=schema)
    expected = digest(pa.RecordBatchReader.from_batches(schema, [empty]))
    if array.type != ARRAYS["ordered"].type:  # an empty batch still says what the categories are
        assert digest(without) == expected
    assert digest(without) != digest(one(array))


@named
def test_each_row_counts(array):
    tables = [one(pa.concat_arrays([array] + [array.slice(0, 1)] * extra)) for extra in range(3)]
    different(*tables)


@named
def test_an_ipc_round_trip_does_not_show(array):
    table = one(array)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    assert both(pa.ipc.open_stream(sink.getvalue()).read_all()) == both(table)


def test_layouts_of_text_and_binary_agree():
    texts = ["", None, "é", "a longer text than a view holds inline", "12345678", "123456789"]
    same(*(one(texts, kind) for kind in (pa.string(), pa.large_string(), pa.string_view(), dictionary)))
    raw = [None if text is None else text.encode() for text in texts]
    same(*(one(raw, kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())))
    different(one(texts), one(raw, pa.binary()))


def test_layouts_of_lists_agree():
    values = [[1, 2], [], None, [3]]
    makers = (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)
    same(*(one(values, make(pa.int16())) for make in makers))
    # A view whose lists overlap, stand in another order, and leave a gap.
    twisted = pa.ListViewArray.from_arrays([3, 0, 0, 1], [2, 0, 9, 1], pa.array([9, 3, 9, 1, 2], pa.int16()))
    masked = pa.ListViewArray.from_arrays(
        [3, 0, 0, 1],
        [2, 0, 2, 1],
        pa.array([9, 3, 9, 1, 2], pa.int16()),
        mask=pa.array([False, False, True, False]),
    )
    assert twisted.type == masked.type
    same(one(masked), one(values, pa.list_(pa.int16())))
    different(one([[1, 2]], pa.list_(pa.int16())), one([[1, 2]], pa.list_(pa.int16(), 2)))


def test_widths_of_decimals_agree_and_their_scale_counts():
    value = [decimal.Decimal("1.25"), None]
    makers = (pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256)
    same(*(one(value, make(5, 2)) for make in makers))
    different(*(one(value, pa.decimal128(5, scale)) for scale in (2, 3)), one(value, pa.decimal128(6, 2)))


def test_units_and_zones_count():
    moments = [dt.datetime(2013, 1, 1)]
    different(*(one(moments, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")))
    different(*(one(moments, pa.timestamp("us", zone)) for zone in (None, "UTC", "Europe/Berlin", "+01:00")))


def test_codes_of_a_dictionary_do_not_show():
    first = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int8()), ["a", "b"])
    second = pa.DictionaryArray.from_arrays(
        pa.array([2, 1, 0, 2], pa.int32()), pa.array([None, "b", "a", "unused"])
    )
    same(one(first), one(second), one(["a", "b", None, "a"]))
    third = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["a", "b"])
    same(one(pa.chunked_array([first.slice(0, 1), third])), one(first))


def test_the_order_of_an_ordered_categorical_counts():
    def sizes(categories, ordered=True):
        return pd.DataFrame({"size": pd.Categorical(["S", "L"], categories, ordered=ordered)})

    different(sizes(["S", "L"]), sizes(["L", "S"]), sizes(["S", "M", "L"]), sizes(["S", "L"], ordered=False))
    same(
        sizes(["S", "L"], ordered=False),
        sizes(["L", "M", "S"], ordered=False),
        pd.DataFrame({"size": ["S", "L"]}),
    )
    frame = sizes(["L", "S"])
    turned = frame.iloc[::-1].reset_index(drop=True)
    assert digest(frame, ordered=False) == digest(turned, ordered=False)


def test_ordered_categories_may_come_in_parts():
    kind = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    part = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["S"], ordered=True)
    rest = pa.DictionaryArray.from_arrays(pa.array([1], pa.int8()), ["S", "L"], ordered=True)
    whole = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), ["S", "L"], ordered=True)
    same(one(pa.chunked_array([part, rest], kind)), one(whole))


def test_runs_do_not_show():
    values = ["a", "a", None, "b", "b"]
    runs = pa.RunEndEncodedArray.from_arrays([2, 3, 5], pa.array(["a", None, "b"]))
    split = pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3, 4, 5], pa.int16()), pa.array(values))
    same(one(runs), one(split), one(values), one(pa.concat_arrays([runs, runs]).slice(5)))


def test_floats():
    def bits(number):
        return one(pa.Array.from_buffers(pa.float64(), 1, [None, pa.py_buffer(struct.pack("<Q", number))]))

    quiet, negative, payload = 0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001
    same(bits(quiet), bits(negative), bits(payload), one([float("nan")]))
    different(one([float("nan")]), one([None], pa.float64()), one([0.0]), one([-0.0]), one([float("inf")]))


def test_what_lies_under_a_null_does_not_show():
    valid = pa.py_buffer(bytes([0b101]))

    def numbers(junk):
        return one(
            pa.Array.from_buffers(pa.int64(), 3, [valid, pa.py_buffer(struct.pack("<3q", 1, junk, 3))])
        )

    same(numbers(7), numbers(8), one([1, None, 3]))
    offsets = pa.py_buffer(struct.pack("<4i", 0, 1, 3, 4))
    text = [
        pa.Array.from_buffers(pa.string(), 3, [valid, offsets, pa.py_buffer(raw)])
        for raw in (b"axxb", b"ayyb")
    ]
    same(*map(one, text), one(["a", None, "b"]))
    mask = pa.array([False, True, False])
    lists = [
        pa.ListArray.from_arrays([0, 1, 3, 4], pa.array([1, *junk, 2]), mask=mask)
        for junk in ([8, 8], [9, 9])
    ]
    same(*map(one, lists), one([[1], None, [2]]))
    structs = [pa.StructArray.from_arrays([pa.array([1, junk, 2])], ["a"], mask=mask) for junk in (8, None)]
    same(*map(one, structs), one([{"a": 1}, None, {"a": 2}]))
    fixed = [pa.FixedSizeListArray.from_arrays(pa.array([1, junk, 2]), 1, mask=mask) for junk in (8, None)]
    same(*map(one, fixed), one([[1], None, [2]], pa.list_(pa.int64(), 1)))


def test_a_validity_bitmap_without_nulls_does_not_show():
    data = pa.py_buffer(struct.pack("<3q", 1, 2, 3))
    bitmap = pa.py_buffer(bytes([0b11111111]))
    same(*(one(pa.Array.from_buffers(pa.int64(), 3, [buffer, data])) for buffer in (None, bitmap)))


def test_what_runs_together_is_kept_apart():
    different(one(["ab", "c"]), one(["a", "bc"]), one(["abc", ""]))
    different(one([[1], []]), one([[1], None]), one([[1], [None]]), one([[1, None], []]))
    assert digest(one([[1], []])) != digest(one([[], [1]]))
    different(one([[[1], [2]]]), one([[[1, 2]]]), one([[[1, 2], []]]))
    different(one([["ab"], ["c"]]), one([["a"], ["bc"]]))
    different(one([{"a": 1, "b": None}]), one([{"a": None, "b": 1}]))
    different(pa.table({"a": [1, 2], "b": [3, 4]}), pa.table({"a": [1, 3], "b": [2, 4]}))
    different(one(["12345678", "9"]), one(["123456789", ""]), one(["1", "23456789"]))
    different(one([b"a"]), one([b"a\0"]), one([b"a" + b"\0" * 7]), one([b"a" + b"\0" * 8]))
    different(one(["\0"]), one([""]), one([None], pa.string()))


def test_names_order_and_types_of_columns_count():
    base = pa.table({"a": [1], "b": [2]})
    different(base, base.rename_columns(["a", "c"]), base.rename_columns(["b", "a"]), base.select(["b", "a"]))
    different(base, base.select(["a"]), pa.table({"a": [1], "b": [2], "c": pa.nulls(1)}))
    different(*(one([1], kind) for kind in (pa.int8(), pa.int64(), pa.uint64(), pa.float64())))
    different(pa.table({'a", "b': [1]}), pa.table({"a": [1]}))
    fields = ["a", "b"], ["b", "a"]
    different(*(one(pa.StructArray.from_arrays([pa.array([1]), pa.array([1])], names)) for names in fields))


def test_metadata_and_nullability_do_not_count():
    field = pa.field("x", pa.int64())
    schemas = [pa.schema([field]), pa.schema([field.with_nullable(False)]), pa.schema([field], {"a": "b"})]
    same(*(pa.table([pa.array([1])], schema=schema) for schema in schemas))


def test_rows_without_columns_are_counted():
    frames = [pd.DataFrame(index=range(rows)) for rows in (0, 2)]
    assert digest(frames[0]) == digest(pd.DataFrame())
    assert digest(pa.table({})) == digest(pa.table({}))


class Celsius(pa.ExtensionType):
    def __init__(self, unit="C"):
        self.unit = unit
        super().__init__(pa.float64(), "test.celsius")

    def __arrow_ext_serialize__(self):
        return self.unit.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls(serialized.decode())


def test_extension_types_count_whether_or_not_they_are_registered():
    def table(unit):
        return one(pa.ExtensionArray.from_storage(Celsius(unit), pa.array([1.5, None])))

    stranger = table("C")  # read back as floats with metadata, as nobody registered the type
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, stranger.schema) as writer:
        writer.write_table(stranger)
    read = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert read.schema.field("x").type == pa.float64()
    same(read, stranger)
    different(stranger, table("K"), one([1.5, None]))
    different(
        *(
            one(pa.ExtensionArray.from_storage(kind, pa.array([b"0" * 16], pa.binary(16))))
            for kind in [pa.uuid()]
        ),
        one([b"0" * 16], pa.binary(16)),
    )


def test_pandas_types():
    periods = pd.DataFrame({"p": pd.period_range("2020", periods=3, freq="D")})
    months = pd.DataFrame({"p": pd.PeriodIndex(["2020-01", "2020-02", "2020-03"], freq="M")})
    bins = pd.DataFrame({"p": pd.cut([1, 2, 3], [0, 2, 4])})
    closed = pd.DataFrame({"p": pd.cut([1, 2, 3], [0, 2, 4], right=False)})
    nullable = pd.DataFrame({"p": pd.array([1, 2, None], "Int64")})
    arrow = pd.DataFrame({"p": pd.array([1, 2, None], "int64[pyarrow]")})
    text = pd.DataFrame({"p": pd.array(["1", "2", None], "string")})
    different(periods, months, bins, closed, nullable, text)
    same(nullable, arrow)
    same(text, text.astype("str"), text.astype(object))


def test_the_index_of_a_frame_counts():
    frame = pd.DataFrame({"x": [1, 2, 3]})
    ranges = [
        pd.RangeIndex(0, 3),
        pd.RangeIndex(1, 4),
        pd.RangeIndex(0, 6, 2),
        pd.RangeIndex(0, 3, name="key"),
    ]
    others = [
        pd.Index([5, 7, 6]),
        pd.Index([5, 7, 6], name="key"),
        pd.MultiIndex.from_tuples([(1, 2), (1, 3), (2, 2)]),
    ]
    different(*(frame.set_axis(index) for index in ranges + others))
    same(
        frame,
        pa.table({"x": [1, 2, 3]}),
        pa.table({"x": [1, 2, 3]}).replace_schema_metadata({"pandas": "not JSON"}),
    )
    same(frame, pa.table({"x": [1, 2, 3]}).replace_schema_metadata({"pandas": "[]"}))
    table = pa.Table.from_pandas(frame)
    same(table, pa.concat_tables([table.slice(0, 1), table.slice(1)]))


def test_what_is_no_table_is_refused():
    with pytest.raises(DataError, match="a list is not a table"):
        digest([1, 2])
    with pytest.raises(DataError, match="cannot be read as Arrow columns"):
        digest(pd.Series([1, 2]))
    with pytest.raises(DataError, match="cannot be read as Arrow columns"):
        digest(pd.DataFrame({"x": [1, "a"]}))
    with pytest.raises(DataError, match="cannot be read as Arrow columns"):
        digest(pd.DataFrame([[1, 2]], columns=["x", "x"]))


def test_a_large_batch_is_read_in_slices_that_do_not_show():
    numbers = np.arange(200_000)
    table = pa.table(
        {"n": numbers, "s": pa.array(numbers).cast(pa.string()), "l": pa.array([[1] * 3] * 200_000)}
    )
    assert len(list(batches(table)[1])) > 2
    same(table, pa.concat_tables([table.slice(0, 70_001), table.slice(70_001)]))


def test_a_flipped_label_in_the_last_row():
    frame = pd.DataFrame({"id": np.arange(100_000), "late": np.zeros(100_000, "int8")})
    flipped = frame.copy()
    flipped.loc[99_999, "late"] = 1
    different(frame, flipped)


def test_exchanged_values_and_pairs_of_equal_rows():
    base = pa.table({"a": [1, 2], "b": ["x", "y"]})
    crossed = pa.table({"a": [1, 2], "b": ["y", "x"]})
    different(base, crossed)  # the columns hold the same values, the rows do not
    rows = [pa.table({"a": values}) for values in ([1, 1, 2], [2, 2, 2], [1, 2, 2], [3, 3, 2])]
    assert len({digest(table, ordered=False) for table in rows}) == 4


def test_row_hashes_depend_on_the_row_alone():
    batch = pa.record_batch({"a": [1, 2, 1], "b": ["x", None, "x"]})
    hashes = row_hashes(batch)
    assert hashes.shape == (2, 3)
    assert (hashes[:, 0] == hashes[:, 2]).all()
    assert (hashes[:, 0] != hashes[:, 1]).all()
    assert (row_hashes(batch.slice(2)) == hashes[:, 2:]).all()


def test_row_hashes_do_not_collide_on_dense_inputs():
    grid = np.arange(300)
    a, b = np.repeat(grid, 300), np.tile(grid, 300)
    for lane in row_hashes(pa.record_batch({"a": a, "b": b})):
        assert len(np.unique(lane)) == len(a)
    for lane in row_hashes(
        pa.record_batch({"a": pa.array([f"{x:>20}{y:<3}" for x, y in zip(a, b, strict=True)])})
    ):
        assert len(np.unique(lane)) == len(a)
    # Each bit of a hash is set in about half of all rows.
    bits = np.unpackbits(
        row_hashes(pa.record_batch({"a": np.arange(65_536)})).view(np.uint8).reshape(2, -1, 8), axis=2
    )
    assert (np.abs(bits.mean(axis=1) - 0.5) < 0.02).all()


def test_plain_leaves_plain_arrays_alone():
    array = pa.array([[1, None], None])
    assert plain(array) is array


def test_type_names_are_the_same_for_layouts_only():
    def name(kind):
        return type_name(pa.field("x", kind))

    assert name(pa.list_view(pa.string_view())) == name(pa.large_list(pa.large_string())) == "list<string>"
    assert name(pa.map_(pa.string(), pa.int8())) == "map<string, int8>"
    assert name(pa.run_end_encoded(pa.int16(), pa.decimal32(5, 2))) == "decimal(5, 2)"
    assert name(pa.dense_union(union_fields)) == name(pa.sparse_union(union_fields))
    assert name(pa.json_()) != name(pa.string())


# The digests below are those of DIGEST_VERSION 1. If one changes, the rules changed: raise the version.
def reference_table() -> pa.Table:
    kept = {name: array for name, array in ARRAYS.items() if name not in ("json", "uuid")}
    return pa.table(kept)


def test_digests_of_this_version_stay_what_they_are():
    assert DIGEST_VERSION == 1
    assert both(one([1, 2, None])) == ("6c23a8972f077887db1edebf26dd0083", "32a2ae2b13d5c66c0f6354b342772766")
    assert both(reference_table()) == ("4b63f3ae583fb41a78001670df415d92", "37f63726cb09c7d4084817a8eac28bb4")


def test_another_process_finds_the_same():
    code = "import pyarrow as pa; from mltoolkit.record.digest import digest; print(digest(pa.table({'x': ['a', None]})))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert out == digest(one(["a", None]))


# Properties.
leaves = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(allow_nan=False, width=64),
    pa.string(): st.text(max_size=20),
    pa.string_view(): st.text(max_size=20),
    pa.large_binary(): st.binary(max_size=20),
    pa.timestamp("us", "UTC"): st.integers(0, 2**50),
    pa.decimal128(9, 2): st.decimals(-999999, 999999, places=2, allow_nan=False),
    pa.dictionary(pa.int16(), pa.string()): st.sampled_from(["a", "b", "c"]),
}


@st.composite
def typed(draw, depth=2):
    """A type, and a strategy for its values."""
    if depth and draw(st.booleans()):
        inner, values = draw(typed(depth=depth - 1))
        shape = draw(st.sampled_from(["list", "view", "fixed", "struct"]))
        many = st.lists(st.none() | values, max_size=3)
        if shape == "list":
            return pa.list_(inner), many
        if shape == "view":
            return pa.large_list_view(inner), many
        if shape == "fixed":
            return pa.list_(inner, 2), st.lists(st.none() | values, min_size=2, max_size=2)
        return pa.struct([("f", inner)]), st.fixed_dictionaries({"f": st.none() | values})
    kind = draw(st.sampled_from(list(leaves)))
    return kind, leaves[kind]


@st.composite
def tables(draw):
    rows = draw(st.integers(0, 8))
    columns = {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        kind, values = draw(typed())
        columns[name] = (kind, draw(st.lists(st.none() | values, min_size=rows, max_size=rows)))
    return columns


def build(columns) -> pa.Table:
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})


@quick
@given(tables(), st.data())
def test_no_layout_shows(columns, data):
    table = build(columns)
    cuts = sorted(data.draw(st.lists(st.integers(0, table.num_rows), max_size=3)))
    bounds = zip([0, *cuts], [*cuts, table.num_rows], strict=True)
    parts = []
    for start, stop in bounds:
        before = data.draw(st.integers(0, 2))
        # Built apart, with rows before it that are sliced away: other offsets, dictionaries and bitmaps.
        part = build(
            {name: (kind, values[:before] + values[start:stop]) for name, (kind, values) in columns.items()}
        )
        parts.append(part.slice(min(before, table.num_rows)))
    assert both(pa.concat_tables(parts)) == both(table)


@quick
@given(tables(), st.data())
def test_any_changed_value_shows(columns, data):
    rows = len(next(iter(columns.values()))[1])
    assume(rows)
    name = data.draw(st.sampled_from(sorted(columns)))
    kind, values = columns[name]
    row = data.draw(st.integers(0, rows - 1))
    other = data.draw(st.none() | strategy_for(kind))
    changed = {**columns, name: (kind, [*values[:row], other, *values[row + 1 :]])}
    table, second = build(columns), build(changed)
    same_content = exact(table) == exact(second)
    assert (digest(table) == digest(second)) is same_content
    assert (digest(table, ordered=False) == digest(second, ordered=False)) is same_content


@quick
@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_shows_only_when_asked(columns, random):
    table = build(columns)
    order = list(range(table.num_rows))
    random.shuffle(order)
    turned = build({name: (kind, [values[i] for i in order]) for name, (kind, values) in columns.items()})
    assert digest(turned, ordered=False) == digest(table, ordered=False)
    assert (digest(turned) == digest(table)) is (exact(turned) == exact(table))


def strategy_for(kind):
    if kind in leaves:
        return leaves[kind]
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({"f": st.none() | strategy_for(kind.field(0).type)})
    size = {"min_size": 2, "max_size": 2} if pa.types.is_fixed_size_list(kind) else {"max_size": 3}
    return st.lists(st.none() | strategy_for(kind.value_type), **size)


def exact(table: pa.Table) -> str:
    """The content as text, in which `-0.0` and `0.0` differ."""
    return repr(table.to_pylist())
