"""Those who close a worker's runners at the same time do not get into each other's way."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mltoolkit.scheduling.runners import Runners


def ended(gone: Callable[[], None]) -> Any:
    return SimpleNamespace(process=SimpleNamespace(poll=lambda: 0), close=lambda: None, gone=gone)


def test_each_runner_is_taken_leave_of_once() -> None:
    runners, left = Runners(), list[str]()

    def gone(name: str) -> Callable[[], None]:
        def leaving() -> None:
            left.append(name)
            runners.close()  # as another thread would

        return leaving

    runners._ending = [ended(gone(name)) for name in "abc"]
    runners.close(wait=False)
    assert sorted(left) == ["a", "b", "c"]
    assert runners._ending == []


def test_who_has_not_ended_is_waited_for_only_if_asked() -> None:
    runners, left = Runners(), list[str]()
    running = SimpleNamespace(process=SimpleNamespace(poll=lambda: None), close=lambda: None, gone=lambda: left.append("b"))
    runners._idle = [(0.0, ended(lambda: left.append("a"))), (0.0, running)]  # type: ignore[list-item]
    runners.close(wait=False)
    assert left == ["a"]
    runners.close()
    assert left == ["a", "b"]


def test_one_that_was_started_beforehand_is_used_and_answers_what_it_is_asked() -> None:
    runners = Runners()
    try:
        runners.prepare(1)
        ((_, prepared),) = runners._idle
        assert [runners.call("a sum", math.fsum, [1, 2]), runners.call("who", os.getpid)] == [3.0, prepared.process.pid]
        assert [each for _, each in runners._idle] == [prepared]
        prepared.prepare(math.sqrt, -1)
        assert runners.call("a sum", math.fsum, [2, 3]) == 5.0, "what it raised before is nobody's concern"
        prepared.process.kill()
        prepared.process.wait()
        prepared.prepare(os.getpid)
        assert runners.call("who", os.getpid) != prepared.process.pid
    finally:
        runners.close()
