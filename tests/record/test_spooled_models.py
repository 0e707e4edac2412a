"""Logged models, by way of the spool, to a real MLflow server that is away, goes away, or loses its answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException
from tracking_server import Proxy, Stage, ask, ended, kill

from mltoolkit.record import delivery, spool, spooled_store, tracking
from mltoolkit.record.delivery import CREATED_AS
from mltoolkit.record.outlets import Outlet, _Passage, guard_mlflow
from mltoolkit.record.shipping import Report, sync
from mltoolkit.record.spooled_models import SpooledModelStore

FIT = """
import json, mlflow, numpy as np, pathlib, time
import mltoolkit.record.models
from sklearn.linear_model import LogisticRegression

mlflow.set_experiment(EXPERIMENT)
X = np.arange(20.0).reshape(10, 2)
y = np.array([0, 1] * 5)
model = LogisticRegression().fit(X, y)

def log_model(name="model", **more):
    return mlflow.sklearn.log_model(model, name=name, serialization_format="skops", pip_requirements=["scikit-learn"], **more)

def read_back(uri):
    return float(mltoolkit.record.models.load_model(uri).coef_[0, 0]) == float(model.coef_[0, 0])

def tell(**facts):
    print(json.dumps(facts))
"""
TRAIN = """
from mlflow.models import infer_signature

began = time.monotonic()
with mlflow.start_run() as run:
    mlflow.log_params({f"p{number}": number for number in range(120)})
    mlflow.log_metric("loss", 0.5, step=0)
    logged = log_model(signature=infer_signature(X, model.predict_proba(X)), input_example=X[:2], metadata={"months": [1, 2]}, tags={"kind": "linear"})
    mlflow.log_metric("predicted_rate", 0.25)
    mlflow.log_metric("other", 0.125, step=3, model_id=logged.model_id)
    mlflow.set_logged_model_tags(logged.model_id, {"reviewed": "yes", "gone": "soon"})
    mlflow.delete_logged_model_tag(logged.model_id, "gone")
took = time.monotonic() - began
found = mlflow.get_logged_model(logged.model_id)
tell(
    model=logged.model_id, run=run.info.run_id, took=took, status=str(found.status), tags=found.tags, params=len(found.params), metrics=sorted(each.key for each in found.metrics),
    info=mlflow.models.get_model_info(logged.model_uri).model_id, read=[read_back(logged.model_uri), read_back(f"runs:/{run.info.run_id}/model")],
    outputs=[each.model_id for each in mlflow.get_run(run.info.run_id).outputs.model_outputs], last=mlflow.last_logged_model().model_id,
    files=sorted(each.path for each in mlflow.MlflowClient().list_logged_model_artifacts(logged.model_id)),
    searched=[each.model_id for each in mlflow.search_logged_models(filter_string=f"name = 'model' and source_run_id = '{run.info.run_id}'", output_format="list")],
)
"""
LATER = """
mlflow.models.infer_pip_requirements = lambda *_, **__: ["scikit-learn"]  # which takes some seconds
mlflow.sklearn.autolog(log_datasets=False, serialization_format="skops")
with mlflow.start_run() as run:
    LogisticRegression().fit(X, y)
(made,) = mlflow.get_run(run.info.run_id).outputs.model_outputs
found = mlflow.get_logged_model(made.model_id)
tell(model=made.model_id, status=str(found.status), read=read_back(found.model_uri), training="training_score" in {each.key for each in found.metrics})
"""
REGISTER = """
began = time.monotonic()
try:
    log_model(name="registered", registered_model_name="delay")
except mlflow.MlflowException as error:
    tell(refused=str(error), model=mlflow.last_logged_model().model_id, took=time.monotonic() - began)
