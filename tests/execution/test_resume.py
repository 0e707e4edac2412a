"""Going on with a failed run: what is kept, what comes back, what is refused, and what the record says."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner
from conftest import notebook_of, tagged
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from mltoolkit.cli import main
from mltoolkit.errors import DataError, Invalid, NotebookFailed, NotebookInvalid, Status
from mltoolkit.execution import resume as resuming
from mltoolkit.execution.resume import resume
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document
from mltoolkit.record import checkpoint, manifest, runs, tracking
from mltoolkit.record.state import Reader, Writer

# --- values


def there_and_back(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    writer = Writer(folder)
    text = json.dumps({name: writer.node(value) for name, value in values.items()}, allow_nan=False)
    reader = Reader(folder)
    return {name: reader.value(node) for name, node in json.loads(text).items()}


def same(one: Any, other: Any) -> bool:
    """Whether two values are alike in type and content, at any depth."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, dt.datetime | dt.time):
        return (one, one.fold, repr(one.tzinfo)) == (other, other.fold, repr(other.tzinfo))
    return bool(one == other)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(allow_nan=False), st.decimals(allow_nan=False), st.fractions(), st.uuids(),
    st.dates(), st.times(), st.datetimes(timezones=st.one_of(st.none(), st.timezones())), st.timedeltas(), st.just("\ud800"), st.just(range(3, 9, 2)),
)  # fmt: skip
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.one_of(st.integers(), st.text(), st.tuples(st.integers())), inner)),
    max_leaves=12,
)


@settings(max_examples=80)
@given(plain)
def test_plain_data_comes_back_in_type_and_value(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    assert same(there_and_back({"it": value}, tmp_path_factory.getbasetemp() / "plain")["it"], value)


def test_libraries_values_come_back(tmp_path: Path) -> None:
    hours = pd.date_range("2013-03-30", periods=4, freq="h", tz="Europe/Berlin", name="hour")
    frame = pd.DataFrame({"text": ["a", None, "ü", ""], "whole": pd.array([1, None, 3, 4], "Int64"), "kind": pd.Categorical(["b", "a", "b", None], ordered=True), "lists": [[1], [], None, [2, 3]]}, index=hours)
    frame.attrs = {"source": "airport"}
    series = pd.Series([1.5, math.nan], name=("a", 1), index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["one", "two"]))
    values: dict[str, Any] = {
        "frame": frame, "empty": frame.iloc[:0], "series": series, "unnamed": pd.Series(["a"], name=None), "index": hours, "rows": pd.RangeIndex(3, 9, 2, name="n"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "text": np.array(["ä", "bc"]), "days": np.array(["2013-01-01", "NaT"], "M8[D]"), "record": np.array([(1, 2.5)], [("a", "<i2"), ("b", ">f8")]),
        "none": np.empty((0, 3), np.float16), "point": np.array(3.5), "score": np.float64(0.1), "flag": np.bool_(True), "word": np.str_("ab"), "moment": np.datetime64("2013-01-01T02", "h"),
        "stamp": pd.Timestamp("2013-10-27 02:30:00.123456789", tz="UTC").tz_convert("Europe/Berlin"), "naive": pd.Timestamp("2013-01-01").as_unit("s"), "span": pd.Timedelta("1D 00:00:00.000000001"),
        "missing": [pd.NaT, pd.NA], "table": pa.table({"a": pa.array([1, None], pa.uint8()), "b": pa.chunked_array([pa.array(["x"]).dictionary_encode(), pa.array(["y"]).dictionary_encode()])}),
        "zone": [ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(hours=2))], "set": [{1, 2}, frozenset("ab"), bytearray(b"ab")], "path": Path("a/b"),
    }  # fmt: skip
    back = there_and_back(values, tmp_path / "state")
    pd.testing.assert_frame_equal(back["frame"], frame)
    assert back["frame"].attrs == frame.attrs
    assert (back["frame"].index.freq, back["frame"]["kind"].dtype) == (hours.freq, frame["kind"].dtype)
    back["frame"].iloc[0, 0] = "changed"  # Arrow's own memory is read-only
    pd.testing.assert_frame_equal(back["empty"], values["empty"])
    pd.testing.assert_series_equal(back["series"], series)
    assert (back["series"].name, back["unnamed"].name) == (("a", 1), None)
    assert back["index"].identical(hours)
    assert back["index"].freq == hours.freq
    assert back["rows"].identical(values["rows"])
    assert type(back["rows"]) is pd.RangeIndex
    for name in ("fortran", "text", "days", "record", "none", "point"):
        assert (back[name].dtype, back[name].flags.f_contiguous, back[name].shape) == (values[name].dtype, values[name].flags.f_contiguous, values[name].shape), name
        np.testing.assert_array_equal(back[name], values[name])
    for name in ("score", "flag", "word", "moment", "stamp", "naive", "span"):
        assert (type(back[name]), repr(back[name]), getattr(back[name], "unit", None)) == (type(values[name]), repr(values[name]), getattr(values[name], "unit", None)), name
    assert back["missing"][0] is pd.NaT
    assert back["missing"][1] is pd.NA
    assert back["table"].equals(values["table"].unify_dictionaries())
    assert back["zone"] == values["zone"]
    assert back["set"] == values["set"]
    assert (back["path"], type(back["path"])) == (Path("a/b"), type(Path()))


