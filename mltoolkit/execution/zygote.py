"""Fork kernels from a process that has a workspace's imports done.

A plain module, not exported from a notebook: like supervisor.py, from which it takes over, it is started
as a script by the interpreter of the kernels, with a configuration (JSON) on its standard input, and
imports the standard library only until it preloads what it is told to. What it has loaded it watches by
freshness.py.

What forks well is preloaded; what does not is noticed, and left to the notebook: a module that starts a
thread or a process when it is imported, prints something, or asks whether it runs in IPython. The
variables of the environment that are read while preloading are recorded: a kernel with other values of
them is not forked from here. What a process inherits besides (resource limits, control group, ...) is in
the key by which a zygote is found; see kernels.py.

Each fork is two processes: a supervisor, which adopts and ends what the kernel leaves behind, and below
it the kernel. The connection over which it was asked for is the kernel's lifeline: when it closes, the
kernel and all it started are ended. The zygote itself may die without harm to the kernels.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.util
import io
import json
import os
import select
import signal
import socket
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

KERNEL_MODULES = (  # what a kernel imports while it starts and runs its first cells
    "ipykernel.kernelapp", "ipykernel.zmqshell", "ipykernel.debugger", "ipykernel.parentpoller", "comm", "matplotlib_inline", "jedi",
    "IPython.core.completerlib", "IPython.core.oinspect", "IPython.extensions.storemagic", "IPython.utils.wildcard",
    "tornado.platform.asyncio", "tornado.queues", "faulthandler", "pdb", "sqlite3", "encodings.idna", "encodings.latin_1", "stringprep",
    "IPython.core.logger", "stack_data", "pygments.formatters.terminal256", "pygments.plugin", "psutil", "mltoolkit.record.joining", "mltoolkit.record.outlets", "mltoolkit.record.redaction",
)  # fmt: skip
LOGGING_MODULES = (  # what a kernel imports when it logs the first value
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_workspace_store", "sqlalchemy.dialects.sqlite", "mltoolkit.record.spooled_models",
)  # fmt: skip
_ASKS, _THREAD = "asks whether it runs in IPython when it is imported", "starts a thread when it is imported"
KNOWN = {  # common modules that do not fork well → why not; each of them would cost a start of its own to find out
    "deltalake": _THREAD, "fastcore.parallel": _ASKS, "fastcore.test": _ASKS, "nbdev": _ASKS,
}  # fmt: skip
VOLATILE = frozenset({  # differ from run to run; what reads them while it is imported is put right in `Starting.take_over`
    "_", "OLDPWD", "PWD", "SHLVL", "COLUMNS", "LINES", "JPY_PARENT_PID", "JPY_SESSION_NAME", "IPYNB_FILE", "MPLBACKEND",
    "MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "_MLFLOW_SERVER_ARTIFACT_ROOT",
    "_MLFLOW_TELEMETRY_SESSION_ID", "PYTEST_CURRENT_TEST", "_MLTOOLKIT_SUPERVISOR",
    "PYDEVD_DISABLE_FILE_VALIDATION",  # papermill's command sets it; a warning of the debugger's depends on it
})  # fmt: skip
OVERRIDES = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}  # no threads before a fork
INLINE = "module://matplotlib_inline.backend_inline"  # what ipykernel makes matplotlib's default
ANSWERED_LATER = {  # modules that ask for IPython when they are imported → what they would have called then
    "tqdm.autonotebook": "",  # only the name of the shell's class, and only whether it is Qt's
    "ipywidgets": "_handle_ipython",
    "matplotlib_inline.backend_inline": "",  # it is forgotten, and loaded again by the first plot
}


def lasting(variables: dict[str, str]) -> dict[str, str]:
    """Leave out what differs from run to run."""
    return {name: value for name, value in variables.items() if name not in VOLATILE and not name.startswith("MLTOOLKIT_")}


def _sibling(name: str) -> Any:
    """Load a module of this folder by its path: the interpreter need not have the toolkit."""
    spec = importlib.util.spec_from_file_location(f"_mltoolkit_{name}", os.path.join(os.path.dirname(__file__), f"{name}.py"))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


# -- preloading --------------------------------------------------------------------------------------------


class Reading(os._Environ):  # type: ignore[type-arg]
    """The environment, noting which variables are read one by one."""

    read: ClassVar[set[str]] = set()

    def __getitem__(self, name: str) -> str:
        caller = sys._getframe(1)
        copied = caller.f_code.co_name in ("__iter__", "copy") or caller.f_globals is globals()
        if isinstance(name, str) and not copied:
            self.read.add(name)
        value: str = super().__getitem__(name)
        return value


def room(megabytes: int) -> list[bytes]:
    """Have Python take memory for its objects in one piece, and return what holds it; what is not used goes back with that.

    It would take a megabyte (an arena, see CPython's obmalloc.c) whenever it needs one, in between the libraries that are
    loaded, where no large page fits; see `collapse`. An arena is kept as long as one object is in it."""
    size, arena = 512, 1 << 20  # bytes of the largest object that is kept there
    number = megabytes * arena // size
    objects = [b""] * number  # at its full length from the beginning: it is not to move between them
    for at in range(number):
        objects[at] = bytes(size - sys.getsizeof(b""))
    return objects[:: arena // size // 2]


_ROOM = 160  # megabytes


class Trial:
    """What must not happen while a module is imported that is to be there before a fork."""

    def __init__(self) -> None:
        import tempfile

        self.asked = False
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this process)
        self.handlers = self._handlers()
        self.children = set(children())  # kernels that were forked before it started again

    @staticmethod
    def _handlers() -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1)]

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch what is printed, and notice who asks for IPython."""
        import IPython
        from IPython.core import getipython

        original = getipython.get_ipython

        def get_ipython() -> Any:
            self.asked |= sys._getframe(1).f_globals.get("__name__") not in ANSWERED_LATER
            return original()

        def builtin() -> Any:  # a kernel has it as a name that is there without an import
            if sys._getframe(1).f_globals.get("__name__") == "pandas.core.config_init":
                return types.SimpleNamespace(kernel=None)  # how many columns are shown depends on whether this is a kernel
            self.asked = True
            raise NameError("name 'get_ipython' is not defined")

        kept = [os.dup(1), os.dup(2)]
        for number in (1, 2):
            os.dup2(self.output.fileno(), number)
        getipython.get_ipython = IPython.get_ipython = get_ipython
        builtins.get_ipython = builtin  # type: ignore[attr-defined]
        try:
            yield
        finally:
            del builtins.get_ipython  # type: ignore[attr-defined]
            getipython.get_ipython = IPython.get_ipython = original
            sys.stdout.flush()
            sys.stderr.flush()
            for number in (1, 2):
                os.dup2(kept[number - 1], number)
                os.close(kept[number - 1])

    def objection(self) -> str:
        """Say what happened that must not, or nothing."""
        if len(os.listdir("/proc/self/task")) > 1:
            return _THREAD
        started = set(children()) - self.children
        for pid in started:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if started:
            return "starts a process when it is imported"
        if os.fstat(self.output.fileno()).st_size:
            return "prints something when it is imported"
        if self.asked:
            return _ASKS
        if self._handlers() != self.handlers:
            return "handles signals when it is imported"
        return ""


def children(pid: int = 0) -> list[int]:
    """The processes that this one, or another, started and that have not been reaped."""
    pid = pid or os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def preload(
    names: list[str],
    excluded: dict[str, str],  # module → why not; grows
) -> tuple[list[str], bool]:
    """Import modules; return which are there, and whether one of them must be undone, by starting again."""
    for name in KERNEL_MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    trial = Trial()
    done: list[str] = []
    for name in names:
        known = next((other for other in {**KNOWN, **excluded} if name == other or name.startswith(other + ".")), "")
        if known:
            excluded.setdefault(known, KNOWN.get(known, ""))
            continue
        try:
            with trial.listening():
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the notebook is to see it, not we)
            excluded[name] = f"{type(error).__name__}: {error}"
        objection = trial.objection()
        if objection:
            excluded[name] = objection
            return done, True
        if name not in excluded:
            done.append(name)
    outlets = sys.modules.get("mltoolkit.record.outlets")
    if outlets is not None and "mlflow" in sys.modules:
        import_quietly(LOGGING_MODULES)
        outlets.guard_mlflow()  # it takes longer than all else that a run prepares in its kernel
    trial.output.close()
    return done, False


