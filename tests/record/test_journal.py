"""The journal: what it holds is what a normal finish gives, whatever happened and wherever it was cut off."""

from __future__ import annotations

import copy
import itertools
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mltoolkit.notebook import document
from mltoolkit.record.journal import Journal, Outputs, recover

CELLS = 3  # code cells; between them are texts
Event = tuple[str, dict[str, Any]]


def notebook() -> NotebookNode:
    cells = [cell for number in range(CELLS) for cell in (new_code_cell(f"{number}"), new_markdown_cell("text"))]
    return new_notebook(cells=cells)


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"text/plain": text, "application/json": {"a": [1, None]}}, "metadata": {}}


class Reference:
    """What Jupyter shows after a sequence of events, in the plainest way."""

    def __init__(self) -> None:
        self.outputs: list[list[dict[str, Any]]] = [[] for _ in range(2 * CELLS)]
        self.finished: set[int] = set()

    def apply(self, event: str, fields: dict[str, Any]) -> None:
        if event == "update":
            for cell, at in fields["places"]:
                self.outputs[cell][at].update(copy.deepcopy(fields["content"]))
            return
        shown = self.outputs[fields["cell"]]
        if event in ("start", "clear"):
            shown.clear()
        elif event == "end":
            self.finished.add(fields["cell"])
        elif event == "output":
            output = copy.deepcopy(fields["output"])
            joins = shown and output["output_type"] == "stream" and shown[-1].get("name") == output["name"]
            if joins:
                shown[-1]["text"] += output["text"]
            else:
                shown.append(output)


class Live:
    """The same as the engine does it: a growing notebook, and a journal beside it."""

    def __init__(self, journal: Journal) -> None:
        self.notebook, self.journal = notebook(), journal
        self.outputs = {index: Outputs(cell.outputs) for index, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"}

    def apply(self, event: str, fields: dict[str, Any]) -> None:
        fields = copy.deepcopy(fields)
        if event == "update":
            for cell, at in fields["places"]:
                self.notebook.cells[cell].outputs[at].update(from_dict(fields["content"]))
        elif event in ("start", "clear"):
            self.outputs[fields["cell"]].clear()
        elif event == "output":
            self.outputs[fields["cell"]].append(from_dict(fields["output"]))
        elif event == "end":
            self.outputs[fields["cell"]].settle()
        self.journal.write(event, **fields)

    def finish(self) -> list[Any]:
        for outputs in self.outputs.values():
            outputs.settle()
        return [cell.get("outputs", []) for cell in self.notebook.cells]


@st.composite
def happenings(draw: st.DrawFn) -> list[Event]:
    """A sequence of events as kernels and people make them."""
    told = Reference()
    events: list[Event] = []
    text = st.text(max_size=6)

    def happen(event: str, **fields: Any) -> None:
        told.apply(event, fields)
        events.append((event, fields))

    for cell in range(0, 2 * draw(st.integers(1, CELLS)), 2):
        happen("start", cell=cell, papermill={"status": "running"})
        for _ in range(draw(st.integers(0, 8))):
            displays = [[index, at] for index, shown in enumerate(told.outputs) for at, output in enumerate(shown) if "data" in output]
            match draw(st.sampled_from(["stdout", "stderr", "stdout", "display", "result", "error", "clear", "update", "again"])):
                case "stdout" | "stderr" as name:
                    happen("output", cell=cell, output=stream(draw(text), name))
                case "display":
                    happen("output", cell=cell, output=display(draw(text)))
                case "result":
                    happen("output", cell=cell, output={**display(draw(text)), "output_type": "execute_result", "execution_count": 1})
                case "error":
                    happen("output", cell=cell, output={"output_type": "error", "ename": "E", "evalue": draw(text), "traceback": [draw(text)]})
                case "clear":
                    happen("clear", cell=cell)
                case "update" if displays:
                    places = draw(st.lists(st.sampled_from(displays), min_size=1, max_size=3, unique_by=tuple))
                    happen("update", places=places, content={"data": {"text/html": draw(text)}, "metadata": {"x": 1}})
                case _ if draw(st.booleans()):
                    happen("start", cell=cell, papermill={"status": "running"})
        if draw(st.booleans()):
            happen("end", cell=cell, execution_count=draw(st.integers(1, 9) | st.none()), papermill={"status": "completed", "duration": 0.1})
    return events


@settings(max_examples=200, deadline=None)
@given(happenings(), st.data())
def test_a_recovered_notebook_is_what_a_normal_finish_gives(events: list[Event], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "journal.jsonl")
        journal = Journal(path)
        live, reference = Live(journal), Reference()
        for event, fields in events:
            live.apply(event, fields)
            reference.apply(event, fields)
        journal.close()

        recovered = notebook()
        finished = recover(recovered, path)
        outputs = [cell.get("outputs", []) for cell in recovered.cells]
        assert outputs == reference.outputs
        assert outputs == live.finish()
        assert finished == len(reference.finished)
        nbformat.validate(recovered)

        # Cut off anywhere, it gives what the whole lines before the cut say.
        lines = path.read_bytes().splitlines(keepends=True)
        assert len(lines) == len(events)
        whole = data.draw(st.integers(0, len(lines)))
        rest = lines[whole][: data.draw(st.integers(0, len(lines[whole]) - 1))] if whole < len(lines) else b""
        path.write_bytes(b"".join(lines[:whole]) + rest)
        reference = Reference()
        for event, fields in events[:whole]:
            reference.apply(event, fields)
        recovered = notebook()
        assert recover(recovered, path) == len(reference.finished)
        assert [cell.get("outputs", []) for cell in recovered.cells] == reference.outputs


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=4)), max_size=20))
def test_joined_streams_are_in_the_cells_list_after_settling(pieces: list[tuple[str, str]]) -> None:
    kept: list[Any] = []
    outputs = Outputs(kept)
    for name, text in pieces:
        outputs.append(from_dict(stream(text, name)))
    outputs.settle()
    outputs.settle()
    assert "".join(output["text"] for output in kept if output["name"] == "stdout") == "".join(text for name, text in pieces if name == "stdout")
    assert all(first["name"] != second["name"] for first, second in itertools.pairwise(kept))