"""


@pytest.fixture
def stage(tracking_stage: Stage) -> Stage:
    return tracking_stage


class Notebook:
    """A kernel of a run of record in a workspace of its own, behind a proxy of its own."""

    def __init__(self, stage: Stage, root: Path, experiment: str) -> None:
        self.stage, self.root, self.experiment, self.proxy = stage, root, experiment, Proxy(stage.port)
        self.proxy.delay = 0.7
        root.mkdir()
        (root / "settings.ini").write_text("[mltoolkit]\n")
        self.processes: list[int] = []

    def run(self, *code: str) -> None:
        """Begin to run code."""
        begun = f"EXPERIMENT = {self.experiment!r}\n"
        self.processes.append(self.stage.start("run", str(self.root), self.proxy.uri, begun + "\n".join(code), str(self.root / f"output-{len(self.processes)}")))

    def told(self) -> list[dict[str, Any]]:
        """Wait for it, and return what it told."""
        for process in self.processes:
            ended(process)
        texts = [path.read_text() for path in sorted(self.root.glob("output-*"))]
        assert not any("Traceback" in text for text in texts), texts
        return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]

    def sync(self) -> int:
        """Begin what `mltoolkit runs sync` does, with a server that is well."""
        self.proxy.fate = lambda: "well"
        return self.stage.start("sync", str(self.root), self.proxy.uri, str(self.root / "answer"))

    def report(self, syncing: int) -> dict[str, Any]:
        """What it came to."""
        ended(syncing)
        report: dict[str, Any] = json.loads((self.root / "answer").read_text())
        assert report["complete"], report
        rejected = self.root / ".mltoolkit" / "spool" / "rejected.jsonl"
        assert not rejected.exists(), rejected.read_text()
        return report


@pytest.fixture
def proxy(stage: Stage) -> Iterator[Proxy]:
    """An address that no other test has, as MLflow keeps a store for each."""
    found = Proxy(stage.port)
    yield found
    found.close()


@pytest.fixture
def client(proxy: Proxy, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """A client as in the kernel of a run of record, in this process."""
    for module, name, value in ((delivery, "SETTLING", 0.5), (spooled_store, "_SILENCE", 0.1), (spooled_store, "_ANSWER", 2.0)):
        monkeypatch.setattr(module, name, value)
    uri = proxy.uri
    (bare_workspace / "settings.ini").write_text(f"[mltoolkit]\ntracking_uri = {uri}\n")
    for name, value in {"SPOOL_FOLDER": str(spool.spool_folder(bare_workspace)), "SPOOL_TARGET": uri}.items():
        monkeypatch.setenv(f"MLTOOLKIT_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    found = MlflowClient(uri)
    assert isinstance(store_of(found), SpooledModelStore)
    yield found
    store_of(found).spool.close()


def store_of(client: MlflowClient) -> SpooledModelStore:
    found: SpooledModelStore = client._tracking_client.store
    return found


def arrived(client: MlflowClient, root: Path) -> Report:
    """Ship all that was logged."""
    store_of(client).spool.close()
    report = sync(start=root)
    assert report.complete, report
    return report


def new_experiment(stage: Stage, name: str) -> str:
    return str(json.loads(ask(stage.port, "POST", "/api/2.0/mlflow/experiments/create", {"name": name}))["experiment_id"])


@pytest.fixture
def notebook(stage: Stage, tmp_path: Path) -> Iterator[Callable[[str], Notebook]]:
    """Makes notebooks."""
    made: list[Notebook] = []

    def make(experiment: str) -> Notebook:
        made.append(Notebook(stage, tmp_path / str(len(made)), experiment))
        return made[-1]

    yield make
    for each in made:
        each.proxy.close()


def models(stage: Stage, experiment: str) -> dict[str, dict[str, Any]]:
    """What the server has of an experiment's models, by the ids under which the notebook knows them."""
    found = {}
    for own, name, status, run, place in stage.rows(
        "select m.model_id, m.name, m.status, m.source_run_id, m.artifact_location from logged_models m join experiments e on e.experiment_id = m.experiment_id"
        " where e.name = ? and m.lifecycle_stage = 'active'", experiment,
    ):  # fmt: skip
        tags = dict(stage.rows("select tag_key, tag_value from logged_model_tags where model_id = ?", own))
        assert tags[CREATED_AS] not in found, "a model is there twice"
        folder = stage.folder / "files" / place.removeprefix("mlflow-artifacts:/")
        found[tags[CREATED_AS]] = {
            "id": own, "name": name, "ready": status == 2, "run": run, "tags": tags,
            "params": dict(stage.rows("select param_key, param_value from logged_model_params where model_id = ?", own)),
            "metrics": sorted(stage.rows("select metric_name, metric_value, metric_step, run_id from logged_model_metrics where model_id = ?", own)),
            "outputs": stage.rows("select source_id from inputs where destination_id = ? and source_type = 'RUN_OUTPUT'", own),
            "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
            "MLmodel": (folder / "MLmodel").read_text() if (folder / "MLmodel").exists() else "", "place": place,
        }  # fmt: skip
    return found


