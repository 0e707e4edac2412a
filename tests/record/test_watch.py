"""A watch sees what a loop logs by whatever way, marks the run while it goes on, and stops the loop where it was told to."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

import mltoolkit
from mltoolkit.errors import Invalid, MltoolkitError, TrainingStopped
from mltoolkit.record import tracking
from mltoolkit.record.anomalies import RECORDS, Anomaly
from mltoolkit.record.watch import Watch, watch


@pytest.fixture
def store(workspace: Path) -> Iterator[MlflowClient]:
    """The workspace's tracking store, which plain MLflow logs to."""
    client = tracking.client(workspace)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        yield client
    finally:
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(before)


def marks(store: MlflowClient, run_id: str) -> list[dict[str, Any]]:
    """What a run is marked with."""
    found: list[dict[str, Any]] = json.loads(store.get_run(run_id).data.tags.get("mltoolkit.watch", "[]"))
    return found


# --- what may be asked


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"stop": "nam"}, r"watch\(stop='nam'\): 'nam' is nothing that is looked for; did you mean 'nan'\?"),
        ({"stop": ["nan", 3]}, "3 is nothing"),
        ({"stop": "stall"}, "give patience= as well"),
        ({"stop": "silence"}, "give silence= as well"),
        ({"stop": "explosion", "explosion": None}, "give explosion= as well"),
        ({"patience": 0}, "a whole number from 1"),
        ({"patience": 2.5}, "a whole number from 1"),
        ({"patience": True}, "a whole number from 1"),
        ({"min_delta": -1}, "a number from 0"),
        ({"min_delta": "0.1"}, "a number from 0"),
        ({"min_delta": None}, "a number from 0"),
        ({"explosion": math.nan}, "a number from 1"),
        ({"explosion": 0.5}, "a number from 1"),
        ({"silence": 0}, "a number above 0"),
        ({"silence": math.inf}, "a number above 0"),
        ({"lower": [""]}, r"watch\(lower\): '' is no name"),
        ({"higher": [3]}, r"watch\(higher\): 3 is no name"),
        ({"lower": 3}, r"watch\(lower=3\): a text, or several"),
        ({"stop": 3}, r"watch\(stop=3\): a text, or several"),
    ],
)
def test_a_slip_is_refused_before_the_loop_begins(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        watch(**asked)
    assert caught.value.exit_code == 2


def test_it_is_offered_by_the_package_and_its_error_is_one_of_ours() -> None:
    assert mltoolkit.watch is watch
    assert mltoolkit.TrainingStopped is TrainingStopped
    assert issubclass(TrainingStopped, MltoolkitError)
    with pytest.raises(Invalid, match=r"metrics.*3 is no name"):
        watch(3)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="looks at values by name"):
        watch().observe(0.5)  # type: ignore[arg-type]


# --- what is seen


def test_all_ways_of_logging_are_seen_while_it_is_open_and_none_after(store: MlflowClient) -> None:
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        mlflow.log_metric("before", math.nan)
        with watch() as watching:
            mlflow.log_metric("one", math.nan, step=1)
            mlflow.log_metrics({"two": math.nan, "fine": 1.0}, step=2)
            MlflowClient().log_metric(run_id, "three", math.nan, step=3)
            MlflowClient().log_batch(run_id, [Metric("four", math.nan, 0, 4), Metric("five", math.nan, 0, 5)])
            mlflow.log_metric("six", math.nan, step=6, synchronous=False).wait()
            watching.log({"seven": math.nan}, step=7)
            watching.observe({"eight": math.nan}, step=8)
            mlflow.log_metric("system/cpu", math.nan, step=9)
            mlflow.log_param("not_a_metric", "nan")
        mlflow.log_metric("after", math.nan)
    names = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    assert [(each.metric, each.step) for each in watching.anomalies] == [(name, at) for at, name in enumerate(names, 1)]
    assert {each.run_id for each in watching.anomalies} == {run_id}
    assert [each["metric"] for each in marks(store, run_id)] == names
    assert watching.stopped is None
    assert {"one", "six", "seven", "before"} <= set(store.get_run(run_id).data.metrics), "the value itself is on record"
    assert "eight" not in store.get_run(run_id).data.metrics


