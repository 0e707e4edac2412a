"""Reading and writing notebooks: damage is said in one line, and a file is whole or untouched."""

from __future__ import annotations

import copy
import http.server
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode

from mltoolkit.errors import NotebookInvalid, OutputRefused
from mltoolkit.notebook import document
from mltoolkit.notebook.document import NotebookUpgraded

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FULL: dict[str, Any] = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "papermill": {"parameters": {"n": 1}}},
    "cells": [
        {"cell_type": "markdown", "id": "a1", "metadata": {}, "source": "# Title", "attachments": {"x.png": {"image/png": PIXEL}}},
        {"cell_type": "raw", "id": "a2", "metadata": {"format": "text/html"}, "source": "<b>"},
        {
            "cell_type": "code",
            "id": "a3",
            "metadata": {"tags": ["parameters"], "collapsed": False},
            "source": ["n = 1\n", "print(n)"],
            "execution_count": 1,
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1\n", "🤯"]},
                {"output_type": "display_data", "data": {"image/png": PIXEL, "text/plain": "x"}, "metadata": {"image/png": {"width": 1}}},
                {"output_type": "execute_result", "execution_count": 1, "data": {"application/json": {"a": [1, None]}}, "metadata": {}},
                {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\x1b[31mE\x1b[0m"]},
            ],
        },
    ],
}


def of(**changes: Any) -> dict[str, Any]:
    """A small valid notebook with changes at the top level; None removes a key."""
    made = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []} | changes
    return {key: value for key, value in made.items() if value is not None}


def code_cell(**changes: Any) -> dict[str, Any]:
    made = {"cell_type": "code", "id": "c1", "metadata": {}, "source": "", "execution_count": None, "outputs": []} | changes
    return {key: value for key, value in made.items() if key not in changes or value is not ...}


def refusal(path: Path) -> str:
    """The message of the refusal to read `path`; it names the file and is one line."""
    with pytest.raises(NotebookInvalid) as caught:
        document.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 800
    assert (caught.value.path, caught.value.exit_code) == (str(path), 2)  # type: ignore[attr-defined]
    return message.replace(str(path), "FILE")


# --- reading what is whole


def test_a_full_notebook_is_read_and_written_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "full.ipynb"
    path.write_text(json.dumps(FULL))
    notebook = document.read(path)
    assert notebook.cells[2].source == "n = 1\nprint(n)"
    assert notebook.cells[2].outputs[0].text == "1\n🤯"
    assert notebook.cells[2].outputs[2].data["application/json"] == {"a": [1, None]}
    document.write(notebook, path)
    assert document.read(path) == notebook
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "🤯" in text
    document.write(document.read(path), path)
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"  "])
def test_bom_and_line_ends_of_other_systems_do_not_matter(newline: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_bytes(start + json.dumps(FULL, indent=1).replace("\n", newline).encode())
    assert document.read(path).cells[2].source == "n = 1\nprint(n)"


def test_lone_surrogates_survive_writing_and_reading(tmp_path: Path) -> None:
    notebook = document.parse(json.dumps(of(cells=[code_cell(source="'\ud800 🤯 \udcff'")])))
    document.write(notebook, tmp_path / "nb.ipynb")
    assert document.read(tmp_path / "nb.ipynb").cells[0].source == "'\ud800 🤯 \udcff'"


def test_outputs_are_left_out_on_request_and_nothing_else(tmp_path: Path) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]}
    code = {"cell_type": "code", "id": "a", "metadata": {"outputs": [output]}, "execution_count": 1, "source": "1", "outputs": [output]}
    words = {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "x", "attachments": {"outputs": {"text/plain": "y"}}}
    text = json.dumps({"cells": [code, words], "metadata": {"outputs": [1]}, "nbformat": 4, "nbformat_minor": 5})
    path = tmp_path / "a.ipynb"
    path.write_text(text)
    whole, without = document.read(path), document.read(path, outputs=False)
    assert whole.cells[0].outputs[0].text == "a\nb"
    assert without.cells[0].outputs == []
    whole.cells[0].outputs = []
    assert without == whole == document.parse(text, outputs=False)
    older = {"worksheets": [{"cells": [{"cell_type": "code", "input": "1", "language": "python", "outputs": [{"output_type": "stream", "text": "a"}]}], "metadata": {}}], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}
    with pytest.warns(NotebookUpgraded):
        assert document.parse(json.dumps(older), outputs=False).cells[0].outputs == []
    with pytest.raises(NotebookInvalid):
        document.parse(text.replace('"outputs": [{"output', '"outputs": 5, "x": [{"output'), outputs=False)


