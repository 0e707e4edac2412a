"""Maturity: what is looked for holds where it is there, and not where it is only said to be."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from mltoolkit.cli import main
from mltoolkit.conventions import evidence, evidence_code
from mltoolkit.conventions.evidence import LAYERS, PRACTICES, JobHistory, answer
from mltoolkit.conventions.evidence_projects import baseline_pairs, reviewed_on, section
from mltoolkit.conventions.maturity import Item, Maturity, layered, measure, records, text
from mltoolkit.conventions.maturity_page import page
from mltoolkit.conventions.rules import example_notebook
from mltoolkit.errors import Invalid
from mltoolkit.record import inputs, tracking
from mltoolkit.record.dataset import Dataset, save_dataset
from mltoolkit.scheduling.evidence import job_history
from mltoolkit.scheduling.store import INSTANCES, open_store

README = """# Shop

## Purpose

It says how much bread is to be baked tomorrow, and the baker decides by it; without it she goes by last week.

## Who could be harmed

Nobody is in the data, but a wrong number is bread thrown away, or somebody who comes for bread in vain.

Reviewed: {day}
"""
JOBS = """jobs:
  prepare:
    notebook: 01_prepare.ipynb
    schedule: {cron: "30 2 * * *", timezone: UTC, catch_up: latest}
    timeout: 20m
    retries: {times: 2, backoff: 1m}
    notify: {email: team@example.org}
    owner: team@example.org
  train:
    notebook: 02_train.ipynb
    needs: [prepare]
    timeout: 1h
    retries: {times: 0}
    notify: {command: [tell], "on": [failure]}
    owner: team@example.org
"""
FILES = {
    "settings.ini": "[mltoolkit]\n",
    ".gitignore": ".mltoolkit/\n",
    "pyproject.toml": '[project]\nname = "shop"\ndependencies = ["pandas>=2.2"]\n\n[tool.nbdev]\nnbs_path = "nbs"\n\n[tool.coverage.report]\nfail_under = 90\n',
    "requirements.lock": "# by uv\npandas==2.2.3 \\\n    --hash=sha256:00ff\nnumpy==1.26.4 ; python_version >= '3.11' \\\n    --hash=sha256:00ff\n",
    "Makefile": "test: .venv\n\tpytest --cov\n",
    ".github/workflows/ci.yml": "on: [push]\njobs:\n  test:\n    steps:\n      - run: make test\n",
    "tests/test_bread.py": "def test_bread():\n    assert 1 + 1 == 2\n",
    "projects/shop/jobs.yaml": JOBS,
    "projects/shop/README.md": README.format(day=datetime.now(UTC).date()),
}


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=shop", "-c", "user.email=shop@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def sales(root: Path, amount: float = 1.0, **said: Any) -> Dataset:
    """A version of the shop's dataset, as a run of record at a commit saves it."""
    facts: dict[str, Any] = {"contract": lambda table: None, "source": "the till", "licence": "CC0-1.0", "owner": "team@example.org"}
    return save_dataset(pd.DataFrame({"amount": [amount]}), "shop/sales", root=root / ".mltoolkit/data", **(facts | said))