def import_quietly(names: tuple[str, ...]) -> None:
    """Import what the notebook has not asked for: the handlers of loggers stay as they are."""
    import logging

    def loggers() -> list[logging.Logger]:
        return [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]

    before = {each: list(each.handlers) for each in loggers()}
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for each in loggers():
        for handler in list(each.handlers):
            if isinstance(handler, logging.NullHandler) and handler not in before.get(each, ()):
                each.removeHandler(handler)


def third_party(name: str) -> bool:
    """Whether a module comes from an installed package, not from a folder that somebody works in."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("mltoolkit", "__main__"):
        return False
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or [])] if spec else []
    return any(f"{os.sep}{folder}{os.sep}" in place for place in places for folder in ("site-packages", "dist-packages"))


def imports(path: str) -> list[str]:
    """The third-party modules that a notebook imports, in order."""
    import ast

    try:
        with open(path, "rb") as file:
            cells = json.load(file)["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    found: dict[str, None] = {}
    for cell in cells if isinstance(cells, list) else []:
        source = cell.get("source", "") if isinstance(cell, dict) and cell.get("cell_type") == "code" else ""
        lines = ("".join(source) if isinstance(source, list) else str(source)).splitlines()
        kept = "\n".join("" if line.lstrip().startswith(("%", "!", "?")) or line.rstrip().endswith("?") else line for line in lines)
        with contextlib.suppress(SyntaxError, ValueError, RecursionError):
            for node in ast.walk(ast.parse(kept)):
                if isinstance(node, ast.Import):
                    found.update((alias.name, None) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found[node.module] = None
    return [name for name in found if third_party(name)]


def discover(root: str, most: int = 500) -> list[str]:
    """The third-party modules that a workspace's notebooks import, the common ones first."""
    from collections import Counter

    counts: Counter[str] = Counter()
    seen = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "_")) and name not in ("node_modules", "site-packages", "build")]
        for name in files:
            if name.endswith(".ipynb") and seen < most:
                seen += 1
                counts.update(imports(os.path.join(folder, name)))
    return [name for name, _ in counts.most_common()]


