"""A model is opened if nothing in it can run code, whatever its files are called; nothing of any other runs unless it is asked for by name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import mlflow
import numpy as np
import pytest
import yaml
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

import mltoolkit
from mltoolkit.errors import DataError, ModelRefused
from mltoolkit.record import tracking
from mltoolkit.record.models import danger, examine, load_model

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and skops' own, about formats and versions

X, Y = np.array([[0.0], [1.0], [2.0]] * 20), np.array([1.0, 3.0, 5.0] * 20)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.fixture
def fired(tmp_path: Path) -> Path:
    """The file that a bomb creates."""
    return tmp_path / "fired"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as MLflow writes them: `safe` and `boosted` (skops), `pickled`, `cloudpickled`, `python`, `from_code`."""
    folder = tmp_path_factory.mktemp("models")
    line = LinearRegression().fit(X, Y)
    plain = {"pip_requirements": ["scikit-learn"]}
    mlflow.sklearn.save_model(line, folder / "safe", **plain)
    mlflow.sklearn.save_model(line, folder / "pickled", serialization_format="pickle", **plain)
    mlflow.sklearn.save_model(line, folder / "cloudpickled", serialization_format="cloudpickle", **plain)
    boosted = HistGradientBoostingRegressor(max_iter=3).fit(X, Y)
    try:
        mlflow.sklearn.save_model(boosted, folder / "boosted", **plain)
    except mlflow.exceptions.MlflowException as error:
        kinds = [part for part in str(error).replace("'", '"').split('"') if part.startswith(("sklearn.", "numpy."))]
        shutil.rmtree(folder / "boosted")
        mlflow.sklearn.save_model(boosted, folder / "boosted", skops_trusted_types=kinds, **plain)

    class Doubling(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model_input * 2

    mlflow.pyfunc.save_model(folder / "python", python_model=Doubling(), pip_requirements=[])
    (folder / "doubling.py").write_text(
        "import mlflow\nclass Doubling(mlflow.pyfunc.PythonModel):\n    def predict(self, context, model_input, params=None):\n        return model_input * 2\nmlflow.models.set_model(Doubling())\n"
    )
    mlflow.pyfunc.save_model(folder / "from_code", python_model=str(folder / "doubling.py"), pip_requirements=[])
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a saved model that may be changed."""
    return lambda name: Path(shutil.copytree(saved / name, tmp_path / name))


def change(model: Path, **flavors: Any) -> None:
    """Change what `MLmodel` says of flavors."""
    described = yaml.safe_load((model / "MLmodel").read_text())
    for name, options in flavors.items():
        described["flavors"].setdefault(name, {}).update(options)
    (model / "MLmodel").write_text(yaml.safe_dump(described))


def refused(model: Path | str, *reasons: str, **options: Any) -> None:
    """It is refused, for these reasons among others, and nothing ran."""
    with pytest.raises(ModelRefused) as caught:
        load_model(model, **options)
    said = "\n".join(caught.value.reasons)  # type: ignore[attr-defined]
    for reason in reasons:
        assert reason in said
    assert "allow_pickle=True" in str(caught.value)
    assert caught.value.exit_code == 2


# --- as MLflow writes them


def test_a_safe_model_is_opened_with_mlflows_switch_off_as_in_a_run(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(mlflow.exceptions.MlflowException):
        mlflow.sklearn.load_model(str(saved / "safe"))
    assert mltoolkit.load_model is load_model
    model = load_model(saved / "safe")
    assert isinstance(model, LinearRegression)
    assert model.predict([[3.0]]) == pytest.approx([7.0])
    assert load_model(saved / "safe", flavor="pyfunc").predict(np.array([[3.0]])) == pytest.approx([7.0])
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")
    load_model(saved / "safe")
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" not in os.environ


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pickled", "sklearn is written as pickle"), ("pickled", "model.pkl is a pickle"), ("cloudpickled", "sklearn is written as cloudpickle"),
        ("python", "python_model.pkl is a pickle"), ("python", "unpickles or runs its Python model"), ("from_code", "doubling.py is code"),
    ],
)  # fmt: skip
def test_what_can_run_code_needs_the_word(saved: Path, name: str, reason: str, bare_workspace: Path) -> None:
    refused(saved / name, reason)
    opened = load_model(saved / name, allow_pickle=True)
    assert opened.predict(np.array([[3.0]])).shape[0] == 1
    (bare_workspace / "settings.ini").write_text("[mltoolkit]\nallow_pickle = yes\n")
    assert load_model(saved / name) is not None
    refused(saved / name, allow_pickle=False)


def test_types_that_skops_does_not_know_are_named_and_may_be_trusted(saved: Path) -> None:
    reasons = examine(saved / "boosted")
    if not reasons:
        pytest.skip("this version of skops knows them all")
    assert len(reasons) == 1
    refused(saved / "boosted", "has types that skops does not know", "trusted_types=[")
    kinds = [part for part in reasons[0].split("'") if part.startswith(("sklearn.", "numpy."))]
    refused(saved / "boosted", trusted_types=kinds[1:] or ["another.Type"])
    assert load_model(saved / "boosted", trusted_types=kinds).predict(X).shape == (60,)


def test_models_of_the_registry_and_of_runs(workspace: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tracking.client(workspace)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.tracking_uri)
    try:
        tracking.experiment_id(store, "models", str(workspace / ".mltoolkit" / "artifacts"))
        mlflow.set_experiment("models")
        line = LinearRegression().fit(X, Y)
        with mlflow.start_run() as run:
            mlflow.sklearn.log_model(line, name="model", registered_model_name="line", pip_requirements=["scikit-learn"])
            mlflow.sklearn.log_model(line, name="other", registered_model_name="line", serialization_format="pickle", pip_requirements=["scikit-learn"])
        store.set_registered_model_alias("line", "champion", "1")
        for uri in ("models:/line/1", "models:/line@champion", f"runs:/{run.info.run_id}/model"):
            assert load_model(uri).predict([[3.0]]) == pytest.approx([7.0])
        refused("models:/line/2", "is a pickle")
        assert load_model("models:/line/2", allow_pickle=True).predict([[3.0]]) == pytest.approx([7.0])
        for uri in ("models:/line/9", "models:/nothing@champion", f"runs:/{run.info.run_id}/nothing"):
            with pytest.raises(DataError, match="cannot be read"):
                load_model(uri)
    finally:
        mlflow.set_tracking_uri(before)


def test_what_is_no_model_is_said(tmp_path: Path, copy: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no MLflow model that can be read"):
        load_model(tmp_path / "empty")
    for text in ("flavors: [1, 2]", "just text", "{", "\x00"):
        (tmp_path / "empty" / "MLmodel").write_text(text)
        with pytest.raises(DataError, match="no MLflow model"):
            load_model(tmp_path / "empty", allow_pickle=True)
    model = copy("safe")
    with pytest.raises(DataError, match="cannot be opened as 'nonsense'"):
        load_model(model, flavor="nonsense")
    with pytest.raises(DataError, match="no flavor that MLflow could open"):
        load_model(model, flavor="sklearn.utils")


# --- what somebody puts in their place


def disguises(bomb: Bomb) -> Iterator[tuple[str, bytes]]:
    """A bomb in every shape."""
    for protocol in range(6):
        yield f"protocol {protocol}", pickle.dumps(bomb, protocol)
    yield "cloudpickle", cloudpickle.dumps(bomb)
    yield "broken after it went off", pickle.dumps(bomb, 0)[:-1] + b"\xff\xff"
    yield "without its mark", pickle.dumps(bomb, 4)[2:]
    for name, prefix in (("a number", b"I0x1\n0"), ("a long number", b"L0x1L\n0"), ("a text", b"V\\ud800\n0")):
        yield f"{name} that pickletools does not know", prefix + pickle.dumps(bomb, 0)
    plain = pickle.dumps(bomb)
    for name, compress in (("gzip", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zlib", zlib.compress)):
        yield name, compress(plain)
    for name, level in (("zlib 1", 1), ("zlib 9", 9)):
        yield name, zlib.compress(plain, level)
    array = io.BytesIO()
    np.save(array, np.array([bomb], dtype=object), allow_pickle=True)
    yield "numpy", array.getvalue()
    for dtype in ("O", [("a", "O")]):
        yield f"numpy with {dtype}", array.getvalue().replace(b"'|O'", repr(dtype).encode())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", plain)
    yield "torch", archive.getvalue()
    archive = io.BytesIO(b"I0x1\n0" + pickle.dumps(bomb, 0))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("schema.json", "{}")
    yield "a pickle that is a skops file as well", archive.getvalue()


def test_a_bomb_is_seen_in_every_shape_under_every_name_and_does_not_go_off(tmp_path: Path, fired: Path, copy: Callable[[str], Path]) -> None:
    model = copy("safe")
    for shape, content in disguises(Bomb(fired)):
        path = model / "weights.json"
        path.write_bytes(content)
        assert danger(path), shape
        refused(model, "weights.json ")
        path.unlink()
        kept = (model / "model.skops").read_bytes()
        (model / "model.skops").write_bytes(content)
        refused(model, "model.skops ")
        (model / "model.skops").write_bytes(kept)
    load_model(model)
    assert not fired.exists()
    pickle.loads(pickle.dumps(Bomb(fired)))
    assert fired.exists(), "it would have"


def test_what_is_data_is_no_danger(tmp_path: Path, saved: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.arange(9.0))
    harmless = {
        "a.npy": array.getvalue(), "model.json": b'{"learner": {}}', "model.ubj": b"{L\x00\x00learner", "model.cbm": b"CBM1" + bytes(100), "model.txt": b"tree\nversion=v4\n.",
        "empty": b"", "one": b"\x80", "requirements.txt": b"scikit-learn==1.6\nnumpy\n.", "MLmodel": b"artifact_path: model\nflavors: {}\n", "cos.txt": b"cos of an angle.",
    }  # fmt: skip
    for name, content in harmless.items():
        (tmp_path / name).write_bytes(content)
        assert danger(tmp_path / name) is None, name
    assert examine(saved / "safe") == []
    suspect = {"x.so": b"", "lib": b"\x7fELF\x02", "m.h5": b"\x89HDF\r\n\x1a\n", "hook.pth": b"import os\n"}
    for name, content in suspect.items():
        (tmp_path / name).write_bytes(content)
        assert danger(tmp_path / name), name
    for inside, why in (("config.json", "Keras"), ("anything", "nothing here can judge")):
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
            file.writestr(inside, "{}")
        assert why in (danger(tmp_path / "m.zip") or "")


def test_what_mlmodel_says_is_judged(copy: Callable[[str], Path], fired: Path, tmp_path: Path) -> None:
    model = copy("safe")
    original = (model / "MLmodel").read_text()
    (tmp_path / "outside.pkl").write_bytes(pickle.dumps(Bomb(fired)))
    for flavors, reason in [
        ({"python_function": {"loader_module": "os"}}, "it is opened by os"),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "x.pkl"}}, "unpickles or runs its Python model"),
        ({"python_function": {"code": "code"}}, "imports code of its own, code"),
        ({"sklearn": {"code": "code"}}, "imports code of its own, code"),
        ({"sklearn": {"serialization_format": "cloudpickle"}}, "is written as cloudpickle"),
        ({"sklearn": {"pickled_model": "../outside.pkl"}}, "is outside of the model"),
        ({"sklearn": {"pickled_model": str(tmp_path / "outside.pkl")}}, "is outside of the model"),
        ({"sklearn": {"pickled_model": "MLmodel"}}, "no skops file that can be read"),
        ({"statsmodels": {"data": "model.skops"}}, "the flavor statsmodels may run code"),
        ({"pytorch": {}}, "the flavor pytorch may run code"),
        ({"xgboost": {"model_class": "subprocess.Popen"}}, "is to make an object of subprocess.Popen"),
        ({"xgboost": {"model_class": "xgboost.compat.importlib"}}, "is to make an object of xgboost.compat.importlib"),
        ({"xgboost": {"data": "../outside.pkl"}}, "is outside of the model"),
        ({"onnx": {"providers": [["CPUExecutionProvider", {"backend_path": "/x.so"}]]}}, "may load libraries"),
        ({"onnx": {"onnx_session_options": {"extra_session_config": {"a": "b"}}}}, "may load libraries"),
        ({"python_function": {"data": "other.skops"}}, "python_function opens other.skops, which nobody looked at"),
        ({"python_function": {"data": "../outside.pkl"}}, "python_function opens ../outside.pkl, which nobody looked at"),
        ({"python_function": {"model_path": "other.skops"}}, "python_function opens other.skops, which nobody looked at"),
        ({"python_function": {"loader_module": "mlflow.lightgbm"}}, "no flavor says how"),
        ({"python_function": {"loader_module": "sklearn"}}, "it is opened by sklearn"),
        ({"lightgbm": {"model_class": "lightgbm.sklearn.LGBMRegressor", "serialization_format": "skops", "pickled_model": "model.skops", "data": "MLmodel"}}, "MLmodel is no skops file"),
        ({"lightgbm": {"model_class": "lightgbm.sklearn.LGBMRegressor"}}, "lightgbm keeps lightgbm.sklearn.LGBMRegressor as a pickle"),
        ({"lightgbm": {"model_class": "lightgbm.sklearn.LGBMRegressor", "serialization_format": "cloudpickle"}}, "lightgbm is written as cloudpickle"),
    ]:
        change(model, **flavors)
        assert reason in "\n".join(examine(model)), flavors
        refused(model)
        (model / "MLmodel").write_text(original)
    for harmless in ({"xgboost": {"model_class": "xgboost.sklearn.XGBRegressor"}}, {"lightgbm": {"model_class": "lightgbm.basic.Booster"}}, {"onnx": {}}, {"catboost": {"model_class": "catboost.core.CatBoost"}}):
        change(model, **harmless)
        assert examine(model) == [], harmless
        (model / "MLmodel").write_text(original)
    described = yaml.safe_load(original)
    del described["flavors"]["sklearn"]["serialization_format"]
    (model / "MLmodel").write_text(yaml.safe_dump(described))
    refused(model, "is written as pickle")
    assert not fired.exists()


def test_a_model_of_which_no_flavor_says_how_it_is_opened_is_refused(copy: Callable[[str], Path], fired: Path) -> None:
    """MLflow unpickles it."""
    model = copy("safe")
    (model / "model.bin").write_bytes(b"I0x1\n0" + pickle.dumps(Bomb(fired), 0))
    (model / "MLmodel").write_text("flavors:\n  python_function: {loader_module: mlflow.sklearn, data: model.bin, python_version: 3.11.0}\n")
    refused(model, "model.bin is a pickle", "no flavor says how")
    (model / "model.bin").write_bytes((model / "model.skops").read_bytes())
    assert len(examine(model)) == 1
    assert not fired.exists()


def test_a_model_inside_of_the_model_is_not_followed(copy: Callable[[str], Path], saved: Path) -> None:
    """MLflow reads the `MLmodel` next to the file that it is to open."""
    model = copy("safe")
    shutil.copytree(saved / "safe", model / "sub")
    change(model, sklearn={"pickled_model": "sub/model.skops"}, python_function={"data": "sub/model.skops", "model_path": "sub/model.skops"})
    assert examine(model) == ["sub/MLmodel may be followed instead of the model's own"]
    refused(model, "sub/MLmodel may be followed", flavor="pyfunc")


def test_a_link_out_of_the_model_is_seen(copy: Callable[[str], Path], tmp_path: Path) -> None:
    model = copy("safe")
    (tmp_path / "elsewhere").write_text("x")
    (model / "extra").symlink_to(tmp_path / "elsewhere")
    refused(model, "extra leads out of the model")


def test_a_model_that_trusts_itself_is_not_trusted(copy: Callable[[str], Path]) -> None:
    """MLflow takes the list of trusted types from the model."""
    model = copy("boosted")
    described = yaml.safe_load((model / "MLmodel").read_text())["flavors"]["sklearn"]
    if not described.get("skops_trusted_types"):
        pytest.skip("this version of skops knows them all")
    refused(model, "types that skops does not know")


def test_what_is_opened_is_what_was_looked_at(copy: Callable[[str], Path], fired: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy("safe")
    look = examine

    def look_and_swap(folder: Path, trusted: Any) -> list[str]:
        found = look(folder, trusted)
        (model / "model.skops").write_bytes(pickle.dumps(Bomb(fired)))
        change(model, sklearn={"serialization_format": "pickle"})
        return found

    monkeypatch.setattr("mltoolkit.record.models.examine", look_and_swap)
    assert load_model(model).predict([[3.0]]) == pytest.approx([7.0])
    assert not fired.exists()
