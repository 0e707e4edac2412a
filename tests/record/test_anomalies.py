"""What is wrong in a series of values is said once, when it begins, and nothing is said of what is not."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import keep

from mltoolkit.errors import Status
from mltoolkit.record import environment, runs
from mltoolkit.record.anomalies import (
    MOST_IN_TAG,
    RECORDS,
    Anomaly,
    Limits,
    Series,
    as_json,
    direction,
    median,
    note,
    noted,
    spread,
    tag_of,
)


def kinds(series: Series, values: list[float]) -> dict[int, str]:
    """What was found, by the index of the value."""
    return {index: anomaly.what for index, value in enumerate(values) for anomaly in series.look(value, index)}


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("loss", "lower"), ("train/loss", "lower"), ("valLoss", "lower"), ("validation_0-logloss", "lower"), ("valid_0-l2", "lower"), ("RMSE", "lower"),
        ("accuracy", "higher"), ("val_AUC", "higher"), ("test-map@5", "higher"), ("r2_score", "higher"), ("log_likelihood", "higher"),
        ("neg_mean_squared_error", "higher"), ("neg_root_mean_squared_error", "higher"), ("negative_log_likelihood", "lower"), ("brier_score", "lower"),
        ("grad_norm", "size"), ("learning_rate", None), ("lossless_frames", None), ("epoch", None), ("", None),
    ],
)  # fmt: skip
def test_names_tell_which_way_is_better(name: str, way: str | None) -> None:
    assert direction(name) == way


def test_what_the_caller_says_wins_over_the_name() -> None:
    assert direction("loss", higher=["loss"]) == "higher"
    assert direction("energy/kinetic", lower=["energy/*"]) == "lower"
    assert direction("energy", lower=["Energy"]) is None


def test_not_a_number_and_infinite_are_said_once_until_they_are_over() -> None:
    series = Series("loss", "lower")
    values = [0.5, math.nan, math.nan, 0.5, math.nan, math.inf, -math.inf, 0.4, -math.inf]
    assert kinds(series, values) == {1: "nan", 4: "nan", 5: "infinite", 8: "infinite"}
    [first] = Series("loss", None).look(math.nan, 3)
    assert first == Anomaly("nan", "loss", 3, first.value, "loss is NaN at step 3")
    assert math.isnan(first.value)
    series = Series("loss", "lower")
    series.look(0.41234567)
    assert str(series.look(-math.inf)[0]) == "loss is -inf (before: 0.412346)"


@pytest.mark.parametrize("length", [400])
@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_explosion(seed: int, length: int) -> None:
    draw = random.Random(seed)
    falling = [2.3 * math.exp(-step / 80) + abs(draw.gauss(0.05, 0.05)) for step in range(length)]
    assert kinds(Series("loss", "lower"), falling) == {}
    assert kinds(Series("accuracy", "higher"), [1 - min(1, value) for value in falling]) == {}
    assert kinds(Series("loss", "lower"), [draw.lognormvariate(0, 0.6) for _ in range(length)]) == {}, "a loss of small batches"
    assert kinds(Series("elbo", "higher"), [-1000 + draw.gauss(0, 30) for _ in range(length)]) == {}
    assert kinds(Series("loss", "lower"), [0.0] * length) == {}


def test_an_explosion_is_said_when_it_begins_and_again_after_a_recovery() -> None:
    calm = [1.0 + 0.01 * (step % 5) for step in range(60)]
    assert kinds(Series("loss", "lower"), [*calm, 2.9]) == {}, "less than three times the usual"
    assert kinds(Series("loss", "lower"), [*calm, 3.1, 9.0, 1e6, 1.0, 1e7]) == {60: "explosion", 64: "explosion"}
    assert kinds(Series("grad_norm", "size"), [*calm, 1e9]) == {60: "explosion"}
    assert kinds(Series("r2", "higher"), [*(0.9 + 0.001 * (step % 3) for step in range(30)), 1e9, -40.0]) == {31: "explosion"}, "only worse is an explosion"
    assert kinds(Series("loss", "lower", Limits(explosion=None)), [*calm, 1e9]) == {}
    assert kinds(Series("anything", None), [*calm, 1e9]) == {}
    assert kinds(Series("loss", "lower"), [*calm[:7], 1e9]) == {}, "too few to tell"
    assert kinds(Series("loss", "lower"), [10.0**power for power in range(12)]) == {8: "explosion"}
    level = kinds(Series("loss", "lower"), [*calm, *([50.0] * 200), 1e6])
    assert level == {60: "explosion", 260: "explosion"}, "what stays becomes usual"


def test_a_stall_is_no_improvement_by_more_than_the_least_one() -> None:
    assert kinds(Series("loss", "lower", Limits(patience=3)), [1.0, 0.9, 0.9, 0.91, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8]) == {4: "stall", 9: "stall"}
    assert kinds(Series("auc", "higher", Limits(patience=2, min_delta=0.1)), [0.5, 0.55, 0.6, 0.7]) == {2: "stall"}
    assert kinds(Series("loss", "lower", Limits(patience=2)), [1.0, math.nan, math.nan, math.nan, 0.9]) == {1: "nan"}, "which is said as such"
    assert kinds(Series("grad_norm", "size", Limits(patience=2)), [1.0] * 9) == {}
    assert kinds(Series("loss", "lower"), [1.0] * 99) == {}
    series = Series("loss", "lower", Limits(patience=2))
    [stalled] = [anomaly for step, value in enumerate([1.0, 0.5, 0.5, 0.6], 10) for anomaly in series.look(value, step)]
    assert stalled.text == "loss has not improved over 2 values at step 13 (best: 0.5 at step 11)"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=120))
def test_the_window_is_the_last_values_in_order(values: list[float]) -> None:
    series = Series("loss", "lower", Limits(window=20))
    for value in values:
        series.look(value)
    assert list(series.recent) == values[-20:]
    assert series.ordered == sorted(values[-20:])


def test_median_and_spread_are_those_of_the_textbook() -> None:
    import numpy as np

    draws = sorted(np.random.default_rng(0).normal(5, 2, 1001))
    assert median(draws) == np.median(draws)
    assert median([1.0, 4.0]) == 2.5
    assert median([-1.7e308, 1.7e308]) == 0
    assert spread(draws, median(draws)) == pytest.approx(2, rel=0.1)


def test_what_was_noted_is_read_back_and_a_broken_line_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(Anomaly("nan", "loss", 1, math.nan, "loss is NaN"))  # no run: nothing to note it in
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(tmp_path / "gone"))
    note(Anomaly("nan", "loss", 1, math.nan, "loss is NaN"))
    assert noted(tmp_path / "gone") == []
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(tmp_path))
    values = [math.nan, math.inf, -math.inf, 1.5, None]
    for step, value in enumerate(values):
        note(Anomaly("explosion", "löss", step, value, "löss", "4f"))
    with (tmp_path / RECORDS).open("ab") as file:
        file.write(b'[]\n{"text": 3}\n\xff\n\n{"what": "nan", "text": "cut')
    assert [entry["value"] for entry in noted(tmp_path)] == ["NaN", "Infinity", "-Infinity", 1.5, None]
    assert noted(tmp_path)[0] == {"what": "explosion", "metric": "löss", "step": 0, "value": "NaN", "text": "löss", "run_id": "4f"}


def test_a_tag_says_the_first_and_stays_small() -> None:
    many = [as_json(Anomaly("nan", f"metric_{number}", number, math.nan, "x" * 500)) for number in range(1000)]
    told = json.loads(tag_of(many))
    assert told[0] == {"what": "nan", "metric": "metric_0", "step": 0, "value": "NaN"}
    assert len(told) == MOST_IN_TAG
    assert len(tag_of(many)) < 5000


def test_what_a_lost_run_had_noticed_is_on_its_record(workspace: Path) -> None:
    folder = keep(workspace, "4f" * 16, Status.running, host=environment.host(), pid=1, pid_start="long ago")
    (folder / RECORDS).write_text('{"what": "nan", "metric": "loss", "step": 3, "value": "NaN", "text": "loss is NaN at step 3", "run_id": null}\n{"what')
    assert runs.repair() == ["4f" * 16]
    lost = runs.load(folder)
    assert lost is not None
    assert (lost.status, [each.text for each in lost.anomalies]) == (Status.lost, ["loss is NaN at step 3"])
    assert not (folder / RECORDS).exists()