def told_of(told: dict[str, Any]) -> tuple[Any, ...]:
    return told["status"], told["params"], told["metrics"], told["info"], told["last"], told["read"], told["outputs"], told["searched"]


def expected(model: str) -> tuple[Any, ...]:
    return "READY", 120, ["loss", "other", "predicted_rate"], model, model, [True, True], [model], [model]


def check(stage: Stage, experiment: str, told: dict[str, Any]) -> None:
    """The server has the one model that was trained."""
    ((known, there),) = ((known, each) for known, each in models(stage, experiment).items() if each["name"] == "model" and each["tags"].get("kind"))
    assert known == there["tags"][CREATED_AS]
    assert told["model"] in (known, there["id"])
    run = there["run"]
    assert there["outputs"] == [(run,)]
    assert (there["name"], there["ready"], there["params"]) == ("model", True, {f"p{number}": str(number) for number in range(120)})
    assert there["metrics"] == [("loss", 0.5, 0, run), ("other", 0.125, 3, run), ("predicted_rate", 0.25, 0, run)]
    assert (there["tags"]["kind"], there["tags"]["reviewed"], "gone" in there["tags"]) == ("linear", "yes", False)
    assert there["files"] == told["files"]
    described = {line.partition(": ")[0]: line.partition(": ")[2] for line in there["MLmodel"].splitlines()}
    assert (described["model_id"], described["model_uuid"], described["run_id"], described["artifact_path"]) == (there["id"], there["id"], run, there["place"])
    values = stage.rows("select key, value, step from metrics where run_uuid = ?", run)
    assert sorted(values) == [("loss", 0.5, 0), ("other", 0.125, 3), ("predicted_rate", 0.25, 0)]


def test_a_server_that_is_away(stage: Stage, notebook: Callable[[str], Notebook]) -> None:
    night = notebook("away")
    night.proxy.fate = lambda: "refused"
    night.run(FIT, TRAIN, LATER, REGISTER)
    told, later, registered = night.told()
    assert told["took"] < 15
    assert told_of(told) == expected(told["model"])
    assert {"MLmodel", "model.skops"} <= set(told["files"])
    assert (later["read"], later["status"], later["training"]) == (True, "READY", True)
    assert "delay gets no version now" in registered["refused"]
    assert "once `mltoolkit runs sync` has shipped it, mlflow.register_model('models:/<its model_id>', 'delay') registers it" in registered["refused"]
    assert registered["took"] < 10
    night.report(night.sync())
    night.run(f"import mlflow\nmlflow.register_model('models:/{registered['model']}', 'delay')")
    there = models(stage, "away")
    auto = there[later["model"]]
    assert (auto["ready"], auto["outputs"], "model.pkl" in auto["files"] or "model.skops" in auto["files"]) == (True, [(auto["run"],)], True)
    check(stage, "away", told)
    night.told()
    kept = there[registered["model"]]
    assert stage.rows("select run_id, source from model_versions where name = 'delay'") == [(kept["run"], f"models:/{kept['id']}")]


def test_a_server_that_answers_has_it_as_ever(stage: Stage, notebook: Callable[[str], Notebook]) -> None:
    day = notebook("well")
    day.run(FIT, TRAIN)
    (told,) = day.told()
    assert told_of(told) == expected(told["model"])
    check(stage, "well", told)
    ((known, there),) = models(stage, "well").items()
    assert told["model"] == there["id"] != known, "it has the id that the server gave"
    day.report(day.sync())
    check(stage, "well", told)


