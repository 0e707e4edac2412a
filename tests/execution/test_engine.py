"""The engine alone, without a record: what it makes of a notebook, and how it ends."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import markdown, notebook_of, tagged
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError
from nbformat import NotebookNode
from processes import Marked

import mltoolkit.execution.engine as engine
import mltoolkit.execution.session as session
from mltoolkit.errors import Invalid, Status
from mltoolkit.execution.engine import Order, Outcome, execute
from mltoolkit.execution.session import Stop
from mltoolkit.notebook import document
from mltoolkit.record.journal import Journal, recover
from mltoolkit.record.redaction import Redactor

pytestmark = pytest.mark.usefixtures("bare_workspace")


def run(*cells: str | NotebookNode, kernel: str = "python3", stop: Stop | None = None, **order: Any) -> tuple[Outcome, NotebookNode]:
    notebook = notebook_of(*cells, kernel=kernel)
    return execute(notebook, Order(kernel, **order), stop), notebook


def states(notebook: NotebookNode) -> list[str]:
    return [cell.metadata.papermill.status for cell in notebook.cells]


def text(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


# The same outputs as nbclient's

DISPLAYS = [
    "from IPython.display import HTML, Image, display, clear_output, update_display\nimport sys",
    "print('a'); print('b', file=sys.stderr, flush=True); print('c', flush=True); 'result'",
    "print('x', end='', flush=True); print('y', end='', flush=True); display(1); print('z')",
    "display(HTML('<b>bold</b>')); display({'text/plain': 'both', 'application/json': {'a': [1, None]}}, raw=True)",
    "display(Image(data=bytes.fromhex('89504e470d0a1a0a0000000d49484452')))",
    "display('first', display_id='one'); display('second', display_id='two'); display('again', display_id='one')",
    "update_display('changed from a later cell', display_id='one'); print('after')",
    "handle = display('here', display_id=True); print('between'); handle.update('there')",
    "update_display('nobody shows this', display_id='unknown')",
    "print('gone'); clear_output(); print('stays')",
    "print('replaced'); clear_output(wait=True); print('by this')",
    "print('kept, for nothing follows'); clear_output(wait=True)",
    "display('cleared', display_id='three'); clear_output()",
    "update_display('not in the cell any more', display_id='three')",
    "for i in range(3):\n    clear_output(wait=True); print(i, flush=True)",
    "print('progress 10%', end='\\r', flush=True); print('progress 99%', flush=True)",
]
ODD = [
    tagged("never()", "skip-execution"),
    tagged("1 / 0", "raises-exception"),
    "print('runs all the same')",
    "   ",
    markdown("# not code"),
    "print('nul \\x00, escape \\x1b[31m, emoji \\U0001f600, right to left \\u202e, not text \\udc80')",
    "'\\x00\\udc80'",
    tagged("raise ValueError('\\udc80')", "raises-exception"),
    tagged("input('name? ')", "raises-exception"),
    "_ = 2; _",
    "%%capture captured\nprint('hidden')",
    "captured.stdout",
    "!echo from a shell",
    "class Odd:\n    def _repr_html_(self): raise RuntimeError('no picture')\nOdd() and 3",
    "import logging; logging.getLogger().warning('logged')",
    "get_ipython().kernel.session.send(get_ipython().kernel.iopub_socket, 'debug_event', {'event': 'x'}, parent=get_ipython().get_parent());",
]
WIDGETS = [
    "import ipywidgets as widgets\nfrom IPython.display import display, clear_output\nslider = widgets.IntSlider(3, description='n'); slider",
    "slider.value = 7",
    "out = widgets.Output()\ndisplay(out)\nwith out:\n    print('captured'); print('too'); display('shown')",
    "out.append_stdout('appended')\nprint('outside')",
    "with out:\n    clear_output(); print('only this')",
    "with out:\n    clear_output(wait=True); print('and now this')",
    "image = widgets.Image(value=b'\\x89PNG', format='png'); image",
    "box = widgets.HBox([slider, widgets.Button(description='go')]); box",
]


def by_nbclient(cells: list[str | NotebookNode]) -> NotebookNode:
    """The notebook as nbclient executes it, which now and then waits for ever where an Output widget is used."""
    for _ in range(5):
        notebook = notebook_of(*copy.deepcopy(cells))
        try:
            NotebookClient(notebook, kernel_name="python3", timeout=20).execute()
        except CellTimeoutError:
            continue
        return notebook
    raise AssertionError("nbclient reached its limit five times")


def comparable(notebook: NotebookNode) -> list[dict[str, Any]]:
    """Outputs and counts, with streams joined and what differs from kernel to kernel taken out."""
    cells = []
    for cell in notebook.cells:
        outputs: list[dict[str, Any]] = []
        for output in cell.get("outputs", []):
            last = outputs[-1] if outputs else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last["text"] += output.text
            elif output.output_type == "error":
                outputs.append({"ename": output.ename, "evalue": output.evalue, "lines": len(output.traceback)})
            else:
                outputs.append(dict(output))
        cells.append({"count": cell.get("execution_count"), "outputs": [_without_ids(each) for each in outputs]})
    return cells


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "…" if key == "model_id" else _without_ids(each) for key, each in value.items()}
    if isinstance(value, str) and value.startswith(("ipykernel_", "<ipykernel")):
        return "…"
    return value


def widget_states(notebook: NotebookNode) -> list[tuple[str, Any]]:
    kept = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    wanted = ("value", "outputs", "description", "format")
    return sorted((each["model_name"], str([each["state"].get(name) for name in wanted]), len(each.get("buffers", []))) for each in kept)


@pytest.mark.parametrize("cells", [DISPLAYS, ODD, WIDGETS], ids=["displays", "odd", "widgets"])
def test_same_as_nbclient(cells: list[str | NotebookNode]) -> None:
    expected = by_nbclient(cells)
    outcome, notebook = run(*cells, redactor=Redactor({"password": "swordfish"}))
    assert (outcome.status, outcome.message) == (Status.succeeded, "")
    for index, (ours, theirs) in enumerate(zip(comparable(notebook), comparable(expected), strict=True)):
        assert ours == theirs, f"cell {index}: {notebook.cells[index].source}"
    assert notebook.metadata.language_info == expected.metadata.language_info
    if cells is WIDGETS:
        assert widget_states(notebook) == widget_states(expected)
    if cells is ODD:
        assert states(notebook)[:5] == ["skipped", "completed", "completed", "completed", "completed"]
        asked = notebook.cells[8].outputs[0]
        assert asked.ename == "StdinNotImplementedError"
    document.write(notebook, "out.ipynb")
    assert comparable(document.read("out.ipynb")) == comparable(notebook)


STOPPED = """
import os, sys
sys.path.insert(0, {tests!r})
from conftest import notebook_of
from mltoolkit.execution.engine import Order, execute
code = f'''import os, signal, subprocess
subprocess.Popen(["sh", "-c", "sleep 60; kill -CONT {{os.getpid()}}"])
os.kill({{os.getpid()}}, signal.SIGSTOP)
for i in range(20_000):
    print(i, flush=True)
    if i == 3000:
        os.kill({{os.getpid()}}, signal.SIGCONT)'''
