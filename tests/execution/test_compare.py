"""What is the same is called the same, what is not is not, and noise is named: pairs of outputs with known verdicts, real executions, properties."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from mltoolkit.errors import Status
from mltoolkit.execution import texts
from mltoolkit.execution.compare import Circumstances, Verdict, circumstances, compare_notebooks, compare_runs
from mltoolkit.execution.noise import settle, split
from mltoolkit.execution.outputs import compare_bundles, with_state
from mltoolkit.execution.pictures import compare_pictures
from mltoolkit.execution.texts import Sides, Tolerance, compare_texts
from mltoolkit.record.manifest import DatasetUse, Failure, Kernel, Run

BEGAN = datetime(2026, 5, 4, 23, 59, 30, tzinfo=UTC)
FIRST = Circumstances({"a" * 32: "run id", "/home/ada/ws": "workspace"}, BEGAN, BEGAN + timedelta(minutes=1))
SECOND = Circumstances({"b" * 32: "run id", "/srv/ws/.mltoolkit/cache/worktrees/1": "workspace", "/srv/ws": "workspace"}, BEGAN + timedelta(days=3), BEGAN + timedelta(days=3, minutes=1))
SIDES = Sides(FIRST, SECOND)
LATER = (BEGAN + timedelta(days=3, seconds=5)).timestamp()
BAR = "fit: {0:3d}%|{1}| {2}/40 [00:0{3}<00:01, {4}it/s]"
NOISY = {  # two texts of two executions that gave the same, and the kind of noise between them
    "address": ("<f at 0x7f0012345678>", "<f at 0x7f00deadbeef>", "memory address"),
    "address of a method": ("<bound method A.f of <__main__.A object at 0x7f0012345678>>", "<bound method A.f of <__main__.A object at 0x55deadbeef12>>", "memory address"),
    "two addresses": ("<object object at 0x7f0012345678> <f at 0x7f0012345678>", "<object object at 0x7f0012345679> <f at 0x7f0012345670>", "memory address"),
    "address in HTML": ("<td>&lt;A at 0x7f0012345678&gt;</td>", "<td>&lt;A at 0x7f0012345670&gt;</td>", "memory address"),
    "time": ("CPU times: user 1.2 s, sys: 3 ms, total: 1.2 s\nWall time: 1.3 s\n", "CPU times: user 900 ms, sys: 0 ns, total: 900 ms\nWall time: 1min 2s\n", "duration"),
    "timeit": ("1.2 µs ± 3 ns per loop (mean ± std. dev. of 7 runs, 1,000,000 loops each)", "12 ns ± 0.3 ns per loop (mean ± std. dev. of 7 runs, 10,000,000 loops each)", "duration"),
    "took": ("training took 1.25 s", "training took 980 ms", "duration"),
    "elapsed": ("[Parallel(n_jobs=1)]: Done 5 out of 5 | elapsed:    0.1s finished", "[Parallel(n_jobs=1)]: Done 5 out of 5 | elapsed:    2.3s finished", "duration"),
    "keras": ("3/3 1s 12ms/step - loss: 0.5", "3/3 2s 9ms/step - loss: 0.5", "duration"),
    "bar": ("\r".join([BAR.format(0, " ", 0, 0, "?"), BAR.format(100, "█", 40, 2, "20.1")]), "\r".join([BAR.format(n, "#", n * 2 // 5, 1, "19.8") for n in (0, 50, 75, 100)]), "progress"),
    "nested bars": ("a: 50%|█| 1/2 [00:01<00:01, 1.0it/s]\n\nb:  0%| | 0/3 [00:00<?, ?it/s]\x1b[A\n\nb: 100%|█| 3/3 [00:00<00:00, 9.1it/s]\x1b[A", "a: 50%|█| 1/2 [00:02<00:01, 1.0s/it]\n\nb:  0%| | 0/3 [00:00<?, ?it/s]\x1b[A\n\nb: 33%|█| 1/3 [00:00<00:00, 8.8it/s]\x1b[A\n\nb: 100%|█| 3/3 [00:00<00:00, 8.0it/s]\x1b[A", "progress"),
    "endless bar": ("7it [00:01,  6.9it/s]", "3it [00:00,  2.9it/s]\r7it [00:02,  3.1it/s]", "progress"),
    "temporary folder": ("written to /tmp/tmpab12cd_x/model.bin", "written to /tmp/tmpzz99yy00/model.bin", "temporary path"),
    "warning": ("/tmp/ipykernel_17/33.py:3: UserWarning: x", "/tmp/ipykernel_4711/99.py:3: UserWarning: x", "temporary path"),
    "package": ("/home/ada/.venv/lib/python3.11/site-packages/pandas/core.py:3: W", "/srv/env/lib/python3.11/site-packages/pandas/core.py:3: W", "folder of packages"),
    "run id": (f"run {'a' * 32}", f"run {'b' * 32}", "run id"),
    "workspace": ("/home/ada/ws/data.csv", "/srv/ws/.mltoolkit/cache/worktrees/1/data.csv", "workspace"),
    "run of MLflow": (f"View run calm-fish-1 at: http://h/#/experiments/1/runs/{'1' * 32}", f"View run odd-cat-22 at: http://h/#/experiments/1/runs/{'2' * 32}", "run id"),
    "model of MLflow": (f"models:/m-{'1' * 32}", f"models:/m-{'2' * 32}", "model id"),
    "moment": ("2026-05-04 23:59:40.123 done", "2026-05-07 23:59:41.000 done", "date of the run"),
    "moment with zone": ("2026-05-05T01:59:40+02:00", "2026-05-07T23:59:40Z", "date of the run"),
    "log line": ("2026/05/04 23:59:40 INFO x", "2026/05/08 00:00:10 INFO x", "date of the run"),
    "day": ("as of 2026-05-04", "as of 2026-05-08", "date of the run"),
    "day of datetime": ("datetime.date(2026, 5, 4)", "datetime.date(2026, 5, 7)", "date of the run"),
    "datetime": ("datetime.datetime(2026, 5, 4, 23, 59, 40, 5)", "datetime.datetime(2026, 5, 8, 0, 0, 9)", "date of the run"),
    "ctime": ("Mon May  4 23:59:40 2026", "Fri May  8 00:00:10 UTC 2026", "date of the run"),
    "time of day": ("[23:59:40] begins", "[00:00:10] begins", "date of the run"),
    "epoch": (f"{BEGAN.timestamp() + 3:.3f}", f"{LATER:.3f}", "date of the run"),
    "epoch in milliseconds": (f"{BEGAN.timestamp() * 1000 + 3:.0f}", f"{LATER * 1000:.0f}", "date of the run"),
}  # fmt: skip
DIFFERENT = {  # what looks like noise, and is not proved to be
    "digit": ("0.8123", "0.8124"),
    "length": ("1 2", "1 2 3"),
    "blanks": ("a  b", "a b"),
    "hexadecimal": ("0x7f0012345678", "0x7f00deadbeef"),
    "address in a sentence": ("fault at 0x7f0012345678", "fault at 0x7f00deadbeef"),
    "closed brackets": ("<a> at 0x7f0012345678", "<a> at 0x7f00deadbeef"),
    "digest": ("c" * 32, "d" * 32),
    "uuid": ("0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
    "long time": ("the flight took 4000 s", "the flight took 4100 s"),
    "result in seconds": ("mean delay 3.2 s", "mean delay 3.3 s"),
    "minutes": ("a delay of 35 min", "a delay of 36 min"),
    "another day": ("valid until 2026-05-09", "valid until 2026-05-10"),
    "one of two days": ("as of 2026-05-04", "as of 2026-05-04 and 2026-05-05"),
    "day of the wrong run": ("as of 2026-05-07", "as of 2026-05-04"),
    "no day": ("2026-13-45", "2026-13-46"),
    "no moment": ("datetime.datetime(2026, 13, 4)", "datetime.datetime(2026, 13, 5)"),
    "no month": ("Mon Foo  4 23:59:40 2026", "Mon Foo  5 23:59:40 2026"),
    "no time": ("[25:61:61]", "[25:61:62]"),
    "another time": ("[12:00:00]", "[12:00:01]"),
    "big number": ("1234567890", "1234567891"),
    "bar with a loss": ("100%|█| 40/40 [00:02<00:00, 20.1it/s, loss=0.31]", "100%|█| 40/40 [00:02<00:00, 20.1it/s, loss=0.32]"),
    "bar that stopped": (BAR.format(100, "█", 40, 2, "20.1"), BAR.format(98, "█", 39, 2, "20.1")),
    "no bar": ("3items [5, 7]", "3items [5, 8]"),
    "folder of the user's": ("/tmp/model_version1", "/tmp/model_version2"),
    "file in a temporary folder": ("/tmp/tmpab12cd_x/a.bin", "/tmp/tmpab12cd_x/b.bin"),
    "file of a package": ("/x/site-packages/a.py", "/x/site-packages/b.py"),
    "somebody else's run": (f"run {'c' * 32}", f"run {'b' * 32}"),
    "case": ("ValueError", "valueError"),
    "nothing": ("", "x"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_named_and_not_more(name: str) -> None:
    original, repeated, kind = NOISY[name]
    found = compare_texts(original, repeated, SIDES)
    assert (found.verdict, {each.kind for each in found.noise} & {kind}) == (Verdict.identical, {kind}), found
    for spoiled in (repeated + " 1", "1 " + repeated):
        assert compare_texts(original, spoiled, SIDES).verdict is Verdict.different
    assert "".join(piece.text for piece in split(original, FIRST)) == original


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_not_proved_to_be_noise_is_different(name: str) -> None:
    original, repeated = DIFFERENT[name]
    found = compare_texts(original, repeated, SIDES)
    assert found.verdict is Verdict.different
    assert found.original != found.repeated
    assert compare_texts(original, original, SIDES).verdict is Verdict.identical
    assert compare_texts(original, repeated).verdict is Verdict.different  # nothing known of either


LINES = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Z", "S")), max_size=60)


@given(before=LINES, number=st.integers(0, 10**12), after=LINES, place=st.integers(0, 12), digit=st.integers(1, 9), fraction=st.booleans())
def test_a_changed_digit_is_never_identical(before: str, number: int, after: str, place: int, digit: int, fraction: bool) -> None:
    written = f"{number / 1000:.3f}" if fraction else str(number)
    at = place % len(written)
    assume(written[at] != ".")
    changed = written[:at] + str((int(written[at]) + digit) % 10) + written[at + 1 :]
    unknown = Sides()  # in an execution of which nothing is known, no number is a moment of it
    pair = f"{before} = {written}\n{after}", f"{before} = {changed}\n{after}"
    assert compare_texts(*pair, unknown).verdict is Verdict.different
    cells = [new_notebook(cells=[new_code_cell("x", outputs=[new_output("execute_result", {"text/plain": text, "text/html": f"<b>{text}</b>"})])]) for text in pair]
    assert compare_notebooks(*cells).verdict is Verdict.different


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=32), share=st.floats(0, 0.0009))
def test_tolerance_allows_what_it_says(value: float, share: float) -> None:
    assume(abs(value) > 1e-3)
    sides = Sides(tolerance=Tolerance(rtol=0.001))
    near, far = f"auc {value:.6e} n 3", f"auc {value * (1 + share):.6e} n 3"
    assert compare_texts(near, far, sides).verdict.proved
    assert compare_texts(near, f"auc {value * 1.01:.6e} n 3", sides).verdict is Verdict.different


def test_tolerance_is_for_numbers_only() -> None:
    sides = Sides(tolerance=Tolerance(rtol=0.1, atol=5))
    for original, repeated in (("on 2024-05-01", "on 2024-05-02"), ("v1.2.3", "v1.2.4"), ("a3", "a4"), ("10:15", "10:16"), ("3 rows", "3 row"), ("1/2", "1/3")):
        assert compare_texts(original, repeated, sides).verdict is Verdict.different
    table = "   loss\n0   9.5\n1  10.5\n", "    loss\n0   9.75\n1  10.75\n"
    assert compare_texts(*table, sides).verdict is Verdict.within_tolerance
    assert compare_texts("1,000 rows", "1,001 rows", sides).verdict is Verdict.within_tolerance
    assert [Tolerance(rtol=1).allows(*pair) for pair in ((float("nan"), float("nan")), (float("inf"), 1.0), (float("inf"), float("inf")), (1.0, float("nan")))] == [True, False, True, False]
    assert texts.worst() is Verdict.identical


def test_the_place_is_shown() -> None:
    found = compare_texts("same\n" + "x" * 100 + " 1 " + "y" * 100, "same\n" + "x" * 100 + " 2 " + "y" * 100)
    assert " 1 " in found.original
    assert " 2 " in found.repeated
    assert len(found.original) < 130
    assert compare_texts("a\nb", "a").repeated == "(no more lines)"
    assert compare_texts("a\n", "a\nb\nc").original == "(an empty line)"
    assert settle("plain [text]") == "plain [text]"


def picture(pixels: np.ndarray, kind: str = "png", **options: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_are_compared_by_their_pixels() -> None:
    grey = np.full((30, 40, 3), 200, dtype=np.uint8)
    spot = grey.copy()
    spot[3, 4, 1] = 201
    assert compare_pictures(picture(grey), picture(grey, compress_level=0)) is None
    assert compare_pictures(picture(grey), picture(grey)[:40] + "\n" + picture(grey)[40:]) is None
    found = compare_pictures(picture(grey), picture(spot))
    assert found is not None
    assert (found.share, found.largest) == (1 / 1200, 1)
    assert str(compare_pictures(picture(grey), picture(grey[:20]))) == "40 x 30 pixels and 40 x 20"
    for broken in ("not base64!", base64.b64encode(b"no picture").decode()):
        assert "cannot be decoded" in str(compare_pictures(picture(grey), broken))
    clear = np.zeros((5, 5, 4), dtype=np.uint8)
    other = clear.copy()
    other[..., 0] = 99  # of a colour that nobody sees
    assert compare_pictures(picture(clear), picture(other)) is None
    moving = [Image.fromarray(grey), Image.fromarray(spot // 2)]
    file = io.BytesIO()
    moving[0].save(file, "gif", save_all=True, append_images=moving[1:])
    assert "frames" in str(compare_pictures(base64.b64encode(file.getvalue()).decode(), picture(grey, "gif")))
    bundles = {"image/png": picture(grey)}, {"image/png": picture(spot)}
    assert [found.verdict for _, found in compare_bundles(*bundles, SIDES)] == [Verdict.different]
    assert [found.verdict for _, found in compare_bundles(*bundles, Sides(tolerance=Tolerance(pixels=0.01)))] == [Verdict.within_tolerance]
    [(_, same)] = compare_bundles({"image/png": picture(grey)}, {"image/png": picture(grey, compress_level=0)}, SIDES)
    assert [each.kind for each in same.noise] == ["picture file"]


def verdict(original: dict[str, Any], repeated: dict[str, Any], sides: Sides = SIDES) -> tuple[Verdict, set[str]]:
    found = list(compare_bundles(original, repeated, sides))
    return texts.worst(*(each.verdict for _, each in found)), {noise.kind for _, each in found for noise in each.noise}


def test_bundles() -> None:
    style = '<style>#T_{0}_row0 {{}}</style><td id="T_{0}_row0">{1}</td>'
    assert verdict({"text/html": style.format("0a1b2", 1)}, {"text/html": style.format("9f8e7", 1)}) == (Verdict.identical, {"generated id"})
    assert verdict({"text/html": style.format("0a1b2", 1)}, {"text/html": style.format("9f8e7", 2)})[0] is Verdict.different
    crossed = '<b id="p0a1b2c3d4e"/><b id="p9a1b2c3d4e"/><u href="#{}"/>'
    assert verdict({"image/svg+xml": crossed.format("p0a1b2c3d4e")}, {"image/svg+xml": crossed.format("p9a1b2c3d4e")})[0] is Verdict.different
    drawn = "<svg><dc:date>{}</dc:date><path d='M 1 2'/></svg>"
    assert verdict({"image/svg+xml": drawn.format("2026-01-01")}, {"image/svg+xml": drawn.format("2027-01-01")}) == (Verdict.identical, {"generated id"})
    assert verdict({"text/plain": "1"}, {"text/plain": "1", "text/html": "1"})[0] is Verdict.different
    plain = {"text/plain": ["a\n", "b"]}
    assert verdict(plain, {"text/plain": "a\nb"})[0] is Verdict.identical
    data = {"a": [1, 2.5, None, True], "b": {"c": "<f at 0x7f0012345678>"}}
    for changed, expected in (
        ({"a": [1, 2.5, None, True], "b": {"c": "<f at 0x7f00deadbeef>"}}, Verdict.identical),
        ({"a": [1, 2.5, None, 1], "b": data["b"]}, Verdict.different),
        ({"a": [1, 2.5, None], "b": data["b"]}, Verdict.different),
        ({"a": data["a"]}, Verdict.different),
        ({"a": [1, 2.6, None, True], "b": data["b"]}, Verdict.different),
    ):
        assert verdict({"application/json": data}, {"application/json": changed})[0] is expected
    close = Sides(tolerance=Tolerance(atol=0.2))
    assert verdict({"application/json": data}, {"application/json": {"a": [1, 2.6, None, True], "b": data["b"]}}, close)[0] is Verdict.within_tolerance
    assert verdict({"application/json": [float("nan")]}, {"application/json": [float("nan")]})[0] is Verdict.identical


def test_widgets_are_compared_by_their_state() -> None:
    def states(first: str, second: str, value: int) -> dict[str, Any]:
        return {
            first: {"model_name": "SliderModel", "state": {"value": value, "layout": f"IPY_MODEL_{second}"}},
            second: {"model_name": "LayoutModel", "state": {"back": f"IPY_MODEL_{first}"}},
        }

    def slider(first: str, second: str, value: int) -> NotebookNode:
        shown = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": first, "version_major": 2}})
        kept = {"application/vnd.jupyter.widget-state+json": {"state": states(first, second, value)}}
        return new_notebook(cells=[new_code_cell("slider", outputs=[shown])], metadata={"widgets": kept})

    found = compare_notebooks(slider("a1", "b1", 3), slider("a2", "b2", 3))
    assert (found.verdict, [each.kind for each in found.noise]) == (Verdict.identical, ["widget id"])
    found = compare_notebooks(slider("a1", "b1", 3), slider("a2", "b2", 4))
    assert "value: 3" in str(found.first)
    assert with_state({"model_id": "gone"}, {}) == {}


def error(message: str, frames: list[str]) -> NotebookNode:
    trace = ["-" * 75, "ValueError  Traceback (most recent call last)", *frames, f"\nValueError: {message}"]
    return new_output("error", ename="ValueError", evalue=message, traceback=trace)


def test_errors_are_compared_by_what_and_where() -> None:
    own, package = "Cell In[2], line 1\n----> 1 check(x)", "\nFile ~/e/lib/python3.11/site-packages/p/c.py:{}, in check(x)\n     3 x"
    ran = [new_notebook(cells=[new_code_cell("check(x)", outputs=[each])]) for each in (
        error("3 rows", [own, package.format(7)]), error("3 rows", [own, package.format(9)]), error("4 rows", [own, package.format(7)]),
        error("3 rows", [own.replace("line 1", "line 2")]), error("<A at 0x7f0012345678>", [own]), error("<A at 0x7f00deadbeef>", [own]),
    )]  # fmt: skip
    found = compare_notebooks(ran[0], ran[1])
    assert (found.verdict, [each.kind for each in found.noise]) == (Verdict.identical, ["frames of packages"])
    assert compare_notebooks(ran[0], ran[2]).first is not None
    assert "3 rows" in str(compare_notebooks(ran[0], ran[2]).first)
    assert compare_notebooks(ran[0], ran[3]).verdict is Verdict.different
    assert compare_notebooks(ran[4], ran[5]).verdict is Verdict.identical


def test_streams_are_joined_between_displays_and_outputs_are_paired() -> None:
    def cell(*outputs: NotebookNode) -> NotebookNode:
        return new_notebook(cells=[new_markdown_cell("# t"), new_code_cell("x", outputs=list(outputs))])

    out, err, shown = (lambda text: new_output("stream", name="stdout", text=text)), new_output("stream", name="stderr", text="e"), new_output("display_data", {"text/plain": "d"})
    whole = cell(out("ab"), err, shown)
    assert compare_notebooks(whole, cell(err, out("a"), out("b"), shown)).verdict is Verdict.identical
    assert compare_notebooks(whole, cell(out("ab"), shown, err)).verdict is Verdict.different
    found = compare_notebooks(whole, cell(out("ab"), err))
    assert [(each.what, each.original, each.repeated) for each in found.differences] == [("output 1", "output: d", "(nothing)")]
    assert "error" in str(compare_notebooks(cell(error("x", [])), cell(out("y"))).first)
    sized = new_output("display_data", {"text/plain": "d"}, metadata={"image/png": {"width": 3}})
    assert "metadata" in str(compare_notebooks(cell(shown), cell(sized)).first)


def test_cells_are_paired_by_their_sources() -> None:
    def notebook(*sources: str) -> NotebookNode:
        return new_notebook(cells=[new_code_cell(each) for each in sources])

    found = compare_notebooks(notebook("a", "b", "c"), notebook("a", "new", "b", "d"))
    assert [(cell.original, cell.repeated, cell.verdict.value) for cell in found.cells] == [(0, 0, "identical"), (None, 1, "different"), (1, 2, "identical"), (2, 3, "different")]
    assert [each.what for each in found.differences] == ["cell", "source"]
    assert str(found.first) == "cell 2, cell: '(no such cell)' became 'new'"
    kind = compare_notebooks(new_notebook(cells=[new_markdown_cell("a")]), notebook("a"))
    assert "markdown: a" in str(kind.first)
    banner = new_markdown_cell("failed", metadata={"tags": ["papermill-error-cell-tag"]})
    assert compare_notebooks(new_notebook(cells=[banner, new_code_cell("a")]), notebook("a")).verdict is Verdict.identical
    moment = [new_notebook(cells=[new_code_cell("now", outputs=[new_output("stream", text=f"2026-05-0{day} 10:00:05")])], metadata={"papermill": {"start_time": f"2026-05-0{day}T10:00:00+00:00", "end_time": f"2026-05-0{day}T10:01:00+00:00"}}) for day in (4, 5)]
    assert compare_notebooks(*moment).verdict is Verdict.identical


def run(**facts: Any) -> Run:
    given = {"run_id": "a" * 32, "status": "succeeded", "notebook": "a.ipynb", "kernel": Kernel(name="python3"), "started_at": BEGAN, "ended_at": BEGAN, "host": "laptop", "user": "ada", **facts}
    return Run(**given)


def use(event: str, version: int, digest: str, name: str = "p/x") -> DatasetUse:
    return DatasetUse(event=event, name=name, version=version, digest=digest, rows=3)


def test_records() -> None:
    def what(*runs: Run, **tolerance: float) -> list[str]:
        return [f"{each.what}: {each.verdict.value}" for each in compare_runs(*runs, **tolerance).facts]

    assert what(run(metrics={"a": 1.0, "b": float("nan"), "system/cpu": 1.0}), run(metrics={"a": 1.0, "b": float("nan"), "system/cpu": 2.0})) == []
    assert what(run(metrics={"a": 1.0, "gone": 2.0}), run(metrics={"a": 1.01, "new": 1.0})) == ["metric a: different", "metric gone: different", "metric new: different"]
    assert what(run(metrics={"a": 1.0}), run(metrics={"a": 1.01}), rtol=0.1) == ["metric a: equal within tolerance"]
    assert what(run(parameters={"n": 1}), run(parameters={"n": True}), atol=3) == ["parameter n: different"]
    assert what(run(parameters={"n": 1}), run(parameters={"n": 2}), atol=3) == ["parameter n: different"]
    failure = Failure(message="m", cell=3, ename="ValueError", evalue="<A at 0x7f0012345678>")
    failed = run(status=Status.failed, failure=failure)
    assert what(failed, run(status=Status.failed, failure=failure.model_copy(update={"evalue": "<A at 0x7f00deadbeef>"}))) == []
    assert what(failed, run()) == ["ending: different"]
    assert what(failed, run(status=Status.failed, failure=failure.model_copy(update={"cell": 4}))) == ["ending: different"]
    assert what(run(status="timed_out", failure=Failure(message="m")), run(status="timed_out", failure=Failure(message="m"))) == []
    found = compare_runs(run(datasets=[use("written", 3, "d")]), run(datasets=[use("written", 7, "d")]))
    assert (found.verdict, [each.kind for each in found.noise]) == (Verdict.identical, ["dataset version"])
    twice = [use("read", 1, "d"), use("read", 2, "e")]
    assert what(run(datasets=twice), run(datasets=twice[:1])) == ["dataset p/x read (2): different"]
    assert circumstances(run()).names["a" * 8] == "run id"


CELLS = {  # what is executed twice, and the verdict on its outputs
    "import pandas as pd, numpy as np, matplotlib.pyplot as plt": "identical",
    "print(object(), lambda: 3)": "identical",
    "object()": "identical",
    "import tempfile; print(tempfile.mkdtemp())": "identical",
    "import datetime; print(datetime.datetime.now(), datetime.date.today()); datetime.datetime.now()": "identical",
    "import time; print(time.ctime()); time.time()": "identical",
    "time.perf_counter_ns()": "different",
    "%time sum(range(10**5))": "identical",
    "%timeit -n 3 -r 2 sum(range(100))": "identical",
    "print(f'took {time.process_time():.4f} s')": "identical",
    "from tqdm import tqdm\nfor _ in tqdm(range(20), desc='fit'): time.sleep(0.01)": "identical",
    "import warnings; warnings.warn('old')": "identical",
    "pd.DataFrame({'a': [1, 2]}).style.highlight_max()": "identical",
    "pd.DataFrame({'a': np.arange(3.0)})": "identical",
    "pd.DataFrame({'a': [1]})['b']": "identical",
    "plt.plot(np.arange(9))\nplt.show()": "identical",
    "_ = plt.hist(np.random.default_rng().normal(size=99))": "different",
    "%config InlineBackend.figure_formats = ['svg']\nplt.plot(np.arange(9), 'o')\nplt.show()": "identical",
    "hash('a')": "different",
    "id(object)": "different",
    "import os; os.getpid()": "different",
    "import uuid; uuid.uuid4()": "different",
    "np.random.default_rng(3).normal()": "identical",
    "np.random.normal()": "different",
    "{'x', 'y', 'z', 'u', 'v', 'w'}": "identical",  # IPython sorts what it shows
    "import sys; print(1); print(2, file=sys.stderr); print(3)": "identical",
    "print(*range(2000), sep='\\n')": "identical",
    "raise ValueError(object())": "identical",
}


@pytest.fixture(scope="module")
def executed() -> list[NotebookNode]:
    made = []
    for _ in range(2):
        notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
        began = datetime.now(UTC).isoformat()
        NotebookClient(notebook, allow_errors=True, kernel_name="python3").execute()
        notebook.metadata["papermill"] = {"start_time": began, "end_time": datetime.now(UTC).isoformat()}
        made.append(notebook)
    return made


def test_real_executions(executed: list[NotebookNode]) -> None:
    found = compare_notebooks(*executed)
    assert {source: cell.verdict.value for source, cell in zip(CELLS, found.cells, strict=True)} == CELLS
    assert {"memory address", "temporary path", "date of the run", "duration", "progress", "generated id"} <= {each.kind for each in found.noise}
    assert compare_notebooks(executed[0], executed[0]).noise == []
