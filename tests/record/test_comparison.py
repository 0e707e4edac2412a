"""What changed between two tables."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mltoolkit.record.comparison import compare_tables

BASE = pa.table({"id": [1, 2, 3], "x": ["a", None, "c"], "l": [[1], [], None]})


def changes(before, after, **options):
    found = compare_tables(before, after, **options)
    return found["rows_added"], found["rows_removed"], found["values_changed"]


def test_the_same_table_in_another_layout():
    pieces = pa.concat_tables([BASE.slice(0, 1), BASE.slice(1)])
    assert compare_tables(BASE, pieces) == {
        "rows": [3, 3],
        "rows_added": 0,
        "rows_removed": 0,
        "columns_added": [],
        "columns_removed": [],
        "columns_retyped": [],
        "values_changed": {},
    }


def test_changed_values_are_counted_by_column():
    after = pa.table({"id": [1, 2, 3], "x": ["a", "b", None], "l": [[1], [2], None]})
    assert changes(BASE, after) == (2, 2, {"x": 2, "l": 1})


def test_rows_that_came_and_went():
    assert changes(BASE, BASE.slice(1)) == (0, 1, None)
    assert changes(BASE.slice(1), BASE) == (1, 0, None)
    assert changes(BASE, pa.concat_tables([BASE, BASE.slice(0, 2)])) == (2, 0, None)


def test_the_order_of_rows():
    turned = BASE.take([2, 1, 0])
    assert changes(BASE, turned) == (0, 0, {"id": 2, "x": 2, "l": 2})
    assert changes(BASE, turned, ordered=False) == (0, 0, None)


def test_columns_that_came_went_and_changed_their_type():
    after = pa.table({"id": pa.array([1, 2, 4], pa.int8()), "x": ["a", None, "c"], "new": [1, 2, 3]})
    found = compare_tables(BASE, after)
    assert found["columns_added"] == ["new"]
    assert found["columns_removed"] == ["l"]
    assert found["columns_retyped"] == [{"name": "id", "old": "int64", "new": "int8"}]
    assert (found["rows_added"], found["rows_removed"], found["values_changed"]) == (0, 0, {})


def test_empty_tables():
    assert changes(BASE.slice(0, 0), BASE.slice(0, 0)) == (0, 0, {})
    assert changes(BASE.slice(0, 0), BASE) == (3, 0, None)


@settings(max_examples=50, deadline=None)
@given(*[st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=12)] * 2)
def test_counts_are_those_of_multisets(before, after):
    from collections import Counter

    def table(rows):
        return pa.table(
            {"n": pa.array([n for n, _ in rows], pa.int8()), "s": pa.array([s for _, s in rows], pa.string())}
        )

    added, removed, _ = changes(table(before), table(after))
    assert added == (Counter(after) - Counter(before)).total()
    assert removed == (Counter(before) - Counter(after)).total()
