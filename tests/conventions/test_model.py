"""Notebooks are read fast where they are well formed, and robustly where they are not; magics are what IPython takes them for."""

from __future__ import annotations

import ast
import json

import pytest

from mltoolkit.conventions.model import Magic, parse, parses, python_of, read
from mltoolkit.conventions.names import scan
from mltoolkit.conventions.rules import example_notebook
from mltoolkit.errors import NotebookInvalid


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\nx = 1",
        "files = !ls *.csv\nfiles",
        "if True:\n    !ls\n    %time y = 2",
        "%%time\nx = 1",
        "frame.head?",
        "?frame",
        "%%capture out\nx = 1",
        "!pip install \\\n   numpy \\\n  pandas\nx = 1",
        "%time total = 1 + 1",
        "a, b = 1, 2\n%load_ext autoreload\n%autoreload 2",
        '"""\n%not a magic\n"""',
        "x = (7\n     % 4)",
        "text = '''\n!not a command\n'''",
        "%%bash\nfor x in 1 2; do echo $x; done",
        "await f()",
    ],
)
def test_what_ipython_takes_for_python_is_taken_for_python(source: str) -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    def names(text: str) -> set[str]:
        return {event.name for event in scan(parse(text)).events if event.kind == "bind"}

    theirs = TransformerManager().transform_cell(source)
    ours, magics = python_of(source)
    assert bool(magics) == ("get_ipython()" in theirs)
    assert names(ours) >= names(theirs)
    assert ours.count("\n") <= source.count("\n")


@pytest.mark.parametrize(
    ("source", "left", "magics"),
    [
        ("%%writefile a.py\nimport os", "", [Magic(1, "%%", "writefile", "a.py")]),
        ("\n%%timeit\nf()", "\n\nf()", [Magic(2, "%%", "timeit", "")]),
        ("%timeit -n 3 f()", "pass", [Magic(1, "%", "timeit", "-n 3 f()")]),
        ("%time x = f()", "x = f()", [Magic(1, "%", "time", "x = f()")]),
        ("pip install numpy", "pass", [Magic(1, "%", "pip", "install numpy")]),
        ("pip install numpy\nx = 1", "pip install numpy\nx = 1", []),
        (">>> x = 1\n>>> x", "x = 1\nx", []),
        ("%cd ..\n!ls", "pass\npass", [Magic(1, "%", "cd", ".."), Magic(2, "!", "ls", "")]),
    ],
)
def test_magics_are_taken_out(source: str, left: str, magics: list[Magic]) -> None:
    assert python_of(source) == (left, magics)


@pytest.mark.parametrize("source", ["(" * 5000, "x = '\x00'", "def", "0" * 5000 + "1", "\ud800"])
def test_whatever_cannot_be_parsed_is_a_syntax_error(source: str) -> None:
    assert not parses(source)
    with pytest.raises(SyntaxError):
        parse(source)


def test_what_is_nested_too_deeply_to_walk_through_is_a_fault_of_its_cell() -> None:
    deep = "x = " + "-" * 900 + "1"
    assert parses(deep)
    cell = read(example_notebook((deep, "y = 1"))).code
    assert (cell[0].tree is None) == (cell[0].fault is not None)
    assert cell[1].tree is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"{", "not valid JSON"),
        (b"[]", "not a notebook"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "odd", "source": ""}]}', "not a valid notebook"),
        (b'{"nbformat": 4, "cells": 3}', "not a valid notebook"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"nbformat": 99, "nbformat_minor": 0}', "newer than"),
    ],
)
def test_what_is_no_notebook_is_said_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(NotebookInvalid, match=message) as caught:
        read(content, "a.ipynb")
    assert "\n" not in str(caught.value)


def test_odd_parts_of_a_notebook_do_no_harm() -> None:
    cells = [
        {"cell_type": "code", "source": ["x = ", "1"], "metadata": {"tags": ["a", 3]}, "outputs": [3, {"output_type": "stream"}], "execution_count": "1"},
        {"cell_type": "code", "source": "x", "metadata": [], "outputs": {}},
        {"cell_type": "markdown", "source": []},
    ]
    notebook = read(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": [], "cells": cells}).encode())
    assert [(cell.source, cell.count, len(cell.outputs)) for cell in notebook.cells] == [("x = 1", None, 1), ("x", None, 0), ("", None, 0)]
    assert notebook.cells[0].tags == {"a"}
    assert notebook.language == "python"


def test_names_are_followed_through_imports() -> None:
    notebook = read(example_notebook(("import numpy as np, os.path\nfrom . import near\nfrom sklearn import svm as s", "np.a.b(); os.path.join(); s.SVC()(); near(); [1].pop(); x[0].y()")))
    assert [call.name for call in notebook.calls] == ["numpy.a.b", "os.path.join", "", "sklearn.svm.SVC", "..near", ".pop", ".y"]
    assert notebook.imports("numpy", "torch")
    assert not notebook.imports("torch")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("with open('a') as f, g() as (h, i): pass", {"f": "bind", "h": "bind", "i": "bind", "g": "use", "open": "use"}),
        ("lambda a, b=c: a + b + d", {"c": "use", "d": "later"}),
        ("@deco\nclass A(B, metaclass=M):\n    x: int = y", {"deco": "use", "B": "use", "M": "use", "y": "use", "A": "bind"}),
        ("x: Later", {}),
        ("def f():\n    y: Here = z\n    def g():\n        nonlocal y\n        return y", {"f": "bind", "z": "later"}),
        ("{k: v for k, v in pairs if k in known}", {"pairs": "use", "known": "use"}),
        ("for i in r:\n    pass\nelse:\n    e", {"r": "use", "i": "bind", "e": "use"}),
        ("try:\n    a\nexcept (NameError, KeyError) as e:\n    b", {"a": "guarded", "NameError": "use", "KeyError": "use", "e": "bind", "b": "use"}),
        ("try:\n    f = lambda: a\nexcept:\n    pass", {"a": "later", "f": "bind"}),
        ("[lambda: q for _ in r]", {"r": "use", "q": "later"}),
        ("class A:\n    f = [x for x in y]\n    def g(self):\n        return h", {"y": "use", "h": "later", "A": "bind"}),
    ],
)
def test_events_are_in_the_order_of_evaluation(source: str, expected: dict[str, str]) -> None:
    assert {event.name: event.kind for event in scan(ast.parse(source)).events if not event.name.startswith("__")} == expected


def test_a_star_or_exec_makes_names_unknown() -> None:
    assert scan(ast.parse("from a import *")).star
    assert scan(ast.parse("exec('x = 1')")).star
    assert not scan(ast.parse("eval('x')")).star
    assert not scan(ast.parse("def f(): exec('x')")).star