def test_missing_and_doubled_ids_are_mended() -> None:
    cells = [code_cell(id="same"), code_cell(id="same"), code_cell(id=None), code_cell(id=...)]
    ids = [cell.id for cell in document.parse(json.dumps(of(cells=cells))).cells]
    assert ids[0] == "same"
    assert len(set(ids)) == 4


def test_a_newer_minor_format_is_read() -> None:
    notebook = document.parse(json.dumps(of(nbformat_minor=9, cells=[code_cell(novelty=1)])))
    assert notebook.cells[0].novelty == 1


# --- older formats


OLD_3 = {
    "nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "old"},
    "worksheets": [{"cells": [
        {"cell_type": "heading", "level": 2, "source": ["Old"], "metadata": {}},
        {"cell_type": "code", "input": ["x = 1\n", "x"], "language": "python", "collapsed": False, "metadata": {}, "prompt_number": 3,
         "outputs": [{"output_type": "pyout", "prompt_number": 3, "text": ["1"], "metadata": {}},
                     {"output_type": "stream", "stream": "stdout", "text": ["hi\n"]}]},
    ], "metadata": {}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said", "source"),
    [
        (OLD_3, "notebook format 3.0", "x = 1\nx"),
        (of(nbformat_minor=2, cells=[{"cell_type": "raw", "metadata": {}, "source": "r"}, code_cell(id=..., source="y")]), "format 4.2", "y"),
        (of(nbformat_minor=0, cells=[{"cell_type": "raw", "metadata": {}, "source": "r"}, code_cell(id=..., source="y")]), "format 4.0", "y"),
    ],
)
def test_older_formats_are_upgraded_aloud_and_the_file_stays(content: Any, said: str, source: str, tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(content))
    with pytest.warns(NotebookUpgraded) as caught:
        notebook = document.read(path)
    assert len(caught) == 1
    assert f"{path} has" in str(caught[0].message)
    assert said in str(caught[0].message)
    assert "it is read as 4.5 (the file is unchanged)" in str(caught[0].message)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.cells[1].source == source
    assert len({cell.id for cell in notebook.cells}) == 2
    assert json.loads(path.read_text()) == content
    assert document.parse(document.dumps(notebook)).cells == notebook.cells


def test_outputs_of_format_3_are_kept() -> None:
    with pytest.warns(NotebookUpgraded):
        cells = document.parse(json.dumps(OLD_3)).cells
    assert [(output.output_type, output.get("text") or output.data["text/plain"]) for output in cells[1].outputs] == [
        ("execute_result", "1"), ("stream", "hi\n")
    ]  # fmt: skip


# --- damage


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "FILE is empty; a notebook is a JSON document"),
        (b"  \r\n", "FILE is empty; a notebook is a JSON document"),
        (b"\xef\xbb\xbf", "FILE is empty; a notebook is a JSON document"),
        (json.dumps(FULL, indent=1).encode()[:400], "FILE is not valid JSON: Unterminated string starting at at line 23, column 19"),
        (b'{"nbformat": 4,\n "cells": [}', "FILE is not valid JSON: Expecting value at line 2, column 12"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "FILE is not UTF-8 text: byte 0 is 0x89"),
        (b"\x1f\x8b\x08\x00", "FILE is not UTF-8 text: byte 1 is 0x8b"),
        (b"\x00" * 100, "FILE is not valid JSON: Expecting value at line 1, column 1"),
        (json.dumps(FULL).encode("utf-16"), "FILE is not UTF-8 text: byte 0 is 0xff"),
        (json.dumps(FULL, ensure_ascii=False).replace("🤯", "é").encode("latin-1"), "FILE is not UTF-8 text: byte 690 is 0xe9"),
        (b"[" * 100_000, "FILE is nested too deeply to be a notebook"),
        (b'{"nbformat": 4, "metadata": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}", "FILE is nested too deeply to be a notebook"),
        (b'{"nbformat": ' + b"9" * 5000 + b"}", "FILE has a number that is too long"),
        (b"[]", "FILE is JSON, but not a notebook: it has no 'nbformat' number"),
        (b"null", "FILE is JSON, but not a notebook"),
        (b"3.5", "FILE is JSON, but not a notebook"),
        (b'"nbformat"', "FILE is JSON, but not a notebook"),
        (b"{}", "FILE is JSON, but not a notebook"),
        (b'{"nbformat": "4"}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": true}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": 4.0}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": 0}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": -4}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": "5"}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": null}', "FILE is JSON, but not a notebook"),
        (b'{"nbformat": 5}', "FILE has notebook format 5, newer than 4"),
        (b'{"nbformat": 123456789012345678901234567890}', "FILE has notebook format 123456789, newer than 4"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_line(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ipynb"
    path.write_bytes(content)
    assert refusal(path).startswith(says)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (of(cells=None), "'cells' is a required property (at the top level)"),
        (of(cells={}), "(at cells)"),
        (of(cells=[1]), "(at cells/0)"),
        (of(cells=[None]), "(at cells/0)"),
        (of(cells=[{}]), "cells/0"),
        (of(cells=[code_cell(), code_cell(id="c2", source=...)]), "(at cells/1)"),
        (of(cells=[code_cell(source=5)]), "(at cells/0/source)"),
        (of(cells=[code_cell(cell_type="cod")]), "(at cells/0)"),
        (of(cells=[code_cell(cell_type=["code"])]), "cells/0"),
        (of(cells=[code_cell(metadata=3)]), "(at cells/0"),
        (of(cells=[code_cell(metadata={"tags": "parameters"})]), "(at cells/0/metadata/tags)"),
        (of(cells=[code_cell(outputs={})]), "(at cells/0/outputs)"),
        (of(cells=[code_cell(outputs=["text"])]), "(at cells/0)"),
        (of(cells=[code_cell(outputs=[{"output_type": "stream", "name": "stdout", "text": 3}])]), "(at cells/0/outputs/0/text)"),
        (of(cells=[code_cell(outputs=[{"output_type": "display_data", "metadata": {}, "data": []}])]), "(at cells/0)"),
        (of(cells=[code_cell(outputs=[{"output_type": "unheard-of"}])]), "(at cells/0/outputs/0)"),
        (of(cells=[code_cell(execution_count="one")]), "(at cells/0/execution_count)"),
        (of(cells=[code_cell(id="spaces are not allowed")]), "(at cells/0/id)"),
        (of(cells=[code_cell(id=["a"])]), "cells/0"),
        (of(nbformat_minor=None), "'nbformat_minor' is a required property (at the top level)"),
        (of(metadata=None), "(at the top level)"),
        (of(metadata=[]), "(at metadata)"),
        (of(metadata={"kernelspec": {"name": 5, "display_name": "x"}}), "(at metadata/kernelspec/name)"),
        (of(cells=[code_cell(novelty="x" * 10_000)]), "(at cells/0)"),
        (of(nbformat=3, cells=[]), "not a valid notebook"),
        (of(nbformat=2, worksheets=5), "not a valid notebook"),
    ],
)
def test_wrong_types_and_missing_keys_are_refused_with_the_place(content: Any, place: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ipynb"
    path.write_text(json.dumps(content))
    message = refusal(path)
    assert message.startswith("FILE is not a valid notebook: ")
    assert place in message


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none" / "nb.ipynb") == f"no such notebook: FILE (there is no folder {tmp_path}/none)"
    assert refusal(tmp_path / "nb.ipynb") == f"no such notebook: FILE (no notebook in {tmp_path.name}/)"
    (tmp_path / "train.ipynb").mkdir()
    assert refusal(tmp_path / "trian.ipynb") == "no such notebook: FILE; did you mean 'train.ipynb'?"
    assert refusal(tmp_path / "train.ipynb") == "cannot read FILE: Is a directory"
    assert refusal(tmp_path / "train.ipynb" / "x" / "y.ipynb").startswith("no such notebook")
    (tmp_path / "loop.ipynb").symlink_to("loop.ipynb")
    assert refusal(tmp_path / "loop.ipynb").startswith("cannot read FILE: Too many levels")
    assert refusal(tmp_path / ("n" * 300 + ".ipynb")) == "cannot read FILE: File name too long"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_text(json.dumps(FULL))
    path.chmod(0)
    assert refusal(path) == "cannot read FILE: Permission denied"


# --- fuzzing


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["code", "markdown", "stream", "error"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "cells", "data", "text", "source"]), inner, max_size=3),
    max_leaves=6,
)


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places_in(value[key])]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A notebook's JSON with a few of its values replaced, removed, moved or renamed."""
    made = copy.deepcopy(draw(st.sampled_from([FULL, OLD_3, of(nbformat_minor=2, cells=FULL["cells"])])))
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(places_in(made) or [({"": 0}, "")]))
        match draw(st.sampled_from(["replace", "remove", "rename", "move"])):
            case "replace":
                container[key] = draw(JSON)
            case "remove":
                del container[key]
            case "rename" if isinstance(container, dict):
                container[draw(st.text(max_size=5))] = container.pop(key)
            case _:
                other, at = draw(st.sampled_from(places_in(made)))
                container[key] = copy.deepcopy(other[at])
    return json.dumps(made)