def record(root: Path, run_id_of: Callable[[str], Dataset | None], metrics: dict[str, float], *, event: str = "", job: str = "", **tags: str) -> str:
    """A run of record, as the engine leaves it."""
    store = tracking.client(root)
    experiment = store.get_experiment_by_name("shop")
    number = experiment.experiment_id if experiment else store.create_experiment("shop")
    told = {"project": "shop", "status": "succeeded", "git_commit": "1" * 40, "git_dirty": "false", "trigger": "job" if job else "cli", "job": job, **tags}
    run = store.create_run(number, tags={f"mltoolkit.{name}": value for name, value in told.items() if value})
    for name, value in metrics.items():
        store.log_metric(run.info.run_id, name, value)
    if (dataset := run_id_of(run.info.run_id)) is not None:
        store.log_inputs(run.info.run_id, [inputs.mlflow_input({"event": event, **asdict(dataset)})])
    return str(run.info.run_id)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, prepared_store: Path) -> Path:
    """A workspace in which every practice holds."""
    root = tmp_path_factory.mktemp("whole") / "bakery"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "projects/shop/01_prepare.ipynb").write_bytes(example_notebook(["from mltoolkit import save_dataset\nsave_dataset([], 'shop/sales')"]))
    (root / "projects/shop/02_train.ipynb").write_bytes(example_notebook(["from sklearn.dummy import DummyRegressor\nDummyRegressor().fit([[1]], [1])"]))
    git(root.parent, "init", "-q", "--bare", "remote.git")
    for step in (["init", "-q"], ["add", "."], ["commit", "-qm", "The bakery"], ["remote", "add", "origin", str(root.parent / "remote.git")], ["push", "-qu", "origin", "HEAD"]):
        git(root, *step)
    (root / ".mltoolkit").mkdir()
    shutil.copy(prepared_store, root / ".mltoolkit/mlflow.db")

    def saved(run_id: str) -> Dataset:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLTOOLKIT_RUN_ID", run_id)
            patch.setenv("MLTOOLKIT_RUN_DIR", str(root.parent / "run"))
            patch.setenv("MLTOOLKIT_TAGS", json.dumps({"mltoolkit.git_commit": "1" * 40}))
            return sales(root)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # MLflow's provider of context looks for the workspace here
        record(root, saved, {"rows": 1.0}, event="written", job="shop/prepare")
        record(root, lambda run_id: sales(root), {"rmse": 2.0, "rmse_naive": 3.0}, event="read", job="shop/train")
    store = open_store(root)
    row = {"job": "shop/prepare", "logical": "x", "origin": "tick", "lane": "x", "due": 0.0, "created": 0.0, "ended": time.time(), "state": "succeeded", "attempt": 1}
    rows = [{**row, "key": f"shop/prepare@{number}", "attempt": 1 + (number == 3)} for number in range(6)]
    store.write(lambda connection: connection.execute(sa.insert(INSTANCES), rows))
    store.close()
    return root


