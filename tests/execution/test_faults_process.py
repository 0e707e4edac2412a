"""What may happen to the processes of a run, through every door: the same end, whichever way the run was started.

One table of faults, times three doors: `mltoolkit run`, `mltoolkit.run_notebook` and `papermill --engine mltoolkit`, each in
a process of its own, so that signals, memory and exit codes are real. The first cell of every notebook leaves a child in a
session of its own and a daemon behind, so that each fault also shows that nothing outlives a run.

How the engine sees each of these faults, alone, is in test_engine.py."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Any

import hypothesis
import nbformat
import pytest
import yaml
from conftest import notebook_of, tagged
from hypothesis import Phase, given
from hypothesis import strategies as st
from nbformat import NotebookNode
from processes import BIN, DAEMON, Marked, wait_for

from mltoolkit import settings
from mltoolkit.errors import ParameterError, Status
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document

TESTS = Path(__file__).parent.parent
sys.path.append(str(TESTS / "notebook"))
from test_values import FILED, TYPED, WORDS, filed, same, unspeakable  # noqa: E402 (what people write, and how)

DOORS = ("mltoolkit run", "run_notebook", "papermill")


# The table


@dataclass(frozen=True)
class Fault:
    """Something that happens in the second of three cells, and how the run must end."""

    cell: str | NotebookNode
    status: Status
    said: str = ""  # what the message has to match
    signal: int = 0  # sent to the runner while the cell sleeps
    settings: dict[str, str] = field(default_factory=dict)
    tracked: bool = False  # whether there is an MLflow run: the record, or in papermill's case one that the notebook starts
    kernel: str = "tiny"

    def begins(self, door: str) -> bool:
        """Whether there will be an MLflow run; a kernel with a limit of seconds may not get to import MLflow."""
        return self.tracked and not (door == "papermill" and self.settings)


WAIT = "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(600)"
HOARD = """
import os, re, resource, signal
used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
hoard = []
"""
ALL_THERE_IS = HOARD + "try:\n    while True: hoard.append(bytearray(2**26))\nfinally: hoard.clear()"
# the kernel's own killer needs a memory cgroup to be kept off the rest of the machine; this is what it does, when it does it
KILLED_FOR_IT = HOARD + "try:\n    while True: hoard.append(bytearray(2**26))\nexcept MemoryError: os.kill(os.getpid(), signal.SIGKILL)"
SWALLOW = "import time\nwhile True:\n    try: time.sleep(600)\n    except KeyboardInterrupt: pass"

FAULTS = {
    "killed for its memory": Fault(KILLED_FOR_IT, Status.kernel_died, r"kernel died \(signal 9, SIGKILL\) in cell 1; the system may be out of memory", tracked=True),
    "no more memory": Fault(ALL_THERE_IS, Status.failed, "MemoryError"),
    "os._exit(0)": Fault("import os; os._exit(0)", Status.kernel_died, r"kernel died \(exit code 0\) in cell 1"),
    "sys.exit(3)": Fault("import sys; sys.exit(3)", Status.failed, r"SystemExit\W+3", tracked=True),
    "sys.exit(0)": Fault("import sys; sys.exit(0)", Status.ended_early, r"sys\.exit\(0\) before the last cell; tag the cell 'may-exit'", tracked=True),
    "sys.exit(0), as declared": Fault(tagged("import sys; sys.exit(0)", "may-exit"), Status.succeeded, tracked=True),
    "input()": Fault("input('name? ')", Status.failed, "StdinNotImplementedError", kernel="python3"),
    "endless loop": Fault("while True: pass", Status.timed_out, r"over the limit of 6 s for the run \(setting timeout\)", settings={"timeout": "6"}, tracked=True),
    "loop that swallows interrupts": Fault(
        SWALLOW, Status.timed_out, r"over the limit of 1 s for a cell \(setting cell_timeout\); the kernel ignored the interrupt for 1 s and was killed", settings={"cell_timeout": "1"}
    ),
    "SIGTERM": Fault(WAIT, Status.cancelled, "stopped by SIGTERM", signal.SIGTERM, tracked=True),
    "SIGINT": Fault(WAIT, Status.cancelled, "stopped by SIGINT", signal.SIGINT),
    "SIGKILL": Fault(WAIT, Status.lost, "", signal.SIGKILL, tracked=True),
}  # fmt: skip


# The doors


@dataclass
class Ended:
    """What is seen of a run from outside when it is over."""

    exit_code: int
    stderr: str
    notebook: NotebookNode
    mlflow: list[str]  # states of the MLflow runs
    tags: dict[str, str]  # of the record
    left: list[int]  # processes still there when the run had ended
    leftover_files: list[str]


SERVER = """
import io, json, os, select, signal, sys

