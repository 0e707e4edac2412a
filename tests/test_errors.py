"""Errors and statuses: the table of exit codes, the tree, and the trip through pickle."""

from __future__ import annotations

import copy
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

import pytest

from mltoolkit import errors
from mltoolkit.errors import Finding, MltoolkitError, NotebookFailed, Status, failure_for, nearest
from mltoolkit.record.manifest import Failure, Kernel, Run

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MltoolkitError)]
FAILURES = [kind for kind in KINDS if issubclass(kind, NotebookFailed)]
ENDED_BADLY = [status for status in Status if status not in (Status.running, Status.succeeded)]


def run_that(status: Status, exit_code: int) -> Run:
    return Run(
        run_id="a1" * 16,
        status=status,
        exit_code=exit_code,
        notebook="train.ipynb",
        kernel=Kernel(name="python3"),
        started_at=datetime(2026, 1, 2, tzinfo=UTC),
        failure=Failure(message="ValueError: 🤯", cell=3),
    )


def raise_in_worker(kind: type[MltoolkitError]) -> None:
    raise kind("from another process", place="cell 3")


def test_exit_codes_and_mlflow_statuses_are_the_published_ones() -> None:
    assert {status.value: (status.exit_code, status.mlflow) for status in Status} == {
        "running": (0, "RUNNING"),
        "succeeded": (0, "FINISHED"),
        "failed": (1, "FAILED"),
        "invalid": (2, "FAILED"),
        "kernel_died": (3, "FAILED"),
        "timed_out": (4, "FAILED"),
        "ended_early": (5, "FAILED"),
        "cancelled": (130, "KILLED"),
        "lost": (1, "KILLED"),
    }


def test_tree_has_one_root_and_everything_refused_exits_with_2() -> None:
    assert len(KINDS) > 15
    for kind in KINDS:
        expected = 2 if issubclass(kind, errors.Invalid) else getattr(kind, "status", Status.failed).exit_code
        assert kind("no").exit_code == expected, kind
        assert kind.__doc__, f"{kind.__name__} says nothing of itself"
        assert kind.__name__ in errors.__all__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_pickles_with_message_and_fields(kind: type[MltoolkitError]) -> None:
    error = kind("no column 'lätency' 🤯\nsecond line", column="lätency", rows=[1, None, float("inf")])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert (str(again), again.args) == (str(error), error.args)
        assert (again.column, again.rows, again.exit_code) == ("lätency", [1, None, float("inf")], error.exit_code)
    assert copy.copy(error).column == copy.deepcopy(error).column == "lätency"


@pytest.mark.parametrize("kind", FAILURES, ids=lambda kind: kind.__name__)
def test_failure_pickles_with_its_run(kind: type[NotebookFailed]) -> None:
    error = kind("it failed", run=run_that(kind.status, 143), cell=3)
    again = pickle.loads(pickle.dumps(error))
    assert again.run == error.run
    assert (again.run.failure.message, again.cell, again.exit_code) == ("ValueError: 🤯", 3, 143)
    bare = pickle.loads(pickle.dumps(kind("it failed")))
    assert (bare.run, bare.exit_code) == (None, kind.status.exit_code)


def test_errors_come_back_from_another_process() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for kind in KINDS:
            with pytest.raises(kind, match="from another process") as caught:
                pool.submit(raise_in_worker, kind).result()
            assert type(caught.value) is kind
            assert caught.value.place == "cell 3"  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", ENDED_BADLY)
def test_each_status_has_its_error(status: Status) -> None:
    code = 143 if status is Status.cancelled else status.exit_code
    with pytest.raises(failure_for(status)) as caught:
        run_that(status, code).raise_for_status()
    assert caught.value.run.status is status
    assert caught.value.exit_code == code
    assert str(caught.value) == f"train.ipynb {status.value}: ValueError: 🤯"
    special = {Status.kernel_died: errors.KernelDied, Status.timed_out: errors.TimedOut, Status.ended_early: errors.EndedEarly}
    assert failure_for(status) is {**special, Status.cancelled: errors.Cancelled}.get(status, NotebookFailed)


def test_a_run_that_went_well_raises_nothing() -> None:
    for status in (Status.succeeded, Status.running):
        run = run_that(status, 0)
        assert run.raise_for_status() is run


def test_finding_says_where_and_how_to_mend() -> None:
    full = Finding("MLT201", "no tag", path="a.ipynb", cell=0, line=3, fix="tag it")
    assert str(full) == "a.ipynb:0:3: MLT201 no tag (tag it)"
    assert str(Finding("MLT201", "no tag")) == "MLT201 no tag"
    assert pickle.loads(pickle.dumps(full)) == full
    with pytest.raises(AttributeError):
        full.cell = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("sead", ["speed", "seed"], "did you mean 'seed'?"),
        ("rows", ["seed", "depth"], "known: depth, seed"),
        ("rows", [], "none is known"),
        ("", ["seed"], "known: seed"),
        ("seed", (each for each in ["seed", "speed"]), "did you mean 'seed'?"),
    ],
)
def test_nearest(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected
