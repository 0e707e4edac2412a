"""What is refused before anything runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from mltoolkit.errors import Finding, GateRefused, Invalid, NotebookInvalid, OutputRefused, ParameterError
from mltoolkit.execution.plan import plan
from mltoolkit.notebook import document


@pytest.fixture
def source(bare_workspace: Path, write: Callable[..., Path]) -> Path:
    return write("projects/demo/train.ipynb", "depth", parameters="depth: int = 3\nkey: str = ''")


def test_everything_known_about_a_run(source: Path, bare_workspace: Path) -> None:
    made = plan(source, parameters={"depth": 5})
    assert (made.project, made.experiment, made.stem, made.kernel, made.language) == ("demo", "demo", "train", "python3", "python")
    assert made.cwd == source.parent
    assert made.root == bare_workspace
    assert made.seed == 0
    assert made.limits["timeout"] == 86400
    assert "depth = 5" in made.notebook.cells[1].source
    assert document.find_tagged(document.read(source), "injected-parameters") is None
    assert list(bare_workspace.glob(".mltoolkit/runs/*")) == []


def test_the_digest_is_of_what_the_author_wrote(source: Path) -> None:
    before = plan(source).digest
    notebook = document.read(source)
    notebook.cells[1].execution_count = 7
    document.write(notebook, source)
    assert plan(source).digest == before
    notebook.cells[1].source = "depth + 1"
    document.write(notebook, source)
    assert plan(source).digest != before


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"parameters": {"dept": 1}}, ParameterError, "did you mean 'depth'"),
        ({"parameters": {"depth": "5"}}, ParameterError, "depth"),
        ({"parameters": {"depth; print(1)": 1}}, ParameterError, "print"),
        ({"kernel": "pyhton3"}, Invalid, "did you mean 'python3'"),
        ({"cwd": "nowhere"}, Invalid, "nowhere"),
        ({"timeout": "soon"}, Invalid, "timeout"),
        ({"output": "none/out.ipynb"}, OutputRefused, "there is no folder"),
        ({"output": "."}, OutputRefused, "is a folder"),
        ({"output": "{dept}.ipynb"}, ParameterError, "dept"),
        ({"output": "out/{key}.ipynb", "parameters": {"key": "../../up"}}, ParameterError, "could leave"),
        ({"output": "/proc/out.ipynb"}, OutputRefused, "/proc"),
    ],
)
def test_bad_input(source: Path, options: dict[str, Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as caught:
        plan(source, **options)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]


def test_output_that_is_a_link_or_the_notebook_itself(source: Path, bare_workspace: Path) -> None:
    link = bare_workspace / "link.ipynb"
    link.symlink_to(bare_workspace / "elsewhere.ipynb")
    with pytest.raises(OutputRefused, match="symbolic link"):
        plan(source, link)
    with pytest.raises(OutputRefused, match="the notebook itself"):
        plan(source, os.path.relpath(source))


def test_no_notebook(bare_workspace: Path) -> None:
    with pytest.raises(NotebookInvalid, match="no such notebook"):
        plan("none.ipynb")


def test_a_notebook_without_a_kernel_gets_python(bare_workspace: Path, write: Callable[..., Path]) -> None:
    assert plan(write("a.ipynb", "1", kernel=None)).kernel == "python3"


def test_plain_text_is_a_notebook(bare_workspace: Path) -> None:
    Path("train.py").write_text('# %% [markdown]\n# # Train\n\n# %% tags=["parameters"]\ndepth: int = 3\n\n# %%\ndepth\n')
    Path("train.md").write_text('# Train\n\n```python tags=["parameters"]\ndepth: int = 3\n```\n\n```python\ndepth\n```\n')
    for name in ("train.py", "train.md"):
        made = plan(name, parameters={"depth": 4})
        assert made.stem == "train"
        assert [cell.cell_type for cell in made.notebook.cells] == ["markdown", "code", "code", "code"]
        assert "depth = 4" in made.notebook.cells[2].source


def test_gates_may_say_no(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gate(notebook: str, parameters: dict[str, Any], job: str | None) -> list[Finding]:
        asked.append((Path(notebook).name, dict(parameters), job))
        severity = "error" if parameters.get("depth", 3) > 4 else "warning"
        return [Finding("MLT999", "too deep", severity=severity, fix="use less")]

    monkeypatch.setitem(sys.modules, "a_gate", type(sys)("a_gate"))
    sys.modules["a_gate"].gate = gate  # type: ignore[attr-defined]
    points = EntryPoints([EntryPoint("a", "a_gate:gate", "mltoolkit.gate")])
    monkeypatch.setattr("mltoolkit.execution.plan.entries", lambda group: points.select(group=group))
    assert plan(source).values == {}
    with pytest.raises(GateRefused, match="too deep") as caught:
        plan(source, parameters={"depth": 5})
    assert (caught.value.exit_code, [finding.code for finding in caught.value.findings]) == (2, ["MLT999"])  # type: ignore[attr-defined]
    assert plan(source, parameters={"depth": 5}, gate=False).values == {"depth": 5}
    assert asked == [("train.ipynb", {}, None), ("train.ipynb", {"depth": 5}, None)]
