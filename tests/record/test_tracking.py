"""Tracking: where a run comes from, a store that is reached or named, a record that is opened and closed."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mltoolkit import __version__
from mltoolkit.errors import MissingExtra, Status, TrackingError
from mltoolkit.record import environment, tracking
from mltoolkit.record.tracking import RunContext


def python(code: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a user does, in an environment without any variable of ours or MLflow's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW"))}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, cwd=cwd, env=inherited | variables, capture_output=True, text=True, check=False)


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", "-C", str(root), *who, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Another process holds the database's write lock for some seconds."""
    code = """
        import sqlite3, sys, time
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        print(flush=True)
        time.sleep(float(sys.argv[2]))
        connection.execute("COMMIT")
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.kill()


@pytest.fixture(autouse=True)
def forget_the_workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process has one workspace for its runs; tests have many, and whoever imported MLflow before has told it one."""
    for name in [name for name in os.environ if name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW"))]:
        monkeypatch.delenv(name)
    tracking._workspace_with_settings.cache_clear()
    yield
    tracking._workspace_with_settings.cache_clear()


# --- which notebook


def test_the_notebooks_name_is_the_runners_then_jupyters_then_mlflows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYNB_FILE", "JPY_SESSION_NAME", "MLTOOLKIT_NOTEBOOK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert tracking.notebook_name() is None
    for name in ("IPYNB_FILE", "JPY_SESSION_NAME", "MLTOOLKIT_NOTEBOOK"):
        monkeypatch.setenv(name, f"/by/{name}")
        assert tracking.notebook_name() == f"/by/{name}"
    monkeypatch.setenv("MLTOOLKIT_NOTEBOOK", "")
    assert tracking.notebook_name() == "/by/JPY_SESSION_NAME"
    for shell, expected in [(None, "JPY_SESSION_NAME"), ({}, "JPY_SESSION_NAME"), ({"__vsc_ipynb_file__": "/by/code"}, "code")]:
        found = None if shell is None else SimpleNamespace(user_ns=shell)
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda found=found: found))  # type: ignore[arg-type]
        assert tracking.notebook_name() == f"/by/{expected}"


# --- the tags of a run


def test_provenance_of_a_notebook_in_a_repository(bare_workspace: Path) -> None:
    folder = bare_workspace / "projects" / "flights"
    folder.mkdir(parents=True)
    (folder / "train.ipynb").write_text("{}")
    git(bare_workspace, "init", "-q")
    git(bare_workspace, "add", ".")
    git(bare_workspace, "commit", "-qm", "first")
    tags = tracking.provenance(folder / "train.ipynb", root=bare_workspace, trigger="cli")
    commit = git(bare_workspace, "rev-parse", "HEAD")
    assert tags == {
        "mltoolkit.notebook": "projects/flights/train.ipynb",
        "mltoolkit.project": "flights",
        "mltoolkit.workspace": str(bare_workspace),
        "mltoolkit.git_commit": commit,
        "mltoolkit.git_dirty": "false",
        "mltoolkit.host": environment.host(),
        "mltoolkit.pid": str(os.getpid()),
        "mltoolkit.pid_start": environment.process_start(os.getpid()),
        "mltoolkit.user": environment.user(),
        "mltoolkit.version": __version__,
        "mltoolkit.trigger": "cli",
        "mlflow.source.name": "projects/flights/train.ipynb",
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": "main",
    }
    (folder / "train.ipynb").write_text("{ }")
    assert tracking.provenance(folder / "train.ipynb", root=bare_workspace)["mltoolkit.git_dirty"] == "true"


def test_provenance_of_what_lies_elsewhere_or_has_no_name(bare_workspace: Path, tmp_path: Path) -> None:
    tags = tracking.provenance(tmp_path / "gone" / "x.ipynb", root=bare_workspace)
    assert tags["mltoolkit.notebook"] == str(tmp_path / "gone" / "x.ipynb")
    assert not {"mltoolkit.project", "mltoolkit.git_commit", "mltoolkit.git_dirty"} & set(tags)
    tags = tracking.provenance(None, root=bare_workspace)
    assert tags["mltoolkit.trigger"] == "interactive"
    assert not {"mltoolkit.notebook", "mlflow.source.name", "mlflow.source.type"} & set(tags), "MLflow's own guess stays"
    assert all(tags.values())


# --- MLflow's door


def test_in_a_workspace_mlflow_learns_the_stores(workspace: Path) -> None:
    context = RunContext()
    assert context.in_context()
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{workspace}/.mltoolkit/mlflow.db"
    assert os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] == (workspace / ".mltoolkit" / "artifacts").as_uri()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert context.tags()["mltoolkit.workspace"] == str(workspace)
    assert "mltoolkit.record" not in context.tags()