@pytest.mark.parametrize("order", ["callback first", "logged first", "logged at the end"])
def test_a_value_that_a_callback_has_and_autologging_logs_is_one(store: MlflowClient, order: str) -> None:
    losses = [1.0, 0.5, 0.7, 0.7, 0.7, 0.6, 0.4]
    late: list[Metric] = []
    with mlflow.start_run() as run, watch(patience=5) as watching:
        for epoch, loss in enumerate(losses):
            if order == "logged first":
                mlflow.log_metric("loss", loss, step=epoch)
            watching.look({"loss": loss}, epoch)
            if order == "callback first":
                mlflow.log_metrics({"loss": loss}, step=epoch)
            late.append(Metric("loss", loss, 0, epoch))
        if order == "logged at the end":
            store.log_batch(run.info.run_id, late)
        assert watching.anomalies == [], "no more than four in a row were no better"
        watching.look({"loss": 0.5}, 7)
        for _ in range(4):
            watching.look({"loss": 0.5}, 7)  # several of one step are several
    assert [each.what for each in watching.anomalies] == ["stall"]


def test_several_values_of_one_name_and_step_are_all_seen(store: MlflowClient) -> None:
    with mlflow.start_run() as run, watch(patience=3) as watching:
        store.log_batch(run.info.run_id, [Metric("loss", value, at, 0) for at, value in enumerate((math.nan, 1.0))])
        store.log_batch(run.info.run_id, [Metric("loss", 2.0, at, 0) for at in range(2, 5)])
    assert [each.what for each in watching.anomalies] == ["nan", "stall"]


def test_values_of_any_kind_are_read_and_what_is_none_is_left_alone() -> None:
    class Tensor:
        def __float__(self) -> float:
            return math.nan

    watching = watch()
    watching.observe({
        "float32": np.float32("nan"), "array": np.array([math.nan]), "tensor": Tensor(), "huge": 10**400, "small": -(10**400), "text": "nan",
        "words": "fine", "none": None, "many": np.ones(3), "list": [1], "complex": 1j, "flag": True, "whole": 3,
    })  # fmt: skip
    assert [(each.metric, each.what) for each in watching.anomalies] == [
        ("float32", "nan"), ("array", "nan"), ("tensor", "nan"), ("huge", "infinite"), ("small", "infinite"), ("text", "nan"),
    ]  # fmt: skip


def test_only_the_metrics_that_are_named_and_each_run_for_itself(store: MlflowClient) -> None:
    with watch("val/*", "loss", patience=3, higher="energy") as watching, mlflow.start_run() as parent:
        for fold in range(2):
            with mlflow.start_run(nested=True):
                for step in range(3):
                    mlflow.log_metrics({"loss": 1.0 - step / 10 + fold, "train/loss": math.nan}, step=step)
        mlflow.log_metrics({"val/auc": math.nan})
    assert [(each.metric, each.run_id) for each in watching.anomalies] == [("val/auc", parent.info.run_id)]


def test_two_watches_see_the_same_and_one_may_stop_and_marks_add_up(store: MlflowClient) -> None:
    with mlflow.start_run() as run, watch() as outer:
        with pytest.raises(TrainingStopped), watch("loss", stop="nan") as inner:
            mlflow.log_metric("loss", math.nan, step=3)
        with watch("auc") as later:
            mlflow.log_metric("auc", math.inf, step=4)
    assert [len(each.anomalies) for each in (outer, inner, later)] == [2, 1, 1]
    assert {each["metric"] for each in marks(store, run.info.run_id)} == {"loss", "auc"}
    with outer, pytest.raises(Invalid, match="open already"):
        outer.__enter__()


def test_a_metric_that_never_came_and_one_whose_direction_nobody_knows_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    with watch("los", "val_*", "energy", "loss", patience=2) as watching:
        for step in range(9):
            watching.observe({"loss": 1 / (step + 1), "accuracy": 0.5, "energy": 1.0}, step)
    assert watching.anomalies == []
    assert capsys.readouterr().err.splitlines() == [
        "mltoolkit.watch: nothing tells whether energy is better lower or higher, so only NaN and infinite values are looked for; lower= or higher= says it",
        "mltoolkit.watch: no value of los came; did you mean 'loss'?",
        "mltoolkit.watch: no value of val_* came; known: accuracy, energy, loss",
    ]
    with pytest.raises(ZeroDivisionError), watch("los"):
        raise ZeroDivisionError
    with watch("energy", lower="energy", stop="stall", patience=2) as watching, pytest.raises(TrainingStopped):  # noqa: PT012
        for _ in range(9):
            watching.observe({"energy": 1.0})
    assert "nothing tells" not in capsys.readouterr().err


# --- what is done


