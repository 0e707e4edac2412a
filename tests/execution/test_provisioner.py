"""Warm kernels for whoever starts kernels: restarts, other programs, faults, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import notebook_of
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from processes import BIN, DAEMON, Marked, gone, wait_for
from warm import Place, inhabitants, runtime_folder

from mltoolkit.execution import kernels
from mltoolkit.execution.session import KernelSession, Stop
from mltoolkit.notebook import document

STARTS = 1000  # every fifth is used as a run uses it; the others are ended while they start
PRELOAD = ["sqlite3", "pandas"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with runtime_folder():
        folder = tmp_path_factory.mktemp("provisioner")
        (folder / "ipython" / "profile_default").mkdir(parents=True)
        (folder / "ipython" / "profile_default" / "ipython_config.py").write_text("c.HistoryManager.hist_file = ':memory:'\n")
        made = Place.make(folder / "workspace", ", ".join(PRELOAD))
        made.env["IPYTHONDIR"] = str(folder / "ipython")
        assert made.execute("1").outcome.warm
        yield made


@pytest.fixture
def at_home(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """This process has the place's environment, folder, and provisioner."""
    for name in set(os.environ) - set(place.env):
        monkeypatch.delenv(name)
    for name, value in {**place.env, "JUPYTER_DEFAULT_PROVISIONER_NAME": "mltoolkit-warm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", "mltoolkit-warm")
    monkeypatch.chdir(place.root)
    return place


def warm_path(kernel: Any) -> bool:
    return isinstance(kernel.provisioner.process, kernels.WarmProcess)


# Clients


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "curve"])
def test_restart_interrupt_and_shutdown(at_home: Place, encrypted: bool) -> None:
    from jupyter_client.manager import KernelManager

    if encrypted and not hasattr(KernelManager, "transport_encryption"):
        pytest.skip("this jupyter_client has no encryption")
    options: dict[str, Any] = {"transport_encryption": "required"} if encrypted else {}
    kernel = KernelManager(kernel_name="python3", **options)
    kernel.start_kernel(cwd=str(at_home.root))
    try:
        pids = [_pid_after(kernel)]
        assert warm_path(kernel)
        client = kernel.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.execute("import time\nprint('begun')\ntime.sleep(600)")
        while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass
        kernel.interrupt_kernel()
        assert client.get_shell_msg(timeout=60)["content"]["ename"] == "KeyboardInterrupt"
        client.stop_channels()
        kernel.restart_kernel()
        pids.append(_pid_after(kernel))
        kernel.restart_kernel(now=True)
        pids.append(_pid_after(kernel))
        assert warm_path(kernel)
        assert len(set(pids)) == 3
    finally:
        kernel.shutdown_kernel()
    assert not kernel.is_alive()
    wait_for(lambda: all(gone(pid) for pid in pids), "the kernels to be gone")


def _pid_after(kernel: Any) -> int:
    """The kernel's own word for its process, through a fresh client."""
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        said: list[str] = []
        client.execute_interactive("import os; print(os.getpid())", timeout=60, output_hook=lambda message: said.append(message["content"].get("text", "")))
        return int("".join(said))
    finally:
        client.stop_channels()


def test_nbclient(at_home: Place) -> None:
    from nbclient import NotebookClient

    notebook = notebook_of("import os, pandas\nos.environ['_MLTOOLKIT_SUPERVISOR'], pandas.Series([1, 2]).sum()")
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(at_home.root)}}).execute()
    assert "3" in notebook.cells[0].outputs[0].data["text/plain"]
    assert kernels.zygotes()


SUPERVISED = "import os\nprint('warm' if '_MLTOOLKIT_SUPERVISOR' in os.environ else 'cold', os.getcwd())"


