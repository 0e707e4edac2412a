"""Shipping a spool: what is refused, what is left for later, and who else is at work on it, on a real SQLite store."""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy import exc, text

from mltoolkit.errors import SettingsError
from mltoolkit.record import delivery, recorder, shipping, spool, tracking
from mltoolkit.record.delivery import refused
from mltoolkit.record.shipping import drain, ship
from mltoolkit.record.spool import Spool, files, opened, shipping_lock, spool_folder, waiting
from mltoolkit.record.spooled_artifacts import keep
from mltoolkit.record.stores import is_final, plain_store, spooled_address


@pytest.fixture
def uri(workspace: Path) -> str:
    """The store of the workspace."""
    return tracking.workspace_environment(workspace)["MLFLOW_TRACKING_URI"]


def run_in(uri: str) -> str:
    return str(plain_store(uri).create_run("0", "me", 0, [], "run").info.run_id)


def log(writer: Spool, run: str, values: int, name: str = "loss") -> None:
    for step in range(values):
        writer.append("log", run, {"m": [[name, 1.0, 1000, step]]})


def twice(session: Any) -> None:
    for _ in range(2):
        session.execute(text("insert into experiments (experiment_id, name) values (77, 'twice')"))


def unbound(session: Any) -> None:
    session.execute(text("select :a"), {"a": object()})


def crowded(session: Any) -> None:
    raise exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00", code="3o7r")


def closed(session: Any) -> None:
    raise exc.ResourceClosedError("This Connection is closed")


@pytest.mark.parametrize(("trouble", "final", "for_a_client"), [(twice, True, True), (unbound, False, False), (crowded, False, False), (closed, False, True)])
def test_a_database_in_trouble_is_no_reason_to_throw_values_away(uri: str, trouble: Callable[[Any], None], final: bool, for_a_client: bool) -> None:
    """MLflow makes a bad request of nearly whatever its database says; of one that says nothing of itself, a client cannot know."""
    with pytest.raises(MlflowException) as caught, plain_store(uri).ManagedSessionMaker(read_only=False) as session:
        trouble(session)
    assert caught.value.error_code == "BAD_REQUEST"
    assert is_final(caught.value, uri) is final
    assert is_final(RestException(json.loads(caught.value.serialize_as_json())), "http://a.example.org") is for_a_client  # type: ignore[no-untyped-call]
    assert is_final(RestException({"error_code": "BAD_REQUEST", "message": "no such thing, see https://sqlalche.me/e/20/f405 (or not)"}), "http://a.example.org")  # type: ignore[no-untyped-call]


def test_time_is_kept_to_whatever_there_is_to_ship(workspace: Path, uri: str) -> None:
    folder, run = spool_folder(workspace), run_in(uri)
    writer = Spool(folder, uri)
    log(writer, run, 5)
    report = ship(folder, root=workspace, until=time.monotonic() - 1)
    assert (report.delivered, report.reason) == (0, "there was no more time"), "the first line says for whom it is"
    report = ship(folder, root=workspace, until=time.monotonic() - 1)
    assert (report.delivered, report.complete) == (1, False), "each passage goes on by something"
    report = ship(folder, root=workspace)
    assert (report.delivered, report.complete) == (4, True)
    writer.close()