def test_what_is_one_stays_one_and_may_hold_itself(tmp_path: Path) -> None:
    shared, array, circle = [1], np.arange(3), list[Any]()
    circle.append({"me": circle})
    back = there_and_back({"a": {"x": shared}, "b": (shared, array), "c": array, "circle": circle}, tmp_path)
    assert back["a"]["x"] is back["b"][0]
    assert back["b"][1] is back["c"]
    assert back["circle"][0]["me"] is back["circle"]


class _Named(dict[str, int]):
    """What is nearly a dictionary."""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (threading.Lock(), "a _thread.lock has no safe form"), (_Named(), "_Named has no safe form"), (lambda: 1, "function has no safe form"),
        (np.array([object()]), "an array of object has no safe form"), (np.ma.array([1]), "MaskedArray has no safe form"), (pd.DataFrame({"a": [1, "x"]}), "mixed|Expected bytes|cannot be saved|convert"),
        ({"deep": [re.compile("a")]}, "a re.Pattern has no safe form"), (PurePosixPath("a"), "PurePosixPath has no safe form"), (pd.Period("2013"), "Period has no safe form"),
        (dt.datetime(2013, 1, 1, tzinfo=type("Z", (dt.tzinfo,), {})()), "its time zone is a"), (pa.array([1]), "Array has no safe form"),
    ],
)  # fmt: skip
def test_what_has_no_safe_form_is_refused_by_name_and_type(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"variable 'it' .*({said}).*; the tag pickle:it allows to pickle it") as caught:
        keep(tmp_path, {"it": value})
    assert type(value).__qualname__ in str(caught.value)
    assert list((tmp_path / checkpoint.FOLDER).iterdir()) == []


def test_arrays_that_share_memory_and_labels_of_their_own_are_refused(tmp_path: Path) -> None:
    array = np.arange(9)
    with pytest.raises(DataError, match=r"variable 'part' .*shares its memory with another one that is kept has no safe form; keep a copy\(\)"):
        keep(tmp_path, {"array": array, "part": array[3:]})
    with pytest.raises(DataError, match="its flags cannot be kept"):
        keep(tmp_path, {"frame": pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)})
    with pytest.raises(DataError, match="no variable 'none' after the cell"):
        keep(tmp_path, {}, "none")


# --- keeping


def keep(folder: Path, namespace: dict[str, Any], *names: str, pickle: tuple[str, ...] = (), secrets: dict[str, str] | None = None, position: int = 2) -> None:
    wanted = [*names] or [name for name in namespace if name not in pickle]
    checkpoint.keep(namespace, {"folder": str(folder), "position": position, "keep": wanted, "pickle": list(pickle), "secrets": secrets or {}, "root": str(folder), "facts": {"cells": [], "cwd": "."}})