def read_or_refuse(text: str) -> NotebookNode | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotebookUpgraded)
        try:
            return document.parse(text, "nb")
        except NotebookInvalid as error:
            message = str(error)
    assert message.startswith("nb ")
    assert "\n" not in message
    return None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_mutated_notebook_is_read_or_refused(text: str) -> None:
    notebook = read_or_refuse(text)
    if notebook is not None:
        again = read_or_refuse(document.dumps(notebook))
        assert again is not None
        assert [cell.source for cell in again.cells] == [cell.source for cell in notebook.cells]
        assert document.dumps(document.parse(document.dumps(again))) == document.dumps(again)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 40), st.text(max_size=5))
@example(0, 0, "\ufeff")
def test_a_cut_or_overwritten_text_is_read_or_refused(at: int, length: int, instead: str) -> None:
    text = json.dumps(FULL, indent=1)
    read_or_refuse(text[:at])
    read_or_refuse(text[:at] + instead + text[at + length :])


# --- plain text and other places


def test_a_script_is_read_as_a_notebook(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("# %% [markdown]\n# # Title\n\n# %% tags=[\"parameters\"]\nn = 1\n")
    notebook = document.read(path)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code"]
    assert document.find_tagged(notebook, "parameters") == 1
    assert notebook.metadata.kernelspec.name == "python3"


def test_a_script_of_another_language_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "train.R").write_text("# %%\nx <- 1\n")
    assert "kernelspec" not in document.read(tmp_path / "train.R").metadata
    header = "# ---\n# jupyter:\n#   kernelspec:\n#     name: mine\n#     display_name: Mine\n# ---\n\n# %%\nx = 1\n"
    (tmp_path / "train.py").write_text(header)
    assert document.read(tmp_path / "train.py").metadata.kernelspec.name == "mine"


