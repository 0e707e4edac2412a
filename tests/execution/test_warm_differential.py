"""A notebook gives the same in a kernel that was forked as in one that was started from nothing."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import notebook_of
from warm import PACKAGES, PRELOAD, Place, Ran, runtime_folder
from warm_cases import CASES

from mltoolkit.errors import Status
from mltoolkit.notebook import document

FLIGHTS = Path(__file__).parents[2] / "projects" / "flights"
WITHOUT_A_SPARE = [
    "environment", "signals", "interpreter", "logging", "streams_of_packages", "threads", "plots_without_a_screen", "subprocesses", "at_exit",
    "pool_by_spawn", "shell", "terminated",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with runtime_folder():
        yield Place.make(tmp_path_factory.mktemp("warm") / "workspace", ", ".join(PRELOAD), **PACKAGES)


@pytest.fixture(scope="module")
def cold(place: Place, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Ran]]]:
    """The notebooks of the tests that were chosen, being executed two at a time."""
    chosen = [item.callspec.params["name"] for item in request.session.items if "name" in getattr(item, "callspec", _NoParams).params]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, place, name, "cold") for name in dict.fromkeys(chosen)}
        pool.shutdown(cancel_futures=True)


def differences(cold: Ran, warm: Ran) -> list[str]:
    """The lines in which two executed notebooks differ."""
    both = [json.dumps(ran.shown(), indent=1, sort_keys=True, ensure_ascii=False).replace("\\n", "\n").splitlines() for ran in (cold, warm)]
    return [line[:600] for line in difflib.unified_diff(*both, "cold", "warm", lineterm="", n=2)]


class _NoParams:
    params: ClassVar[dict[str, Any]] = {}


def run(place: Place, name: str, how: str, **files: str) -> Ran:
    case = CASES[name]
    return place.execute(
        *case.cells, folder=f"{name}/{how}", warm=how != "cold", files={**case.files, **files}, env=case.env, cell_timeout=120, grace=case.grace
    )


@pytest.mark.parametrize("name", CASES)
def test_same_warm_and_cold(name: str, place: Place, cold: dict[str, Future[Ran]]) -> None:
    warm = run(place, name, "warm")
    assert warm.outcome.warm, "the kernel was not forked"
    expected = cold[name].result()
    assert not expected.outcome.warm
    found = differences(expected, warm)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", WITHOUT_A_SPARE)
def test_same_in_a_kernel_that_was_not_forked_ahead(name: str, place: Place, cold: dict[str, Future[Ran]]) -> None:
    warm = run(place, name, "anew", **{"ipython_config.py": ""})  # which a spare cannot have read
    assert warm.outcome.warm
    found = differences(cold[name].result(), warm)
    assert not found, "\n".join(found)


def test_what_is_random_differs(place: Place) -> None:
    runs = [place.execute(RANDOM, folder="random", files=files) for files in ({}, {}, {"ipython_config.py": ""}, {})]
    drawn = [ran.notebook.cells[0].outputs[-1].data["text/plain"].splitlines() for ran in runs]
    assert all(ran.outcome.warm for ran in runs)
    assert len(drawn[0]) >= 10
    for values in zip(*drawn, strict=True):
        assert len(set(values)) == len(runs), values


def test_the_next_notebook_does_not_notice(place: Place) -> None:
    before = place.execute(STATE, folder="spoilt")
    spoilt = place.execute(SPOIL, STATE, folder="spoilt")
    after = place.execute(STATE, folder="spoilt")
    assert spoilt.notebook.cells[1].outputs != before.notebook.cells[0].outputs
    assert after.shown() == before.shown()
    assert before.outcome.warm
    assert after.outcome.warm


@pytest.mark.parametrize(
    ("files", "source"),
    [
        ({"scipy.py": "mine = 1"}, "import scipy\nscipy.mine"),
        ({"sklearn/__init__.py": "mine = 2"}, "import sklearn\nsklearn.mine, sklearn.__file__"),
        ({"matplotlibrc": "lines.linewidth: 7"}, "import matplotlib\nmatplotlib.rcParams['lines.linewidth'], matplotlib.matplotlib_fname()"),
        ({"string.py": "mine = 3"}, "import string\nhasattr(string, 'mine')"),
    ],
    ids=["module", "package", "matplotlibrc", "standard"],
)
def test_file_of_the_notebooks_own_that_has_the_name_of_a_package(place: Place, files: dict[str, str], source: str) -> None:
    both = [place.execute(source, folder=f"shadow-{next(iter(files)).partition('.')[0].replace('/', '-')}/{how}", files=files, warm=how == "warm") for how in ("cold", "warm")]  # fmt: skip
    assert both[0].shown() == both[1].shown()
    assert both[1].outcome.warm == ("string.py" in files)
    assert both[0].outcome.status == Status.succeeded


def test_runs_are_the_same_untracked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the public function: seeded, with parameters, beside each other."""
    from mltoolkit import run_notebook

    for name in set(os.environ) - set(place.env):
        monkeypatch.delenv(name)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    cells = "import random, numpy as np, pandas as pd", "n * random.random(), np.random.rand(2), pd.Series(range(n)).sample(2).tolist(), {'a', 'b'}"
    source = place.root / "seeded.ipynb"
    document.write(notebook_of(*cells, parameters="n: int = 1"), source)
    runs = [run_notebook(source, place.root / f"{warm}.ipynb", {"n": 7}, track=False, warm=warm) for warm in (False, True, True)]
    assert [run.kernel.warm for run in runs] == [False, True, True]
    shown = [[cell.get("outputs") for cell in document.read(place.root / f"{warm}.ipynb").cells] for warm in (False, True)]
    assert shown[0] == shown[1]