LIGHT = """
import json, os, pathlib, sys, time
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric
from mltoolkit.record import spooled_store

spooled_store._SLOW = spooled_store._ANSWER = PATIENCE
client = MlflowClient()
folder = pathlib.Path("made")
folder.mkdir(exist_ok=True)
run = client.create_run(EXPERIMENT_ID, run_name="light").info.run_id
model = client.create_logged_model(EXPERIMENT_ID, name="light", source_run_id=run, params={f"p{number}": str(number) for number in range(120)}, tags={"kind": "light"})
(folder / "MLmodel").write_text(f"artifact_path: {model.artifact_location}\\nmodel_id: {model.model_id}\\nrun_id: {run}\\n")
(folder / "weights").write_text("1 2 3")
print(json.dumps({"model": model.model_id, "run": run}))
client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
client.log_batch(run, [Metric("auc", 0.75, 1000, 0, model_id=model.model_id)])
client.log_model_artifacts(model.model_id, "made")
client.set_logged_model_tags(model.model_id, {"phase": "over"})
client.log_model_params(model.model_id, {"late": "1"})
found = client.finalize_logged_model(model.model_id, "READY")
assert (found.model_id, str(found.status), found.tags["phase"], found.params["late"], found.source_run_id) == (model.model_id, "READY", "over", "1", run), vars(found)
"""


def experiment_of(stage: Stage, name: str) -> str:
    """Make an experiment; its id as a line of code."""
    return f"EXPERIMENT_ID = {new_experiment(stage, name)!r}"


def check_light(stage: Stage, night: Notebook) -> None:
    (told,) = night.told()
    ((known, there),) = models(stage, night.experiment).items()
    run = there["run"]
    assert told["model"] in (known, there["id"])
    assert (there["ready"], there["outputs"], there["tags"]["phase"], there["params"]["late"], len(there["params"])) == (True, [(run,)], "over", "1", 121)
    assert (there["metrics"], there["files"]) == ([("auc", 0.75, 0, run)], ["MLmodel", "weights"])
    assert there["MLmodel"] == f"artifact_path: {there['place']}\nmodel_id: {there['id']}\nrun_id: {run}\n"
    assert stage.rows("select r.run_uuid from runs r join experiments e on e.experiment_id = r.experiment_id where e.name = ? and r.lifecycle_stage = 'active'", night.experiment) == [(run,)]


def at(number: int, fate: str, then: str = "well", do: Callable[[], object] = lambda: None) -> Callable[[], str]:
    """One request fares badly, or from that one on all do."""
    count = itertools.count()

    def chosen() -> str:
        now = next(count)
        if now == number:
            do()
        return "well" if now < number else fate if now == number else then

    return chosen


STEPS = range(14)  # requests of a notebook with LIGHT


def test_whichever_request_the_server_goes_away_at(stage: Stage, notebook: Callable[[str], Notebook]) -> None:
    nights = []
    for number in STEPS:
        for fate, then in (("lost", "well"), (("500", "refused") if number % 2 else ("lost", "refused")))[: 1 + (number % 3 == 0)]:
            night = notebook(f"gone at {number}, {fate}, {then}")
            night.proxy.fate = at(number, fate, then)
            night.run(experiment_of(stage, night.experiment), "PATIENCE = 5.0", LIGHT)
            nights.append(night)
        assert [each.told() for each in nights[-2:]]
    night = notebook("slow all the time")
    night.proxy.fate = lambda: "delayed"
    night.run(experiment_of(stage, night.experiment), "PATIENCE = 0.3", LIGHT)
    nights.append(night)
    assert night.told()
    for night, syncing in [(night, night.sync()) for night in nights]:
        night.report(syncing)
        check_light(stage, night)



def test_wherever_the_shipper_is_killed(stage: Stage, notebook: Callable[[str], Notebook]) -> None:
    """After the server has done what it was asked, and before that is noted."""
    nights = []
    for number in (3, 5, 6, 8, 13, 16):
        night = notebook(f"killed at {number}")
        night.proxy.fate = lambda: "refused"
        night.run(experiment_of(stage, night.experiment), "PATIENCE = 0.3", LIGHT)
        nights.append((number, night))
    killed = []
    for number, night in nights:
        night.told()
        worker = stage.start("ship", str(night.root), night.proxy.uri)
        night.proxy.fate = at(number, "lost", do=lambda worker=worker: kill(worker))  # type: ignore[misc]
        killed.append(worker)
    for worker in killed:
        ended(worker)
    for night, syncing in [(night, night.sync()) for _, night in nights]:
        assert night.report(syncing)["delivered"] > 0
        check_light(stage, night)