@pytest.mark.parametrize(
    "command",
    [["jupyter-execute", "--inplace", "given.ipynb"], ["papermill", "--no-progress-bar", "given.ipynb", "given.ipynb"]],
    ids=["jupyter-execute", "papermill"],
)
def test_other_programs(at_home: Place, command: list[str]) -> None:
    document.write(notebook_of(SUPERVISED), at_home.root / "given.ipynb")
    done = subprocess.run([str(BIN / command[0]), *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in document.read(at_home.root / "given.ipynb").cells for output in cell.get("outputs", [])]
    assert outputs[0]["text"] == f"warm {at_home.root}\n"


# When it starts the ordinary way


def cold_because(at_home: Place, argv: list[str] | None = None, **options: Any) -> str:
    from jupyter_client.manager import KernelManager

    kernel = KernelManager(kernel_name="python3")
    if argv:
        kernel.kernel_spec.argv[:] = argv
    kernel.start_kernel(cwd=str(at_home.root), **options)
    try:
        _pid_after(kernel)
        assert not warm_path(kernel)
        reason: str = kernel.provisioner.cold
        return reason
    finally:
        for stream in (kernel.provisioner.process.stdout, kernel.provisioner.process.stderr):
            if stream:
                stream.close()
        kernel.shutdown_kernel(now=True)


def test_settings_say_no(at_home: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_WARM", "no")
    assert cold_because(at_home) == "the setting warm says no"


def test_output_through_a_pipe(at_home: Place) -> None:
    assert cold_because(at_home, stdout=subprocess.PIPE) == "its output is wanted through a pipe"


def test_another_kernel(at_home: Place) -> None:
    tiny = str(Path(__file__).parents[1] / "tiny_ipykernel.py")
    assert "only kernels that start ipykernel" in cold_because(at_home, [sys.executable, tiny, "{connection_file}"])


def test_settings_that_are_wrong(at_home: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTOOLKIT_WARM", "perhaps")
    assert "perhaps" in cold_because(at_home)


def test_output_of_the_kernel_goes_where_it_is_wanted(at_home: Place, tmp_path: Path) -> None:
    from jupyter_client.manager import KernelManager

    with open(tmp_path / "out", "w") as out:
        kernel = KernelManager(kernel_name="python3")
        kernel.start_kernel(cwd=str(at_home.root), stdout=out, stderr=subprocess.DEVNULL)
        try:
            assert warm_path(kernel)
            client = kernel.client()
            client.start_channels()
            client.wait_for_ready(timeout=60)
            client.execute_interactive("import sys; sys.__stdout__.write('straight'); sys.__stdout__.flush()", timeout=60, output_hook=lambda message: None)
            client.stop_channels()
        finally:
            kernel.shutdown_kernel()
    assert (tmp_path / "out").read_text() == "straight"


# Faults


def test_endless_loop(place: Place, mark: Marked) -> None:
    ran = place.execute("print('begun', flush=True)\nwhile True: pass", env={"TEST_MARK": mark.value}, cell_timeout=1)
    assert (ran.outcome.warm, ran.outcome.status.value) == (True, "timed_out")
    assert "over the limit of 1 s" in ran.outcome.message
    assert ran.text == "begun\n"
    mark.all_gone()


def test_swallowed_interrupts(place: Place, mark: Marked) -> None:
    loop = "import time\nwhile True:\n    try: time.sleep(600)\n    except BaseException: print('swallowed', flush=True)"
    ran = place.execute(loop, env={"TEST_MARK": mark.value}, cell_timeout=0.5, grace=0.5)
    assert (ran.outcome.warm, ran.outcome.status.value, ran.text) == (True, "timed_out", "swallowed\n")
    assert "was killed" in ran.outcome.message
    mark.all_gone()


def test_daemons_of_a_notebook(place: Place, mark: Marked) -> None:
    ran = place.execute(DAEMON, env={"TEST_MARK": mark.value})
    assert (ran.outcome.warm, ran.outcome.status.value, ran.outcome.usage.leftover, ran.outcome.usage.exit_code) == (True, "succeeded", 2, 0)
    mark.all_gone()


RUNNER = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from warm import Place, variables
import os
place = Place(Path({root!r}), Path({root!r}), dict(os.environ))
ran = place.execute({daemon!r} + "\\nopen('begun', 'w').write(str(__import__('os').getpid()))\\ntime.sleep(600)", folder='runner')
print(ran.outcome.status.value, ran.outcome.warm)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_end_of_the_runner(at_home: Place, mark: Marked, number: int) -> None:
    tests = Path(__file__).parents[1]
    program = RUNNER.format(paths=[str(tests)], root=str(at_home.root), daemon=DAEMON)
    before = {state.pid for state in kernels.zygotes()}
    runner = subprocess.Popen([sys.executable, "-c", program], env={**at_home.env, "TEST_MARK": mark.value}, stdout=subprocess.PIPE, text=True)
    begun = at_home.root / "runner" / "begun"
    wait_for(lambda: begun.exists() and begun.read_text(), "the notebook to run")
    begun.unlink()
    runner.send_signal(number)
    out, _ = runner.communicate(timeout=60)
    assert out == ("" if number == signal.SIGKILL else "cancelled True\n")
    mark.all_gone()
    assert {state.pid for state in kernels.zygotes()} == before


# Nothing is left behind


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def test_many_starts_leave_nothing(place: Place, tmp_path: Path) -> None:
    request = kernels.Request((sys.executable,), ("-f", str(tmp_path / "kernel.json")), str(place.root), place.env, str(place.root), PRELOAD)
    pids: list[int] = []
    parents: set[int] = set()

    def session() -> None:
        stop = Stop()
        try:
            with KernelSession("python3", cwd=place.root, env=place.env, stop=stop, warm=True) as running:
                assert running.warm
                pids.append(running.pid)
                parents.add(parent(parent(running.pid)))  # above the supervisor there is the template
        finally:
            stop.close()

    def ended_while_it_starts(number: int) -> None:
        with open(os.devnull, "r+b") as nothing:
            kernel = kernels.fork_kernel(request, files=[nothing.fileno()] * 3)
        pids.extend([kernel.pid, kernel.supervisor])
        time.sleep(0.005 * (number % 4))  # not always at the same place
        how = (signal.SIGTERM, signal.SIGKILL, None)[number % 3]
        if how is None:
            kernel.close()
        else:
            kernel.send_signal(how)
            assert kernel.wait(60) == -how

    def left() -> dict[str, Any]:
        (state,) = [state for state in kernels.zygotes() if state.pid in parents]
        folder = kernels.runtime_folder()
        return {
            "files": len([path for path in folder.iterdir() if path.suffix != ".lock"]),
            "temporary": len(list(Path("/tmp").glob("mlt-*"))),  # noqa: S108
            "here": len(os.listdir("/proc/self/fd")),
            "zygote": (state.pid, len(os.listdir(f"/proc/{state.pid}/fd")), state.kernels),
            "processes": len(inhabitants(folder.parent)),
        }

    def settled() -> bool:
        (zygote,) = {state.pid for state in kernels.zygotes()} & parents
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
        spares = kernels._children(int(children[0])) if len(children) == 1 else []
        return len(spares) == 1 and spares[0] not in pids and len(kernels._children(spares[0])) == 1  # one that ends is no spare

    for _ in range(3):
        session()
    wait_for(settled, "the zygote to have only its spare")
    before = left()
    for number in range(STARTS):
        if number % 5:
            ended_while_it_starts(number)
        else:
            session()
    wait_for(settled, "the zygote to have only its spare")
    wait_for(lambda: all(gone(pid) for pid in pids), "the kernels and their supervisors to be gone")
    after = left()
    assert {**after, "temporary": 0} == {**before, "temporary": 0}
    assert after["temporary"] <= before["temporary"] + 3  # other tests run beside this one


# The conformance tests of kernels


def _conformance() -> type[unittest.TestCase]:
    import jupyter_kernel_test

    class Conformance(jupyter_kernel_test.KernelTests):
        kernel_name = "python3"
        language_name = "python"
        file_extension = ".py"
        code_hello_world = "print('hello, world')"
        code_stderr = "import sys; print('test', file=sys.stderr)"
        completion_samples = ({"text": "zi", "matches": {"zip"}},)
        complete_code_samples = ("1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n")
        incomplete_code_samples = ("print('''hello", "def f(x):\n  x*2")
        invalid_code_samples = ("import = 7q",)
        code_page_something = "zip?"
        code_generate_error = "raise"
        code_execute_result = ({"code": "1+2+3", "result": "6"}, {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"})
        code_display_data = ({"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},)
        code_history_pattern = "1?2*"
        supported_history_operations = ("tail", "search")
        code_inspect_sample = "zip"
        code_clear_output = "from IPython.display import clear_output; clear_output()"

    return Conformance


@pytest.mark.parametrize("provisioner", ["local-provisioner", "mltoolkit-warm"])
def test_conformance(at_home: Place, provisioner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", provisioner)
    before = served()
    cases = unittest.defaultTestLoader.loadTestsFromTestCase(_conformance())
    result = unittest.TestResult()
    cases.run(result)
    assert [text for _, text in [*result.errors, *result.failures]] == []
    assert result.testsRun >= 12
    assert (served() > before) == (provisioner == "mltoolkit-warm")


def served() -> int:
    return sum(state.served for state in kernels.zygotes())
