"""Worker processes: they answer, die one at a time, and never stay behind."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from concurrent.futures import BrokenExecutor

import pytest
from processes import Marked, wait_for

from mltoolkit.execution.workers import Workers


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_a_death_costs_its_own_call_only(mark: Marked) -> None:
    workers = Workers(2)
    killed, kept = workers.submit(eval, "__import__('os').kill(__import__('os').getpid(), 9)"), workers.submit(time.sleep, 0.5)
    with pytest.raises(BrokenExecutor, match="signal 9"):
        killed.result()
    assert kept.result() is None
    first = {workers.submit(os.getpid).result() for _ in range(4)}
    assert len(first) <= 2
    assert os.getpid() not in first
    workers.shutdown()
    mark.all_gone()
    with pytest.raises(RuntimeError):
        workers.submit(os.getpid)


def test_errors_and_prints_do_not_come_between_the_answers(capfd: pytest.CaptureFixture[str], mark: Marked) -> None:
    workers = Workers(1)
    assert workers.submit(print, "to nobody").result() is None
    assert workers.submit(eval, "__import__('sys').stdin.read()").result() == ""
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result()
    with pytest.raises(TypeError, match="positional"):
        workers.submit(divmod, x=1)
    with pytest.raises(ModuleNotFoundError):  # a function that is not to be found there
        workers.submit(slow, 1.0).result()
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):  # a result that cannot travel
        workers.submit(eval, "lambda: 1").result()
    with pytest.raises(RuntimeError, match="odd"):  # and an error that cannot
        workers.submit(exec, "e = ValueError('odd'); e.x = lambda: 1; raise e").result()
    assert workers.submit(divmod, 9, 2).result() == (4, 1)
    workers.shutdown()


def test_a_process_that_died_while_idle_is_replaced(mark: Marked) -> None:
    workers = Workers(1)
    pid = workers.submit(os.getpid).result()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(BrokenExecutor):
        workers.submit(os.getpid).result()
    assert workers.submit(os.getpid).result() != pid
    workers.shutdown()
    mark.all_gone()


def test_workers_end_with_the_process_that_started_them(mark: Marked) -> None:
    program = "from mltoolkit.execution.workers import Workers; import os; w = Workers(1); print(w.submit(os.getpid).result(), flush=True); input()"
    parent = mark.start(sys.executable, "-c", program, stdin=-1)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    wait_for(lambda: worker in mark.alive(), "the worker to be seen")
    parent.kill()
    parent.communicate()
    mark.all_gone()