sys.path.insert(0, {tests!r})
import mlflow, papermill.execute
from papermill.cli import papermill as papermill_command
import mltoolkit.execution.papermill_engine, mltoolkit.execution.run, mltoolkit.record.runs, mltoolkit.record.tracking, mltoolkit.notebook.page
from mltoolkit.cli import main as command
from mltoolkit.errors import MltoolkitError
from processes import Marked

def function(notebooks):
    mark = Marked()
    mark.value = os.environ["TEST_MARK"]
    for name, settings, track in json.loads(notebooks):
        os.environ.update(settings)
        code, said = 0, ""
        try:
            mltoolkit.run_notebook(name + ".ipynb", name + ".out.ipynb", track=track)
        except MltoolkitError as error:
            code, said = error.exit_code, str(error)
        for variable in settings:
            del os.environ[variable]
        print(json.dumps([name, code, said, mark.alive()]), flush=True)
    sys.exit(code)

def serve():
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    print("ready", flush=True)
    while True:
        ready = select.select([0, read], [], [])[0]
        if read in ready:
            os.read(read, 4096)
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if not pid:
                    break
                print(pid, os.waitstatus_to_exitcode(status), flush=True)
        if 0 in ready:
            line = sys.stdin.buffer.raw.readline()
            if not line:
                os._exit(0)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return json.loads(line)
            print("started", pid, flush=True)

told = serve()
os.chdir(told["cwd"])
os.environ.clear()
os.environ.update(told["env"])
for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, told["out"], os.O_WRONLY | os.O_CREAT), (2, told["err"], os.O_WRONLY | os.O_CREAT)):
    os.dup2(os.open(name, flags, 0o600), number)
sys.argv = told["argv"]
sys.exit({{"mltoolkit": command, "papermill": papermill_command}}[sys.argv[0]]() if sys.argv[0] != "function" else function(*sys.argv[1:]))
"""  # a process for each run, without the two seconds of imports; that the installed programs start is tested elsewhere


class Server:
    """Starts the doors' programs, each in a process of its own that has their imports done."""

    def __init__(self) -> None:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER.format(tests=str(TESTS))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        )  # fmt: skip
        self.lock, self.started, self.codes = threading.Lock(), Queue[int](), dict[int, Future[int]]()
        assert self.process.stdout.readline() == "ready\n"
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            first, second = line.split()
            if first == "started":
                self.codes.setdefault(int(second), Future())
                self.started.put(int(second))
            else:
                self.codes.setdefault(int(first), Future()).set_result(int(second))

    def start(self, place: Place, *argv: str) -> tuple[int, Future[int]]:
        with self.lock:
            told = {"argv": argv, "cwd": str(place.root), "env": place.mark.env, "out": str(place.out), "err": str(place.err)}
            self.process.stdin.write(json.dumps(told) + "\n")
            self.process.stdin.flush()
            pid = self.started.get(timeout=60)
        return pid, self.codes[pid]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.reader.join()
        self.process.stdout.close()