def test_it_is_said_in_one_line_told_and_marked_while_the_loop_goes_on(store: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Anomaly] = []
    with mlflow.start_run() as run, watch(tell=told.append):
        mlflow.log_metric("loss", 0.25, step=36)
        mlflow.log_metric("loss", math.nan, step=37)
        assert capsys.readouterr().err == "mltoolkit.watch: loss is NaN at step 37 (before: 0.25)\n"
        assert marks(store, run.info.run_id) == [{"what": "nan", "metric": "loss", "step": 37, "value": "NaN"}]
        assert [each.what for each in told] == ["nan"]
        mlflow.log_metric("loss", math.nan, step=38)
        assert capsys.readouterr().err == ""
    assert len(told) == 1


def test_the_loop_is_stopped_after_the_value_is_logged(store: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    steps = []
    with mlflow.start_run() as run, pytest.raises(TrainingStopped, match="loss is NaN at step 3") as caught, watch(stop=["nan"]) as watching:  # noqa: PT012
        mlflow.log_metric("lr", math.inf, step=0)
        for step in range(10):
            steps.append(step)
            mlflow.log_metrics({"loss": math.nan if step == 3 else 0.5}, step=step)
    assert steps == [0, 1, 2, 3]
    error = caught.value
    assert (error.what, error.metric, error.step, error.exit_code) == ("nan", "loss", 3, 1)  # type: ignore[attr-defined]
    assert watching.stopped is not None
    assert watching.stopped.what == "nan"
    assert "(stopping)" in capsys.readouterr().err
    assert [point.step for point in store.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2, 3]
    assert store.get_run(run.info.run_id).data.metrics["loss"] != store.get_run(run.info.run_id).data.metrics["loss"]


def test_log_without_an_open_with_logs_looks_and_stops(store: MlflowClient) -> None:
    with mlflow.start_run() as run, pytest.raises(TrainingStopped):
        watch(stop=True).log({"loss": math.inf}, step=2)
    assert "loss" in store.get_run(run.info.run_id).data.metrics


def test_what_another_thread_logs_is_raised_where_the_loop_is(store: MlflowClient) -> None:
    with mlflow.start_run() as run:
        client, died = MlflowClient(), []

        def log() -> None:
            try:
                client.log_metric(run.info.run_id, "loss", math.nan)
            except BaseException as error:  # noqa: BLE001
                died.append(error)

        def in_a_thread() -> None:
            thread = threading.Thread(target=log)
            thread.start()
            thread.join()

        with pytest.raises(TrainingStopped), watch(stop=True):  # noqa: PT012
            in_a_thread()
            mlflow.log_metric("fine", 1.0)
            pytest.fail("the next value was to raise")
        with pytest.raises(TrainingStopped), watch(stop=True):
            in_a_thread()  # and nothing is logged any more
        with pytest.raises(ZeroDivisionError), watch(stop=True):  # noqa: PT012
            in_a_thread()
            raise ZeroDivisionError  # is not hidden
    assert died == []


def test_a_store_that_does_not_answer_breaks_nothing(
    store: MlflowClient, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any) -> None:
        raise MlflowException("no\nanswer")

    monkeypatch.setattr(MlflowClient, "set_tag", refuse)
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", str(workspace))
    with mlflow.start_run() as run, watch() as watching:
        mlflow.log_metric("loss", math.nan)
    assert len(watching.anomalies) == 1
    assert "the run could not be marked: MlflowException: no answer\n" in capsys.readouterr().err
    assert json.loads((workspace / RECORDS).read_text())["run_id"] == run.info.run_id


def test_a_run_of_many_anomalies_is_marked_with_the_first(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    set_tag = MlflowClient.set_tag
    monkeypatch.setattr(MlflowClient, "set_tag", lambda self, *args: (asked.append(1), set_tag(self, *args)))
    with mlflow.start_run() as run, watch() as watching:
        mlflow.log_metrics({f"m{number:02}": math.nan for number in range(30)})
    assert (len(watching.anomalies), len(asked)) == (30, 20)
    assert len(marks(store, run.info.run_id)) == 20


# --- silence


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "mltoolkit.watch"]


def test_silence_is_said_once_and_again_after_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(silence=0.1) as watching:
        for at in range(3):
            time.sleep(0.04)
            watching.observe({"loss": 0.5}, at)
        assert watching.anomalies == []
        time.sleep(0.4)
        assert [each.what for each in watching.anomalies] == ["silence"]
        watching.observe({"loss": 0.5}, 3)
        time.sleep(0.3)
    assert [each.text for each in watching.anomalies] == [f"no value for 0.1 s; the last was loss at step {step}" for step in (2, 3)]
    assert capsys.readouterr().err.count("no value for 0.1 s") == 2
    assert threads() == []
    time.sleep(0.2)
    assert len(watching.anomalies) == 2, "nothing is looked at when it is closed"


def test_the_values_of_other_metrics_do_not_break_a_silence() -> None:
    with watch("loss", silence=0.1) as watching:
        for _ in range(8):
            watching.observe({"epoch": 1.0})
            time.sleep(0.05)
    assert [each.text for each in watching.anomalies] == ["no value for 0.1 s"]


def sleeping() -> None:
    time.sleep(60)


def busy() -> None:
    while True:
        math.sqrt(2)


@pytest.mark.parametrize("hanging", [sleeping, busy], ids=["asleep", "busy"])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_loop_that_hangs_is_stopped(hanging: Callable[[], None], where: str) -> None:
    if hanging is sleeping and where == "thread":
        pytest.skip("only the main thread is woken from a system call")
    caught: list[BaseException] = []

    def loop() -> None:
        try:
            with watch(silence=0.1, stop="silence"):
                hanging()
        except TrainingStopped as error:
            caught.append(error)

    began = time.monotonic()
    if where == "main":
        loop()
    else:
        thread = threading.Thread(target=loop)
        thread.start()
        thread.join(30)
    assert [str(error) for error in caught] == ["no value for 0.1 s"]
    assert time.monotonic() - began < 30
    assert threads() == []


def test_an_interruption_at_the_very_end_of_the_loop_goes_nowhere_else() -> None:
    endings = set()
    for attempt in range(60):
        with contextlib.suppress(TrainingStopped), watch(silence=0.005, stop="silence") as watching:
            time.sleep(0.0045 + 0.00002 * attempt)
        endings.add(watching.stopped is not None)
        time.sleep(0)  # a signal that came late would be one here
    assert endings == {True, False}
    assert threads() == []


def test_a_persons_interruption_stays_one() -> None:
    with pytest.raises(KeyboardInterrupt), watch(silence=60, stop=True):
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="mine"), watch(silence=60, stop=True):
        raise ValueError("mine")
    assert threads() == []