notebook = notebook_of(code)
outcome = execute(notebook, Order("python3"))
print(outcome.status, outcome.warnings, notebook.cells[0].outputs[0].text == "".join(f"{{i}}\\n" for i in range(20_000)))
"""


def test_no_line_is_lost_though_the_runner_does_not_read_for_a_while() -> None:
    script = STOPPED.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, start_new_session=True)
    assert (done.stdout, done.returncode) == ("succeeded [] True\n", 0), done.stderr


def test_what_a_cell_shows_later_is_its_own_and_not_lost() -> None:
    """A task goes on beside later cells; what C code prints arrives when the cell is already over."""
    later = "import asyncio, os\nasync def later():\n    await asyncio.sleep(0.2)\n    print('later')\ntask = asyncio.create_task(later())"
    notebook = notebook_of(later, "print('own')\nawait task", "os.system('echo by the system'); None")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}  # ipykernel looks for it, and leaves C's output alone
    assert execute(notebook, Order("python3", env=env)).status is Status.succeeded
    assert [[output.text for output in cell.outputs] for cell in notebook.cells] == [["later\n"], ["own\n"], ["by the system\n"]]


def test_end_of_output_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_SILENCE", 1.0)
    code = "kernel = get_ipython().kernel\nkernel._publish_status = lambda *a, **k: None\nprint('shown')"
    outcome, notebook = run(code, "import os; os._exit(0)")
    assert text(notebook.cells[0]) == "shown\n"
    assert outcome.warnings == ["some output of cell 0 was lost on its way from the kernel"]


# How a run ends

TINY_ENDS = [
    # cells, status, beginning of the message, states
    (["import sys; sys.exit(0)", "1"], Status.ended_early, "sys.exit(0) before the last cell", ["completed", "pending"]),
    (["import sys; sys.exit()", "1"], Status.ended_early, "sys.exit()", ["completed", "pending"]),
    (["1", "import sys; sys.exit(0)"], Status.succeeded, "", ["completed", "completed"]),
    (["raise SystemExit", markdown("end"), "", tagged("2", "skip-execution")], Status.succeeded, "", ["completed", "completed", "completed", "skipped"]),
    ([tagged("raise SystemExit(0)", "may-exit"), "1"], Status.succeeded, "", ["completed", "skipped"]),
    ([tagged("raise SystemExit(3)", "may-exit"), "1"], Status.failed, "SystemExit: 3", ["failed", "pending"]),
    (["import sys; sys.exit(3)"], Status.failed, "SystemExit: 3", ["failed"]),
    (["import sys; sys.exit('no input')"], Status.failed, "SystemExit: no input", ["failed"]),
    ([tagged("raise SystemExit(0)", "raises-exception"), "1"], Status.succeeded, "", ["completed", "completed"]),
    ([tagged("2", "skip-execution"), markdown("x"), "raise ValueError"], Status.failed, "ValueError", ["skipped", "completed", "failed"]),
    (["raise ValueError('one\\ntwo')"], Status.failed, "ValueError: one", ["failed"]),
    (["raise ValueError('x' * 100_000)"], Status.failed, "ValueError: xxx", ["failed"]),
    ([], Status.succeeded, "", []),
]


@pytest.mark.parametrize(("cells", "status", "message", "expected"), TINY_ENDS, ids=range(len(TINY_ENDS)))
def test_how_a_cell_ends_a_run(tiny: str, cells: list[Any], status: Status, message: str, expected: list[str]) -> None:
    outcome, notebook = run(*cells, kernel=tiny)
    assert (outcome.status, states(notebook)) == (status, expected)
    assert outcome.message.startswith(message)
    assert bool(outcome.message) == (status is not Status.succeeded)
    assert len(outcome.message) < 1000
    assert "\n" not in outcome.message
    assert outcome.skipped == expected.count("skipped")
    ended = [index for index, state in enumerate(expected) if state == "failed"] or [0]
    assert outcome.cell == (None if status is Status.succeeded else ended[0])
    assert bool(notebook.metadata.papermill.exception) == (status is Status.failed)


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("exit()", Status.ended_early, "sys.exit(0) before the last cell"),
        ("exit(3)", Status.failed, "SystemExit: 3"),
        ("exit(keep_kernel=True)", Status.succeeded, ""),
    ],
)
def test_exit_as_ipython_knows_it(code: str, status: Status, message: str) -> None:
    outcome, _ = run(code, "print('more')")
    assert (outcome.status, outcome.message[: len(message) or None]) == (status, message)


DEATHS = [
    ("os.kill(os.getpid(), signal.SIGKILL)", "kernel died (signal 9, SIGKILL) in cell 1; the system may be out of memory", 9),
    ("resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), signal.SIGSEGV)", "kernel died (signal 11, SIGSEGV) in cell 1", 11),
    ("os.kill(os.getpid(), 40)", "kernel died (signal 40, unknown) in cell 1", 40),
    ("os._exit(0)", "kernel died (exit code 0) in cell 1", None),
    ("os._exit(3)", "kernel died (exit code 3) in cell 1", None),
    ("os.kill(os.getppid(), signal.SIGKILL); signal.pause()", "kernel died in cell 1", None),
]


@pytest.mark.parametrize(("code", "message", "number"), DEATHS, ids=range(len(DEATHS)))
def test_death_of_the_kernel(tiny: str, mark: Marked, code: str, message: str, number: int | None) -> None:
    outcome, notebook = run("import os, resource, signal\nprint('kept')", code, "2", kernel=tiny)
    assert (outcome.status, outcome.message, outcome.signal, outcome.cell) == (Status.kernel_died, message, number, 1)
    assert states(notebook) == ["completed", "failed", "pending"]
    assert notebook.cells[1].metadata.papermill.exception is True
    assert text(notebook.cells[0]) == "kept\n"
    mark.all_gone()


def test_kernel_that_cannot_start(kernelspec: Callable[..., str]) -> None:
    name = kernelspec("broken", "false", "{connection_file}")
    outcome, notebook = run("1", kernel=name)
    assert (outcome.status, outcome.cell, states(notebook)) == (Status.kernel_died, None, ["pending"])
    assert "'broken' ended while it started" in outcome.message


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(Invalid, match="no kernel is called 'nowhere'"):
        run("1", kernel="nowhere")


SLEEPS = {
    "a loop": "while True: pass",
    "a sleep in C": "import ctypes\nwhile True: ctypes.CDLL(None).sleep(60)",
}
STUBBORN = {
    "swallows the interrupt": "import time\nwhile True:\n    try: time.sleep(60)\n    except KeyboardInterrupt: print('no')",
    "blocks the signal": "import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nprint('no')\nctypes.CDLL(None).sleep(600)",
}


@pytest.mark.parametrize("code", SLEEPS.values(), ids=SLEEPS)
@pytest.mark.parametrize("limit", ["timeout", "cell_timeout"])
def test_limit(tiny: str, mark: Marked, code: str, limit: str) -> None:
    outcome, notebook = run("print('kept')", code, "2", kernel=tiny, **{limit: 2.0 if limit == "timeout" else 0.3})
    where = "the run" if limit == "timeout" else "a cell"
    assert outcome.status is Status.timed_out
    assert outcome.message == f"over the limit of {2 if limit == 'timeout' else 0.3} s for {where} (setting {limit})"
    assert states(notebook) == ["completed", "failed", "pending"]
    assert notebook.cells[1].outputs[0].ename == "KeyboardInterrupt"
    assert mark.alive() == []


@pytest.mark.parametrize("code", STUBBORN.values(), ids=STUBBORN)
def test_cell_that_does_not_heed_the_interrupt(tiny: str, mark: Marked, code: str) -> None:
    outcome, notebook = run("print('kept')", code, kernel=tiny, cell_timeout=0.3, grace=0.5)
    assert outcome.status is Status.timed_out
    assert outcome.message.endswith("(setting cell_timeout); the kernel ignored the interrupt for 0.5 s and was killed")
    assert (states(notebook), text(notebook.cells[0])) == (["completed", "failed"], "kept\n")
    assert mark.alive() == []


def stopping(times: int, after: str, number: int = signal.SIGTERM) -> tuple[Stop, Callable[[str, int, Any], None]]:
    """A stop, and a watcher that asks for it at an event."""
    stop = Stop()

    def watch(event: str, index: int, node: Any) -> None:
        if f"{event} {index}" == after:
            for turn in range(times):
                threading.Timer(0.2 + 0.3 * turn, stop.request, [number]).start() if event == "start" else stop.request(number)

    return stop, watch


@pytest.mark.parametrize(("times", "after"), [(1, "start 1"), (2, "start 1"), (1, "end 0")])
def test_stop(tiny: str, mark: Marked, times: int, after: str) -> None:
    stop, watch = stopping(times, after)
    code = "import time; time.sleep(600)" if times == 1 else STUBBORN["swallows the interrupt"]
    outcome, notebook = run("print('kept')", code, kernel=tiny, stop=stop, watch=watch, grace=60)
    stop.close()
    assert (outcome.status, outcome.signal) == (Status.cancelled, signal.SIGTERM)
    assert outcome.message.startswith("stopped by SIGTERM")
    assert ("was not waited for" in outcome.message) == (times == 2)
    assert states(notebook) == ["completed", "pending" if after == "end 0" else "failed"]
    assert mark.alive() == []


# Hidden code


def test_hidden_code_runs_around_the_parameters(tiny: str) -> None:
    outcome, notebook = run(
        tagged("key = ''; said = prepared", "parameters"), tagged("n = 2", "injected-parameters"), "print(said, n, key)",
        kernel=tiny, prepare="prepared = True", confide="key = 'swordfish'", redactor=Redactor({"key": "swordfish"}),
    )  # fmt: skip
    assert (outcome.status, outcome.warnings) == (Status.succeeded, [])
    assert text(notebook.cells[2]) == "True 2 [secret:key]\n"
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]


def test_kernel_that_cannot_be_prepared_is_a_warning(tiny: str) -> None:
    outcome, _ = run("1", kernel=tiny, prepare="import no_such_module")
    assert outcome.status is Status.succeeded
    assert outcome.warnings == ["the kernel could not be seeded and joined to MLflow: ModuleNotFoundError: No module named 'no_such_module'"]


def test_secrets_that_do_not_arrive_are_a_failure(tiny: str) -> None:
    outcome, notebook = run(tagged("key = ''", "parameters"), "print('with', key)", kernel=tiny, confide="key = vault()")
    assert (outcome.status, outcome.cell) == (Status.failed, None)
    assert outcome.message == "the secrets did not reach the kernel: NameError: name 'vault' is not defined"
    assert states(notebook) == ["completed", "pending"]


def test_hidden_code_that_hangs_is_interrupted(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._unseen, "__defaults__", (0.3,))
    outcome, notebook = run("print(1)", kernel=tiny, prepare="while True: pass")
    assert (outcome.status, text(notebook.cells[0])) == (Status.succeeded, "1\n")
    assert outcome.warnings[0].endswith("no answer within 0.3 s")


@pytest.mark.parametrize("hidden", ["prepare", "confide"])
def test_death_in_hidden_code(tiny: str, hidden: str) -> None:
    outcome, _ = run("1", kernel=tiny, **{hidden: "import os; os._exit(1)"})
    assert (outcome.status, outcome.message) == (Status.kernel_died, "kernel died (exit code 1) in cell 0")


# What is kept


def test_journal_holds_the_running_cell(tiny: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    before = notebook_of("print('a')", "print('b')\nimport os; os._exit(1)")
    notebook = notebook_of("print('a')", "for i in range(3): print('b', i)", "import time; print('c'); time.sleep(600)")
    seen: list[str] = []

    def watch(event: str, index: int, node: Any) -> None:
        if event == "output" and index == 1:
            again = notebook_of(*[cell.source for cell in notebook.cells])
            recover(again, tmp_path / "journal")
            seen.append(text(again.cells[0]))

    del before
    outcome = execute(notebook, Order(tiny, journal=journal, watch=watch, cell_timeout=0.5))
    journal.close()
    assert (outcome.status, seen) == (Status.timed_out, ["a\n"])
    again = notebook_of(*[cell.source for cell in notebook.cells])
    assert recover(again, tmp_path / "journal") == 3
    assert [(cell.outputs, cell.execution_count) for cell in again.cells] == [(cell.outputs, cell.execution_count) for cell in notebook.cells]


def test_journal_of_displays_gives_the_same_notebook(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    outcome, notebook = run(*DISPLAYS, journal=journal)
    journal.close()
    again = notebook_of(*DISPLAYS)
    recover(again, tmp_path / "journal")
    assert outcome.status is Status.succeeded
    assert [cell.outputs for cell in again.cells] == [cell.outputs for cell in notebook.cells]


def test_full_disk_ends_the_run_with_the_reason(tiny: str, mark: Marked) -> None:
    journal = Journal("/dev/full")
    outcome, notebook = run("print(1)", "2", kernel=tiny, journal=journal)
    journal.close()
    assert (outcome.status, outcome.ename, outcome.cell) == (Status.failed, "OSError", 0)
    assert outcome.message == "the run could not be kept: [Errno 28] No space left on device"
    assert states(notebook) == ["failed", "pending"]
    assert mark.alive() == []


def test_checkpoints_are_written_between_cells(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_CHECKPOINT", 0.0)
    kept: list[list[str]] = []
    notebook = notebook_of("1", "2", "3", kernel=tiny)
    execute(notebook, Order(tiny, checkpoint=lambda: kept.append(states(notebook))))
    assert kept[0] == ["completed", "pending", "pending"]


def test_bytes_grow_with_the_notebook_and_not_with_its_square(tiny: str, tmp_path: Path) -> None:
    def written(cells: int) -> tuple[int, int]:
        journal = Journal(tmp_path / "journal")
        notebook = notebook_of(*[f"print({index}, 'x' * 100)" for index in range(cells)], kernel=tiny)
        outcome = execute(notebook, Order(tiny, journal=journal))
        journal.close()
        assert outcome.executed == cells
        return (tmp_path / "journal").stat().st_size, len(document.dumps(notebook))

    journal, notebook = written(1000)
    assert journal < 2 * notebook


# Limits of output


def spilling(tmp_path: Path) -> dict[str, Any]:
    return {"output_limit": 1000, "overflow": lambda index: tmp_path / f"cell-{index}.txt", "redactor": Redactor({"key": "swordfish"})}


def test_output_over_the_limit_is_whole_beside_the_notebook(tiny: str, tmp_path: Path) -> None:
    code = "for i in range(100): print(f'{i:03} swordfish', 'x' * 10)"
    outcome, notebook = run("print('small')", code, "print('small again')", kernel=tiny, **spilling(tmp_path))
    assert outcome.status is Status.succeeded
    assert [each.name for each in tmp_path.glob("cell-*")] == ["cell-1.txt"]
    assert (tmp_path / "cell-1.txt").read_text() == "".join(f"{i:03} [secret:key] xxxxxxxxxx\n" for i in range(100))
    assert text(notebook.cells[1]) == "\n[mltoolkit: this cell's output exceeded 0.001 MB; all of it is in cell-1.txt]\n"
    assert (text(notebook.cells[0]), text(notebook.cells[2])) == ("small\n", "small again\n")


def test_rich_output_over_the_limit(tmp_path: Path) -> None:
    cells = [
        "from IPython.display import HTML, clear_output, display, update_display\nprint('before', flush=True)\ndisplay('a', display_id='kept')\n"
        "display(HTML('<p>' + 'x' * 2000 + '</p>'), display_id='lost'); display('b', display_id='lost')\nprint('after'); 1 / 0",
    ]
    outcome, notebook = run(
        tagged(cells[0], "raises-exception"),
        "update_display('A', display_id='kept'); update_display('B', display_id='lost')",
        "for i in range(30):\n    clear_output(wait=True); print(i, 'y' * 90, flush=True)",
        "for i in range(3):\n    clear_output(); print('z' * 1500, flush=True)",
        **spilling(tmp_path),
    )
    assert outcome.status is Status.succeeded
    first = notebook.cells[0].outputs
    assert [output.output_type for output in first] == ["stream", "display_data", "stream", "error"]
    assert first[1].data["text/plain"] == "'A'"
    spilt = (tmp_path / "cell-0.txt").read_text()
    assert spilt.startswith("before\n'a'\n")
    assert "<p>" + "x" * 2000 + "</p>" in spilt
    assert spilt.endswith("'b'\nafter\n")
    assert text(notebook.cells[2]) == "29 " + "y" * 90 + "\n"  # what was cleared does not count
    assert text(notebook.cells[3]).count("exceeded") == 1
    assert (tmp_path / "cell-3.txt").read_text() == 3 * ("z" * 1500 + "\n")


def test_without_a_file_the_notebook_says_how_much_was_dropped(tiny: str) -> None:
    _, notebook = run("print('x' * 1999)", kernel=tiny, output_limit=1000)
    assert text(notebook.cells[0]) == (
        "\n[mltoolkit: this cell's output exceeded 0.001 MB; what follows was dropped]\n[mltoolkit: 2000 characters were dropped]\n"
    )


def test_enormous_error_is_shortened(tiny: str) -> None:
    outcome, notebook = run("raise ValueError('x' * 100_000)", kernel=tiny, output_limit=1000)
    (error,) = notebook.cells[0].outputs
    assert error.evalue == "x" * 500 + " [mltoolkit: 99500 more characters]"
    assert len(error.traceback[0]) < 600
    assert len(outcome.evalue) == 10_000


# Secrets


def test_secret_in_pieces_and_in_every_kind_of_output(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    watched: list[Any] = []
    outcome, notebook = run(
        "import sys, time\nfrom IPython.display import HTML, display, clear_output, update_display\nfor piece in ('a sword', 'fi', 'sh b'):\n    print(piece, end='', flush=True)",
        "print('sword', end='', flush=True); print('other', file=sys.stderr, flush=True); print('less')",
        "print('a sword', end='', flush=True); clear_output(); print('b')",
        "print('a sword', end='', flush=True); clear_output(wait=True); print('b')",
        "display(HTML('<b>swordfish</b>'), display_id='x'); 'swordfish'",
        "update_display({'swordfish': ['swordfish']}, display_id='x')",
        "import ipywidgets as widgets\nout = widgets.Output(); field = widgets.Text('swordfish')\nwith out: print('swordfish')\nout",
        "print('sword', end='')",
        tagged("raise ValueError('swordfish')", "raises-exception"),
        "print('AKIA' + 'QW3RTYU6IOP7ASD5')",
        redactor=Redactor({"password": "swordfish"}), journal=journal, watch=lambda event, index, node: watched.append(node),
    )  # fmt: skip
    journal.close()
    assert outcome.status is Status.succeeded
    assert [text(cell) for cell in notebook.cells[:4]] == ["a [secret:password] b", "swordother\nless\n", "b\n", "b\n"]
    assert text(notebook.cells[7]) == "sword"
    assert "swordfish" in notebook.cells[8].source
    for cell in notebook.cells:
        cell.source = ""
    for place in (document.dumps(notebook), (tmp_path / "journal").read_text(), repr([each for each in watched if "output_type" in each])):
        assert "swordfish" not in place
        assert "QW3RTYU6IOP7ASD5" not in place
    assert "[secret:password]" in str(notebook.metadata.widgets)


def test_nothing_is_changed_in_other_loggers(tiny: str) -> None:
    import logging

    from traitlets.log import get_logger

    level = get_logger().level
    run("1", kernel=tiny)
    assert get_logger().level == level
    assert logging.getLogger().level == logging.WARNING


def test_message_that_breaks_the_protocol_is_said_and_survived() -> None:
    code = "kernel = get_ipython().kernel\nkernel.session.send(kernel.iopub_socket, 'stream', {'no': 'text'}, parent=get_ipython().get_parent())\nprint('after')"
    outcome, notebook = run(code)
    assert outcome.status is Status.succeeded
    assert "unreadable message: " in text(notebook.cells[0])
    assert text(notebook.cells[0]).endswith("after\n")


def test_own_process_keeps_its_handlers_and_directory(tiny: str) -> None:
    before = os.getcwd(), signal.getsignal(signal.SIGINT), dict(os.environ)
    run("import os; os.chdir('/'); os.environ['X'] = '1'", kernel=tiny)
    assert (os.getcwd(), signal.getsignal(signal.SIGINT), dict(os.environ)) == before


def test_time_is_recorded(tiny: str) -> None:
    began = time.time()
    _, notebook = run("1", kernel=tiny)
    for meta in (notebook.metadata.papermill, notebook.cells[0].metadata.papermill):
        assert meta.start_time <= meta.end_time
        assert 0 <= meta.duration <= time.time() - began