def test_a_state_is_kept_whole_and_its_damage_is_seen(tmp_path: Path) -> None:
    keep(tmp_path, {"a": np.arange(3), "model": {1, 2}}, "a", pickle=("model",))
    random.seed(5)
    np.random.seed(5)
    keep(tmp_path, {"a": np.arange(4)}, position=12)
    expected = random.random(), np.random.random()
    (tmp_path / checkpoint.FOLDER / ".0013-half").mkdir()
    (tmp_path / checkpoint.FOLDER / "0013").mkdir()
    later, earlier = checkpoint.checkpoints(tmp_path)
    assert (later.position, earlier.position, later.names, earlier.names, later.damage()) == (12, 2, ["a"], ["a", "model"], "")
    restored: dict[str, Any] = {}
    checkpoint.restore(restored, str(later.folder), last=False)
    array = restored.pop("a")
    checkpoint.restore(restored, str(later.folder), last=True)
    assert restored["a"] is array, "what the definitions saw is what there is"
    assert (random.random(), np.random.random()) == expected
    checkpoint.restore(restored, str(earlier.folder), last=True)
    assert restored["model"] == {1, 2}
    [file] = [name for name in earlier.state["files"] if name.endswith("pickle")]
    (earlier.folder / file).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert earlier.damage() == f"{earlier.folder / file} was altered"
    (earlier.folder / file).unlink()
    assert "cannot be read: No such file" in earlier.damage()
    checkpoint.tidy(tmp_path)
    assert sorted(each.name for each in (tmp_path / checkpoint.FOLDER).iterdir()) == ["0002", "0012", "0013"]
    checkpoint.tidy(tmp_path, succeeded=True)
    assert not (tmp_path / checkpoint.FOLDER).exists()


@pytest.mark.parametrize(
    "value",
    [
        {"headers": ["Bearer swordfish-7"]}, np.array(["swordfish-7"]), pd.DataFrame({"a": ["x", "swordfish-7"]}), pd.DataFrame({"a": pd.Categorical(["swordfish-7"])}), b"swordfish-7",
        np.frombuffer(b"swordfish-7", np.uint8), Path("swordfish-7"),
    ],
)  # fmt: skip
def test_a_secret_is_never_kept(tmp_path: Path, value: Any) -> None:
    for pickled in ((), ("it",)):
        with pytest.raises(DataError, match=r"variable 'it' .*it holds a secret \((secret:)?key\), and a checkpoint never keeps one"):
            keep(tmp_path, {"it": value}, *([] if pickled else ["it"]), pickle=pickled, secrets={"key": "swordfish-7"})
    assert list((tmp_path / checkpoint.FOLDER).iterdir()) == []


def test_a_full_disk_leaves_no_half_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path, {"a": np.arange(3)})
    monkeypatch.setattr("pickle.dump", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path, {"b": {1}}, "b", pickle=("b",))
    assert list((tmp_path / checkpoint.FOLDER).iterdir()) == []


def test_what_cannot_be_pickled_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"variable 'lock' \(_thread.lock\) cannot be pickled: cannot pickle"):
        keep(tmp_path, {"lock": threading.Lock()}, pickle=("lock",))
    with pytest.raises(DataError, match="no variable 'lock' after"):
        keep(tmp_path, {"a": 1}, "a", pickle=("lock",))


# --- declarations


def test_declarations() -> None:
    book = notebook_of("0", tagged("1", "checkpoint", "keep:a", "keep:b", "pickle:b"), tagged("2", "checkpoint"), parameters="n: int = 1")
    assert checkpoint.declared(book, parameters=["n"]) == {2: checkpoint.Declared(("n", "a"), ("b",)), 3: checkpoint.Declared(("n",))}


