"""A tracking store that is a database, SQLite or PostgreSQL, and goes away: a notebook goes on logging meanwhile, and each value arrives once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from postgresql import Server, server  # noqa: F401 (a fixture)
from processes import wait_for

from mltoolkit import run_notebook
from mltoolkit.cli import main
from mltoolkit.errors import UNDELIVERED
from mltoolkit.record import delivery, tracking

LOG = """
import mlflow, pathlib, time
def log(first, last):
    for step in range(first, last):
        mlflow.log_metrics({"loss": 1 / (1 + step), "rate": 0.1}, step=step)
"""
BEFORE = "log(0, 10)\npathlib.Path('begun').touch()\nwhile not pathlib.Path('away').exists(): time.sleep(0.02)"
MEANWHILE = "log(10, 50)\nmlflow.set_tag('phase', 'trained')\npathlib.Path('logged').touch()"
AFTER = "while not pathlib.Path('back').exists(): time.sleep(0.02)\nlog(50, 60)"


@dataclass
class Database:
    """A workspace's tracking store."""

    uri: str
    leave: Callable[[], None]
    come_back: Callable[[], None]

    def rows(self, question: str, **values: str) -> list[tuple[object, ...]]:
        engine = sa.create_engine(self.uri)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(question), values)]
        finally:
            engine.dispose()

    def points(self, run_id: str) -> list[tuple[object, ...]]:
        return self.rows("select step, value from metrics where run_uuid = :run and key = 'loss' order by step", run=run_id)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A SQLite that another connection locks, and a PostgreSQL that is killed."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            root = request.getfixturevalue("workspace")
            path = root / ".mltoolkit" / "mlflow.db"
            holder = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)))
            yield Database(f"sqlite:///{path}", lambda: holder.execute("BEGIN EXCLUSIVE") and None, lambda: holder.execute("COMMIT") and None)
            return
        running: Server = request.getfixturevalue("server")
        root = request.getfixturevalue("bare_workspace")
        uri = running.database().replace("postgresql://", "postgresql+psycopg://")
        (root / "settings.ini").write_text(f"[mltoolkit]\ntracking_uri = {uri}\n")
        tracking.client(root)  # MLflow makes its tables
        stack.callback(lambda: running.process and running.process.poll() is not None and running.start())
        yield Database(uri, running.kill, running.start)


@pytest.fixture(autouse=True)
def nobody_ships_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mltoolkit.record.recorder.leave_to_itself", lambda root: None)
    monkeypatch.setattr(delivery, "SETTLING", 0.5)


EXPECTED = [(step, 1 / (1 + step)) for step in range(60)]


def test_away_in_the_middle(database: Database, write: Callable[..., Path], tiny: str) -> None:
    logged_meanwhile = threading.Event()

    def disturb() -> None:
        wait_for(Path("begun").exists, "the notebook to begin")
        database.leave()
        Path("away").touch()
        wait_for(Path("logged").exists, "the notebook to log while the database is away")
        logged_meanwhile.set()
        database.come_back()
        Path("back").touch()

    watcher = threading.Thread(target=disturb)
    watcher.start()
    run = run_notebook(write("day.ipynb", LOG, BEFORE, MEANWHILE, AFTER, kernel=tiny))
    watcher.join()
    assert logged_meanwhile.is_set()
    assert (run.status, run.exit_code, run.warnings) == ("succeeded", 0, [])
    assert database.points(run.run_id) == EXPECTED
    assert database.rows("select value from tags where run_uuid = :run and key = 'phase'", run=run.run_id) == [("trained",)]
    assert database.rows("select status from runs where run_uuid = :run", run=run.run_id) == [("FINISHED",)]


def test_away_until_the_end_and_longer(database: Database, write: Callable[..., Path], tiny: str) -> None:
    def disturb() -> None:
        wait_for(Path("begun").exists, "the notebook to begin")
        database.leave()
        Path("away").touch()
        Path("back").touch()

    watcher = threading.Thread(target=disturb)
    watcher.start()
    run = run_notebook(write("night.ipynb", LOG, BEFORE, MEANWHILE, AFTER, kernel=tiny))
    watcher.join()
    assert (run.status, run.exit_code) == ("succeeded", UNDELIVERED)
    assert "`mltoolkit runs sync` ships it" in run.warnings[-1]
    waiting = CliRunner().invoke(main, ["runs", "sync", "--wait", "1s", "--json"])
    assert waiting.exit_code == UNDELIVERED
    assert json.loads(waiting.stdout)["left_bytes"] > 1000
    database.come_back()
    done = CliRunner().invoke(main, ["runs", "sync"])
    assert done.exit_code == 0, done.output
    assert database.points(run.run_id) == EXPECTED
    assert database.rows("select status from runs where run_uuid = :run", run=run.run_id) == [("FINISHED",)]
    assert CliRunner().invoke(main, ["runs", "sync"]).exit_code == 0
    assert database.points(run.run_id) == EXPECTED
