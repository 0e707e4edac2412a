"""Secrets, from one end to the other: whatever a notebook does with one, nothing that is written has it."""

from __future__ import annotations

import ast
import html
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

import pytest
from conftest import notebook_of

from mltoolkit.errors import NotebookFailed
from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document
from mltoolkit.record import tracking
from mltoolkit.record.runs import _rescue

Write = Callable[..., Path]
BIN = Path(sys.executable).parent
KEY = "Tr0ub4dor-3-zebra.quartz"
PHRASE = 'p@ss "w&rd"<é>/+1'
TOKEN = "gh" + "p_" + "Zz9Yy8" * 6


def spellings(value: str) -> set[bytes]:
    written = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1], ascii(value)[1:-1]}
    written |= {quote(value), quote(value, safe=""), html.escape(value), html.escape(value, quote=False)}
    return {each.encode() for each in written}


def holding(places: Iterable[Path], values: Iterable[str], *, but: Iterable[Path] = ()) -> list[tuple[Path, str]]:
    """The files below the places in which, or in whose path, a value stands."""
    known, found = {value: spellings(value) for value in values}, []
    for path in [path for place in places for path in [place, *place.rglob("*")]]:
        if path in but or ".git" in path.parts:
            continue
        try:
            data = os.fsencode(path.name) + (path.read_bytes() if path.is_file() else b"")
        except FileNotFoundError:  # of somebody else
            continue
        found += [(path, value) for value, written in known.items() if any(each in data for each in written)]
    return found


class CommandLines:
    """Looks at the command lines, and the environments, of all processes while something runs."""

    def __init__(self, *values: str) -> None:
        self.values = values
        self.seen: set[tuple[str, str]] = set()
        self.looks = 0
        self.done = Event()
        self.thread = Thread(target=self.look)

    def look(self) -> None:
        while not self.done.wait(0.1):
            self.looks += 1
            for entry in Path("/proc").iterdir():
                for name in ("cmdline", "environ") if entry.name.isdigit() and int(entry.name) != os.getpid() else ():
                    try:
                        data = (entry / name).read_bytes()
                    except OSError:
                        continue
                    self.seen |= {(name, value) for value in self.values if value.encode() in data}

    def __enter__(self) -> CommandLines:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.done.set()
        self.thread.join()


