"""`mltoolkit jobs ...` on a store without any worker: what each command changes, and what it says."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mltoolkit import cli, cli_jobs
from mltoolkit.errors import MltoolkitError
from mltoolkit.scheduling import instances
from mltoolkit.scheduling.attempt import LOG, folder_of
from mltoolkit.scheduling.engine import engine
from mltoolkit.scheduling.jobs import load
from mltoolkit.scheduling.store import WORKERS, State, Store, attempts_of, instance, open_store

DAY = "2013-01-01T00:00:00"
JOBS = """jobs:
  a: {notebook: a.ipynb}
  b: {notebook: a.ipynb, approval: before}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["jobs", *arguments])


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def store(bare_workspace: Path, write: Callable[..., Path]) -> Iterator[Store]:
    write("a.ipynb", "1")
    (bare_workspace / "jobs.yaml").write_text(JOBS)
    opened = open_store(bare_workspace)
    yield opened
    opened.close()


def submit(store: Store, job: str) -> str:
    jobs = load(store.root)
    (key,) = instances.submit(store, jobs, jobs.find(job), datetime.fromisoformat(DAY))
    instances.advance(store, jobs)
    return key


def state_of(store: Store, key: str) -> str:
    row = instance(store, key)
    assert row is not None
    return str(row["state"])


def worker(store: Store, name: str, **more: Any) -> str:
    """A worker of another machine, silent for a long time unless told otherwise."""
    row = {"id": f"{name}:1", "name": name, "host": "another", "pid": 1, "pid_start": "other.1:1", "root": "/", "slots": 1, "serves": False, "started": 0.0, "beat": 0.0}
    store.write(lambda connection: connection.execute(store.insert(WORKERS).values(**{**row, **more})))
    return str(row["id"])


def test_pause_and_resume(store: Store) -> None:
    assert told("pause", "a") == {"job": "a", "paused": True, "changed": True}
    assert told("pause", "a") == {"job": "a", "paused": True, "changed": False}
    assert [row["paused"] for row in told("list")] == [True, False]
    key = submit(store, "a")
    assert (state_of(store, key), told("show", "a")["reason"]) == ("waiting", "the job is paused")
    assert run("pause", "a").output == "a: nothing to change\n"
    assert run("resume", "a").output == "a goes on\n"
    assert told("resume", "a") == {"job": "a", "paused": False, "changed": False}
    instances.advance(store, load(store.root))
    assert state_of(store, key) == "queued"
    unknown = run("pause", "c")
    assert (unknown.exit_code, "no job is called" in unknown.stderr) == (2, True)


def test_cancel(store: Store) -> None:
    key = submit(store, "a")
    assert told("cancel", "a") == {"key": key, "state": "cancelled"}
    again = run("cancel", "a")
    assert (again.exit_code, "has ended already: cancelled" in again.stderr) == (2, True)
    (row,) = told("history")
    assert (row["state"], row["reason"].startswith("cancelled (")) == ("cancelled", True)
    other = instances.submit(store, load(store.root), load(store.root).find("a"), datetime(2013, 1, 2))[0]
    instances.advance(store, load(store.root))
    assert instances.begin(store, other, 1, "w:1", "another") is not None
    assert run("cancel", other).output == f"{other}: its worker ends it\n"
    assert state_of(store, other) == "running", "until its worker has ended it"


def test_approve_and_reject(store: Store) -> None:
    assert run("approve").output == "nothing waits for approval\n"
    key = submit(store, "b")
    assert [each["key"] for each in told("approve")] == [key]
    assert key in run("approve").output
    assert [each["state"] for each in told("history")] == ["approval"]
    refused = run("run", "b", "--date", DAY)
    assert (refused.exit_code, f"mltoolkit jobs approve {key}" in refused.stderr) == (2, True)
    done = run("approve", "b", "--note", "looks right")
    assert done.stdout.startswith(f"{key} approved by ")
    assert f"mltoolkit jobs run b --date {DAY}" in done.stderr, "nobody is there to do it"
    assert told("show", "b")["note"] == "looks right"
    late = run("reject", "b")
    assert (late.exit_code, "nothing of 'b' waits" in late.stderr) == (2, True)
    second = instances.submit(store, load(store.root), load(store.root).find("b"), datetime(2013, 1, 2))[0]
    instances.advance(store, load(store.root))
    rejected = told("reject", second, "--note", "no")
    assert (rejected["approved"], rejected["state"], state_of(store, second)) == (False, "cancelled", "cancelled")