def test_memory_of_a_further_kernel(place: Place) -> None:
    measure = "print([line for line in open('/proc/self/smaps_rollup') if line.startswith('Pss:')][0].split()[1])"
    imports = "import pandas, matplotlib.pyplot, sklearn.ensemble, mlflow"
    sizes = {warm: int(place.execute(imports, measure, folder="memory", warm=warm).text) for warm in (False, True)}
    assert sizes[True] <= 0.5 * sizes[False], sizes


RANDOM = """import random, secrets, tempfile, uuid, multiprocessing
import numpy as np, scipy.stats, pandas as pd, its_own_generators
from sklearn.utils import check_random_state
from mlflow.utils.name_utils import _generate_random_name
drawn = [random.random(), np.random.rand(), np.random.default_rng().random(), scipy.stats.norm.rvs(), check_random_state(None).rand(),
         pd.Series(range(10**6)).sample(1).tolist(), secrets.token_hex(), uuid.uuid4(), uuid.uuid1(), tempfile.mktemp(),
         multiprocessing.current_process().authkey, _generate_random_name(), random.Random().random(), np.random.RandomState().rand()]
print(end='')
class Lines:
    def __repr__(self): return "\\n".join(map(repr, drawn))
Lines()"""
SPOIL = """import os, sys, pandas as pd, numpy as np, matplotlib, random, decimal, warnings, logging, locale, signal, json
pd.DataFrame.head = lambda self: 'patched'
pd.options.display.max_rows = 3
np.set_printoptions(precision=2); np.seterr(all='raise')
matplotlib.rcParams['lines.linewidth'] = 9
json.JSONDecoder.spoilt = 'patched'
os.environ['SPOILT'] = 'yes'; os.chdir('/'); os.umask(0o077)
sys.path.append('/spoilt'); sys.setrecursionlimit(777)
decimal.getcontext().prec = 3
warnings.simplefilter('error'); logging.disable(50)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open('/dev/null').close()"""
STATE = """import os, sys, pandas as pd, numpy as np, matplotlib, decimal, warnings, logging, signal, json
table = pd.DataFrame({'a': range(3)})
print(table.head(), pd.options.display.max_rows, np.array([1 / 3]), np.geterr(), matplotlib.rcParams['lines.linewidth'], hasattr(json.JSONDecoder, 'spoilt'))
print(os.environ.get('SPOILT'), os.getcwd(), oct(os.umask(0o022)), sys.path, sys.getrecursionlimit(), decimal.getcontext().prec)
print([f for f in warnings.filters if f[0] == 'error'], logging.root.manager.disable, signal.getsignal(signal.SIGTERM))"""


# The project of flights


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's use of SQLAlchemy 2.1
def test_flights_are_the_same(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare, train and evaluate, with all that is recorded of it."""
    pytest.importorskip("skops", reason="the extra `flights` is not installed")
    from mltoolkit import run_notebook

    project = Path(shutil.copytree(FLIGHTS, workspace / "projects" / "flights", ignore=shutil.ignore_patterns("__pycache__")))
    sample = {"sample": 0.05}
    found = {}
    with runtime_folder():
        for warm in (False, True):
            prepared = [run_notebook(project / "01_prepare.ipynb", parameters={"month": month, **sample}, warm=warm) for month in (1, 3)]
            trained = run_notebook(project / "02_train.ipynb", parameters={"months": [1], "max_iter": 20, **sample}, warm=warm)
            chosen = {"model_run": trained.run_id, "month": 3, "draws": 20, **sample}
            evaluated = run_notebook(project / "03_evaluate.ipynb", parameters=chosen, warm=warm)
            runs = [*prepared, trained, evaluated]
            assert [run.kernel.warm for run in runs] == [warm] * 4
            found[warm] = [(run.metrics, [(use.name, use.digest, use.rows, use.version) for use in run.datasets]) for run in runs]
    assert found[True] == found[False]
    assert all(metrics for metrics, _ in found[True])