def on_a_terminal(command: list[str], *, typed: str, after: str) -> tuple[str, int]:
    """Run a command on a terminal, answer its question, and return all that is seen there."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    shown = b""
    with open(master, "r+b", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:  # nobody has it open any more
                return shown.decode(), process.wait(timeout=60)
            if typed and after.encode() in shown:
                terminal.write(typed.encode())
                typed = ""


def temporary(before: set[Path]) -> list[Path]:
    """What is in the folder for temporary files now, and was not."""
    return [path for path in Path(tempfile.gettempdir()).iterdir() if path.name.startswith("mlt-") and path not in before]


SHOWS = """
import logging, sys
from IPython.display import HTML, display
print("out", key, phrase, token)
print({"key": key, "phrase": phrase}, file=sys.stderr)
print(key[:9], end="", flush=True)
print(key[9:], flush=True)
display(HTML(f"<b title='{key}'>{phrase}</b>"))
logging.getLogger("app").warning("connecting with %s", key)
print((key + "\\n") * 20_000)
"""
WIDGET = """
import os
import ipywidgets
os.system(f"echo {key}; echo {key} >&2")
ipywidgets.Text(value=key)
"""
LOGS = """
import mlflow, os
early = os.environ.get("KEY_FOR_TEST")
mlflow.autolog(disable=True)
with mlflow.start_run() as record:
    mlflow.log_param("param", key)
    mlflow.log_param("phrase", phrase)
    mlflow.log_param(f"name-{key}", 1)
    mlflow.log_params({"several": [key, token], "nested": {"key": phrase}})
    mlflow.set_tag("tag", token)
    mlflow.set_tags({f"tag {key}": phrase, "mlflow.note.content": f"uses {key}"})
    mlflow.log_metric(f"{key}/loss", 0.5)
    mlflow.log_metric(f"{key}/later", 0.5, synchronous=False)
    mlflow.log_metrics({f"{key}/a": 1, "other/b": 2})
    mlflow.log_text(f"the key is {key}, the token {token}", "notes.txt")
    mlflow.log_text("nothing", f"{key}/{key}.txt")
    mlflow.log_dict({"key": key, "phrase": phrase}, "settings.json")
    mlflow.log_table({"key": [key]}, "table.json")
    os.makedirs("files/below", exist_ok=True)
    with open("files/below/own.txt", "w") as file:
        file.write(f"{phrase} {key}")
    with open("files/picture.png", "wb") as file:
        file.write(bytes(range(256)))
    mlflow.log_artifacts("files", "folder")
    mlflow.log_artifact("files/below/own.txt")
    assert open("files/below/own.txt").read() == f"{phrase} {key}", "the notebook's own file stays as it is"
    for name in ("below/own.txt", "picture.png"):
        os.remove(f"files/{name}")
    mlflow.MlflowClient().update_run(record.info.run_id, name=f"with {key}")
    assert mlflow.MlflowClient().get_metric_history(record.info.run_id, f"{key}/loss")[0].value == 0.5
    with mlflow.start_run(run_name=f"child {key}", nested=True, description=key, tags={key: key}):
        mlflow.log_param("inner", key)

    @mlflow.trace(name=f"call {key}", attributes={"how": phrase})
    def call(secret):
        mlflow.get_current_active_span().add_event(mlflow.entities.SpanEvent("used", attributes={"value": secret}))
        return {"answer": secret}

    call(key)
    try:
        mlflow.trace(lambda secret: 1 / 0, name="fails")(phrase)
    except ZeroDivisionError:
        pass
    client = mlflow.MlflowClient()
    model = mlflow.create_external_model(name="model", params={"key": key}, tags={"phrase": phrase})
    client.create_registered_model(f"m {key} {os.getpid()}", tags={"key": key}, description=phrase)
    client.create_model_version(f"m {key} {os.getpid()}", f"models:/{model.model_id}", description=key)
experiment = mlflow.set_experiment(f"experiment {key}")
assert mlflow.set_experiment(f"experiment {key}").experiment_id == experiment.experiment_id
mlflow.set_experiment_tag("key", key)
with mlflow.start_run(run_name=key):
    mlflow.log_param("elsewhere", phrase)
"""
FITS = """
import mlflow, pandas
from sklearn.dummy import DummyClassifier
mlflow.set_experiment(experiment_name="default")
mlflow.sklearn.autolog(log_models=False, silent=True)
DummyClassifier(strategy="constant", constant=key).fit([[0.0], [1.0]], [key, "other"])
with mlflow.start_run():
    data = mlflow.data.from_pandas(pandas.DataFrame({key: [1]}), source=f"https://user:{key}@example.org/data.csv", name=key[:36])
    mlflow.log_input(data, context=key, tags={"key": key})
mlflow.flush_trace_async_logging()
"""
FAILS = """
import atexit
atexit.register(lambda: print("at exit", key, flush=True))
def connect(secret=key):
    raise ConnectionError(f"cannot connect with {secret} and {phrase!r}")
