"""The command line: what it prints where, and how it exits."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from mltoolkit import cli
from mltoolkit.record.dataset import save_dataset

PROGRAM = str(Path(sys.executable).with_name("mltoolkit"))


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(cli.main, list(arguments), **options)


@pytest.fixture
def add(write: Callable[..., Path]) -> Path:
    return write("add.ipynb", "print('adding')\na + b", parameters="a: int = 1  # first\nb: float = 0.5")


class TestRun:
    def test_prints_one_line(self, bare_workspace: Path, add: Path) -> None:
        done = run("run", "add.ipynb", "-p", "a", "41", "--no-track")
        assert done.exit_code == 0, done.output
        [line] = done.stdout.splitlines()
        run_id, status, *_ = line.split()
        assert (len(run_id), status) == (32, "succeeded")
        assert "adding" not in done.output

    def test_json_has_the_promised_keys_and_nothing_else_on_stdout(self, bare_workspace: Path, add: Path) -> None:
        done = run("run", "add.ipynb", "--no-track", "--json")
        shown = json.loads(done.stdout)
        assert {"run_id", "status", "output", "html", "duration_s", "metrics"} <= shown.keys()
        assert shown["parameters"] == {"a": 1, "b": 0.5}
        assert Path(shown["output"]).exists()
        assert Path(shown["html"]).read_text().startswith("<!DOCTYPE html>")

    def test_a_failure_is_json_on_stdout_and_one_line_on_stderr(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        write("bad.ipynb", "1 / 0")
        done = run("run", "bad.ipynb", "--no-track", "--json")
        assert done.exit_code == 1
        assert json.loads(done.stdout)["failure"]["ename"] == "ZeroDivisionError"
        [line] = done.stderr.splitlines()
        assert line.startswith("mltoolkit: bad.ipynb failed: ZeroDivisionError: division by zero")

    def test_every_way_to_give_parameters(self, bare_workspace: Path, add: Path, write: Callable[..., Path]) -> None:
        write("all.ipynb", "1", parameters="a: int\nb: str\nc: list[int]\nd: str\ne: int")
        (bare_workspace / "p.yaml").write_text("c: [1, 2]\nb: file\n")
        done = run(
            "run", "all.ipynb", "--no-track", "--json", "-p", "a", "3", "-r", "d", "007", "-f", "p.yaml", "-y", "b: yaml",
            "-b", "ZTogOQ==",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["parameters"] == {"a": 3, "b": "yaml", "c": [1, 2], "d": "007", "e": 9}

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("-p", "aa", "1"), "'a'"),
            (("-p", "a", "one"), "one"),
            (("-p", "a; import os", "1"), "import os"),
            (("--timeout", "soon"), "soon"),
            (("-k", "pyhton3"), "pyhton3"),
            (("--cwd", "nowhere"), "nowhere"),
            (("-f", "missing.yaml"), "missing.yaml"),
            (("--secret", "a=env:NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE"),
        ],
    )
    def test_bad_input_is_refused_with_2_and_leaves_nothing(
        self, bare_workspace: Path, add: Path, arguments: tuple[str, ...], said: str
    ) -> None:
        done = run("run", "add.ipynb", "--no-track", *arguments)
        assert done.exit_code == 2
        assert said in done.stderr
        assert done.stdout == ""
        assert not (bare_workspace / ".mltoolkit" / "runs").exists()

    def test_no_such_notebook_and_usage(self, bare_workspace: Path, add: Path) -> None:
        done = run("run", "ad.ipynb")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "did you mean 'add.ipynb'?" in done.stderr
        assert run("run").exit_code == 2
        assert run("run", "add.ipynb", "--no-such-option").exit_code == 2
        assert run("rnu").exit_code == 2

    def test_help_notebook(self, bare_workspace: Path, add: Path) -> None:
        done = run("run", "add.ipynb", "--help-notebook")
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["name", "a", "b"]
        assert "first" in done.stdout
        schema = json.loads(run("run", "add.ipynb", "--help-notebook", "--json").stdout)
        assert schema["properties"]["a"]["type"] == "integer"

    def test_output_is_shown_when_asked_for_without_terminal_escapes(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        write("loud.ipynb", "print('\\x1b]0;title\\x07hello \\x1b[31mred\\x1b[0m')\n6 * 7", "raise ValueError('no')")
        done = run("run", "loud.ipynb", "--no-track", "--log-output")
        assert "hello red\n" in done.stderr
        assert "42\n" in done.stderr
        assert "ValueError" in done.stderr
        assert "\x1b" not in done.stderr

    def test_output_path_with_a_parameter(self, bare_workspace: Path, add: Path) -> None:
        (bare_workspace / "out").mkdir()
        assert run("run", "add.ipynb", "out/{a}.ipynb", "-p", "a", "7", "--no-track").exit_code == 0
        assert (bare_workspace / "out" / "7.ipynb").exists()

    def test_debug_shows_the_traceback(self, bare_workspace: Path) -> None:
        done = run("--debug", "run", "none.ipynb")
        assert done.exception is not None
        assert type(done.exception).__name__ == "NotebookInvalid"


class TestSecrets:
    VALUE = "correct-horse-battery-staple"

    @pytest.fixture
    def uses_it(self, write: Callable[..., Path]) -> Path:
        used = "print(api_key.get_secret_value())\nassert len(api_key.get_secret_value()) == 28"
        return write("key.ipynb", used, parameters="from pydantic import SecretStr\napi_key: SecretStr")

    def found(self, folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file() and self.VALUE.encode() in path.read_bytes()]

    def test_from_the_environment(self, bare_workspace: Path, uses_it: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KEY", self.VALUE)
        done = run("run", "key.ipynb", "--no-track", "--secret", "api_key=env:KEY", "--log-output")
        assert done.exit_code == 0, done.output
        assert self.VALUE not in done.output
        assert self.found(bare_workspace) == []
        shown = json.loads(run("show", "latest", "--json").stdout)
        assert shown["secrets"] == ["api_key"]
        assert sum(shown["redacted"].values()) > 0

    def test_from_a_file(self, bare_workspace: Path, uses_it: Path, tmp_path: Path) -> None:
        (tmp_path / "key.txt").write_text(self.VALUE + "\n")
        done = run("run", "key.ipynb", "--no-track", "--secret", f"api_key=file:{tmp_path / 'key.txt'}")
        assert done.exit_code == 0, done.output
        assert self.found(bare_workspace) == []

    def test_without_a_terminal_there_is_no_prompt(self, bare_workspace: Path, uses_it: Path) -> None:
        done = run("run", "key.ipynb", "--no-track", "--secret", "api_key")
        assert done.exit_code == 2
        assert "api_key" in done.stderr

    def test_the_prompt_does_not_echo(self, bare_workspace: Path, uses_it: Path) -> None:
        shown, code = on_a_terminal([PROGRAM, "run", "key.ipynb", "--no-track", "--secret", "api_key"], typed=self.VALUE + "\n", after="api_key")
        assert code == 0, shown
        assert self.VALUE not in shown
        assert self.found(bare_workspace) == []

    def test_a_secret_is_required(self, bare_workspace: Path, uses_it: Path) -> None:
        done = run("run", "key.ipynb", "--no-track")
        assert done.exit_code == 2
        assert "--secret api_key" in done.stderr


def on_a_terminal(command: list[str], *, typed: str = "", after: str = "", patience: float = 120.0) -> tuple[str, int]:
    """Run a command on a pseudo-terminal; return all it showed, and its exit code."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True)
    os.close(slave)
    shown, deadline = b"", time.monotonic() + patience
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    piece = os.read(master, 65536)
                except OSError:
                    break
                shown += piece
                if typed and after.encode() in shown:
                    os.write(master, typed.encode())
                    typed = ""
            elif process.poll() is not None:
                break
    finally:
        os.close(master)
        if process.poll() is None and time.monotonic() >= deadline:
            process.kill()
        code = process.wait(timeout=30)
    return shown.decode(errors="replace"), code


