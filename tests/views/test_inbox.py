"""What waits for a person is listed with its evidence, and one click does what the command does."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

import mltoolkit
from mltoolkit import cli
from mltoolkit.errors import Invalid
from mltoolkit.scheduling.incidents import INCIDENTS, prepare
from mltoolkit.scheduling.store import INSTANCES, SCHEDULES, State, Store, instance, open_store
from mltoolkit.views.inbox import Item, decide, evidence_html, items

WAITS, ALSO, FAILED = "flights/train@2013-03-01T02:30:00", "flights/train@2013-04-01T02:30:00", "flights/prepare@2013-03-01T02:30:00"


@pytest.fixture
def store(bare_workspace: Path, write: Callable[..., Path]) -> Iterator[Store]:
    """A workspace with a job that waits twice, one that failed, and one with an incident."""
    for name in ("prepare", "train"):
        write(f"projects/flights/{name}.ipynb", "print('epoch 1')", parameters="month: int = 3")
    (bare_workspace / "projects/flights/jobs.yaml").write_text("jobs:\n  prepare: {notebook: prepare.ipynb}\n  train: {notebook: train.ipynb, needs: [prepare], approval: after}\n")
    opened = open_store(bare_workspace)
    prepare(opened)
    put(opened, WAITS, state=State.approval, approval="after")
    put(opened, ALSO, state=State.approval, approval="before", due=1)
    put(opened, FAILED, state=State.failed, reason="ValueError: <b>no rows</b>", ended=200, started=100)
    for number, job in enumerate(("flights/prepare", "flights/old")):
        values = {"job": job, "opened": 100.0, "count": 3, "first": f"{job}@a", "latest": f"{job}@b", "latest_due": 1.0, "cause": "it was gone", "id": number + 1}
        opened.write(lambda connection, values=values: connection.execute(sa.insert(INCIDENTS).values(**values)))  # type: ignore[misc]
    yield opened
    opened.close()


def put(store: Store, key: str, **more: Any) -> None:
    job, _, logical = key.partition("@")
    row = {"key": key, "job": job, "logical": logical, "origin": "tick", "lane": job, "due": 0, "created": 100}
    store.write(lambda connection: connection.execute(sa.insert(INSTANCES).values(**row | more)))


def state(store: Store, key: str) -> str:
    found = instance(store, key)
    assert found is not None
    return str(found["state"])


def test_what_waits_is_listed_and_decided(store: Store, bare_workspace: Path) -> None:
    listed = CliRunner().invoke(cli.main, ["inbox", "--json"])
    assert [each["command"] for each in json.loads(listed.output)] == [
        f"mltoolkit jobs approve {WAITS}", f"mltoolkit jobs approve {ALSO}",
        "mltoolkit jobs run flights/prepare --from-failure --date 2013-03-01T02:30:00", "mltoolkit jobs history flights/old",
    ]  # fmt: skip
    assert "no rows" in CliRunner().invoke(cli.main, ["inbox"]).output
    made = mltoolkit.inbox()
    assert [(each.kind, each.key) for each in made.items] == [("approval", WAITS), ("approval", ALSO), ("failed", FAILED), ("incident", "flights/old@b")]
    assert "4 things wait" in made.top.value
    assert "3 times since" in made.items[2].reason
    text = made.rows.children[2].children[0].value
    assert "&lt;b&gt;no rows" in text
    assert "<b>no rows" not in text

    made.buttons[WAITS, "Reject"].click()
    assert "say in the note why" in made.said.value
    assert state(store, WAITS) == State.approval
    made.notes[WAITS].value = "auc fell"
    made.buttons[WAITS, "Reject"].click()
    assert "rejected by" in made.said.value
    assert state(store, WAITS) == State.cancelled
    made.buttons[ALSO, "Approve"].click()
    assert "nobody works at it now" in made.said.value
    assert state(store, ALSO) == State.waiting
    made.act(Item("approval", ALSO, "flights/train", ALSO.partition("@")[2], State.approval, ""), "Approve")
    assert "does not wait for approval" in made.said.value

    made.buttons[FAILED, "Pause"].click()
    with store.read() as connection:
        assert connection.execute(sa.select(SCHEDULES.c.paused).where(SCHEDULES.c.job == "flights/prepare")).scalar()
    assert decide(store, made.items[0], "Pause") == "flights/prepare was paused already"
    made.buttons[FAILED, "Retry"].click()
    assert "will be repeated" in made.said.value
    assert state(store, FAILED) == State.waiting
    assert "1 thing waits" in made.top.value
    with pytest.raises(Invalid, match="there is Retry and Pause"):
        decide(store, made.items[0], "Approve")


def test_evidence(store: Store, bare_workspace: Path, tiny: str) -> None:
    waits, before, failed, gone = items(store)
    notebook = bare_workspace / "projects/flights/train.ipynb"
    ids = [mltoolkit.run_notebook(notebook, parameters={"month": month}, track=False, gate=False, kernel=tiny).run_id for month in (1, 2)]
    for run_id, auc in zip(ids, (0.7, 0.75), strict=True):
        manifest = bare_workspace / ".mltoolkit/runs" / run_id / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"metrics": {}', f'"metrics": {{"auc": {auc}}}'))
    put(store, "flights/train@2013-02-01T02:30:00", state=State.succeeded, run_id=ids[0], ended=50)
    shown = evidence_html(Item(**{**vars(waits), "run_id": ids[1]}), store)
    assert "+0.05" in shown
    assert "train.ipynb" in shown
    assert "findings of mltoolkit check" in shown or "finds nothing" in shown
    assert "It has not run yet" in evidence_html(before, store)
    assert "no earlier success" in evidence_html(Item(**{**vars(failed), "run_id": ids[0]}), store)
    made = mltoolkit.inbox()
    made.buttons[ALSO, "Evidence"].click()
    assert made.background is not None
    assert made.background.wait(60)
    assert "It has not run yet" in made.evidence[ALSO].value
    made.look(gone)
    assert made.background.wait(60)
    assert "there is no flights/old@b" in made.evidence[gone.key].value
    lost = "1" * 32
    assert "The record of run 11111111 cannot be read here" in evidence_html(Item(**{**vars(waits), "run_id": lost}), store)
    put(store, gone.key, state=State.failed, run_id=ids[1], attempt=2)
    assert "train.ipynb" in evidence_html(gone, store), "an incident's run is that of its latest instance"
    put(store, "flights/old@c", state=State.failed, attempt=2)
    assert "It was tried 2 times without a run, and needs nothing" in evidence_html(Item(**{**vars(gone), "key": "flights/old@c"}), store)


def test_looking_again_leaves_what_is_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = mltoolkit.inbox()
    made.notes[WAITS].value = "auc f"
    lines, evidence = made.rows.children, made.evidence[WAITS]
    put(store, "flights/new@2013-03-01", state=State.failed, reason="KeyError", ended=300)
    store.write(lambda connection: connection.execute(sa.update(INSTANCES).where(INSTANCES.c.key == ALSO).values(due=0, approval="after")))
    made.again.click()
    kept = {each.key for each, line in zip(made.items, made.rows.children, strict=True) if line in lines}
    assert kept == {WAITS, FAILED, "flights/old@b"}, "of the others, one has changed and one is new"
    assert made.notes[WAITS].value == "auc f"
    assert made.evidence[WAITS] is evidence
    monkeypatch.setenv("MLTOOLKIT_JOB_STORE", "postgresql://nobody@127.0.0.1:9/none")
    made.again.click()
    assert "127.0.0.1" in made.top.value
    assert "not known now" in made.top.value
    assert len(made.rows.children) == 5
    made.buttons[WAITS, "Approve"].click()
    assert "127.0.0.1" in made.said.value
    monkeypatch.undo()
    made.again.click()
    assert "5 things wait" in made.top.value


def test_the_job_store_is_closed(store: Store, bare_workspace: Path) -> None:
    store.close()
    gc.disable()
    try:
        assert CliRunner().invoke(cli.main, ["inbox"]).exit_code == 0
        mltoolkit.inbox()
        opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
    finally:
        gc.enable()
    assert not [each for each in opened if each.startswith(str(bare_workspace / ".mltoolkit"))]


def test_without_jobs_nothing_waits(bare_workspace: Path) -> None:
    made = mltoolkit.inbox()
    assert CliRunner().invoke(cli.main, ["inbox"]).output == "nothing waits for you\n"
    assert "Nothing waits for you" in made.top.value
    assert "widget-view" in str(made._repr_mimebundle_())
    made.act(Item("failed", "x@y", "x", "y", "failed", ""), "Retry")
    assert "there is no job store" in made.said.value
