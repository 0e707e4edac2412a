"""A recorded run is executed again from another clone and gives the same; what was tampered with is found, at its place."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from processes import wait_for

import mltoolkit
from mltoolkit.cli import main
from mltoolkit.cli_reproduce import _told, told_twice
from mltoolkit.errors import (
    Cancelled,
    Invalid,
    MissingExtra,
    NotebookFailed,
    RunNotFound,
    Status,
    TrackingError,
    Unrepeatable,
)
from mltoolkit.execution import rebuilding, repeating, reproduce, verification
from mltoolkit.execution.compare import Verdict, compare_notebooks
from mltoolkit.execution.repeating import Repeater
from mltoolkit.execution.reproduce import Request
from mltoolkit.execution.run import run_notebook
from mltoolkit.execution.side_by_side import side_by_side
from mltoolkit.notebook import document
from mltoolkit.record import environment, runs, tracking
from mltoolkit.record.dataset import datasets, describe, save_dataset
from mltoolkit.record.manifest import DatasetUse, GitState, Kernel, Run

CURRENT = Request(environment="current")
SOURCES = [
    "import os, random\nfrom mltoolkit import load_dataset, save_dataset",
    "rows: int = 4",
    "data = load_dataset('p/raw')\nprint(data['label'].sum(), os.getcwd(), os.environ['OMP_NUM_THREADS'], os.environ['MODE'])\nobject()",
    "import mlflow\nmlflow.log_metric('total', float(data['label'].sum()) + random.random())",
    "save_dataset(data.tail(rows), 'p/tail')\nsave_dataset(data.head(rows), 'p/head')",
    "print(len(load_dataset('p/head')), hash('a'), random.random())",
]
FAILING = ["import os", "step: int = 1", "open('beside.txt').read(), os.environ['TOKEN'] if step else ''", "raise ValueError(object())"]


def write(path: Path, sources: list[str]) -> NotebookNode:
    cells = [new_code_cell(source, metadata={"tags": ["parameters"]} if ": int = " in source else {}) for source in sources]
    spec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": spec})
    path.parent.mkdir(parents=True, exist_ok=True)
    document.write(notebook, path)
    return notebook


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


class Recorded:
    """A workspace in a git repository, with a dataset and two runs: one that succeeded, one that failed with what was not committed."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.root = folder / "first"
        self.stores = folder / "stores"
        self.stores.mkdir()
        shutil.copy(store, self.stores / "mlflow.db")
        self.variables = {
            "MLTOOLKIT_TRACKING_URI": f"sqlite:///{self.stores}/mlflow.db", "MLTOOLKIT_ARTIFACT_ROOT": f"{self.stores}/artifacts",
            "MLTOOLKIT_DATA_ROOT": f"{self.stores}/data", "MLTOOLKIT_WARM": "no", "OMP_NUM_THREADS": "3", "MODE": "night",
        }  # fmt: skip
        self.root.mkdir()
        (self.root / "settings.ini").write_text("[mltoolkit]\nseed = 11\nvariables = MODE\n")
        write(self.root / "projects/p/good.ipynb", SOURCES)
        git(self.root, "init", "-q")
        git(self.root, "add", "-A")
        git(self.root, "commit", "-qm", "all")
        self.raw = save_dataset(pd.DataFrame({"x": range(6), "label": [0, 1, 0, 1, 1, 0]}), "p/raw", root=self.stores / "data")

    def record(self) -> None:
        self.good = run_notebook(self.root / "projects/p/good.ipynb", parameters={"rows": 3}, gate=False)
        write(self.root / "projects/p/bad.ipynb", FAILING)
        (self.root / "projects/p/beside.txt").write_text("not committed\n")
        with pytest.raises(NotebookFailed) as caught:
            run_notebook(self.root / "projects/p/bad.ipynb", gate=False)
        self.bad: Run = caught.value.run


@pytest.fixture(scope="module")
def _recorded(tmp_path_factory: pytest.TempPathFactory, prepared_store: Path) -> Recorded:
    made = Recorded(tmp_path_factory.mktemp("reproduce"), prepared_store)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (made.variables | {"TOKEN": "t"}).items():
            patch.setenv(name, value)
        made.record()
    return made


