"""Runs: found by whatever somebody remembers, listed, and closed when their process is gone."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import nbformat
import pytest
from processes import BIN, Marked, wait_for
from records import HERE, keep, tracked

from mltoolkit.errors import RunNotFound, Status
from mltoolkit.notebook import document
from mltoolkit.record import environment, manifest, runs, tracking
from mltoolkit.record.journal import Journal

Write = Callable[..., Path]


# --- finding


def test_a_run_is_found_by_id_beginning_and_latest(bare_workspace: Path) -> None:
    keep(bare_workspace, "aa" + "1" * 30, began=300.0)
    old = keep(bare_workspace, "aa" + "2" * 30, began=100.0)
    keep(bare_workspace, "bb" + "3" * 30, began=200.0)
    (old / "changed later").write_text("x")  # repairing touches old folders
    assert runs.find("aa" + "1" * 30).run_id == "aa" + "1" * 30
    assert runs.find("aa2").run_id == "aa" + "2" * 30
    assert runs.find("b").run_id == "bb" + "3" * 30
    assert runs.find("latest").run_id == "aa" + "1" * 30
    (bare_workspace / "deep").mkdir()
    assert runs.find("b", start=bare_workspace / "deep").run_id == "bb" + "3" * 30


def test_a_beginning_of_several_is_refused_with_their_names(bare_workspace: Path) -> None:
    for number in range(7):
        keep(bare_workspace, f"aa{number}" + "0" * 29)
    with pytest.raises(RunNotFound) as caught:
        runs.find("aa")
    assert str(caught.value) == "7 runs begin with 'aa': " + ", ".join(f"aa{number}" + "0" * 29 for number in range(5))
    assert (caught.value.run, caught.value.exit_code) == ("aa", 2)  # type: ignore[attr-defined]


def test_a_run_is_found_by_what_it_wrote(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = bare_workspace / "out"
    out.mkdir()
    folder = keep(bare_workspace, "aa", began=1.0, output=str(out / "a.ipynb"))
    keep(bare_workspace, "bb", began=2.0, html=None)
    assert runs.find("out/a.ipynb").run_id == "aa"
    assert runs.find(str(out / ".." / "out" / "a.ipynb")).run_id == "aa"
    assert runs.find(str(folder / "a.html")).run_id == "aa"
    assert runs.find(str(folder / "a.ipynb")).run_id == "aa", "the run's own copy"
    assert runs.find(str(folder / "manifest.json")).run_id == "aa"
    monkeypatch.chdir(out)
    assert runs.find("a.ipynb").run_id == "aa"
    monkeypatch.chdir(folder)
    assert runs.find("a.html").run_id == "aa"
    (bare_workspace / "link").symlink_to(out)
    assert runs.find(str(bare_workspace / "link" / "a.ipynb")).run_id == "aa"
    monkeypatch.chdir(bare_workspace)
    keep(bare_workspace, "cc", began=3.0, output=str(out / "a.ipynb"))
    assert runs.find(str(out / "a.ipynb")).run_id == "cc", "the last that wrote it"
    for name in ("./none.ipynb", "none.html", "/nowhere/a.ipynb"):
        with pytest.raises(RunNotFound, match=r"no recorded run wrote .*`mltoolkit runs` lists"):
            runs.find(name)


def test_only_manifests_that_may_matter_are_parsed(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = bare_workspace / "out [é]"
    out.mkdir()
    for number in range(20):
        keep(bare_workspace, f"aa{number:02}", began=float(number))
    keep(bare_workspace, "bb", began=0.5, output=str(out / "a.ipynb"))
    keep(bare_workspace, "cc", Status.running, began=30.0, output=str(out / "b.ipynb"), host=environment.host(), pid=1, pid_start="long ago")
    parsed: list[str] = []
    load = runs.load
    monkeypatch.setattr(runs, "load", lambda folder: parsed.append(Path(folder).name) or load(folder))
    assert runs.find("out [é]/a.ipynb").run_id == "bb"
    assert parsed == ["cc", "bb"]
    parsed.clear()
    assert runs.find(str(runs.runs_folder(bare_workspace) / "aa07" / "a.html")).run_id == "aa07"
    assert parsed == ["aa07"]
    parsed.clear()
    assert [folder.name for folder in sorted(runs._folders(runs.runs_folder(bare_workspace))) if runs._rescue(folder)] == ["cc"]
    assert parsed == ["cc"]


def test_a_folder_without_a_manifest_that_can_be_read_is_passed_over(bare_workspace: Path) -> None:
    keep(bare_workspace, "aa", began=1.0)
    for number, text in enumerate([None, "", "{", "[]", '{"run_id": "x"}']):
        broken = runs.runs_folder(bare_workspace) / f"bb{number}"
        broken.mkdir()
        if text is not None:
            (broken / runs.MANIFEST).write_text(text)
        assert runs.load(broken) is None
    (runs.runs_folder(bare_workspace) / "file").write_text("x")
    assert runs.find("latest").run_id == "aa"


def test_runs_that_only_the_store_has(workspace: Path) -> None:
    store = tracking.client(workspace)
    with pytest.raises(RunNotFound, match="no recorded run is called 'latest'"):
        runs.find("latest")
    first = tracked(store, workspace, local=False, parameters={"n": 1})
    second = tracked(store, workspace, Status.failed, local=False, experiment="flights", parameters={"n": 2})
    shutil.rmtree(runs.runs_folder(workspace))
    assert runs.find("latest").parameters == {"n": 2}
    assert runs.find(first).parameters == {"n": 1}
    assert runs.find(second[:12]).status is Status.failed
    store.create_run("0")  # somebody's plain MLflow run is no run of record
    assert runs.find("latest").run_id == second
    for name in ("0123nothing", "zz", "%", "_" * 32, first[:12].upper() + "A", f"{first[:5]}%", f"{first[:5]}'"):
        with pytest.raises(RunNotFound, match=re.escape(f"no recorded run is called {name!r}; `mltoolkit runs` lists")):
            runs.find(name)
    with pytest.raises(RunNotFound, match="2 runs begin with ''"):
        runs.find("")

    gone = tracking.open_run(store, "0", "a", HERE)
    with pytest.raises(RunNotFound, match=rf"run {gone} has no manifest \(status RUNNING\): "):
        runs.find(gone)
    store.log_text(gone, "{", runs.MANIFEST)
    with pytest.raises(RunNotFound, match=rf"the manifest of run {gone} cannot be read"):
        runs.find(gone)


# --- listing


def test_listing_says_what_ran_newest_first(workspace: Path) -> None:
    store = tracking.client(workspace)
    ids = [
        tracked(store, workspace, Status.succeeded, tags={"mltoolkit.project": "flights"}, experiment="flights"),
        tracked(store, workspace, Status.failed, tags={"mltoolkit.project": "flights", "mltoolkit.job": "nightly", "mlflow.parentRunId": "p"}, experiment="flights"),
        tracked(store, workspace, Status.succeeded, tags={"mltoolkit.project": "o'hara"}),
        tracked(store, workspace, Status.running),
    ]
    for number, run_id in enumerate(ids):  # MLflow counts in milliseconds
        store.log_metric(run_id, "auc", number / 2)
    store.create_run("0", tags=HERE)
    rows = runs.listing()
    assert {row.run_id for row in rows} == set(ids)
    began = [row.started_at for row in rows]
    assert began == sorted(began, reverse=True)  # type: ignore[type-var]
    by_id = {row.run_id: row for row in rows}
    failed = by_id[ids[1]]
    assert (failed.status, failed.notebook, failed.project, failed.experiment) == ("failed", "a.ipynb", "flights", "flights")
    assert (failed.trigger, failed.user, failed.job, failed.parent_run_id, failed.metrics) == ("cli", "me", "nightly", "p", {"auc": 0.5})
    assert failed.duration_s is not None
    assert failed.duration_s >= 0
    assert failed.started_at
    assert datetime.fromisoformat(failed.started_at).utcoffset() is not None
    assert (by_id[ids[3]].duration_s, by_id[ids[3]].status) == (None, "running")

    assert {row.run_id for row in runs.listing(status="succeeded")} == {ids[0], ids[2]}
    assert {row.run_id for row in runs.listing(project="flights")} == {ids[0], ids[1]}
    assert [row.run_id for row in runs.listing(project="flights", status="failed")] == [ids[1]]
    assert runs.listing(project="none") == runs.listing(status="lost") == runs.listing(limit=0) == []
    assert runs.listing(project="' or '1' = '1") == []
    assert [row.run_id for row in runs.listing(limit=2)] == [row.run_id for row in rows[:2]]
    with pytest.raises(ValueError, match="great"):
        runs.listing(status="great")


def test_more_runs_than_a_page(workspace: Path) -> None:
    store = tracking.client(workspace)
    ids = {tracking.open_run(store, "0", "a", HERE) for _ in range(7)}

    class SmallPages:
        """A store that answers with three runs at a time."""

        def search_experiments(self) -> Any:
            return store.search_experiments()

        def search_runs(self, experiments: list[str], condition: str, max_results: int, **options: Any) -> Any:
            return store.search_runs(experiments, condition, max_results=min(3, max_results), **options)

    assert {run.info.run_id for run in runs.search(SmallPages(), 100)} == ids
    assert len(runs.search(SmallPages(), 5)) == 5
    assert len(runs.search(SmallPages(), 6)) == 6


# --- repairing


def test_who_is_closed_and_who_is_not(workspace: Path) -> None:
    store = tracking.client(workspace)
    own = {"mltoolkit.pid": str(os.getpid()), "mltoolkit.pid_start": environment.process_start(os.getpid()) or ""}
    reused = own | {"mltoolkit.pid_start": "another process with this number"}
    alive, other_host, dead, again = (
        tracking.open_run(store, "0", "a", HERE | tags)
        for tags in (own, {**reused, "mltoolkit.host": "elsewhere"}, reused, {**reused, "mltoolkit.pid": "4194305"})
    )
    nameless = tracking.open_run(store, "0", "a", HERE)
    mine = store.create_run("0", tags=HERE | reused).info.run_id
    finished, ended = (tracking.open_run(store, "0", "a", HERE | reused) for _ in range(2))
    tracking.close_run(store, finished, Status.succeeded)
    store.set_terminated(ended, "FINISHED")  # as a script that a notebook starts may do

    assert sorted(runs.repair()) == sorted([dead, again, mine, ended])
    status = {run_id: store.get_run(run_id) for run_id in (alive, other_host, dead, again, nameless, mine, finished, ended)}
    assert {run_id for run_id, run in status.items() if run.info.status == "RUNNING"} == {alive, other_host, nameless}
    assert [status[each].info.status for each in (dead, again, mine, ended, finished)] == ["KILLED"] * 4 + ["FINISHED"]
    assert status[dead].data.tags["mltoolkit.status"] == "lost"
    assert "mltoolkit.status" not in status[mine].data.tags, "an interactive run does not become one of record"
    assert runs.repair() == []


def test_a_run_that_had_ended_but_was_not_closed_keeps_its_end(workspace: Path) -> None:
    store = tracking.client(workspace)
    place = tracking.experiment_id(store, "default", str(workspace / ".mltoolkit" / "artifacts"))
    run_id = tracking.open_run(store, place, "a", {**HERE, "mltoolkit.pid": "1", "mltoolkit.pid_start": "long ago"})
    keep(workspace, run_id, Status.succeeded)
    assert runs.repair() == [run_id]
    assert store.get_run(run_id).info.status == "FINISHED"
    assert store.get_run(run_id).data.tags["mltoolkit.status"] == "succeeded"
    assert [item.path for item in store.list_artifacts(run_id)] == ["manifest.json", "requirements.txt"]
    assert runs.find(run_id).status is Status.succeeded
    assert runs.repair() == []


def lost_run(root: Path, write: Write, run_id: str = "aa", **fields: Any) -> tuple[Path, Path]:
    """An untracked run whose process is gone, with a journal; and its executed notebook."""
    folder = keep(root, run_id, Status.running, tracked=False, host=environment.host(), pid=1, pid_start="long ago", **fields)
    journal = Journal(folder / runs.JOURNAL)
    journal.write("start", cell=0, papermill={"status": "running"})
    journal.write("output", cell=0, output={"output_type": "stream", "name": "stdout", "text": "shown\n"})
    journal.close()
    return folder, write(folder / "a.ipynb", "print('shown')")


def text_of(path: Path) -> str:
    return "".join(output.text for cell in document.read(path).cells for output in cell.get("outputs", []))


def test_what_a_lost_run_had_shown_goes_where_its_output_was_asked_for(workspace: Path, write: Write) -> None:
    first, executed = lost_run(workspace, write, "aa", output=str(workspace / "out.ipynb"))
    assert runs.repair() == ["aa"]
    assert text_of(executed) == text_of(workspace / "out.ipynb") == "shown\n"
    assert not (first / runs.JOURNAL).exists()

    second, executed = lost_run(workspace, write, "bb", output=str(workspace / "out.ipynb"))
    os.utime(second / runs.JOURNAL, (1000, 1000))
    write("out.ipynb", "'of another run, since'")
    before = (workspace / "out.ipynb").read_bytes()
    assert runs.repair() == ["bb"]
    assert (workspace / "out.ipynb").read_bytes() == before
    assert text_of(executed) == "shown\n"
    assert not (second / runs.JOURNAL).exists()
    lost = runs.find("bb")
    assert (lost.status, lost.exit_code, lost.ended_at) == (Status.lost, 1, datetime.fromtimestamp(1000, UTC))
    assert lost.failure
    assert lost.failure.message == "the process that ran it is gone"


def test_a_lost_run_that_cannot_be_completed_is_closed_all_the_same(workspace: Path, write: Write) -> None:
    (workspace / "link.ipynb").symlink_to("elsewhere")
    folder, executed = lost_run(workspace, write, "aa", output=str(workspace / "link.ipynb"))
    damaged, broken = lost_run(workspace, write, "bb")
    broken.write_text("{")
    empty, missing = lost_run(workspace, write, "cc")
    missing.unlink()
    (lost_run(workspace, write, "dd")[0] / runs.JOURNAL).unlink()
    elsewhere, _ = lost_run(workspace, write, "ee")
    run = runs.load(elsewhere)
    assert run
    run.host = "elsewhere"
    (elsewhere / runs.MANIFEST).write_text(run.to_json())
    alive = keep(workspace, "ff", Status.running, host=environment.host(), pid=os.getpid(), pid_start=environment.process_start(os.getpid()))

    assert sorted(runs.repair()) == ["aa", "bb", "cc", "dd"]
    assert text_of(executed) == "shown\n"
    for found, says in [(folder, "is a symbolic link"), (damaged, "is not valid JSON")]:
        run = runs.load(found)
        assert run
        assert run.status is Status.lost
        assert says in run.warnings[0]
        assert (found / runs.JOURNAL).exists(), "it is all there is"
    for found in (elsewhere, alive):
        run = runs.load(found)
        assert run
        assert run.status is Status.running
    assert (empty / runs.JOURNAL).exists()
    assert runs.repair() == []


SHOWING = """
import mlflow, time
from IPython.display import display
mlflow.start_run()
mlflow.log_metric("m", 1)
mlflow.start_run(nested=True)
shown = display("first", display_id=True)
for number in range(1000): print(number)
"""
STARTING = 'import subprocess\nsubprocess.Popen(["sleep", "600"], start_new_session=True)'
WAITING = """
import os, time
shown.update("first, changed later")
print("waiting", flush=True)
while not os.path.exists("go on"): time.sleep(0.05)
print("went on")
"""


def test_runs_of_a_killed_runner_are_closed_and_others_left_alone(workspace: Path, write: Write) -> None:
    write("tracked.ipynb", STARTING + SHOWING, WAITING, "'never'")
    write("untracked.ipynb", STARTING + "\nshown = display('first', display_id=True)", WAITING)
    write("alive.ipynb", "shown = display('first', display_id=True)", WAITING)
    doomed, spared = Marked(), Marked()
    program = BIN / "mltoolkit"
    processes = {
        "tracked.ipynb": doomed.start(program, "run", "tracked.ipynb", "out.ipynb"),
        "untracked.ipynb": doomed.start(program, "run", "--no-track", "untracked.ipynb"),
        "alive.ipynb": spared.start(program, "run", "--json", "alive.ipynb"),
    }

    def waiting() -> dict[str, Path]:
        found = {}
        for folder in runs.runs_folder(workspace).glob("*"):
            journal, run = folder / runs.JOURNAL, runs.load(folder)
            if run and journal.exists() and "waiting\\n" in journal.read_text():
                found[run.notebook] = folder
        return found

    try:
        wait_for(lambda: len(waiting()) == 3 or any(process.poll() is not None for process in processes.values()), "three runs", 120)
        folders = waiting()
        assert sorted(folders) == sorted(processes), [process.communicate() for process in processes.values() if process.poll() is not None]
        for name in ("tracked.ipynb", "untracked.ipynb"):
            processes[name].kill()
            processes[name].communicate()
        doomed.all_gone(within=15)  # kernels, supervisors, and what the notebooks had started

        store = tracking.client(workspace)
        (child,) = tracking.open_children(store, folders["tracked.ipynb"].name)
        closed = runs.repair()
        assert sorted(closed) == sorted([folders["tracked.ipynb"].name, folders["untracked.ipynb"].name, child])
        assert runs.repair() == []

        record = store.get_run(folders["tracked.ipynb"].name)
        assert (record.info.status, record.data.tags["mltoolkit.status"], record.data.metrics) == ("KILLED", "lost", {"m": 1.0})
        assert store.get_run(child).info.status == "KILLED"
        assert {"manifest.json", "tracked.ipynb", "requirements.txt"} <= {item.path for item in store.list_artifacts(record.info.run_id)}
        for name in ("tracked.ipynb", "untracked.ipynb"):
            lost = runs.find(folders[name].name)
            assert (lost.status, lost.exit_code) == (Status.lost, 1)
            assert lost.ended_at is not None
            assert lost.ended_at > lost.started_at
            jsonschema.validate(json.loads(lost.to_json()), manifest.published_schema())
            assert not (folders[name] / runs.JOURNAL).exists()
            assert lost.output == str(workspace / "out.ipynb" if name == "tracked.ipynb" else folders[name] / name)
            executed = document.read(lost.output)
            nbformat.validate(executed)
            assert executed.cells[0].outputs[0].data["text/plain"] == "'first, changed later'"
            assert executed.cells[1].outputs[-1].text == "waiting\n"
            assert executed.cells[1].metadata.papermill.status == "running"
        assert document.read("out.ipynb").cells[0].outputs[1].text == "".join(f"{number}\n" for number in range(1000))
        assert {row.run_id: row.status for row in runs.listing()} == {folders["tracked.ipynb"].name: "lost", folders["alive.ipynb"].name: "running"}

        assert processes["alive.ipynb"].poll() is None
        (workspace / "go on").touch()
        out, err = processes["alive.ipynb"].communicate(timeout=120)
        assert processes["alive.ipynb"].returncode == 0, err
        assert json.loads(out)["status"] == "succeeded"
        finished = document.read(json.loads(out)["output"])
        assert finished.cells[1].outputs[-1].text == "waiting\nwent on\n"
        assert store.get_run(folders["alive.ipynb"].name).info.status == "FINISHED"
        jsonschema.validate(json.loads(out), manifest.published_schema())
        jsonschema.validate(json.loads((folders["alive.ipynb"] / "manifest.json").read_text()), manifest.published_schema())
    finally:
        for mark in (doomed, spared):
            mark.end()
        for process in processes.values():
            process.communicate()
