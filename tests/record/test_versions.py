"""Names, places, and the log of a Delta table."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from deltalake import DeltaTable, write_deltalake

from mltoolkit.errors import DataError, DatasetNotFound
from mltoolkit.record import versions
from mltoolkit.record.versions import (
    create,
    data_root,
    latest_commit,
    names_below,
    open_files,
    open_table,
    place_of,
    publish,
    read_commit,
)


def add(place: str, number: int) -> int:
    """Write a file and publish it."""
    table = pa.table({f"x{number}": [number]})
    name = f"part-{number}.parquet"
    folder = Path(place.removeprefix("file://"))
    parquet.write_table(table, folder / name)
    commit = {"file": name, "size_bytes": (folder / name).stat().st_size, "rows": 1, "number": number}
    return publish(place, table.schema, commit)


@pytest.fixture(params=["folder", "URL"])
def root(request, tmp_path):
    """A data root as a path, and as the URL of an object store."""
    return str(tmp_path) if request.param == "folder" else tmp_path.as_uri()


@pytest.mark.parametrize("name", ["a", "flights/raw", "A-1_b.c/2/x", "x" * 200])
def test_names(name, tmp_path):
    assert place_of(name, tmp_path) == f"{tmp_path}/{name}"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/..",
            "a/../b",
            "a..b",
            ".a",
            "a/.b",
            "_delta_log",
            "a b",
            "a\n",
            "é",
        ),
        *("a\\b", "a:b", "s3://a", "x" * 201, None, 3, "~", "a/_b", "-a", "a\0"),
    ],
)
def test_what_is_no_name(name, tmp_path):
    with pytest.raises(DataError, match="cannot name a dataset") as caught:
        place_of(name, tmp_path)
    assert caught.value.name == name


def test_the_root_comes_from_the_settings(bare_workspace, monkeypatch):
    assert data_root() == str(bare_workspace / ".mltoolkit" / "data")
    (bare_workspace / "settings.ini").write_text("[mltoolkit]\ndata_root = s3://team/data/\n")
    assert place_of("a/b") == "s3://team/data/a/b"
    monkeypatch.setenv("MLTOOLKIT_DATA_ROOT", "elsewhere")
    assert data_root() == str(bare_workspace / "elsewhere")
    assert data_root(Path("here")) == str(bare_workspace / "here")


def test_versions_are_numbered_from_one(root):
    place = place_of("a", root)
    create("a", place, root)
    assert latest_commit(place) is None
    assert [add(place, number) for number in (1, 2, 3)] == [1, 2, 3]
    assert latest_commit(place)[0] == 3
    assert [read_commit(place, version)["number"] for version in (1, 2, 3)] == [1, 2, 3]
    assert read_commit(place, 0) is None
    assert read_commit(place, 4) is None
    table = DeltaTable(place, version=2)
    assert table.to_pyarrow_table().to_pydict() == {"x2": [2]}


def test_each_version_replaces_the_one_before(root):
    place = place_of("a", root)
    create("a", place, root)
    add(place, 1)
    add(place, 2)
    assert [os.path.basename(uri) for uri in open_table(place).file_uris()] == ["part-2.parquet"]


def test_creating_twice_changes_nothing(root):
    place = place_of("a", root)
    create("a", place, root)
    add(place, 1)
    create("a", place, root)
    assert latest_commit(place)[0] == 1


def test_a_dataset_cannot_lie_in_another(root):
    create("a/b", place_of("a/b", root), root)
    for name in ("a/b/c", "a"):
        with pytest.raises(DataError, match="inside the other"):
            create(name, place_of(name, root), root)
    create("a/bc", place_of("a/bc", root), root)
    create("ab", place_of("ab", root), root)


def test_creators_at_the_same_time_make_one_table(tmp_path):
    """delta-rs would retry the slower one, and its empty table would be version 1."""
    barrier = threading.Barrier(4)

    def race(_):
        for number in range(25):
            barrier.wait()
            create(f"n{number}", place_of(f"n{number}", tmp_path), str(tmp_path))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(4)))
    assert {len(list(log.glob("*.json"))) for log in tmp_path.glob("*/_delta_log")} == {1}
    assert len(list(tmp_path.iterdir())) == 25


def test_names_below(root, tmp_path):
    assert list(names_below(root)) == []
    for name in ("b", "a/y", "a/x/1"):
        create(name, place_of(name, root), root)
    (tmp_path / "_hidden" / "_delta_log").mkdir(parents=True)
    (tmp_path / ".hidden" / "_delta_log").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert sorted(names_below(root)) == ["a/x/1", "a/y", "b"]
    assert list(names_below(f"{root}/none")) == []


def test_what_is_not_there(root):
    with pytest.raises(DatasetNotFound, match="no folder"):
        open_files(f"{root}/none")
    with pytest.raises(DatasetNotFound, match="no Delta table"):
        open_table(root)


def test_a_place_that_cannot_be_made(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(DataError, match=r"cannot create a dataset at .*: .*Not a directory") as caught:
        create("a", place_of("a", tmp_path), str(tmp_path))
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_writer_that_creates_at_the_same_time_is_no_failure(tmp_path, monkeypatch):
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))
    monkeypatch.setattr(DeltaTable, "is_deltatable", lambda *_: False)
    monkeypatch.setattr(versions, "names_below", lambda _: iter(()))
    create("a", place, str(tmp_path))
    assert open_table(place).version() == 0


def test_commits_of_others_are_no_versions(tmp_path):
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))
    add(place, 1)
    write_deltalake(place, pa.table({"x1": [7]}), mode="append")
    assert latest_commit(place)[0] == 1
    assert add(place, 3) == 3
    assert DeltaTable(place).to_pyarrow_table().to_pydict() == {"x3": [3]}
    assert read_commit(place, 2) is None


def test_a_writer_that_is_behind_tries_again(tmp_path, monkeypatch):
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))
    stale = [open_table(place) for _ in range(3)]
    add(place, 1)
    monkeypatch.setattr(
        versions, "open_table", lambda place: stale.pop() if len(stale) > 1 else open_table(place)
    )
    assert add(place, 2) == 2


def test_a_writer_that_is_never_let_in_says_so(tmp_path, monkeypatch):
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))
    stale = open_table(place)
    add(place, 1)
    monkeypatch.setattr(versions, "open_table", lambda place: stale)
    monkeypatch.setattr(versions, "_ATTEMPTS", 2)
    with pytest.raises(DataError, match="other writers were faster 2 times"):
        add(place, 2)
    assert latest_commit.__globals__["open_table"] is not open_table
    monkeypatch.undo()
    assert latest_commit(place)[0] == 1


def test_a_failure_after_the_commit_is_no_failure(tmp_path, monkeypatch):
    """A full disk may spare the commit and fail the checkpoint that follows."""
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))

    def after(self, *args, **kwargs):
        original(self, *args, **kwargs)
        raise OSError("no space for a checkpoint")

    original = DeltaTable.create_write_transaction
    monkeypatch.setattr(DeltaTable, "create_write_transaction", after)
    assert add(place, 1) == 1


def test_a_failure_before_the_commit_is_one(tmp_path, monkeypatch):
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))

    def fail(self, *args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    with pytest.raises(DataError, match="no space left; the versions there are as they were"):
        add(place, 1)


def test_old_versions_stay_for_good(tmp_path):
    """Past the interval of checkpoints nothing is cleaned up, and no vacuum takes files away."""
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))
    for number in range(1, 103):
        add(place, number)
    assert list(Path(place, "_delta_log").glob("*.checkpoint.parquet"))
    table = DeltaTable(place)
    assert table.vacuum(dry_run=False) == []
    assert read_commit(place, 1)["number"] == 1
    assert DeltaTable(place, version=1).to_pyarrow_table().to_pydict() == {"x1": [1]}
    assert latest_commit(place)[0] == 102


def test_a_commit_is_plain_json_in_the_log(tmp_path):
    place = place_of("a", tmp_path)
    create("a", place, str(tmp_path))
    add(place, 1)
    lines = Path(place, "_delta_log", f"{1:020d}.json").read_text().splitlines()
    [info] = [json.loads(line)["commitInfo"] for line in lines if "commitInfo" in line]
    assert info["mltoolkit"]["number"] == 1
