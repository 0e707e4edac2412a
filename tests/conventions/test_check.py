"""What is looked at, remembered, left out and mended; bad input is a finding and stops nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltoolkit.conventions import check as checking
from mltoolkit.conventions import fixes, lint
from mltoolkit.conventions.check import Report, analyse, check, fix, fix_difference
from mltoolkit.conventions.rules import Choice, example_notebook, rules
from mltoolkit.errors import Invalid, SettingsError


def settle(root: Path, *lines: str) -> None:
    (root / "settings.ini").write_text("\n".join(["[mltoolkit]", *lines]) + "\n")


def told(report: Report) -> list[tuple[str, str, int | None, int | None]]:
    return [(each.code, each.path, each.cell, each.line) for each in report.findings]


# --- what is left out


@pytest.mark.parametrize(
    ("cell", "codes"),
    [
        ("nothing", ["MLT103"]),
        ("nothing  # noqa", []),
        ("nothing  # noqa: MLT103", []),
        ("nothing  # noqa: MLT301, mlt103", []),
        ("nothing  # noqa: F821", ["MLT103"]),
        ("# noqa\nnothing", ["MLT103"]),
        ({"source": "nothing", "metadata": {"tags": ["noqa"]}}, []),
        ({"source": "nothing", "metadata": {"tags": ["noqa:MLT1"]}}, []),
        ({"source": "nothing", "metadata": {"tags": ["noqa-MLT103"]}}, []),
        ({"source": "nothing", "metadata": {"tags": ["noqa:MLT3"]}}, ["MLT103"]),
        ({"source": "1  # noqa: MLT808", "outputs": [{"output_type": "error", "ename": "E"}]}, []),
        ({"source": "1  # noqa", "outputs": [{"output_type": "error", "ename": "E"}]}, ["MLT808"]),
    ],
)  # fmt: skip
def test_comments_and_tags_leave_findings_out(cell: Any, codes: list[str]) -> None:
    assert [each[0] for each in analyse(example_notebook((cell,)))["found"]] == codes


def test_a_parameter_without_a_default_is_there_when_the_notebook_runs(bare_workspace: Path, put: Callable[..., Path]) -> None:
    cell = {"source": "month: int  # of the flights", "metadata": {"tags": ["parameters"]}}
    (bare_workspace / "a.ipynb").write_bytes(example_notebook((cell, "print(month, mont)")))
    (bare_workspace / "b.ipynb").write_bytes(example_notebook(("month: int", "print(month)")))
    (bare_workspace / "c.ipynb").write_bytes(example_notebook((cell, "from numpy import *\nprint(month)")))
    named = [(each.path, each.message) for each in check(["a.ipynb", "b.ipynb", "c.ipynb"]).findings if each.code in ("MLT103", "F821")]
    assert named == [("a.ipynb", "'mont' is used, but no cell defines it"), ("b.ipynb", "'month' is used, but no cell defines it")]


def test_settings_choose_and_weigh(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", "import random\nrandom.random()", "nothing")
    put("old/b.ipynb", "nothing")
    assert {each.code: each.severity for each in check(ruff=False).findings} == {"MLT301": "warning", "MLT103": "error"}
    settle(bare_workspace, "check_severity = MLT3: error; MLT103: warning; MLT102: warning", "check_exclude = old/*")
    assert {each.code: each.severity for each in check(ruff=False).findings} == {"MLT301": "error", "MLT103": "warning"}
    settle(bare_workspace, "check_severity = MLT301: off", "check_per_file_ignores = old/*: ALL")
    assert told(check(ruff=False)) == [("MLT103", "a.ipynb", 1, 1)]
    settle(bare_workspace, "check_select = MLT3", "check_ignore = MLT302")
    assert [each.code for each in check(ruff=False).findings] == ["MLT301"]
    assert [each.code for each in check(ruff=False, select="MLT1").findings] == ["MLT103", "MLT103"]
    assert check(ruff=False, ignore=["MLT301"]).findings == []


def test_what_is_off_by_default_comes_on_request(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", {"source": "1", "execution_count": 7})
    assert check(ruff=False).findings == []
    assert [each.code for each in check(ruff=False, select="MLT102").findings] == ["MLT102"]
    settle(bare_workspace, "check_severity = MLT102: error")
    assert [(each.code, each.severity) for each in check(ruff=False).findings] == [("MLT102", "error")]


@pytest.mark.parametrize(("line", "message"), [("check_severity = MLT1: bad", "one of error, warning, off"), ("check_severity = MLT1", "NAME: WORD"), ("check_select = a-b", "not a rule's code")])
def test_wrong_settings_are_refused(line: str, message: str, bare_workspace: Path) -> None:
    settle(bare_workspace, line)
    with pytest.raises(SettingsError, match=message):
        check()


# --- which files


def test_hidden_folders_environments_and_copies_are_passed_over(bare_workspace: Path, put: Callable[..., Path]) -> None:
    for name in ("a.ipynb", "sub/b.ipynb", ".ipynb_checkpoints/a.ipynb", "env/lib/c.ipynb", "node_modules/d.ipynb"):
        put(name, "nothing")
    (bare_workspace / "env" / "pyvenv.cfg").write_text("")
    assert [each.path for each in check(ruff=False).findings] == ["a.ipynb", "sub/b.ipynb"]
    assert [each.path for each in check([".ipynb_checkpoints/a.ipynb"], ruff=False).findings] == [".ipynb_checkpoints/a.ipynb"]


def test_a_path_that_is_not_there_is_refused(bare_workspace: Path) -> None:
    with pytest.raises(Invalid, match=r"there is no file or folder nowhere"):
        check(["nowhere"])
    (bare_workspace / "a.txt").write_text("")
    with pytest.raises(Invalid, match=r"a\.txt is neither a notebook nor a jobs\.yaml"):
        check(["a.txt"])


def test_files_of_several_places_are_looked_at_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.ipynb").write_bytes(example_notebook(("nothing",)))
    report = check([tmp_path / "one" / "a.ipynb", tmp_path / "two"], ruff=False)
    assert [each.path for each in report.findings] == ["one/a.ipynb", "two/a.ipynb"]
    assert list((tmp_path / "cache" / "mltoolkit").glob("check-*.json"))
    assert not (tmp_path / ".mltoolkit").exists()


def test_jobs_and_their_notebooks(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("projects/shop/report.ipynb", "import pandas as pd\npd.read_csv('a.csv').to_csv('b.csv')")
    put("free.ipynb", "import pandas as pd\npd.read_csv('a.csv')")
    (bare_workspace / "projects/shop/jobs.yaml").write_text("jobs:\n  report: {notebook: report.ipynb, owner: ana, timeout: 1m}\n")
    assert {each.code for each in check(ruff=False).findings} == {"MLT201", "MLT312", "MLT703"}
    only = check(["projects/shop/jobs.yaml"], ruff=False)
    assert told(only) == [("MLT703", "projects/shop/jobs.yaml", None, 2)], "its notebook is looked into, and not reported on"


# --- the cache


def test_what_was_seen_is_not_looked_at_again(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.ipynb", "import os\nnothing")
    put("b.ipynb", "1")
    first = check(select="MLT,F")
    assert {each.code for each in first.findings} == {"MLT103", "F401"}, "F821 says what MLT103 says"
    monkeypatch.setattr(checking, "analyse", None)
    monkeypatch.setattr(checking, "lint", None)
    assert check(select="MLT,F").findings == first.findings
    monkeypatch.undo()
    os.chdir(bare_workspace)
    put("b.ipynb", "import sys")
    assert [each.path for each in check(select="F401").findings] == ["a.ipynb", "b.ipynb"]
    (bare_workspace / "pyproject.toml").write_text("[tool.ruff.lint]\nselect = ['F811']\n")
    assert [each.code for each in check().findings] == ["MLT103"]
    (bare_workspace / "pyproject.toml").write_text("[tool.ruff]\nextend = 'other.toml'\n")
    (bare_workspace / "other.toml").write_text("[lint]\nselect = ['F']\n")
    assert {each.code for each in check().findings} == {"MLT103", "F401"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"salt": 1}', b'{"known": 3, "salt": ""}', b"\xff"])
def test_a_damaged_cache_is_as_good_as_none(content: bytes, bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", "nothing")
    first = told(check(ruff=False))
    (bare_workspace / ".mltoolkit/cache/check.json").write_bytes(content)
    assert told(check(ruff=False)) == first == [("MLT103", "a.ipynb", 0, 1)]


def test_a_cache_that_cannot_be_written_is_done_without(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", "nothing")
    (bare_workspace / ".mltoolkit").write_text("in the way")
    assert told(check(ruff=False)) == [("MLT103", "a.ipynb", 0, 1)]
    assert told(check(ruff=False, cache=False)) == [("MLT103", "a.ipynb", 0, 1)]


def test_a_setting_that_rules_look_at_makes_it_void(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", "import os\nos.environ['REGION']")
    assert [each.code for each in check(ruff=False).findings] == ["MLT314"]
    settle(bare_workspace, "variables = REGION")
    assert check(ruff=False).findings == []


def test_a_large_cache_keeps_what_is_used(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_MOST", 2)
    for text in ("1", "2", "3"):
        put("a.ipynb", text)
        check(ruff=False)
    assert len(json.loads((bare_workspace / ".mltoolkit/cache/check.json").read_text())["known"]) <= 2


def test_many_notebooks_are_shared_out(bare_workspace: Path, put: Callable[..., Path]) -> None:
    for number in range(30):
        put(f"{number:02}.ipynb", f"nothing_{number}" if number % 3 else "1")
    alone = check(ruff=False, workers=1, cache=False)
    together = check(ruff=False, workers=2, cache=False)
    assert together.findings == alone.findings
    assert len(alone.findings) == 20
    assert alone.files == 30


# --- bad input


def test_bad_files_are_findings_and_stop_nothing(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("good.ipynb", "nothing")
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": [{"cell_type": "code", "input": "1", "outputs": [], "language": "python", "collapsed": False}]}]}
    bad = {"empty": b"", "broken": b"{", "latin": b'{"a": "\xe9"}', "list": b"[1]", "three": json.dumps(old).encode()}
    for name, content in bad.items():
        (bare_workspace / f"{name}.ipynb").write_bytes(content)
    os.mkfifo(bare_workspace / "pipe.ipynb")
    (bare_workspace / "dangling.ipynb").symlink_to("nowhere")
    (bare_workspace / "jobs.yaml").write_text("jobs: [")
    report = check(select="MLT,F")
    by_path = {each.path: each.code for each in report.findings if each.code != "MLT003"}
    assert by_path == {
        "good.ipynb": "MLT103", "three.ipynb": "MLT004", "pipe.ipynb": "MLT001", "dangling.ipynb": "MLT001",
        **{f"{name}.ipynb": "MLT001" for name in ("empty", "broken", "latin", "list")},
    }  # fmt: skip
    assert all("\n" not in each.message for each in report.findings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_finding(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", "1").chmod(0)
    assert [each.code for each in check(ruff=False).findings] == ["MLT001"]


def test_an_error_of_the_disk_is_a_finding(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("a.ipynb", "1")
    put("b.ipynb", "nothing")
    original = Path.read_bytes

    def failing(self: Path) -> bytes:
        if self == path:
            raise OSError(5, "Input/output error")
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", failing)
    assert [(each.code, each.path) for each in check(ruff=False).findings] == [("MLT001", "a.ipynb"), ("MLT103", "b.ipynb")]


def test_a_process_that_is_killed_costs_only_the_notebook_it_looked_at(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        put(f"{number:02}.ipynb", f"nothing_{number}")
    original = checking.analyse

    def dying(content: bytes, path: str, **options: Any) -> dict[str, Any]:
        if path == "07.ipynb":
            os.kill(os.getpid(), signal.SIGKILL)
        if path == "08.ipynb":
            raise MemoryError("too large")
        return original(content, path, **options)

    monkeypatch.setattr(checking, "analyse", dying)
    report = check(ruff=False, workers=2)
    assert len(report.findings) == 30
    odd = {each.path: each.message for each in report.findings if each.code != "MLT103"}
    assert odd.keys() == {"07.ipynb", "08.ipynb"}
    assert "was killed" in odd["07.ipynb"]
    assert "MemoryError: too large" in odd["08.ipynb"]
    monkeypatch.undo()
    os.chdir(bare_workspace)
    assert {each.code for each in check(ruff=False, workers=2).findings} == {"MLT103"}, "neither is remembered"


def test_what_changes_while_ruff_looks_is_not_remembered(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("a.ipynb", "import os")
    gone = put("b.ipynb", "import os")
    before = path.read_bytes()
    original = checking.lint

    @contextlib.contextmanager
    def late(*given: Any) -> Iterator[Any]:
        def findings() -> list[Any]:
            path.write_bytes(example_notebook(("import os, sys, re",)))
            gone.unlink()
            return original(*given)

        yield findings

    monkeypatch.setattr(checking, "linting", late)
    assert len(check(select="F401").findings) == 3, "ruff saw what was written meanwhile"
    monkeypatch.undo()
    os.chdir(bare_workspace)
    path.write_bytes(before)
    assert told(check(select="F401")) == [("F401", "a.ipynb", 0, 1)]


@pytest.mark.parametrize(("script", "message"), [("#!/bin/sh\nkill -9 $$\n", "ruff ended with -9"), ("", "ruff cannot be started: ")])
def test_a_ruff_that_does_not_work_is_one_line(script: str, message: str, tmp_path: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.ipynb", "1")
    ruff = tmp_path / "ruff"
    ruff.write_text(script)
    ruff.chmod(0o755)
    monkeypatch.setattr(lint, "program", lambda: str(ruff))
    with pytest.raises(Invalid, match=message):
        check()


def test_links_that_lead_round_and_odd_notebooks_stop_nothing(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("good.ipynb", "nothing")
    put("sub/other.ipynb", "nothing")
    (bare_workspace / "sub/round").symlink_to(bare_workspace, target_is_directory=True)
    (bare_workspace / "itself.ipynb").symlink_to("itself.ipynb")
    (bare_workspace / "folder.ipynb").mkdir()
    lines = json.loads(put("lines.ipynb", "nothing").read_text())
    lines["cells"][0]["source"] = ["noth", "ing"]
    (bare_workspace / "lines.ipynb").write_text(json.dumps(lines))
    deep = "[" * 60_000 + "]" * 60_000
    odd = {"cells": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": {"a": 1}}', "deep": '{"nbformat": 4, "metadata": {"a": ' + deep + '}, "cells": []}', "nul": "\0" * 50, "text": '"a"', "null": "null"}
    for name, content in odd.items():
        (bare_workspace / f"{name}.ipynb").write_text(content)
    put("nested.ipynb", "x = " + "(" * 900 + ")" * 900, "y = " + "[" * 90 + "]" * 90, "a\0b", "nothing")
    report = check(ruff=False)
    found = {(each.path, each.code) for each in report.findings}
    assert found >= {(f"{name}.ipynb", "MLT001") for name in (*odd, "itself")}
    assert found >= {(f"{name}.ipynb", "MLT103") for name in ("good", "sub/other", "lines")}
    assert ("nested.ipynb", "MLT002") in found
    assert not [each for each in report.findings if each.code == "MLT005" or "\n" in each.message or len(each.message) > 400]


def test_two_checks_at_once_share_a_cache(bare_workspace: Path, put: Callable[..., Path]) -> None:
    for number in range(40):
        put(f"{number}.ipynb", f"nothing_{number}")
    command = [sys.executable, "-m", "mltoolkit", "check", "--json", "--no-ruff"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [1, 1], said
    assert said[0] == said[1]
    assert len(json.loads(said[0][0])) == 40
    assert [each.name for each in (bare_workspace / ".mltoolkit/cache").iterdir()] == ["check.json"]
    assert len(json.loads((bare_workspace / ".mltoolkit/cache/check.json").read_text())["known"]) == 40


def test_ten_thousand_cells_and_large_outputs(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("cells.ipynb", *[f"x{number} = {number}" for number in range(10_000)])
    put("large.ipynb", {"source": "x = 1", "outputs": [{"output_type": "stream", "name": "stdout", "text": "a@b " * 5_000_000}]})
    assert [each.code for each in check(ruff=False).findings] == ["MLT801"]


def test_a_rule_that_fails_is_a_finding_of_its_own(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Any) -> Any:
        raise RuntimeError("oops")

    put("a.ipynb", "nothing")
    broken = {code: checking.replace(rule, check=failing) if code in ("MLT101", "MLT402") else rule for code, rule in rules().items()}
    monkeypatch.setattr(checking, "rules", lambda: broken)
    assert sorted((each.code, each.path) for each in check(ruff=False).findings) == [("MLT005", ""), ("MLT005", "a.ipynb"), ("MLT103", "a.ipynb")]
    monkeypatch.setattr(checking, "facts", failing)
    assert "cannot be compared" in " ".join(each.message for each in check(ruff=False, cache=False).findings)


texts = st.text(max_size=20)
values = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6)
sources = st.sampled_from(["x = 1", "%time f()", "!ls", "import pandas as pd\npd.read_csv(1)", "random.random()", "print 'a'", "", "\\", "del x", "#| export\ndef f(): pass", "#| default_exp a", "mlflow.log_params({1: 2})"])
outputs = st.lists(st.fixed_dictionaries({"output_type": st.sampled_from(["stream", "error", "display_data", "execute_result"])}, optional={"text": values, "data": values, "traceback": values, "ename": values, "evalue": values}) | values, max_size=2)
cells = st.fixed_dictionaries({"cell_type": st.sampled_from(["code", "markdown"]), "source": sources | st.lists(sources, max_size=2)}, optional={"metadata": values, "outputs": outputs, "execution_count": values, "id": values})


@given(st.lists(cells, max_size=4), values)
def test_nothing_that_a_notebook_holds_trips_a_rule(made: list[dict[str, Any]], metadata: Any) -> None:
    content = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": made}).encode()
    assert [each for each in analyse(content, job=True)["found"] if each[0] in ("MLT001", "MLT005")] == []


# --- fixes


def test_what_is_safe_is_mended_in_the_files_own_layout(bare_workspace: Path, put: Callable[..., Path]) -> None:
    path = put(
        "a.ipynb", "!pip install numpy", "", "import os\nx = 1\nbreakpoint()\nprint(x)",
        {"source": "", "outputs": [{"output_type": "stream", "name": "stdout", "text": "old"}]}, "x",
    )  # fmt: skip
    put("b.ipynb", {"source": "1", "notebook": {"kernelspec": {}}})
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1) + "\n")
    before = path.read_bytes()
    shown = fix_difference(select="MLT,F401")
    assert path.read_bytes() == before
    for line in ("-!pip install numpy", "+%pip install numpy", "-breakpoint()", "cell 1 is deleted", "outputs of cell 3 are cleared", "python3 is named", "-import os"):
        assert line in shown
    report = fix(select="MLT,F401")
    assert {each.code for each in report.findings} == {"MLT310", "MLT807"}
    assert report.fixed >= 3
    after = json.loads(path.read_text())
    assert next("".join(cell["source"]) for cell in after["cells"]) == "%pip install numpy"
    assert "breakpoint" not in path.read_text()
    assert path.read_text().startswith('{\n "')
    assert path.read_text().endswith("}\n")
    assert fix(select="MLT").fixed == 1, "the cell that was cleared is empty"
    assert fix(select="MLT").fixed == 0


def test_fixes_keep_the_layout_they_find() -> None:
    raw = {"cells": [{"cell_type": "code", "source": ["é = 1\n", "breakpoint()\n", "é"], "outputs": [], "execution_count": 1}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    for content in (json.dumps(raw, indent=4), json.dumps(raw, indent=1, ensure_ascii=False) + "\n", json.dumps(raw, indent="\t"), json.dumps(raw)):
        assert fixes.apply(content.encode(), []) == content.encode()
    mended = json.loads(fixes.apply(json.dumps(raw).encode(), [["line", 0, 2, "breakpoint()"], ["line", 0, 1, "something else"]]))
    assert mended["cells"][0]["source"] == ["é = 1\n", "é"]


def test_a_deleted_cell_without_id_is_told_from_its_neighbours() -> None:
    def of(*sources: str) -> bytes:
        return json.dumps({"cells": [{"cell_type": "code", "source": text, "outputs": []} for text in sources], "metadata": {}}).encode()

    assert fixes.difference("a", of("x", "", "y"), of("x", "y")) == "a: cell 1 is deleted"


# --- ruff


def test_without_ruff_general_lint_is_left_out_and_said_so(bare_workspace: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    put("a.ipynb", "import os")
    monkeypatch.setattr(checking, "program", lambda: None)
    monkeypatch.setattr(lint, "program", lambda: None)
    report = check()
    assert report.findings == []
    assert "ruff is not installed" in report.notes[0]
    assert fix_difference() == ""


def test_a_code_that_nobody_knows_is_refused(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("a.ipynb", "1")
    with pytest.raises(Invalid, match=r"ruff refuses: .*QQQ1"):
        check(select="QQQ1")


@pytest.mark.parametrize(
    ("choice", "options"),
    [
        (Choice(), []),
        (Choice(("MLT1",)), None),
        (Choice(("MLT", "E", "F")), ["--select", "E,F"]),
        (Choice(("",), ("MLT1", "F401")), ["--select", "ALL", "--extend-ignore", "F401"]),
        (Choice((), ("",)), None),
        (Choice(("JOB",)), None),
    ],
)
def test_ruff_gets_what_is_not_ours(choice: Choice, options: list[str] | None) -> None:
    assert lint.ruff_choice(choice) == options
    assert lint.lint([], Path(), choice) == []


def test_ruff_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ruff").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "ruff").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert lint.program() == str(tmp_path / "bin" / "ruff")