class Place:
    """A workspace with a tracking store, and processes that work in it."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root, self.temporary, self.mark = root / "w", root / "t", Marked()
        self.out, self.err = root / "out", root / "err"
        (self.root / ".mltoolkit").mkdir(parents=True)
        (self.root / ".mltoolkit" / ".gitignore").write_text("*\n")
        self.temporary.mkdir()
        shutil.copy(store, self.root / ".mltoolkit" / "mlflow.db")
        (self.root / "settings.ini").write_text("[mltoolkit]\ngrace = 1\n")
        kernel = root / "jupyter" / "kernels" / "tiny" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        argv = [sys.executable, str(TESTS / "tiny_ipykernel.py"), "{connection_file}"]
        kernel.write_text(json.dumps({"argv": argv, "display_name": "tiny", "language": "python"}))
        self.mark.env |= {
            "TEST_MARK": self.mark.value,
            "JUPYTER_PATH": str(root / "jupyter"),
            "JUPYTER_RUNTIME_DIR": str(self.temporary / "runtime"),
            "TMPDIR": str(self.temporary),
            "MLTOOLKIT_WARM": "no",  # what outlives a run on purpose has its own tests
        }

    def write(self, name: str, fault: Fault, door: str) -> None:
        first = "import mlflow\nmlflow.start_run()\n" if door == "papermill" and fault.begins(door) else ""
        made = notebook_of(f"{first}{DAEMON}\nprint('kept')", fault.cell, "print('not reached')", kernel=fault.kernel)
        document.write(made, self.root / f"{name}.ipynb")

    def states(self, name: str | None = None) -> tuple[list[str], dict[str, str]]:
        """The states of the MLflow runs (of this name), and the tags of the last."""
        with sqlite3.connect(f"file:{self.root}/.mltoolkit/mlflow.db?mode=ro", uri=True) as store:
            rows = [row for row in store.execute("select run_uuid, status, name from runs") if name in (None, row[2])]
            tags = dict(store.execute("select key, value from tags where run_uuid = ?", rows[-1][:1])) if rows else {}
        store.close()
        return [row[1] for row in rows], tags

    def files(self) -> list[str]:
        """What is left of connection files and temporary folders, of journals and files written aside."""
        aside = [path for path in self.root.rglob("*") if path.name.endswith((".tmp", ".lock", ".journal", "journal.jsonl"))]
        return sorted(path.name for path in [*self.temporary.glob("mlt-*"), *self.temporary.glob("runtime/*"), *aside] if path.name != "mlflow.db.lock")

    def ended(self, name: str, door: str, code: int, said: str, left: list[int]) -> Ended:
        states, tags = self.states(None if door == "papermill" else name)
        return Ended(code, said, document.read(self.root / f"{name}.out.ipynb"), states, tags, left, self.files())


def variables(fault: Fault) -> dict[str, str]:
    return {f"MLTOOLKIT_{name.upper()}": value for name, value in fault.settings.items()}


def arguments(door: str, fault: Fault) -> list[str]:
    if door == "mltoolkit run":
        return ["mltoolkit", "run", "n.ipynb", "n.out.ipynb", *([] if fault.tracked else ["--no-track"])]
    if door == "papermill":
        return ["papermill", "--no-progress-bar", "--engine", "mltoolkit", "n.ipynb", "n.out.ipynb"]
    return ["function", json.dumps([["n", {}, fault.tracked]])]


def through(server: Server, place: Place, door: str, fault: Fault) -> Ended:
    """Run one faulty notebook through a door, in a process of its own."""
    place.write("n", fault, door)
    place.mark.env |= variables(fault)
    pid, code = server.start(place, *arguments(door, fault))
    if fault.signal:
        wait_for(lambda: (place.root / "started").exists() or code.done(), "the cell to sleep", 150)
        os.kill(pid, fault.signal)
    exit_code = code.result(timeout=150)
    said, left = place.err.read_text(), place.mark.alive()
    if fault.status is Status.lost:
        place.mark.all_gone()
        assert place.states()[0] == ["RUNNING"], "nobody was there to end it"
        _, repaired = server.start(place, "mltoolkit", "runs", "repair", "--json")
        assert repaired.result(timeout=150) == 0, place.err.read_text()
        assert len(json.loads(place.out.read_text())) == 1
        left = place.mark.alive()
    elif door == "run_notebook":
        said += json.loads(place.out.read_text())[2]
    return place.ended("n", door, exit_code, said, left)


def in_one_process(server: Server, place: Place, names: list[str]) -> dict[str, Ended]:
    """Run faulty notebooks one after the other in one process that lives on."""
    for at, name in enumerate(names):
        place.write(f"n{at}", FAULTS[name], "run_notebook")
    told = [[f"n{at}", variables(FAULTS[name]), FAULTS[name].tracked] for at, name in enumerate(names)]
    server.start(place, "function", json.dumps(told))[1].result(timeout=300)
    lines = [json.loads(line) for line in place.out.read_text().splitlines()]
    assert [line[0] for line in lines] == [f"n{at}" for at in range(len(names))], place.err.read_text()
    return {name: place.ended(line[0], "run_notebook", line[1], line[2], line[3]) for name, line in zip(names, lines, strict=True)}


# Everything that was collected starts at once, some at a time: waiting costs nothing then


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest, prepared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Ended]]:
    """How a fault ended at a door."""
    wanted = [(item.callspec.params["fault"], item.callspec.params["door"]) for item in request.session.items if getattr(item, "originalname", "") == "test_fault"]
    together = [fault for fault, door in wanted if door == "run_notebook" and not FAULTS[fault].signal]
    places: list[Place] = []

    def place() -> Place:
        places.append(Place(tmp_path_factory.mktemp("f"), prepared_store))
        return places[-1]

    server = Server()
    with ThreadPoolExecutor(4) as pool:
        sequence = pool.submit(in_one_process, server, place(), together) if together else Future()
        alone: dict[tuple[str, str], Future[Ended]] = {
            (fault, door): pool.submit(through, server, place(), door, FAULTS[fault]) for fault, door in wanted if door != "run_notebook" or FAULTS[fault].signal
        }
        try:
            yield lambda fault, door: alone[fault, door].result() if (fault, door) in alone else sequence.result()[fault]
        finally:
            pool.shutdown(cancel_futures=True)
            for each in places:
                each.mark.end()
            server.close()


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault: str, door: str, seen: Callable[[str, str], Ended]) -> None:
    what, ended = FAULTS[fault], seen(fault, door)

    # said, in an exit code and in words
    if what.signal == signal.SIGKILL:
        assert ended.exit_code == -signal.SIGKILL
    elif door != "papermill":
        assert ended.exit_code == (128 + what.signal if what.status is Status.cancelled else what.status.exit_code), ended.stderr
    else:
        assert bool(ended.exit_code) == (what.status is not Status.succeeded), ended.stderr
    assert re.search(what.said, ended.stderr), ended.stderr
    if door == "mltoolkit run":
        assert len(ended.stderr.splitlines()) == bool(what.said), "one line, or none"

    # kept in MLflow: the record, or what the notebook itself had begun
    assert ended.mlflow == ([what.status.mlflow] if what.begins(door) else [])
    if what.tracked and door != "papermill":
        assert ended.tags["mltoolkit.status"] == what.status

    # kept in the notebook
    nbformat.validate(ended.notebook)
    first, second, third = code_cells(ended.notebook)
    assert third.outputs == []
    if what.signal != signal.SIGKILL or door != "papermill":  # there the journal has it, beside the output
        assert text(first) == "kept\n"
    if what.status not in (Status.lost, Status.succeeded, Status.ended_early):
        assert (first.metadata.papermill.status, second.metadata.papermill.status, third.metadata.papermill.status) == ("completed", "failed", "pending")
        assert second.metadata.papermill.exception is True

    # gone
    assert ended.left == []
    if what.signal != signal.SIGKILL:
        assert ended.leftover_files == []


def test_the_whole_run_has_a_limit_by_default(bare_workspace: Path) -> None:
    assert 0 < settings.get("timeout") <= 7 * 86400


# The next run does not notice the one before, in one process that lives on

SPOIL = """
import os, sys
import pandas
os.chdir("elsewhere")
os.environ["LEAK"] = "1"
os.umask(0o777)
sys.path.insert(0, "leak")
pandas.DataFrame.sum = None
pandas.options.display.max_rows = 1
"""
NOTICE = """
import os, sys
import pandas
shown = [os.path.basename(os.getcwd()), os.environ.get("LEAK"), oct(os.umask(0o22)), "leak" in sys.path,
         pandas.DataFrame({"n": [1, 2]}).sum().n == 3, pandas.options.display.max_rows]
