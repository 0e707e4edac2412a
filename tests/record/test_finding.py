"""Which run was it: questions to the store, from a model or file to its run, and what a repetition would lack."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from records import HERE, keep, tracked

from mltoolkit.cli import main
from mltoolkit.errors import Invalid, RunNotFound, Status
from mltoolkit.record import finding, inputs, manifest, tracking
from mltoolkit.record.dataset import save_dataset
from mltoolkit.record.finding import Question, find_runs, made_by, repeatability


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def use(name: str, version: int, event: str = "read") -> dict[str, Any]:
    return {"event": event, "name": name, "version": version, "digest": f"{version:032x}", "digest_version": 1, "rows": 3, "columns": 1, "uri": "x"}


@pytest.fixture
def four(workspace: Path) -> tuple[Any, list[str]]:
    """Four runs, two notebooks, and what they are told apart by; one of them trained a model in a child."""
    store = tracking.client(workspace)
    ids = []
    for number in range(4):
        tags = {
            "mltoolkit.project": "flights" if number else "o'hara", "mltoolkit.job": "flights/train" if number == 1 else "",
            "mltoolkit.notebook": f"projects/flights/0{number % 2}_train.ipynb", "mltoolkit.user": "me" if number < 2 else "you",
            "mltoolkit.git_commit": f"{number}abcdef{number:033x}",
        }  # fmt: skip
        run_id = tracked(store, workspace, Status.failed if number == 3 else Status.succeeded, tags={name: each for name, each in tags.items() if each})
        store.log_param(run_id, "depth", number + 9)
        store.log_param(run_id, "rate", 0.1 * number)
        store.log_param(run_id, "kind", "it's" if number == 2 else "plain")
        store.log_param(run_id, "flag", number == 0)
        store.log_metric(run_id, "val/rmse", number / 2)
        store.log_inputs(run_id, [inputs.mlflow_input(use("flights/2013", number % 3 + 1))])
        ids.append(run_id)
    return store, ids


def test_runs_are_found_by_all_that_is_known_of_them(four: tuple[Any, list[str]]) -> None:
    store, ids = four

    def found(**question: Any) -> list[int]:
        return sorted(ids.index(row.run_id) for row in find_runs(Question(**question)))

    assert found() == [0, 1, 2, 3]
    for question, expected in {
        ("project", "flights"): [1, 2, 3], ("project", "o'hara"): [0], ("job", "flights/train"): [1], ("user", "you"): [2, 3],
        ("status", "failed"): [3], ("commit", "2abc"): [2], ("commit", "3ABCDEF"): [3], ("commit", "ffff"): [],
        ("notebook", "01_train.ipynb"): [1, 3], ("notebook", "flights/01_train.ipynb"): [1, 3], ("notebook", "1_train.ipynb"): [],
        ("notebook", "01_TRAIN.ipynb"): [], ("dataset", "flights/2013"): [0, 1, 2, 3], ("dataset", "flights/2013@1"): [0, 3], ("dataset", "flights/2013@9"): [],
        ("dataset", "flights"): [],
    }.items():  # fmt: skip
        assert found(**{question[0]: question[1]}) == expected, question
    for compared, expected in {
        "depth=9": [0], "depth>9": [1, 2, 3], "depth<=10": [0, 1], "depth != 12": [0, 1, 2], "depth>=1e1": [1, 2, 3], "rate=0.10": [1], "rate<.15": [0, 1],
        "kind=plain": [0, 1, 3], "kind=it's": [2], "kind!=plain": [2], "kind<j": [2], "kind<5": [], "flag=true": [0], "flag==True": [0], "flag=false": [1, 2, 3], "none=1": [], "none!=1": [],
    }.items():  # fmt: skip
        assert found(parameters=[compared]) == expected, compared
    for compared, expected in {"val/rmse<0.5": [0], "val/rmse <= 0.5": [0, 1], "val/rmse!=1": [0, 1, 3], "val/rmse>=1.5": [3], "rmse<9": []}.items():
        assert found(metrics=[compared]) == expected, compared
    assert found(metrics=["val/rmse>0", "val/rmse<1.5"], parameters=["depth<11"], user="me", dataset="flights/2013@2") == [1]

    began = [datetime.fromtimestamp(store.get_run(each).info.start_time / 1000, UTC) for each in ids]
    assert found(since=began[1]) == [1, 2, 3]
    assert found(until=began[1]) == [0]
    assert found(since="1h") == found(until=str(datetime.now().astimezone().date())) == [0, 1, 2, 3]
    assert found(until="1h") == found(since=(began[3] + timedelta(seconds=1)).isoformat()) == []
    newest = find_runs(Question(dataset="flights/2013@1"), limit=1)
    assert [(row.run_id, row.parameters["depth"], (row.git_commit or "")[:4]) for row in newest] == [(ids[3], "12", "3abc")]

    assert json.loads(run("runs", "--metric", "val/rmse<1", "--state", "succeeded", "--json").stdout)[0]["run_id"] == ids[1]
    assert "no run answers to that" in run("runs", "list", "--user", "nobody").stdout
    assert len(run("runs", "--parameter", "depth>10", "--until", "2999-01-01").stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--metric", "rmse"], "'rmse' is no comparison; write NAME=VALUE"),
        (["--metric", "rmse<low"], "a metric is a number, and 'low' is none"),
        (["--parameter", "a`b=1"], "is no comparison"),
        (["--commit", "HEAD~1"], "'HEAD~1' is no commit"),
        (["--since", "yesterday"], "'yesterday' is no time; write 2026-03-01"),
        (["--since", "99999999999999999d"], "is no time"),
        (["--dataset", "a@b"], "'a@b' names no version of a dataset; write NAME@3"),
        (["--status", "done"], "no status is called 'done'; they are running, succeeded"),
        (["--user", "a'\"b"], "it has both kinds of quotation marks"),
    ],
)
def test_what_cannot_be_asked_is_refused(bare_workspace: Path, options: list[str], said: str) -> None:
    done = run("runs", *options)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (bare_workspace / ".mltoolkit").exists()


def test_from_a_model_or_a_file_to_its_run(four: tuple[Any, list[str]], workspace: Path) -> None:
    store, ids = four
    experiment = store.get_run(ids[0]).info.experiment_id
    child = store.create_run(experiment, tags={**HERE, "mltoolkit.record": ids[2], "mlflow.parentRunId": ids[2]})
    logged = store.create_logged_model(experiment, name="delay", source_run_id=child.info.run_id)
    store.create_registered_model("delay")
    for source in (ids[1], child.info.run_id):
        store.create_model_version("delay", "file:///nowhere", source)
    store.create_model_version("delay", "file:///nowhere", None)
    store.set_registered_model_alias("delay", "champion", "1")
    for name, number in {
        "models:/delay/1": 1, "models:/delay/2": 2, "models:/delay@champion": 1, "models:/delay": 2, logged.model_id: 2, f"models:/{logged.model_id}": 2,
        f"s3://bucket/0/models/{logged.model_id}/artifacts/MLmodel": 2, f"s3://bucket/0/{ids[3]}/artifacts/plots/a.png": 3,
        f"mlflow-artifacts:/0/{child.info.run_id}/artifacts/a.png": 2, f"runs:/{ids[0]}": 0, f"runs:/{ids[0]}/plots/a.png": 0, ids[1][:20]: 1,
        f".mltoolkit/runs/{ids[0]}/checkpoints/3/state.json": 0,
    }.items():  # fmt: skip
        assert made_by(name).run_id == ids[number], name
    assert {row.run_id for row in find_runs(Question(model="delay"))} == {ids[1], ids[2]}
    assert [row.run_id for row in find_runs(Question(model="models:/delay@champion"))] == [ids[1]]
    for name, said in {
        "models:/none/1": "no model is called 'models:/none/1': ", "models:/none": "none of that name is registered", "models:/delay@loser": "no model is called",
        "models:/delay/3": "the store does not say which run logged it", "models:/none/latest": "none of that name is registered", "models:/delay/latest": "does not say", "out/a.ipynb": "no recorded run wrote",
        f"s3://bucket/{'0' * 32}/a": "no recorded run", "zz": "no recorded run is called 'zz'",
    }.items():  # fmt: skip
        with pytest.raises(RunNotFound, match=said):
            made_by(name)
    assert "depth" not in json.loads(run("show", "models:/delay@champion", "--json").stdout)["parameters"]
    assert f"       run  {ids[2]}" in run("show", logged.model_id).stdout
    assert run("show", "models:/delay@loser").exit_code == 2


# --- can it be repeated


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_what_a_repetition_would_lack(workspace: Path) -> None:
    git("init", "-q")
    (workspace / "a.ipynb").write_text("{}")
    git("add", "a.ipynb")
    git("commit", "-qm", "a")
    commit = git("rev-parse", "HEAD")
    saved = save_dataset(pd.DataFrame({"a": [1, 2]}), "numbers")
    read = manifest.DatasetUse(event="read", name="numbers", version=1, digest=saved.digest, uri="/nowhere/numbers")
    whole = {"git": manifest.GitState(commit=commit), "environment": manifest.Machine(packages={"pandas": "2"}), "datasets": [read]}

    def lacks(**fields: Any) -> list[str]:
        made = manifest.Run(run_id="a", status=Status.succeeded, notebook="a.ipynb", kernel=manifest.Kernel(name="python3"), started_at=datetime.now(UTC), tracked=False)
        found = repeatability(made.model_copy(update={**whole, **fields}))
        assert found.possible is not bool(found.missing)
        return found.missing

    def state(**fields: Any) -> list[str]:
        return lacks(git=manifest.GitState(**{"commit": commit, **fields}))

    assert lacks() == state(dirty=True, diff="uncommitted.diff") == []
    assert "no commit is on the record" in lacks(git=None)[0]
    assert "no commit is on the record" in state(commit=None)[0]
    assert state(commit="0" * 40) == ["commit 000000000000 is not in this clone; `git fetch` may bring it"]
    assert "were too large to keep" in state(dirty=True, diff_truncated=True)[0]
    assert "were too large to keep" in state(dirty=True)[0]
    assert lacks(notebook="ignored.ipynb") == [f"ignored.ipynb is not in commit {commit[:12]}"]
    assert lacks(environment=manifest.Machine()) == ["no list of packages is on the record"]
    assert lacks(datasets=[read.model_copy(update={"changed": True})]) == ["dataset numbers version 1 changed while the run was reading it"]
    assert lacks(datasets=[read.model_copy(update={"event": "written", "version": 7})]) == [], "what it wrote it does not need"
    gone = ["dataset numbers version 2 is gone or was altered"]
    assert lacks(datasets=[read.model_copy(update={"version": 2})]) == gone
    assert lacks(datasets=[read.model_copy(update={"digest": "0" * 32})]) == [gone[0].replace("2", "1")]
    [file] = (workspace / ".mltoolkit/data/numbers").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-200])
    assert lacks() == [gone[0].replace("2", "1")]


def test_show_says_whether_it_can_be_repeated(workspace: Path) -> None:
    run_id = tracked(tracking.client(workspace), workspace)
    shown = json.loads(run("show", run_id, "--json").stdout)
    missing = ["no commit is on the record: the notebook was in no git repository, or in one without a commit", "no list of packages is on the record"]
    assert (shown["repeatable"], shown["verifications"]) == ({"possible": False, "missing": missing, "secrets": []}, [])
    assert "repeatable  no: no commit is on the record" in run("show", "latest").stdout
    git("init", "-q")
    (workspace / "a.ipynb").write_text("{}")
    git("add", "a.ipynb")
    git("commit", "-qm", "a")
    keep(workspace, "f" * 32, secrets=["key"], git=manifest.GitState(commit=git("rev-parse", "HEAD")), environment=manifest.Machine(packages={"pandas": "2"}), tracked=False)
    assert "repeatable  yes, by all that is on the record, given key; `mltoolkit reproduce` does it" in run("show", "f" * 32).stdout


def test_refusals_carry_what_was_asked() -> None:
    with pytest.raises(Invalid) as caught:
        finding.comparison("rmse")
    assert caught.value.fields == {"comparison": "rmse"}
