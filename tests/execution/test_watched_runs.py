"""A run of record whose loss goes wrong says so while it runs and afterwards, and has the machine's figures if they are wanted."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from processes import wait_for

from mltoolkit import cli
from mltoolkit.errors import KernelDied, NotebookFailed
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document
from mltoolkit.record import runs, tracking
from mltoolkit.record.anomalies import RECORDS
from mltoolkit.record.manifest import published_schema

Write = Callable[..., Path]

TRAIN = """
import numpy as np
from mltoolkit import watch
with watch(stop="nan", patience=3) as watching:
    import mlflow
    from sklearn.linear_model import SGDClassifier
    X = np.random.default_rng(0).normal(size=(64, 2))
    model, trained = SGDClassifier(loss="log_loss", random_state=0), 0
    with mlflow.start_run():
        for epoch in range(20):
            model.partial_fit(X, X[:, 0] > 0, classes=[False, True])
            trained += 1
            if epoch == 6:
                model.coef_[:] = np.nan  # what a bad batch does
            margin = (2 * (X[:, 0] > 0) - 1) * (X @ model.coef_[0])
            mlflow.log_metrics({"log_loss": float(np.mean(np.logaddexp(0, -margin))) / (1 + epoch), "flat_accuracy": 0.5}, step=epoch)
"""


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_notebook_whose_loss_is_no_number_any_more(workspace: Path, write: Write, monkeypatch: pytest.MonkeyPatch, warm: bool) -> None:
    monkeypatch.setenv("MLTOOLKIT_SYSTEM_METRICS", "yes")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    monkeypatch.setenv("MLTOOLKIT_PRELOAD", "mlflow, numpy, sklearn.linear_model")
    monkeypatch.setenv("MLTOOLKIT_WARM", "yes" if warm else "no")
    with pytest.raises(NotebookFailed, match="TrainingStopped: log_loss is NaN at step 6") as caught:
        run_notebook(write("train.ipynb", TRAIN, "never = 1"), warm=warm)
    run = caught.value.run
    assert run.warnings == []
    assert run.kernel.warm is warm

    # While it ran: the line among the outputs, where it happened.
    printed = "".join(output.get("text", "") for cell in document.read(run.output).cells for output in cell.get("outputs", []))
    assert "mltoolkit.watch: flat_accuracy has not improved over 3 values at step 3 (best: 0.5 at step 0)\n" in printed
    assert "mltoolkit.watch: log_loss is NaN at step 6 (before: " in printed

    # On its record, by the published schema; the notes of it are not left beside it.
    assert [(each.what, each.metric, each.step, each.run_id) for each in run.anomalies] == [
        ("stall", "flat_accuracy", 3, run.run_id), ("nan", "log_loss", 6, run.run_id),
    ]  # fmt: skip
    written = json.loads((runs.runs_folder(workspace) / run.run_id / runs.MANIFEST).read_text())
    jsonschema.Draft202012Validator(published_schema()).validate(written)
    assert written["anomalies"][1]["value"] == "NaN"
    assert not (runs.runs_folder(workspace) / run.run_id / RECORDS).exists()

    # In the store, where it can be searched for.
    store = tracking.client(workspace)
    record = store.get_run(run.run_id)
    assert [each["what"] for each in json.loads(record.data.tags["mltoolkit.watch"])] == ["stall", "nan"]
    found = store.search_runs([record.info.experiment_id], "tags.`mltoolkit.watch` LIKE '%\"nan\"%'")
    assert [each.info.run_id for each in found] == [run.run_id]
    assert [point.step for point in store.get_metric_history(run.run_id, "log_loss")] == list(range(7))

    # What the machine did, until the end and once each.
    steps = [point.step for point in store.get_metric_history(run.run_id, "system/cpu_utilization_percentage")]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 1
    assert record.data.metrics["system/system_memory_usage_megabytes"] > 0
    assert not [thread for thread in threading.enumerate() if "SystemMetrics" in thread.name]

    # And for whoever asks.
    shown = CliRunner().invoke(cli.main, ["show", "latest"])
    assert "noticed  log_loss is NaN at step 6 (before: " in shown.stdout
    as_json = json.loads(CliRunner().invoke(cli.main, ["show", "latest", "--json"]).stdout)
    assert [each["step"] for each in as_json["anomalies"]] == [3, 6]


MARK = "from mltoolkit import watch\nwatch().observe({'loss': float('inf')}, 4)\n"


def test_what_was_noticed_is_said_of_a_run_that_goes_on_of_one_that_died_and_of_one_without_a_store(workspace: Path, write: Write, tiny: str) -> None:
    notebook = write("dies.ipynb", MARK + "import os, pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)\nos._exit(9)", kernel=tiny)
    seen: list[str] = []

    def look() -> None:
        folder = wait_for(lambda: [path.parent for path in runs.runs_folder(workspace).glob(f"*/{RECORDS}") if path.read_text()], "a note")[0]
        seen.append(CliRunner().invoke(cli.main, ["show", folder.name]).stdout)
        Path("go").touch()

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(KernelDied) as caught:
        run_notebook(notebook, track=False)
    looking.join()
    assert "running" in seen[0]
    assert "noticed  loss is inf at step 4" in seen[0]
    assert [each.text for each in caught.value.run.anomalies] == ["loss is inf at step 4"]

    done = CliRunner().invoke(cli.main, ["run", str(write("fine.ipynb", MARK, kernel=tiny)), "--no-track"])
    assert done.exit_code == 0, done.output
    assert "mltoolkit: noticed: loss is inf at step 4\n" in done.stderr