connect(key)
"""
PARAMETERS = "from pydantic import SecretStr\nkey: str\nphrase: str\nsealed: SecretStr\nurl: str = ''"


@pytest.fixture
def in_git(workspace: Path) -> Path:
    """A workspace under git, with an uncommitted change that holds a token."""
    settings = workspace / "config.py"
    settings.write_text("TOKEN = ''\n")
    commit = ["-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-qm", "first"]
    for command in (["init", "-q"], ["add", "."], commit):
        subprocess.run(["git", *command], cwd=workspace, check=True)
    settings.write_text(f"TOKEN = '{TOKEN}'\nKEY = '{KEY}'\n")
    (workspace / "settings.ini").write_text("[mltoolkit]\noutput_limit = 300000\nvariables = KEY_FOR_TEST\n")
    return workspace


def test_nowhere(in_git: Path, write: Write, tmp_path: Path) -> None:
    begin = "token = 'gh' + 'p_' + 'Zz9Yy8' * 6\nassert sealed.get_secret_value() == phrase"
    write("leaky.ipynb", begin, SHOWS, WIDGET, LOGS, FITS, FAILS, parameters=PARAMETERS)
    write("brief.ipynb", begin, SHOWS, WIDGET, FAILS, parameters=PARAMETERS)
    (tmp_path / "phrase").write_text(PHRASE + "\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | {"KEY_FOR_TEST": KEY}
    options = ["--secret", "key=env:KEY_FOR_TEST", "-p", "url", "postgresql://me:" + "hunter22secret" + "@db/x"]
    options += [part for name in ("phrase", "sealed") for part in ("--secret", f"{name}=file:{tmp_path / 'phrase'}")]
    before, outputs = set(Path(tempfile.gettempdir()).iterdir()), [tmp_path / "loud", tmp_path / "json"]
    with CommandLines(KEY, PHRASE) as lines, outputs[0].open("wb") as loud, outputs[1].open("wb") as quiet:
        started = [
            subprocess.Popen([BIN / "mltoolkit", "run", "leaky.ipynb", *options, "--log-output"], stdout=loud, stderr=subprocess.STDOUT, env=env),
            subprocess.Popen([BIN / "mltoolkit", "run", "brief.ipynb", *options, "--json"], stdout=quiet, stderr=subprocess.STDOUT, env=env),
        ]
        assert [each.wait(timeout=180) for each in started] == [1, 1], outputs[0].read_text() + outputs[1].read_text()
    assert all("ConnectionError: cannot connect with [secret:key]" in path.read_text() for path in outputs)
    values = (KEY, PHRASE, TOKEN, "hunter22secret")
    assert holding([in_git, *outputs, *temporary(before)], values, but=[in_git / "config.py"]) == []
    assert lines.looks > 20
    assert lines.seen == {("environ", KEY)}, "the variable that the user set; never a command line, and nothing else"

    # nothing else is missing
    store = tracking.client(in_git)
    manifests = [json.loads(path.read_text()) for path in in_git.glob(".mltoolkit/runs/*/manifest.json")]
    for manifest in manifests:
        folder = in_git / ".mltoolkit" / "runs" / manifest["run_id"]
        assert (manifest["failure"]["ename"], manifest["warnings"]) == ("ConnectionError", [])
        assert manifest["redacted"]["secret:key"] > 20_000
        assert manifest["parameters"] == {"url": "postgresql://me:[redacted:url-password]@db/x"}
        assert manifest["environment"]["variables"] == {"KEY_FOR_TEST": "[secret:key]"}
        assert not (folder / "removals.jsonl").exists()
        assert "[redacted:github-token]" in (folder / "uncommitted.diff").read_text()
        assert "[secret:key]" in (folder / "uncommitted.diff").read_text()
    [manifest] = [each for each in manifests if each["notebook"] == "leaky.ipynb"]
    assert manifest["redacted"]["redacted:github-token"] > 3
    record = store.get_run(manifest["run_id"])
    params = record.data.params
    assert (record.info.run_name, params["param"], params["name-secret-key"]) == ("with [secret:key]", "[secret:key]", "1")
    assert ast.literal_eval(params["several"]) == ["[secret:key]", "[redacted:github-token]"]
    assert record.data.tags["tag secret-key"] == "[secret:phrase]"
    assert {"secret-key/loss", "secret-key/later", "secret-key/a"} <= record.data.metrics.keys() == manifest["metrics"].keys()
    files = Path(record.info.artifact_uri.removeprefix("file://"))
    assert json.loads((files / "settings.json").read_text()) == {"key": "[secret:key]", "phrase": "[secret:phrase]"}
    assert (files / "folder" / "picture.png").read_bytes() == bytes(range(256))
    assert (files / "folder" / "below" / "own.txt").read_text() == "[secret:phrase] [secret:key]"
    assert (files / "secret-key" / "secret-key.txt").read_text() == "nothing"
    experiments = [each.experiment_id for each in store.search_experiments()]
    children = store.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{record.info.run_id}'")
    assert {run.info.run_name for run in children} >= {"child [secret:key]", "[secret:key]"}
    assert "[secret:key]" in {run.data.params.get("constant") for run in children}, "autologging"
    [data] = [used for run in children for used in run.inputs.dataset_inputs if "example.org" in used.dataset.source]
    assert "https://user:[secret:key]@example.org" in data.dataset.source
    spans = [span for trace in store.search_traces(run_id=record.info.run_id, locations=experiments) for span in trace.data.spans]
    assert {span.name for span in spans} == {"call secret-key", "fails"}
    assert {"answer": "[secret:key]"} in [span.outputs for span in spans]


def test_killed_in_the_middle(bare_workspace: Path, tiny: str, write: Write, tmp_path: Path, mark: Any) -> None:
    (bare_workspace / "settings.ini").write_text("[mltoolkit]\noutput_limit = 100000\n")
    write("stuck.ipynb", "print(key[:9], end='', flush=True)", "print(key, phrase)", "print((key + ' ') * 9000)", "import time\nprint(key, end='', flush=True)\ntime.sleep(600)",
          kernel=tiny, parameters="key: str\nphrase: str = ''")  # fmt: skip
    secret = tmp_path / "key"
    secret.write_text(KEY)
    before = set(Path(tempfile.gettempdir()).iterdir())
    with CommandLines(KEY) as lines, (tmp_path / "shown").open("wb") as shown:
        process = mark.start(
            BIN / "mltoolkit", "run", "stuck.ipynb", "--no-track", "--log-output", "--secret", f"key=file:{secret}", stdout=shown, stderr=shown
        )
        deadline = time.monotonic() + 90
        runs, begun = bare_workspace / ".mltoolkit" / "runs", b'"event":"start","cell":4'
        while not any(begun in path.read_bytes() for path in runs.glob("*/journal.jsonl")):
            assert time.monotonic() < deadline, "the last cell has begun"
            time.sleep(0.05)
        assert holding([bare_workspace, *temporary(before)], [KEY]) == [], "while it runs"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    mark.all_gone()
    assert holding([tmp_path / "shown"], [KEY]) == []
    assert "[secret:key]" in (tmp_path / "shown").read_text()
    assert lines.seen == set()
    [folder] = [path for path in runs.iterdir() if path.is_dir()]
    assert b"[secret:key]" in (folder / "journal.jsonl").read_bytes()
    assert holding([bare_workspace, *temporary(before)], [KEY]) == []
    assert _rescue(folder)
    assert "[secret:key]" in json.dumps(document.read(folder / "stuck.ipynb"))
    assert holding([bare_workspace], [KEY]) == []


PAPERMILL = """
import mlflow, os, sys
token = os.environ["TOKEN_FOR_TEST"]
print(token)
print(token[:9], end="", flush=True)
print(token[9:], flush=True)
mlflow.autolog(disable=True)
with mlflow.start_run(run_name=token) as run:
    mlflow.log_param("token", token)
    mlflow.log_metric(token, 1)
    mlflow.log_text(token, "token.txt")