def test_a_script_with_a_broken_header_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("# ---\n# jupyter:\n#   kernelspec: [\n# ---\n\n# %%\nx = 1\n")
    assert refusal(tmp_path / "train.py").startswith("FILE cannot be read as a notebook in plain text: ")


def test_another_ending_is_json_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "notebook.json"
    path.write_text(json.dumps(FULL))
    assert len(document.read(path).cells) == 3
    path.write_text("x = 1")
    assert refusal(path) == "FILE is not valid JSON: Expecting value at line 1, column 1"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_notebook_is_read_over_http_through_papermills_handler(tmp_path: Path) -> None:
    (tmp_path / "nb.ipynb").write_text(json.dumps(FULL))
    (tmp_path / "broken.ipynb").write_text("{")
    with served(tmp_path) as base:
        assert document.read(f"{base}/nb.ipynb") == document.read(tmp_path / "nb.ipynb")
        with pytest.raises(NotebookInvalid, match=rf"^{base}/broken.ipynb is not valid JSON: .* at line 1, column 2$"):
            document.read(f"{base}/broken.ipynb")
        with pytest.raises(NotebookInvalid, match=rf"^{base}/none.ipynb is not valid JSON"):  # the server's 404
            document.read(f"{base}/none.ipynb")
    with pytest.raises(NotebookInvalid, match=rf"^cannot read {base}/nb.ipynb: .*[Cc]onnection") as caught:
        document.read(f"{base}/nb.ipynb")
    assert "\n" not in str(caught.value)


# --- writing