class TestProgress:
    def test_on_a_terminal_it_follows_the_cells(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        write("slow.ipynb", "first_step = 1", "second_step = 2")
        shown, code = on_a_terminal([PROGRAM, "run", "slow.ipynb", "--no-track"])
        assert code == 0
        assert "cell 1: first_step = 1" in shown
        assert "cell 2: second_step = 2" in shown

    def test_in_a_pipe_it_is_quiet(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        write("slow.ipynb", "first_step = 1")
        done = subprocess.run([PROGRAM, "run", "slow.ipynb", "--no-track"], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert len(done.stdout.splitlines()) == 1


class TestRuns:
    def test_an_empty_workspace(self, workspace: Path) -> None:
        assert "no runs yet" in run("runs").stdout
        assert json.loads(run("runs", "--json").stdout) == []
        assert run("show", "latest").exit_code == 2

    def test_lists_and_shows_what_ran(self, workspace: Path, write: Callable[..., Path]) -> None:
        write("projects/demo/train.ipynb", "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('auc', 0.75)", parameters="depth: int = 3")
        write("bad.ipynb", "1 / 0")
        assert run("run", "projects/demo/train.ipynb", "-p", "depth", "5").exit_code == 0
        assert run("run", "bad.ipynb").exit_code == 1

        rows = json.loads(run("runs", "--json").stdout)
        assert [(row["status"], row["project"], row["experiment"]) for row in rows] == [("failed", "", "default"), ("succeeded", "demo", "demo")]
        assert rows[1]["metrics"] == {"auc": 0.75}
        assert rows == json.loads(run("runs", "list", "--json").stdout)
        assert [row["status"] for row in json.loads(run("runs", "--status", "failed", "--json").stdout)] == ["failed"]
        assert len(json.loads(run("runs", "--limit", "1", "--json").stdout)) == 1
        assert [row["notebook"] for row in json.loads(run("runs", "--project", "demo", "--json").stdout)] == ["projects/demo/train.ipynb"]
        assert run("runs", "--status", "done").exit_code == 2
        listed = run("runs").stdout.splitlines()
        assert listed[0].split() == ["run", "status", "notebook", "started", "s", "by", "user"]
        assert len(listed) == 3

        shown = json.loads(run("show", rows[1]["run_id"][:10], "--json").stdout)
        assert shown == json.loads(run("runs", "show", rows[1]["run_id"], "--json").stdout)
        assert (shown["metrics"], shown["parameters"]) == ({"auc": 0.75}, {"depth": 5})
        text = run("show", rows[1]["run_id"]).stdout
        assert "auc=0.75" in text
        assert "depth=5" in text
        assert "division by zero" in run("show", rows[0]["run_id"]).stdout
        assert run("show", "zzz").exit_code == 2
        assert json.loads(run("runs", "repair", "--json").stdout) == []
        assert "every open run has its process" in run("runs", "repair").stdout


class TestData:
    def test_list_show_diff(self, bare_workspace: Path) -> None:
        assert "no datasets yet" in run("data", "list").stdout
        frame = pd.DataFrame({"n": range(10), "label": ["a"] * 10})
        first = save_dataset(frame, "demo/numbers", licence="CC0-1.0")
        frame.loc[9, "label"] = "b"
        save_dataset(frame, "demo/numbers", licence="CC0-1.0")
        [row] = json.loads(run("data", "list", "--json").stdout)
        assert (row["name"], row["version"], row["rows"]) == ("demo/numbers", 2, 10)
        assert "demo/numbers" in run("data", "list").stdout
        shown = json.loads(run("data", "show", "demo/numbers", "--version", "1", "--json").stdout)
        assert shown["digest"] == first.digest
        assert "label" in run("data", "show", "demo/numbers").stdout
        difference = run("data", "diff", "demo/numbers", "1", "2")
        assert difference.exit_code == 0
        assert "label" in difference.stdout
        assert json.loads(run("data", "diff", "demo/numbers", "1", "2", "--json").stdout)
        unknown = run("data", "show", "demo/number")
        assert unknown.exit_code == 1
        assert "did you mean 'demo/numbers'?" in unknown.stderr


class TestTheRest:
    def test_settings_say_where_they_come_from(self, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLTOOLKIT_SEED", "7")
        rows = {row["name"]: row for row in json.loads(run("settings", "--json").stdout)}
        assert (rows["seed"]["value"], rows["seed"]["origin"]) == (7, "MLTOOLKIT_SEED")
        assert rows["timeout"]["origin"] == "default"
        assert "MLTOOLKIT_SEED" in run("settings").stdout
        (bare_workspace / "settings.ini").write_text("[mltoolkit]\nsede = 1\n")
        wrong = run("settings")
        assert wrong.exit_code == 2
        assert "did you mean 'seed'?" in wrong.stderr

    def test_clean_is_a_dry_run_unless_told(self, bare_workspace: Path, add: Path) -> None:
        assert run("run", "add.ipynb", "--no-track").exit_code == 0
        [folder] = (bare_workspace / ".mltoolkit" / "runs").iterdir()
        [item] = json.loads(run("clean", "--older-than", "0s", "--keep", "0", "--json").stdout)
        assert item["name"] == folder.name
        assert "could go" in run("clean", "--older-than", "0s", "--keep", "0").stderr
        assert folder.exists()
        assert "removed" in run("clean", "--older-than", "0s", "--keep", "0", "--yes").stderr
        assert not folder.exists()
        assert "nothing to clean" in run("clean").stdout
        assert run("clean", "--older-than", "long").exit_code == 2

    def test_export_checks_projects(self, bare_workspace: Path, write: Callable[..., Path]) -> None:
        write("projects/demo/00_features.ipynb", "#| default_exp features", "#| export\ndef late(minutes): return minutes > 15")
        before = run("export", "--check")
        assert before.exit_code == 1
        assert "projects/demo/demo/features.py" in before.stdout
        assert not (bare_workspace / "projects" / "demo" / "demo" / "features.py").exists()
        assert json.loads(run("export", "--json").stdout)
        assert run("export", "--check").exit_code == 0

    def test_version_and_help(self) -> None:
        assert run("--version").stdout.startswith("mltoolkit, version ")
        for command in ("run", "runs", "show", "data", "settings", "export", "clean", "ui"):
            assert run(command, "--help").exit_code == 0

    def test_head_closes_the_pipe_quietly(self, bare_workspace: Path) -> None:
        done = subprocess.run(f"{PROGRAM} settings | head -1; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash", capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
