"""What must happen when storage fails, parameters are wrong, or what comes in cannot be trusted: the same at every door."""

from __future__ import annotations

import base64
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from doors import DOORS, Door, each_door
from processes import Marked, wait_for

from mltoolkit.notebook import document
from mltoolkit.record import runs, tracking
from mltoolkit.record.dataset import load_dataset, save_dataset
from mltoolkit.record.manifest import Run

BEFORE = "the output of an earlier run"
RAN = "import pathlib; pathlib.Path('ran').touch()"


def leftovers(folder: Path) -> list[str]:
    """Files that only an unfinished write leaves."""
    return [path.name for path in folder.rglob("*") if path.suffix in (".tmp", ".lock", ".before") and path.name != "mlflow.db.lock"]


def refused(done: Any, said: str, code: int = 2) -> None:
    """Nothing ran, and one message says why."""
    assert (done.code, said in done.said) == (code, True), done
    assert not Path("ran").exists()
    assert not Path(".mltoolkit/runs").exists()


# --- Storage


@cache
def mounting() -> tuple[list[str], str]:
    """How to get a mount table of one's own, which vanishes with the process; or why there is none."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None:
        return [], "there is no program `unshare`"
    tried = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True, text=True)
    return (command, "") if tried.returncode == 0 else ([], f"mounting is not allowed here: {tried.stderr.strip()}")


FULL_DISK = """
disk=$1; after=$2; shift 2
mount -t tmpfs -o size=${SIZE:-2m} tmpfs "$disk" && cp -a . "$disk" && cd "$disk" || exit 99
"$@"; code=$?
cp -a . "$after"; exit $code
"""
READ_ONLY = 'mount --bind out out && mount -o remount,ro,bind out && exec "$@"'
FILLS = {
    "journal": ("print('x' * 3_000_000)", ""),
    "overflow": ("print('x' * 3_000_000)", "output_limit = 100kB\n"),
    "notebook": ("print('\\n' * 200_000)", ""),  # a line of JSON for each, but two letters in the journal
}


def fill(what: str, write: Callable[..., Path], tiny: str) -> None:
    code, setting = FILLS[what]
    Path("settings.ini").write_text("[mltoolkit]\n" + setting)
    write("a.ipynb", "print('kept')", code, kernel=tiny)
    Path("out.ipynb").write_text(BEFORE)


def is_as_a_full_disk_leaves_it(folder: Path, door: Door) -> None:
    assert (folder / "out.ipynb").read_text() == BEFORE
    assert leftovers(folder) == []
    for path in folder.glob(".mltoolkit/runs/*/*.ipynb"):
        assert document.read(path).cells
    if door.records:
        [manifest] = folder.glob(".mltoolkit/runs/*/manifest.json")
        run = Run.from_json(manifest.read_text())
        assert (run.status, run.exit_code) == ("failed", 1)


@pytest.mark.parametrize(
    ("what", "door"),
    [(what, door) for what in FILLS for door in DOORS if what == "notebook" or door.name != "function"],
    ids=str,
)
def test_full_disk(bare_workspace: Path, tmp_path: Path, tiny: str, write: Callable[..., Path], mark: Marked, what: str, door: Door) -> None:
    own, reason = mounting()
    if not own:
        pytest.skip(reason)
    fill(what, write, tiny)
    (tmp_path / "disk").mkdir()
    (tmp_path / "after").mkdir()
    done = mark.run(*own, "sh", "-c", FULL_DISK, "sh", tmp_path / "disk", tmp_path / "after", *door.command("a.ipynb", "out.ipynb"))
    assert (done.returncode, "No space left on device" in done.stderr) == (1, True), done.stderr
    is_as_a_full_disk_leaves_it(tmp_path / "after", door)
    mark.all_gone()


@pytest.mark.parametrize("what", ["journal", "notebook"])
def test_full_disk_below_the_tracking_store(workspace: Path, tmp_path: Path, tiny: str, write: Callable[..., Path], mark: Marked, what: str) -> None:
    own, reason = mounting()
    if not own:
        pytest.skip(reason)
    fill(what, write, tiny)
    (tmp_path / "disk").mkdir()
    (tmp_path / "after").mkdir()
    mark.env["SIZE"] = "4m"  # the store has one of them
    command = DOORS[0].command("a.ipynb", "out.ipynb", track=True)
    done = mark.run(*own, "sh", "-c", FULL_DISK, "sh", tmp_path / "disk", tmp_path / "after", *command)
    assert (done.returncode, "No space left on device" in done.stderr) == (1, True), done.stderr
    is_as_a_full_disk_leaves_it(tmp_path / "after", DOORS[0])
    store = tracking.client(tmp_path / "after")
    [run] = store.search_runs([store.get_experiment_by_name("default").experiment_id])
    assert (run.info.status, run.data.tags["mltoolkit.status"]) == ("FAILED", "failed")


@pytest.mark.parametrize("door", [DOORS[0], DOORS[2]], ids=str)
def test_files_that_may_not_grow(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    fill("notebook", write, tiny)

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = mark.run(*door.command("a.ipynb", "out.ipynb"), preexec_fn=small_files)
    assert (done.returncode, "File too large" in done.stderr) == (1, True), done.stderr
    is_as_a_full_disk_leaves_it(bare_workspace, door)
    mark.all_gone()


@each_door
def test_read_only_output_folder(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    own, reason = mounting()
    if not own:
        pytest.skip(reason)
    write("a.ipynb", RAN, kernel=tiny)
    Path("out").mkdir()
    done = mark.run(*own, "sh", "-c", READ_ONLY, "sh", *door.command("a.ipynb", "out/out.ipynb"))
    assert (done.returncode, "read-only" in done.stderr.lower()) == (2, True), done.stderr
    assert not Path("ran").exists()
    assert list(Path("out").iterdir()) == []


@each_door
@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("missing/out.ipynb", "there is no folder"),
        ("file/out.ipynb", "there is no folder"),
        ("folder", "is a folder"),
        ("link.ipynb", "is a symbolic link"),
        ("dangling.ipynb", "is a symbolic link"),
    ],
)
def test_output_that_cannot_be_written(bare_workspace: Path, tiny: str, write: Callable[..., Path], output: str, said: str, door: Door) -> None:
    write("a.ipynb", RAN, kernel=tiny)
    for name in ("file", "target.ipynb"):
        Path(name).write_text(BEFORE)
    Path("folder").mkdir()
    Path("link.ipynb").symlink_to("target.ipynb")
    Path("dangling.ipynb").symlink_to("nowhere.ipynb")
    before = sorted(bare_workspace.rglob("*"))
    refused(door.go("a.ipynb", output), said)
    assert sorted(bare_workspace.rglob("*")) == before
    assert Path("target.ipynb").read_text() == BEFORE


@each_door
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"cells": [,]}', "a.ipynb is not valid JSON: Expecting value at line 1, column 12"),
        (b'{\n "cells": [\n', "line 3, column 1"),
        (b"", "a.ipynb is empty"),
        (b'{"cells": [], "metadata": {"\xff', "a.ipynb is not UTF-8 text: byte 28"),
        (b"[1, 2]", "not a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}', "cells/0"),
    ],
    ids=["json", "cut off", "empty", "not text", "no notebook", "bad cell"],
)
def test_corrupt_notebook(bare_workspace: Path, content: bytes, said: str, door: Door) -> None:
    Path("a.ipynb").write_bytes(content)
    Path("out.ipynb").write_text(BEFORE)
    done = door.go("a.ipynb", "out.ipynb")
    refused(done, said)
    assert len([line for line in done.said.splitlines() if not line.startswith(("Input Notebook", "Output Notebook"))]) == 1
    assert Path("out.ipynb").read_text() == BEFORE


@pytest.mark.parametrize(("one", "other"), [(DOORS[0], DOORS[2]), (DOORS[1], DOORS[2])], ids=str)
def test_two_processes_at_one_output_path(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, one: Door, other: Door) -> None:
    write("a.ipynb", "import os, pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)", "print('whole')", kernel=tiny)
    both = [mark.start(*door.command("a.ipynb", "out.ipynb")) for door in (one, other)]
    wait_for(lambda: any(each.poll() is not None for each in both), "one of two runs to be refused")
    Path("go").touch()
    said = [each.communicate(timeout=60)[1] for each in both]
    codes = [each.returncode for each in both]
    assert sorted(codes) == [0, 2], said
    assert "another run is writing out.ipynb" in said[codes.index(2)].replace(f"{bare_workspace}/", "")
    assert document.read("out.ipynb").cells[1].outputs[0].text == "whole\n"
    assert leftovers(bare_workspace) == []


LOCK = """
import pathlib, sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
held.execute("BEGIN IMMEDIATE")
pathlib.Path(sys.argv[2]).touch()
time.sleep(float(sys.argv[3]))
"""


def test_a_locked_store_at_the_start_and_at_the_end_of_two_runs(workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked) -> None:
    def lock(sign: str, seconds: int) -> None:  # SQLite itself waits five
        processes.append(mark.start(sys.executable, "-c", LOCK, workspace / ".mltoolkit/mlflow.db", sign, str(seconds)))
        wait_for(Path(sign).exists, "the store to be locked")

    processes: list[subprocess.Popen[str]] = []
    for name in ("a", "b"):
        end = f"import pathlib, time\npathlib.Path('ready-{name}').touch()\nwhile not pathlib.Path('locked again').exists(): time.sleep(0.02)"
        write(f"{name}.ipynb", end, kernel=tiny, parameters="n: int = 1")
    lock("locked", 10)
    started = [mark.start(*door.command(f"{name}.ipynb", f"{name}.out.ipynb", track=True)) for door, name in zip(DOORS, "ab", strict=False)]
    wait_for(lambda: Path("ready-a").exists() and Path("ready-b").exists(), "both runs to begin")
    lock("locked again", 7)
    for each in started:
        _, said = each.communicate(timeout=120)
        assert each.returncode == 0, said
    for each in processes:
        each.communicate(timeout=60)
    store = tracking.client(workspace)
    found = store.search_runs([store.get_experiment_by_name("default").experiment_id])
    assert [(run.info.status, run.data.tags["mltoolkit.status"], run.data.params) for run in found] == [("FINISHED", "succeeded", {"n": "1"})] * 2
    for run in found:
        assert {"manifest.json", "requirements.txt"} < {each.path for each in store.list_artifacts(run.info.run_id)}
        assert run.info.start_time < run.info.end_time
    assert runs.repair() == []


# --- Parameters

DECLARED = "from typing import Annotated\nfrom pydantic import Field, SecretStr\n" + "\n".join([
    "month: Annotated[int, Field(ge=1, le=12)] = 1", "rate: float = 0.5", "name: str = 'x'", "size = 3", "key: SecretStr | None = None",
])  # fmt: skip


@each_door
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mont": 3}, "there is no parameter 'mont'; did you mean 'month'?"),
        ({"month": "three"}, "parameter 'month' wants int (1 to 12), got 'three' (str)"),
        ({"month": 1.5}, "parameter 'month' wants int (1 to 12), got 1.5 (float)"),
        ({"month": 13}, "parameter 'month' wants int (1 to 12), got 13 (int)"),
        ({"rate": [1]}, "parameter 'rate' wants float, got [1] (list)"),
        ({"name": None}, "parameter 'name' wants str, got None (NoneType)"),
        ({"size": "big"}, "parameter 'size' wants int, as its default is 3, got 'big' (str)"),
        ({"month; open('code', 'w')": 1}, "is not a name"),
        ({"month = open('code', 'w'); x": 1}, "is not a name"),
        ({"class": 1}, "is not a name"),
        ({"key": "not-for-a-command-line"}, "parameter 'key' is a secret"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_parameters_that_do_not_fit(bare_workspace: Path, tiny: str, write: Callable[..., Path], given: dict[str, Any], said: str, door: Door) -> None:
    write("a.ipynb", RAN, parameters=DECLARED, kernel=tiny)
    done = door.go("a.ipynb", "out.ipynb", given)
    refused(done, said)
    assert "not-for-a-command-line" not in done.said
    assert not Path("out.ipynb").exists()
    assert not Path("code").exists()


@each_door
def test_no_cell_for_parameters(bare_workspace: Path, tiny: str, write: Callable[..., Path], door: Door) -> None:
    write("a.ipynb", RAN, kernel=tiny)
    refused(door.go("a.ipynb", "out.ipynb", {"month": 3}), "no cell of the notebook is tagged 'parameters'")
    assert not Path("out.ipynb").exists()


@each_door
@pytest.mark.parametrize("value", ["../up", "..", "../../tmp/x"])
def test_a_path_made_of_parameters_stays_in_its_folder(bare_workspace: Path, tmp_path: Path, tiny: str, write: Callable[..., Path], value: str, door: Door) -> None:
    write("a.ipynb", RAN, parameters="name: str = 'x'", kernel=tiny)
    Path("out").mkdir()
    before = sorted(each for each in tmp_path.rglob("*.ipynb"))
    refused(door.go("a.ipynb", "out/{name}/out.ipynb" if value == ".." else "out/{name}.ipynb", {"name": value}), "{name}")
    assert sorted(each for each in tmp_path.rglob("*.ipynb")) == before
    assert door.go("a.ipynb", "out/{name}.ipynb", {"name": "fine"}).code == 0
    assert Path("out/fine.ipynb").exists()


VALUES: dict[str, Any] = {
    "text": """"''\\"\\\n'''\"\"\"\n$(touch code) `touch code` {x} %s \\x00 \\N{BULLET}\n__import__('pathlib').Path('code').touch() #""",
    "code": "1; __import__('pathlib').Path('code').touch()",
    "numbers": [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1],
    "huge": -(10**2000) + 1,
    "nested": {"": [True, False, 1, 1.0, "1"], "a": [None, {"b": None, "c": [[], {}, None]}]},
    "signs": "😀 \u202e é e\u0301 \x7f \u2028 \ufeff \U0001d4b3",
    "long": "é\n" * 50_000,
}
KINDS = {"text": "str", "code": "str", "numbers": "list[float]", "huge": "int", "nested": "dict", "signs": "str", "long": "str"}


@each_door
def test_values_arrive_as_they_are(bare_workspace: Path, tiny: str, write: Callable[..., Path], door: Door) -> None:
    told = f"import pathlib; pathlib.Path('told').write_text(ascii([{', '.join(VALUES)}]))"
    write("a.ipynb", told, parameters="\n".join(f"{name}: {kind}" for name, kind in KINDS.items()), kernel=tiny)
    done = door.go("a.ipynb", "out.ipynb", VALUES)
    assert done.code == 0, done.said
    assert Path("told").read_text() == ascii(list(VALUES.values()))
    assert not Path("code").exists()
    json.loads(Path("out.ipynb").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.parametrize("door", [DOORS[0], DOORS[2]], ids=str)
@pytest.mark.parametrize("way", ["-f", "-y", "-b"])
def test_yaml_with_python_tags(bare_workspace: Path, tiny: str, write: Callable[..., Path], way: str, door: Door) -> None:
    write("a.ipynb", RAN, parameters=DECLARED, kernel=tiny)
    evil = "month: !!python/object/apply:os.system ['touch ran']"
    Path("evil.yaml").write_text(evil)
    given = {"-f": "evil.yaml", "-y": evil, "-b": base64.b64encode(evil.encode()).decode()}[way]
    refused(door.go("a.ipynb", "out.ipynb", None, way, given), "python/object/apply", 2 if door.records else 1)  # papermill reads YAML itself


def test_an_object_that_is_no_plain_value(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    class Evil:
        def __repr__(self) -> str:
            return "__import__('pathlib').Path('ran').touch()"

    write("a.ipynb", RAN, parameters="value = None", kernel=tiny)
    refused(DOORS[1].go("a.ipynb", "out.ipynb", {"value": Evil()}), "of type Evil, which cannot be written into a notebook")


SHAPED = "AKIA" + "QW3RTYU6IOP7ASD5"  # what an access key of AWS looks like


@each_door
def test_a_secret_given_as_a_plain_value_is_in_nothing_that_is_written(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    """It was not declared, so only its shape gives it away; declared ones are in test_run.py."""
    code = "print(name)\nprint(name[:7], end='', flush=True)\nprint(name[7:], flush=True)\nraise ValueError(name)"
    write("a.ipynb", code, parameters="name: str", kernel=tiny)
    done = mark.run(*door.command("a.ipynb", "out.ipynb", {"name": SHAPED}, *([] if door.name == "function" else ["--log-output"])))
    Path("given.yaml").unlink()
    assert done.returncode == 1, done.stderr
    assert SHAPED not in done.stdout + done.stderr
    assert "[redacted:" in Path("out.ipynb").read_text()
    assert [path for path in bare_workspace.rglob("*") if path.is_file() and SHAPED.encode() in path.read_bytes()] == []


def test_papermill_takes_no_secrets_and_says_who_does(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    write("a.ipynb", RAN, parameters="from pydantic import SecretStr\nkey: SecretStr", kernel=tiny)
    for given in ({}, {"key": "swordfish"}):
        refused(DOORS[2].go("a.ipynb", "out.ipynb", given), "secrets take `mltoolkit run`")


def test_papermills_p_makes_numbers_of_words_and_the_message_says_what_does_not(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    write("a.ipynb", RAN, parameters=DECLARED, kernel=tiny)
    refused(DOORS[2].go("a.ipynb", "out.ipynb", {"name": 7}), "got 7 (int): should be a valid string; papermill's -p makes numbers")


def test_a_notebook_that_papermill_executed_before_keeps_its_parameters(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    write("a.ipynb", "print(month)", parameters="month: int = 1", kernel=tiny)
    assert DOORS[2].go("a.ipynb", "b.ipynb", {"month": 3}).code == 0
    assert DOORS[2].go("b.ipynb", "c.ipynb").code == 0
    assert DOORS[2].go("c.ipynb", "d.ipynb", {"month": 4}).code == 0
    shown = [[output.text for cell in document.read(name).cells for output in cell.outputs] for name in ("b.ipynb", "c.ipynb", "d.ipynb")]
    assert shown == [["3\n"], ["3\n"], ["4\n"]]
    assert [len(document.read(name).cells) for name in ("b.ipynb", "d.ipynb")] == [3, 3]


# --- Supply


@each_door
def test_a_dataset_that_changes_while_it_is_read(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    frame = pd.DataFrame({"n": range(10)})
    for name in ("demo/overwritten", "demo/succeeded", "demo/left"):
        save_dataset(frame, name, licence="CC0-1.0")
    load = "import mltoolkit, pathlib, time\nfor name in ('demo/overwritten', 'demo/succeeded', 'demo/left'):\n    mltoolkit.load_dataset(name)\n"
    wait = "pathlib.Path('loaded').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    write("a.ipynb", load + wait, kernel=tiny)
    process = mark.start(*door.command("a.ipynb", "out.ipynb"))
    wait_for(Path("loaded").exists, "the data to be loaded")
    save_dataset(frame.assign(n=1), "demo/succeeded", licence="CC0-1.0")  # a version of its own: nothing happens to the first
    [file] = Path(".mltoolkit/data/demo/overwritten").glob("*.parquet")
    frame.assign(n=2).to_parquet(file)
    Path("go").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    flag = "dataset demo/overwritten version 1 changed while the run was reading it"
    assert [line for line in said.splitlines() if "changed while" in line] == [f"mltoolkit: warning: {flag}" if door.name == "command" else flag]
    if door.records:
        run = runs.find("latest")
        assert [(use.name, use.changed) for use in run.datasets] == [("demo/overwritten", True), ("demo/succeeded", False), ("demo/left", False)]
        assert run.warnings == [flag]
    else:
        assert document.read("out.ipynb").metadata.papermill.warnings == [flag]
    assert len(load_dataset("demo/left")) == 10


@pytest.fixture
def planted(bare_workspace: Path) -> Path:
    """A scikit-learn model as MLflow keeps it, whose pickle runs code."""
    folder = Path("planted")
    folder.mkdir()
    flavour = "  sklearn:\n    pickled_model: model.pkl\n    serialization_format: cloudpickle\n    sklearn_version: 1.0.0\n"
    (folder / "MLmodel").write_text(f"flavors:\n{flavour}")
    (folder / "model.pkl").write_bytes(b"cpathlib\nPath\n(Vran\ntR.")  # a path, not a model: enough to see that it was opened
    return folder


OPEN = "import mlflow.sklearn\nprint('opened', mlflow.sklearn.load_model('planted'))"
REFUSALS = """
import mlflow, mlflow.sklearn
told = []
for attempt in [
    lambda: mlflow.sklearn.load_model('planted'),
    lambda: mlflow.log_text('x', '../text.txt'),
    lambda: mlflow.log_dict({}, 'a/../../dict.json'),
    lambda: mlflow.log_artifact('a.ipynb', artifact_path='../up'),
    lambda: mlflow.log_artifact('a.ipynb', artifact_path='/absolute'),
    lambda: mlflow.MlflowClient().log_artifact(mlflow.active_run().info.run_id, 'a.ipynb', '..'),
]:
    try:
        print('DONE', attempt())
    except mlflow.exceptions.MlflowException as error:
        print(error)
mlflow.log_text('x', 'fine..txt')
"""


@each_door
def test_pickles_are_not_opened_and_artifacts_do_not_leave_their_run(workspace: Path, planted: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    write("a.ipynb", REFUSALS, kernel=tiny)
    done = mark.run(*door.command("a.ipynb", "out.ipynb", track=True))
    assert done.returncode == 0, done.stderr
    first, *others = document.read("out.ipynb").cells[0].outputs[0].text.splitlines()
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in first
    assert [line.split(":")[0] for line in others] == ["Invalid artifact path"] * 5
    kept = [path.name for name in ("text.txt", "dict.json", "up", "absolute", "fine..txt") for path in workspace.parent.rglob(name)]
    assert kept == (["fine..txt"] if door.records else [])  # papermill's is in experiment 0: elsewhere, where the store was prepared
    assert not Path("/absolute").exists()


@pytest.mark.parametrize("door", DOORS[1:], ids=str)
def test_a_pickle_that_is_asked_for_is_opened(bare_workspace: Path, planted: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    if door.name == "function":
        Path("settings.ini").write_text("[mltoolkit]\nallow_pickle = yes\n")
    else:
        mark.env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"
    write("a.ipynb", OPEN, kernel=tiny)
    done = mark.run(*door.command("a.ipynb", "out.ipynb"))
    assert done.returncode == 0, done.stderr
    assert document.read("out.ipynb").cells[0].outputs[-1].text == "opened ran\n"
