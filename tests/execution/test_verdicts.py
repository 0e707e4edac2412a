"""Small notebooks with known verdicts, each executed twice as a run of record: no false `identical`, no false `different`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import notebook_of, tagged

from mltoolkit.cli import main
from mltoolkit.errors import NotebookFailed
from mltoolkit.execution.compare import Verdict
from mltoolkit.execution.reproduce import Request, compare_with, recover
from mltoolkit.execution.resume import resume
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document
from mltoolkit.record import runs
from mltoolkit.record.manifest import Run

NOISE = {  # what is the same twice in a run of record, if what has to differ is taken for what it is
    "seeded by the run": "import random\nprint(random.random(), random.sample(range(99), 3))",
    "hash of a text": "print(hash('a'), {hash('b'): 1})",
    "order of a set": "print({'x', 'y', 'z', 'u', 'v', 'w'})",
    "legacy NumPy": "import numpy as np\nprint(np.random.normal(size=3), np.random.permutation(5))",
    "own generator": "import numpy as np\nprint(np.random.default_rng(3).normal(size=3))",
    "addresses": "print(object(), print, lambda: 1)",
    "an instance": "class Model: pass\nprint([Model(), Model()])",
    "now": "import datetime\nprint(datetime.datetime.now(), datetime.date.today())",
    "a log line": "import time\nprint(time.strftime('%Y-%m-%d %H:%M:%S INFO loaded'))",
    "seconds since 1970": "import time\nprint(f'{time.time():.3f}')",
    "a duration": "import time\nstarted = time.perf_counter(); sum(range(10**5)); print(f'took {time.perf_counter() - started:.4f} s')",
    "a temporary folder": "import tempfile, os\nprint(os.path.join(tempfile.mkdtemp(), 'model.bin'))",
    "a progress bar": "import sys, time\nfor n in range(5): print(f'\\rfit: {n * 25:3d}%|{\"#\" * n}| {n}/4 [00:0{n}<00:00, {time.perf_counter_ns() % 90 + 1}.5it/s]', end='')",
    "its own folder": "import os\nprint(os.getcwd())",
    "the run's id": "import os\nprint(os.environ['MLTOOLKIT_RUN_DIR'].split('/')[-1])",
    "an error": "raise ValueError(object())",
    "a failed check": "assert sum([1, 2]) == 4, 'the sum is wrong'",
    "a table": "import pandas as pd\nprint(pd.DataFrame({'a': [1.5, None], 'b': ['x', 'y']}))",
    "arithmetic": "print(0.1 + 0.2, 1 / 3, 10**20)",
    "sorted by address": "print(len(sorted([object(), object()], key=id)))",
    "a parameter": "print(n * 2)",
    "nothing": "pass",
}  # fmt: skip
CHANCE = {  # what differs, and has to be called different, though it looks much like the above
    "system's chance": "import os\nprint(os.urandom(4).hex())",
    "a uuid": "import uuid\nprint(uuid.uuid4())",
    "unseeded generator": "import numpy as np\nprint(np.random.default_rng().normal())",
    "secrets": "import secrets\nprint(secrets.randbelow(10**9))",
    "process": "import os\nprint('worker', os.getpid())",
    "identity": "x = object(); import time\nprint(f'key {time.perf_counter_ns()}')",
    "a counter on disk": "from pathlib import Path\nfile = Path('count'); n = int(file.read_text()) + 1 if file.exists() else 1; file.write_text(str(n)); print(n)",
    "one more line": "from pathlib import Path\nfile = Path('lines'); file.touch(); print('\\n'.join(['same'] * file.stat().st_size), end=''); file.write_text(file.read_text() + 'x')",
    "fails the second time": "from pathlib import Path\nfile = Path('marker'); existed = file.exists(); file.touch()\nassert not existed",
    "fails otherwise": "from pathlib import Path\nfile = Path('other'); existed = file.exists(); file.touch()\nraise ValueError('second' if existed else 'first')",
    "almost the same number": "from pathlib import Path\nfile = Path('number'); x = 0.8123 + file.exists() * 0.0001; file.touch(); print('auc', x)",
    "a date that is none of the run": "from pathlib import Path\nfile = Path('date'); print('valid until 2031-01-0' + str(1 + file.exists())); file.touch()",
    "an address in a sentence": "import os\nprint('fault at 0x' + os.urandom(6).hex())",
}  # fmt: skip


@pytest.fixture
def twice(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> Callable[..., tuple[Run, Run]]:
    """Executes a notebook of one cell two times."""

    def once(path: Path) -> Run:
        try:
            return run_notebook(path, track=False, gate=False)
        except NotebookFailed as error:
            return error.run

    def executing(source: str) -> tuple[Run, Run]:
        path = write("a.ipynb", "before = 1", source, parameters="n: int = 1", kernel=tiny)
        return once(path), once(path)

    return executing


def verdict(original: Run, repeated: Run, **tolerance: float) -> tuple[Verdict, Any]:
    root = runs.settings.workspace()
    found = compare_with(recover(original, root, None), repeated, Request(**tolerance))[0]  # type: ignore[arg-type]
    return found.verdict, found.first


@pytest.mark.parametrize("name", NOISE)
def test_no_false_different(name: str, twice: Callable[..., tuple[Run, Run]]) -> None:
    found, first = verdict(*twice(NOISE[name]))
    assert found is Verdict.identical, first


@pytest.mark.parametrize("name", CHANCE)
def test_no_false_identical(name: str, twice: Callable[..., tuple[Run, Run]]) -> None:
    original, repeated = twice(CHANCE[name])
    found, first = verdict(original, repeated)
    assert (found, first and first.cell) == (Verdict.different, 2), first
    if name == "almost the same number":
        assert verdict(original, repeated, rtol=0.001)[0] is Verdict.within_tolerance


# --- a resumed run is repeated as a whole


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_resumed_run_is_repeated_from_its_first_cell(bare_workspace: Path, tiny: str, write: Callable[..., Path]) -> None:
    """The repetition executes what the resumed run had taken over, and no checkpoint helps it."""
    above = ["import random", tagged("drawn = [random.random()]\nprint('hours later', drawn)", "checkpoint", "keep:drawn")]
    git(bare_workspace, "init", "-q")
    path = write("late.ipynb", *above, "print(drawn, random.random())\n1 / 0", parameters="n: int = 1", kernel=tiny)
    git(bare_workspace, "add", "-A")
    git(bare_workspace, "commit", "-qm", "as it failed")
    with pytest.raises(NotebookFailed) as caught:
        run_notebook(path, parameters={"n": 2}, track=False, gate=False)
    document.write(notebook_of(*above, "print(drawn, random.random(), n)", parameters="n: int = 1", kernel=tiny), path)
    git(bare_workspace, "commit", "-qam", "as it was mended")
    resumed = resume(caught.value.run, gate=False)
    assert (resumed.resumed_from, resumed.cells.restored, resumed.cells.executed) == (caught.value.run.run_id, 3, 1)
    done = CliRunner().invoke(main, ["reproduce", resumed.run_id, "--env", "current", "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["verdict"], told["differences"]) == (0, "identical", []), told
    repeated = runs.find(told["repeated_run_id"])
    assert (repeated.cells.executed, repeated.cells.restored, repeated.resumed_from, repeated.environment.prefix) == (5, 0, None, sys.prefix)