@pytest.mark.parametrize(
    ("cell", "language", "said"),
    [
        (tagged("1", "keep:a"), "python", "cell 1: the tag 'keep:a' says what a checkpoint keeps, but there is no tag 'checkpoint'"),
        (tagged("1", "checkpoint", "keep:a b"), "python", "'a b' in the tag 'keep:a b' is no name of a variable"), (tagged("1", "checkpoint", "keep:"), "python", "'' in the tag 'keep:'"),
        (tagged("1", "checkpoint", "skip-execution"), "python", "is for code cells that are executed"), (tagged("1", "checkpoint"), "R", "is for Python kernels; this one's language is R"),
        (tagged("1", "checkpoint", "pickle:key"), "python", "'key' is a secret; a checkpoint never keeps one"),
    ],
)  # fmt: skip
def test_wrong_declarations_are_refused(cell: NotebookNode, language: str, said: str) -> None:
    with pytest.raises(NotebookInvalid, match=re.escape(said)):
        checkpoint.declared(notebook_of(cell), secrets=["key"], language=language)


def test_changes_of_cells_are_named_by_their_place() -> None:
    def digests(*sources: str) -> list[str]:
        return [checkpoint.cell_digest(new_code_cell(each)) for each in sources]

    def changed(*sources: str) -> list[str]:
        return checkpoint.changed_cells(digests("a", "b", "c"), notebook_of(*sources))

    assert changed("a", "b", "c") == changed("a", "b", "c", "d") == []
    assert changed("a", "B", "c", "d") == ["cell 2 changed"]
    assert changed("a", "b", "C", "d") == ["cell 3 changed"]
    assert changed("a", "x", "b", "c") == ["cell 2 is new"]
    assert changed("a", "c", "d") == ["1 code cell below cell 1 is gone"]
    assert changed("c", "d") == ["2 code cells at the top are gone"]
    assert changed("a") == ["2 code cells below cell 1 are gone"]
    assert changed() == ["3 code cells at the top are gone"]
    assert changed("X", "Y", "c") == ["cell 1 changed", "cell 2 changed"]
    assert checkpoint.cell_digest(tagged("a", checkpoint.EARLIER)) == digests("a")[0] != checkpoint.cell_digest(tagged("a", "skip-execution"))


def test_definitions_are_all_that_is_executed_again() -> None:
    source = "'''doc'''\nfrom a import b; x = 1\n%matplotlib inline\n!ls\n@cached(1)\ndef f(y=x):\n    return y\n\n\nclass C:\n    z = 2\nimport d.e as g\nf()\nasync def h(): pass"
    assert checkpoint.definitions(source) == "from a import b\n@cached(1)\ndef f(y=x):\n    return y\nclass C:\n    z = 2\nimport d.e as g\nasync def h(): pass"
    assert checkpoint.definitions("%%bash\nimport x") == checkpoint.definitions("def (") == checkpoint.definitions("") == ""

# --- runs

FIRST = """import random
import mlflow, numpy as np, pandas as pd
from mltoolkit import save_dataset
import helping

@helping.twice
def scaled(frame):
    return frame.minutes * helping.FACTOR * month
print('imported')"""
SECOND = """flights = pd.DataFrame({'carrier': pd.Categorical(['UA', 'AA']), 'minutes': [2.5, None]})
dataset = save_dataset(flights, 'flights')
mlflow.log_metric('rows', len(flights))
np.random.random(3), random.random()
month = month + 1
lock = {'left': 'behind'}
print('ten hours later', month)
flights.minutes.sum()"""
PROBE = "print(_, len(In), list(Out), __name__)"
THIRD = "drawn = np.random.random(), random.random(); mlflow.log_metric('drawn', drawn[0]); print(len(In))"
LAST = "mlflow.log_metric('total', scaled(flights).sum())\nprint(drawn, month, lock, api_key.get_secret_value() == 'swordfish-7')\nscaled(flights).tolist()"
PARAMETERS = "from pydantic import SecretStr\nmonth: int = 4\napi_key: SecretStr"
SECRETS = {"api_key": "swordfish-7"}