print(*shown)
"""
TWICE = """
import os, sys
from click.testing import CliRunner
import mltoolkit, mltoolkit.cli, papermill
os.umask(0o22)
before = os.getcwd(), dict(os.environ), list(sys.path)
for name in ("spoil", "notice"):
    source, target = name + ".ipynb", name + ".out.ipynb"
    if sys.argv[1] == "mltoolkit run":
        done = CliRunner().invoke(mltoolkit.cli.main, ["run", source, target, "--no-track"])
        assert done.exit_code == 0, done.output
    elif sys.argv[1] == "papermill":
        papermill.execute_notebook(source, target, engine_name="mltoolkit", progress_bar=False)
    else:
        mltoolkit.run_notebook(source, target, track=False)
assert before == (os.getcwd(), dict(os.environ), list(sys.path))
assert os.umask(0o22) == 0o22
assert "pandas" not in sys.modules or sys.modules["pandas"].DataFrame.sum is not None
"""


@pytest.mark.parametrize("door", DOORS)
def test_the_next_run_does_not_notice(door: str, prepared_store: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, prepared_store)
    (place.root / "elsewhere").mkdir()
    for name, code in {"spoil": SPOIL, "notice": NOTICE}.items():
        document.write(notebook_of(code), place.root / f"{name}.ipynb")
    done = place.mark.run(sys.executable, "-c", TWICE, door, cwd=place.root)
    assert done.returncode == 0, done.stderr
    [cell] = code_cells(document.read(place.root / "notice.out.ipynb"))
    assert text(cell) == "w None 0o22 False True 60\n"
    assert place.mark.alive() == []


# Many runs leave nothing

MANY = """
import gc, itertools, os, sys, threading
sys.path.insert(0, {tests!r})
from processes import Marked, wait_for
import mltoolkit

