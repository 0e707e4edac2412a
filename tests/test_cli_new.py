"""`mltoolkit new`, `init` and `test` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mltoolkit import cli
from mltoolkit.conventions import scaffold
from mltoolkit.conventions.rules import example_notebook
from mltoolkit.notebook.export import export_workspace


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def test_a_workspace_a_project_and_a_second_init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scaffold, "lock", lambda root, facts: "")
    made = run("new", "workspace", "demo", "--profile", "team")
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines()[0] == f"{tmp_path / 'demo'}: 19 files"
    assert made.stdout.splitlines()[-1] == "next: cd demo && make check"
    monkeypatch.chdir("demo")
    told = json.loads(run("new", "project", "sales", "--json").stdout)
    assert told["root"] == str(tmp_path / "demo" / "projects" / "sales")
    assert "jobs.yaml" in told["added"]
    again = run("init", "--no-lock")
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1] == "nothing to add"
    (tmp_path / "demo" / ".gitattributes").unlink()
    planned = run("init", "--no-lock", "--dry-run")
    assert planned.stdout.splitlines()[:2] == ["would be added:", "  .gitattributes"]
    shown = json.loads(run("init", "--no-lock", "--json").stdout)
    assert (shown["added"], shown["extended"], shown["dry_run"]) == ([".gitattributes"], [], False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "workspace", "json"), "a module of Python's own"),
        (("new", "project", "sales"), "`mltoolkit new workspace NAME` makes one"),
        (("new", "workspace", "demo", "--profile", "google"), "laptop"),
        (("init", "--package", "../up"), "--package NAME"),
        (("test", "nowhere.ipynb"), "name a notebook or a folder"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_checks_of_notebooks_pass_or_fail(bare_workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run("test", "--json").stdout) == []
    (bare_workspace / "pyproject.toml").write_text('[project]\nname = "shop"\n\n[tool.nbdev]\nlib_path = "shop"\n')
    (bare_workspace / "nbs").mkdir()
    cells = ["#| default_exp prices", "#| export\ndef gross(net):\n    return net * 2", "assert gross(1) == 2"]
    (bare_workspace / "nbs" / "00_prices.ipynb").write_bytes(example_notebook(cells))
    (bare_workspace / "nbs" / "01_orders.ipynb").write_bytes(example_notebook(["#| default_exp orders", "assert 1 == 2, 'the books do not balance'"]))
    (bare_workspace / "nbs" / "02_notes.ipynb").write_bytes(example_notebook(["1 / 0"]))
    early = run("test")
    assert (early.exit_code, "run `mltoolkit export`" in early.stderr) == (2, True)
    export_workspace(bare_workspace)
    done = run("test", "--json")
    assert done.exit_code == 1
    assert [(each["path"], each["passed"]) for each in json.loads(done.stdout)] == [("nbs/00_prices.ipynb", True), ("nbs/01_orders.ipynb", False)]
    assert "the books do not balance" in capfd.readouterr().err
    one = run("test", "nbs/00_prices.ipynb", "-n", "1")
    assert one.exit_code == 0
    assert one.stdout.startswith("ok  nbs/00_prices.ipynb")
    assert "is no notebook" in run("test", "settings.ini").stderr
    (bare_workspace / "nbs" / "01_orders.ipynb").write_text('{"default": "#| default_exp x"')
    assert run("test").exit_code == 2
