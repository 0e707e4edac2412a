"""A new workspace and a new project: what is made passes its own checks, runs as a job, and knows nothing of this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mltoolkit import settings
from mltoolkit.conventions import scaffold
from mltoolkit.conventions.check import check
from mltoolkit.conventions.scaffold import Facts, new_project, new_workspace
from mltoolkit.errors import Invalid, OutputRefused
from mltoolkit.record.dataset import describe
from mltoolkit.scheduling.jobs import load

PYTHON = Path(sys.executable)
HERE = Facts("data-team@example.org", "", "3.11", "UTC", "")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> scaffold.Made:
    """A workspace as it was made; tests that change it take a copy."""
    return new_workspace("demo", parent=tmp_path_factory.mktemp("fresh"), locked=False)


@pytest.fixture
def copy(fresh: scaffold.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it; the working directory."""
    root = tmp_path / "demo"
    shutil.copytree(fresh.root, root)
    monkeypatch.chdir(root)
    return root


def make(root: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    """Run make in a workspace with this environment, as somebody without variables of ours."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MAKE", "COV", "PYTEST", "PYTHON"))}
    return subprocess.run(["make", *targets, f"VENV={PYTHON.parent.parent}"], cwd=root, env=variables, capture_output=True, text=True, timeout=600, check=False)


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# --- what is made


def test_it_passes_its_own_checks_untouched(copy: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "add", "-A"], cwd=copy, check=True)
    subprocess.run([*git, "commit", "-qm", "all"], cwd=copy, check=True)
    done = make(copy, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert [step[3:].split()[0] for step in steps] == ["notebooks", "modules", "notebooks", "ruff", "notebooks", "tests", "the"]
    for said in ("nothing found", "ok  nbs/00_forecast.ipynb", "ok  projects/example/00_contract.ipynb", "Total coverage: 100"):
        assert said in done.stdout
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=copy, check=True, capture_output=True, text=True).stdout
    assert changed == ""


def test_its_tests_fail_if_the_example_is_broken(copy: Path) -> None:
    replace_in(copy / "demo" / "forecast.py", "last[step % season]", "last[0]")
    done = make(copy, "test")
    assert done.returncode != 0
    assert "test_the_last_season_is_repeated" in done.stdout


def test_its_job_runs_untouched(copy: Path, prepared_store: Path) -> None:
    shutil.copy(prepared_store, settings.local(copy) / "mlflow.db")
    command = [str(PYTHON), "-m", "mltoolkit", "jobs", "run", "example/prepare", "--date", "2025-03-31"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = subprocess.run([str(PYTHON), "-m", "mltoolkit", "jobs", "show", "example/prepare", "--json"], cwd=copy, capture_output=True, text=True, check=True)
    entry = json.loads(shown.stdout)
    assert (entry["state"], entry["attempt"]) == ("succeeded", 1)
    saved = describe("example/visits", root=copy / ".mltoolkit" / "data")
    assert (saved["rows"], saved["licence"], saved["source"]) == (84, "CC0-1.0", "made up by projects/example/00_contract.ipynb")
    assert saved["contract"]
    assert saved["owner"]


def test_no_file_knows_this_machine(fresh: scaffold.Made) -> None:
    assert {"Makefile", "nbs/00_forecast.ipynb", "demo/forecast.py", "projects/example/jobs.yaml", "projects/example/example/contract.py"} <= set(fresh.added)
    for name in fresh.added:
        text = (fresh.root / name).read_text(encoding="utf-8")
        assert "{{" not in text.replace("${{ vars", ""), name
        for machine in (str(fresh.root.parent), sys.prefix, "file://", str(Path.home())):
            assert machine not in text, name
        assert not re.search("(?<!no-emit-)index-url", text), name  # of a package index, on a command line or in a file
    assert (fresh.root / ".git").is_dir()
    assert not list(fresh.root.parent.glob(".mltoolkit-new-*"))


def test_notebooks_show_results_and_those_of_a_run_are_the_same(fresh: scaffold.Made) -> None:
    for name in ("nbs/00_forecast.ipynb", "projects/example/00_contract.ipynb", "projects/example/01_prepare.ipynb"):
        cells = json.loads((fresh.root / name).read_text())["cells"]
        assert cells[0]["source"][0].startswith("# ")
        assert sum(bool(cell.get("outputs")) for cell in cells) >= 2, name


@pytest.mark.parametrize("profile", ["team", "company"])
def test_each_profile_keeps_the_conventions(profile: str, tmp_path: Path) -> None:
    root = new_workspace("shop", parent=tmp_path, profile=profile, locked=False).root
    project = new_project("sales-by-day", start=root)
    assert check([root]).findings == []
    jobs = load(root)
    assert sorted(jobs) == ["example/prepare", "sales-by-day/prepare"]
    assert {job.approval for job in jobs.values()} == {"before" if profile == "company" else "none"}
    assert project.added[:2] == ["00_contract.ipynb", "01_prepare.ipynb"]
    assert settings.get("tracking_uri", start=root).startswith("sqlite:///"), "it works before anybody filled in a host"
    assert settings.get("check_severity", start=root)["MLT502" if profile == "team" else "MLT5"] == ("error",)
    assert "mltoolkit[postgres,s3]" in (root / "pyproject.toml").read_text()


# --- names and places


@pytest.mark.parametrize("name", ["json", "site", "pandas", "mltoolkit", "class", "tests", "nbs", "../up", "a/b", "/tmp/x", ".", "", "Shop", "1st", "a b", "a-", "ä", "x" * 61, "a\n"])  # fmt: skip
@pytest.mark.parametrize("making", [new_workspace, new_project])
def test_a_name_that_cannot_be_is_refused(name: str, making: Callable[..., Any], bare_workspace: Path, tmp_path: Path) -> None:
    where = {"start": bare_workspace} if making is new_project else {"parent": tmp_path}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Invalid, match="cannot be called"):
        making(name, **where)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link"):
        with pytest.raises(OutputRefused, match="mltoolkit init"):
            new_workspace(name, parent=tmp_path)
    assert (tmp_path / "full" / "a.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    with pytest.raises(OutputRefused, match="/proc/sys"):
        new_workspace("demo", parent="/proc/sys")


def test_a_workspace_is_not_made_inside_another(bare_workspace: Path) -> None:
    with pytest.raises(Invalid, match="mltoolkit new project demo"):
        new_workspace("demo", parent=bare_workspace)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(Invalid, match="laptop, team, company"):
        scaffold.words_for("demo", "example", HERE, "google")


def test_what_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaffold.sys, "executable", shutil.which("false"))
    with pytest.raises(Invalid, match="cannot be exported"):
        new_workspace("demo", parent=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_project_needs_a_workspace_and_a_place(tmp_path: Path, bare_workspace: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(Invalid, match="new workspace NAME"):
        new_project("sales", start=outside)
    (bare_workspace / "projects" / "by-day").mkdir(parents=True)
    with pytest.raises(OutputRefused, match="exists already"):
        new_project("by_day", start=bare_workspace)
    (bare_workspace / "shop").mkdir()
    with pytest.raises(Invalid, match="the workspace's package"):
        new_project("shop", start=bare_workspace)


# --- what is found out


def test_git_tells_the_owner_and_the_author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"user.email": "ada@example.com", "user.name": 'Ada "the first" \\ L'}
    monkeypatch.setattr(scaffold, "git", lambda folder, *arguments: answers.get(arguments[-1], ""))
    found = scaffold.find_out(tmp_path)
    assert found.owner == "ada@example.com"
    assert found.authors == 'authors = [{ name = "Ada \\"the first\\" \\\\ L", email = "ada@example.com" }]\n'
    answers |= {"user.email": "x: {evil}\n", "user.name": ""}
    found = scaffold.find_out(tmp_path)
    assert (found.owner, found.authors) == ("data-team@example.org", "")
    assert any("an owner" in note for note in scaffold._notes(tmp_path, found))


def test_without_git_there_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scaffold.git(tmp_path, "status") == ""
    assert any("no git repository" in note for note in scaffold._notes(tmp_path, HERE))


def test_the_system_tells_the_time_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    assert scaffold._timezone(tmp_path) == "UTC"
    (tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    assert scaffold._timezone(tmp_path) == "Asia/Tokyo"
    (tmp_path / "timezone").write_text("Etc/UTC\n")
    assert scaffold._timezone(tmp_path) == "UTC"
    monkeypatch.setenv("TZ", ":Europe/Berlin")
    assert scaffold._timezone(tmp_path) == "Europe/Berlin"
    for broken in ("Mars/Olympus", "../../etc/passwd", "EST5EDT,M3.2.0"):
        monkeypatch.setenv("TZ", broken)
        assert scaffold._timezone(tmp_path) == "UTC"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, ""),
        ('{"url": "file:///opt/my%20tools/mltoolkit", "dir_info": {"editable": true}}', "/opt/my tools/mltoolkit"),
        ('{"url": "file:///opt/mltoolkit-0.1.0-py3-none-any.whl", "archive_info": {}}', "/opt/mltoolkit-0.1.0-py3-none-any.whl"),
        ('{"url": "https://git.example.org/mltoolkit", "vcs_info": {"vcs": "git", "commit_id": "abc"}}', "git+https://git.example.org/mltoolkit@abc"),
        ("not JSON", ""),
    ],
)
def test_the_installation_tells_where_it_came_from(written: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaffold, "distribution", lambda name: SimpleNamespace(read_text=lambda file: written))
    assert scaffold.source() == expected


def test_where_it_came_from_is_local_state(tmp_path: Path) -> None:
    scaffold.note_source(tmp_path, HERE)
    assert list(tmp_path.iterdir()) == []
    scaffold.note_source(tmp_path, Facts("", "", "3.11", "UTC", "/opt/mltoolkit"))
    assert (tmp_path / ".mltoolkit" / "source").read_text() == "/opt/mltoolkit\n"
    assert (tmp_path / ".mltoolkit" / ".gitignore").read_text() == "*\n"


# --- the lock


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program in uv's place, and nothing else of this environment."""
    monkeypatch.setattr(scaffold.sys, "executable", str(tmp_path / "python"))

    def write(script: str) -> None:
        path = tmp_path / "uv"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


@pytest.mark.parametrize("source", ["", "/opt/mltoolkit"])
def test_the_lock_holds_mltoolkit_if_an_index_has_it(source: str, uv: Callable[[str], None], tmp_path: Path) -> None:
    uv('echo "$@" > asked; cat > given; touch requirements.lock')
    assert scaffold.lock(tmp_path, Facts("", "", "3.11", "UTC", source)) == ""
    asked = (tmp_path / "asked").read_text()
    assert {"--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"} <= set(asked.split())
    assert ("--no-emit-package mltoolkit" in asked) is bool(source)
    assert (tmp_path / "given").read_text() == (f"mltoolkit @ {source}\n" if source else "")


def test_without_uv_or_an_index_the_way_to_the_lock_is_said(uv: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv("touch requirements.lock; echo 'no solution:\n  no such package' >&2; exit 1")
    assert scaffold.lock(tmp_path, HERE) == "there is no requirements.lock: no solution: no such package; `make lock` makes it"
    assert not (tmp_path / "requirements.lock").exists()
    (tmp_path / "uv").write_text("not a program")
    assert "OSError; `make lock`" in scaffold.lock(tmp_path, HERE)
    (tmp_path / "uv").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scaffold.lock(tmp_path, HERE) == "there is no requirements.lock, as uv is not installed; `make lock` makes it"
