"""Joining: what plain MLflow does in the notebook of a record, in real kernels."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mltoolkit.errors import NotebookFailed
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document
from mltoolkit.record import joining, tracking
from mltoolkit.record.manifest import Run

Write = Callable[..., Path]


def printed(run: Run) -> dict[str, Any]:
    """What the notebook printed as JSON, one object a line, put together."""
    found: dict[str, Any] = {}
    for cell in document.read(run.output).cells:
        for output in cell.get("outputs", []):
            for line in output.get("text", "").splitlines():
                if line.startswith("{"):
                    found |= json.loads(line)
    return found


# --- acting when a module is imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that nobody has imported."""
    (tmp_path / "not_yet_imported.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    yield "not_yet_imported"
    sys.modules.pop("not_yet_imported", None)
    joining._afterwards.callbacks.clear()
    sys.meta_path[:] = before


def test_a_callback_is_called_once_after_the_first_import(module: str) -> None:
    called: list[Any] = []
    joining.after_import(module, called.append)
    assert called == []
    found = importlib.import_module(module)
    importlib.import_module(module)
    importlib.reload(found)
    assert called == [found]
    joining.after_import(module, called.append)
    assert called == [found, found], "at once, if it is there already"


def test_asking_whether_a_module_exists_is_no_import(module: str) -> None:
    called: list[Any] = []
    joining.after_import(module, called.append)
    for _ in range(3):
        assert importlib.util.find_spec(module) is not None
    assert called == []
    assert module not in sys.modules
    assert importlib.import_module(module) in called
    assert importlib.util.find_spec("there_is_no_such_module") is None


def test_a_module_that_is_not_installed_stays_an_import_error(module: str) -> None:
    joining.after_import("there_is_no_such_module", lambda module: None)
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
            importlib.import_module("there_is_no_such_module")


def test_an_import_that_fails_is_followed_by_one_that_does_not(module: str, tmp_path: Path) -> None:
    called: list[Any] = []
    path = tmp_path / f"{module}.py"
    good = path.read_text()
    path.write_text("raise OSError('not now')\n")
    joining.after_import(module, called.append)
    with pytest.raises(OSError, match="not now"):
        importlib.import_module(module)
    assert called == []
    path.write_text(good + "# longer than before\n")
    assert importlib.import_module(module) in called


def test_a_namespace_package_has_no_loader_to_wrap(tmp_path: Path, module: str) -> None:
    (tmp_path / "empty_package").mkdir()
    joining.after_import("empty_package", lambda module: None)
    assert importlib.import_module("empty_package").__name__ == "empty_package"
    del sys.modules["empty_package"]


# --- seeds


SEEDED = """
from mltoolkit.record.joining import prepare_kernel
prepare_kernel({seed})
import importlib.util, random, sys
importlib.util.find_spec("numpy")
assert "numpy" not in sys.modules and "mlflow" not in sys.modules
first = random.random()
import numpy
print(first, numpy.random.rand())
"""


def test_seeds_reach_random_and_numpy_when_it_is_imported(tmp_path: Path) -> None:
    def numbers(seed: int | None) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLTOOLKIT_")}
        command = [sys.executable, "-c", SEEDED.format(seed=seed)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True, env=environment).stdout

    import numpy

    state = random.Random(7).random(), numpy.random.RandomState(7).rand()
    assert numbers(7) == f"{state[0]} {state[1]}\n"
    assert numbers(-3) == numbers(-3) != numbers(7)
    assert numbers(None) != numbers(None)


def test_numpy_that_is_there_already_is_seeded_at_once() -> None:
    import numpy

    states = random.getstate(), numpy.random.get_state()
    try:
        joining.prepare_kernel(2**40 + 5)
        first = random.random(), numpy.random.rand()
        assert first == (random.Random(2**40 + 5).random(), numpy.random.RandomState((2**40 + 5) % 2**32).rand())
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])


