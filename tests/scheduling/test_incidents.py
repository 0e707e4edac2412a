"""What is told of jobs that fail: once, and once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mltoolkit.scheduling import incidents
from mltoolkit.scheduling.approval import reject
from mltoolkit.scheduling.incidents import NOTED, NOTICES, WATCHED, look, note, prepare
from mltoolkit.scheduling.jobs import Jobs, load
from mltoolkit.scheduling.store import ATTEMPTS, INSTANCES, State, Store, open_store

JOBS = """
jobs:
  prepare: {notebook: a.ipynb, notify: {email: a@example.org, command: [tell], channels: {pigeon: 7}}, owner: data-team, description: All months}
  train: {notebook: a.ipynb, needs: [prepare], notify: {webhook: 'https://example.org/x'}}
  middle: {notebook: a.ipynb, needs: [quiet]}
  last: {notebook: a.ipynb, needs: [middle], notify: {email: a@example.org}}
  deep: {notebook: a.ipynb, needs: [last], notify: {email: a@example.org}}
  quiet: {notebook: a.ipynb}
  failures: {notebook: a.ipynb, notify: {email: a@example.org, on: [failure]}}
  ask: {notebook: a.ipynb, approval: before, notify: {email: a@example.org}}
"""


@pytest.fixture
def jobs(bare_workspace: Path, write: Callable[..., Path]) -> Jobs:
    """Some jobs with and without alerts."""
    write("a.ipynb")
    Path("jobs.yaml").write_text(JOBS)
    return load()


@pytest.fixture
def store(bare_workspace: Path) -> Iterator[Store]:
    """The job store of the workspace."""
    opened = open_store(bare_workspace)
    prepare(opened)
    yield opened
    opened.close()


def end(store: Store, job: str, day: int, state: str, reason: str = "", attempt: int = 1, ended: float | None = None) -> str:
    """Give an instance of a job its end, made if need be."""
    logical = f"2013-03-{day:02d}T02:30:00"
    row = {"key": f"{job}@{logical}", "job": job, "logical": logical, "state": state, "reason": reason, "origin": "tick", "lane": job, "due": float(day),
           "created": 0.0, "ended": None if state == "approval" else ended or time.time(), "attempt": attempt}  # fmt: skip
    made = store.insert(INSTANCES).values(**row)
    store.write(lambda connection: connection.execute(made.on_conflict_do_update(index_elements=["key"], set_=row)))
    return row["key"]


def messages(store: Store) -> list[dict[str, Any]]:
    """What is in the outbox."""
    with store.read() as connection:
        return list(connection.execute(sa.select(NOTICES.c.message).order_by(NOTICES.c.id)).scalars())


def told(store: Store) -> list[str]:
    """Events and jobs in the outbox."""
    return [f"{each['event']} {each['job']} {each['logical_date'][8:10]}" for each in messages(store)]


def test_an_incident_is_told_at_its_beginning_and_at_its_end(store: Store, jobs: Jobs) -> None:
    counts = [note(store, jobs, end(store, "train", day, state, "boom")) for day, state in enumerate(["failed", "timed_out", "lost", "succeeded", "succeeded", "kernel_died"], 1)]
    assert counts == [1, 0, 0, 1, 0, 1]
    assert told(store) == ["failure train 01", "recovery train 04", "failure train 06"]
    first, recovery, _ = messages(store)
    assert (first["failures"], first["cause"], first["state"]) == (1, "boom", "failed")
    assert (recovery["failures"], recovery["since"], recovery["command"]) == (3, first["since"], None)
    assert "It failed before: 3 failures since 20" in recovery["text"]
    (latest,) = incidents.incidents(store)
    assert (latest["job"], latest["count"], latest["closed"], latest["cause"]) == ("train", 1, None, "boom")
    assert [each["count"] for each in incidents.incidents(store, everything=True)] == [1, 3]


def test_each_channel_gets_a_notice_with_all_there_is_to_know(store: Store, jobs: Jobs) -> None:
    key = end(store, "prepare", 1, "failed", "ValueError:\x1b[31m no rows\nfor March", attempt=3)
    facts = {"html": "/w/a.html"}
    store.write(lambda connection: connection.execute(sa.insert(ATTEMPTS).values(key=key, number=3, dispatch=1, state="failed", facts=facts)))
    assert note(store, jobs, key) == 3
    with store.read() as connection:
        rows = connection.execute(sa.select(NOTICES).order_by(NOTICES.c.id)).mappings().all()
    assert [row["channel"] for row in rows] == ["command", "email", "pigeon"]
    message = rows[0]["message"]
    assert message["subject"] == "prepare failed, 2013-03-01T02:30:00"
    assert message["command"] == "mltoolkit jobs run prepare --date 2013-03-01T02:30:00 --from-failure"
    assert message["text"].splitlines() == [
        "prepare failed, 2013-03-01T02:30:00", "what it is: All months", "cause: ValueError: no rows for March", "attempts: 3", "page: /w/a.html",
        f"to act: {message['command']}", f"in: {store.root}", "owner: data-team",
    ]  # fmt: skip
    assert "example.org" not in str(message), "where it goes is not in the store"


def test_what_nobody_was_told_of_is_found(store: Store, jobs: Jobs) -> None:
    now = time.time()
    end(store, "train", 1, "failed", ended=now - 100)
    assert look(store, jobs, now=now - 50) == 0, "it failed before anybody wanted to know"
    end(store, "train", 2, "failed", ended=now)
    assert look(store, jobs) == 1
    assert look(store, jobs) == 0
    assert note(store, jobs, "train@2013-03-02T02:30:00") == 0, "noted already"
    end(store, "quiet", 2, "failed")
    assert look(store, jobs) == 0
    assert told(store) == ["failure train 02"]


def test_looking_moves_on(store: Store, jobs: Jobs) -> None:
    now = time.time()
    look(store, jobs, now=now - 50_000)
    end(store, "train", 1, "failed", ended=now - 40_000)
    assert look(store, jobs, now=now) == 1, "also after a long time in which nobody looked"
    with store.read() as connection:
        since = dict(connection.execute(sa.select(WATCHED.c.job, WATCHED.c.since)).all())  # type: ignore[arg-type]
    assert set(since.values()) == {now - 3600}
    end(store, "train", 2, "succeeded", ended=now - 30_000)
    assert look(store, jobs, now=now) == 0, "the clocks of machines differ by less"


def test_many_who_look_at_once_tell_once(store: Store, jobs: Jobs) -> None:
    look(store, jobs)
    keys = [end(store, "train", day, "failed") for day in range(1, 6)]
    with ThreadPoolExecutor(8) as pool:
        made = sum(pool.map(lambda number: note(store, jobs, keys[number % 5]) if number % 2 else look(store, jobs), range(24)))
    assert made == 1
    assert incidents.incidents(store)[0]["count"] == 5
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(NOTED)).scalar() == 5


def test_an_earlier_date_that_succeeds_does_not_end_a_later_failure(store: Store, jobs: Jobs) -> None:
    note(store, jobs, end(store, "train", 7, "failed"))
    note(store, jobs, end(store, "train", 2, "failed"))
    assert note(store, jobs, end(store, "train", 3, "succeeded")) == 0
    assert note(store, jobs, end(store, "train", 7, "succeeded", attempt=2)) == 1, "the one that failed, run again"
    assert messages(store)[-1]["failures"] == 2
    note(store, jobs, end(store, "train", 8, "failed"))
    note(store, jobs, end(store, "train", 9, "failed"))
    assert note(store, jobs, end(store, "train", 8, "succeeded", attempt=2)) == 0


@pytest.mark.parametrize("state", ["cancelled", "skipped", "running", "waiting", "succeeded"])
def test_what_is_no_failure_opens_no_incident(store: Store, jobs: Jobs, state: str) -> None:
    assert note(store, jobs, end(store, "train", 1, state)) == 0
    assert look(store, jobs) == 0
    assert incidents.incidents(store) == []


@pytest.mark.parametrize(("job", "count"), [("train", 0), ("last", 1), ("deep", 0)])
def test_what_is_blocked_is_told_if_nobody_hears_of_the_cause(store: Store, jobs: Jobs, job: str, count: int) -> None:
    assert note(store, jobs, end(store, job, 1, "blocked", "quiet@2013-03-01 is failed")) == count


def test_only_the_news_asked_for_is_told(store: Store, jobs: Jobs) -> None:
    assert [note(store, jobs, end(store, "failures", day, state)) for day, state in ((1, "failed"), (2, "succeeded"), (3, "failed"))] == [1, 0, 1]
    assert note(store, jobs, "train@2013-03-01T02:30:00") == 0, "there is no such instance"
    assert note(store, jobs, "gone@2013-03-01T02:30:00") == 0, "there is no such job"
    assert look(store, Jobs(store.root, {})) == 0


def test_waiting_for_a_person_is_told_each_time(store: Store, jobs: Jobs) -> None:
    key = end(store, "ask", 1, "approval", attempt=0)
    assert look(store, jobs) == 1
    assert look(store, jobs) == 0
    assert messages(store)[0]["command"] == f"mltoolkit jobs approve {key}"
    assert messages(store)[0]["subject"] == "ask waits for approval, 2013-03-01T02:30:00"
    reject(store, key, who="reviewer")
    end(store, "ask", 1, "approval", attempt=0)  # as --from-failure leaves it
    assert look(store, jobs) == 1


def test_states_that_are_told_are_those_that_are_bad() -> None:
    assert set(incidents._FAILED) == {State.failed, State.invalid, State.kernel_died, State.timed_out, State.ended_early, State.lost, State.blocked}