def test_what_the_user_has_set_stays(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine.example.org")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    RunContext()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://mine.example.org"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert not (bare_workspace / ".mltoolkit").exists(), "nothing is kept there"


def test_outside_of_a_workspace_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")  # a repository alone is no workspace
    before = dict(os.environ)
    assert not RunContext().in_context()
    assert dict(os.environ) == before
    assert [path.name for path in tmp_path.iterdir()] == [".git"]


@pytest.mark.parametrize(("text", "inside"), [("[mltoolkit]\nseed\n", False), ("[mltoolkit]\nsead = 1\n", True), ("[mltoolkit]\n\xff", False)])
def test_a_broken_settings_file_is_not_mlflows_problem(text: str, inside: bool, bare_workspace: Path) -> None:
    (bare_workspace / "settings.ini").write_text(text, encoding="latin-1")
    before = dict(os.environ)
    assert RunContext().in_context() is inside
    assert dict(os.environ) == before


def test_a_workspace_that_cannot_be_written_to_is_not_mlflows_problem(bare_workspace: Path) -> None:
    (bare_workspace / ".mltoolkit").write_text("a file")
    assert RunContext().in_context()
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_working_directory_that_is_gone_is_not_mlflows_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert not RunContext().in_context()


def test_in_the_kernel_of_a_record_runs_are_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLTOOLKIT_RUN_ID", "r1")
    monkeypatch.setenv("MLTOOLKIT_TAGS", json.dumps({"mltoolkit.pid": "1", "mltoolkit.notebook": "a.ipynb"}))
    context = RunContext()
    assert "MLFLOW_TRACKING_URI" not in os.environ, "the runner has set what there is to set"
    assert context.in_context()
    assert context.tags() == {
        "mltoolkit.notebook": "a.ipynb", "mltoolkit.record": "r1", "mlflow.parentRunId": "r1",
        "mltoolkit.pid": str(os.getpid()), "mltoolkit.pid_start": environment.process_start(os.getpid()),
    }  # fmt: skip
    monkeypatch.delenv("MLTOOLKIT_TAGS")
    assert context.tags()["mltoolkit.record"] == "r1"


def test_a_server_needs_no_local_folder(bare_workspace: Path) -> None:
    (bare_workspace / "settings.ini").write_text("[mltoolkit]\ntracking_uri = http://h:5000\nartifact_root = s3://bucket/a\ntelemetry = on\n")
    assert tracking.workspace_environment(bare_workspace) == {
        "MLFLOW_TRACKING_URI": "http://h:5000", "_MLFLOW_SERVER_ARTIFACT_ROOT": "s3://bucket/a"
    }  # fmt: skip
    assert not (bare_workspace / ".mltoolkit").exists()


OUTSIDE = """
    import os
    before = dict(os.environ)
    import mlflow
    from mlflow.tracking.context.registry import resolve_tags
    changed = {name for name in os.environ if os.environ.get(name) != before.get(name)}
    tags = resolve_tags()
    assert not [name for name in tags if name.startswith("mltoolkit.")], tags
    assert not [name for name in changed if "TRACKING_URI" in name or "ARTIFACT" in name or "TELEMETRY" in name], changed
    assert tags["mlflow.source.type"] == "LOCAL" and "mlflow.parentRunId" not in tags, tags
    print(mlflow.get_tracking_uri())
"""


@pytest.mark.parametrize("broken", [False, True])
def test_importing_mlflow_outside_or_in_a_broken_workspace(broken: bool, tmp_path: Path) -> None:
    if broken:
        (tmp_path / "settings.ini").write_text("[mltoolkit]\nseed\n")
    done = python(OUTSIDE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / ".mltoolkit") not in done.stdout
    assert not (tmp_path / ".mltoolkit").exists()


SCRIPT = """
    import json, sys
    import mlflow
    mlflow.set_experiment("mine")
    with mlflow.start_run(tags={"mltoolkit.user": "somebody else"}) as run:
        mlflow.log_metric("m", 1.0)
        mlflow.log_text("hello", "hello.txt")
    found = mlflow.get_run(run.info.run_id)
    print(json.dumps({"tags": found.data.tags, "status": found.info.status, "artifacts": found.info.artifact_uri}))
"""


def test_a_plain_script_in_a_workspace_carries_its_provenance(workspace: Path) -> None:
    project = workspace / "projects" / "flights"
    project.mkdir(parents=True)
    git(workspace, "init", "-q")
    git(workspace, "commit", "-qm", "first", "--allow-empty")
    done = python(SCRIPT, project)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    tags = told["tags"]
    assert told["status"] == "FINISHED"
    assert told["artifacts"].startswith((workspace / ".mltoolkit" / "artifacts").as_uri() + "/")
    assert tags["mltoolkit.git_commit"] == git(workspace, "rev-parse", "HEAD")
    assert tags["mltoolkit.git_dirty"] == "true"
    assert tags["mltoolkit.workspace"] == str(workspace)
    assert tags["mltoolkit.project"] == "flights"
    assert tags["mltoolkit.host"] == environment.host()
    assert tags["mltoolkit.user"] == "somebody else", "what the user says wins"
    assert tags["mltoolkit.trigger"] == "interactive"
    assert "mltoolkit.status" not in tags, "it is no run of record"
    assert {"mltoolkit.record", "mlflow.parentRunId"}.isdisjoint(tags)
    assert list(project.iterdir()) == []
    assert sorted(path.name for path in workspace.iterdir()) == [".git", ".mltoolkit", "projects", "settings.ini"]


def test_a_kernel_started_as_jupyterlab_does_knows_its_notebook(workspace: Path) -> None:
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook

    folder = workspace / "projects" / "flights"
    folder.mkdir(parents=True)
    (folder / "look.ipynb").write_text("{}")
    code = """
        import json, os, mlflow
        mlflow.set_experiment("looking")
        run = mlflow.start_run()
        first = mlflow.get_run(run.info.run_id).data.tags
        get_ipython().user_ns["__vsc_ipynb_file__"] = os.path.abspath("in_vs_code.ipynb")
        mlflow.end_run()
        with mlflow.start_run() as run:
            pass
        print(json.dumps([first, mlflow.get_run(run.info.run_id).data.tags]))
    """
    notebook = new_notebook(cells=[new_code_cell(textwrap.dedent(code))])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW"))}
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env={**inherited, "JPY_SESSION_NAME": str(folder / "look.ipynb"), "JPY_PARENT_PID": str(os.getpid())})
    lines = "".join(output.text for output in notebook.cells[0].outputs if output.get("name") == "stdout").splitlines()
    first, second = json.loads(lines[-1])
    assert first["mltoolkit.notebook"] == first["mlflow.source.name"] == "projects/flights/look.ipynb"
    assert (first["mlflow.source.type"], first["mltoolkit.trigger"], first["mltoolkit.project"]) == ("NOTEBOOK", "interactive", "flights")
    assert second["mltoolkit.notebook"] == "projects/flights/in_vs_code.ipynb"
    assert [path.name for path in folder.iterdir()] == ["look.ipynb"]