def recovered_from(text: bytes, path: Path) -> tuple[NotebookNode, int]:
    path.write_bytes(text)
    made = notebook()
    return made, recover(made, path)


def test_metadata_and_execution_counts_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("start", cell=0, execution_count=None, papermill={"status": "running", "start_time": "t", "exception": False})
    journal.write("end", cell=0, execution_count=7, papermill={"status": "completed", "end_time": "u"})
    journal.write("start", cell=2, execution_count=None, papermill={"status": "running"})
    journal.close()
    made = notebook()
    made.cells[0].metadata["papermill"] = {"status": "pending", "duration": None}
    assert recover(made, tmp_path / "j") == 1
    assert made.cells[0].execution_count == 7
    assert made.cells[0].metadata.papermill == {"status": "completed", "start_time": "t", "end_time": "u", "exception": False, "duration": None}
    assert (made.cells[2].metadata.papermill.status, made.cells[2].execution_count) == ("running", None)
    assert "papermill" not in made.cells[4].metadata


def test_odd_text_comes_back_as_it_was(tmp_path: Path) -> None:
    text = "🤯 \ud800 \x00 \u2028 \r\n \x1b[0m é" + "x" * 100_000
    journal = Journal(tmp_path / "j")
    journal.write("output", cell=0, output=stream(text))
    journal.write("output", cell=0, output={**display("x"), "data": {"application/json": {"nan": float("nan"), "big": 10**30}}})
    journal.close()
    made = notebook()
    recover(made, tmp_path / "j")
    assert made.cells[0].outputs[0].text == text
    assert made.cells[0].outputs[1].data["application/json"]["big"] == 10**30


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    good = json.dumps({"event": "output", "cell": 0, "output": stream("good\n")}).encode() + b"\n"
    damaged = [
        b"\n", b"garbage\n", b"\xff\xfe\n", b"[]\n", b"3\n", b'{"cell": 0}\n', b'{"event": "output"}\n', b'{"event": "end", "cell": 99, "execution_count": 1}\n',
        b'{"event": "start", "cell": "0"}\n', b'{"event": "output", "cell": 1, "output": {"output_type": "stream", "name": "stdout", "text": "in a text cell"}}\n',
        b'{"event": "end", "cell": 2}\n', b'{"event": "update", "places": [[0, 9]], "content": {}}\n', b'{"event": "update", "places": [[1, 0]], "content": {}}\n',
        b'{"event": "update", "places": 3, "content": {}}\n', b'{"event": "output", "cell": 0, "output": 3}\n', b'{"event": "heard of nowhere", "cell": 0}\n',
    ]  # fmt: skip
    made, finished = recovered_from(b"".join(good + line for line in damaged) + good[:-1], tmp_path / "j")
    assert made.cells[0].outputs == [stream("good\n" * len(damaged))]
    assert finished == 0
    nbformat.validate(made)
    assert recovered_from(b"", tmp_path / "j")[1] == 0
    with pytest.raises(FileNotFoundError):
        recover(notebook(), tmp_path / "nowhere")