def late(write: Callable[..., Path], *cells: str, first: str = FIRST, second: str = SECOND, parameters: str = PARAMETERS) -> Path:
    """A notebook with one checkpoint, or two if it draws numbers."""
    below = [tagged(each, "checkpoint", "keep:drawn", "keep:flights", "pickle:lock") if "drawn =" in each else each for each in cells]
    return write("late.ipynb", first, tagged(second, "checkpoint", "keep:flights", "pickle:lock"), *below, parameters=parameters)


def failing(*arguments: Any, **options: Any) -> manifest.Run:
    with pytest.raises(NotebookFailed) as caught:
        (resume if "start" in options else run_notebook)(*arguments, **options)
    record: manifest.Run = caught.value.run
    return record


def shown(run: manifest.Run) -> list[tuple[Any, Any]]:
    """Count and outputs of the code cells."""
    cells = [cell for cell in document.read(run.output).cells if cell.cell_type == "code" and "injected-parameters" not in document.tags(cell)]
    return [(cell.execution_count, [output.get("text") or output.get("data") for output in cell.outputs]) for cell in cells]


def test_a_failed_run_is_gone_on_with_as_if_it_had_not_failed(workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "helping.py").write_text("FACTOR = 2.0\ndef twice(function): return lambda *given: 2 * function(*given)\n")
    monkeypatch.setenv("MLTOOLKIT_WARM", "yes")
    (workspace / "settings.ini").write_text("[mltoolkit]\npreload = pandas, mlflow\n")
    store = tracking.client(workspace)
    failed = failing(late(write, PROBE, "1 / 0"), parameters={"month": 5}, secrets=SECRETS, warm=True)
    folder = runs.runs_folder(workspace) / failed.run_id
    [kept] = checkpoint.checkpoints(folder)
    assert (kept.names, kept.position, kept.state["cwd"]) == (["month", "flights", "lock"], 3, str(workspace))
    assert [each for each in failed.warnings if "gates" not in each] == []
    assert shown(failed)[3] == (5, ["2.5 6 [4] __main__\n"]), "keeping leaves no trace"
    assert "swordfish" not in "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
    assert store.list_artifacts(failed.run_id, f"{checkpoint.FOLDER}/0003") != []
    _refusals(workspace, write, failed, folder, monkeypatch)

    # the mistake is mended, another one made, and mended
    late(write, THIRD, "LAST / 0")
    again = failing(failed, secrets=SECRETS, start=workspace)
    assert (again.resumed_from, again.cells.restored, again.cells.executed, again.failure and again.failure.ename) == (failed.run_id, 3, 1, "NameError")
    assert [each.position for each in checkpoint.checkpoints(runs.runs_folder(workspace) / again.run_id)] == [4, 3]
    shutil.rmtree(folder)  # what it goes on with is its own
    shutil.move(runs.runs_folder(workspace) / again.run_id, workspace / "elsewhere")  # and in the artifact store
    late(write, THIRD, LAST)
    monkeypatch.setenv("KEY", "swordfish-7")
    done = json.loads(CliRunner().invoke(main, ["resume", again.run_id[:12], "out.ipynb", "--secret", "api_key=env:KEY", "--json"], catch_exceptions=False).stdout)
    run = runs.find(done["run_id"])
    assert (run.status, run.resumed_from, run.trigger, run.cells.restored, run.cells.executed, run.parameters) == (Status.succeeded, again.run_id, "cli", 4, 1, {"month": 5})
    assert run.output == str(workspace / "out.ipynb")
    assert not (runs.runs_folder(workspace) / run.run_id / checkpoint.FOLDER).exists(), "nobody goes on with a success"
    tags = store.get_run(run.run_id).data.tags
    assert (tags["mltoolkit.resumed_from"], tags["mltoolkit.status"], tags["mltoolkit.trigger"]) == (again.run_id, "succeeded", "cli")

    whole = run_notebook(workspace / "late.ipynb", parameters={"month": 5}, secrets=SECRETS)
    expected = shown(whole)
    expected[3] = (expected[3][0], shown(run)[3][1])  # it looks at the history, which is a kernel's own
    assert shown(run) == expected
    assert run.metrics == whole.metrics == {"rows": 2.0, "drawn": whole.metrics["drawn"], "total": 60.0}
    assert [(use.event, use.name, use.digest) for use in run.datasets] == [(use.event, use.name, use.digest) for use in whole.datasets]
    _says_so(run, failed, again)
    with pytest.raises(Invalid, match="succeeded; there is nothing to go on with"):
        resume(run)


