"""The board lists, finds, sorts, selects and compares; its page is inert; pictures follow the page's colours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from processes import wait_for

import mltoolkit
from mltoolkit import cli
from mltoolkit.errors import Invalid
from mltoolkit.record import runs, tracking
from mltoolkit.record.runs import RunRow
from mltoolkit.views.board import board
from mltoolkit.views.comparing import comparison_html, differing
from mltoolkit.views.listing import Listing, asked, ordered, page
from mltoolkit.views.pictures import curves, parallel_coordinates
from mltoolkit.views.table import LINES, Table


def row(number: int, **more: Any) -> RunRow:
    facts = {"status": "succeeded", "notebook": "projects/delays/train.ipynb", "project": "delays", "experiment": "delays", "started_at": f"2013-01-{number % 28 + 1:02}T08:00:00+01:00"}
    return RunRow(**{"run_id": f"{number:032x}"[::-1], "duration_s": float(number), "trigger": "cli", "user": "ada", **facts, **more})


@pytest.fixture
def many(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunRow]:
    """A store that answers with forty runs, of which one comes later."""
    rows = [row(number, metrics={"auc": number / 100}, parameters={"depth": str(number)}) for number in range(40)]
    monkeypatch.setattr("mltoolkit.views.listing.find_runs", lambda question, limit, start: rows[:limit])
    return rows


def lines(made: Any) -> list[str]:
    return [line.value for box, (_, line) in zip(made.table.boxes, made.table.lines, strict=True) if box.layout.display != "none"]


def test_a_board_lists_sorts_turns_selects_and_follows(many: list[RunRow], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", ".")
    quiet = board()
    assert many[0].run_id[:8] in quiet._repr_mimebundle_()["text/plain"] or many[27].run_id[:8] in quiet._repr_mimebundle_()["text/plain"]
    assert quiet._thread is None, "in a batch run nobody asks again"
    monkeypatch.delenv("MLTOOLKIT_RUN_DIR")
    made = board(every=0.05, limit=100)
    assert len(lines(made)) == LINES
    assert "1 to 15 of the newest 40, 0 selected" in made.table.note.value
    assert made.table.newer.disabled
    made.table.sort.value = "auc"
    assert many[39].run_id[:8] in lines(made)[0]
    made.table.descending.value = False
    assert many[0].run_id[:8] in lines(made)[0]
    made.table.older.click()
    made.table.older.click()
    assert len(lines(made)) == 10
    assert made.table.older.disabled
    made.table.lines[0][0].value = True
    assert made.table.selected == [many[30].run_id]
    assert [name for name, button in made.buttons.items() if not button.disabled] == ["Open", "Reproduce", "Resume", "Clear"]
    made.table.newer.click()
    assert not made.table.lines[0][0].value, "the line shows another run now"
    made.table.lines[1][0].value = True
    assert made.table.selected == [many[30].run_id, many[16].run_id]
    assert [name for name, button in made.buttons.items() if not button.disabled] == ["Compare", "Clear"]
    made.table.lines[1][0].value = False
    assert made.table.selected == [many[30].run_id]
    made.table.filter.value = "lost"
    assert lines(made) == []
    assert "no runs" in made.table.note.value
    made.table.filter.value = "delays auc>0.1"
    assert len(lines(made)) == LINES
    made.buttons["Clear"].click()
    assert made.table.selected == []

    made.table.sort.value, made.table.descending.value = "started", True
    assert "widget-view" in str(made._repr_mimebundle_())
    many.append(row(27, run_id="f" * 32, started_at="2014-01-01T08:00:00+01:00", metrics={"auc": 1.0, "new": 2.0}))
    wait_for(lambda: "ffffffff" in lines(made)[0], "the new run to be shown")
    assert "new" in made.table.sort.options
    made.close()
    wait_for(lambda: not any(each.name == "mltoolkit board" for each in threading.enumerate()), "nobody to ask any more")


def test_a_new_metric_turns_no_page_and_no_click_is_lost(many: list[RunRow]) -> None:
    made = board(limit=100)
    made.table.sort.value = "auc"
    made.table.older.click()
    many.append(row(41, metrics={"new": 1.0}))
    made.refresh()
    assert "new" in made.table.sort.options
    assert made.table.sort.value == "auc"
    assert made.table.note.value.count("16 to 30 of the newest 41") == 1
    with made.table._lock:  # as when another thread fills
        made.table._filling = True
        click = threading.Thread(target=lambda: setattr(made.table.lines[0][0], "value", True))
        click.start()
        click.join(0.2)
        made.table._filling = False
    click.join()
    assert made.table.selected == [many[24].run_id]


def test_a_late_answer_does_not_replace_a_newer_one() -> None:
    asked, answer = threading.Event(), threading.Event()

    def ask(text: str) -> Listing:
        if not text:
            asked.set()
            assert answer.wait(60)
        return Listing(runs=[row(len(text))])

    made = Table(ask, lambda: None)
    slow = threading.Thread(target=made.refresh)  # as the board does that follows
    slow.start()
    assert asked.wait(60)
    made.filter.value = "failed"  # as somebody does who types
    answer.set()
    slow.join()
    assert made.found.runs == [row(6)]
    made.filter.value = ""
    assert made.found.runs == [row(0)]


def test_a_job_store_that_is_away_is_told(bare_workspace: Path, many: list[RunRow], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLTOOLKIT_JOB_STORE", "postgresql://nobody@127.0.0.1:9/none")
    made = board(every=60)
    assert "127.0.0.1" in made.table.note.value
    assert len(lines(made)) == LINES
    assert "No jobs are listed" in made.jobs.value
    said = json.loads(CliRunner().invoke(cli.main, ["board", "--json"]).stdout)
    assert "127.0.0.1" in said["problem"]
    assert capfd.readouterr().err == ""


def test_a_wrong_question_makes_no_page(bare_workspace: Path) -> None:
    refused = CliRunner().invoke(cli.main, ["board", "--find", "auc>many"])
    assert (refused.exit_code, "a metric is a number" in refused.output) == (2, True)
    assert not (bare_workspace / "board.html").exists()


def test_a_store_that_is_away_is_said_and_asked_again(many: list[RunRow], monkeypatch: pytest.MonkeyPatch) -> None:
    made = board(every=0.02)
    monkeypatch.setattr(made, "refresh", lambda: 1 / 0)
    made.follow()
    wait_for(lambda: "ZeroDivisionError" in made.table.note.value, "the fault to be shown")
    monkeypatch.undo()
    made.close()
    for wrong in ({"limit": 0}, {"every": 0}):
        with pytest.raises(Invalid, match="at least one run"):
            board(**wrong)  # type: ignore[arg-type]


def test_a_runs_page_is_found(bare_workspace: Path) -> None:
    folder = runs.runs_folder(bare_workspace) / ("1" * 32)
    assert runs.page(bare_workspace, folder.name) is None
    folder.mkdir(parents=True)
    for name in ("comparison.html", "train.html"):
        (folder / name).touch()
        assert runs.page(bare_workspace, folder.name) == folder / name


def test_what_is_asked() -> None:
    question, words = asked("Failed project=delays status=lost month=4 depth!=3 auc>0.7 job=a/b")
    assert (question.project, question.status, question.job, words) == ("delays", "lost", "a/b", ["failed"])
    assert (question.parameters, question.metrics) == (["month=4", "depth!=3"], ["auc>0.7"])


def test_what_has_no_value_comes_last() -> None:
    rows = [row(1, duration_s=None), row(2), row(3, metrics={"auc": 1.0})]
    assert [each.duration_s for each in ordered(rows, "duration")] == [3.0, 2.0, None]
    assert ordered(rows, "auc")[0].metrics == {"auc": 1.0}


def test_pictures_are_inert_and_have_the_pages_ink() -> None:
    runs_ = {f"run {number}": {"depth": number, "model": f"<b>{number}", "same": 1, "loss": float("nan") if number == 1 else 0.5} for number in range(3)}
    drawn = parallel_coordinates(runs_) + curves("<script>", {"a": [(0, 1.0), (1, 0.5)], "b": []})
    assert drawn.count("<svg") == 2
    for each in ("<script", "<style", "<b>", "#010203", "url(http", "onload"):
        assert each not in drawn
    assert "currentColor" in drawn
    assert "parallel coordinates of 3 runs: depth, model, loss" in drawn
    assert parallel_coordinates({"a": {"x": 1}, "b": {"x": 1}}) == ""
    assert curves("m", {"a": [(0, 1.0)]}) == ""


def test_the_page_is_inert(bare_workspace: Path) -> None:
    nasty = row(1, status="<script>", notebook="<img src=x onerror=alert(1)>", user="\x1b[2J<b>", metrics={"<svg>": 1.0})
    made = page(Listing([nasty], problem="<script>alert(1)</script>"))
    for each in ("<script", "<img", "<b>", "<svg", "\x1b"):
        assert each not in made
    assert "default-src 'none'" in made


def test_runs_are_compared_opened_and_repeated(workspace: Path, write: Callable[..., Path], tiny: str) -> None:
    notebook = write("train.ipynb", "print('depth', depth)", parameters="depth: int = 3")
    store = tracking.client(workspace)
    ids = []
    for depth in (4, 8):
        ids.append(mltoolkit.run_notebook(notebook, parameters={"depth": depth}, kernel=tiny, gate=False).run_id)
        for step in range(3):
            store.log_metric(ids[-1], "auc", depth / 10 + step / 100, step=step)
    made = mltoolkit.board()
    assert sorted(each.run_id for each in made.table.found.runs) == sorted(ids)
    assert "No job has run yet" in made.jobs.value
    made.table.select(*ids)
    made.buttons["Compare"].click()
    assert made.background is not None
    assert made.background.wait(120)
    shown = made.detail.value
    for each in ("depth", "parameter", "<svg", "auc by step", "Everything that differs", "depth: 4 -&gt; 8", "(+4)"):
        assert each in shown, shown[:3000]
    assert not made.buttons["Compare"].disabled

    (runs.runs_folder(workspace) / ids[0] / "comparison.html").write_text("a repetition's")
    made.table.select(ids[0])
    made.buttons["Open"].click()
    assert made.background.wait(60)
    assert "srcdoc" in made.detail.value
    assert "a repetition" not in made.detail.value
    made.buttons["Resume"].click()
    assert made.background.wait(60)
    assert "succeeded" in made.detail.value, "which is why it cannot be gone on with"
    assert 'role="alert"' in made.detail.value
    made.buttons["Reproduce"].click()
    assert made.background.wait(60)
    assert "cannot be repeated" in made.detail.value, "it is in no git repository"
    made.table.filter.value = "auc>many"
    assert "a metric is a number" in made.table.note.value

    refused = CliRunner().invoke(cli.main, ["board", "out/board.html"])
    assert (refused.exit_code, "create it first" in refused.output) == (2, True)
    (workspace / "out").mkdir()
    done = CliRunner().invoke(cli.main, ["board", "out/board.html", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["runs"] == 2
    text = (workspace / "out/board.html").read_text()
    assert f'href="../.mltoolkit/runs/{ids[0]}/train.html"' in text
    assert CliRunner().invoke(cli.main, ["board", "--find", "auc>0.7"]).output == "board.html: 1 run, 0 instances of jobs\n"

    (runs.runs_folder(workspace) / ids[0] / "train.ipynb").unlink()
    assert differing([row(1, parameters={"depth": "1"}), row(2, parameters={"depth": "1"})]) == []
    assert "depth" in comparison_html([row(1, parameters={"depth": "1"}), row(2, parameters={"depth": "2"})], None, workspace)
    assert "No more is known" in comparison_html([row(1), row(2)], None, workspace)