def test_every_command_says_what_it_knows_as_json(store: Store) -> None:
    assert told("check") == []
    (asked,) = told("run", "a", "--date", DAY, "--detach")
    assert (asked["key"], asked["state"], asked["attempt"]) == (f"a@{DAY}", "waiting", 0)
    refused = run("backfill", "a", "--from", "2013", "--to", "2013", "--dry-run", "--json")
    assert (refused.exit_code, refused.stdout, "a has no schedule" in refused.stderr) == (2, "", True)
    jobs = load(store.root)
    ((key, dispatch),) = instances.advance(store, jobs).start
    begun = instances.begin(store, key, dispatch, "w:1", "another")
    assert begun is not None
    folder = folder_of(store.root, key, 1)
    folder.mkdir(parents=True)
    (folder / LOG).write_text("so far\n")
    ended = instances.Ended(State.failed, "boom", run_id="0" * 32, metrics={"auc": 0.5}, wall_s=2.0, cpu_s=1.5, memory_bytes=10)
    assert instances.conclude(store, jobs.find("a"), key, 1, ended) is State.failed
    assert told("logs", "a") == {"key": key, "attempt": 1, "path": str(folder / LOG), "text": "so far\n"}
    shown = told("show", "a")
    assert (shown["state"], shown["reason"], shown["run_id"]) == ("failed", "boom", "0" * 32)
    assert [(each["number"], each["state"], each["metrics"]) for each in shown["attempts"]] == [(1, "failed", {"auc": 0.5})]
    (row,) = told("history", "a")
    assert {name: row[name] for name in ("key", "state", "reason", "attempt", "wall_s", "cpu_s")} == {
        "key": key, "state": "failed", "reason": "boom", "attempt": 1, "wall_s": 2.0, "cpu_s": 1.5,
    }  # fmt: skip
    assert told("history", "--summary") == [{"job": "a", "attempts": 1, "succeeded": 0, "wall_s": 2.0, "cpu_s": 1.5, "memory_bytes": 10}]
    assert [each.split() for each in run("history", "--summary").output.splitlines()][-1] == ["a", "1", "0", "2.0", "1.5", "0"]
    assert told("history", "b", "--summary") == []
    assert [each["last_state"] for each in told("list")] == ["failed", None]
    (again,) = told("run", "a", "--from-failure", "--detach")
    assert (again["key"], again["state"], again["attempt"]) == (key, "waiting", 1)


def test_a_unit_for_systemd(store: Store) -> None:
    unit = CliRunner().invoke(cli.main, ["serve", "--install-systemd", "--name", "one"])
    assert unit.exit_code == 0, unit.output
    lines = unit.stdout.splitlines()
    assert f"WorkingDirectory={store.root}" in lines
    (command,) = [line for line in lines if line.startswith("ExecStart=")]
    assert command.endswith(" serve --name one")
    assert {"Restart=always", "KillMode=mixed"} <= set(lines)
    assert any(line.startswith("TimeoutStopSec=") for line in lines), "what runs has its grace time before systemd kills"


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def shown() -> str:
        line = cli_jobs._Line(3, quiet=False)
        line.show(["succeeded", "running", "waiting"])
        line.tell("a@1: succeeded")
        line.close()
        return capsys.readouterr().err

    assert shown() == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert [text.strip() for text in shown().split("\r\x1b[K")] == ["", "1 of 3 done, 1 running", "a@1: succeeded", ""]


def test_rescue(store: Store) -> None:
    unknown = run("rescue", "far")
    assert (unknown.exit_code, "no worker is called 'far'" in unknown.stderr) == (2, True)
    who = worker(store, "far")
    key = submit(store, "a")
    with engine(store):
        from mltoolkit.scheduling import workflow

        workflow._enqueue(key, 1)
        assert instances.begin(store, key, 1, who, "another") is not None
        _taken_by(store, who)
    assert told("rescue", "far") == {"worker": "far", "jobs": 1}
    assert _engine_rows(store) == [("ENQUEUED", None)], "anybody may take it now"
    gone = run("rescue", "far")
    assert (gone.exit_code, "no worker is called" in gone.stderr) == (2, True)
    import time

    worker(store, "near", beat=time.time())
    alive = run("rescue", "near")
    assert (alive.exit_code, "is alive; stop it, or say --yes" in alive.stderr) == (2, True)
    assert run("rescue", "near", "--yes").output == "0 jobs of near are in the queue again\n"
    assert [row["state"] for row in attempts_of(store, key)] == ["running"], "whoever takes it up sees that it has begun"


def _taken_by(store: Store, who: str) -> None:
    """What the engine writes when a worker takes something from the queue."""
    import sqlalchemy as sa

    change = sa.text("UPDATE workflow_status SET status = 'PENDING', executor_id = :who, started_at_epoch_ms = 1")
    store.write(lambda connection: connection.execute(change, {"who": who}))


def _engine_rows(store: Store) -> list[tuple[Any, ...]]:
    import sqlalchemy as sa

    with store.read() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT status, started_at_epoch_ms FROM workflow_status"))]


def test_a_server_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    address = "postgresql://ann:geheim@127.0.0.1:1/jobs?sslpassword=streng"
    monkeypatch.setenv("MLTOOLKIT_JOB_STORE", address)
    monkeypatch.setattr(cli_jobs, "_GLANCE", 0.3)
    for command in (("list",), ("history",), ("show", "a"), ("logs", f"a@{DAY}")):
        began = time.monotonic()
        done = run(*command)
        assert done.exit_code == 1
        assert time.monotonic() - began < 5
        waiting, error = [line for line in done.stderr.splitlines() if line]
        assert "127.0.0.1:1/jobs" in waiting
        assert "waiting for it, 0 s at most" in waiting
        assert "is out of reach" in error
        assert "look after its disk or its server" in error
        assert not any(secret in done.output for secret in ("geheim", "streng", "Traceback"))
    said: list[float] = []
    began = time.monotonic()
    with pytest.raises(MltoolkitError, match="is out of reach"):
        open_store(store.root, patience=1.5, tell=lambda text: said.append(time.monotonic() - began))
    assert len(said) == 1
    assert said[0] < 1.0 < time.monotonic() - began < 5


def test_who_only_reads_does_not_wait_for_who_writes(store: Store) -> None:
    with sqlite3.connect(store.engine.url.database or "", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert [row["job"] for row in told("list")] == ["a", "b"]
        assert time.monotonic() - began < 5
        other.execute("ROLLBACK")
    other.close()