# --- reaching a store


def refused(root: Path, uri: str, kind: type[TrackingError | MissingExtra] = TrackingError) -> str:
    with pytest.raises(kind) as caught:
        tracking.client(root, uri)
    assert "hunter2" not in str(caught.value) + str(vars(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_is_not_there_is_named_without_credentials(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    message = refused(bare_workspace, f"http://me:hunter2@127.0.0.1:{port}")
    assert message.startswith(f"the tracking store http://127.0.0.1:{port} did not accept a request: ")
    assert "refused" in message
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ, "MLflow's patience with later requests is its own"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    refused(bare_workspace, f"http://me:hunter2@127.0.0.1:{port}")
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_a_store_of_an_unknown_kind_or_without_its_driver(bare_workspace: Path) -> None:
    assert "unsupported URI 'foo://x'" in refused(bare_workspace, "foo://me:hunter2@x")
    message = refused(bare_workspace, "mysql://me:hunter2@db/x", MissingExtra)
    assert message.startswith("the tracking store mysql://db/x needs a package: pip install ")


def test_a_store_that_cannot_be_opened(bare_workspace: Path) -> None:
    (bare_workspace / "garbage.db").write_text("this is no database " * 100)
    assert "file is not a database" in refused(bare_workspace, f"sqlite:///{bare_workspace}/garbage.db")
    (bare_workspace / "file").write_text("")
    message = refused(bare_workspace, f"sqlite:///{bare_workspace}/file/mlflow.db")
    assert message.startswith(f"the tracking store {bare_workspace}/file/mlflow.db cannot be created: ")


def test_a_store_in_memory_is_not_looked_for_on_disk(bare_workspace: Path) -> None:
    for uri in ("sqlite:///:memory:", "sqlite:///", "postgresql://db/x"):
        tracking._prepare(uri, "file:///x")
    assert [path.name for path in bare_workspace.iterdir()] == ["settings.ini"]


def test_a_locked_store_loses_nothing(workspace: Path) -> None:
    path = workspace / ".mltoolkit" / "mlflow.db"
    store = tracking.client(workspace)
    with locked(path, 2):
        experiment = tracking.experiment_id(store, "busy", str(workspace / "artifacts"))
    with locked(path, 1):
        run = tracking.open_run(store, experiment, "busy", {"a": "b"}, {f"p{number}": number for number in range(150)})
    with locked(path, 1):
        tracking.reached(lambda: tracking.close_run(store, run, Status.failed, metrics={"m": 1.0}), "x")
    found = store.get_run(run)
    assert (found.info.status, len(found.data.params), found.data.metrics) == ("FAILED", 150, {"m": 1.0})
    assert len(store.search_runs([experiment])) == 1


def test_a_locked_store_is_asked_again_but_not_for_ever(workspace: Path) -> None:
    from sqlalchemy import create_engine

    path = workspace / ".mltoolkit" / "mlflow.db"
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0.01})  # SQLite itself gives up at once
    asked = []

    def change() -> None:
        asked.append(1)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE changed (x)")

    with locked(path, 1):
        tracking.reached(change, "sqlite:///x")
    assert len(asked) > 1
    with locked(path, 60), pytest.raises(TrackingError, match=r"^the tracking store sqlite:///x did not accept a request: .*database is locked"):
        tracking.reached(change, "sqlite:///x", patience=0.5)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM changed").scalar() == 0
    engine.dispose()


def test_what_is_wrong_with_a_request_is_said_at_once(workspace: Path) -> None:
    store = tracking.client(workspace)
    asked = []

    def ask() -> Any:
        asked.append(1)
        return store.get_run("0" * 32)

    with pytest.raises(TrackingError, match=r"not found"):
        tracking.reached(ask, "http://me:hunter2@h/x")
    assert len(asked) == 1
    with pytest.raises(ZeroDivisionError):
        tracking.reached(lambda: 1 / 0, "x")


PREPARE = """
    import pathlib
    from mltoolkit.record import tracking
    store = tracking.client(pathlib.Path.cwd())
    print(tracking.experiment_id(store, "shared", str(pathlib.Path.cwd() / "artifacts")))
"""


def test_first_use_is_whole_or_not_there_and_happens_once(bare_workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(PREPARE)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    local = bare_workspace / ".mltoolkit"
    with start() as first:
        while first.poll() is None and not ((local / "mlflow.db.new").exists() and (local / "mlflow.db.new").stat().st_size > 100_000):
            time.sleep(0.005)
        first.send_signal(signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL
    assert (local / "mlflow.db.new").exists()
    assert not (local / "mlflow.db").exists()
    second = start()
    store = tracking.client(bare_workspace)  # the third, at the same time
    own = tracking.experiment_id(store, "shared", str(bare_workspace / "artifacts"))
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert out.strip() == own, "both got the same experiment"
    assert (err + capsys.readouterr().err).count("preparing the tracking store") == 1
    assert sorted(path.name for path in local.iterdir() if not path.name.endswith(("-wal", "-shm"))) == [".gitignore", "mlflow.db", "mlflow.db.lock"]
    with contextlib.closing(sqlite3.connect(local / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM experiments WHERE name = 'shared'").fetchone() == (1,)


# --- experiments


def test_experiments_keep_files_below_the_artifact_root_whatever_their_name(workspace: Path) -> None:
    store = tracking.client(workspace)
    root = workspace / "artifacts"
    for name, folder in [("flights", "flights"), ("../../etc", "_.._etc"), ("..", "_"), ("team/ä #1?", "team_ä_1_"), ("a b", "a_b"), ("🤯", "_"), ("v1.2-x", "v1.2-x")]:
        found = store.get_experiment(tracking.experiment_id(store, name, str(root)))
        assert found.name == name
        assert found.artifact_location.removesuffix("/") == f"{root.as_uri()}/{folder}"
        assert tracking.experiment_id(store, name, "/somewhere/else") == found.experiment_id
    assert store.get_experiment(tracking.experiment_id(store, "remote", "s3://bucket/a/")).artifact_location == "s3://bucket/a/remote"
    where_the_store_says = store.get_experiment(tracking.experiment_id(store, "servers choice")).artifact_location
    assert where_the_store_says.startswith((workspace / ".mltoolkit" / "artifacts").as_uri())


def test_an_experiment_that_was_deleted_or_made_by_somebody_faster(workspace: Path) -> None:
    store = tracking.client(workspace)
    deleted = tracking.experiment_id(store, "old")
    store.delete_experiment(deleted)
    with pytest.raises(TrackingError, match=r"the experiment 'old' is deleted; `mlflow experiments restore` brings it back"):
        tracking.experiment_id(store, "old")

    class Slow:
        """A client that looks before somebody else creates the experiment."""

        tracking_uri = store.tracking_uri
        looked = 0

        def get_experiment_by_name(self, name: str) -> Any:
            self.looked += 1
            return None if self.looked == 1 else store.get_experiment_by_name(name)

        create_experiment = staticmethod(store.create_experiment)

    made = tracking.experiment_id(store, "wanted by two")
    assert tracking.experiment_id(Slow(), "wanted by two") == made  # type: ignore[arg-type]
    with pytest.raises(TrackingError, match=r"did not accept a request: .*name"):
        tracking.experiment_id(store, "x" * 100_000)


# --- opening and closing a record


def test_a_record_is_opened_and_closed(workspace: Path) -> None:
    store = tracking.client(workspace)
    experiment = tracking.experiment_id(store, "e", str(workspace / "artifacts"))
    parameters = {f"p{number:03d}": number for number in range(250)} | {"text": "ü🤯", "none": None, "long": "x" * 10_000, "months": [1, 2]}
    run = tracking.open_run(store, experiment, "train", {"mltoolkit.notebook": "train.ipynb"}, parameters, started_at=1_700_000_000.5)
    found = store.get_run(run)
    assert (found.info.status, found.info.run_name, found.info.start_time) == ("RUNNING", "train", 1_700_000_000_500)
    assert found.data.tags["mltoolkit.status"] == "running"
    assert len(found.data.params) == 254
    shown = found.data.params
    assert (shown["p249"], shown["text"], shown["none"], shown["months"]) == ("249", "ü🤯", "None", "[1, 2]")
    assert (shown["long"][:5990], shown["long"][5990:]) == ("x" * 5990, " … (cut)")

    files = workspace / "files"
    (files / "deep").mkdir(parents=True)
    (files / "deep" / "ü.txt").write_text("x")
    metrics = {"auc": 0.5, "nan": math.nan, "inf": math.inf}
    tracking.close_run(store, run, Status.timed_out, metrics=metrics, tags={"why": "y" * 9000, "number": 3}, files=files)  # type: ignore[dict-item]
    found = store.get_run(run)
    assert (found.info.status, found.data.tags["mltoolkit.status"]) == ("FAILED", "timed_out")
    assert found.info.end_time >= found.info.start_time
    assert (found.data.metrics["auc"], math.isnan(found.data.metrics["nan"])) == (0.5, True)
    assert (len(found.data.tags["why"]), found.data.tags["number"]) == (8000, "3")
    assert [item.path for item in store.list_artifacts(run, "deep")] == ["deep/ü.txt"]


@pytest.mark.parametrize("status", [status for status in Status if status not in (Status.running, Status.invalid)])
def test_children_that_are_still_open_end_as_their_record(status: Status, workspace: Path) -> None:
    store = tracking.client(workspace)
    here, elsewhere = (tracking.experiment_id(store, name) for name in ("here", "elsewhere"))
    record, other = (tracking.open_run(store, here, "r", {}) for _ in range(2))
    children = [store.create_run(place, tags={"mltoolkit.record": record}).info.run_id for place in (here, elsewhere, here)]
    store.set_terminated(children[2], "FINISHED")
    stranger = store.create_run(here, tags={"mltoolkit.record": other}).info.run_id
    assert sorted(tracking.open_children(store, record)) == sorted(children[:2])
    tracking.close_run(store, record, status)
    assert [store.get_run(each).info.status for each in children] == [status.mlflow, status.mlflow, "FINISHED"]
    assert store.get_run(stranger).info.status == store.get_run(other).info.status == "RUNNING"
    assert tracking.open_children(store, record) == []


def test_a_record_is_closed_even_if_its_files_cannot_be_kept(workspace: Path) -> None:
    store = tracking.client(workspace)
    (workspace / "artifacts").write_text("a file where the folder should be")
    experiment = tracking.experiment_id(store, "e", str(workspace / "artifacts"))
    (workspace / "files").mkdir()
    (workspace / "files" / "a.txt").write_text("x")
    run = tracking.open_run(store, experiment, "r", {})
    with pytest.raises(TrackingError, match=r"did not accept a request"):
        tracking.reached(lambda: tracking.close_run(store, run, Status.succeeded, files=workspace / "files"), "sqlite:///x")
    assert store.get_run(run).info.status == "FINISHED"