# --- loops of scikit-learn


def test_partial_fit_that_is_thrown_off_is_stopped_there(store: MlflowClient) -> None:
    from sklearn.linear_model import SGDRegressor

    draw = np.random.default_rng(0)
    X = draw.normal(0, 1, (256, 3))
    y = X @ [1.0, 2.0, 3.0] + draw.normal(0, 0.1, 256)
    model = SGDRegressor(learning_rate="constant", eta0=0.001, penalty=None, random_state=0)
    with mlflow.start_run(), pytest.raises(TrainingStopped, match="train_mse exploded at step 20") as caught, watch(stop=True):  # noqa: PT012
        for epoch in range(50):
            if epoch == 20:
                model.set_params(eta0=1.5)  # a slip in a schedule
            model.partial_fit(X, y)
            mlflow.log_metric("train_mse", float(np.mean((model.predict(X) - y) ** 2)), step=epoch)
    assert caught.value.what == "explosion"  # type: ignore[attr-defined]


def test_warm_start_that_learns_is_not_stopped_and_one_that_stands_still_is(store: MlflowClient) -> None:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import log_loss

    X, y = make_classification(300, 8, random_state=0)
    boosted = HistGradientBoostingClassifier(warm_start=True, max_iter=1, random_state=0)
    with mlflow.start_run(), watch(stop=True, patience=5) as watching:
        for rounds in range(1, 12):
            boosted.set_params(max_iter=rounds).fit(X, y)
            mlflow.log_metrics({"log_loss": log_loss(y, boosted.predict_proba(X)), "accuracy": boosted.score(X, y) + rounds / 1e6}, step=rounds)
    assert watching.anomalies == []
    linear = SGDClassifier(loss="log_loss", random_state=0)
    with mlflow.start_run(), pytest.raises(TrainingStopped, match="accuracy has not improved over 5 values"), watch("accuracy", stop="stall", patience=5):  # noqa: PT012
        for epoch in range(200):
            linear.partial_fit(X, y, classes=[0, 1])
            mlflow.log_metric("accuracy", linear.score(X, y), step=epoch)
    assert epoch < 199


def test_mlflow_need_not_be_there(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom mltoolkit import watch\nwith watch() as watching:\n    watching.observe({'loss': float('nan')})\n"
        "assert 'mlflow' not in sys.modules and 'numpy' not in sys.modules\nprint(*watching.anomalies)\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loss is NaN\n", "mltoolkit.watch: loss is NaN\n")


def test_it_costs_the_loop_nothing_while_none_is_open(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(Watch, "look", lambda self, *args, **kwargs: looked.append(args) or [])
    with mlflow.start_run():
        mlflow.log_metric("loss", 1.0)
        assert looked == []
        with watch():
            mlflow.log_metrics({})
            mlflow.log_metric("loss", 1.0)
    assert len(looked) == 1