mark = Marked()
mark.value = os.environ["TEST_MARK"]
total, threads, track = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "tracked"
failures, numbers = [], itertools.count()

def work(until):
    while next(numbers) < until:
        try:
            mltoolkit.run_notebook("n.ipynb", track=track)
        except BaseException as error:
            failures.append(repr(error))
            raise

def together(until):
    others = [threading.Thread(target=work, args=(until,)) for _ in range(threads - 1)]
    for thread in others: thread.start()
    work(until)
    for thread in others: thread.join()

def state():
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count(), mark.alive(), sorted(os.environ)

together(3 * threads)
before, numbers = state(), itertools.count()
together(total)
assert not failures, failures
wait_for(lambda: state() == before, f"descriptors, threads and processes as before: {{before}}, not {{state()}}", 20)
"""


def many(place: Place, total: int, threads: int, track: str, kernel: str) -> subprocess.Popen[str]:
    document.write(notebook_of("print(1)", kernel=kernel), place.root / "n.ipynb")
    return place.mark.start(sys.executable, "-c", MANY.format(tests=str(TESTS)), str(total), str(threads), track, cwd=place.root)


def left_nothing(place: Place, process: subprocess.Popen[str], total: int) -> None:
    _, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    made = list((place.root / ".mltoolkit" / "runs").iterdir())
    assert len(made) == total
    assert {(folder / "manifest.json").exists() and (folder / "n.html").exists() for folder in made} == {True}
    assert place.files() == []
    assert place.mark.alive() == []


def test_twenty_tracked_runs_leave_nothing(prepared_store: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, prepared_store)
    left_nothing(place, many(place, 20, 1, "tracked", "python3"), 23)
    assert place.states()[0] == ["FINISHED"] * 23


@pytest.fixture(scope="module", autouse=True)
def thousand(request: pytest.FixtureRequest, prepared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, subprocess.Popen[str]] | None]:
    """A thousand runs in one process, beside the other tests, for they take a minute and a half."""
    if not any(item.name == "test_a_thousand_runs_leave_nothing" for item in request.session.items):
        yield None
        return
    place = Place(tmp_path_factory.mktemp("m"), prepared_store)
    packages = str(Path(nbformat.__file__).parent.parent)
    start = f"import sys; sys.path.append({packages!r}); exec(open({str(TESTS / 'tiny_ipykernel.py')!r}).read())"
    kernel = place.root.parent / "jupyter" / "kernels" / "tiny" / "kernel.json"
    argv = [sys.executable, "-I", "-S", "-c", start, "{connection_file}"]  # without `site`, a quarter of the time
    kernel.write_text(json.dumps({"argv": argv, "display_name": "tiny", "language": "python"}))
    process = many(place, 1000, 3, "untracked", "tiny")
    yield place, process
    process.kill()
    process.communicate()
    place.mark.end()
    shutil.rmtree(place.root)


# Values and names reach a real kernel as what they are, or not at all

REPORT = """
import pickle
assert not any(name.startswith("canary") for name in __import__("os").listdir("."))
with open("seen.pickle", "wb") as file:
    pickle.dump({name: value for name, value in globals().items() if name.startswith("x_")}, file)
"""
ATTACKS = [
    "__import__('os').mkdir('canary')",
    '"); __import__("os").mkdir("canary"); ("',
    "'''\n__import__('os').mkdir('canary')\n'''",
    "\\'; __import__('os').mkdir('canary') #",
    "{__import__('os').mkdir('canary')}",
    "$(mkdir canary)",
    "!mkdir canary",
    "%%bash\nmkdir canary",
    "!!python/object/apply:os.mkdir [canary]",
    "\x00\n__import__('os').mkdir('canary')",
]


def collected(strategies: dict[str, st.SearchStrategy[Any]], each: int) -> dict[str, tuple[str, Any]]:
    """Examples of every type: name → annotation and value."""
    found: list[tuple[str, Any]] = []

    @hypothesis.settings(database=None, max_examples=each, phases=[Phase.generate])
    @given(st.fixed_dictionaries(strategies))
    def collect(example: dict[str, Any]) -> None:
        found.extend(example.items())

    collect()
    return {f"x_{at}": pair for at, pair in enumerate(found)}


def declaring(values: dict[str, tuple[str, Any]]) -> str:
    imports = "from datetime import *\nfrom decimal import Decimal\nfrom pathlib import Path\nfrom typing import *\n"
    return imports + "\n".join(f"{name}: {annotation!r} = ..." for name, (annotation, _) in values.items())


def is_argument(text: str) -> bool:
    """Whether a text can be an argument of a program at all."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


