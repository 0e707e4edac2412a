"""What is imported before a fork and what is not, when a zygote is out of date, and spares."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import notebook_of
from processes import gone, wait_for
from warm import Place, zygote_folder

from mltoolkit import run_notebook
from mltoolkit.execution import kernels, zygote
from mltoolkit.notebook import document
from mltoolkit.record import tracking

__all__ = ["zygote_folder"]  # a fixture

UNFIT = {
    "starts_thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n",
    "starts_process": "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n",
    "prints": "print('hello from an import')\n",
    "warns": "import warnings\nwarnings.warn('seen by the user', UserWarning)\n",
    "asks": "from IPython import get_ipython\nshell = get_ipython()\n",
    "handles": "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: None)\n",
    "raises": "raise RuntimeError('not today')\n",
    "exits": "raise SystemExit(3)\n",
}
FIT = {"fit": "value = 1\n", "later": "value = 2\n", "reads": "import os\nvalue = os.environ.get('READ_AT_IMPORT', 'unset')\n"}


@pytest.fixture
def place(tmp_path: Path, zygote_folder: Path) -> Place:
    return Place.make(tmp_path / "workspace", "auto", **UNFIT, **FIT)


def loaded(place: Place, *names: str, **options: object) -> list[bool]:
    """Which modules are there in a fresh kernel."""
    ran = place.execute(f"import sys\nprint([name in sys.modules for name in {names!r}])", **options)
    assert ran.outcome.warm
    found: list[bool] = json.loads(ran.text.lower())
    return found


def notebook(place: Place, name: str, *cells: str) -> Path:
    path = place.root / name
    document.write(notebook_of(*cells), path)
    return path


# What is preloaded


def test_what_does_not_fork_well_is_left_to_the_notebook(place: Place) -> None:
    notebook(place, "all.ipynb", *(f"import {name}" for name in [*UNFIT, "fit"]))
    assert loaded(place, "fit", *UNFIT) == [True] + [False] * len(UNFIT)
    (state,) = kernels.zygotes()
    assert state.excluded == {
        "starts_thread": "starts a thread when it is imported",
        "starts_process": "starts a process when it is imported",
        "prints": "prints something when it is imported",
        "warns": "prints something when it is imported",
        "asks": "asks whether it runs in IPython when it is imported",
        "handles": "handles signals when it is imported",
        "raises": "RuntimeError: not today",
        "exits": "SystemExit: 3",
    }
    assert state.preloaded == ["fit"]
    both = [place.execute("import prints, warns, asks, starts_thread\nasks.shell is get_ipython()", warm=warm) for warm in (True, False)]
    assert both[0].shown() == both[1].shown()


@pytest.mark.parametrize("name", zygote.KNOWN)
def test_what_is_known_not_to_fork_well_does_not(name: str) -> None:
    code = f"""import importlib, sys
from mltoolkit.execution import zygote
trial = zygote.Trial()
with trial.listening():
    importlib.import_module({name!r})
print(trial.objection())"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == zygote.KNOWN[name]


def test_what_is_known_not_to_fork_well_is_not_tried(place: Place) -> None:
    notebook(place, "all.ipynb", "import fastcore.test", "import fit")
    assert loaded(place, "fit", "fastcore.test") == [True, False]
    (state,) = kernels.zygotes()
    assert state.excluded == {"fastcore.test": zygote.KNOWN["fastcore.test"]}


def test_imports_are_learned_from_notebooks(place: Place) -> None:
    notebook(place, "first.ipynb", "import fit")
    assert loaded(place, "fit", "later") == [True, False]
    (before,) = kernels.zygotes()
    path = notebook(place, "second.ipynb", "from later import value")
    place.execute("1", env={"IPYNB_FILE": path.name})
    wait_for(lambda: [state for state in kernels.zygotes() if "later" in state.preloaded], "the import to be learned")
    assert loaded(place, "fit", "later") == [True, True]
    (after,) = kernels.zygotes()
    assert after.pid == before.pid  # it stays the parent of kernels that are alive


def test_a_workspaces_own_modules_are_never_preloaded(place: Place) -> None:
    (place.root / "own.py").write_text("value = 3\n")
    notebook(place, "own.ipynb", "import own, fit")
    assert loaded(place, "own", "fit") == [False, True]


def test_kernels_with_another_value_of_a_variable_come_from_another_zygote(place: Place) -> None:
    notebook(place, "reads.ipynb", "import reads")
    values = []
    for env in ({}, {"READ_AT_IMPORT": "one"}, {"READ_AT_IMPORT": "two", "NOT_READ": "x"}, {"READ_AT_IMPORT": "one", "NOT_READ": "y"}):
        ran = place.execute("import reads, os, sys\nprint(reads.value, os.environ.get('NOT_READ'))", env=env)
        values.append(ran.text.split())
        assert ran.outcome.warm
    assert values == [["unset", "None"], ["one", "None"], ["two", "x"], ["one", "y"]]
    assert len(kernels.zygotes()) == 3  # what nobody reads makes no difference


