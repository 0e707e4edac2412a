"""Small notebooks, each about one thing that a fork could get wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conftest import tagged


@dataclass
class Case:
    """Cells, and what lies beside the notebook."""

    cells: tuple[Any, ...]
    files: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    grace: float = 30.0


def fails(source: str) -> Any:
    """A cell that is meant to raise."""
    return tagged(source, "raises-exception")


CASES: dict[str, Case] = {}


def case(name: str, *cells: Any, files: dict[str, str] | None = None, env: dict[str, str] | None = None, grace: float = 30.0) -> None:
    """Add a notebook."""
    CASES[name] = Case(cells, files or {}, env or {}, grace)


# What a process is given

case(
    "seeded",
    "import random, numpy as np, scipy.stats as st\nrandom.seed(7); np.random.seed(7)",
    "[random.random(), random.getstate()[1][:3], np.random.rand(3), np.random.default_rng(7).random(3), st.norm.rvs(size=2), hash('a'), {'b', 'c', 'a'}]",
    "import pandas as pd\npd.DataFrame({'a': range(9)}).sample(3)",
)
case(
    "environment",
    "import os\nown = {'JPY_PARENT_PID', '_MLTOOLKIT_SUPERVISOR'}\n"
    "of_mlflow = {'MLFLOW_TRACKING_URI', 'MLFLOW_DISABLE_TELEMETRY', 'DO_NOT_TRACK', '_MLFLOW_SERVER_ARTIFACT_ROOT'}\n"
    "sorted_out = own | of_mlflow\n{name: value for name, value in sorted(os.environ.items()) if name not in sorted_out and not name.startswith('KMP_')}",
    "type(os.environ), os.getenv('GIVEN'), os.environb[b'GIVEN'], sorted(own & set(os.environ)), int(os.environ['JPY_PARENT_PID']) == os.getppid()",
    "import ctypes\ngetenv = ctypes.CDLL(None).getenv\ngetenv.restype = ctypes.c_char_p\ngetenv(b'GIVEN'), getenv(b'OPENBLAS_NUM_THREADS'), getenv(b'JE_ARROW_MALLOC_CONF')",
    "!env | grep -v -e JPY_PARENT_PID -e _MLTOOLKIT_SUPERVISOR -e '^_=' -e MLFLOW -e DO_NOT_TRACK -e ^KMP_ | sort",
    "import sklearn, mlflow\n{name: value for name, value in sorted(os.environ.items()) if name not in own and not name.startswith('_MLFLOW_TELEMETRY')}",
    env={"GIVEN": "an ümlaut\nand a line"},
)
case(
    "folder_and_limits",
    "import os, resource\nfrom pathlib import Path\nos.getcwd(), Path('.').resolve(), sorted(os.listdir()), oct(os.umask(0o027)), oct(os.umask(0o022))",
    "{name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith('RLIMIT')}",
    "os.nice(0), os.sched_getaffinity(0), os.sched_getscheduler(0), os.getpgid(0) == os.getpid() == os.getsid(0), os.getgroups(), os.cpu_count()",
    "[line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(('SigB', 'SigI', 'SigC', 'Shd', 'Cap', 'NoNew', 'Secc', 'Umask'))]",
    "!ls -l /proc/self/fd | grep -o '[0-9]* ->' | sort",
    "import subprocess\nprint(subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True, close_fds=False).stdout)",
    "!cat /proc/self/oom_score_adj; ulimit -a",
)
case(
    "locale",
    "import locale, sys\nlocale.getlocale(), locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(), sys.getfilesystemencoding()",
    "sys.stdout.encoding, sys.stderr.encoding, sys.__stdout__.encoding, sys.__stderr__.errors, sys.stdin.encoding, open(0, closefd=False).encoding",
    "locale.setlocale(locale.LC_ALL, 'C'); locale.localeconv(), locale.getlocale()",
    "print('äöü €', '\\U0001f40d')",
)
case(
    "timezone",
    "import time, datetime, zoneinfo\ntime.tzname, time.timezone, time.localtime(0).tm_hour, datetime.datetime.fromtimestamp(0)",
    "import pandas as pd, dateutil.tz\npd.Timestamp(0, tz='tzlocal()'), dateutil.tz.tzlocal(), datetime.datetime(2024, 7, 1, tzinfo=dateutil.tz.tzlocal()).utcoffset()",
    "datetime.datetime.fromtimestamp(1.7e9).astimezone().tzname(), zoneinfo.ZoneInfo('Europe/Berlin').utcoffset(datetime.datetime(2024, 7, 1)), zoneinfo.TZPATH",
    "import os\nos.environ['TZ'] = 'Asia/Tokyo'; time.tzset(); time.tzname, len(zoneinfo.available_timezones()) > 300",
    env={"TZ": "America/New_York"},
)
case(
    "signals",
    "import signal, time\n{number.name: repr(signal.getsignal(number)) for number in signal.valid_signals() if isinstance(number, signal.Signals)}",
    "signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.set_wakeup_fd(-1) >= 0, signal.getitimer(signal.ITIMER_REAL)",
    fails("signal.raise_signal(signal.SIGINT)\nimport time; time.sleep(20)"),
    fails("import os\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(20)"),
    "signal.signal(signal.SIGALRM, lambda *_: print('rang')); signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.2)",
    "!grep -e SigIgn -e SigBlk /proc/self/status",
    "import subprocess\nchild = subprocess.Popen(['sleep', '20']); child.send_signal(signal.SIGINT); child.wait()",
    "import faulthandler\nfaulthandler.is_enabled()",
)
case(
    "interpreter",
    "import sys\nsys.path, [a for a in sys.argv if 'kernel.json' not in a], sys.flags, sys.executable, sys.prefix, sys._xoptions, sys.warnoptions",
    "sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode, sys.pycache_prefix, sys.float_repr_style, sys.get_int_max_str_digits()",
    "type(sys.stdin), type(sys.stdout), type(sys.stderr), type(sys.__stdout__), sys.stdin.isatty(), sys.stdout.isatty(), sys.stdout.name, sys.__stderr__.name, "
    "sys.__stdout__.fileno(), sys.__stdin__.fileno()",
    "sys.excepthook, sys.displayhook, sys.breakpointhook, sys.unraisablehook, sys.gettrace(), sys.getprofile(), sys.ps1, [f for f in sys.meta_path if 'MetadataPathFinder' not in str(f)], sys.path_hooks",
    "main = sys.modules['__main__']\nmain, main.__dict__ is globals(), sorted(main.__dict__), main.__spec__, main.__loader__, main.__doc__, main.__builtins__.__name__",
    "import builtins\nsorted(set(dir(builtins)))",
    "sys.stdin.read(), sys.is_finalizing(), __name__, '__file__' in globals(), __import__('codecs').lookup('utf-8').name",
    "import gc\ngc.isenabled(), gc.get_threshold(), gc.callbacks, gc.get_debug(), gc.garbage, sys.getallocatedblocks() > 0, sys.audit('x'), sys.gettotalrefcount() if hasattr(sys, 'gettotalrefcount') else None",
    "import multiprocessing as mp\nmp.current_process().name, mp.current_process().daemon, mp.parent_process(), mp.get_start_method(allow_none=True), mp.active_children(), mp.process.ORIGINAL_DIR",
)
case(
    "warnings",
    "import warnings\nlen([f for f in warnings.filters if f[0] == 'error']), warnings.defaultaction, warnings.showwarning, warnings.onceregistry",
    "warnings.warn('one'); warnings.warn('two', DeprecationWarning); warnings.warn('three', FutureWarning); warnings.warn('four', PendingDeprecationWarning)",
    "for _ in range(3): warnings.warn('again')",
    "import local_old",
    "import pandas as pd, numpy as np\nnp.array([1.0]) / 0",
    "pd.to_datetime(['01/02/2024 x', '2024'], errors='coerce')",
    "import mlflow, sklearn.ensemble\nwarnings.warn('five', DeprecationWarning)\nlocal_old.call()",
    "class C:\n    def __del__(self): raise ValueError('unraisable')\nC(); None",
    "'\\d'",
    "[f[:3] for f in warnings.filters if f[2] is DeprecationWarning and '__main__' in str(f[3])]",
    files={"local_old.py": "import warnings\nwarnings.warn('imported', UserWarning)\nwarnings.warn('hidden', DeprecationWarning)\ndef call(): warnings.warn('called', DeprecationWarning, stacklevel=2)\n"},
)
case(
    "logging",
    "import logging\nlogging.root.level, [type(h) for h in logging.root.handlers], logging.lastResort, logging.raiseExceptions",
    "logging.warning('root'); logging.getLogger('other').error('other'); logging.info('not shown')",
    "import its_own_log, sys\nits_own_log.log.info('its own'); its_own_log.log.handlers[0].stream.write('direct\\n'); its_own_log.log.handlers",
    "import mlflow\nlog = logging.getLogger('mlflow.tracking')\nlog.warning('a warning'); log.info('information'); log.debug('not shown')",
    "[(name, each.level, each.propagate, each.handlers) for name, each in sorted(logging.root.manager.loggerDict.items()) if getattr(each, 'handlers', 0) and name != 'Comm']",
    fails("import sys\nlogging.basicConfig(stream=sys.stdout, level=logging.INFO, force=True); logging.info('shown now'); 1 / 0"),
)
case(
    "streams_of_packages",
    "import its_own_streams, sys\nits_own_streams.say('default'); print('out', file=its_own_streams.out); print('err', file=its_own_streams.err)",
    "its_own_streams.out.encoding, its_own_streams.out.fileno() == sys.stdout.fileno(), its_own_streams.err.isatty(), its_own_streams.err.name",
)
case(
    "variable_of_a_package",
    "import its_own_variable\nits_own_variable.wanted",
    env={"WANTED_BY_A_PACKAGE": "something"},
)
case(
    "threads",
    "import threading, os\n[(t.name, t.daemon, type(t)) for t in threading.enumerate() if not type(t).__module__.startswith('ipykernel')], threading.current_thread() is threading.main_thread()",
    "threading.main_thread().native_id == os.getpid(), threading.get_native_id() == os.getpid(), threading.excepthook, threading.stack_size()",
    "threads = [threading.Thread(target=lambda: print(threading.current_thread().name[-10:])) for _ in range(2)]\nfor t in threads: t.start(); t.join()",
    "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool: print(list(pool.map(lambda n: (n, threading.current_thread().name[:18]), range(3))))",
    "t = threading.Thread(target=lambda: 1 / 0, name='broken'); t.start(); t.join()",
    "local = threading.local(); local.x = 1; local.x",
)

# Numbers and pictures

case(
    "openmp",
    "import numpy as np\nfrom sklearn.ensemble import HistGradientBoostingClassifier\nX = np.random.default_rng(0).normal(size=(6000, 8)); y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int)",
    "model = HistGradientBoostingClassifier(max_iter=15, random_state=0).fit(X, y)\nmodel.score(X, y), model.predict_proba(X[:3])",
    "model",
    "import threadpoolctl\nsorted([{k: v for k, v in each.items()} for each in threadpoolctl.threadpool_info()], key=str)",
    "from sklearn.utils._openmp_helpers import _openmp_effective_n_threads\n_openmp_effective_n_threads()",
)
case(
    "blas",
    "import numpy as np, threadpoolctl, os\na = np.random.default_rng(0).normal(size=(900, 900))\nfloat((a @ a).sum()), float(np.linalg.svd(a[:200, :200])[1][0]), np.linalg.eigvalsh(a @ a.T)[-2:]",
    "sorted([each for each in threadpoolctl.threadpool_info() if 'numpy' in each['filepath']], key=str)",
    "len(os.listdir('/proc/self/task')) > 1",
    "with threadpoolctl.threadpool_limits(1): print({each['num_threads'] for each in threadpoolctl.threadpool_info()})",
    "np.geterr(), np.get_printoptions()",
    env={"OMP_NUM_THREADS": "", "A": "1"},
)
PICTURE = "fig, ax = plt.subplots(figsize=(2, 1))\nax.plot([1, 3, 2]); ax.set_title('t')"
case(
    "plots",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()",
    PICTURE,
    "fig",
    "plt.figure(figsize=(1, 1)); plt.figure(figsize=(1, 1)); plt.get_fignums(), plt.get_backend(), plt.isinteractive()",
    "plt.get_fignums()",
    "import matplotlib\ndict(matplotlib.rcParams)",
    "dict(matplotlib.rcParamsDefault) == dict(matplotlib.rcParamsOrig), matplotlib.rcParamsOrig['backend'], matplotlib.get_cachedir(), matplotlib.matplotlib_fname()",
    "import pandas as pd\npd.Series([1, 3]).plot(figsize=(1, 1))",
)
case(
    "plots_inline",
    "%matplotlib inline\n%config InlineBackend.figure_formats = ['svg']\nimport matplotlib.pyplot as plt\nplt.rcParams['svg.hashsalt'] = 'x'; plt.get_backend()",
    "fig, ax = plt.subplots(figsize=(1, 1)); fig.savefig('x.png'); __import__('os').path.getsize('x.png')",
    "import matplotlib.pyplot as plt\nplt.style.use('ggplot'); plt.rcParams['axes.facecolor']",
    "%config InlineBackend",
    "%matplotlib --list",
    "from IPython.core.pylabtools import select_figure_formats\nget_ipython().pylab_gui_select, get_ipython().active_eventloop, sorted(get_ipython().display_formatter.active_types)",
    "%matplotlib agg\nplt.get_backend()",
)
case("plots_before_pyplot", "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\nplt.get_backend()", PICTURE, "plt.show()")
case(
    "plots_without_a_screen",
    "import matplotlib.pyplot as plt\nplt.get_backend(), plt.rcParams['backend']",
    PICTURE,
    "plt.show()",
    "%matplotlib inline\nplt.get_backend()",
    PICTURE,
    env={"MPLBACKEND": "agg"},
)
case(
    "tables",
    "import pandas as pd, numpy as np\ntable = pd.DataFrame({'a': [1.5, None], 'b': ['x', 'y'], 'c': pd.to_datetime(['2024-01-01', None])}, index=['p', 'q'])\ntable",
    "display(table.describe(), table.dtypes); print(table); table.info()",
    "pd.options.display.max_rows, pd.get_option('display.width'), pd.options.mode.copy_on_write if hasattr(pd.options.mode, 'copy_on_write') else None",
    "with pd.option_context('display.max_rows', 3): display(pd.DataFrame(np.arange(40).reshape(20, 2)))",
    "print(pd.DataFrame(np.arange(60).reshape(2, 30) * 10**6)); pd.DataFrame(np.arange(24).reshape(2, 12) * 10**9), pd.options.display.max_columns",
    "{name: pd.get_option(name) for name in pd._config.config._registered_options if name != 'display.encoding' and not name.startswith('plotting')}",
    "table.style.format(precision=1)",
    "table.to_parquet('t.parquet'); pd.read_parquet('t.parquet').equals(table), pd.read_parquet('t.parquet', engine='pyarrow').shape",
    "import pyarrow as pa\npa.cpu_count(), pa.default_memory_pool().backend_name, pa.Table.from_pandas(table).num_rows, pd.array(['x', None], dtype='string[pyarrow]')",
)
case(
    "library_in_processes",
    "import numpy as np\nfrom sklearn.ensemble import RandomForestClassifier\nfrom sklearn.model_selection import cross_val_score\nX = np.random.default_rng(0).normal(size=(200, 4)); y = X[:, 0] > 0",
    "cross_val_score(RandomForestClassifier(10, random_state=0), X, y, cv=2, n_jobs=2)",
    "RandomForestClassifier(10, random_state=0, n_jobs=2).fit(X, y).score(X, y)",
    "from joblib.externals.loky import get_reusable_executor\nget_reusable_executor().shutdown(wait=True)",
)

# Processes

LOCAL = "import os\ndef square(n): return n * n\ndef where(_): return os.getcwd(), os.getppid() > 1\n"
case(
    "pool_by_fork",
    "import multiprocessing as mp, os, random, numpy as np\nfrom concurrent.futures import ProcessPoolExecutor\ndef twice(n): return 2 * n\nmp.get_start_method()",
    "with mp.Pool(2) as pool: print(pool.map(twice, range(5)), pool.apply(os.getcwd))",
    "with ProcessPoolExecutor(2, mp_context=mp.get_context('fork')) as pool: print(list(pool.map(twice, range(3))), pool.submit(np.dot, np.eye(2), np.eye(2)).result())",
    "q = mp.Queue(); p = mp.Process(target=lambda: q.put(mp.current_process().name)); p.start(); print(q.get()); p.join(); p.exitcode",
    "p = mp.Process(target=lambda: print('printed in a child', flush=True)); p.start(); p.join(); __import__('time').sleep(0.3)",
    "with mp.Manager() as manager: print(manager.list([1, 2]))",
    "p = mp.Process(target=os._exit, args=(4,)); p.start(); p.join(); p.exitcode",
    "pid = os.fork()\nif not pid: os._exit(3)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
)
case(
    "pool_by_spawn",
    "import multiprocessing as mp, local_functions, sys, os",
    "with mp.get_context('spawn').Pool(1) as pool: print(pool.map(local_functions.square, range(4)), pool.map(local_functions.where, [1]), pool.map(eval, ['__import__(\"sys\").path, __import__(\"sys\").argv[0][-20:]']))",
    "with mp.get_context('forkserver').Pool(1) as pool: print(pool.map(local_functions.square, range(4)))",
    files={"local_functions.py": LOCAL},
)
case(
    "asynchronous",
    "import asyncio\nawait asyncio.sleep(0.01)\ntype(asyncio.get_running_loop()).__name__, asyncio.get_event_loop_policy(), asyncio.get_running_loop().get_debug()",
    "async def one(n):\n    await asyncio.sleep(0)\n    return n\nawait asyncio.gather(*(one(n) for n in range(4)))",
    "async with asyncio.timeout(5): print(await asyncio.to_thread(sum, [1, 2]))",
    fails("waiting = one(1)\nasyncio.run(waiting)"),
    "waiting.close()",
    "p = await asyncio.create_subprocess_exec('echo', 'from a child', stdout=-1); print((await p.communicate())[0])",
    fails("await asyncio.wait_for(asyncio.sleep(20), 0.05)"),
    "asyncio.get_running_loop().is_running(), [type(s).__name__ for s in [asyncio.get_child_watcher()]]",
)
case(
    "subprocesses",
    "import subprocess, os\nsubprocess.run(['sh', '-c', 'echo out; echo err >&2; exit 3'], capture_output=True, text=True)",
    "!echo from a shell; pwd",
    "lines = !printf 'a\\nb\\n'\nlines, lines.n",
    "%%bash\necho in bash; umask",
    "%%bash\necho to stderr >&2",
    fails("%%bash\nexit 4"),
    "%%sh --out caught\necho caught",
    "caught",
    "import time\nos.system('echo by the system'); time.sleep(0.3)",
    "subprocess.run(['sh', '-c', 'echo straight; sleep 0.3']); None",
    "os.write(1, b'one\\n'); time.sleep(0.3); os.write(2, b'two\\n'); time.sleep(0.3)",
    "import ctypes\nctypes.CDLL(None).puts(b'from C'); ctypes.CDLL(None).fflush(None); time.sleep(0.3)",
    "!exit 5\n_exit_code",
    "subprocess.run(['python', '-c', 'import sys; print(sys.flags.hash_randomization, sys.path[0] or 1, sys.stdin.read())'], capture_output=True, text=True).stdout",
    "%%script python\nprint('another python')",
)
case("large_output", "for n in range(60_000): print(n, 'x' * 30)", "import sys\nprint('y' * 3_000_000); print('e' * 100_000, file=sys.stderr)", "list(range(20_000))", "'z' * 1_000_000")

# Errors and ends

DEEP = "import pandas as pd\ndef outer(frame):\n    try:\n        return inner(frame)\n    except KeyError as error:\n        raise RuntimeError('outer') from error\ndef inner(frame):\n    return frame['missing']\n"
case(
    "tracebacks",
    "import pandas as pd, local_deep",
    fails("def f(n):\n    return 1 / n\n\nf(0)"),
    fails("local_deep.outer(pd.DataFrame({'a': [1]}))"),
    fails("try:\n    {}['a']\nexcept KeyError:\n    raise ValueError('while')"),
    fails("raise ExceptionGroup('several', [ValueError(1), TypeError('two')])"),
    fails("import json; json.loads('{')"),
    fails("undefined_name"),
    fails("class E(Exception):\n    def __str__(self): raise RuntimeError('no text')\nraise E"),
    fails("error = ValueError('noted'); error.add_note('a note'); raise error"),
    fails("%xmode Minimal\nf(0)"),
    fails("import sklearn.ensemble as e\ne.RandomForestClassifier().predict([[1]])"),
    fails("def g(): return g()\ng()"),
    "import traceback, sys\ntry:\n    f(0)\nexcept Exception:\n    traceback.print_exc()\n    print(sys.exc_info()[0])",
    "raise KeyError('the end')",
    "print('never')",
    files={"local_deep.py": DEEP},
)
case("syntax_error", fails("def f(:\n    pass"), fails("if True:\nprint(1)"), fails("x = 'open"), fails("return 1"), fails("import not_there_at_all"), "a = 1\nb = = 2")
case("exit_zero", "print('before')", "import sys\nsys.exit(0)", "print('after')")
case("exit_three", "import sys\nsys.exit(3)", "print('after')")
case("exit_text", "raise SystemExit('enough')")
case("quit", "exit()", "print('after')")
case("die", "import os, time\nprint('before', flush=True); time.sleep(0.3)\nos._exit(5)")
case("killed", "import os, signal\nprint('said', flush=True); __import__('time').sleep(0.3); os.kill(os.getpid(), signal.SIGKILL)")
case("crash", "import ctypes, time\nprint('said', flush=True); time.sleep(0.3); ctypes.string_at(0)", env={"PYTHONFAULTHANDLER": ""})
case("terminated", "import os, signal, time\nprint('said', flush=True); time.sleep(0.3); os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)")
case(
    "at_exit",
    "import atexit, weakref, threading, time, logging, local_open\n"
    "class Held:\n    def __init__(self, name): self.name = name\n    def __del__(self): open(f'left-{self.name}', 'w').write('deleted')\n"
    "held, cycle = Held('plain'), Held('cycle')\ncycle.me = cycle\ndead = Held('now'); del dead",
    "atexit.register(lambda: open('left-atexit', 'a').write('first ')); atexit.register(lambda: open('left-atexit', 'a').write('second '))",
    "thing = Held('x'); thing.name = 'thing'; final = weakref.finalize(thing, lambda: open('left-final', 'w').write('finalized'))",
    "unclosed = open('left-unclosed', 'w'); unclosed.write('not closed')\nlocal_open.file.write('not closed either'); local_open.held.append(Held('local'))",
    "def late():\n    time.sleep(0.2); open('left-thread', 'w').write('was waited for')\nthreading.Thread(target=late).start()",
    "class Slow(logging.Handler):\n    def flush(self): open('left-flushed', 'w').write('flushed')\nslow = Slow(); None",
    files={"local_open.py": "file = open('left-local', 'w')\nheld = []\n"},
)
case("asks", fails("input('name? ')"), fails("import getpass; getpass.getpass()"), "import sys\nsys.stdin.readline()", "input()")

# What IPython offers

case(
    "widgets",
    "import ipywidgets as w\nslider = w.IntSlider(value=3, description='n'); slider",
    "slider.value = 5; display(w.HBox([w.Button(description='b'), w.Text('t')]))",
    "out = w.Output()\nwith out: print('inside')\nout",
    "w.interact(lambda n: n * 2, n=(1, 5)); None",
    "from tqdm.auto import tqdm\nimport tqdm.auto, sys\ntqdm.auto.tqdm",
    "for _ in tqdm.auto.tqdm(range(3), mininterval=1e9, bar_format='{l_bar}{bar}'): pass",
    "[type(w.Widget).__name__, len(w.Widget.widgets if hasattr(w.Widget, 'widgets') else []) > 0, get_ipython().kernel.comm_manager.targets.keys()]",
)
case("progress_as_text", "from tqdm import tqdm\nfor _ in tqdm(range(3), bar_format='{n_fmt}/{total_fmt}', mininterval=1e9): pass")
case(
    "displays",
    "from IPython.display import *\nhandle = display('first', display_id='one')",
    "handle.update('second'); update_display('third', display_id='one'); display(HTML('<b>x</b>'), Markdown('*y*'), JSON({'a': 1}), raw=False)",
    "display({'text/plain': 'raw', 'application/x-own': {'a': 1}}, raw=True, metadata={'m': 1})",
    "print('gone'); clear_output(wait=True); print('stays')",
    "import sys\nprint('a'); print('b', file=sys.stderr); print('c', end=''); sys.stdout.flush(); display(1); print('d'); 5",
    "class R:\n    def _repr_html_(self): return '<i>r</i>'\n    def __repr__(self): return 'r'\nR()",
    fails("class B:\n    def __repr__(self): raise ValueError('no')\nB()"),
    "%%capture caught\nprint('hidden'); display(2)",
    "caught.show(); caught.stdout",
    "Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + b'0' * 30, format='png')",
    "None; 1;",
)
case(
    "comm",
    "import comm\nchannel = comm.create_comm(target_name='x', data={'a': 1}); channel.send({'b': 2}); type(channel), len(comm.get_comm_manager().comms)",
    "comm.get_comm_manager() is get_ipython().kernel.comm_manager, [t for t in comm.get_comm_manager().targets if 'jupyter.widget' not in t]",
    "comm.get_comm_manager().register_target('own', print); [t for t in comm.get_comm_manager().targets if 'jupyter.widget' not in t]",
    "channel.close()",
)
case(
    "shell",
    "ip = get_ipython()\ntype(ip), type(ip.kernel), ip.execution_count, ip.history_manager.hist_file, ip.ipython_dir, ip.profile, ip.starting_dir, ip.user_module",
    "ip.magics_manager.lsmagic()['line'].keys(), ip.magics_manager.lsmagic()['cell'].keys()",
    "sorted(ip.user_ns_hidden), sorted(ip.user_ns), [k for k in ip.config.IPKernelApp], ip.config.HistoryManager, ip.ast_node_interactivity, ip.colors, ip.autocall, ip.automagic, ip.pdb, ip.xmode if hasattr(ip, 'xmode') else None",
    "sorted(ip.extension_manager.loaded), ip.events.callbacks.keys(), [len(c) for c in ip.events.callbacks.values()], ip.input_transformers_post, ip.banner1",
    "[(type(m), m.enabled if hasattr(m, 'enabled') else 1) for m in ip.prefilter_manager.handlers.values()], ip.Completer.use_jedi, ip.compile.flags",
    "ip.parent, ip.kernel.app.connection_dir if hasattr(ip.kernel, 'app') else 0, ip.kernel.parent.extra_extensions, ip.kernel.parent.no_stdout, ip.kernel.parent.subcommand",
    "ip.complete('pri')[1][:3], ip.complete('os.pa', 'import os; os.pa')[1]",
    "import os.path\nip.object_inspect_text('ip', 0)[:40], ip.kernel.implementation, ip.kernel.session.username, ip.kernel.session.check_pid",
    "from IPython import get_ipython as g\nimport IPython\ng() is ip, IPython.core.getipython.get_ipython() is ip, __IPYTHON__, IPython.paths.get_ipython_dir() == ip.ipython_dir",
)
case(
    "history",
    "1 + 1",
    "_ + 1",
    "In, Out, _oh, _ih[-1], _i, __, ___",
    "%history -n",
    "_2, _i2, _dh",
    "%who",
    "x = 3\n%whos",
    "%history -g 1",
    "%reset -f\nsorted(globals())[:6]",
)
case(
    "magics",
    "%env OWN=1\n!echo $OWN",
    "%env OWN",
    "%run beside.py an argument",
    "ran, __name__",
    "%cd ..\n%pwd",
    "%cd -q -",
    "%lsmagic",
    "%load_ext local_extension\n%shout hello",
    "%%writefile written.txt\nabc",
    "%pinfo len",
    "len?",
    "import os\nos.path.join??",
    fails("%nosuchmagic"),
    "%precision 2\n3.14159",
    "%alias_magic t time",
    "%%python -c 'print(1)'\n",
    "%store",
    "%config",
    "%prun -q -r 1\n",
    fails("%pip --version\n%conda"),
    files={
        "beside.py": "import sys\nprint(sys.argv, __name__, __file__[-9:])\nran = 'yes'\n",
        "local_extension.py": "def load_ipython_extension(ip):\n    ip.register_magic_function(lambda line: print(line.upper()), magic_name='shout')\n",
    },
)
case(
    "autoreload",
    "%load_ext autoreload\n%autoreload 2\nfrom pathlib import Path\nimport os\nPath('changing.py').write_text('def answer(): return 1\\n')",
    "import changing\nchanging.answer()",
    "Path('changing.py').write_text('def answer(): return 42\\n'); os.utime('changing.py', (2e9, 2e9))",
    "changing.answer()",
    "import importlib, pandas\nimportlib.reload(changing).answer()",
    "%aimport",
)
case(
    "modules",
    "import local_a, sys, importlib\nlocal_a.name, local_a.__file__, local_a.__spec__.origin, sys.path[0]",
    "import local_package.inner as inner\ninner.__package__, inner.up, importlib.util.find_spec('local_package').submodule_search_locations",
    "import importlib.metadata as m\nm.version('pandas'), len(list(m.distributions())) > 50, importlib.resources.files('pandas').is_dir()",
    "import pandas.tseries.offsets, pandas.io.json\npandas.__spec__.name, pandas.__file__ == sys.modules['pandas'].__file__",
    "'local_a' in sys.modules, importlib.util.find_spec('not_there'), sys.path_importer_cache.get('') is None",
    "import pickle, local_a\npickle.loads(pickle.dumps(local_a.Thing(3))).n",
    "class Mine: pass\nMine.__module__, pickle.loads(pickle.dumps(Mine())), Mine.__qualname__",
    "import pkgutil\nsorted(m.name for m in pkgutil.iter_modules(['.'])), pkgutil.get_data('local_a', 'local_a.py')[:4]",
    files={"local_a.py": "name = __name__\nclass Thing:\n    def __init__(self, n): self.n = n\n"},
)

# The standard library's own state

case(
    "temporary_files",
    "import tempfile, os\nfrom pathlib import Path\ntempfile.gettempdir(), tempfile.tempdir, tempfile.gettempprefix(), tempfile.template",
    "with tempfile.TemporaryDirectory(prefix='own-') as folder: print(os.path.dirname(folder), oct(os.stat(folder).st_mode))\nos.path.exists(folder)",
    "with tempfile.NamedTemporaryFile('w+', suffix='.txt') as f: f.write('x'); f.flush(); print(os.path.getsize(f.name))",
)
case(
    "person",
    "import getpass, os\nfrom pathlib import Path\ngetpass.getuser(), Path.home(), os.path.expanduser('~/x'), os.getuid(), os.getlogin.__name__",
    "import site, sysconfig\nsite.getuserbase(), site.ENABLE_USER_SITE, sysconfig.get_path('purelib', scheme='posix_user')",
    env={"LOGNAME": "somebody"},
)
case(
    "contexts",
    "import decimal, sqlite3, contextvars, fractions\ndecimal.getcontext(), decimal.Decimal(1) / 3",
    "with decimal.localcontext() as c: c.prec = 5; print(decimal.Decimal(1) / 7)",
    "db = sqlite3.connect(':memory:'); db.execute('create table t (a)'); db.executemany('insert into t values (?)', [(1,), (2,)]); db.execute('select sum(a) from t').fetchall(), sqlite3.threadsafety",
    "db.close(); file = sqlite3.connect('x.db'); file.execute('create table t (a)'); file.commit(); file.close()",
    "import sys\nsys.setrecursionlimit(500); sys.getrecursionlimit()",
    "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError as error: print(error)",
    "import random, time, locale, socket\nsocket.getdefaulttimeout(), time.get_clock_info('monotonic').resolution, sys.thread_info, sys.int_info.default_max_str_digits",
    "import urllib.request, http.client, ssl\nssl.get_default_verify_paths().cafile, urllib.request.getproxies(), ssl.create_default_context().verify_mode",
    "import mimetypes, re, struct, json\nmimetypes.guess_type('a.ipynb'), mimetypes.inited, re.compile('a').pattern",
    "help(abs)",
    "import inspect\ndef shown(a, b=1): 'doc'\ninspect.getsource(shown), inspect.signature(shown), shown.__code__.co_filename != ''",
)