def names(found: Any) -> list[str]:
    return [each.name for each in found]


def test_what_is_asked_while_the_server_is_away(stage: Stage, proxy: Proxy, client: MlflowClient, bare_workspace: Path) -> None:
    experiment = new_experiment(stage, "asked")
    before = client.create_logged_model(experiment, name="before", tags={"kind": "old"})
    proxy.fate = lambda: "refused"
    run = client.create_run(experiment).info.run_id
    client.log_batch(run, [Metric("loss", 0.5, 1000, step) for step in range(3)])
    made = client.create_logged_model(experiment, source_run_id=run, params={"depth": "3"}, tags={"kind": "new"}, model_type="tree")
    client.log_outputs(run, [LoggedModelOutput(made.model_id, 2)])
    client.log_batch(run, [Metric("auc", 0.75, 1000, 0, model_id=made.model_id)])
    assert [each.step for each in client.get_metric_history(run, "loss")] == [0, 1, 2]
    assert client.get_run(run).outputs.model_outputs == [LoggedModelOutput(made.model_id, 2)]
    (bare_workspace / "model" / "data").mkdir(parents=True)
    (bare_workspace / "model" / "MLmodel").write_text(f"model_id: {made.model_id}\n")
    (bare_workspace / "model" / "data" / "weights").write_text("1 2 3")
    client.log_model_artifacts(made.model_id, "model")
    client.log_model_artifact(made.model_id, "model/data/weights")
    client.log_artifact(run, "model/data/weights", "extra")

    def files() -> Any:
        place = Path(mlflow.artifacts.download_artifacts(made.model_uri))
        folder = [(each.path, each.is_dir) for each in client.list_logged_model_artifacts(made.model_id, "data")]
        below = [each.path for each in client.list_artifacts(run, "extra")]
        return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file() and path.name != "registered_model_meta"), folder, below

    assert files() == (["MLmodel", "data/weights", "weights"], [("data/weights", False)], ["extra/weights"])
    assert client.list_logged_model_artifacts(made.model_id, "data/weights") == []
    with pytest.raises(MlflowException, match="please ensure that the path is correct"):
        mlflow.artifacts.download_artifacts(f"runs:/{run}/extra/nothing")
    for asked, expected in {
        "params.depth = '3'": [made.name], "tags.kind != 'new'": ["before"], "metrics.auc > 0.7": [made.name], "metrics.auc > 0.8": [],
        "model_type = 'tree' and status = 'PENDING'": [made.name], "creation_timestamp > 0": [made.name, "before"], "name = 'no'": [],
    }.items():  # fmt: skip
        assert names(client.search_logged_models([experiment], asked)) == expected, asked
    assert names(client.search_logged_models([experiment], max_results=1)) == [made.name]
    with pytest.raises(MlflowException, match="looked for by LIKE when the tracking server answers"):
        client.search_logged_models([experiment], "name LIKE 'b%'")
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        client.search_logged_models([experiment], order_by=[{"field_name": "metrics.auc"}])
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        client.get_logged_model("m-" + "0" * 32)
    with pytest.raises(MlflowException, match="Invalid model name"):
        client.create_logged_model(experiment, name="a/b")
    client.set_logged_model_tags(before.model_id, {"late": "yes"})
    client.delete_logged_model_tag(before.model_id, "kind")
    assert client.get_logged_model(before.model_id).tags == {CREATED_AS: before.tags[CREATED_AS], "late": "yes"}
    assert str(client.finalize_logged_model(made.model_id, "READY").status) == "READY"
    with pytest.raises(MlflowException, match="asked gets no version now"):
        mlflow.register_model(made.model_uri, "asked")

    proxy.fate = lambda: "well"
    assert arrived(client, bare_workspace).rejected == 0
    assert files() == (["MLmodel", "data/weights", "weights"], [("data/weights", False)], ["extra/weights"])
    there = models(stage, "asked")[made.model_id]
    assert (there["MLmodel"], there["metrics"]) == (f"model_id: {there['id']}\n", [("auc", 0.75, 0, there["run"])])
    found = client.get_logged_model(made.model_id)
    assert (found.model_id, found.source_run_id, found.artifact_location) == (made.model_id, run, there["place"])
    assert client.get_run(run).outputs.model_outputs == [LoggedModelOutput(made.model_id, 2)]
    assert [(each.model_id, each.source_run_id or None) for each in client.search_logged_models([experiment], order_by=[{"field_name": "metrics.auc"}])] == [(made.model_id, run), (before.model_id, None)]
    assert len(client.get_metric_history(run, "loss")) == 3
    version = mlflow.register_model(made.model_uri, "asked")
    assert (version.run_id, version.source) == (there["run"], f"models:/{there['id']}")