def litter(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_text_bytes_and_pieces_are_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in ("né🤯", "né🤯".encode(), iter(["né", "", "🤯"])):
        document.write_atomically(path, content)  # type: ignore[arg-type]
        assert path.read_text(encoding="utf-8") == "né🤯"
        path.write_text("before")
    document.write_atomically(path, "")
    assert path.read_bytes() == b""
    assert litter(tmp_path) == []


def test_a_failure_while_writing_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_text("before")

    def pieces() -> Iterator[str]:
        yield "half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        document.write_atomically(path, pieces())
    assert path.read_text() == "before"
    assert litter(tmp_path) == []


def test_mode_of_the_file_is_kept_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    before = os.umask(0o027)
    try:
        document.write_atomically(path, "1")
        assert path.stat().st_mode & 0o777 == 0o640
        for mode in (0o600, 0o755, 0o666):
            path.chmod(mode)
            document.write_atomically(path, "2")
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_a_link_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    target, link = tmp_path / "precious", tmp_path / "nb.ipynb"
    target.write_text("precious")
    link.symlink_to(target)
    with pytest.raises(OutputRefused, match="is a symbolic link; name the file itself, or remove the link") as caught:
        document.write_atomically(link, "x")
    assert caught.value.path == str(link)  # type: ignore[attr-defined]
    assert (target.read_text(), link.is_symlink()) == ("precious", True)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputRefused, match="symbolic link"):
        document.check_writable(link)


def test_a_hard_link_keeps_its_other_name_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("before")
    os.link(tmp_path / "other", tmp_path / "nb.ipynb")
    document.write_atomically(tmp_path / "nb.ipynb", "after")
    assert ((tmp_path / "other").read_text(), (tmp_path / "nb.ipynb").read_text()) == ("before", "after")


