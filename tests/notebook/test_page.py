"""The whole page, without a browser: its order, its policy, the failing cell, and damaged notebooks."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from pygments.token import STANDARD_TYPES

from mltoolkit.notebook import page as module
from mltoolkit.notebook.page import render

ROOT = Path(__file__).parents[2]
ERROR = new_output("error", ename="ValueError", evalue="bad \x1b[31mvalue\x1b[0m", traceback=["ValueError: bad value"])


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def body(markup: str) -> str:
    return markup.split("<body>")[1]


def page_of(*cells: NotebookNode, facts: dict[str, Any] | None = None, **options: Any) -> str:
    return render(new_notebook(cells=list(cells)), title="title", facts=facts, **options)


def test_the_policy_names_the_style_sheet_and_allows_nothing_else() -> None:
    shown = page_of(new_code_cell("x"))
    sheet = re.search(r"<style>(.*?)</style>", shown, re.DOTALL)
    assert sheet is not None
    digest = base64.b64encode(hashlib.sha256(sheet[1].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown)
    assert policy is not None
    assert policy[1].split("; ") == [
        "default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'", "style-src-attr 'unsafe-inline'", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    assert shown.index("Content-Security-Policy") < shown.index("<style>") < shown.index("<body>")
    assert shown.count("<style") == 1
    assert not re.search(r"url\(|@import|expression", sheet[1])


def test_the_page_is_complete_and_asks_for_nothing() -> None:
    shown = page_of(new_markdown_cell("![a](https://example.org/a.png)"), new_code_cell("x", outputs=[ERROR]))
    assert shown.startswith("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
    assert shown.rstrip().endswith("</html>")
    assert not re.search(r"<(script|link|iframe|base)", shown)
    assert re.findall(r'\ssrc="([^"]*)', shown) == []


def test_order_of_the_page() -> None:
    facts = {"status": "failed", "metrics": {"m": 1}, "parameters": {"p": 1}, "run_id": "r", "warnings": ["w"]}
    shown = body(page_of(new_markdown_cell("# A\n\n# B\n\n# C"), new_code_cell("x", outputs=[ERROR]), facts=facts))
    order = ['class="skip"', "<h1>", 'class="badge failed"', 'class="banner"', 'class="warnings"', "Metrics", "Parameters", "Provenance",
             'class="contents"', '<main id="cells">', 'id="cell-1"', 'id="cell-2"']  # fmt: skip
    places = [shown.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("tagged", "facts", "failing"),
    [
        ({}, {}, 3),
        ({}, {"status": "failed"}, 3),
        ({}, {"status": "failed", "failure": {"cell": 1}}, 1),
        ({}, {"status": "kernel_died", "failure": {"cell": 0}}, 0),
        ({}, {"status": "failed", "failure": {"cell": 99}}, 3),
        ({}, {"status": "failed", "failure": {"cell": True}}, 3),
        ({}, {"status": "failed", "failure": "x"}, 3),
        ({2: {"papermill": {"exception": True}}}, {"status": "failed"}, 2),
        ({3: {"tags": ["raises-exception"]}}, {}, 1),
        ({}, {"status": "succeeded"}, None),
        ({1: {"tags": ["raises-exception"]}, 3: {"tags": ["raises-exception"]}}, {}, None),
    ],
)
def test_which_cell_failed(tagged: dict[int, Any], facts: dict[str, Any], failing: int | None) -> None:
    cells = [new_code_cell("x", outputs=[ERROR] if index % 2 else []) for index in range(4)]
    for index, metadata in tagged.items():
        cells[index].metadata.update(metadata)
    shown = body(page_of(*cells, facts=facts))
    assert re.findall(r'class="cell failing" id="cell-(\d)"', shown) == ([] if failing is None else [str(failing + 1)])
    assert ('class="banner"' in shown) == (failing is not None)
    assert (f'<a href="#cell-{(failing or 0) + 1}">' in shown) == (failing is not None)


def banner(facts: dict[str, Any], *cells: NotebookNode) -> str:
    found = re.search(r'<section class="banner".*?</section>', page_of(*cells, facts=facts), re.DOTALL)
    return words(found[0]) if found else ""


def test_what_the_banner_says() -> None:
    cell = new_code_cell("x", outputs=[ERROR], execution_count=4)
    assert banner({}, cell) == "The run failed in cell 1, In [4] ValueError : bad value Go to the cell"
    record = {"status": "failed", "failure": {"cell": 0, "ename": "E", "evalue": "v"}}
    assert banner(record, cell) == "The run failed in cell 1, In [4] E : v Go to the cell"
    assert banner({"status": "kernel_died", "failure": {"message": "kernel died (signal 9)"}}) == "The kernel died kernel died (signal 9)"
    assert banner({"status": "timed_out"}) == "The run reached its time limit"
    assert banner({"status": "cancelled"}, new_code_cell("x")) == "The run was cancelled"
    assert banner({"status": "lost"}).startswith("The run's process is gone")
    assert banner({"status": "ended_early"}).startswith("The notebook ended itself")
    assert banner({"status": "invalid"}) == "The run was refused"
    assert banner({"status": "succeeded"}, cell) == banner({"status": "running"}, cell) == banner({"status": "new"}) == ""
    assert len(banner({"status": "failed", "failure": {"ename": "E" * 9999, "evalue": "v" * 99_999}})) < 2000


def test_marks_of_papermill_are_not_shown_twice() -> None:
    mark = new_markdown_cell("An Exception was encountered at 'In [1]'.", metadata={"tags": ["papermill-error-cell-tag"]})
    shown = body(page_of(mark, new_code_cell("x", outputs=[ERROR])))
    assert "An Exception was encountered" not in shown
    assert 'id="cell-1"' not in shown
    assert 'class="cell failing" id="cell-2"' in shown


@pytest.mark.parametrize(
    ("metadata", "taken"),
    [
        ({"papermill": {"duration": 1.5}}, "1.50 s"),
        ({"execution": {"iopub.execute_input": "2026-01-01T00:00:00.5Z", "shell.execute_reply": "2026-01-01T00:00:03Z"}}, "2.50 s"),
        ({"execution": {"iopub.status.busy": "2026-01-01T00:00:00Z", "iopub.status.idle": "2026-01-01T00:02:03Z"}}, "2 min 03 s"),
        ({"execution": {"iopub.execute_input": "2026-01-01T00:00:05Z", "shell.execute_reply": "2026-01-01T00:00:03Z"}}, "0.00 s"),
        ({"execution": {"iopub.execute_input": "2026-01-01T00:00:05Z", "shell.execute_reply": "2026-01-01T00:00:03"}}, None),
        ({"execution": {"iopub.execute_input": "x"}}, None),
        ({"papermill": {"duration": None}, "execution": {}}, None),
        ({}, None),
    ],
)
def test_how_long_a_cell_took(metadata: dict[str, Any], taken: str | None) -> None:
    found = re.findall(r'<span class="taken">([^<]*)', page_of(new_code_cell("x", metadata=metadata)))
    assert found == ([taken] if taken else [])


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        (new_code_cell("x", metadata={"tags": ["parameters", "other"]}, execution_count=1), ["parameters"]),
        (new_code_cell("x", metadata={"tags": ["injected-parameters"]}, execution_count=1), ["injected parameters"]),
        (new_code_cell("x", metadata={"tags": ["skip-execution"]}), ["skipped"]),
        (new_code_cell("x", metadata={"papermill": {"status": "skipped"}}), ["skipped"]),
        (new_code_cell("x", metadata={"papermill": {"status": "pending"}}), ["not run"]),
        (new_code_cell("x"), ["not run"]),
        (new_code_cell(" \n"), []),
        (new_code_cell("x", metadata={"papermill": {"status": "completed"}}), []),
        (new_code_cell("x", execution_count=1), []),
        (new_raw_cell("<b>"), ["raw"]),
    ],
)
def test_labels(cell: NotebookNode, labels: list[str]) -> None:
    shown = page_of(cell, facts={"status": "succeeded"})
    assert re.findall(r'<span class="label">([^<]*)', shown) == labels


def test_a_notebook_that_is_no_record_does_not_say_what_never_ran() -> None:
    assert "not run" not in body(page_of(new_code_cell("x")))


def test_contents_when_there_are_several_headings() -> None:
    assert "<nav" not in page_of(new_markdown_cell("# A\n## B"))
    shown = page_of(new_markdown_cell("## A\n### B <b>c</b>\n#### C\n##### D"), new_markdown_cell("## \"é\" & A"))
    nav = re.search(r"<nav.*?</nav>", shown)
    assert nav is not None
    assert re.findall(r'class="level-(\d)"><a href="#([^"]*)">([^<]*)', nav[0]) == [
        ("1", "n-A", "A"), ("2", "n-B-c", "B c"), ("3", "n-C", "C"), ("1", "n-%22%C3%A9%22-%26-A", "&quot;é&quot; &amp; A"),
    ]  # fmt: skip


def test_numbers_of_cells() -> None:
    shown = page_of(new_code_cell("x", execution_count=12), new_code_cell("y"))
    assert re.findall(r'<span class="number">([^<]*)', shown) == ["[12]", "[ ]"]
    assert "2 code cells" in shown


def test_empty_cells_leave_no_hole() -> None:
    assert 'id="cell-1"' not in page_of(new_markdown_cell(""))
    assert '<pre class="code">' not in page_of(new_code_cell(""))


def test_the_limit_is_for_each_output() -> None:
    output = new_output("stream", name="stdout", text="x" * 3000)
    shown = page_of(new_code_cell("x", outputs=[output]), new_code_cell("x", outputs=[output]), limit=1000)
    assert shown.count("2.0 kB more, in the .ipynb") == 2
    assert page_of(new_code_cell("x", outputs=[output])).count("more, in the .ipynb") == 0


@pytest.mark.parametrize(
    ("metadata", "coloured"),
    [
        ({}, True),
        ({"language_info": {"name": "python", "pygments_lexer": "ipython3"}}, True),
        ({"language_info": {"name": "no such"}}, False),
        ({"kernelspec": {"language": "python"}}, True),
        ({"language_info": {"pygments_lexer": {"name": "python"}}}, True),
        ({"language_info": {"pygments_lexer": ["x"]}}, True),
        ({"language_info": 5, "kernelspec": "x"}, True),
    ],
)
def test_language(metadata: dict[str, Any], coloured: bool) -> None:
    shown = render(NotebookNode(cells=[new_code_cell("import os")], metadata=metadata), title="t")
    assert ('<span class="kn">import</span>' in shown) == coloured


def test_titles_are_text() -> None:
    shown = render(new_notebook(), title="</title><script>x</script> \ud800")
    assert "<title>&lt;/title&gt;&lt;script&gt;x&lt;/script&gt; ?</title>" in shown
    assert shown.encode("utf-8")


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").rglob("*.ipynb")), ids=lambda path: path.stem)
def test_our_own_notebooks(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    shown = render(notebook, title=path.stem)
    letters = html.unescape(re.sub(r"<[^>]*>", "", body(shown)))
    for cell in notebook.cells:
        assert cell.cell_type != "code" or cell.source in letters
    assert '<section class="banner"' not in shown


def test_a_notebook_as_it_lies_on_the_disk_works_too() -> None:
    raw = {"cells": [{"cell_type": "code", "source": ["x = 1\n", "y"], "outputs": [{"output_type": "stream", "text": ["a\n", "b"]}]}]}
    assert "x = 1 y a b" in words(render(NotebookNode(json.loads(json.dumps(raw))), title="t"))


damaged = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["cell_type", "source", "outputs", "metadata", "tags", "papermill", "execution", "attachments", "data", "output_type"]),
        inner,
        max_size=4,
    ),
    max_leaves=10,
)
kinds = st.sampled_from(["code", "markdown", "raw", "other"])


@given(st.lists(st.builds(lambda cell, kind: {**cell, "cell_type": kind}, st.dictionaries(st.sampled_from(["source", "outputs", "metadata", "attachments", "execution_count", "id"]), damaged), kinds) | damaged, max_size=4), damaged, damaged)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_a_damaged_notebook_still_gives_a_page(cells: list[Any], metadata: Any, facts: Any) -> None:
    notebook = NotebookNode(cells=cells, metadata=metadata)
    shown = render(notebook, title="t", facts=facts if isinstance(facts, dict) else None)
    assert shown.encode("utf-8").rstrip().endswith(b"</html>")


def test_importing_the_page_loads_nothing_heavy() -> None:
    script = "import sys, mltoolkit.notebook.page; print([name for name in ('nbconvert', 'mistune', 'nh3', 'pygments', 'pandas', 'nbformat', 'IPython') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_short_names_of_classes_are_those_of_pygments_and_of_terminals() -> None:
    sheet, _ = module._style_sheet()
    names = set(re.findall(r"\.([a-z]\w*)", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)))
    terminal = {f"{kind}{number}" for kind in "fb" for number in range(16)} | {"sw", "bd", "dm", "it", "un", "st"}
    assert len(names) > 80
    assert {name for name in names if len(name) < 4} <= terminal | set(STANDARD_TYPES.values())


def test_a_page_comes_in_pieces_that_can_be_written() -> None:
    nb = new_notebook(cells=[new_markdown_cell("# \ud800 one"), new_code_cell("print('\udfff')"), new_markdown_cell(""), new_markdown_cell("# two\n# three")])
    parts = list(module.pieces(nb, title="t \ud800", facts={"status": "succeeded"}))
    assert "".join(parts) == render(nb, title="t \ud800", facts={"status": "succeeded"})
    assert all(part.encode() for part in parts)
    assert parts[0].index("Contents") < parts[0].index("<main")
    assert [part.count("<section") for part in parts].count(1) == 3