def test_what_the_server_refuses(stage: Stage, proxy: Proxy, client: MlflowClient, bare_workspace: Path) -> None:
    experiment = new_experiment(stage, "refused")
    made = client.create_logged_model(experiment, params={"depth": "3"})
    with pytest.raises(MlflowException, match="UNIQUE constraint failed"):
        client.log_model_params(made.model_id, {"depth": "4"})
    proxy.fate = lambda: "refused"
    client.log_model_params(made.model_id, {"depth": "5", "width": "8"})
    gone = client.create_logged_model("4711", name="nowhere")
    client.finalize_logged_model(gone.model_id, "FAILED")
    proxy.fate = lambda: "well"
    assert arrived(client, bare_workspace).rejected == 3
    refused = [json.loads(line) for line in (spool.spool_folder(bare_workspace) / "rejected.jsonl").read_text().splitlines()]
    assert [(each["run_id"], each["operation"]) for each in refused] == [(made.model_id, "describe"), (gone.model_id, "model"), (gone.model_id, "finalize")]
    assert client.get_logged_model(made.model_id).params == {"depth": "3", "width": "8"}


def test_secrets_do_not_pass(stage: Stage, proxy: Proxy, client: MlflowClient, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard_mlflow()
    monkeypatch.setattr(_Passage, "outlet", Outlet({"PASSWORD": "hunter2hunter2"}))
    secret, experiment = "hunter2hunter2", new_experiment(stage, "secret")
    proxy.fate = lambda: "refused"
    made = client.create_logged_model(experiment, name=f"of {secret}", params={"word": secret}, tags={"word": secret}, model_type=secret)
    client.log_model_params(made.model_id, {"late": secret})
    client.set_logged_model_tags(made.model_id, {"late": secret})
    Path("weights.txt").write_text(secret)
    client.log_model_artifact(made.model_id, "weights.txt")
    kept = [path.read_bytes() for path in spool.spool_folder(bare_workspace).rglob("*") if path.is_file()]
    assert not any(secret.encode() in each for each in kept)
    proxy.fate = lambda: "well"
    assert arrived(client, bare_workspace).rejected == 0
    found = client.get_logged_model(made.model_id)
    assert (found.params, found.tags["late"], found.model_type) == ({"word": "[secret:PASSWORD]", "late": "[secret:PASSWORD]"}, "[secret:PASSWORD]", "[secret:PASSWORD]")


def test_a_database_is_told_as_ever(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = tracking.workspace_environment(workspace)["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLTOOLKIT_SPOOL_FOLDER", str(spool.spool_folder(workspace)))
    monkeypatch.setenv("MLTOOLKIT_SPOOL_TARGET", uri)
    client = MlflowClient(uri)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", 0.5)
    made = client.create_logged_model("0", name="model", source_run_id=run, params={"depth": "3"})
    client.log_outputs(run, [LoggedModelOutput(made.model_id, 0)])
    client.set_logged_model_tags(made.model_id, {"kind": "tree"})
    client.finalize_logged_model(made.model_id, "READY")
    there = store_of(client).plain.get_logged_model(made.model_id)
    assert (there.params, there.tags, str(there.status), there.source_run_id) == ({"depth": "3"}, {"kind": "tree"}, "READY", run)
    assert names(client.search_logged_models(["0"], "name LIKE 'mod%'")) == ["model"]
    assert [each.value for each in client.get_metric_history(run, "loss")] == [0.5]
    store_of(client).spool.close()