raise ValueError(token)
"""


def test_papermill_removes_known_formats(workspace: Path, tiny: str, write: Write, tmp_path: Path) -> None:
    write("in.ipynb", PAPERMILL, kernel=tiny)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | {"TOKEN_FOR_TEST": TOKEN}
    done = subprocess.run(
        [BIN / "papermill", "--engine", "mltoolkit", "--log-output", "in.ipynb", "out.ipynb"], env=env, capture_output=True, text=True, check=False
    )
    assert "[redacted:github-token]" in done.stderr, done.stderr
    assert "PapermillExecutionError" in done.stderr, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert holding([workspace], [TOKEN]) == []
    store = tracking.client(workspace)
    [run] = store.search_runs([each.experiment_id for each in store.search_experiments()])
    assert (run.info.run_name, run.data.params, run.data.metrics) == ("[redacted:github-token]", {"token": "[redacted:github-token]"}, {"redacted-github-token": 1.0})


def test_from_python_and_before_it_is_given(bare_workspace: Path, tiny: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel knows the value before the cell of parameters, and what a notebook shows of its source is filtered."""
    monkeypatch.setenv("KEY_FOR_TEST", KEY)
    tokens = [f"# {TOKEN}\nprint(key)", "raise ValueError(key)"]
    source = document.read(write("a.ipynb", *tokens, kernel=tiny, parameters="key: str"))
    source.cells.insert(0, notebook_of("import os\nprint(os.environ['KEY_FOR_TEST'])").cells[0])
    document.write(source, "a.ipynb")
    watched: list[Any] = []
    with pytest.raises(NotebookFailed) as caught:
        run_notebook("a.ipynb", secrets={"key": KEY}, track=False, watch=lambda *told: watched.append(told))
    assert KEY not in str(caught.value) + repr(caught.value.run) + str(watched)
    assert TOKEN not in str(watched)
    assert [event for event, *_ in watched].count("start") == 4
    assert holding([bare_workspace], [KEY, TOKEN], but=[bare_workspace / "a.ipynb"]) == []
    assert caught.value.run.redacted["secret:key"] >= 3


