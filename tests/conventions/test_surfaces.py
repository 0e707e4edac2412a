"""The command, its formats, the gate, the view in a notebook, and the proof by execution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mltoolkit
from mltoolkit.cli import main
from mltoolkit.conventions import magic, report, rerun
from mltoolkit.conventions.check import Report
from mltoolkit.conventions.gate import gate
from mltoolkit.conventions.model import read
from mltoolkit.conventions.rules import example_notebook, rules
from mltoolkit.errors import Cancelled, Finding, GateRefused, Invalid


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


# --- the command


def test_exit_codes_are_those_of_ruff(put: Callable[..., Path]) -> None:
    put("good.ipynb", "x = 1")
    put("bad.ipynb", "nothing")
    assert (call("check", "good.ipynb").exit_code, call("check", "good.ipynb").output) == (0, "1 file looked at, nothing found\n")
    assert call("check").exit_code == 1
    assert call("check", "--exit-zero").exit_code == 0
    assert call("check", "nowhere.ipynb").exit_code == 2
    assert call("check", "--select", "MLT-1").exit_code == 2
    assert call("check", "--output-format", "xml").exit_code == 2


def test_the_text_says_where_what_and_the_way_out(put: Callable[..., Path]) -> None:
    put("bad.ipynb", "x = 1", "import random\nrandom.random()\nnothing")
    lines = call("check", "--select", "MLT").output.splitlines()
    assert lines == [
        "bad.ipynb:cell 1:2: MLT301 warning: `random.random` draws from a generator that nothing seeds",
        "    call `random.seed(0)` first, or use `random.Random(0)`",
        "bad.ipynb:cell 1:3: MLT103 'nothing' is used, but no cell defines it",
        "    define it in an earlier cell, or take it out",
        "1 file looked at, 2 findings, 1 error",
    ]


def test_json_is_a_list_of_findings(put: Callable[..., Path]) -> None:
    put("bad.ipynb", "nothing")
    expected = {"code": "MLT103", "path": "bad.ipynb", "cell": 0, "line": 1, "severity": "error",
                "message": "'nothing' is used, but no cell defines it", "fix": "define it in an earlier cell, or take it out"}  # fmt: skip
    assert json.loads(call("check", "--select", "MLT", "--json").output) == [expected]
    assert json.loads(call("check", "--select", "MLT", "--output-format", "json").output) == [expected]
    assert json.loads(call("check", "--select", "MLT2", "--json").output) == []
    assert json.loads(call("check", "--select", "MLT", "--statistics", "--json").output) == [{"code": "MLT103", "count": 1, "name": "undefined-name"}]
    assert "MLT103      1  undefined-name" in call("check", "--select", "MLT", "--statistics").output


def test_sarif_and_github_name_the_place(put: Callable[..., Path]) -> None:
    put("a folder/bad.ipynb", "nothing")
    log = json.loads(call("check", "--select", "MLT", "--output-format", "sarif").output)
    [run] = log["runs"]
    [result] = run["results"]
    assert (log["version"], run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"], result["level"]) == ("2.1.0", "MLT103", "error")
    assert result["locations"][0]["physicalLocation"] == {"artifactLocation": {"uri": "a%20folder/bad.ipynb"}, "region": {"startLine": 1}}
    assert result["locations"][0]["logicalLocations"][0]["name"] == "cell 0"
    shown = call("check", "--select", "MLT", "--output-format", "github").output
    assert shown.startswith("::error file=a folder/bad.ipynb,line=1,title=MLT103::cell 0, line 1: 'nothing' is used")


def test_jobs_are_checked_by_both_readers(bare_workspace: Path, put: Callable[..., Path]) -> None:
    put("report.ipynb", "x = 1")
    (bare_workspace / "jobs.yaml").write_text("jobs:\n  report: {notebook: report.ipynb, owner: ana, tiemout: 1m}\n")
    found = {each["code"] for each in json.loads(call("check", "jobs.yaml", "--json").output)}
    assert found == {"JOB002", "MLT701"}
    assert [each["code"] for each in json.loads(call("check", "--select", "JOB", "--json").output)] == ["JOB002"]
    assert json.loads(call("check", "report.ipynb", "--select", "JOB", "--json").output) == []


def test_fix_and_diff(put: Callable[..., Path]) -> None:
    path = put("a.ipynb", "!pip install numpy", "", "1")
    before = path.read_bytes()
    shown = call("check", "--select", "MLT", "--diff")
    assert shown.exit_code == 1
    assert "+%pip install numpy" in shown.output
    assert path.read_bytes() == before
    assert "1 mended" in call("check", "--select", "MLT", "--fix").output
    assert b"%pip" in path.read_bytes()
    assert call("check", "--select", "MLT", "--diff").output == "nothing to mend\n"


def test_rules_are_explained(bare_workspace: Path) -> None:
    assert call("rule", "mlt103").output.startswith("MLT103 undefined-name (error)")
    assert "off by default" in call("rule", "MLT102").output
    facts = json.loads(call("rule", "MLT103", "--json").output)
    assert (facts["code"], facts["severity"], facts["scope"]) == ("MLT103", "error", "notebook")
    assert [each["code"] for each in json.loads(call("rule", "--all", "--json").output)] == list(rules())
    assert all(code in call("rule").output for code in rules())
    assert call("rule", "MLT9999").exit_code == 2


def test_check_starts_without_anything_heavy(put: Callable[..., Path]) -> None:
    put("a.ipynb", "x = 1")
    script = "import sys\nfrom mltoolkit.cli import main\ntry: main(['check', 'a.ipynb'])\nexcept SystemExit as end: print(end.code, [each for each in ('pandas', 'mlflow', 'IPython', 'nbformat', 'pydantic', 'numpy') if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_what_a_notebook_says_does_nothing_but_show() -> None:
    nasty = "<img onerror=alert(1)>\x1b[2J\n::error::%"
    made = Report(Path(), [Finding("MLT103", nasty, "a,b:c.ipynb", 0, 1, nasty, "error"), Finding("E1", nasty, "b.ipynb", None, None, "", "warning")], 2, edits={"b": [["x"]]}, fixed=1)
    assert "\x1b" not in report.text(made)
    assert len(report.text(made).splitlines()) == 4
    assert report.text(made).endswith("2 files looked at, 2 findings, 1 error (1 mended); `--fix` mends 1")
    assert [line[:9] for line in report.github(made).splitlines()] == ["::error f", "::warning"]
    page = report.as_html(made)
    assert "<img" not in page
    assert "\x1b" not in page
    assert "b.ipynb" in page, "there are several files, so each is named"
    assert json.loads(report.sarif(made))["runs"][0]["results"][1]["locations"][0]["physicalLocation"]["region"] == {"startLine": 1}


# --- the gate


def test_the_gate_looks_at_jobs_only(bare_workspace: Path, put: Callable[..., Path]) -> None:
    path = put("projects/shop/report.ipynb", "nothing")
    assert gate(path) == []
    assert [each.code for each in gate(path, {}, "shop/report") if each.severity == "error"] == ["MLT103"]
    (bare_workspace / "projects/shop/jobs.yaml").write_text("jobs: {report: {notebook: report.ipynb}}")
    assert [each.code for each in gate(path) if each.severity == "error"] == ["MLT103"]
    assert gate(put("projects/shop/free.ipynb", "nothing")) == []
    for other in ("https://example.org/a.ipynb", "a.py", "nowhere.ipynb"):
        assert gate(other) == []


def test_errors_stop_a_run_warnings_are_recorded_and_so_is_that_nobody_asked(bare_workspace: Path, put: Callable[..., Path], tiny: str) -> None:
    path = put("report.ipynb", {"source": "x = 1", "notebook": {"kernelspec": {"name": tiny, "display_name": tiny}}})
    (bare_workspace / "jobs.yaml").write_text("jobs: {report: {notebook: report.ipynb}}")
    run = mltoolkit.run_notebook(path, track=False)
    assert [each for each in run.warnings if "MLT201" in each]
    assert "the gates were not asked" in mltoolkit.run_notebook(path, track=False, gate=False).warnings
    path.write_bytes(path.read_bytes().replace(b"x = 1", b"1 / 0 if nothing else 2"))
    with pytest.raises(GateRefused, match=r"report\.ipynb did not pass the gate:\n.*MLT103"):
        mltoolkit.run_notebook(path, track=False)


# --- in a notebook


def shell(**names: Any) -> Any:
    made = SimpleNamespace(user_ns=names, registered=[], listening=[])
    made.register_magic_function = lambda function, kind, name: made.registered.append((function, kind, name))
    made.events = SimpleNamespace(register=lambda event, function: made.listening.append((event, function)))
    return made


def test_the_extension_offers_check(put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = put("sub/a.ipynb", "nothing")
    host = shell()
    mltoolkit.load_ipython_extension(host)
    [(check, kind, name)] = host.registered
    assert (kind, name, host.listening[0][0]) == ("line", "check", "post_run_cell")
    assert check("") is None
    assert "it is not known which notebook this is" in capsys.readouterr().out
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    view = check("--select MLT")
    assert [each.code for each in view.report.findings] == ["MLT103"]
    assert "MLT103" in view._repr_html_()
    assert "MLT103" in repr(view)
    monkeypatch.setenv("JPY_SESSION_NAME", "elsewhere/a.ipynb")
    monkeypatch.chdir(path.parent)
    assert check("--ignore ALL").report.findings == []
    for wrong in ("--odd", "'", "nowhere.ipynb"):
        assert check(wrong) is None
    said = capsys.readouterr().out
    assert "unrecognized arguments: --odd" in said
    assert "No closing quotation" in said
    assert "there is no file or folder nowhere.ipynb" in said
    assert magic.notebook_at_hand({"__vsc_ipynb_file__": str(path)}) == path


def test_the_list_follows_what_is_saved(put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("a.ipynb", "nothing")
    shown: list[Any] = []
    handle = SimpleNamespace(update=shown.append)
    monkeypatch.setattr("IPython.display.display", lambda view, display_id: shown.append(view) or handle)
    check = magic.Magic(shell())
    other = put("b.ipynb", "1")
    check.after_cell()
    assert check(f"{path.name} {other.name} --on-save --select MLT") is None
    assert check(f"{path} --select MLT8").report.findings == [], "a look in between changes nothing of what is followed"
    monkeypatch.chdir("/")
    check.after_cell()
    assert len(shown) == 1
    path.write_bytes(b"")
    os.utime(path, (1, 1))
    content = example_notebook(("x = 1  # mended",))
    original = magic.check
    monkeypatch.setattr(magic, "check", lambda *_, **__: (_ for _ in ()).throw(Invalid("half saved")))
    check.after_cell("result")
    monkeypatch.setattr(magic, "check", original)
    check.after_cell("result")
    path.write_bytes(content)
    os.utime(path, (2, 2))
    check.after_cell("result")
    assert [[each.code for each in view.report.findings] for view in shown] == [["MLT103"], ["MLT001"], []]
    path.unlink()
    check.after_cell()
    assert len(shown) == 3


def test_a_kernel_shows_what_was_found_when_the_file_was_saved(put: Callable[..., Path]) -> None:
    from jupyter_client.manager import run_kernel

    path = put("a.ipynb", "nothing")
    said: list[dict[str, Any]] = []
    with run_kernel(kernel_name="python3") as client:

        def run(code: str) -> None:
            client.execute_interactive(code, timeout=60, output_hook=said.append)

        run(f"%load_ext mltoolkit\n%check {path} --on-save --select MLT")
        run("x = 1")
        path.write_bytes(example_notebook(("mended = 1",)))
        run("x = 2")
    pages = [(each["msg_type"], each["content"]["data"]["text/html"]) for each in said if "data" in each["content"]]
    assert [kind for kind, _ in pages] == ["display_data", "update_display_data"]
    assert ["MLT103" in page for _, page in pages] == [True, False]


# --- the proof


def with_kernel(name: str, *cells: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return ({**cells[0], "notebook": {"kernelspec": {"name": name, "display_name": name}}}, *cells[1:])


def text_output(text: str) -> list[dict[str, Any]]:
    return [{"output_type": "stream", "name": "stdout", "text": text}]


def test_a_run_shows_what_fails_and_what_differs(put: Callable[..., Path], tiny: str) -> None:
    same = put("same.ipynb", *with_kernel(tiny, {"source": "print(1)", "outputs": text_output("1\n")}))
    other = put("other.ipynb", *with_kernel(tiny, {"source": "print(2)", "outputs": text_output("1\n")}, {"source": "x = 1"}))
    fails = put("fails.ipynb", *with_kernel(tiny, {"source": "x = 1"}, {"source": "1 / 0"}))
    before = other.read_bytes()
    assert list(rerun.rerun(same)) == []
    assert [(rule.code, found.cell, found.message) for rule, found in rerun.rerun(other)] == [("MLT111", 0, "the page shows `1`, a fresh run `2`")]
    assert [(rule.code, found.cell) for rule, found in rerun.rerun(fails)] == [("MLT110", 1)]
    assert other.read_bytes() == before
    done = call("check", "other.ipynb", "--execute", "--select", "MLT", "--json")
    assert [each["code"] for each in json.loads(done.stdout)] == ["MLT111"]


def test_what_cannot_be_run_at_all_is_one_finding(put: Callable[..., Path], bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = put("a.ipynb", {"source": "1", "notebook": {"kernelspec": {"name": "nowhere", "display_name": "x"}}})
    assert [(rule.code, "no kernel is called" in found.message) for rule, found in rerun.rerun(unknown)] == [("MLT110", True)]
    (bare_workspace / "b.ipynb").write_text("{")
    assert list(rerun.rerun(bare_workspace / "b.ipynb")) == []

    def stopped(*_: Any, **__: Any) -> None:
        raise Cancelled("stopped")

    monkeypatch.setattr("mltoolkit.execution.run.run_notebook", stopped)
    assert [found.cell for _, found in rerun.rerun(put("c.ipynb", "1"))] == [None]


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (text_output("<A at 0x7f00aabbcc>"), text_output("<A at 0x7f11aabbcc>"), True),
        (text_output("fitted in 3.2 s"), text_output("fitted in 4 s"), True),
        (text_output("\x1b[31m1\x1b[0m "), text_output("1"), True),
        ([{"output_type": "stream", "name": "stderr", "text": "a"}], [], True),
        ([{"output_type": "display_data", "data": {"image/png": "a", "text/plain": "<Figure 1>"}}], [], True),
        ([{"output_type": "execute_result", "data": {"text/plain": ["1", "2"]}}], [{"output_type": "execute_result", "data": {"text/plain": "13"}}], False),
        ([{"output_type": "error", "ename": "E"}], [], True),
    ],
)  # fmt: skip
def test_only_what_matters_is_compared(old: list[Any], new: list[Any], same: bool) -> None:
    def shown(outputs: list[Any]) -> str:
        return rerun.shown(read(example_notebook(({"source": "x", "outputs": outputs},))).cells[0])

    assert (shown(old) == shown(new)) is same


def test_invalid_is_the_root_of_refusals() -> None:
    with pytest.raises(Invalid, match="%check: "):
        magic._options("--select")
