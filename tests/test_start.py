"""`mltoolkit run` from a shell, done by a process that was forked for it: nobody can tell, but by the time it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import notebook_of
from processes import gone, wait_for
from warm import runtime_folder, variables

from mltoolkit import start
from mltoolkit.execution import kernels
from mltoolkit.notebook import document

PROGRAM = str(Path(sys.executable).with_name("mltoolkit"))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


class Shell:
    """A workspace in which commands are typed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = variables(MLTOOLKIT_WARM="yes", MLTOOLKIT_PRELOAD="none", SAID="in the shell")

    def write(self, name: str, *cells: str, parameters: str = "") -> None:
        document.write(notebook_of(*cells, parameters=parameters), self.root / name)

    def type(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {"cwd": self.root, "env": self.env, "capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 120}
        return subprocess.run([PROGRAM, *arguments], check=False, **(settings | options))  # type: ignore[no-any-return]

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen([PROGRAM, *arguments], cwd=self.root, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def zygote(self) -> kernels.ZygoteState | None:
        """The zygote of the command."""
        return next((state for state in kernels.zygotes() if "mltoolkit.cli" in state.preloaded and state.root == str(self.root)), None)

    def served(self) -> int:
        state = self.zygote()
        return state.served if state else -1


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with runtime_folder():
        root = tmp_path_factory.mktemp("start").resolve()
        (root / "settings.ini").write_text("[mltoolkit]\n")
        made = Shell(root)
        made.env["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"]
        made.write("add.ipynb", "import os\nprint(os.getcwd(), os.environ['SAID'], oct(os.umask(0)), a + 1)", parameters="a: int = 1")
        assert made.zygote() is None

        def started() -> object:
            done = made.type("run", "add.ipynb", "--no-track")
            assert done.returncode == 0, done.stderr
            return made.zygote()

        wait_for(started, "a zygote of the command")
        yield made


def both(shell: Shell, *arguments: str, **options: Any) -> tuple[Any, Any]:
    """The same command, here and in a fork."""
    before = shell.served()
    here = shell.type(*arguments, "--cold", **options)
    assert shell.served() == before
    there = shell.type(*arguments, **options)
    wait_for(lambda: shell.served() == before + 1, "the command to have been forked")
    return here, there


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add.ipynb", "-p", "a", "41"), 0),
        (("add.ipynb", "-p", "a", "many"), 2),
        (("add.ipynb", "-p", "b", "1"), 2),
        (("nothing.ipynb",), 2),
        (("bad.ipynb",), 1),
        (("add.ipynb", "--no-such-option"), 2),
    ],
)
def test_says_and_exits_the_same(shell: Shell, arguments: tuple[str, ...], code: int) -> None:
    shell.write("bad.ipynb", "1 / 0")
    here, there = both(shell, "run", *arguments, "--no-track")
    assert (here.returncode, there.returncode) == (code, code)
    runs = shell.root / ".mltoolkit" / "runs"

    def plain(text: str) -> str:
        for run in runs.iterdir():
            text = text.replace(run.name, "RUN")
        return " ".join(word for word in text.split() if not word.replace(".", "").isdigit())

    assert plain(here.stdout) == plain(there.stdout)
    assert plain(here.stderr) == plain(there.stderr)


def test_runs_in_its_folder_with_its_environment_files_and_mask(shell: Shell) -> None:
    (shell.root / "below").mkdir(exist_ok=True)
    options = {"cwd": shell.root / "below", "env": shell.env | {"SAID": "below"}, "umask": 0o027}
    shown = []
    for done in both(shell, "run", "../add.ipynb", "--cwd", ".", "--no-track", "--json", **options):
        run = json.loads(done.stdout)
        (output,) = document.read(run["output"]).cells[-1].outputs
        shown.append(output.text)
        assert oct(Path(run["output"]).stat().st_mode & 0o777) == oct(0o640)
    assert shown == [f"{shell.root / 'below'} below 0o27 2\n"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_passes_signals_on(shell: Shell, number: int) -> None:
    began = shell.root / "began"
    shell.write("long.ipynb", f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(300)")
    found = []
    for how in ("--cold", "--no-track"):
        began.unlink(missing_ok=True)
        before = shell.served()
        process = shell.begin("run", "long.ipynb", "--no-track", "--json", how)
        wait_for(began.exists, "the cell to run")
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        run = json.loads(said)
        found.append((process.returncode, run["status"], run["failure"]["message"], run["exit_code"]))
        wait_for(lambda before=before, how=how: shell.served() == before + (how != "--cold"), "what was asked for to be counted")
    assert found[0] == found[1]
    assert found[0][1] == "cancelled"


def test_what_waits_is_killed(shell: Shell) -> None:
    """Nobody waits for the run any more: it is cancelled."""
    began = shell.root / "pid"
    shell.write("long.ipynb", f"import os, pathlib, time\npathlib.Path({str(began)!r}).write_text(str(os.getpid()))\ntime.sleep(300)")
    began.unlink(missing_ok=True)
    process = shell.begin("run", "long.ipynb", "--no-track")
    kernel = int(wait_for(lambda: began.exists() and began.read_text(), "the cell to run"))
    (state,) = [each for each in kernels.zygotes() if "mltoolkit.cli" in each.preloaded]
    children = kernels._children(state.pid)
    assert children
    process.kill()
    process.communicate()
    wait_for(lambda: gone(kernel) and all(gone(child) for child in children), "the run and its kernel to be gone")
    newest = max((shell.root / ".mltoolkit" / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    assert json.loads((newest / "manifest.json").read_text())["status"] == "cancelled"


def test_ends_by_the_signal_by_which_the_other_ended(shell: Shell) -> None:
    began = shell.root / "began"
    shell.write("long.ipynb", f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(300)")
    began.unlink(missing_ok=True)
    process = shell.begin("run", "long.ipynb", "--no-track")
    wait_for(began.exists, "the cell to run")
    (state,) = [each for each in kernels.zygotes() if "mltoolkit.cli" in each.preloaded]
    (supervisor,) = kernels._children(state.pid)
    (runner,) = kernels._children(supervisor)
    os.kill(runner, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def test_another_environment_is_not_forked_from_here(shell: Shell) -> None:
    before = shell.served()
    done = shell.type("run", "add.ipynb", "--no-track", env=shell.env | {"PYTHONWARNINGS": "ignore"})
    assert (done.returncode, shell.served()) == (0, before)


def test_not_where_nothing_is_to_be_warm(shell: Shell) -> None:
    before = shell.served()
    done = shell.type("run", "add.ipynb", "--no-track", env=shell.env | {"MLTOOLKIT_WARM": "no"})
    assert (done.returncode, shell.served()) == (0, before)


def test_the_workers_of_a_sweep_are_forked(shell: Shell) -> None:
    shell.write("point.ipynb", "import os\nprint(os.getppid(), os.environ['SAID'])", parameters="n: int = 0")
    before = shell.served()
    code = "import mltoolkit; print(mltoolkit.sweep('point.ipynb', {'n': '1..3'}, workers=2).summary())"
    done = subprocess.run([sys.executable, "-c", code], cwd=shell.root, env=shell.env, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "sweep of point.ipynb: 3 succeeded\n", done.stderr
    wait_for(lambda: shell.served() == before + 2, "two workers to have been forked")
    (state,) = [each for each in kernels.zygotes() if "mltoolkit.cli" in each.preloaded]
    wait_for(lambda: kernels._children(state.pid) == [], "both to be gone")


def test_a_sweep_from_a_shell_is_forked_too(shell: Shell) -> None:
    shell.write("point.ipynb", "n + 1", parameters="n: int = 0")
    before = shell.served()
    done = shell.type("sweep", "point.ipynb", "--vary", "n", "[1]", "--json")
    assert json.loads(done.stdout)["status"] == "succeeded", done.stderr
    wait_for(lambda: shell.served() == before + 2, "the sweep and its worker to have been forked")


# In this process, which knows what was asked


def test_request(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shell.root)
    monkeypatch.setenv("MLTOOLKIT_WARM", "no")
    assert kernels.command_request(["mltoolkit", "run"]) is None
    assert start.elsewhere(["mltoolkit", "run", "add.ipynb"]) is None
    start.prepare()  # nothing was wanted
    monkeypatch.setenv("MLTOOLKIT_WARM", "yes")
    asked = kernels.command_request(["mltoolkit", "run"])
    assert asked is not None
    assert (asked.root, asked.cwd, asked.arguments, asked.command) == (str(shell.root), str(shell.root), ("mltoolkit", "run"), True)


def test_other_commands_are_run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["mltoolkit", "--version"])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("mltoolkit")


def test_faulty_settings_are_told_by_the_command(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "settings.ini").write_text("[mltoolkit]\nwram = yes\n")
    (tmp_path / "add.ipynb").write_bytes((shell.root / "add.ipynb").read_bytes())
    done = shell.type("run", "add.ipynb", cwd=tmp_path)
    assert done.returncode == 2
    assert "no setting is called 'wram'" in done.stderr
    assert "Traceback" not in done.stderr