@pytest.mark.parametrize("door", ["-p", "YAML", "JSON", "run_notebook"])
def test_values_arrive_as_they_are(door: str, bare_workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_WARM", "no")
    speakable = {"run_notebook": TYPED, "-p": {name: strategy for name, (strategy, _) in WORDS.items()}}.get(door)
    speakable = speakable or {name: TYPED[name].filter(lambda value: not unspeakable(value)) for name in FILED if name not in ("dict", "Any")}
    values = collected(speakable, 12)
    attacks = [text for text in ATTACKS if door != "-p" or is_argument(text)]
    values |= {f"x_{len(values) + at}": ("str", text) for at, text in enumerate(attacks)}
    values |= {f"x_{len(values) + at}": (annotation, value) for at, (annotation, value) in enumerate([("list[str]", attacks), ("dict[str, str]", dict.fromkeys(attacks, "a"))])}
    words: list[str] = []
    if door == "-p":
        spelled = {name: WORDS[annotation][1](value) if annotation in WORDS else json.dumps(value) for name, (annotation, value) in values.items()}
        values = {name: values[name] for name, text in spelled.items() if is_argument(text)}
        assert len(values) > len(spelled) / 2
        words = [word for name in values for word in ("-p", name, spelled[name])]
    write("values.ipynb", REPORT, parameters=declaring(values))
    command = [BIN / "mltoolkit", "run", "values.ipynb", "--no-track"]
    if door == "run_notebook":
        Path("given.pickle").write_bytes(pickle.dumps({name: value for name, (_, value) in values.items()}))
        program = "import pickle, mltoolkit; mltoolkit.run_notebook('values.ipynb', parameters=pickle.load(open('given.pickle', 'rb')), track=False)"
        command = [sys.executable, "-c", program]
    else:
        given = {name: filed(value) for name, (_, value) in values.items()}
        if door == "YAML":
            Path("given.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
        elif door == "JSON":
            Path("given.json").write_text(json.dumps(given), encoding="utf-8")
        command += words or ["-f", f"given.{door.lower()}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    arrived = pickle.loads(Path("seen.pickle").read_bytes())
    differing = [f"{annotation}: {value!a} is {arrived[name]!a}" for name, (annotation, value) in values.items() if not same(value, arrived[name])]
    assert not differing, "\n".join(differing)
    assert list(bare_workspace.rglob("canary*")) == []


NAMES = st.one_of(
    st.sampled_from([*ATTACKS, "x; import os", "x = 1\nimport os", "x\n", " x", "x.y", "x[0]", "*x", "x,y", "", "1x", "x-y", "lambda", "None", "__import__('os')", "x:int", "x#", "\uff58; y"]),
    st.text().filter(lambda text: text != "x"),
)


def test_names_that_are_not_declared_are_refused_before_anything_runs(bare_workspace: Path, write: Callable[..., Path]) -> None:
    source = write("names.ipynb", "1", parameters="x: int = 1")

    @given(NAMES)
    def refused(name: str) -> None:
        with pytest.raises(ParameterError):
            run_notebook(source, parameters={name: 1}, track=False)

    refused()
    for way in (["-p", "__import__('os').mkdir('canary')", "1"], ["-y", "{\"x;__import__('os').mkdir('canary')#\": 1}"], ["-r", "x=1;import os", "1"]):
        done = subprocess.run([BIN / "mltoolkit", "run", "names.ipynb", "--no-track", *way], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert list(bare_workspace.rglob("canary*")) == []
    assert not (bare_workspace / ".mltoolkit" / "runs").exists()


def test_a_thousand_runs_leave_nothing(thousand: tuple[Place, subprocess.Popen[str]]) -> None:
    left_nothing(*thousand, 1009)