def test_what_is_refused_is_said_to_whom_it_belongs_whoever_ships_it(workspace: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, known = spool_folder(workspace), run_in(uri)
    for record, child in (("a" * 32, "c" * 32), ("b" * 32, known)):
        monkeypatch.setenv("MLTOOLKIT_RUN_ID", record)
        writer = Spool(folder, uri)
        log(writer, child, 2)
        if child == known:
            with files(folder)[-1].path.open("ab") as file:
                file.write(b"00000000 what a power cut left\n")
            assert ship(folder, root=workspace).damaged == 0, "its process is alive"
            log(writer, child, 1, "later")
        writer.close()
    first, second = ship(folder, root=workspace), ship(folder, root=workspace)
    assert (first.delivered, first.rejected, first.damaged, first.complete, second.damaged) == (1, 0, 1, True, 0)
    assert [each["run_id"] for each in refused(folder, "a" * 32)] == ["c" * 32] * 2
    assert [(each["operation"], each["content"]) for each in refused(folder, "b" * 32)] == [("damaged", 1)]
    assert len(list(folder.glob("*.damaged"))) == 1
    (said,) = recorder.refusals(workspace, "a" * 32)
    assert said == f"the tracking store refused 2 of what the notebook logged; {folder / 'rejected.jsonl'} says what and why"
    assert "1 lines of the spool were damaged" in recorder.refusals(workspace, "b" * 32)[0]
    assert recorder.refusals(workspace, "d" * 32) == []
    with (folder / delivery.REJECTED).open("a") as file:
        file.write('{"run_id": "' + "a" * 32)  # the disk was full
    assert len(refused(folder, "a" * 32)) == 2


def test_refused_values_are_not_delivered(workspace: Path, uri: str) -> None:
    folder, run = spool_folder(workspace), run_in(uri)
    writer = Spool(folder, uri)
    log(writer, "c" * 32, 3)
    log(writer, run, 2)
    writer.close()
    report = ship(folder, root=workspace)
    assert (report.delivered, report.rejected, report.complete) == (2, 3, True)


def test_several_may_look_whether_a_process_has_ended(tmp_path: Path) -> None:
    writer = Spool(tmp_path, "sqlite:///x")
    writer.append("log", "run", 1)
    (written,) = files(tmp_path)
    assert not written.is_over()
    writer.close()
    with written.path.open("rb") as another:
        fcntl.flock(another, fcntl.LOCK_SH)
        assert written.is_over()
        assert opened(written) is not None


def test_who_waits_goes_on_waiting_while_another_process_ships(workspace: Path, uri: str) -> None:
    folder, run = spool_folder(workspace), run_in(uri)
    writer = Spool(folder, uri)
    log(writer, run, 20)
    writer.close()
    (written,) = files(folder)
    entries = list(written.entries())
    held = threading.Event()

    def another() -> None:
        with shipping_lock(folder):
            held.set()
            for entry in entries[:9]:
                time.sleep(0.15)
                written.advance(entry.end)

    thread = threading.Thread(target=another)
    thread.start()
    held.wait()
    report = drain(workspace, silence=0.5)
    thread.join()
    assert (report.complete, report.reason, report.delivered) == (True, "", 12)
    with shipping_lock(folder):
        log(again := Spool(folder, uri), run, 1)
        again.close()
        report = drain(workspace, silence=0.1)
    assert (report.complete, report.reason) == (False, "somebody else is shipping")


def test_a_caretaker_outlives_what_goes_wrong(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Spool(spool_folder(bare_workspace), "sqlite:///x")
    writer.append("log", "run", {})
    writer.close()
    troubles: list[Exception] = [OSError("no more processes"), SettingsError("settings.ini is being written")]
    done = threading.Event()

    def leave(root: Path) -> None:
        if troubles:
            raise troubles.pop()
        done.set()

    monkeypatch.setattr(shipping, "leave_to_itself", leave)
    with shipping.Caretaker(bare_workspace, pause=0.02):
        assert done.wait(5)


def test_files_go_with_the_workspace_and_arrive_once(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    shutil.move(workspace / ".mltoolkit" / "mlflow.db", tmp_path / "elsewhere.db")
    address, place = spooled_address(store, workspace), tmp_path / "place"
    (workspace / "plots").mkdir()
    (workspace / "plots" / "a.txt").write_text("a")
    (workspace / "b.txt").write_text("b")
    for local in ("plots", "b.txt"):
        keep(address, place.as_uri(), local, None)
    MlflowClient(address)._tracking_client.store.spool.close()
    moved = tmp_path / "moved"
    shutil.move(workspace, moved)
    folder = spool_folder(moved)
    with monkeypatch.context() as patch:
        patch.setattr(spool.Written, "advance", lambda *_: (_ for _ in ()).throw(OSError("killed before it was noted")))
        assert ship(folder, root=moved).reason == "killed before it was noted"
    assert sorted(path.name for path in place.rglob("*.txt")) == ["a.txt", "b.txt"]
    report = ship(folder, root=moved)
    assert (report.rejected, report.complete, list((folder / "files").iterdir())) == (0, True, [])
    (moved / "c.txt").write_text("c")
    keep(spooled_address(store, moved), place.as_uri(), str(moved / "c.txt"), None)
    MlflowClient(spooled_address(store, moved))._tracking_client.store.spool.close()
    shutil.rmtree(folder / "files")
    assert ship(folder, root=moved).rejected == 1, "what somebody took away has not arrived"
    assert "nothing says that it was uploaded" in (folder / delivery.REJECTED).read_text()
    assert waiting(folder) == 0


def test_a_value_that_nothing_can_hold_is_not_in_the_way_of_others(workspace: Path, uri: str) -> None:
    folder, run = spool_folder(workspace), run_in(uri)
    writer = Spool(folder, uri)
    log(writer, run, 1)
    writer.append("log", run, {"m": [["loss", 1.0, 1000, 2**70]]})
    writer.append("log", run, {"g": [["file", "caf\udce9.csv"]]})
    writer.append("update", run, {"status": None, "end": None, "name": "caf\udce9"})
    log(writer, run, 1, "later")
    writer.close()
    report = ship(folder, root=workspace)
    assert (report.delivered, report.rejected, report.complete, report.reason) == (2, 3, True, "")
    assert [each["content"] for each in refused(folder, run)][1] == {"g": [["file", "caf\udce9.csv"]]}
    client = MlflowClient(spooled_address(uri, workspace))
    for step, at in ((2**63, 0), (0, 2**63), (-(2**63) - 1, 0)):
        with pytest.raises(MlflowException, match="64 bits"):
            client.log_metric(run, "loss", 1.0, timestamp=at, step=step)
