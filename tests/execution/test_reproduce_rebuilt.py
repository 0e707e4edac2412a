"""A run is repeated in an environment that was really built for it, without a network; models are compared, and registered aside."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mltoolkit.cli import main
from mltoolkit.execution import rebuilding
from mltoolkit.execution.repeating import Repeater
from mltoolkit.execution.run import run_notebook
from mltoolkit.record import environment, runs, tracking
from mltoolkit.record.manifest import Run

SMALL = ("papermill", "nbclient", "ipykernel", "pydantic", "click", "pygments", "markdown-it-py", "six")


def needed(*names: str) -> dict[str, str]:
    """Packages and what they need, by version, without extras."""
    versions, found, waiting = environment.packages(), dict[str, str](), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found or name not in versions:
            continue
        found[name] = versions[name]
        try:
            asked = [Requirement(each) for each in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def told(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["reproduce", *arguments, "--json"], catch_exceptions=False)
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.exit_code == (0 if answer["verdict"] == "identical" else 1)
    return answer


def recorded_with(run: Run, packages: dict[str, str], root: Path) -> None:
    """Let the record say that the run had other packages."""
    run.environment.packages = packages
    run.environment.sources = {name: address for name, address in run.environment.sources.items() if name in packages}
    (runs.runs_folder(root) / run.run_id / runs.MANIFEST).write_text(run.to_json())


def test_a_whole_notebook_in_an_environment_that_was_built_for_it(bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """From uv's cache alone: what is there needs no network, and what is not is a verdict."""
    program = "import importlib.metadata as m, six, sys\nprint(six.__version__, m.version('click'), n, sys.prefix)\nobject()"
    write("a.ipynb", program, parameters="n: int = 1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "a")
    run = run_notebook("a.ipynb", parameters={"n": 2}, track=False, gate=False)
    small = needed(*SMALL) | {"mltoolkit": environment.packages()["mltoolkit"]}
    assert "mlflow" not in small
    assert "pandas" not in small
    recorded_with(run, small, bare_workspace)
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    made = told(run.run_id)
    assert (made["verdict"], made["missing"], made["changed_packages"]) == ("identical", [], []), made
    assert {each["kind"] for each in made["noise"]} == {"environment", "memory address"}
    repeated = runs.find(made["repeated_run_id"])
    assert repeated.environment.packages == small
    built = Path(repeated.environment.prefix)
    assert built.parent == bare_workspace / ".mltoolkit/cache/environments"

    [facts] = built.glob("lib/python*/site-packages/six-*.dist-info/METADATA")
    altered = facts.read_text().replace(f"\nVersion: {small['six']}\n", "\nVersion: 0.9\n")
    facts.unlink()  # uv's cache, and every environment made from it, has the same file: it may not be written into
    facts.write_text(altered)
    facts.parent.rename(facts.parent.with_name("six-0.9.dist-info"))
    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "_run_uv", lambda *arguments: pytest.fail("uv is asked though the environment is there"))
        again = told(run.run_id)
    assert (again["verdict"], again["changed_packages"]) == ("different", [f"six {small['six']} -> 0.9"])
    assert [(each["what"], each["original"], each["repeated"]) for each in again["differences"]] == [("package six in the rebuilt environment", small["six"], "0.9")]

    recorded_with(run, small | {"six": "0.0.99", "sixx": "1.0"}, bare_workspace)
    gone = told(run.run_id)
    assert (gone["verdict"], gone["repeated_run_id"]) == ("cannot be repeated", None)
    assert "six" in gone["missing"][0]
    assert not list((bare_workspace / ".mltoolkit/cache/environments").glob(".*"))


TRAINING = """import mlflow, numpy as np
from sklearn.linear_model import LinearRegression
X = np.arange(6.0).reshape(3, 2)
model = LinearRegression().fit(X, [1.0, 2.0, 4.0])"""
LOGGING = """options = {"pip_requirements": ["scikit-learn"]}
with mlflow.start_run():
    mlflow.sklearn.log_model(model, name="sampled", serialization_format="skops", input_example=X, registered_model_name="delay", **options)
with mlflow.start_run():
    mlflow.sklearn.log_model(model, name="unsampled", serialization_format="cloudpickle", **options)"""


def test_models_are_compared_by_their_predictions_and_registered_aside(workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write("train.ipynb", TRAINING, LOGGING, "print(mlflow.MlflowClient().get_model_version('delay', '1').version)")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "a")
    run = run_notebook("train.ipynb", gate=False)
    store = tracking.client(workspace)
    made = told(run.run_id, "--env", "current")
    assert (made["verdict"], made["differences"], made["missing"]) == ("identical", [], []), made
    assert ("model file", "model sampled, model.skops") in [(each["kind"], each["what"]) for each in made["noise"]]
    assert [int(each.version) for each in store.search_model_versions("name = 'delay'")] == [1]
    models = {each.name: each for each in store.search_logged_models([store.get_run(run.run_id).info.experiment_id], order_by=[{"field_name": "creation_time", "ascending": False}])}
    assert models.keys() == {"sampled", "unsampled"}  # of the original, which came first

    from sklearn.linear_model import LinearRegression
    from skops.io import dump

    repeated = runs.find(made["repeated_run_id"])
    monkeypatch.setattr(Repeater, "run", lambda process, order: repeated)  # what the original left is another now
    sampled, unsampled = (Path(models[name].artifact_location.removeprefix("file://")) for name in ("sampled", "unsampled"))
    dump(LinearRegression().fit([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], [1.0, 2.0, 4.5]), sampled / "model.skops")
    shutil.rmtree(unsampled)
    found = told(run.run_id, "--env", "current")
    assert found["verdict"] == "different"
    [predicted, gone] = found["differences"] if "predictions" in found["differences"][0]["what"] else reversed(found["differences"])
    assert predicted["what"] == "model sampled, predictions"
    assert predicted["original"].startswith("/predicted/0: ")
    assert (gone["what"], gone["original"], gone["repeated"]) == ("model unsampled", "its files are gone", "a model")
