"""Papermill's own door: everything papermill users rely on, with the engine of ours behind it."""

from __future__ import annotations

import io
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from processes import BIN, Marked, wait_for

from mltoolkit.errors import KernelDied, TimedOut
from mltoolkit.notebook import document

PAPERMILL = BIN / "papermill"


def execute(source: Path, target: str | Path, **options: object) -> None:
    papermill.execute_notebook(source, target, engine_name="mltoolkit", progress_bar=False, **options)


def test_parameters_outputs_metadata(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    execute(write("in.ipynb", "print(n + 1)", kernel=tiny, parameters="n = 1"), "out.ipynb", parameters={"n": 41})
    made = document.read("out.ipynb")
    assert made.cells[1].metadata.tags == ["injected-parameters"]
    assert made.cells[2].outputs[0].text == "42\n"
    assert made.metadata.papermill.parameters == {"n": 41}
    assert made.metadata.papermill.exception is None
    assert [cell.metadata.papermill.status for cell in made.cells] == ["completed"] * 3
    assert sorted(path.name for path in bare_workspace.iterdir() if path.suffix in (".ipynb", ".journal", ".tmp")) == ["in.ipynb", "out.ipynb"]


def test_a_failed_cell_is_papermills_error_with_its_marks(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    with pytest.raises(PapermillExecutionError) as caught:
        execute(write("in.ipynb", "1", "raise ValueError('no')", kernel=tiny), "out.ipynb")
    assert (caught.value.ename, caught.value.evalue) == ("ValueError", "no")
    cells = document.read("out.ipynb").cells
    assert [index for index, cell in enumerate(cells) if "papermill-error-cell-tag" in document.tags(cell)] == [0, 2]


def test_other_ends_have_errors_of_their_own(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    with pytest.raises(KernelDied, match="signal 9"):
        execute(write("in.ipynb", "print('kept')", "import os; os.kill(os.getpid(), 9)", kernel=tiny), "out.ipynb")
    assert document.read("out.ipynb").cells[0].outputs[0].text == "kept\n"
    with pytest.raises(TimedOut):
        execute(write("in.ipynb", "while True: pass", kernel=tiny), "out.ipynb", execution_timeout=1)


def test_without_an_output(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    execute(write("in.ipynb", "print(1)", kernel=tiny), None)  # type: ignore[arg-type]
    assert [path.name for path in bare_workspace.glob("*.ipynb")] == ["in.ipynb"]


def test_output_is_passed_on(bare_workspace: Path, tiny: str, write: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    source = write("in.ipynb", "print('hello')", kernel=tiny)
    shown = io.StringIO()
    with caplog.at_level(logging.INFO, logger="papermill"):
        execute(source, "out.ipynb", log_output=True, stdout_file=shown)
    assert shown.getvalue() == "hello\n"
    assert "hello" in caplog.text


def test_a_relative_output_and_another_working_directory(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    (bare_workspace / "inner").mkdir()
    execute(write("in.ipynb", "import os; print(os.path.basename(os.getcwd()))", kernel=tiny), "out.ipynb", cwd="inner")
    assert document.read("out.ipynb").cells[0].outputs[0].text == "inner\n"
    assert list((bare_workspace / "inner").iterdir()) == []


def test_the_command(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked) -> None:
    write("in.ipynb", "print(n)", kernel=tiny, parameters="n = 1")
    done = mark.run(PAPERMILL, "--engine", "mltoolkit", "in.ipynb", "out.ipynb", "-p", "n", "7")
    assert done.returncode == 0, done.stderr
    assert "100%" in done.stderr
    assert document.read("out.ipynb").cells[2].outputs[0].text == "7\n"
    mark.all_gone()


def test_killed_in_the_middle_the_output_is_whole_and_the_journal_is_there(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked) -> None:
    write("in.ipynb", "print('before', flush=True)\nimport pathlib, time\npathlib.Path('started').touch()\ntime.sleep(100)", kernel=tiny)
    process = mark.start(PAPERMILL, "--engine", "mltoolkit", "in.ipynb", "out.ipynb")
    wait_for(Path("started").exists, "the cell to start")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(document.read("out.ipynb").cells) == 1
    assert Path(".out.ipynb.journal").exists()
    mark.all_gone()
