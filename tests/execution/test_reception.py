"""Messages become valid outputs, whatever the kernel sends."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import notebook_of

from mltoolkit.execution.reception import Destination, Reception
from mltoolkit.record.journal import Journal, recover
from mltoolkit.record.redaction import Redactor


def received(kind: str, content: dict[str, Any], **to: Any) -> list[Any]:
    """The outputs of a cell that got one message; the notebook they are in is valid."""
    notebook = notebook_of("1")
    reception = Reception(notebook, Destination(**to))
    reception.begin(0)
    reception.receive({"msg_type": kind, "header": {"msg_type": kind}, "parent_header": {"msg_id": "1"}, "content": content})
    reception.finish()
    nbformat.validate(notebook)
    return list(notebook.cells[0].outputs)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("text", "text"),
        (5, "5"),
        (None, "null"),
        ({"a": ["é"]}, '{"a": ["é"]}'),
        (["one\n", "two"], '["one\\n", "two"]'),
    ],
)
@pytest.mark.parametrize("kind", ["display_data", "execute_result"])
def test_what_is_not_text_becomes_text(kind: str, sent: Any, kept: str) -> None:
    content = {"data": {"text/plain": sent}, "metadata": {}, "execution_count": 1, "transient": {}}
    (output,) = received(kind, content)
    assert (output.output_type, output.data) == (kind, {"text/plain": kept})


@pytest.mark.parametrize("mime", ["application/json", "application/vnd.vegalite.v5+json"])
def test_json_stays_json(mime: str) -> None:
    (output,) = received("display_data", {"data": {mime: {"a": [1, None, True]}}, "metadata": {}})
    assert output.data == {mime: {"a": [1, None, True]}}


def test_an_error_is_text() -> None:
    (output,) = received("error", {"ename": "E", "evalue": 5, "traceback": ["line", 6]})
    assert (output.ename, output.evalue, output.traceback) == ("E", "5", ["line", "6"])


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("stream", {"name": "stdout"}),
        ("display_data", {"data": None, "metadata": {}}),
        ("display_data", {"data": {"text/plain": "x"}}),
        ("error", {"ename": "E"}),
    ],
)
def test_a_message_that_breaks_the_protocol_is_said_and_not_raised(kind: str, content: dict[str, Any]) -> None:
    (output,) = received(kind, content)
    assert (output.output_type, output.name) == ("stream", "stderr")
    assert output.text.startswith("unreadable message: ")


@pytest.mark.parametrize("kind", ["execute_input", "comm_msg", "iopub_welcome", "made_up"])
def test_other_messages_show_nothing(kind: str) -> None:
    assert received(kind, {"code": "1", "execution_count": 1, "comm_id": "x", "data": {}}) == []


def stream(request: str, text: str) -> dict[str, Any]:
    return {"msg_type": "stream", "header": {"msg_type": "stream"}, "parent_header": {"msg_id": request}, "content": {"name": "stdout", "text": text}}


def test_what_a_cell_shows_after_its_end_is_its_own(tmp_path: Path) -> None:
    notebook = notebook_of("1", "2")
    journal = Journal(tmp_path / "journal")
    reception = Reception(notebook, Destination(redactor=Redactor({"password": "swordfish"}), journal=journal))
    reception.begin(0, "first")
    reception.receive(stream("first", "one\n"))
    reception.finish()
    reception.overhear(stream("first", "at once\n"))
    reception.begin(1, "second")
    reception.receive(stream("second", "two sword"))
    reception.overhear(stream("first", "late swordfish\n"))
    reception.overhear(stream("nobody", "never\n"))
    reception.overhear({**stream("first", ""), "msg_type": "status", "content": {"execution_state": "idle"}})
    reception.receive(stream("second", "fish\n"))
    reception.finish()
    reception.overhear(stream("first", "at the end\n"))
    journal.close()
    shown = [[output.text for output in cell.outputs] for cell in notebook.cells]
    assert shown == [["one\nat once\nlate [secret:password]\nat the end\n"], ["two [secret:password]\n"]]
    again = notebook_of("1", "2")
    recover(again, tmp_path / "journal")
    assert [[output.text for output in cell.outputs] for cell in again.cells] == shown


def test_what_is_late_joins_the_overflow_file(tmp_path: Path) -> None:
    notebook = notebook_of("1", "2")
    reception = Reception(notebook, Destination(output_limit=10, overflow=lambda index: tmp_path / f"cell-{index}.txt"))
    reception.begin(0, "first")
    reception.receive(stream("first", "12345678\n"))
    reception.receive(stream("first", "more\n"))
    reception.finish()
    reception.begin(1, "second")
    for line in ("late\n", "later\n"):
        reception.overhear(stream("first", line))
    reception.finish()
    assert (tmp_path / "cell-0.txt").read_text() == "12345678\nmore\nlate\nlater\n"
    assert len(notebook.cells[0].outputs) == 2
    assert "exceeded" in notebook.cells[0].outputs[1].text
    assert notebook.cells[1].outputs == []


def test_what_is_late_and_has_no_place_adds_no_line(tmp_path: Path) -> None:
    notebook = notebook_of("1")
    reception = Reception(notebook, Destination(output_limit=10))
    reception.begin(0, "first")
    reception.receive(stream("first", "1234567890123\n"))
    reception.finish()
    before = copy.deepcopy(notebook.cells[0].outputs)
    assert "14 characters were dropped" in before[-1].text
    reception.overhear(stream("first", "late\n"))
    assert notebook.cells[0].outputs == before