@pytest.fixture
def recorded(_recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """The workspace, and an environment as on another day: other threads, another mode."""
    for name, value in (_recorded.variables | {"TOKEN": "t", "OMP_NUM_THREADS": "1", "MODE": "day"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(_recorded.root)
    yield _recorded
    assert list((_recorded.root / ".mltoolkit/cache/worktrees").glob("*")) == []
    assert len(git(_recorded.root, "worktree", "list").splitlines()) == 1


def test_the_same_comes_out_and_nothing_of_the_users_is_touched(recorded: Recorded) -> None:
    """With newer data, changed cells and other threads by now."""
    notebook = recorded.root / "projects/p/good.ipynb"
    committed = notebook.read_bytes()
    write(notebook, ["print('another notebook by now')"])
    newer = save_dataset(pd.DataFrame({"x": [1], "label": [9]}), "p/raw")
    status, before = git(recorded.root, "status", "--porcelain"), [(each.name, each.version) for each in datasets()]
    made = reproduce.reproduce(recorded.good.run_id[:12], CURRENT, page=side_by_side)
    assert (made.verdict, made.differences, made.missing) == (Verdict.identical, [], []), made.reason()
    assert {each["kind"] for each in made.noise} == {"workspace", "memory address"}
    assert (git(recorded.root, "status", "--porcelain"), [(each.name, each.version) for each in datasets()]) == (status, before)
    assert newer.version == 2
    again = runs.find(str(made.repeated_run_id))
    assert (again.trigger, again.git.commit if again.git else "", again.kernel.variables["OMP_NUM_THREADS"]) == ("reproduce", recorded.good.git.commit if recorded.good.git else None, "3")
    assert [(use.event, use.name, use.version) for use in again.datasets] == [("read", "p/raw", 1), ("written", "p/tail", 1), ("written", "p/head", 1), ("read", "p/head", 1)]
    tags = tracking.client(recorded.root).get_run(again.run_id).data.tags
    assert tags["mltoolkit.reproduces"] == recorded.good.run_id
    assert made.changed_packages == []
    assert "<script" not in Path(str(made.page)).read_text()
    shown = CliRunner().invoke(main, ["show", recorded.good.run_id])
    assert f"verified  identical, {made.verified_at[:10]}" in shown.output
    notebook.write_bytes(committed)


def test_a_project_from_another_clone_that_shares_only_the_stores(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "elsewhere"
    git(tmp_path, "clone", "-q", str(recorded.root), str(clone))
    monkeypatch.chdir(clone)
    done = CliRunner().invoke(main, ["reproduce", "--all", "--project", "p", "--env", "current", "--json"])
    made = json.loads(done.stdout)
    assert [(each["run_id"], each["verdict"]) for each in made] == [(recorded.good.run_id, "identical"), (recorded.bad.run_id, "identical")], done.output
    assert done.exit_code == 0
    failed = runs.find(made[1]["repeated_run_id"])
    assert (failed.status.value, failed.failure.cell if failed.failure else None) == ("failed", 3)
    store = tracking.client(clone)
    kept = [each.path for each in store.list_artifacts(recorded.bad.run_id, "verifications")]
    assert sorted(Path(each).suffix for each in kept) == [".html", ".json"]
    [seen] = verification.verifications(recorded.bad, clone)
    assert seen.line().startswith("identical, ")
    assert not list((clone / ".mltoolkit/cache/worktrees").glob("*"))


def test_what_was_edited_afterwards_is_found_at_its_place(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """In what the original left; the repetition is the run itself, which spares executing it."""
    monkeypatch.setattr(Repeater, "run", lambda process, order: recorded.good)
    store = tracking.client(recorded.root)
    folder = runs.runs_folder(recorded.root) / recorded.good.run_id
    kept, copy = recorded.good.metrics["total"], folder / "good.ipynb"
    original, manifest = copy.read_bytes(), (folder / "manifest.json").read_bytes()
    edited = document.read(copy)
    cell = next(place for place, each in enumerate(edited.cells) if "load_dataset('p/raw')" in each.source)
    edited.cells[cell].outputs[0].text = edited.cells[cell].outputs[0].text.replace("3 ", "4 ", 1)
    document.write(edited, copy)
    [stored] = recorded.stores.glob(f"artifacts/**/{recorded.good.run_id}/**/good.ipynb")
    artifact, changed = stored.read_bytes(), document.read(stored)
    changed.cells[-1].source += "  # as if"
    document.write(changed, stored)
    store.log_metric(recorded.good.run_id, "total", kept + 1)
    told = json.loads(manifest)
    told["environment"]["packages"]["click"] = "0.0.1"
    (folder / "manifest.json").write_text(json.dumps(told))
    written = next(use for use in recorded.good.datasets if use.name == "p/tail")
    part = next(Path(written.uri).glob("*.parquet"))
    table, content = pd.read_parquet(part), part.read_bytes()
    table.iloc[0, -1] = 1 - table.iloc[0, -1]
    table.to_parquet(part)
    try:
        done = CliRunner().invoke(main, ["reproduce", recorded.good.run_id, "--env", "current"])
    finally:
        copy.write_bytes(original)
        stored.write_bytes(artifact)
        part.write_bytes(content)
        (folder / "manifest.json").write_bytes(manifest)
        store.log_metric(recorded.good.run_id, "total", kept)
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0] == "different", done.output
    at = lines.index(f"cell {cell + 1}, stdout in the copy of the run's folder")
    assert lines[at + 1].startswith("  original  3 /")
    assert lines[at + 2].startswith("  repeated  4 /")
    source = lines.index(f"cell {len(edited.cells)}, source")  # of the notebook that the store has
    assert lines[source + 1].endswith("# as if")
    assert "metric total in the tracking store" in lines
    assert f"  original  {kept!r}" in lines
    assert "dataset p/tail version 1 written" in lines
    assert f"package: click 0.0.1 -> {environment.packages()['click']}" in lines


def why(run: Run, root: Path, *secrets: str) -> str:
    return "; ".join([*rebuilding.missing_facts(run, root, set(secrets)), *rebuilding.missing_data(run, root)])


def test_what_is_missing_is_named(recorded: Recorded, tmp_path: Path) -> None:
    good, root = recorded.good, recorded.root

    def changed(**facts: Any) -> Run:
        return good.model_copy(update=facts)

    def other_code(**facts: Any) -> Run:
        return changed(git=(good.git or GitState()).model_copy(update=facts))

    assert why(good, root) == ""
    assert why(other_code(commit="0" * 40, remote="https://example.org/r.git"), root) == "commit 000000000000 is not in this clone; `git fetch https://example.org/r.git` may bring it"
    assert "more than the setting diff_limit" in why(other_code(diff_truncated=True, diff_bytes=9), root)
    assert "where in its repository" in why(other_code(prefix=None), root)
    assert "in no git repository" in why(changed(git=None), root)
    assert "lies outside of the workspace" in why(changed(notebook="/x/a.ipynb"), root)
    assert "is no git repository" in why(good, tmp_path)
    assert why(changed(seed=None), root) == "the seed is not on the record"
    assert why(changed(secrets=["api_key"]), root) == "secret api_key was not given; `--secret api_key=env:VARIABLE` gives it"
    assert why(changed(secrets=["api_key"]), root, "api_key") == ""
    assert "is running; it has no result yet" in why(changed(status=Status.running), root)
    assert "was cancelled" in why(changed(status=Status.cancelled), root)
    assert "was refused" in why(changed(status=Status.invalid), root)
    assert why(changed(secrets=["a"], seed=None), root).count(";") == 2  # all of it at once
    git(tmp_path, "clone", "-q", str(root), "lost")
    git(tmp_path / "lost", "commit", "-q", "--amend", "-m", "another history")
    git(tmp_path, "clone", "-q", "--single-branch", f"file://{tmp_path}/lost", "later")
    assert why(good, tmp_path / "later").startswith(f"commit {(good.git or GitState()).commit[:12]} is not in this clone")  # type: ignore[index]
    gone = DatasetUse(event="read", name="p/raw", version=7, digest="d")
    assert "has no version 7" in why(changed(datasets=[gone]), root)
    assert "is now" in why(changed(datasets=[gone.model_copy(update={"version": 1})]), root)


def test_one_label_changed_on_the_disk_is_found_and_said_on_the_original(recorded: Recorded) -> None:
    part = Path(recorded.raw.uri) / json.loads(next(line for line in Path(recorded.raw.uri, "_delta_log", f"{1:020d}.json").read_text().splitlines() if '"add"' in line))["add"]["path"]
    table, content = pd.read_parquet(part), part.read_bytes()
    column = table.columns[-1]
    table.loc[5, column] = 1
    table.to_parquet(part)
    try:
        done = CliRunner().invoke(main, ["reproduce", recorded.good.run_id, "--json"])
    finally:
        part.write_bytes(content)
    said = json.loads(done.stdout)
    assert (done.exit_code, said["verdict"], said["repeated_run_id"]) == (1, "cannot be repeated", None)
    assert "dataset p/raw version 1 is not what was read" in said["missing"][0]
    assert recorded.raw.digest in said["missing"][0]
    latest = verification.verifications(recorded.good, recorded.root)[-1]
    assert latest.verdict is Verdict.impossible
    assert "cannot be repeated" in latest.line()


def test_code_that_is_not_the_recorded_one(recorded: Recorded) -> None:
    def said(run: Run) -> str:
        with pytest.raises(Unrepeatable) as caught, reproduce._put_up(run, CURRENT, recorded.root):
            pass
        return "; ".join(caught.value.missing)

    assert "is not the one that ran" in said(recorded.good.model_copy(update={"notebook_digest": "0" * 32}))
    assert "neither in the commit nor" in said(recorded.good.model_copy(update={"notebook": "projects/p/other.ipynb"}))
    folder = runs.runs_folder(recorded.root) / recorded.bad.run_id
    kept = (folder / "uncommitted.diff").read_bytes()
    (folder / "uncommitted.diff").write_bytes(kept.replace(b"+not committed", b" not committed"))
    try:
        assert "cannot be applied" in said(recorded.bad)
    finally:
        (folder / "uncommitted.diff").write_bytes(kept)
    assert reproduce._diff(recorded.bad.model_copy(update={"run_id": "0" * 32, "git": None}), recorded.root) == b""
    with pytest.raises(Unrepeatable, match="what was not committed is gone"):
        reproduce._diff(recorded.bad.model_copy(update={"run_id": "0" * 32}), recorded.root)


def test_submodules_and_large_files_come_from_what_is_here(recorded: Recorded, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for folder in (inner, outer):
        folder.mkdir()
        git(folder, "init", "-q")
    (inner / "module.py").write_text("answer = 42\n")
    content, weights = b"0123456789" * 200, b"9876543210" * 200

    def keep(content: bytes, repository: Path) -> None:
        digest = hashlib.sha256(content).hexdigest()
        kept = repository / "lfs/objects" / digest[:2] / digest[2:4] / digest
        kept.parent.mkdir(parents=True)
        kept.write_bytes(content)

    def pointer_to(content: bytes) -> str:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\nsize {len(content)}\n"

    pointer = pointer_to(content)
    (inner / "weights.bin").write_text(pointer_to(weights))
    (outer / "large.bin").write_text(pointer)
    (outer / "about.md").write_text(f"a pointer begins so:\n\n{pointer}")
    (outer / "settings.ini").write_text("[mltoolkit]\n")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "inner")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "lib/inner")
    git(outer, "add", "-A")
    git(outer, "commit", "-qm", "outer")
    run = recorded.good.model_copy(update={"git": GitState(commit=git(outer, "rev-parse", "HEAD"), prefix="")})

    def lacks() -> list[str]:
        with pytest.raises(Unrepeatable) as caught, rebuilding.worktree(run, b"", outer):
            pass
        return list(caught.value.missing)

    assert lacks() == [f"the content of {name}, which git-lfs keeps, is not here; `git lfs fetch --all` may bring it" for name in ("weights.bin", "large.bin")]
    keep(content, outer / ".git")
    keep(weights, outer / ".git/modules/lib/inner")
    with rebuilding.worktree(run, b"", outer) as place:
        assert (place / "lib/inner/weights.bin").read_bytes() == weights
        assert (place / "lib/inner/module.py").read_text() == "answer = 42\n"
        assert (place / "large.bin").read_bytes() == content
        assert (place / "about.md").read_text().endswith(pointer)
    commit = git(inner, "rev-parse", "HEAD")
    git(outer, "submodule", "--quiet", "deinit", "--force", "--all")
    assert lacks() == [f"submodule lib/inner at commit {commit[:12]} is not here; `git submodule update --init --recursive` may bring it"]
    assert git(outer, "worktree", "list").count("\n") == 0


def test_all_that_is_missing_is_named_also_what_is_found_later(recorded: Recorded) -> None:
    gone = DatasetUse(event="read", name="p/raw", version=7, digest="d")
    run = recorded.bad.model_copy(update={"run_id": "0" * 32, "datasets": [gone]})  # which has no diff here, nor in the store
    with pytest.raises(Unrepeatable) as caught, reproduce._put_up(run, CURRENT, recorded.root):
        pass
    [diff, data] = caught.value.missing
    assert diff.startswith("the artifact uncommitted.diff")
    assert "has no version 7" in data


def test_whoever_stops_waits_for_nothing_that_is_not_needed_any_more(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    read, stopped, begun = threading.Event(), threading.Event(), threading.Event()

    def reading(run: Run, root: Path) -> list[str]:
        begun.set()
        read.wait(60)
        return []

    def stopping(*facts: object) -> list[str]:
        begun.wait(60)
        raise Cancelled("stopped by SIGTERM")

    def put_up() -> None:
        with pytest.raises(Cancelled), reproduce._put_up(recorded.good, CURRENT, recorded.root):
            pass
        stopped.set()

    monkeypatch.setattr(rebuilding, "missing_data", reading)
    monkeypatch.setattr(rebuilding, "missing_facts", stopping)
    monkeypatch.setattr(reproduce, "_altered", lambda run, root: pytest.fail("it reads what was written for nothing"))
    thread = threading.Thread(target=put_up)
    thread.start()
    try:
        assert stopped.wait(20)
    finally:
        read.set()
        thread.join()


def test_where_an_environment_lies_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes reading what is in every local package."""
    run = Run(run_id="0" * 32, status="succeeded", notebook="a.ipynb", kernel=Kernel(name="python3"), started_at="2026-05-04T00:00:00Z")
    asked, made = [], tmp_path / "environments" / "made"
    monkeypatch.setattr(rebuilding, "_place_of", lambda *told: (asked.append(told), (made, {}, {}))[1])
    monkeypatch.setattr(rebuilding, "_install", lambda aside, *more: aside.mkdir())
    assert rebuilding.find_environment(run, b"", tmp_path) is None
    python = rebuilding.environment_for(run, tmp_path, b"", tmp_path)
    assert (python.is_relative_to(made), len(asked)) == (True, 2)
    os.utime(made, (0, 0))
    assert rebuilding.find_environment(run, b"", tmp_path) == python
    assert (made.stat().st_mtime > 0, len(asked)) == (True, 3)


def test_requests_that_make_no_sense(recorded: Recorded) -> None:
    for given in ({"rtol": -1.0}, {"atol": float("nan")}, {"pixels": float("inf")}, {"environment": "other"}):
        with pytest.raises(Invalid):
            Request(**given)  # type: ignore[arg-type]
    for command in (["reproduce"], ["reproduce", "latest", "--all"], ["reproduce", "--all"], ["reproduce", "--project", "p"], ["reproduce", "nothing-like-it"], ["reproduce", "latest", "--rtol", "-1"]):
        assert CliRunner().invoke(main, command).exit_code == 2, command
    with pytest.raises(RunNotFound, match="no recorded run"):
        reproduce.reproduce_project("nowhere", CURRENT)


def test_twice_names_the_cells_that_differ(recorded: Recorded) -> None:
    write(recorded.root / "scratch/chance.ipynb", ["import random, uuid", "random.random()", "print(uuid.uuid4())"])
    try:
        done = CliRunner().invoke(main, ["run", "scratch/chance.ipynb", "--twice", "--no-track", "--no-gate", "--cold"])
    finally:
        shutil.rmtree(recorded.root / "scratch")
    assert done.exit_code == 1, done.output
    lines = done.stderr.splitlines()
    assert lines[-2] == "not the same twice:"
    assert lines[-1].startswith("  cell 3, stdout: ")


def test_interrupted_in_the_middle(recorded: Recorded) -> None:
    """No work tree is left, the repetition is a cancelled run, and the exit code says so."""
    copy = recorded.good.model_copy(update={"run_id": "f" * 32, "tracked": False, "datasets": [], "parameters": {}, "given": []})
    write(recorded.root / "projects/p/good.ipynb", ["import time\nprint('begun', flush=True)\ntime.sleep(60)"])
    git(recorded.root, "commit", "-qam", "sleeps")
    slow = document.read(recorded.root / "projects/p/good.ipynb", outputs=False)
    copy.notebook_digest = reproduce._digest(slow)
    copy.git = GitState(commit=git(recorded.root, "rev-parse", "HEAD"), prefix="")
    folder = runs.runs_folder(recorded.root) / copy.run_id
    folder.mkdir()
    (folder / "manifest.json").write_text(copy.to_json())
    document.write(slow, folder / "good.ipynb")

    def begun() -> bool:
        return any("begun" in each.read_text() for each in runs.runs_folder(recorded.root).glob("*/journal.jsonl"))

    def last() -> str:
        manifest = max(runs.runs_folder(recorded.root).glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
        return str(json.loads(manifest.read_text())["status"])

    board = mltoolkit.board(recorded.root)
    board.table.select(copy.run_id)
    board.buttons["Reproduce"].click()
    assert not board.buttons["Cancel"].disabled
    wait_for(begun, "the repetition to have begun")
    board.buttons["Cancel"].click()
    assert board.background is not None
    assert board.background.cancelling
    assert not board.buttons["Cancel"].disabled  # it would lose the focus of who works by keys
    assert board.background.wait(30)
    assert "the repetition was stopped" in board.detail.value
    assert last() == "cancelled"
    assert not begun()
    child = subprocess.Popen([sys.executable, "-m", "mltoolkit", "reproduce", copy.run_id, "--env", "current"], stderr=subprocess.DEVNULL)
    wait_for(begun, "the repetition to have begun")
    assert len(list((recorded.root / ".mltoolkit/cache/worktrees").glob("*-*[0-9a-f]"))) >= 1
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    git(recorded.root, "reset", "-q", "--hard", "HEAD~1")
    assert last() == "cancelled"


def test_what_a_killed_repetition_left_is_removed_by_the_next(recorded: Recorded) -> None:
    folder = recorded.root / ".mltoolkit/cache/worktrees"
    git(recorded.root, "worktree", "add", "--detach", str(folder / "dead-1"), "HEAD")
    (folder / "dead-1.lock").touch()
    with rebuilding.worktree(recorded.good, b"", recorded.root) as place:
        assert not (folder / "dead-1").exists()
        assert (place / ".mltoolkit/runs").resolve() == runs.runs_folder(recorded.root)
        assert runs.runs_folder(place) == runs.runs_folder(recorded.root)
        with rebuilding.worktree(recorded.good, b"", recorded.root) as other:  # two at once
            assert other != place
        assert place.exists()


PYPROJECT = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "own-code"\nversion = "1"\n[tool.setuptools]\npy-modules = ["own_code"]\n'


def test_an_environment_is_built_once_and_holds_the_code_of_the_commit(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "own_code.py").write_text("answer = 42\n")
    run = Run(run_id="0" * 32, status="succeeded", notebook="a.ipynb", kernel=Kernel(name="python3"), started_at=recorded.good.started_at, git=GitState(commit="c" * 40, prefix=""))
    versions = environment.packages()
    run.environment.python, run.environment.packages = recorded.good.environment.python, {name: versions[name] for name in ("click", "six")} | {"own-code": "1"}
    run.environment.sources = {"own-code": "."}
    found: list[Path] = []

    def build() -> None:
        found.append(rebuilding.environment_for(run, tmp_path, b"", recorded.root))

    both = [threading.Thread(target=build) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    python = found[0]
    assert found == [python, python]
    program = "import own_code, click; from mltoolkit_is_not_here import x"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'mltoolkit_is_not_here'"
    site = next(python.parent.parent.glob("lib/python*/site-packages"))
    assert environment.packages([str(site)]) == run.environment.packages
    assert not list((recorded.root / ".mltoolkit/cache/environments").glob(".*"))
    monkeypatch.setattr(rebuilding, "_install", lambda *arguments: pytest.fail("built again"))
    assert rebuilding.environment_for(run, tmp_path, b"", recorded.root) == python
    monkeypatch.undo()
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no network
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    shutil.rmtree(python.parent.parent)
    run.environment.packages, run.environment.sources = {"click": versions["click"], "six": versions["six"]}, {}
    assert rebuilding.environment_for(run, tmp_path, b"", recorded.root).exists()  # all of it was in uv's cache
    run.environment.packages["click"] = "0.0.99"
    with pytest.raises(Unrepeatable, match="click"):
        rebuilding.environment_for(run, tmp_path, b"", recorded.root)
    assert not list((recorded.root / ".mltoolkit/cache/environments").glob(".*"))
    run.environment.sources = {"click": "file:///nowhere/click"}
    monkeypatch.setattr(environment, "sources", dict)
    with pytest.raises(Unrepeatable, match="package click came from file:///nowhere/click, which is not here"):
        rebuilding.environment_for(run, tmp_path, b"", recorded.root)
    run.environment.sources, run.environment.python = {}, "3.9.1"
    with pytest.raises(Unrepeatable, match=r"Python 3\.9\.1 is not on this machine"):
        rebuilding.environment_for(run, tmp_path, b"", recorded.root)
    run.environment.implementation = "PyPy"
    with pytest.raises(Unrepeatable, match="the run needs PyPy"):
        rebuilding.environment_for(run, tmp_path, b"", recorded.root)


def test_uv_says_what_is_gone() -> None:
    assert rebuilding._unavailable("Because nothere was not found in the package registry and you require nothere==1") == ["package nothere is no longer to be had"]
    assert rebuilding._unavailable("\u00d7 disk\n\u2570\u2500\u25b6 full") == ["the packages could not be installed: disk full"]


def test_what_a_repetition_writes_differently_stays_out_of_the_store(recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mltoolkit import load_dataset
    from mltoolkit.record import pinned

    head = describe("p/head")
    uses = [{"event": "written", "name": "p/head", "version": 1, "digest": head["digest"]}]
    pinned.pin(tmp_path / "pins.json", uses, tmp_path / "data", str(head["run_id"]))
    monkeypatch.setenv(pinned.VARIABLE, str(tmp_path / "pins.json"))
    other = save_dataset(pd.DataFrame({"x": [5]}), "p/head")
    assert load_dataset("p/head")["x"].tolist() == [5]
    assert other.uri.startswith(str(tmp_path))
    same = load_dataset("p/head", 1, root=recorded.stores / "data")
    assert save_dataset(same, "p/head").created is True
    assert load_dataset("p/head").equals(same)
    monkeypatch.delenv(pinned.VARIABLE)
    assert describe("p/head")["version"] == 1
    assert os.environ["MODE"] == "day"


class Touching:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def disguised(folder: Path, mark: Path) -> str:
    """A model that says of itself that it is in skops' format, and would be opened as a pickle."""
    folder.mkdir()
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Touching(mark)))
    opened = "{loader_module: mlflow.pyfunc.model, python_model: python_model.pkl, cloudpickle_version: '3'}"
    return described(folder, opened, "[]")


def described(folder: Path, opened: str, trusted: str) -> str:
    (folder / "input_example.json").write_text('{"columns": ["x"], "data": [[1.5]]}')
    (folder / "MLmodel").write_text(
        f"flavors:\n  python_function: {opened}\n  sklearn: {{serialization_format: skops, pickled_model: model.skops, skops_trusted_types: {trusted}}}\n"
        "saved_input_example_info: {artifact_path: input_example.json, type: dataframe, pandas_orient: split}\n"
    )
    return str(folder)


def trusting(folder: Path, trusted: str) -> str:
    """A model of types of which skops does not know one."""
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from skops.io import dump

    folder.mkdir()
    dump(make_pipeline(FunctionTransformer(partial(np.multiply, 2)), LinearRegression()).fit(pd.DataFrame({"x": [1.0, 2.0]}), [1.0, 2.0]), folder / "model.skops")
    return described(folder, "{loader_module: mlflow.sklearn, model_path: model.skops, predict_fn: predict}", trusted)


def test_a_process_that_cannot_do_what_it_is_asked(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "stderr").touch()
    with Repeater(Path(shutil.which("false") or "/bin/false"), os.environ, tmp_path, recorded.root) as process:
        with pytest.raises(Unrepeatable, match="could not be started: exit code 1"):
            process.run({"notebook": "a.ipynb"})
        assert process.predictions([("a", "b")], "") == [[{"problem": "exit code 1"}] * 2]
    beside, mark = tmp_path / "beside", tmp_path / "it ran"
    beside.mkdir()
    variables = {**os.environ, "TMPDIR": str(beside), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    with Repeater(Path(sys.executable), variables, tmp_path, recorded.root) as process:
        with pytest.raises(Unrepeatable, match="could not be started: no such notebook"):
            process.run({"notebook": str(tmp_path / "none.ipynb")})
        with pytest.raises(Unrepeatable, match=f"the tracking store does not say what run {'0' * 32} left: .*not found"):
            process.left("0" * 32, [])
        with pytest.raises(TrackingError, match=r"the verdict could not be written to the tracking store: .*not found"):
            process.keep("0" * 32, "a", "b", {})
        assert process.left(recorded.good.run_id, ["none.ipynb"]) == {"metrics": recorded.good.metrics, "models": []}
        places = disguised(tmp_path / "model", mark), trusting(tmp_path / "trusting", "[functools.partial]"), trusting(tmp_path / "careless", "[]")
        [[told, _], [trusted, _], [careless, _]] = process.predictions([(place, place) for place in places], "")
    assert not mark.exists()
    assert told["problem"].startswith("opening it could run code, and the setting allow_pickle is off: python_model.pkl is a pickle")
    assert trusted == {"predicted": [pytest.approx(1.5)]}  # as the notebook that logged it has said
    assert "trusted_types=['functools.partial'] says so" in careless["problem"]
    assert list(beside.glob("mlt-model-*")) == []
    assert list(tmp_path.glob("mlt-model-*"))  # in the process's folder, which goes with it


def test_what_a_run_left_is_read_to_its_last_page_and_kept_beside_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store that gives one run a page, and keeps models elsewhere."""
    import mlflow
    from mlflow.store.entities import PagedList

    made = {name: SimpleNamespace(data=SimpleNamespace(metrics={}), outputs=SimpleNamespace(model_outputs=[SimpleNamespace(model_id=name)])) for name in "abc"}
    order = {None: ("c", "2"), "2": ("b", None)}  # newest first

    def page(experiments: list[str], condition: str, order_by: list[str], page_token: str | None = None, **more: Any) -> Any:
        assert condition == "tags.`mltoolkit.record` = 'a'"
        name, token = order[page_token]
        return PagedList([made[name]], token)

    store = SimpleNamespace(
        get_run=made.__getitem__, search_experiments=lambda: [SimpleNamespace(experiment_id="1")], search_runs=page, tracking_uri="sqlite://",
        get_logged_model=lambda name: SimpleNamespace(name=f"model {name}", artifact_location="s3://"),
    )  # fmt: skip
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda place, tracking_uri: tempfile.mkdtemp())
    program = repeating._PROGRAM
    told: dict[str, Any] = {"store": store, "here": str(tmp_path), "tempfile": tempfile, "runs": runs}
    exec(program[program.index("def left") : program.index("def predictions")], told)  # noqa: S102 (what the process does)
    models = told["left"]("a", [], str(tmp_path))["models"]
    assert [name for name, _ in models] == ["model a", "model b", "model c"]
    assert {Path(place).parent for _, place in models} == {tmp_path}


def test_a_process_that_cannot_be_started_or_is_killed_at_its_answer(tmp_path: Path) -> None:
    with pytest.raises(Unrepeatable, match=r"the environment's Python cannot be started: .*nowhere/python"):
        Repeater(tmp_path / "nowhere/python", os.environ, tmp_path, tmp_path)
    cut = tmp_path / "python"
    cut.write_text("#!/bin/sh\nread place\nread order\nprintf '{\"answer\": {\"run'\nkill -9 $$\n")
    cut.chmod(0o755)
    with Repeater(cut, os.environ, tmp_path, tmp_path) as process, pytest.raises(Unrepeatable, match="could not be started: exit code -9"):
        process.run({"notebook": "a.ipynb"})


def test_sigterm_cleans_up_as_sigint_does() -> None:
    with pytest.raises(Cancelled) as caught, reproduce._terminated_as_interrupted():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ran: list[bool] = []

    def elsewhere() -> None:
        with reproduce._terminated_as_interrupted():  # signals belong to the main thread
            ran.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ran == [True]


def test_where_packages_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(run_id="0" * 32, status="succeeded", notebook="a.ipynb", kernel=Kernel(name="python3"), started_at="2026-05-04T00:00:00Z")
    run.environment.packages = {"mltoolkit": "0.1.0"}
    run.environment.sources = {"own": "lib/own", "other": "git+https://example.org/r.git@abc", "gone": "file:///nowhere/gone", "here": f"file://{tmp_path}"}
    present = tmp_path / "present"
    present.mkdir()
    monkeypatch.setattr(environment, "sources", lambda: {"gone": f"file://{present}", "mltoolkit": f"file://{present}"})
    found = rebuilding._local_packages(run, Path("/srv/tree"))
    assert found == {
        "mltoolkit": str(present), "own": "/srv/tree/lib/own", "other": "other @ git+https://example.org/r.git@abc", "gone": str(present), "here": str(tmp_path),
    }  # fmt: skip
    before = rebuilding._content(str(tmp_path), run, Path("/srv/tree"), b"")
    (tmp_path / "a.py").write_text("1")
    assert rebuilding._content(str(tmp_path), run, Path("/srv/tree"), b"") != before
    assert rebuilding._content(str(tmp_path / "a.py"), run, Path("/srv/tree"), b"") != before
    assert rebuilding._content(found["other"], run, Path("/srv/tree"), b"") == found["other"]
    monkeypatch.setattr(rebuilding.shutil, "which", lambda *arguments, **options: None)
    with pytest.raises(MissingExtra, match="pip install uv"):
        rebuilding._uv()


def test_the_page_shows_what_is_in_one_only_and_runs_nothing() -> None:
    def executed(*sources: str) -> NotebookNode:
        attack = new_output("display_data", {"text/html": "<script>alert(1)</script><b>shown</b>"})
        return new_notebook(cells=[new_code_cell(source, outputs=[attack]) for source in sources])

    before, after = executed("a()", "gone()", "c()"), executed("a()", "c() + 1", "more()", "last()")
    comparison = compare_notebooks(before, after)
    made = verification.Verification("4f" * 16, comparison.verdict, notebook="p/<b>.ipynb", tolerance={"rtol": 0.1}, changed_packages=["<i> 1 -> 2"])
    page = side_by_side(before, after, comparison, made)
    assert "<script" not in page
    assert page.count("(nothing)") >= 1
    assert "&lt;b&gt;, repeated" in page
    assert "&lt;i&gt; 1 -&gt; 2" in page
    assert "rtol 0.1" in page
    assert page.count('id="cell-1"') == 1


def test_a_verification_tells_what_it_knows(tmp_path: Path) -> None:
    (tmp_path / "settings.ini").write_text("[mltoolkit]\n")
    run = Run(run_id="4f" * 16, status="succeeded", notebook="a.ipynb", kernel=Kernel(name="python3"), started_at="2026-05-04T00:00:00Z", tracked=True)
    assert verification.verifications(run, tmp_path) == []  # no store is made for asking
    made = verification.Verification(run.run_id, Verdict.within_tolerance, tolerance={"rtol": 0.1})
    made.differences = [{"what": "metric auc", "verdict": "equal within tolerance", "original": "1", "repeated": "1.01", "cell": None}]
    folder = runs.runs_folder(tmp_path) / run.run_id
    folder.mkdir(parents=True)
    (folder / verification.FILE).write_text("not JSON\n{}\n")
    verification.keep(made, tmp_path)
    [seen] = verification.verifications(run, tmp_path)
    assert seen == made
    assert "metric auc: '1' became '1.01'" in seen.line()
    many = verification.Verification(run.run_id, Verdict.different, missing=[], changed_packages=["a 1 -> 2"])
    many.differences = [{"what": "stdout", "verdict": "different", "original": "a", "repeated": "b", "cell": n} for n in range(25)]
    many.noise = [{"kind": "duration"}] * 2
    told = _told(many).splitlines()
    assert (told[0], told[1], told[-3:]) == ("different", "cell 1, stdout", ["and 5 more", "noise: 2 duration", "package: a 1 -> 2"])
    assert told_twice(compare_notebooks(new_notebook(), new_notebook())) == "twice the same"


@pytest.mark.parametrize("text", ["x" * 9000, "\N{GRINNING FACE}" * 500, "\x00" * 3000])
@pytest.mark.parametrize("longest", ["differences", "missing", "changed_packages", "notebook", "all"])
def test_whatever_a_verdict_says_fits_into_a_tag(text: str, longest: str) -> None:
    from mlflow.utils.validation import MAX_TAG_VAL_LENGTH

    made = verification.Verification("4f" * 16, Verdict.different, repeated_run_id="5e" * 16, user="ada", host="h", page="/w/comparison.html")
    difference = {"what": text, "verdict": "different", "original": text, "repeated": text, "cell": 3}
    given = {"differences": [difference], "missing": [text] * 200, "changed_packages": [text] * 200, "notebook": text, "page": text, "user": text, "host": text}
    for name, value in given.items():
        if longest in (name, "all"):
            setattr(made, name, value)
    kept = verification._short(made)
    assert len(kept) <= MAX_TAG_VAL_LENGTH
    found: dict[str, verification.Verification] = {}
    verification._read(kept, found)
    [seen] = found.values()
    assert (seen.verdict, seen.run_id, seen.repeated_run_id, seen.verified_at) == (made.verdict, made.run_id, made.repeated_run_id, made.verified_at)
    assert text.startswith(seen.differences[0]["original"] if seen.differences else "")