# --- MLflow, in this process


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow, as it was before, after the test."""
    import mlflow
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service.client import TrackingServiceClient

    for place, name in [(fluent, "set_experiment"), (mlflow, "set_experiment"), (fluent, "_active_experiment_id"), (TrackingServiceClient, "set_terminated"), (TrackingServiceClient, "update_run")]:
        monkeypatch.setattr(place, name, getattr(place, name))
    before = mlflow.get_tracking_uri()
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)
    atexit.register(fluent._safe_end_run)


def test_without_a_record_mlflow_is_left_alone(restored: Any, bare_workspace: Path) -> None:
    choose = restored.set_experiment
    joining.prepare_kernel()
    os.environ["MLTOOLKIT_RUN_ID"] = "r"
    joining.prepare_kernel()
    assert restored.set_experiment is choose


def test_the_record_cannot_be_ended_and_others_can(restored: Any, workspace: Path) -> None:
    store = tracking.client(workspace)
    here = tracking.experiment_id(store, "here")
    record = tracking.open_run(store, here, "record", {})
    os.environ |= {"MLTOOLKIT_RUN_ID": record, "MLTOOLKIT_EXPERIMENT_ID": here, "MLFLOW_RUN_ID": record}
    restored.set_tracking_uri(store.tracking_uri)
    joining.prepare_kernel()
    assert restored.set_experiment(experiment_id=here).name == "here"
    with restored.start_run() as joined:
        pass
    assert joined.info.run_id == record
    for end in (
        lambda: restored.end_run("FAILED"),
        lambda: restored.MlflowClient().set_terminated(record, "FAILED"),
        lambda: restored.MlflowClient().update_run(record, status="KILLED"),
    ):
        end()
        assert store.get_run(record).info.status == "RUNNING"
    restored.MlflowClient().update_run(record, status="KILLED", name="renamed")
    assert (store.get_run(record).info.status, store.get_run(record).info.run_name) == ("RUNNING", "renamed")

    os.environ["MLFLOW_RUN_ID"] = record
    restored.set_experiment("elsewhere")
    assert "MLFLOW_RUN_ID" not in os.environ
    with restored.start_run() as other:
        pass
    assert other.info.run_id != record
    assert store.get_run(other.info.run_id).info.status == "FINISHED"
    restored.MlflowClient().update_run(other.info.run_id, status="FAILED")
    assert store.get_run(other.info.run_id).info.status == "FAILED"
    restored.MlflowClient().set_terminated(other.info.run_id, "KILLED")
    assert store.get_run(other.info.run_id).info.status == "KILLED"


# --- MLflow, in the kernels of real records


IDS = """
import importlib.util, json
importlib.util.find_spec("mlflow")  # many libraries ask
import mlflow
def tell(**values): print(json.dumps(values))
"""
FIT = """
from sklearn.linear_model import LogisticRegression
mlflow.sklearn.autolog(log_models=False, log_input_examples=False, silent=True)
model = LogisticRegression(C=0.5).fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
"""


def test_runs_of_a_notebook_that_succeeds(write: Write, workspace: Path) -> None:
    run = run_notebook(write(
        "projects/flights/train.ipynb",
        IDS + "tell(context=mlflow.get_tracking_uri())",
        "with mlflow.start_run(run_name='training') as first:\n    mlflow.log_param('depth', 3)\n    " + FIT.strip().replace("\n", "\n    ")
        + "\n    mlflow.log_text('hello', 'hello.txt')\n    with mlflow.start_run(nested=True) as nested:\n        mlflow.log_metric('inner', 1)\n"
        "tell(first=first.info.run_id, nested=nested.info.run_id, after=mlflow.active_run() is None)",
        "mlflow.sklearn.autolog(disable=True)\nwith mlflow.start_run(tags={'mltoolkit.user': 'me'}) as second:\n    mlflow.log_metric('m', 2)\ntell(second=second.info.run_id)",
        "import os\nrecord = os.environ['MLTOOLKIT_RUN_ID']\nwith mlflow.start_run(run_id=record):\n    mlflow.log_metric('again', 3, synchronous=False)\n"
        "mlflow.MlflowClient().set_terminated(record, 'FAILED')\nmlflow.end_run('FAILED')",
        "mlflow.set_experiment('elsewhere')\nwith mlflow.start_run() as third:\n    mlflow.log_text('x', 'x.txt')\ntell(third=third.info.run_id)",
        "fourth = mlflow.start_run()\nmlflow.log_metric('last', 4)\ntell(fourth=fourth.info.run_id)",
    ))  # fmt: skip
    told = printed(run)
    store = tracking.client(workspace)
    record = store.get_run(run.run_id)
    runs = {name: store.get_run(told[name]) for name in ("first", "nested", "second", "third", "fourth")}

    # The first run is the record, and the runner alone ended it.
    assert told["first"] == run.run_id
    assert told["after"] is True
    assert (record.info.status, record.data.tags["mltoolkit.status"]) == ("FINISHED", "succeeded")
    assert record.data.metrics | {"again": 3.0} == record.data.metrics
    assert record.data.params["depth"] == "3"
    assert record.data.params["C"] == "0.5", "autologging went into the run that was active"
    assert "training_score" in record.data.metrics
    assert "training_score" in run.metrics
    assert {"hello.txt", "manifest.json", "train.ipynb"} <= {item.path for item in store.list_artifacts(run.run_id)}

    # All others are its children.
    for name in ("nested", "second", "third", "fourth"):
        tags = runs[name].data.tags
        assert runs[name].info.run_id != run.run_id
        assert tags["mlflow.parentRunId"] == run.run_id, name
        assert tags["mltoolkit.record"] == run.run_id, name
        assert tags["mltoolkit.notebook"] == tags["mlflow.source.name"] == "projects/flights/train.ipynb"
        assert tags["mltoolkit.pid"] != record.data.tags["mltoolkit.pid"], "the kernel's own"
        assert "mltoolkit.status" not in tags
        assert runs[name].info.status == "FINISHED", "the one left open, too"
    assert runs["second"].data.tags["mltoolkit.user"] == "me"
    assert runs["nested"].info.experiment_id == runs["second"].info.experiment_id == record.info.experiment_id
    assert runs["fourth"].data.metrics == {"last": 4.0}

    # A child elsewhere keeps its files with the workspace's, and nothing is left lying about.
    elsewhere = store.get_experiment_by_name("elsewhere")
    assert elsewhere
    assert runs["third"].info.experiment_id == elsewhere.experiment_id
    assert runs["third"].info.artifact_uri.startswith((workspace / ".mltoolkit" / "artifacts").as_uri())
    assert [item.path for item in store.list_artifacts(told["third"])] == ["x.txt"]
    assert [path.name for path in (workspace / "projects" / "flights").iterdir()] == ["train.ipynb"]
    assert sorted(path.name for path in workspace.iterdir()) == [".mltoolkit", "projects", "settings.ini"]


def test_a_notebook_that_fails_keeps_every_value_it_logged(write: Write, workspace: Path) -> None:
    logging = """