def test_a_journal_replaces_an_older_one_and_goes_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("old\n")
    journal = Journal(path)
    assert path.read_bytes() == b""
    journal.write("start", cell=0, papermill={})
    assert path.read_bytes() == b'{"event":"start","cell":0,"papermill":{}}\n', "it is there at once"
    journal.close()
    assert path.exists()
    Journal(path).close(remove=True)
    assert not path.exists()
    journal = Journal(path)
    path.unlink()
    journal.close(remove=True)


def test_a_full_disk_is_said_and_what_was_there_still_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        journal.write("output", cell=0, output=stream("kept\n"))
        with pytest.raises(OSError, match="File too large"):
            journal.write("output", cell=0, output=stream("x" * 20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        journal.close()
    made = notebook()
    recover(made, tmp_path / "j")
    assert made.cells[0].outputs == [stream("kept\n")]


WRITER = """
import sys
from mltoolkit.record.journal import Journal
journal = Journal(sys.argv[1])
for number in range(10**9):
    journal.write("output", cell=0, output={"output_type": "stream", "name": "stdout", "text": f"{number}\\n"})
    if number == 500:
        print(flush=True)
"""


def test_what_was_written_before_a_kill_is_all_there(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "j")], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    made = notebook()
    recover(made, tmp_path / "j")
    numbers = made.cells[0].outputs[0].text.split()
    assert numbers == [str(number) for number in range(len(numbers))]
    assert len(numbers) > 500


def test_the_journal_of_a_real_run_gives_its_notebook(write: Callable[..., Path], bare_workspace: Path) -> None:
    from mltoolkit.execution.run import run_notebook

    cells = [
        "import sys\nfrom IPython.display import *\nfor n in range(3000): print(n)\nprint('e', file=sys.stderr); print('o', flush=True); print('🤯\\r\\x1b[31mred')",
        "shown = display('one', display_id='d'); print('between', flush=True); display('two', display_id='e'); 40 + 2",
        "for n in range(5):\n    clear_output(wait=True); print('step', n, flush=True)",
        "print('gone'); clear_output(); display(HTML('<b>kept</b>')); print('kept')",
        new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
        "shown.update('one, changed later'); update_display(JSON({'a': [1]}), display_id='e'); print('x', end='')",
        new_code_cell("skipped", metadata={"tags": ["skip-execution"]}),
        "'the last'",
    ]
    last = len(cells) - 1
    copies = bare_workspace / "copies"
    copies.mkdir()

    def watch(event: str, index: int, node: Any) -> None:
        if (event, index) == ("start", last):
            (folder,) = (bare_workspace / ".mltoolkit" / "runs").glob("*/")
            shutil.copy(folder / "journal.jsonl", copies)

    run = run_notebook(write("nb.ipynb", *cells), track=False, watch=watch)
    finished = document.read(run.output).cells[:last]
    recovered = document.read("nb.ipynb")
    recover(recovered, copies / "journal.jsonl")
    assert [cell.get("outputs") for cell in recovered.cells[:last]] == [cell.get("outputs") for cell in finished]
    assert [cell.execution_count for cell in recovered.cells[:last]] == [cell.execution_count for cell in finished]
    assert recovered.cells[0].outputs[0].text.startswith("0\n1\n2\n")
    assert recovered.cells[1].outputs[0].data["text/plain"] == "'one, changed later'"
    assert recovered.cells[2].outputs == [stream("step 4\n")]
    assert not list((bare_workspace / ".mltoolkit" / "runs").glob("*/journal.jsonl")), "a finished run has none"
