"""Asking and telling an optimizer."""

from __future__ import annotations

import sys

import pytest

from mltoolkit.errors import Invalid, MissingExtra, Status
from mltoolkit.execution.optimize import Optimizer, extremes
from mltoolkit.execution.points import Range, space
from mltoolkit.execution.results import Point


def test_choices_keep_their_types_and_ranges_their_steps() -> None:
    optimizer = Optimizer(space({"a": [[1], [2, 3]], "b": "0..10 step 5", "c": "0..1 step 0.25", "d": "1..1000 log", "e": ["x", None]}), "loss", "max", 1)
    for index in range(20):
        asked = optimizer.ask(index)
        assert asked["a"] in ([1], [2, 3])
        assert asked["b"] in (0, 5, 10)
        assert asked["c"] in (0, 0.25, 0.5, 0.75, 1)
        assert isinstance(asked["d"], int)
        assert asked["e"] in ("x", None)
        optimizer.tell(Point(index, asked, Status.succeeded, metrics={"loss": 1.0}))


def test_what_ran_before_is_recalled_and_what_was_broken_off_is_asked_again() -> None:
    ranges = space({"x": "0..9", "kind": [["a"], ["b"]]})
    optimizer = Optimizer(ranges, "loss", "min", 0)
    optimizer.recall(Point(0, {"x": 3, "kind": ["b"]}, Status.succeeded, metrics={"loss": 0.25}))
    optimizer.recall(Point(1, {"x": 4, "kind": ["a"]}, Status.failed))
    optimizer.recall(Point(2, {"x": 5, "kind": ["b"]}))
    assert optimizer.study.best_value == 0.25
    assert optimizer.trials[2].params == {"x": 5, "kind": 1}
    optimizer.tell(Point(2, {"x": 5, "kind": ["b"]}, Status.succeeded, metrics={"loss": 0.125}))
    assert optimizer.study.best_value == 0.125


def test_points_that_are_over_are_what_later_ones_are_compared_with() -> None:
    """Told or recalled: the values they logged on their way count, though nobody looked while they ran."""
    optimizer = Optimizer({"x": Range(0.0, 9.0)}, "loss", "min", 0)
    for index in range(5):
        point = Point(index, {"x": float(index)}, Status.succeeded, metrics={"loss": 0.5})
        optimizer.recall(point, [(0, 1.0), (1, 0.5)])
    optimizer.recall(Point(5, {"x": 5.0}, Status.cancelled, pruned=True), [(0, 8.0)])
    assert [trial.state.name for trial in optimizer.study.trials] == [*["COMPLETE"] * 5, "PRUNED"]
    assert optimizer.study.trials[5].intermediate_values == {0: 8.0}
    assert [trial.params["x"] for trial in optimizer.study.trials] == [0, 1, 2, 3, 4, 5]
    optimizer.ask(6)
    assert optimizer.gives_up(6, [(0, 9.0)])
    optimizer.ask(7)
    assert not optimizer.gives_up(7, [(0, 0.9)])


def test_failed_and_pruned_points_are_told_apart() -> None:
    optimizer = Optimizer({"x": Range(0.0, 1.0)}, "loss", "min")
    for index, point in enumerate((Point(0, {}, Status.failed), Point(1, {}, Status.cancelled, pruned=True), Point(2, {}, Status.succeeded))):
        optimizer.ask(index)
        optimizer.tell(point)
    assert [trial.state.name for trial in optimizer.study.trials] == ["FAIL", "PRUNED", "FAIL"]


def test_a_step_is_reported_once_and_what_is_no_number_never() -> None:
    optimizer = Optimizer({"x": Range(0.0, 1.0)}, "loss", "min")
    optimizer.ask(0)
    assert not optimizer.gives_up(0, [])
    assert not optimizer.gives_up(0, [(0, 1.0), (1, float("nan"))])
    assert not optimizer.gives_up(0, [(0, 2.0), (1, 3.0)])
    assert optimizer.trials[0].study.trials[0].intermediate_values == {0: 1.0, 1: 3.0}


def test_extremes_have_every_end_and_choice() -> None:
    assert extremes(space({"a": "1..5", "b": ["x", "y", "z"]})) == [{"a": 1, "b": "x"}, {"a": 5, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1, "b": "z"}]


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="'min' or 'max'"):
        Optimizer({}, "loss", "minimal")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"mltoolkit\[tune\]"):
        Optimizer({}, "loss", "min")