with mlflow.start_run() as run:
    tell(first=run.info.run_id)
    for step in range(200):
        mlflow.log_metric("loss", step / 2, step=step)
    for step in range(2):
        mlflow.log_metrics({f"m{number}": number for number in range(1000)}, step=step)
    for step in range(800):
        mlflow.log_metric("later", step, step=step, synchronous=False)
    mlflow.log_params({f"p{number}": number for number in range(50)})
    raise ValueError("no convergence")
"""
    with pytest.raises(NotebookFailed, match="no convergence") as caught:
        run_notebook(write("train.ipynb", IDS, logging, "mlflow.log_metric('never', 1)"))
    run = caught.value.run
    assert printed(run)["first"] == run.run_id
    store = tracking.client(workspace)
    record = store.get_run(run.run_id)
    assert (record.info.status, record.data.tags["mltoolkit.status"]) == ("FAILED", "failed")
    assert len(record.data.metrics) == 1002
    assert len(run.metrics) == 1002
    assert len(record.data.params) == 50
    for name, expected in [("loss", [step / 2 for step in range(200)]), ("later", list(range(800))), ("m999", [999, 999])]:
        history = store.get_metric_history(run.run_id, name)
        assert sorted((point.step, point.value) for point in history) == list(enumerate(expected)), name
    assert "ValueError: no convergence" in record.data.tags["mltoolkit.failure"]


def test_another_experiment_first_autologging_there_and_a_run_left_open(write: Write, workspace: Path) -> None:
    with pytest.raises(NotebookFailed):
        run_notebook(write(
            "look.ipynb",
            IDS + "chosen = mlflow.set_experiment('elsewhere')",
            FIT + "fitted = mlflow.last_active_run()\ntell(fitted=fitted.info.run_id)",
            "open_run = mlflow.start_run()\nmlflow.log_metric('m', 1)\nmlflow.log_text('x', 'x.txt')\ntell(open=open_run.info.run_id)\n1 / 0",
        ))  # fmt: skip
    store = tracking.client(workspace)
    (record,) = store.search_runs([store.get_experiment_by_name("default").experiment_id], "tags.`mltoolkit.status` = 'failed'")
    told = printed(Run.from_json((workspace / ".mltoolkit" / "runs" / record.info.run_id / "manifest.json").read_text()))
    fitted, left_open = store.get_run(told["fitted"]), store.get_run(told["open"])
    for child in (fitted, left_open):
        assert store.get_experiment(child.info.experiment_id).name == "elsewhere"
        assert child.data.tags["mlflow.parentRunId"] == child.data.tags["mltoolkit.record"] == record.info.run_id
        assert child.info.artifact_uri.startswith((workspace / ".mltoolkit" / "artifacts").as_uri())
    assert (fitted.info.status, fitted.data.params["C"]) == ("FINISHED", "0.5")
    assert (left_open.info.status, record.info.status) == ("FAILED", "FAILED"), "it ended as its record did"
    assert left_open.data.metrics == {"m": 1.0}
    assert [item.path for item in store.list_artifacts(left_open.info.run_id)] == ["x.txt"]
    assert record.data.metrics == {}
    assert sorted(path.name for path in workspace.iterdir()) == [".mltoolkit", "look.ipynb", "settings.ini"]


def test_torch_is_seeded_when_it_is_imported_and_drawings_have_the_same_ids(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("seeds = []\nmanual_seed = seeds.append\n")
    program = "\n".join([
        "import sys", f"sys.path.insert(0, {str(tmp_path)!r})", "from mltoolkit.record.joining import prepare_kernel", "prepare_kernel(7)",
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules", "import torch, matplotlib",
        "print(torch.seeds, matplotlib.rcParams['svg.hashsalt'])",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[7]", "mltoolkit"]
