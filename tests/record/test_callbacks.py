"""Each library is stopped the way its own callbacks stop it. Keras, Lightning, XGBoost and LightGBM are stood in for by what
they ask of a callback: the checks that they make, and the order in which they call."""

from __future__ import annotations

import collections
import math
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mltoolkit.errors import Invalid
from mltoolkit.record.watch import watch

NAN = math.nan
Install = Callable[..., ModuleType]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a library among those that have been imported."""

    def installing(name: str, **content: Any) -> ModuleType:
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return installing


@pytest.mark.parametrize("library", ["keras", "lightning", "xgboost", "lightgbm"])
def test_a_library_that_was_not_imported_is_not_imported_for_it(library: str) -> None:
    with pytest.raises(Invalid, match="it has not been imported here; import it first"):
        watch().callback(library)
    assert library not in sys.modules


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(Invalid, match="no callback for 'kears'; did you mean 'keras'"):
        watch().callback("kears")


# --- Keras


class KerasBase:
    """`keras.callbacks.Callback`, as far as a fit is concerned."""

    def __init__(self) -> None:
        self.params: Any = None
        self._model: Any = None

    @property
    def model(self) -> Any:
        return self._model

    def set_model(self, model: Any) -> None:
        self._model = model

    def set_params(self, params: Any) -> None:
        self.params = params

    def on_train_begin(self, logs: Any = None) -> None: ...
    def on_train_end(self, logs: Any = None) -> None: ...
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None: ...
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None: ...
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None: ...
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None: ...


def keras_fit(epochs: list[list[float]], *callbacks: Any) -> list[int]:
    """The loop of `Model.fit`: batches until `stop_training`, then the end of the epoch; returns the batches of each."""
    model = SimpleNamespace(stop_training=False)
    for callback in callbacks:
        assert isinstance(callback, KerasBase)
        callback.set_params({"epochs": len(epochs)})
        callback.set_model(model)
        callback.on_train_begin({})
    done = []
    for epoch, losses in enumerate(epochs):
        done.append(0)
        for batch, loss in enumerate(losses):
            done[-1] += 1
            for callback in callbacks:
                callback.on_train_batch_begin(batch, logs={})
                callback.on_train_batch_end(batch, logs={"loss": loss, "accuracy": 0.5})
            if model.stop_training:
                break
        for callback in callbacks:
            callback.on_epoch_end(epoch, {"loss": losses[-1], "val_loss": losses[-1] * 2})
        if model.stop_training:
            break
    for callback in callbacks:
        callback.on_train_end(None)
    return done


@pytest.mark.parametrize("library", ["keras", "tf_keras", "tensorflow"])
def test_keras_stops_after_the_batch_whose_loss_is_no_number(install: Install, library: str) -> None:
    callbacks = SimpleNamespace(Callback=KerasBase)
    install(library, **({"keras": SimpleNamespace(callbacks=callbacks)} if library == "tensorflow" else {"callbacks": callbacks}))
    watching = watch(stop="nan")
    assert keras_fit([[1.0, 0.9], [0.8, NAN, 0.7], [0.6]], watching.callback("keras")) == [2, 2]
    assert [(each.metric, each.step) for each in watching.anomalies] == [("loss", 1)]


def test_keras_stops_at_a_stall_of_its_epochs_and_goes_on_where_it_may(install: Install) -> None:
    install("keras", callbacks=SimpleNamespace(Callback=KerasBase))
    epochs = [[1.0], [0.5], [0.5], [0.5], [0.4], [NAN]]
    stalled = watch("val_loss", stop="stall", patience=2)
    with stalled:  # what the library's flag stops does not raise as well
        assert keras_fit(epochs, stalled.callback("keras")) == [1, 1, 1, 1]
    assert str(stalled.stopped) == "val_loss has not improved over 2 values at step 3 (best: 1 at step 1)"
    marked = watch()
    assert keras_fit(epochs, marked.callback("keras")) == [1] * 6
    assert {each.what for each in marked.anomalies} == {"nan"}
    marked.callback("keras").on_epoch_end(0, None)
    marked.callback("keras").on_train_batch_end(0, None)


# --- Lightning


class LightningBase:
    """`lightning.pytorch.Callback`: the trainer calls every hook of every callback by name."""

    @property
    def state_key(self) -> str:
        return type(self).__qualname__

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None: ...
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None: ...
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None: ...
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None: ...


class Trainer:
    """The fit loop of `lightning.pytorch.Trainer`."""

    def __init__(self, callbacks: list[Any], world_size: int = 1) -> None:
        self.callbacks, self.world_size = callbacks, world_size
        self.callback_metrics: dict[str, Any] = {}
        self.current_epoch = self.global_step = 0
        self.should_stop = False
        self.asked: list[bool] = []
        self.strategy = SimpleNamespace(reduce_boolean_decision=self.reduce)

    def reduce(self, decision: bool, all: bool = True) -> bool:  # noqa: A002 (Lightning's name)
        assert all is False
        self.asked.append(decision)
        return decision or len(self.asked) > 3  # another process has seen something by then

    def _call(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(self, object(), *arguments)

    def fit(self, epochs: list[list[Any]]) -> list[int]:
        self._call("setup", "fit")
        done = []
        for self.current_epoch, outputs in enumerate(epochs):
            done.append(0)
            for batch, output in enumerate(outputs):
                done[-1] += 1
                self._call("on_train_batch_end", output, object(), batch)
                self.global_step += 1
                if self.should_stop:
                    break
            last = outputs[-1]["loss"] if isinstance(outputs[-1], dict) else outputs[-1]
            self.callback_metrics = {"train_loss": last, "val_acc": 0.5}
            self._call("on_train_epoch_end")
            if self.should_stop:
                break
        self._call("teardown", "fit")
        return done


def test_lightning_stops_after_the_batch_whose_loss_is_no_number(install: Install) -> None:
    install("lightning.pytorch", Callback=LightningBase)
    watching = watch(stop=True)
    assert Trainer([watching.callback("lightning")]).fit([[{"loss": 1.0}, 0.5], [None, 0.4, {"loss": NAN}, 0.3], [0.2]]) == [2, 3]
    assert (watching.anomalies[0].metric, watching.anomalies[0].step) == ("loss", 4)


def test_lightning_stops_at_the_end_of_an_epoch(install: Install) -> None:
    install("pytorch_lightning", Callback=LightningBase)
    watching = watch("val_acc", stop="stall", patience=2)
    assert Trainer([watching.callback("lightning")]).fit([[1.0]] * 6) == [1, 1, 1]
    assert Trainer([watch().callback("lightning")]).fit([[NAN]] * 6) == [1] * 6


def test_several_processes_of_lightning_stop_together(install: Install) -> None:
    install("lightning.pytorch", Callback=LightningBase)
    trainer = Trainer([watch("loss", stop="nan").callback("lightning")], world_size=2)
    assert trainer.fit([[1.0], [NAN, 1.0, 1.0], [1.0]]) == [1, 3]
    assert trainer.asked == [False, True], "each process is asked after each epoch, or the others wait for it"
    trainer = Trainer([watch(stop="nan").callback("lightning")], world_size=2)
    assert trainer.fit([[1.0]] * 9) == [1] * 4
    assert trainer.asked == [False] * 4


# --- boosting


class XgboostBase:
    """`xgboost.callback.TrainingCallback`; the container takes nothing else."""

    def before_training(self, model: Any) -> Any:
        return model

    def after_training(self, model: Any) -> Any:
        return model

    def before_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        return False

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        return False


def xgboost_train(scores: list[Any], callback: Any) -> int:
    """The loop of `xgboost.train`, which keeps the history and stops at True; returns the rounds."""
    assert isinstance(callback, XgboostBase)
    history: Any = collections.OrderedDict(train=collections.OrderedDict(rmse=[]), valid=collections.OrderedDict(auc=[]))
    callback.before_training("model")
    for epoch, score in enumerate(scores):
        if callback.before_iteration("model", epoch, history):
            break
        history["train"]["rmse"].append(score)
        history["valid"]["auc"].append(0.5)
        if callback.after_iteration("model", epoch, history):
            break
    callback.after_training("model")
    return epoch + 1


def test_xgboost_stops_by_true(install: Install) -> None:
    install("xgboost", callback=SimpleNamespace(TrainingCallback=XgboostBase))
    watching = watch(stop="nan")
    assert xgboost_train([1.0, 0.5, NAN, 0.4], watching.callback("xgboost")) == 3
    assert [(each.metric, each.step) for each in watching.anomalies] == [("train-rmse", 2)]
    assert xgboost_train([(1.0, 0.1), (NAN, 0.1), (0.2, 0.1)], watch(stop="nan").callback("xgboost")) == 2, "xgboost.cv gives mean and deviation"
    assert xgboost_train([1.0, 0.9, 0.8, 0.7], watch("valid-*", stop="stall", patience=2).callback("xgboost")) == 3
    assert xgboost_train([NAN] * 4, watch().callback("xgboost")) == 4


class EarlyStopException(Exception):
    """`lightgbm.callback.EarlyStopException`."""

    def __init__(self, best_iteration: int, best_score: Any) -> None:
        super().__init__()
        self.best_iteration, self.best_score = best_iteration, best_score


Env = collections.namedtuple("Env", ["model", "params", "iteration", "begin_iteration", "end_iteration", "evaluation_result_list"])


def lightgbm_train(scores: list[float], callback: Any, *, metric: str = "l2", higher: bool = False) -> int:
    """The loop of `lightgbm.train`, which orders its callbacks and stops by an exception of its own; returns the rounds."""
    callback.__dict__.setdefault("order", -1)
    assert not getattr(callback, "before_iteration", False)
    for iteration, score in enumerate(scores):
        try:
            callback(Env("model", {}, iteration, 0, len(scores), [("valid_0", metric, score, higher)]))
        except EarlyStopException as stop:
            return int(stop.best_iteration) + len(stop.best_score)
    callback(Env("model", {}, 0, 0, 0, None))
    return len(scores)


def test_lightgbm_stops_by_its_exception_and_says_which_way_is_better(install: Install) -> None:
    install("lightgbm", callback=SimpleNamespace(EarlyStopException=EarlyStopException))
    assert lightgbm_train([1.0, NAN, 0.5], watch(stop=True).callback("lightgbm")) == 2
    assert lightgbm_train([NAN] * 3, watch().callback("lightgbm")) == 3
    rising = [0.1, 0.2, 0.3, 0.4]
    assert lightgbm_train(rising, watch(stop="stall", patience=2).callback("lightgbm"), metric="money", higher=True) == 4
    assert lightgbm_train(rising[::-1], watch(stop="stall", patience=2).callback("lightgbm"), metric="money", higher=True) == 3


# --- scikit-learn


def test_a_monitor_stops_scikit_learns_boosting() -> None:
    from sklearn.datasets import make_regression
    from sklearn.ensemble import GradientBoostingRegressor

    X, y = make_regression(120, 4, random_state=0)
    fine = watch(stop=True)
    model = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(X, y, monitor=fine.callback("sklearn"))
    assert (len(model.estimators_), fine.anomalies) == (20, [])
    thrown = watch(stop="explosion")
    model = GradientBoostingRegressor(n_estimators=200, learning_rate=2.3, random_state=0).fit(X, y, monitor=thrown.callback("sklearn"))
    assert thrown.stopped is not None
    assert len(model.estimators_) == (thrown.stopped.step or 0) + 1 < 100
