"""Messages become valid outputs, whatever the kernel sends."""

from __future__ import annotations

from typing import Any

import nbformat
import pytest
from conftest import notebook_of

from mltoolkit.execution.reception import Destination, Reception


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