def test_finding_imports(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    document.write(notebook_of("import numpy.linalg as la, json\n%matplotlib inline\n!pip\nlen?", "def broken(:", "from pandas import DataFrame", "from . import x", "import mltoolkit, not_there"), path)
    assert zygote.imports(str(path)) == ["numpy.linalg", "pandas"]
    for name, text in (("b", "{"), ("c", "[]"), ("d", '{"cells": 3}'), ("e", '{"cells": [1, {"cell_type": "code", "source": ["import ", "numpy"]}]}')):
        (tmp_path / f"{name}.ipynb").write_text(text)
    assert [zygote.imports(str(tmp_path / f"{name}.ipynb")) for name in "bcdex"] == [[], [], [], ["numpy"], []]
    (tmp_path / ".hidden").mkdir()
    document.write(notebook_of("import scipy"), tmp_path / ".hidden" / "f.ipynb")
    assert set(zygote.discover(str(tmp_path))) == {"numpy.linalg", "pandas", "numpy"}
    assert not zygote.third_party("json")


# Out of date


def test_an_installed_package_makes_a_new_one(place: Place) -> None:
    notebook(place, "fit.ipynb", "import fit")
    assert loaded(place, "fit") == [True]
    (before,) = kernels.zygotes()
    (place.packages / "new-1.0.dist-info").mkdir()
    assert loaded(place, "fit") == [True]
    (after,) = kernels.zygotes()
    assert after.pid != before.pid
    assert place.execute("1").outcome.warm
    assert kernels.zygotes()[0].pid == after.pid


def test_a_changed_file_makes_a_new_one(place: Place) -> None:
    notebook(place, "fit.ipynb", "import fit")
    assert place.execute("import fit\nprint(fit.value)").text == "1\n"
    (place.packages / "fit.py").write_text("value = 'changed'\n")
    ran = place.execute("import fit\nprint(fit.value)")
    assert (ran.text, ran.outcome.warm) == ("changed\n", True)
    (place.packages / "fit.py").unlink()
    gone = place.execute("import importlib.util\nprint(importlib.util.find_spec('fit'))")
    assert (gone.text, gone.outcome.warm) == ("None\n", True)


ROOM = """
import json, resource, sys
from mltoolkit.execution import zygote

def largest():
    sizes = []
    for line in open("/proc/self/maps"):
        words = line.split()
        start, end = (int(part, 16) for part in words[0].split("-"))
        sizes += [end - start] if len(words) == 5 else []
    return max(sizes) >> 20

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

before = largest(), resident()
held = zygote.room(64)
during = largest(), resident()
kept = [bytes(100) for _ in range(100_000)]
inside = resident()
held.clear()
print(json.dumps([before, during, inside, (largest(), resident())]))
"""


def test_memory_for_what_is_preloaded_is_in_one_piece_and_the_rest_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", ROOM], capture_output=True, text=True, check=True)
    before, during, inside, after = json.loads(done.stdout)
    assert before[0] < 32
    assert during[0] >= 60  # MB
    assert during[1] >= before[1] + 60
    assert inside <= during[1] + 4  # what is made then lies there
    assert after[1] <= before[1] + 30


# Spares


def test_a_spare_is_taken_and_another_comes(place: Place) -> None:
    taken = [int(place.execute("import os; print(os.getpid())").text)]
    (state,) = kernels.zygotes()

    def another() -> int:
        found = waiting(state.pid)
        return 0 if found in taken else found  # one that ends may be there for a moment

    for _ in range(3):
        spare = wait_for(another, "a spare")
        ran = place.execute("import os; print(os.getpid())")
        assert (ran.text, ran.outcome.warm) == (f"{spare}\n", True)
        taken.append(spare)
    wait_for(another, "another spare")
    wait_for(lambda: [(each.served, each.kernels) for each in kernels.zygotes()] == [(4, 0)], "four kernels to have been served, and to be gone")


def waiting(zygote: int) -> int:
    """The kernel that waits to be asked for: below the zygote there is the template, below it the supervisor."""
    below = [zygote]
    for _ in range(3):
        below = [child for pid in below for child in zygote_children(pid)]
    return below[0] if len(below) == 1 else 0


def test_a_kernel_that_says_it_ends_has_done_all_it_had_to_do(place: Place) -> None:
    place.execute("1")
    done = place.root / "done.txt"
    code = f"""
import atexit, os, pathlib, threading, time
def last():
    time.sleep(0.3)
    pathlib.Path({str(done)!r}).write_text(str(os.getpid()))
atexit.register(last)
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
if not os.fork():
    os._exit(0)  # it has its parent's link to the supervisor, too
os.wait()
"""
    ran = place.execute(code)
    assert (ran.outcome.warm, ran.outcome.status.value, ran.outcome.usage.exit_code, ran.outcome.usage.leftover) == (True, "succeeded", 0, 0)
    assert ran.outcome.usage.peak_memory_bytes > 30_000_000
    kernel = int(done.read_text())
    wait_for(lambda: gone(kernel), "the kernel to be gone")


def test_files_that_ipython_executes_at_the_start(place: Place, tmp_path: Path) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    env = {"IPYTHONDIR": str(tmp_path / "ipython")}
    assert place.execute("'at_start' in globals()", env=env).outcome.warm
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00.py").write_text("at_start = 'executed'\n")
    for warm in (False, True, True):
        ran = place.execute("print(at_start)", env=env, warm=warm)
        assert (ran.text, ran.outcome.warm) == ("executed\n", warm)


def test_configuration_of_ipython(place: Place, tmp_path: Path) -> None:
    place.execute("1")
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c = get_config()\nc.InteractiveShell.ast_node_interactivity = 'all'\n")
    both = [place.execute("1\n2", folder=f"configured-{warm}", env={"IPYTHONDIR": str(tmp_path / "ipython")}, warm=warm) for warm in (True, False)]
    assert both[0].shown() == both[1].shown()
    assert len(both[0].notebook.cells[0].outputs) == 2
    assert both[0].outcome.warm


def test_spares_end_with_the_zygote(place: Place) -> None:
    place.execute("1")
    (state,) = kernels.zygotes()
    spare = wait_for(lambda: waiting(state.pid), "a spare")
    (template,) = zygote_children(state.pid)
    kernels.stop_zygotes()
    wait_for(lambda: gone(template) and gone(spare), "the template and the spare to be gone")


def test_a_template_that_is_killed_is_replaced(place: Place) -> None:
    place.execute("1")
    (state,) = kernels.zygotes()
    wait_for(lambda: waiting(state.pid), "a spare")
    (template,) = zygote_children(state.pid)
    os.kill(template, signal.SIGKILL)
    wait_for(lambda: gone(template), "the template to be gone")
    assert place.execute("1").outcome.warm
    wait_for(lambda: waiting(state.pid), "another spare")


def zygote_children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# Messages


def test_messages_with_files(tmp_path: Path) -> None:
    left, right = socket.socketpair()
    content = {"text": "ü\udcff" * 200_000}
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    sending = threading.Thread(target=zygote.send, args=(left, content, [file]))
    sending.start()
    received, files = zygote.receive(right)
    sending.join()
    assert received == content
    os.write(files[0], b"through")
    assert (tmp_path / "file").read_text() == "through"
    assert zygote.peer(left) == os.getuid()
    left.sendall((5).to_bytes(8, "big") + b"{}")
    left.close()
    with pytest.raises(EOFError):
        zygote.receive(right)
    with pytest.raises(EOFError):
        zygote.receive(right)
    for each in (file, *files):
        os.close(each)
    right.close()


def test_what_differs_from_run_to_run_does_not_last() -> None:
    assert zygote.lasting({"A": "1", "MLTOOLKIT_SEED": "2", "OLDPWD": "/", "IPYNB_FILE": "x"}) == {"A": "1"}


def test_the_first_run_in_a_workspace_warms_up_for_the_next_while_the_store_is_created(bare_workspace: Path, zygote_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_WARM", "true")
    path = bare_workspace / "one.ipynb"
    document.write(notebook_of("1"), path)
    here: list[bool] = []
    create = tracking._create

    def created(store: Path, artifacts: str) -> Path:
        here.append(bool(list(zygote_folder.rglob("*.lock"))))
        return create(store, artifacts)

    monkeypatch.setattr(tracking, "_create", created)
    run_notebook(path)
    wait_for(kernels.zygotes, "the zygote")
    assert here == [True]
    assert run_notebook(path).kernel.warm
    assert len(kernels.zygotes()) == 1
    assert len(list(zygote_folder.rglob("*.lock"))) == 1


def test_a_template_that_is_forked_for_a_request_holds_nothing_of_it(place: Place) -> None:
    kernels.warm_up(place.root, place.env)  # which asks for no kernel, and so for none ahead of need
    wait_for(kernels.zygotes, "the zygote")
    assert place.execute("1").outcome.warm
    (state,) = kernels.zygotes()
    here = {os.readlink(f"/proc/self/fd/{each}") for each in (1, 2)}
    opened = [os.readlink(each) for each in Path(f"/proc/{state.template}/fd").iterdir()]
    assert state.template
    assert not here & set(opened)
    assert sum(each.startswith("socket:") for each in opened) <= 2  # to the zygote, and to the kernel that waits


def test_the_first_value_that_a_warm_kernel_logs_is_not_kept_waiting_by_imports(workspace: Path, zygote_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_WARM", "true")
    path = workspace / "one.ipynb"
    logging = "import sys\nbefore = set(sys.modules)\nmlflow.log_metric('m', 1)\nsorted(name for name in set(sys.modules) - before if name.startswith(('mlflow.store.tracking', 'mltoolkit', 'sqlalchemy')))"
    document.write(notebook_of("import mlflow", logging), path)
    run = run_notebook(path, warm=True)
    assert run.kernel.warm
    imported = ast.literal_eval(document.read(run.output).cells[1].outputs[0].data["text/plain"])
    assert imported == []