def test_folders_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for path, says in [
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "none" / "nb.ipynb", "there is no folder .*none; create it first"),
        (tmp_path / "file" / "nb.ipynb", "there is no folder .*file; create it first"),
        (tmp_path / "pipe", "is a device or a pipe, not a file"),
        (Path("/dev/null"), "is a device or a pipe, not a file"),
        (Path("/dev/stdout"), "is a symbolic link|is a device or a pipe"),
    ]:
        with pytest.raises(OutputRefused, match=says):
            document.check_writable(path)


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    for name in ("🤯" * 60, "n" * 249):
        document.write_atomically(tmp_path / f"{name}.ipynb", "x")
        assert (tmp_path / f"{name}.ipynb").read_text() == "x"
    with pytest.raises(OSError, match="File name too long"):
        document.write_atomically(tmp_path / ("n" * 300), "x")
    assert litter(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the read-only mount below stands for this")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputRefused, match="is read-only for this user"):
            document.check_writable(tmp_path / "nb.ipynb")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(os.access("/proc/sys", os.W_OK), reason="there is no folder here that not even root may write to")
def test_a_folder_that_nobody_may_write_to_is_refused() -> None:
    with pytest.raises(OutputRefused, match=r"^the folder /proc/sys is read-only for this user$"):
        document.write_atomically("/proc/sys/nb.ipynb", "x")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc here")
def test_a_folder_that_says_it_can_be_written_to_and_cannot_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(OutputRefused, match=r"^the folder /proc (cannot be written to: |is read-only)"):
        document.check_writable("/proc/nb.ipynb")
    document.check_writable(tmp_path / "nb.ipynb")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_grows_too_large_leaves_the_previous_one(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            document.write_atomically(path, ("x" * 1000 for _ in range(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "before"
    assert litter(tmp_path) == []


FULL_DISK = """
import errno, os, pathlib
from mltoolkit.errors import OutputRefused
from mltoolkit.notebook import document
folder = pathlib.Path({folder!r})
path = folder / "nb.ipynb"
document.write_atomically(path, "before")
try:
    document.write_atomically(path, "x" * 1_000_000)
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else:
    raise SystemExit("a full disk went unnoticed")
assert [each.name for each in folder.iterdir()] == ["nb.ipynb"], list(folder.iterdir())
assert path.read_text() == "before"
document.write_atomically(path, "y" * 10_000)  # what was written aside has made room again
assert os.system("mount -o remount,ro " + str(folder)) == 0
try:
    document.check_writable(path)
except OutputRefused as error:
    assert str(error) == f"the folder {{folder}} is read-only for this user", error
else:
    raise SystemExit("a read-only folder went unnoticed")
assert path.read_text() == "y" * 10_000
"""


def test_a_full_disk_and_a_read_only_one(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=256k tmpfs {tmp_path}"
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    try:
        if subprocess.run([*inside, mount], capture_output=True, check=False).returncode:
            pytest.skip("no file system may be mounted here")
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    command = [*inside, f'{mount} && exec "$0" -c "$1"', sys.executable, FULL_DISK.format(folder=str(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from mltoolkit.notebook import document
contents = ['["%s"]' % (letter * size) for letter, size in (("a", 300_000), ("b", 900_000))]
document.write_atomically(sys.argv[1], contents[0])
print(flush=True)
while True:
    for content in contents:
        document.write_atomically(sys.argv[1], (content[at : at + 10_000] for at in range(0, len(content), 10_000)))
"""


def test_the_file_is_whole_whenever_the_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    moments = random.Random(0)
    seen = set()
    for _ in range(15):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            threading.Event().wait(moments.uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
        assert writer.returncode == -signal.SIGKILL
        (text,) = json.loads(path.read_text())
        assert text in ("a" * 300_000, "b" * 900_000)
        seen.add(text[0])
    assert seen == {"a", "b"}, "the writer was killed at one moment only"


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "nb.ipynb"
    contents = [str(number) * 200_000 for number in range(4)]

    def write_often(content: str) -> None:
        for _ in range(10):
            document.write_atomically(path, content)

    threads = [threading.Thread(target=write_often, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents
    assert litter(tmp_path) == []


# --- imports that can wait


def test_a_slow_module_is_imported_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_syntax.py").write_text("print('imported')\nLIMIT = 3\ndef is_valid(text): return len(text) < LIMIT\n")
    monkeypatch.syspath_prepend(tmp_path)
    for use in ("slow_syntax.is_valid('ab')", "slow_syntax.LIMIT == 3"):
        monkeypatch.delitem(sys.modules, "slow_syntax", raising=False)
        document._postpone("slow_syntax", "is_valid")
        stand_in = sys.modules["slow_syntax"]
        assert not hasattr(stand_in, "__wrapped__")
        assert sys.modules["slow_syntax"] is stand_in
        assert eval(use, {"slow_syntax": stand_in})
        assert sys.modules["slow_syntax"] is not stand_in
        assert eval(use, {"slow_syntax": stand_in})
    document._postpone("there_is_no_such_module", "f")
    assert "there_is_no_such_module" not in sys.modules
    before = sys.modules["json"]
    document._postpone("json", "loads")
    assert sys.modules["json"] is before
    monkeypatch.delitem(sys.modules, "slow_syntax")


# --- tags


def test_tags_and_where_they_are(write: Callable[..., Path], bare_workspace: Path) -> None:
    notebook = document.read(write("nb.ipynb", "1", "2", parameters="n = 1"))
    assert [document.tags(cell) for cell in notebook.cells] == [["parameters"], [], []]
    assert document.find_tagged(notebook, "parameters") == 0
    assert document.find_tagged(notebook, "injected-parameters") is None


def test_the_file_is_what_nbformat_writes() -> None:
    import nbformat

    data = {"text/plain": "a\nb", "text/html": "<p>\n</p>", "image/svg+xml": "<svg>\n", "image/png": "QUJD", "application/json": {"b": [1, "x\ny"]}}
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "one\r\ntwo\x0bthree\u2028"},
        {"output_type": "display_data", "data": data, "metadata": {"image/png": {"width": 1}}},
        {"output_type": "execute_result", "data": {"application/javascript": "a;\nb;"}, "metadata": {}, "execution_count": 1},
        {"output_type": "error", "ename": "E", "evalue": "v\nw", "traceback": ["one\n", "two"]},
    ]
    cells = [
        {"cell_type": "code", "id": "a", "metadata": {"trusted": True, "tags": ["x"]}, "source": "1\n2", "execution_count": 1, "outputs": outputs},
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "ü\n", "attachments": {"a.svg": {"image/svg+xml": "<svg>\n</svg>"}}},
        {"cell_type": "raw", "id": "c", "metadata": {}, "source": ""},
        {"cell_type": "code", "id": "d", "metadata": {}, "source": "", "execution_count": None, "outputs": []},
    ]
    metadata = {"orig_nbformat": 3, "signature": "s", "kernelspec": {"name": "python3"}}
    for chosen in (cells, cells[:1], []):
        notebook = nbformat.from_dict({"cells": chosen, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
        before = nbformat.from_dict(notebook)
        assert document.dumps(notebook) == nbformat.v4.writes(notebook) + "\n"
        assert notebook == before
