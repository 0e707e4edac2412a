"""How much a worker takes from the queue at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbos import SetWorkflowID
from processes import wait_for

from mltoolkit.scheduling.engine import DBOS, QUEUE, Listener, launch
from mltoolkit.scheduling.store import Store, open_store

begun: list[str] = []
over = {name: threading.Event() for name in "abc"}


@DBOS.workflow(name="test.listening")
def _work(name: str) -> None:
    begun.append(name)
    over[name].wait(30)


@pytest.fixture
def store(bare_workspace: Path) -> Iterator[Store]:
    opened = open_store(bare_workspace)
    yield opened
    opened.close()


def test_the_end_of_one_is_not_waited_for_once_it_needs_no_slot(store: Store) -> None:
    leaving: set[str] = set()
    started = launch(store, "w:1")
    listener = None
    try:
        DBOS.register_queue(QUEUE, worker_concurrency=3)  # what another worker may have left
        for name in "abc":
            with SetWorkflowID(name):
                DBOS.enqueue_workflow(QUEUE, _work, name)
        listener = Listener(started, 1, leaving)
        listener.bell.ring()
        wait_for(lambda: begun == ["a"], "the first to begin")
        listener.bell.ring()
        wait_for(lambda: not listener.bell._looks, "its looks to be over")  # it has looked some times
        assert begun == ["a"], "it has one slot"
        leaving.add("a")
        listener.bell.ring()
        wait_for(lambda: begun == ["a", "b"], "the second to begin")
        over["a"].set()
        wait_for(lambda: "a" not in started._active_workflows_set.activeList(), "the end of the first")
        listener.bell.ring()
        wait_for(lambda: not leaving, "what has left to be forgotten")
        wait_for(lambda: not listener.bell._looks, "its looks to be over")
        assert begun == ["a", "b"], "what has left makes room once"
        over["b"].set()
        wait_for(lambda: "b" not in started._active_workflows_set.activeList(), "the end of the second")
        listener.bell.ring()
        wait_for(lambda: begun == ["a", "b", "c"], "the third to begin")
    finally:
        for each in over.values():
            each.set()
        if listener:
            listener.close()
        DBOS.destroy()