# -- becoming a kernel -------------------------------------------------------------------------------------


class Starting:
    """What a fork of the zygote does to be a kernel like any other."""

    def __init__(self) -> None:
        import gc
        import itertools
        import threading

        gc.enable()
        _fresh_random_state()
        self.launcher = importlib.util.find_spec("ipykernel_launcher")
        threading._counter = itertools.count(1).__next__  # type: ignore[attr-defined]
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]

    def take_over(self, request: dict[str, Any]) -> None:
        """Take over the environment, the folder and the rest of what a new process gets from whoever starts it."""
        parent = str(os.getppid())
        variables = {**request["env"], "JPY_PARENT_PID": parent, "_MLTOOLKIT_SUPERVISOR": parent}
        self.be_in(request, variables)
        _fresh_backend(variables)
        sys.argv = [(self.launcher and self.launcher.origin) or "ipykernel_launcher.py", *request["arguments"]]

    def be_in(self, request: dict[str, Any], variables: dict[str, str]) -> None:
        """Take over the environment and the folder of whoever asked."""
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        os.environ.update({name: value for name, value in variables.items() if os.environ.get(name) != value})
        time.tzset()
        os.umask(request["umask"])
        os.sched_setaffinity(0, request["affinity"])
        os.chdir(request["cwd"])
        _fresh_folder(request["cwd"])
        tracking = sys.modules.get("mltoolkit.record.tracking")
        if tracking is not None:
            tracking.start_afresh()

    def application(self, arguments: list[str]) -> Any:
        """Make ipykernel's application, ready to be started."""
        from ipykernel.kernelapp import IPKernelApp

        app: Any = IPKernelApp.instance(parent_handle=os.getppid())
        app.initialize(arguments)
        answer_late()
        for early in EARLY:
            early.stream = getattr(sys, early.called)
        return app


def to_the_end(run: Any) -> NoReturn:
    """Run what a kernel does, and end as an interpreter does."""
    code: Any = 1
    last = next(reversed(sys.modules))  # to list them all would copy a page of memory for each
    try:
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc(file=sys.__stderr__)
    _finish(code, last)


def become_kernel(request: dict[str, Any], files: list[int]) -> None:
    """Be the kernel that was asked for."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _fresh_streams()
    starting = Starting()
    starting.take_over(request)
    run(starting.application(request["arguments"]))


def become_command(request: dict[str, Any], files: list[int]) -> None:
    """Be the command that was asked for, in place of the process that waits for it."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _fresh_streams()
    Starting().be_in(request, request["env"])
    sys.argv = list(request["arguments"])
    if sys.argv == [WORKER]:
        sys.modules["mltoolkit.execution.workers"].serve()
    else:
        sys.modules["mltoolkit.cli"].main()


WORKER = "mltoolkit-worker"  # in place of a command line: be a worker process


def become_spare(link: socket.socket, template: Any, config: dict[str, Any]) -> None:
    """Be a kernel ahead of need: all but what only the request will say is done when it comes."""
    starting = Starting()
    copies = template.open()
    for early in EARLY:
        early.stream = getattr(sys, early.called)
    request, files = receive(link)
    for copy, file in zip(copies, files, strict=False):
        os.dup2(file, copy, inheritable=copy == 0)
        os.close(file)
    wire = socket.socket(fileno=files[-1])
    wire.set_inheritable(False)
    hold(request)
    starting.take_over(request)
    os.environ.update({name: value for name, value in config["made"].items() if name not in VOLATILE or not request["env"].get(name)})
    template.assign(request["arguments"], request["cwd"])
    send(link, {"language_info": template.app.kernel.language_info})
    LAST_WORD[os.getpid()] = link
    template.run(wire)


def run(app: Any) -> None:
    """Run the kernel; when it is to end, let the thread that was told so finish before the one that writes its output."""
    app.start()
    if app.control_thread is not None:
        app.control_thread.join(5.0)  # it ends itself: the request to shut down stops its loop first


