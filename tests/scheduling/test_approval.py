"""Saying yes or no to a job that waits, from any machine, once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mltoolkit.errors import Invalid
from mltoolkit.execution.run import run_notebook
from mltoolkit.record import tracking
from mltoolkit.scheduling.approval import approve, meant, reject, tags_of, waiting
from mltoolkit.scheduling.jobs import load
from mltoolkit.scheduling.store import INSTANCES, State, Store, instance, open_store

KEY = "flights/train@2013-03-01T02:30:00"


@pytest.fixture
def store(bare_workspace: Path) -> Iterator[Store]:
    """The job store of an empty workspace."""
    opened = open_store(bare_workspace)
    yield opened
    opened.close()


def put(store: Store, key: str = KEY, **more: Any) -> str:
    """Make an instance that waits for approval."""
    job, _, logical = key.partition("@")
    row = {"key": key, "job": job, "logical": logical, "state": State.approval, "approval": "before", "origin": "tick", "lane": job, "due": 0, "created": 100}
    store.write(lambda connection: connection.execute(sa.insert(INSTANCES).values(**row | more)))
    return key


def test_what_is_approved_before_it_runs_waits_for_its_turn(store: Store) -> None:
    put(store)
    (one,) = waiting(store)
    assert (one.key, one.job, one.logical_date, one.approval, one.run_id) == (KEY, "flights/train", "2013-03-01T02:30:00", "before", None)
    assert one.since.timestamp() == 100
    decided = approve(store, KEY, who="reviewer@laptop", note="  complete \n now ")
    assert (decided.approved, decided.state, decided.who, decided.note, decided.warning) == (True, "waiting", "reviewer@laptop", "complete now", "")
    row = instance(store, KEY)
    assert row is not None
    assert (row["state"], row["approved_by"], row["note"], row["ended"]) == ("waiting", "reviewer@laptop", "complete now", None)
    assert row["approved_at"] == pytest.approx(decided.at.timestamp(), abs=1e-3)
    assert waiting(store) == []
    assert tags_of(row) == {
        "mltoolkit.approved_by": "reviewer@laptop", "mltoolkit.approved_at": decided.at.astimezone().isoformat(timespec="seconds"), "mltoolkit.approved_note": "complete now",
    }  # fmt: skip


def test_what_is_rejected_is_cancelled_with_the_reason(store: Store) -> None:
    put(store)
    decided = reject(store, KEY, who="sam", note="wrong month")
    row = instance(store, KEY)
    assert row is not None
    assert (decided.state, row["state"], row["reason"], row["approved_at"]) == ("cancelled", "cancelled", "rejected by sam: wrong month", None)
    assert row["ended"]
    assert tags_of(row) == {}


def test_who_decides_is_known_without_asking(store: Store) -> None:
    decided = approve(store, put(store))
    assert decided.who.count("@") == 1
    assert "mltoolkit.approved_note" not in tags_of(instance(store, KEY) or {})


def test_what_does_not_wait_is_left_alone(store: Store) -> None:
    with pytest.raises(Invalid, match=f"there is no {KEY}; `mltoolkit jobs history`"):
        approve(store, KEY)
    put(store, state=State.running)
    for action in (approve, reject):
        with pytest.raises(Invalid, match=r"does not wait for approval, it is running$"):
            action(store, KEY)
    put(store, "a@2013-03-01T00:00:00")
    approve(store, "a@2013-03-01T00:00:00", who="reviewer")
    with pytest.raises(Invalid, match="it is waiting; reviewer approved it 20"):
        reject(store, "a@2013-03-01T00:00:00", who="sam")


def test_of_many_who_answer_at_once_one_decides(store: Store) -> None:
    put(store)

    def answer(number: int) -> str:
        try:
            (approve if number % 2 else reject)(store, KEY, who=f"person {number}")
        except Invalid:
            return ""
        return f"person {number}"

    with ThreadPoolExecutor(8) as pool:
        winners = [each for each in pool.map(answer, range(8)) if each]
    row = instance(store, KEY)
    assert row is not None
    assert len(winners) == 1
    assert winners[0] in (row["approved_by"] or row["reason"])


def test_another_process_approves_and_nothing_waited_as_a_process(store: Store) -> None:
    put(store)
    program = f"from mltoolkit.scheduling import approval, store; approval.approve(store.open_store(), {KEY!r}, who='another')"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
    assert (instance(store, KEY) or {})["approved_by"] == "another"


def test_a_person_names_what_they_mean(store: Store, write: Callable[..., Path], bare_workspace: Path) -> None:
    write("projects/flights/a.ipynb")
    (bare_workspace / "projects" / "flights" / "jobs.yaml").write_text("jobs: {train: {notebook: a.ipynb}, other: {notebook: a.ipynb}}")
    jobs = load()
    with pytest.raises(Invalid, match=r"nothing of 'train' waits for approval$"):
        meant(store, jobs, "train")
    put(store)
    assert {meant(store, jobs, name) for name in ("train", "flights/train", KEY, "train@2013-03-01T02:30:00")} == {KEY}
    with pytest.raises(Invalid, match=f"nothing of 'other' waits for approval; what does: {KEY}"):
        meant(store, jobs, "other")
    with pytest.raises(Invalid, match="nothing of 'trian' waits"):
        meant(store, jobs, "trian")
    put(store, "flights/train@2013-04-01T02:30:00", due=5)
    with pytest.raises(Invalid, match=f"waits for approval for 2 logical dates; name one: {KEY}, flights/train@2013-04"):
        meant(store, jobs, "train")
    put(store, "gone@2013-04-01T02:30:00")
    assert meant(store, jobs, "gone@2013-04-01T02:30:00") == "gone@2013-04-01T02:30:00", "a job that is not in jobs.yaml any more"
    approve(store, KEY, who="reviewer")
    with pytest.raises(Invalid, match="it is waiting; reviewer approved it"):
        meant(store, jobs, KEY)


def test_what_is_approved_afterwards_says_so_on_its_run(workspace: Path, write: Callable[..., Path], tiny: str) -> None:
    run = run_notebook(write("a.ipynb", "1", kernel=tiny))
    store = open_store(workspace)
    for key, action, state in ((KEY, approve, "succeeded"), ("a@2013", reject, "cancelled")):
        put(store, key, approval="after", run_id=run.run_id, started=200)
        assert waiting(store)[0].run_id == run.run_id
        decided = action(store, key, who="reviewer", note="looks right")
        assert (decided.state, decided.warning) == (state, "")
    tags = tracking.client(workspace).get_run(run.run_id).data.tags
    assert {tags["mltoolkit.approved_by"], tags["mltoolkit.rejected_by"]} == {"reviewer"}
    assert tags["mltoolkit.approved_note"] == "looks right"
    assert (instance(store, KEY) or {})["ended"]
    store.close()


def test_a_store_that_fails_without_a_word(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(tracking, "client", fail)
    store = open_store(workspace)
    put(store, approval="after", run_id="0" * 32)
    decided = approve(store, KEY, who="reviewer")
    assert (decided.state, decided.warning.rpartition(": ")[2]) == ("succeeded", "TimeoutError")
    store.close()


def test_a_decision_holds_if_it_cannot_be_written_on_the_run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(workspace)
    put(store, approval="after", run_id="0" * 32)
    decided = approve(store, KEY, who="reviewer")
    assert decided.state == "succeeded"
    assert f"but not on run {'0' * 32}: " in decided.warning
    assert (instance(store, KEY) or {})["state"] == "succeeded"
    put(store, "b@2013", approval="after", run_id="1" * 32)
    monkeypatch.setenv("MLTOOLKIT_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    decided = approve(store, "b@2013", who="reviewer")
    assert "the decision stands in the job store" in decided.warning
    store.close()