def test_a_kernel_without_the_package_says_so(bare_workspace: Path, write: Write, kernelspec: Callable[..., str]) -> None:
    script = Path(__file__).parents[1] / "tiny_ipykernel.py"
    blocked = "import sys, runpy; sys.modules['mltoolkit'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    kernelspec("elsewhere", sys.executable, "-c", blocked, str(script), "{connection_file}", "ipykernel")
    source = write("a.ipynb", "print(key)", kernel="elsewhere", parameters="key: str = ''")
    [warning] = run_notebook(source, secrets={"key": KEY}, track=False).warnings
    assert "secrets are not looked for in what the notebook itself logs to MLflow" in warning
    assert run_notebook(source, track=False).warnings == []


def test_a_value_is_not_taken_from_a_command_line(bare_workspace: Path, write: Write) -> None:
    write("a.ipynb", "1", parameters="from pydantic import SecretStr\nkey: SecretStr")
    for given in (["-p", "key", KEY], ["-y", f"key: {KEY}"], ["--secret", f"key={KEY}"]):
        done = subprocess.run([BIN / "mltoolkit", "run", "a.ipynb", "--no-track", *given], capture_output=True, text=True, check=False)
        assert (done.returncode, KEY in done.stdout + done.stderr) == (2, False), done.stderr
        assert "secret" in done.stderr
    assert not (bare_workspace / ".mltoolkit" / "runs").exists()


def test_asked_for_on_a_terminal(bare_workspace: Path, tiny: str, write: Write) -> None:
    write("a.ipynb", "import os, time\nassert len(key) == 24\nprint(key)", kernel=tiny, parameters="key: str")
    with CommandLines(KEY) as lines:
        shown, code = on_a_terminal([str(BIN / "mltoolkit"), "run", "a.ipynb", "--no-track", "--log-output", "--secret", "key"], typed=KEY + "\n", after="secret key")
    assert (code, KEY in shown, lines.seen) == (0, False, set()), shown
    assert "[secret:key]" in shown
    assert holding([bare_workspace], [KEY]) == []