def _finish(code: int, last: str) -> NoReturn:
    """End as an interpreter does, without taking apart the modules of the zygote, only those of the notebook's author."""
    import atexit
    import gc
    import threading

    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    with contextlib.suppress(BaseException):
        import itertools

        new = itertools.takewhile(lambda name: name != last, reversed(sys.modules))
        for module in [sys.modules[name] for name in new]:
            path = getattr(module, "__file__", None) or ""
            mine = vars(module) is globals()  # IPython has put it back
            if path.endswith(".py") and not mine and not path.startswith((sys.prefix, sys.base_prefix)) and not third_party(module.__name__):
                vars(module).clear()
        gc.collect()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    _say_the_end(code)
    os._exit(code)


LAST_WORD: dict[int, socket.socket] = {}  # a kernel's pid → its link to the supervisor; a fork of the kernel has another one


def _say_the_end(code: int) -> None:
    """Tell the supervisor that nothing is left to be done: the system takes as long to free the memory as all that was done for it."""
    import resource

    link = LAST_WORD.get(os.getpid())
    if link is not None:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        said = {
            "exit_code": code & 0xFF, "cpu_s": sum(each.ru_utime + each.ru_stime for each in used),
            "peak_memory_bytes": max(each.ru_maxrss for each in used) * 1024,
        }  # fmt: skip
        with contextlib.suppress(OSError):
            send(link, said)


class Early(io.TextIOBase):
    """A standard stream for the modules that are preloaded: what they keep of it is the kernel's own once there is a kernel."""

    def __init__(self, called: str) -> None:
        self.called, self.stream = called, None
        setattr(sys, called, self)

    def __getattribute__(self, name: str) -> Any:
        own = super().__getattribute__
        if name in ("called", "stream", "__class__"):
            return own(name)
        return getattr(own("stream") or getattr(sys, f"__{own('called')}__"), name)


EARLY: list[Early] = []


def _fresh_streams() -> None:
    """Standard streams on the new files."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        before = getattr(sys, f"__{name}__")
        lines = mode == "w" and (number == 2 or os.isatty(number))
        stream = open(  # noqa: SIM115 (lives as long as this process)
            number, mode, buffering=1 if lines else -1, encoding=before.encoding, errors=before.errors, closefd=False
        )
        stream.buffer.raw.name = f"<{name}>"  # type: ignore[attr-defined]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _fresh_folder(cwd: str) -> None:
    """The standard library remembers in which folder it was imported, for processes that are spawned."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = cwd  # type: ignore[attr-defined]


def _fresh_random_state() -> None:
    import multiprocessing
    import random

    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.seed()
    multiprocessing.current_process().authkey = os.urandom(32)


def _fresh_backend(variables: dict[str, str]) -> None:
    """matplotlib reads its backend when it is imported."""
    matplotlib = sys.modules.get("matplotlib")
    wanted = variables.get("MPLBACKEND") or INLINE
    if matplotlib is not None and wanted != INLINE:
        matplotlib.rcParams._set("backend", wanted)
        matplotlib.rcParamsOrig["backend"] = wanted


def answer_late() -> None:
    """Let modules that asked for IPython before there was one do what they do in a kernel."""
    for name, function in ANSWERED_LATER.items():
        if function and name in sys.modules:
            getattr(sys.modules[name], function)()
    pyplot = sys.modules.get("matplotlib.pyplot")
    inline = sys.modules.pop("matplotlib_inline.backend_inline", None)
    if pyplot is not None and pyplot._backend_mod is not None and inline is not None:  # somebody drew something
        sys.modules[inline.__name__] = inline
        inline._enable_matplotlib_integration()
        pyplot.install_repl_displayhook()


LARGE, MADV_COLLAPSE = 1 << 21, 25  # bytes of a large page; see madvise(2), Linux 6.1


