"""A process with MLflow imported that forks servers, notebooks and shippers for tests: each can be killed, and costs a fork.

`python tracking_stage.py` reads one JSON command a line, `[name, arguments]`, and answers with the pid of the child that does it."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def serve(port: int, folder: str) -> None:
    """A real MLflow server: its application, under the program that `mlflow server` runs it with."""
    import uvicorn
    from mlflow.server.fastapi_app import app

    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/server.db", "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{folder}/server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/", "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true", "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/files",
    }  # fmt: skip
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False)


def log(root: str, uri: str, experiment: str, seed: int, said: str, steps: int = 40) -> None:
    """A notebook: it says what it is about to log, logs it, and says that it has."""
    enter(root, uri)
    notes = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(*what: Any) -> None:
        os.write(notes, (json.dumps(what) + "\n").encode())

    try:
        _log(experiment, random.Random(seed), seed, steps, tell)
    except Exception:  # noqa: BLE001 (it is for the test to see)
        tell("failed", traceback.format_exc())


def _log(experiment: str, rng: random.Random, seed: int, steps: int, tell: Callable[..., None]) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient()
    runs = []
    for number in range(2):
        tell("begins", number)
        runs.append(client.create_run(experiment, run_name=f"{seed}-{number}").info.run_id)
        tell("run", runs[-1], number)
    for step in range(steps):
        run = rng.choice(runs)
        values = {f"m{key}": rng.random() for key in range(rng.randrange(1, 20))}
        now = 1_700_000_000_000 + step
        tell("logs", run, values, step)
        client.log_batch(run, [Metric(key, value, now, step) for key, value in values.items()])
        tell("logged", run, values, step)
        if rng.random() < 0.3:
            tell("describes", run, f"p{step}", str(step), str(seed))
            client.log_param(run, f"p{step}", step)
            client.set_tag(run, "latest", step)
            tell("described", run, f"p{step}", str(step), str(step))
        if rng.random() < 0.1:
            client.get_run(run)
        time.sleep(rng.random() * 0.01)
    for run in runs:
        tell("ends", run)
        client.set_terminated(run, "FINISHED")
        tell("ended", run)


def ship(root: str, uri: str) -> None:
    """A shipping worker."""
    from mltoolkit.record import shipping

    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.chdir(root)
    while True:
        shipping.ship(Path(root, ".mltoolkit", "spool"), root=root, answer=1.0)
        time.sleep(0.02)


def sync(root: str, uri: str, answer: str) -> None:
    """`mltoolkit runs sync`."""
    from mltoolkit.record import shipping

    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.chdir(root)
    report = shipping.sync(wait=30.0, start=root)
    Path(answer).write_text(json.dumps(report.facts()))


def run(root: str, uri: str, code: str, output: str) -> None:
    """Any code, as in the kernel of a run of record."""
    enter(root, uri)
    with open(output, "w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        exec(code, {"__name__": "__main__"})  # noqa: S102


def enter(root: str, uri: str) -> None:
    """Be where the kernel of a run of record is."""
    from mltoolkit.record.spool import spool_folder

    os.chdir(root)
    os.environ |= {"MLFLOW_TRACKING_URI": uri, "MLTOOLKIT_SPOOL_FOLDER": str(spool_folder(root)), "MLTOOLKIT_SPOOL_TARGET": uri}


COMMANDS: dict[str, Callable[..., None]] = {"serve": serve, "log": log, "ship": ship, "sync": sync, "run": run}


def main() -> None:
    """Import what takes long, and fork on command."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    import logging

    import mlflow
    import uvicorn  # noqa: F401
    from mlflow.server.fastapi_app import app  # noqa: F401
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from mltoolkit.record import delivery, shipping, spooled_store  # noqa: F401

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    assert mlflow.active_run() is None
    folder = sys.argv[1]
    SqlAlchemyStore(f"sqlite:///{folder}/server.db", "mlflow-artifacts:/").engine.dispose()
    if len(sys.argv) > 2:  # seconds become tenths: a schedule has no time for the patience of a night
        delivery.SETTLING, spooled_store._SILENCE, spooled_store._ANSWER, spooled_store._SLOW = 0.8, 0.2, 0.5, 0.25  # type: ignore[misc]
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    print("ready", flush=True)
    for text in sys.stdin:
        name, arguments = json.loads(text)
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                COMMANDS[name](*arguments)
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