def _refusals(workspace: Path, write: Callable[..., Path], failed: manifest.Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not as it was is named, and nothing runs."""
    listed = sorted(runs.runs_folder(workspace).iterdir())

    def refused(said: str, run: manifest.Run = failed, secrets: dict[str, str] | None = SECRETS) -> None:
        with pytest.raises(Invalid, match=said) as caught:
            resume(run, secrets=secrets)
        assert caught.value.exit_code == 2

    refused("was given the secret 'api_key'; give it again: --secret api_key", secrets=None)
    for changed, said in {"second": "cell 4 changed", "parameters": "cell 1 changed", "first": "cell 3 changed"}.items():
        late(write, THIRD, LAST, **{changed: {"second": SECOND, "parameters": PARAMETERS, "first": FIRST}[changed] + "\n# new"})
        refused(rf"what its state came from is not as it was:\n  {said}\nrun the notebook anew")
    late(write, THIRD, LAST)
    with monkeypatch.context() as patch:
        patch.setattr(resuming.environment, "packages", lambda: {**failed.environment.packages, "pandas": "0.1", "new": "1"})
        refused(rf"package new was not there and is 1\n  package pandas was {re.escape(failed.environment.packages['pandas'])} and is 0.1")
        patch.undo()
        patch.setenv("MLTOOLKIT_SEED", "7")
        refused("the seed was 0 and is 7")
    machine = failed.environment.model_copy(update={"variables": {"ZONE": "x"}})
    refused("the environment variable ZONE is not as it was", failed.model_copy(update={"environment": machine}))
    refused("parameter month was 5 and is 4", failed.model_copy(update={"given": []}))
    altered = {
        workspace / "helping.py": "helping.py, which the cells above had imported, changed",
        next((workspace / ".mltoolkit/data/flights").glob("*.parquet")): "dataset flights version 1, which the cells above had written, is gone or was altered",
        folder / checkpoint.FOLDER / "0003" / "0.arrow": "the checkpoint is damaged: .*0.arrow was altered",
    }
    for file, said in altered.items():
        content = file.read_bytes()
        file.write_bytes(content[:-1] + b"#")
        refused(said)
        file.write_bytes(content)
    refused("no Python|cannot be gone on|kernel", failed.model_copy(update={"kernel": manifest.Kernel(name="none")}))
    refused("is running; it cannot be gone on with before it has ended", failed.model_copy(update={"status": Status.running}))
    refused("is running; its process is gone: `mltoolkit runs repair` closes it", failed.model_copy(update={"status": Status.running, "pid_start": "long ago"}))
    assert sorted(runs.runs_folder(workspace).iterdir()) == listed


def _says_so(run: manifest.Run, failed: manifest.Run, again: manifest.Run) -> None:
    """The executed notebook and its page show which part is whose."""
    cells = document.read(run.output).cells
    [line] = [index for index, cell in enumerate(cells) if resuming.RESUMED in document.tags(cell)]
    assert cells[line].source.startswith(f"**Not run again above this line.** These cells and their outputs are those of run `{again.run_id}`. A new kernel was given `month`")
    recorded = [cell.metadata.get("mltoolkit", {}).get("recorded_in") for cell in cells if cell.cell_type == "code"]
    assert recorded == [failed.run_id] * 4 + [again.run_id, None]
    assert [checkpoint.EARLIER in document.tags(cell) for cell in cells] == [True] * line + [False] * (len(cells) - line)
    assert run.html is not None
    page = Path(run.html).read_text()
    assert page.count(">not run again</span>") == 5
    assert f"<dt>goes on with</dt><dd><code>{again.run_id}</code></dd>" in page
    assert f"   goes on  with run {again.run_id}" in CliRunner().invoke(main, ["show", run.run_id]).stdout


# --- faults, with a kernel that starts at once


def test_what_cannot_be_kept_costs_the_checkpoint_alone(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    cells = [
        tagged("import threading\na, lock = 1, threading.Lock()", "checkpoint", "keep:a"), tagged("b = 2", "checkpoint", "keep:a", "keep:lock"),
        tagged("print('goes on')", "checkpoint", "keep:none"), "1 / 0",
    ]  # fmt: skip
    failed = failing(write("a.ipynb", *cells, kernel=tiny), track=False)
    assert [each for each in failed.warnings if "checkpoint" in each] == [
        "the checkpoint of cell 2 was not kept: variable 'lock' (_thread.lock): a _thread.lock has no safe form; the tag pickle:lock allows to pickle it",
        "the checkpoint of cell 3 was not kept: there is no variable 'none' after the cell",
    ]
    assert shown(failed)[2][1] == ["goes on\n"]
    folder = runs.runs_folder(bare_workspace) / failed.run_id
    assert [each.position for each in checkpoint.checkpoints(folder)] == [1]

    # the second cell may change, as the checkpoint above it is older; a run without checkpoints says why it has none
    write("a.ipynb", cells[0], "print(a + 1)", cells[2], "print('done')", kernel=tiny)
    done = resume(failed)
    assert [each[1] for each in shown(done)] == [[], ["2\n"], ["goes on\n"], ["done\n"]]
    shutil.rmtree(folder / checkpoint.FOLDER)
    with pytest.raises(Invalid, match=rf"run {failed.run_id} kept no checkpoint \(the checkpoint of cell 2 .*\); tag a cell 'checkpoint' and 'keep:NAME' for each variable"):
        resume(failed)
    for path in folder.glob("*.ipynb"):
        path.unlink()
    with pytest.raises(Invalid, match="the executed notebook is not in"):
        resuming.executed_in(folder)


def test_a_kernel_that_is_killed_while_it_keeps_leaves_what_it_had_kept(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    dying = "import os, signal\nclass Dying:\n    def __reduce__(self): os.kill(os.getpid(), signal.SIGKILL)\nit = Dying()"
    cells = [tagged("a = [1]", "checkpoint", "keep:a"), tagged(dying, "checkpoint", "keep:a", "pickle:it"), "print(a)"]
    failed = failing(write("a.ipynb", *cells, kernel=tiny), track=False)
    assert failed.status is Status.kernel_died
    folder = runs.runs_folder(bare_workspace) / failed.run_id
    assert [each.name for each in (folder / checkpoint.FOLDER).iterdir()] == ["0001"]
    write("a.ipynb", cells[0], "a.append(2)", cells[2], kernel=tiny)
    assert [each[1] for each in shown(resume(failed))] == [[], [], ["[1, 2]\n"]]
    with pytest.raises(Invalid, match="the tag 'keep:a' says what a checkpoint keeps"):
        run_notebook(write("b.ipynb", tagged("a = 1", "keep:a"), kernel=tiny), track=False)


def test_a_state_that_cannot_be_restored_is_the_end(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    cells = [tagged("import threading\nflag = True\ndef f(x=threading.gone if not flag else 1): return x", "checkpoint"), "1 / 0"]
    failed = failing(write("a.ipynb", *cells, kernel=tiny), track=False)
    broken = failing(failed, start=bare_workspace)
    assert broken.failure is not None
    assert broken.failure.message == "the state could not be restored: NameError: name 'flag' is not defined"
    assert shown(broken)[1] == (None, [])
    assert broken.cells.executed == 0