def collapse() -> None:
    """Have the system keep this process's memory in large pages, where it can.

    To fork it and to end the fork takes a step for each page that is mapped, of which a large one stands for 512.
    A page that a fork changes is still copied as a small one."""
    import ctypes

    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with contextlib.suppress(OSError), open("/proc/self/smaps") as file:
        start = end = 0
        for line in file:
            words = line.split()
            if not words[0].endswith(":"):  # the first line of a mapping
                start, end = (int(part, 16) for part in words[0].split("-"))
                if words[5:] not in ([], ["[heap]"]):
                    end = start
            elif words[0] == "Anonymous:" and int(words[1]) * 1024 > 0.75 * (end - start):
                first, last = -(-start // LARGE) * LARGE, end // LARGE * LARGE
                if first < last:
                    madvise(first, last - first, MADV_COLLAPSE)


# -- supervising -------------------------------------------------------------------------------------------


class Supervision:
    """The parent of one kernel, from its fork to the end of all that it started."""

    def __init__(self, *, adopts: bool = True) -> None:
        self.supervisor = sys.modules["_mltoolkit_supervisor"]
        self.adopts = adopts  # what the process leaves behind, to end it
        self.stopping, self.abandoned, self.kernel = False, False, 0
        self.status: int | None = None
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda number, frame: self.supervisor._pass_on(self.kernel, number))
        os.setsid()
        if adopts:
            self.supervisor.prctl(self.supervisor.PR_SET_CHILD_SUBREAPER, 1)

    def _stop(self, number: int, frame: object) -> None:
        if not self.stopping:
            self.stopping = True
            raise InterruptedError

    def fork(self, run: Any, *others: socket.socket) -> None:
        """Fork the kernel, in a session of its own; it dies with this process."""
        me = os.getpid()
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)  # the kernel must not answer one of them as its supervisor does
        self.kernel = os.fork()
        if not self.kernel:
            for number in handled:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            os.setsid()
            self.supervisor.prctl(self.supervisor.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:
                os._exit(1)
            for other in others:
                other.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        if not self.kernel:
            to_the_end(run)

    def answer(self, connection: socket.socket, word: socket.socket | None = None, **more: Any) -> bool:
        """Tell the client which kernel it has, and watch over it; return whether the client knows of its end.

        What a kernel says over `word` as its last is taken for its end if it leaves no process behind."""
        send(connection, {"kernel": self.kernel, "supervisor": os.getpid(), **more})
        ended = _watch(connection, self.kernel, word)
        if isinstance(ended, dict):
            known = not others(self.kernel)
            if known:
                with contextlib.suppress(OSError):
                    send(connection, {"returncode": ended["exit_code"], "usage": {**ended, "signal": None, "leftover": 0}})
            if select.select([os.pidfd_open(self.kernel)], [], [], _LEAVING)[0]:
                self.status = os.waitpid(self.kernel, 0)[1]
            return known
        self.status, self.abandoned = ended, ended is None
        return False

    def conclude(self, connection: socket.socket | None, report: str) -> NoReturn:
        """End what is left, and say what became of the kernel."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leftover, used = 0, {}
        if self.adopts:
            leftover, seen = self.supervisor.sweep(self.kernel)
            self.status = seen if self.status is None else self.status
            used = self.supervisor.usage(self.status, leftover)
        elif self.kernel and self.status is None:
            os.kill(self.kernel, signal.SIGTERM)  # whoever waited for it is gone: it is to cancel what it is at
            if not select.select([os.pidfd_open(self.kernel)], [], [], _CANCELLING)[0]:
                os.kill(self.kernel, signal.SIGKILL)
            self.status = os.waitpid(self.kernel, 0)[1]
        if report:
            self.supervisor.report(report, self.status, leftover)
            if self.abandoned:
                self.supervisor.tidy(report)
        if connection is not None:
            with contextlib.suppress(OSError):
                send(connection, {"returncode": None if self.status is None else os.waitstatus_to_exitcode(self.status), "usage": used})
        os._exit(0)


def hold(request: dict[str, Any]) -> None:
    """Keep a file open to the end of this process that says of which job's attempt it is; its environment, the zygote's, would not."""
    folder = request["env"].get("MLTOOLKIT_JOB_FOLDER")
    if folder:
        with contextlib.suppress(OSError):
            os.memfd_create(mark_of(folder))


def mark_of(folder: str) -> str:
    """The name of the file in memory by which the processes of an attempt are known."""
    return f"mltoolkit-{digest(os.path.realpath(folder))}"


def supervise(connection: socket.socket, request: dict[str, Any], files: list[int]) -> NoReturn:
    """Fork the kernel that was asked for, and see to its end. Runs in a fork of the zygote."""
    become = become_command if request.get("command") else become_kernel
    supervision = Supervision(adopts=become is become_kernel)
    hold(request)
    with contextlib.suppress(InterruptedError, OSError):
        supervision.fork(lambda: become(request, files), connection)
        for file in files:
            os.close(file)
        supervision.answer(connection)
    supervision.conclude(connection, request.get("report", ""))


def supervise_spare(link: socket.socket, template: Any, config: dict[str, Any]) -> NoReturn:
    """Fork a kernel ahead of need, wait until it is asked for, and see to its end. Runs in a fork of the template."""
    supervision, connection = Supervision(), None
    request: dict[str, Any] = {}
    inner, outer = socket.socketpair()
    try:
        supervision.fork(lambda: become_spare(outer, template, config), inner, link)
        outer.close()
        request, files = receive(link)
        hold(request)
        connection = socket.socket(fileno=files[0])
        send(inner, request, files[1:])
        for file in files[1:]:
            os.close(file)
        if supervision.answer(connection, inner, **receive(inner)[0]):
            connection.close()
            connection = None
    except (InterruptedError, EOFError, OSError, ValueError):
        pass
    supervision.conclude(connection, request.get("report", ""))


def serve_template(link: socket.socket, config: dict[str, Any]) -> NoReturn:
    """Make what kernels have in common, and fork one ahead of need, again and again. Runs in a fork of the zygote."""
    import gc

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the supervisors' ends are nobody's business
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(2):  # standard error is still the zygote's log
        os.dup2(nothing, number)
    os.close(nothing)
    _fresh_streams()
    Reading.read.clear()
    os.environ.clear()
    os.environ.update(config["variables"])
    os.environ.__class__ = Reading
    template = sys.modules["_mltoolkit_template"].Template(config["spare"], sys.modules[__name__])
    os.environ.__class__ = os._Environ
    config["made"] = {name: value for name, value in os.environ.items() if config["variables"].get(name) != value}
    gc.collect()
    gc.freeze()
    collapse()
    while template.unchanged() and len(os.listdir("/proc/self/task")) == 1:
        spare, other = socket.socketpair()
        if not os.fork():
            try:
                spare.close()
                link.close()
                supervise_spare(other, template, config)
            finally:
                os._exit(1)
        other.close()
        while True:
            try:
                request, files = receive(link)
            except (OSError, EOFError, ValueError):
                os._exit(0)  # the zygote has ended
            refusal = template.unlike(request, config["variables"], Reading.read)
            with contextlib.suppress(OSError):
                if refusal:
                    with socket.socket(fileno=os.dup(files[0])) as connection:
                        send(connection, {"refused": refusal})
                else:
                    send(spare, request, files)
            for file in files:
                os.close(file)
            if not refusal or not template.unchanged():
                break
        select.select([link, spare], [], [], _BEGINNING)  # until its supervisor has ended, the kernel that begins now needs the processors more than the next one
        spare.close()
    os._exit(0)


_BEGINNING = 0.05  # seconds


_LEAVING = 10.0  # seconds for a kernel that has nothing left to do
_CANCELLING = 30.0  # seconds for a command to end its run, and for its kernel to end


def _watch(connection: socket.socket, kernel: int, word: socket.socket | None) -> int | dict[str, Any] | None:
    """Wait for the kernel's end (its wait status), its last word, or the owner's end (None)."""
    pidfd = os.pidfd_open(kernel)
    waiting = select.poll()
    for number in (pidfd, connection.fileno(), *([] if word is None else [word.fileno()])):
        waiting.register(number, select.POLLIN)
    while True:
        ready = {file for file, _ in waiting.poll()}
        if word is not None and word.fileno() in ready:
            with contextlib.suppress(EOFError, OSError, ValueError):
                return receive(word)[0]
            waiting.unregister(word)  # it died without one
            word = None
        elif pidfd in ready:
            return os.waitpid(kernel, 0)[1]
        if connection.fileno() in ready and not connection.recv(1):
            return None


def others(kernel: int) -> list[int]:
    """The processes below this one that are not its kernel."""
    found = [pid for pid in children() if pid != kernel]
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{kernel}/task"):
            with open(f"/proc/{kernel}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


# -- serving -----------------------------------------------------------------------------------------------


def send(connection: socket.socket, message: dict[str, Any], files: list[int] | None = None) -> None:
    """Send one message: its length, with the files, then JSON."""
    content = json.dumps(message).encode("utf-8", "surrogateescape")
    head = len(content).to_bytes(8, "big")
    if files:
        socket.send_fds(connection, [head], files)
        connection.sendall(content)
    else:
        connection.sendall(head + content)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one message and its files. Raises `EOFError`."""
    head, files, _, _ = socket.recv_fds(connection, 8, 8)
    while 0 < len(head) < 8 and (part := connection.recv(8 - len(head))):
        head += part
    if len(head) < 8:
        raise EOFError
    length, parts = int.from_bytes(head, "big"), []
    while length:
        part = connection.recv(min(length, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    message: dict[str, Any] = json.loads(b"".join(parts).decode("utf-8", "surrogateescape"))
    return message, files


def peer(connection: socket.socket) -> int:
    """The user at the other end of a unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


_OFTEN = 5.0  # seconds from one look at what has changed to the next


class Zygote:
    """One process that forks kernels of one kind."""

    def __init__(self, config: dict[str, Any], lock: int) -> None:
        self.config, self.lock = config, lock
        self.excluded: dict[str, str] = config.setdefault("excluded", {})
        self.preloaded: list[str] = []
        self.known: dict[str, int] = {}  # notebooks that were looked at, with their time of change
        self.served, self.used = 0, time.monotonic()
        self.template: tuple[int, socket.socket] | None = None  # the process that forks kernels ahead of need, and the link to it
        self.listener: socket.socket
        self.path, self.inode = "", 0

    def prepare(self) -> None:
        """Preload; start again where a module turned out not to fork well."""
        self.config["variables"] = lasting(dict(os.environ))
        if "IPython" not in sys.modules:
            os.environ.__class__ = Reading
        if importlib.util.find_spec("threadpoolctl"):
            os.environ.update(OVERRIDES)
        if not self.config.get("command"):
            os.environ["MPLBACKEND"] = INLINE
        wanted = self.config["preload"]
        if wanted is None:
            wanted = self.config["preload"] = discover(self.config["root"])
        EARLY[:] = Early("stdout"), Early("stderr")
        held = room(_ROOM)
        before = dict(os.environ)
        if self.config.get("command"):
            self.preloaded, again = [name for name in wanted if importlib.import_module(name)], False
            sys.modules["mltoolkit.execution.run"]._get_ready("python")
        else:
            self.preloaded, again = preload(wanted, self.excluded)
        held.clear()
        self.made = {name: value for name, value in lasting(dict(os.environ)).items() if before.get(name) != value}
        if again:
            self.again()
        os.environ.__class__ = os._Environ
        self.loaded = sys.modules["_mltoolkit_freshness"].Loaded()
        self._restore_threads()

    def again(self) -> NoReturn:
        """Become a new zygote, in the same process, so that it stays the parent of its kernels' supervisors."""
        if self.lock >= 0:  # still preparing
            os.set_inheritable(self.lock, True)
            self.config["lock"] = self.lock
        file = os.memfd_create("config", 0)
        variables = self.config.pop("variables")
        os.write(file, json.dumps(self.config).encode())
        os.lseek(file, 0, os.SEEK_SET)
        os.dup2(file, 0)
        os.execve(sys.executable, sys.orig_argv, variables)  # noqa: S606

    def _restore_threads(self) -> None:
        """Give the BLAS libraries, whose threads were turned off here, as many as they are to have in a kernel.

        OpenBLAS ends its threads before a fork, in the parent, too, and starts them again when they are needed."""
        with contextlib.suppress(ImportError):
            from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

            asked = [self.config["variables"].get(f"{name}_NUM_THREADS") for name in ("OPENBLAS", "GOTO", "OMP")]
            given = next((int(text) for text in asked if text and text.isdigit() and int(text)), 0)
            for library in ThreadpoolController().lib_controllers:
                if library.internal_api == "openblas":
                    library.set_num_threads(given or len(os.sched_getaffinity(0)))
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)

    def publish(self) -> None:
        """Say which variables matter, and listen where a client with the same values of them looks."""
        folder, key = self.config["folder"], self.config["key"]
        names = sorted(name for name in Reading.read if name in lasting(dict.fromkeys(Reading.read, "")))
        values = {name: self.config["variables"].get(name) for name in names}
        _write(os.path.join(folder, f"{key}.{digest(names)}.variables"), names)  # others of this key may have read others
        self.path = os.path.join(folder, f"{key}-{digest(values)}.sock")
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.inode = os.stat(self.path).st_ino
        self.state()
        self.listener.listen(64)
        os.close(self.lock)
        self.lock = -1

    def state(self) -> None:
        """Write what `kernels list` shows."""
        shown = {"pid": os.getpid(), "executable": sys.executable, "root": self.config["root"], "preloaded": self.preloaded,
                 "excluded": self.excluded, "served": self.served, "template": self.template[0] if self.template else 0, "socket": self.path}  # fmt: skip
        with contextlib.suppress(OSError):
            _write(self.path.removesuffix(".sock") + ".json", shown)

    def run(self) -> None:
        """Serve until nobody has asked for long enough, or what was preloaded is out of date."""
        import gc

        gc.collect()
        gc.disable()
        gc.freeze()
        collapse()
        self._have_template()
        self.state()
        while self._goes_on():
            gc.collect()  # quick: the modules are frozen, this is what the last request left
            self.listener.settimeout(_OFTEN)
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5.0)
                try:
                    self._serve(connection)
                except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError):
                    continue  # a client that went away, or that is none

    def _goes_on(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if self.kernels():
            self.used = time.monotonic()
        try:
            mine = os.stat(self.path).st_ino == self.inode
        except OSError:
            mine = False
        return mine and time.monotonic() - self.used < self.config["idle"] and not self.outdated(_OFTEN)

    def kernels(self) -> int:
        """How many kernels are alive, without the one ahead of need."""
        waiting = 0
        forked = len(children())
        if self.template:
            waiting = 1 + bool(children(self.template[0]))
            forked += len(children(self.template[0]))
        return forked - waiting

    def outdated(self, within: float) -> str:
        """Say what was changed since it was preloaded, or nothing."""
        if len(os.listdir("/proc/self/task")) > 1:
            return "a thread was started"
        changed: str = self.loaded.outdated(within)
        return changed

    def _serve(self, connection: socket.socket) -> None:
        if peer(connection) != os.getuid():
            return
        request, files = receive(connection)
        self.used = time.monotonic()
        request["env"] = {**request["env"], **self.made}
        try:
            outdated = self.outdated(2 * _OFTEN)
            refusal = outdated or self.loaded.shadowed(request["cwd"])
            if outdated:
                os.unlink(self.path)
            if refusal:
                send(connection, {"refused": refusal, "outdated": bool(outdated)})
                return
            if request.get("spare") is None:
                self._fork(lambda: supervise(connection, request, files))
            elif not self._give_spare(connection, request, files):
                send(connection, {"refused": "kernels cannot be forked ahead of need here"})
                return
        finally:
            for file in files:
                os.close(file)
        connection.close()
        self.served += 1
        self.state()
        self._learn(request.get("notebook") or "")

    def _fork(self, run: Any) -> int:
        pid = os.fork()
        if not pid:
            try:
                self.listener.close()
                self.loaded.close()
                if self.template:
                    self.template[1].close()
                run()
            except BaseException:  # noqa: BLE001 (its traceback goes to the log)
                import traceback

                traceback.print_exc()
            finally:
                os._exit(1)
        return pid

    def _have_template(self, *, without: Sequence[int] = ()) -> None:
        """Fork the process that forks kernels ahead of need, for those who take one that talks over a socket of theirs.

        It is there for longer than the request that it is forked for, so it must not hold what came with that."""
        if self.template is None and self.config["spare"] is not None:
            link, other = socket.socketpair()
            link.settimeout(10.0)
            config = {"variables": {**self.config["variables"], **self.made}, "spare": self.config["spare"]}

            def run() -> None:
                link.close()
                for each in without:
                    os.close(each)
                serve_template(other, config)

            self.template = self._fork(run), link
            other.close()

    def _give_spare(self, connection: socket.socket, request: dict[str, Any], files: list[int]) -> bool:
        """Let the template serve a request; tell whether that was done."""
        if request["spare"] != self.config["spare"]:
            self.config["spare"] = request["spare"]
            self._drop_template()
        for _ in range(2):  # it may have ended
            self._have_template(without=(connection.fileno(), *files))
            if self.template is not None:
                try:
                    send(self.template[1], request, [connection.fileno(), *files])
                except OSError:
                    self._drop_template()
                else:
                    return True
        return False

    def _drop_template(self) -> None:
        if self.template is not None:
            self.template[1].close()
            self.template = None

    def _learn(self, notebook: str) -> None:
        """Preload what a notebook imports, from now on."""
        if not self.config["learn"] or not notebook.endswith(".ipynb"):
            return
        with contextlib.suppress(OSError):
            changed = os.stat(notebook).st_mtime_ns
            if self.known.get(notebook) != changed:
                self.known[notebook] = changed
                new = [name for name in imports(notebook) if name not in self.config["preload"]]
                if [name for name in new if name not in sys.modules]:
                    self.config["preload"] += new
                    os.unlink(self.path)
                    self.again()


def digest(value: Any) -> str:
    """A short name for a value."""
    import hashlib

    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _is_there(config: dict[str, Any]) -> bool:
    """Whether another one became ready while this one waited for the lock."""
    for path in paths(config["folder"], config["key"], os.environ):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            return True
    return False


def paths(folder: str, key: str, variables: Mapping[str, str]) -> Iterator[str]:
    """The sockets at which a zygote would listen for kernels with these variables."""
    for name in sorted(os.listdir(folder)):
        if name.startswith(key) and name.endswith(".variables"):
            with contextlib.suppress(OSError, ValueError):
                with open(os.path.join(folder, name)) as file:
                    values = {name: variables.get(name) for name in json.load(file)}
                yield os.path.join(folder, f"{key}-{digest(values)}.sock")


def _write(path: str, content: Any) -> None:
    with open(f"{path}.{os.getpid()}", "w") as file:
        json.dump(content, file)
    os.replace(f"{path}.{os.getpid()}", path)


def main() -> None:
    """Read the configuration, preload, serve."""
    import fcntl

    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    config = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    lock = config.pop("lock", None) or os.open(os.path.join(config["folder"], config["key"] + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(40):  # somebody may be looking whether it is locked
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            time.sleep(0.05)
    else:
        return  # another one is about to be ready
    if not config.get("again") and (_is_there(config) or os.fork()):
        os._exit(0)  # whoever started it does not wait for its end
    config["again"] = True
    for name in ("supervisor", "freshness", "template"):
        sys.modules[f"_mltoolkit_{name}"] = _sibling(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    zygote = Zygote(config, lock)
    zygote.prepare()
    zygote.publish()
    try:
        zygote.run()
    finally:
        with contextlib.suppress(OSError, ValueError):
            if os.stat(zygote.path).st_ino == zygote.inode:
                os.unlink(zygote.path)
        with contextlib.suppress(OSError, ValueError):
            shown = zygote.path.removesuffix(".sock") + ".json"
            with open(shown) as file:
                mine = json.load(file)["pid"] == os.getpid()
            if mine:
                os.unlink(shown)


if __name__ == "__main__":
    main()
