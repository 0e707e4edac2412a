"""Notebook, shipping worker and server are killed, and connections fail, at random: what was acknowledged arrives, and nothing twice.

Each schedule is made from its number, so `SCHEDULES=17-17 pytest tests/record/test_spool_schedules.py` repeats one;
`SCHEDULES=0-99` runs a hundred, which takes some minutes."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import gone
from tracking_server import FATES, Stage, ask, ended, kill

from mltoolkit.record.delivery import CREATED_AS

FIRST, _, LAST = (os.environ.get("SCHEDULES") or "0-11").partition("-")
NUMBERS = range(int(FIRST), int(LAST or FIRST) + 1)


@pytest.fixture
def stage(tracking_stage: Stage) -> Iterator[Stage]:
    tracking_stage.proxy.delay = 0.3
    yield tracking_stage
    tracking_stage.proxy.fate = lambda: "well"


def experiment_of(stage: Stage, name: str) -> str:
    """Make an experiment, while all is well."""
    return str(json.loads(ask(stage.port, "POST", "/api/2.0/mlflow/experiments/create", {"name": name}))["experiment_id"])


def disturb(stage: Stage, rng: random.Random, root: Path, notebook: int) -> None:
    """What happens while the notebook runs."""
    proxy, uri = stage.proxy, stage.proxy.uri
    worker = stage.start("ship", str(root), uri)
    serving = True
    for _ in range(rng.randrange(2, 6)):
        time.sleep(rng.random() * 0.15)
        event = rng.choice(("network", "network", "worker", "server", "notebook"))
        if event == "network":
            fates = [rng.choice(FATES) for _ in range(3)]
            proxy.fate = lambda fates=fates: rng.choice(fates)  # type: ignore[misc]
        elif event == "worker":
            kill(worker)
            worker = stage.start("ship", str(root), uri)
        elif event == "server" and serving:
            stage.kill_server()
            serving = False
        elif event == "notebook" and rng.random() < 0.5:
            kill(notebook)
    time.sleep(rng.random() * 0.2)
    kill(worker)
    if rng.random() < 0.3:
        kill(notebook)
    proxy.fate = lambda: "well"
    if not serving:
        stage.serve()
    ended(notebook)


def told(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check(stage: Stage, experiment: str, notes: list[Any]) -> None:
    """Compare what the notebook said with what the server has."""
    rows = stage.rows("select run_uuid, status from runs where experiment_id = ? and lifecycle_stage = 'active'", experiment)
    statuses = dict(rows)
    marks = dict(stage.rows(f"select t.run_uuid, t.value from tags t join runs r on r.run_uuid = t.run_uuid where r.experiment_id = ? and t.key = '{CREATED_AS}'", experiment))
    marks = {run: mark for run, mark in marks.items() if run in statuses}
    assert len(set(marks.values())) == len(statuses), "a run is there twice"
    own = {mark: run for run, mark in marks.items()}
    acknowledged = [note[1] for note in notes if note[0] == "run"]
    assert {own.get(run, run) for run in acknowledged} <= set(statuses), "a run is missing"
    assert len(statuses) <= sum(note[0] == "begins" for note in notes)

    def values(kind: str) -> set[Any]:
        return {(own.get(note[1], note[1]), key, value, note[3]) for note in notes if note[0] == kind for key, value in note[2].items()}

    there = stage.rows("select m.run_uuid, m.key, m.value, m.step from metrics m join runs r on r.run_uuid = m.run_uuid where r.experiment_id = ? and r.lifecycle_stage = 'active'", experiment)
    assert len(there) == len(set(there)), "a value is there twice"
    assert values("logged") <= set(there) <= values("logs")
    latest = stage.rows("select l.run_uuid, l.key, l.step from latest_metrics l join runs r on r.run_uuid = l.run_uuid where r.experiment_id = ? and r.lifecycle_stage = 'active'", experiment)
    assert {(run, key): step for run, key, step in latest} == {(run, key): max(s for r, k, _, s in there if (r, k) == (run, key)) for run, key, *_ in there}
    params = set(stage.rows("select p.run_uuid, p.key, p.value from params p join runs r on r.run_uuid = p.run_uuid where r.experiment_id = ?", experiment))
    described = [(own.get(note[1], note[1]), *note[2:]) for note in notes if note[0] == "described"]
    assert {entry[:3] for entry in described} <= params
    tags = set(stage.rows("select run_uuid, value from tags where key = 'latest'"))
    for run in {entry[0] for entry in described}:
        final = [entry[3] for entry in described if entry[0] == run][-1]
        attempted = [note[3] for note in notes if note[0] == "describes" and own.get(note[1], note[1]) == run][-1]
        assert (run, final) in tags or (run, attempted) in tags
    for run in (note[1] for note in notes if note[0] == "ended"):
        assert statuses[own.get(run, run)] == "FINISHED"


@pytest.mark.parametrize("number", NUMBERS)
def test_what_was_acknowledged_arrives_once(stage: Stage, tmp_path: Path, number: int) -> None:
    rng = random.Random(number)
    (tmp_path / "settings.ini").write_text("[mltoolkit]\n")
    experiment = experiment_of(stage, f"schedule {number} {time.time_ns()}")
    notes, answer = tmp_path / "notes", tmp_path / "answer"
    first = rng.choice(FATES)
    stage.proxy.fate = lambda: first
    notebook = stage.start("log", str(tmp_path), stage.proxy.uri, experiment, number, str(notes))
    disturb(stage, rng, tmp_path, notebook)
    ended(stage.start("sync", str(tmp_path), stage.proxy.uri, str(answer)))
    report = json.loads(answer.read_text())
    assert report["complete"], report
    assert report["rejected"] == report["damaged"] == 0, (tmp_path / ".mltoolkit" / "spool" / "rejected.jsonl").read_text()
    said = told(notes)
    assert [note for note in said if note[0] == "failed"] == []
    check(stage, experiment, said)
    assert gone(notebook)