@pytest.fixture
def bakery(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; the working directory."""
    root = tmp_path / "bakery"
    shutil.copytree(whole, root)
    monkeypatch.chdir(root)
    return root


def measured(root: Path, at: datetime | None = None) -> Maturity:
    return measure(root, job_history(root, at), at)


def items(found: Maturity) -> dict[str, Item]:
    return {each.name: each for layer in found.layers for each in layer.items}


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_everything_holds_where_everything_is_there(bakery: Path) -> None:
    found = measured(bakery)
    assert {each.name: each.evidence for each in items(found).values() if not each.holds} == {}
    assert list(items(found)) == list(PRACTICES)
    assert (found.score, found.lowest, found.next, found.notes) == (100.0, None, None, ())
    shown = text(found)
    assert shown.startswith("100 of 100\n\nDevOps: 5 of 5, 25.0 points\n")
    assert shown.endswith("No layer fails.")
    for part in (
        r"1 commit, 3 notebooks and modules, 0 files with changes", r"1 test function in 1 file", r"ci\.yml calls make test calls pytest", r"demands 90 %", r"pins 2 packages, with hashes",
        r"1 version, the latest of each by a run", r"\(CC0-1\.0\)", r"written by a job \(shop/prepare\)", r"shop/prepare is due next, on 20", r"6 of 6 ends .*; shop/prepare@3 succeeded after",
        r"2 successful runs in 90 days, 2 with metrics, 1 that read datasets, 2 at a clean commit", r"of shop: rmse 2, rmse_naive 3", r"2 jobs and 1 datasets: team@example\.org", r"shop reviewed on 20",
    ):  # fmt: skip
        assert re.search(part, shown), part


# --- each practice on its own


def rewrite(name: str, *pairs: tuple[str, str]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        content = (root / name).read_text()
        for old, new in pairs:
            assert old in content, old
            content = content.replace(old, new)
        (root / name).write_text(content)

    return change


def put(name: str, content: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(content) and None


def old_ends(root: Path, state: str, ended: float) -> None:
    store = open_store(root)
    store.write(lambda connection: connection.execute(sa.update(INSTANCES).values(state=state, ended=ended, attempt=1)))
    store.close()


def only_run(root: Path, metrics: dict[str, float], **tags: str) -> None:
    store = tracking.client(root)
    for each in store.search_runs([store.get_experiment_by_name("shop").experiment_id]):
        store.set_tag(each.info.run_id, "mltoolkit.status", "failed")
    record(root, lambda run_id: None, metrics, **tags)


PROJECT, LOCK = "projects/shop", "requirements.lock"
FLIPS: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("version-control", "in no git repository", lambda root: shutil.rmtree(root / ".git")),
    ("version-control", "0 commits", lambda root: [shutil.rmtree(root / ".git"), git(root, "init", "-q")]),
    ("version-control", "1 commits with 0 notebooks", lambda root: [shutil.rmtree(root / ".git"), git(root, "init", "-q"), git(root, "commit", "-qm", "x", "--allow-empty"), git(root, "add", "Makefile"), git(root, "commit", "-qm", "y")]),
    ("version-control", "there is no remote", lambda root: git(root, "remote", "remove", "origin")),
    ("version-control", "1 commit not pushed", lambda root: git(root, "commit", "-qm", "more", "--allow-empty")),
    ("tests", "^0 test functions", put("tests/test_bread.py", "def test_bread():\n    assert True\n\ndef helper():\n    assert 1 + 1 == 2\n")),
    ("ci", "there is no workflow", lambda root: shutil.rmtree(root / ".github")),
    ("ci", "calls no tests", rewrite(".github/workflows/ci.yml", ("make test", "pip install pytest # then pytest"))),
    ("ci", "calls no tests", rewrite("Makefile", ("pytest --cov", "echo done"))),
    ("ci", "starts only by hand", rewrite(".github/workflows/ci.yml", ("[push]", "workflow_dispatch"))),
    ("coverage", "demands 5 %", rewrite("pyproject.toml", ("fail_under = 90", "fail_under = 5"))),
    ("coverage", "neither", rewrite("pyproject.toml", ("fail_under = 90", "# fail_under = 90"))),
    ("coverage", "but there are no tests", put("tests/test_bread.py", "")),
    ("locks", "no lock", lambda root: (root / LOCK).unlink()),
    ("locks", "leaves versions open", put(LOCK, "pandas==2.2.3\nnumpy\n")),
    ("locks", "has no version for pandas>=2.2", put(LOCK, "pandas==1.5.3\n")),
    ("locks", "has no version for pandas>=2.2", put(LOCK, "numpy==1.26.4\n")),
    ("contracts", "shop/sales version 2: it has no contract", lambda root: sales(root, contract=None)),
    ("versions", "shop/sales version 2: no run of record wrote it", lambda root: sales(root, 2.0)),
    ("licences", "it has no licence and no source", lambda root: sales(root, licence=None, source=" ")),
    ("licences", "it expired on 2020-01-01", lambda root: sales(root, expires="2020-01-01")),
    ("pipelines", r"other version 1: no job has written it \(1 of 2 fail\)", lambda root: save_dataset(pd.DataFrame({"a": [1]}), "other", root=root / ".mltoolkit/data")),
    ("schedules", "is ever due again", rewrite(f"{PROJECT}/jobs.yaml", ("catch_up: latest", "start: 2013-01-01, end: 2013-12-31"))),
    ("schedules", "JOB002", rewrite(f"{PROJECT}/jobs.yaml", ("timeout: 1h", "tiemout: 1h"))),
    ("schedules", "jobs.yaml cannot be read", put(f"{PROJECT}/jobs.yaml", "jobs: [")),
    ("schedules", "jobs.yaml maps no `jobs`", put(f"{PROJECT}/jobs.yaml", "- jobs\n")),
    ("limits", "shop/train: its `timeout` is none", rewrite(f"{PROJECT}/jobs.yaml", ("timeout: 1h", "timeout: none"))),
    ("limits", "shop/prepare: it has no `timeout`", rewrite(f"{PROJECT}/jobs.yaml", ("    timeout: 20m\n", ""))),
    ("limits", "there is no job", lambda root: (root / PROJECT / "jobs.yaml").unlink()),
    ("retries", "shop/train: it has no `retries`", rewrite(f"{PROJECT}/jobs.yaml", ("    retries: {times: 0}\n", ""))),
    ("recovery", "0 of 0 ends", lambda root: old_ends(root, "succeeded", time.time() - 40 * 86400)),
    ("recovery", "0 of 6 ends", lambda root: old_ends(root, "failed", time.time())),
    ("recovery", "no job has been run yet", lambda root: (root / ".mltoolkit/jobs.db").unlink()),
    ("monitoring", "shop/train: nobody is told", rewrite(f"{PROJECT}/jobs.yaml", ('    notify: {command: [tell], "on": [failure]}\n', ""))),
    ("monitoring", "shop/train: `notify` leaves failures out", rewrite(f"{PROJECT}/jobs.yaml", ("[failure]", "[recovery]"))),
    ("tracked-runs", "nothing has been recorded yet", lambda root: (root / ".mltoolkit/mlflow.db").unlink()),
    ("tracked-runs", "no successful run in the last 90 days", lambda root: only_run(root, {"rmse": 1.0}, status="failed")),
    ("tracked-runs", "none of 1 runs has a metric", lambda root: only_run(root, {})),
    ("tracked-runs", "none of 1 runs has a dataset", lambda root: only_run(root, {"rmse": 1.0})),
    ("tracked-runs", "only 2 of 3 runs were at a clean commit", lambda root: record(root, lambda run_id: None, {}, git_dirty="true")),
    ("evaluation", "no metric of a baseline among base_rate, rmse", lambda root: only_run(root, {"rmse": 2.0, "base_rate": 0.2})),
    ("evaluation", "no metric at all", lambda root: only_run(root, {})),
    ("owners", "job shop/train: it has no owner", rewrite(f"{PROJECT}/jobs.yaml", ('"on": [failure]}\n    owner: team@example.org', '"on": [failure]}'))),
    ("owners", "dataset shop/sales: it has no owner", lambda root: sales(root, owner=None)),
    ("purpose", "has no section `Purpose`", rewrite(f"{PROJECT}/README.md", ("## Purpose", "Purpose"))),
    ("purpose", "no README.md", lambda root: (root / PROJECT / "README.md").unlink()),
    ("purpose", r"other: it has no README.md that can be read \(1 of 2 fail\)", lambda root: [(root / "projects/other").mkdir(), (root / "projects/other/a.ipynb").write_bytes(example_notebook(["1"]))]),
    ("harm-review", "has no date", rewrite(f"{PROJECT}/README.md", ("Reviewed: ", "Looked at: "))),
    ("harm-review", "2020-01-01 is older than a year", put(f"{PROJECT}/README.md", README.format(day="2020-01-01"))),
    ("harm-review", "2999-01-01, is in the future", put(f"{PROJECT}/README.md", README.format(day="2999-01-01"))),
    ("harm-review", "has 1 words", put(f"{PROJECT}/README.md", "# Who could be harmed?\n\nNobody\n\nReviewed: 2026-01-01\n")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shown", "change"), FLIPS, ids=[f"{name}-{number}" for number, (name, _, _) in enumerate(FLIPS)])
def test_a_practice_fails_when_its_evidence_is_gone(bakery: Path, name: str, shown: str, change: Callable[[Path], Any]) -> None:
    change(bakery)
    first = PRACTICES[name].layer == "devops"  # which needs no store
    item = next(each for each in evidence_code.of_code(bakery, []) if each.name == name) if first else items(measured(bakery))[name]
    assert item.holds is False
    assert re.search(shown, item.evidence), item.evidence
    assert item.step
    assert item.command


def test_data_are_fresh_as_long_as_the_job_is_in_time(bakery: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=10)
    item = items(measured(bakery, later))["freshness"]
    assert (item.holds, item.command) == (False, "mltoolkit jobs history shop/prepare")
    assert "shop/prepare was due on" in item.evidence
    store = open_store(bakery)
    store.write(lambda connection: connection.execute(sa.update(INSTANCES).values(ended=later.timestamp() - 60)))
    store.close()
    assert items(measured(bakery, later))["freshness"].holds, "found unchanged by a job that succeeds"
    rewrite(f"{PROJECT}/jobs.yaml", ("catch_up: latest", "start: 2013-01-01, end: 2013-12-31"))(bakery)
    assert items(measured(bakery, later))["freshness"].verdict == "not applicable", "nothing newer is promised"


# --- the whole


def test_nothing_is_shown_by_emptiness(bare_workspace: Path) -> None:
    (bare_workspace / "settings.ini").unlink()
    found = measured(bare_workspace)
    assert (found.score, found.weight) == (0.0, 0.25)
    assert {each.verdict for each in items(found).values()} == {"no"}
    assert (found.lowest.name if found.lowest else "", found.next.name if found.next else "") == ("devops", "version-control")
    assert list(bare_workspace.iterdir()) == [], "nothing is created by being looked for"


def test_what_needs_no_data_is_not_blamed_for_having_none(bare_workspace: Path, write: Callable[..., Path]) -> None:
    write("clock.ipynb", "print('tick')")
    found = measured(bare_workspace)
    verdicts = {name: each.verdict for name, each in items(found).items()}
    assert {verdicts[name] for name, each in PRACTICES.items() if each.layer == "data"} == {"not applicable"}
    assert verdicts["evaluation"] == "not applicable"
    assert (verdicts["owners"], verdicts["purpose"], verdicts["schedules"]) == ("no", "no", "no")
    assert found.weight == pytest.approx(1 / 3)
    assert [each["weight"] for each in records(found)["layers"]] == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert "Data: not applicable" in text(found)
    write("model.ipynb", "from sklearn.svm import SVC")
    assert {each.verdict for name, each in items(measured(bare_workspace)).items() if PRACTICES[name].layer == "data"} == {"no"}


def test_the_lowest_layer_that_fails_comes_first_and_each_counts_a_quarter() -> None:
    verdicts = dict.fromkeys(PRACTICES, True) | {"limits": False, "monitoring": False, "purpose": False, "schedules": None}
    found = Maturity(Path(), datetime(2026, 1, 31, tzinfo=UTC), layered([answer(name, holds, "") for name, holds in verdicts.items()]))
    assert found.score == pytest.approx(25 + 25 + 25 * 2 / 4 + 25 * 4 / 5)
    assert (found.lowest.name if found.lowest else "", found.next.name if found.next else "") == ("platform", "limits")
    assert records(found)["next"] == {"item": "limits", "step": "give the job a limit: `timeout: 20m`", "command": "mltoolkit check --select MLT701"}
    assert [len(each.items) for each in found.layers] == [5] * len(LAYERS)


# --- what cannot be read


def test_broken_files_are_a_line_each(bakery: Path) -> None:
    (bakery / "projects/shop/broken.ipynb").write_text("{")
    (bakery / "nbs").mkdir()
    (bakery / "nbs/00_core.ipynb").write_bytes(example_notebook(["#| default_exp core", "#| export\nassert 1 > 0", "assert 1 + 1 == 2"]))
    (bakery / "nbs/01_broken.ipynb").write_bytes(b"\xff")
    (bakery / "tests/test_broken.py").write_text("def test(:\n")
    (bakery / "uv.lock").write_text("[[package]]\nname = ")
    (bakery / "jobs.yaml").write_text("jobs: {a: !!python/object:os.system {}}")
    found = measured(bakery)
    for part in ("projects/shop/broken.ipynb", "nbs/01_broken.ipynb", "tests/test_broken.py", "jobs.yaml"):
        assert len([each for each in found.notes if each.startswith(f"{part} cannot be read: ")]) == 1, part
    assert "1 of 1 notebook of nbs/ check something" in items(found)["tests"].evidence
    (bakery / LOCK).unlink()
    assert any(each.startswith("uv.lock cannot be read") for each in measured(bakery).notes)


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_stores_that_do_not_answer_are_not_waited_for(bakery: Path, deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "PATIENCE", 0.5)
    monkeypatch.setenv("MLTOOLKIT_TRACKING_URI", f"http://{deaf}")
    monkeypatch.setenv("MLTOOLKIT_JOB_STORE", f"postgresql://{deaf}/jobs")
    (bakery / ".mltoolkit/data/shop/sales/_delta_log/00000000000000000001.json").write_text("{")
    began = time.monotonic()
    found = measured(bakery)
    assert time.monotonic() - began < 10
    assert {"tracking store: no answer in 0.5 s", "job store: no answer in 0.5 s"} <= set(found.notes)
    assert any(each.startswith("data store: ") for each in found.notes)
    verdicts = items(found)
    for name in ("tracked-runs", "evaluation", "contracts", "freshness", "pipelines", "recovery"):
        assert verdicts[name].holds is False, name
    assert "no answer in 0.5 s" in verdicts["recovery"].evidence
    assert "unknown: the tracking store" in verdicts["evaluation"].evidence


def test_without_the_extra_schedules_are_unknown(bakery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mltoolkit.scheduling.evidence.find_spec", lambda name: None)
    found = items(measured(bakery))
    for name in ("schedules", "recovery", "freshness"):
        assert (found[name].holds, found[name].evidence) == (False, "unknown: install mltoolkit[jobs]"), name
    assert found["schedules"].command == "pip install 'mltoolkit[jobs]'"
    assert found["limits"].holds, "what is written can be read all the same"


def test_without_git_there_is_a_line(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bare_workspace))
    assert evidence_code.version_control(bare_workspace).evidence == "git is not installed"


# --- parts


def test_locks_of_other_tools_are_read(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["Foo_Bar[x]>=1,<2; python_version > \'3\'"]\n')
    for name, content in {
        "uv.lock": 'version = 1\n[[package]]\nname = "foo-bar"\nversion = "1.5"\n[[package]]\nname = "own"\nsource = {editable = "."}\n',
        "pylock.toml": '[[packages]]\nname = "foo-bar"\nversion = "1.5"\n', "Pipfile.lock": '{"default": {"foo-bar": {"version": "==1.5"}}}', "requirements.txt": "foo.bar[x]==1.5 # pinned\n-r more.txt\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(content)
        assert evidence_code.locks(tmp_path, []).evidence == f"{name} pins 1 package, without hashes"
        (tmp_path / name).write_text(content.replace("1.5", "2.5"))
        assert evidence_code.locks(tmp_path, []).evidence.startswith(f"{name} has no version for Foo_Bar[x]"), name
        (tmp_path / name).write_text(content.replace("1.5", "odd"))
        assert evidence_code.locks(tmp_path, []).holds is False
        (tmp_path / name).unlink()


def test_reports_of_coverage_are_read(tmp_path: Path) -> None:
    (tmp_path / "coverage.xml").write_text('<?xml version="1.0"?>\n<coverage version="7" line-rate="0.42">')
    assert evidence_code.coverage(tmp_path, True).evidence == "coverage.xml has 42 %"
    (tmp_path / "coverage.json").write_text('{"totals": {"percent_covered": 81.2}}')
    found = evidence_code.coverage(tmp_path, True)
    assert (found.holds, found.evidence) == (True, "coverage.json has 81 %")


def test_scripts_that_call_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("bash b.sh\nmake all\n")
    (tmp_path / "b.sh").write_text("bash a.sh\nmake nothing\n")
    (tmp_path / "Makefile").write_text("all: all\n\techo\n")
    assert evidence_code.way_to_tests(tmp_path, "bash a.sh") is None
    (tmp_path / "b.sh").write_text("tox\n")
    assert evidence_code.way_to_tests(tmp_path, "bash a.sh") == ["a.sh", "b.sh", "tox"]


def test_baselines_are_told_by_their_names() -> None:
    assert baseline_pairs(["val/auc", "val/baseline/auc", "base_rate", "database", "database_x", "x"]) == [("val/auc", "val/baseline/auc")]
    assert baseline_pairs(["champion_rmse", "rmse", "base"]) == [("rmse", "champion_rmse")]


def test_a_section_is_what_a_reader_takes_for_one() -> None:
    written = "```\n# Purpose\nno\n```\n<!--\n# Purpose\n-->\n### PURPOSE ###\nyes\n#### below\nalso\n### Next\nnot\n"
    assert section(written, "Purpose") == "\nyes\n#### below\nalso\n"
    assert section("A purpose", "Purpose") is None
    assert str(reviewed_on("**Reviewed:** 2026-02-30\n> Reviewed: 2026-01-31\nreviewed : 2025-01-01")) == "2026-01-31"


def test_what_does_not_come_back_is_given_up() -> None:
    released = threading.Event()
    assert evidence.bounded(lambda: released.wait(60), 0.05) == (None, "no answer in 0.05 s")
    released.set()
    assert evidence.bounded(lambda: {}["x"]) == (None, "'x'")


# --- the command


def test_the_command_speaks_text_json_and_html(bakery: Path) -> None:
    rewrite(f"{PROJECT}/jobs.yaml", ("timeout: 1h", "timeout: none"))(bakery)
    shown = call("maturity", "--page", "maturity.html")
    assert (shown.exit_code, shown.exception) == (0, None)
    assert "95 of 100" in shown.output
    assert "Lowest layer that fails: Platform\nNext step: give the job a limit: `timeout: 20m`\n    $ mltoolkit check --select MLT701\n" in shown.output
    told = json.loads(call("maturity", "--json").stdout)
    assert (told["score"], told["lowest"], told["next"]["item"]) == (95.0, "platform", "limits")
    assert [each["weight"] for each in told["layers"]] == [0.25] * 4
    [limit] = [each for layer in told["layers"] for each in layer["items"] if each["name"] == "limits"]
    assert (limit["holds"], limit["evidence"]) == ("no", "shop/train: its `timeout` is none (1 of 2 fail)")
    assert datetime.fromisoformat(told["measured_at"]).tzinfo is not None
    written = (bakery / "maturity.html").read_text()
    assert written.count("<svg") == 1
    assert "4 of 5: the lowest that fails" in written
    assert not re.search(r'(?:src|href)="(?!#)', written), "it is whole by itself"


def test_the_command_explains_and_refuses(bare_workspace: Path) -> None:
    assert "Reviewed: 2026-01-31" in call("maturity", "--explain", "harm-review").output
    assert json.loads(call("maturity", "--explain", "limits", "--json").output)["layer"] == "platform"
    for arguments, why in ((["--explain", "limit"], "did you mean 'limits'?"), (["--page", "a.pdf"], "ends in .html"), (["--page", "no/a.html"], "there is no folder no")):
        refused = call("maturity", *arguments)
        assert (refused.exit_code, why in refused.output) == (2, True), refused.output
    (bare_workspace / "settings.ini").write_text("[mltoolkit]\nsede = 1\n")
    refused = call("maturity")
    assert (refused.exit_code, "no setting is called 'sede'" in refused.output) == (2, True)
    with pytest.raises(Invalid):
        evidence.find_practice("nothing")


def test_names_of_strangers_do_nothing_on_the_page_or_the_terminal(bare_workspace: Path, write: Callable[..., Path]) -> None:
    write("projects/<script>alert(1)<\u2215script>/a.ipynb", "from sklearn.svm import SVC")
    (bare_workspace / "jobs.yaml").write_text('jobs: {"<img src=x onerror=alert(1)>\\e[2J": {notebook: a.ipynb}}')
    found = measured(bare_workspace)
    written = page(found, "</title><script>")
    assert "&lt;script&gt;alert(1)" in written
    assert "&lt;img src=x" in written
    for nasty in ("<script", "<img", "\x1b", "</title><script"):
        assert nasty not in written, nasty
    assert "\x1b" not in text(found)
    assert "default-src 'none'" in written


def test_help_and_explanations_load_nothing_heavy(bare_workspace: Path) -> None:
    script = "import sys\nfrom mltoolkit.cli import main\ntry: main(['maturity', '--explain', 'ci'])\nexcept SystemExit as end: print(end.code, [each for each in ('pandas', 'mlflow', 'sqlalchemy', 'pydantic') if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_history_nobody_handed_in_is_not_a_good_one(bakery: Path) -> None:
    found = items(measure(bakery, JobHistory()))
    assert [found[name].verdict for name in ("schedules", "recovery")] == ["no", "no"]
