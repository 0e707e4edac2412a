"""Who may have which name, whose work is taken up, and what the engine forgets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa

from mltoolkit.errors import Invalid
from mltoolkit.record.environment import host, is_gone, machine, process_start, shares_processes
from mltoolkit.scheduling import workflow
from mltoolkit.scheduling.engine import DBOS, QUEUE, engine, forget_finished
from mltoolkit.scheduling.jobs import Jobs
from mltoolkit.scheduling.store import INSTANCES, WORKERS, Store, open_store, workers

CONTAINER = machine().partition(".")[0] + ".1:4711"  # a process of this boot, in a container
BEFORE = "00000000.1:4711"  # a process before the last boot


@pytest.fixture
def store(bare_workspace: Path) -> Iterator[Store]:
    opened = open_store(bare_workspace)
    yield opened
    opened.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute without a sign of life is over in a second."""
    monkeypatch.setattr(workflow, "BEAT", 0.2)
    monkeypatch.setattr(workflow, "SILENCE", 1.0)


def put(store: Store, name: str, **more: Any) -> str:
    now = time.time()
    row = {"id": f"{name}:old", "name": name, "host": host(), "pid": 1, "pid_start": CONTAINER, "root": "/", "slots": 1, "serves": False, "started": now, "beat": now}
    store.write(lambda connection: connection.execute(store.insert(WORKERS).values(**{**row, **more})))
    return str({**row, **more}["id"])


def register(store: Store, name: str | None = None, leave: bool = False) -> workflow.Worker:
    worker = workflow.Worker(store, lambda: Jobs(store.root, {}), name=name)
    workflow._register(worker, lambda: leave)
    return worker


def beating(store: Store, who: str, seconds: float) -> Thread:
    def beat() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.1)
            store.write(lambda connection: connection.execute(sa.update(WORKERS).where(WORKERS.c.id == who).values(beat=time.time())))

    thread = Thread(target=beat)
    thread.start()
    return thread


def test_a_process_of_another_container_is_not_dead_because_it_cannot_be_seen(store: Store) -> None:
    assert [shares_processes(host(), each) for each in (process_start(os.getpid()), CONTAINER, BEFORE, None)] == [True, False, False, False]
    assert [is_gone(host(), 1, each) for each in (CONTAINER, BEFORE)] == [False, True]
    assert is_gone("another", 1, BEFORE) is False
    put(store, "one")
    put(store, "two", beat=0.0)
    put(store, "three", pid_start=machine() + ":1")
    assert {row["name"]: row["alive"] for row in workers(store)} == {"one": True, "two": None, "three": False}


def test_the_second_one_without_a_name_gets_a_number(store: Store) -> None:
    assert [register(store).name for _ in range(3)] == [host(), f"{host()}-2", f"{host()}-3"]


def test_a_given_name_is_not_given_twice(store: Store) -> None:
    register(store, "one")
    with pytest.raises(Invalid, match=f"a worker called 'one' is alive on {host()}; give this one another --name"):
        register(store, "one")


def test_one_that_beats_elsewhere_keeps_its_name(store: Store, soon: None) -> None:
    thread = beating(store, put(store, host(), beat=0.0), 3.0)  # its clock is decades behind
    assert register(store).name == f"{host()}-2"
    thread.join()


def test_one_that_is_silent_elsewhere_has_a_successor(store: Store, soon: None) -> None:
    old = put(store, "one", host="another")
    said: list[str] = []
    worker = workflow.Worker(store, lambda: Jobs(store.root, {}), name="one", tell=said.append)
    workflow._register(worker, lambda: False)
    assert (worker.name, worker.predecessors) == ("one", {old})
    assert said == ["waits to see whether a worker called one on another still lives"]


def test_a_stop_while_waiting_for_a_name_is_heard(store: Store) -> None:
    put(store, "one")
    assert register(store, "one", leave=True).name == "one"


def test_who_comes_in_at_the_same_time_is_seen(store: Store) -> None:
    worker = workflow.Worker(store, lambda: Jobs(store.root, {}), name="one")
    put(store, "one")
    assert not workflow._entered(worker, set())
    assert workflow._entered(worker, {"one:old"})


def statuses() -> dict[str, str]:
    return {each.workflow_id: each.status for each in DBOS.list_workflows()}


def test_the_engine_forgets_what_is_over(store: Store) -> None:
    put(store, "old", ended=1.0)
    put(store, "new", ended=time.time())
    with engine(store):
        DBOS.register_queue(QUEUE)
        for number in range(4):
            workflow._enqueue("a@2013-01-01", number)
        for number in range(3):
            DBOS.cancel_workflow(workflow.workflow_id("a@2013-01-01", number))
        assert forget_finished([]) == 0, "not within the hour"
        assert forget_finished(["a@2013-01-01#0"], kept=-1) == 2
        assert statuses() == {"a@2013-01-01#0": "CANCELLED", "a@2013-01-01#3": "ENQUEUED"}
        workflow._tidy(store)
    with store.read() as connection:
        assert connection.execute(sa.select(WORKERS.c.name)).scalars().all() == ["new"]


def test_what_the_engine_has_given_up_goes_on(store: Store) -> None:
    row = {"job": "a", "logical": "2013-01-01", "origin": "run", "lane": "a", "due": 0.0, "created": 0.0, "state": "queued", "dispatch": 1}
    with engine(store):
        DBOS.register_queue(QUEUE)
        for key in ("a@1", "a@2"):
            store.write(lambda connection, key=key: connection.execute(sa.insert(INSTANCES).values(**row, key=key)))
        workflow._enqueue("a@1", 1)
        DBOS.cancel_workflow("a@1#1")
        workflow._reconcile(store)
        assert statuses() == {"a@1#1": "CANCELLED", "a@2#1": "ENQUEUED"}, "what did not get there is there now"
    with store.read() as connection:
        assert dict(connection.execute(sa.select(INSTANCES.c.key, INSTANCES.c.state)).all()) == {"a@1": "waiting", "a@2": "queued"}


def test_what_the_engine_starts_twice_is_in_hand_once(store: Store) -> None:
    worker = workflow.Worker(store, lambda: Jobs(store.root, {}))
    seen: list[str] = []

    def be_at(name: str) -> None:
        with worker.in_hand("a@1#1"):
            seen.append(f"{name} begins")
            time.sleep(0.2)
            seen.append(f"{name} ends")

    threads = [Thread(target=be_at, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    with worker.in_hand("a@1#2"):
        assert "a@1#2" in worker.at, "another one does not wait"
    for thread in threads:
        thread.join()
    assert [each.partition(" ")[2] for each in seen] == ["begins", "ends"] * 2
    assert worker.at == set()
