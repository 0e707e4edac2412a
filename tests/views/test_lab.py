"""A real `mltoolkit lab`: in a browser, over HTTP, and at its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import notebook_of
from lab_of_tests import TOKEN, Lab, Page, mltoolkit_lab
from processes import wait_for
from warm import Place, inhabitants, runtime_folder

from mltoolkit import cli
from mltoolkit.errors import Invalid, MissingExtra
from mltoolkit.execution import kernels, zygote
from mltoolkit.notebook import document
from mltoolkit.scheduling.adding import add_job
from mltoolkit.views import lab as views

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
import chromium  # noqa: E402

FIRST = "import os, pathlib\nprint('process', os.getpid(), 'of', pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_text().split('\\0')[1])"
PLAIN = "assert 'check' not in get_ipython().magics_manager.magics['line']"  # a run of record has the environment's own kernel


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, prepared_store: Path) -> Iterator[Lab]:
    """One for all tests here; a workspace with a notebook, and a project with a job."""
    folder = tmp_path_factory.mktemp("lab")
    with runtime_folder() as runtime:
        place = Place.make(folder / "workspace", "sqlite3")
        document.write(
            notebook_of(FIRST, "%check", parameters="limit: float = float('inf')"), place.root / "lab.ipynb"
        )
        document.write(
            notebook_of(PLAIN, parameters="limit: float  # of what it costs"), place.root / "night.ipynb"
        )
        (place.root / ".mltoolkit").mkdir()
        shutil.copy(prepared_store, place.root / ".mltoolkit" / "mlflow.db")
        with mltoolkit_lab(place, folder, runtime) as made:
            yield made


def test_who_has_no_token_gets_nothing(lab: Lab) -> None:
    for what, body in (
        ("check?path=lab.ipynb", None),
        ("contract?path=lab.ipynb", None),
        ("jobs", None),
        ("runs", None),
        ("run", {"job": "x"}),
        ("schedule", {}),
    ):
        assert lab.ask(what, body, token="")[0] == 403
        assert lab.ask(what, body, token="another")[0] == 403
    search = "mlflow/ajax-api/2.0/mlflow/experiments/search?max_results=1"
    with urllib.request.urlopen(f"{lab.address}{search}", timeout=60) as page:
        assert page.url.startswith(f"{lab.address}login?next=")  # MLflow is behind the same door
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    opener.open(
        f"{lab.address}lab?token={TOKEN}", timeout=60
    ).close()  # now the cookie lets it in, and looking is allowed
    assert opener.open(f"{lab.address}mltoolkit/contract?path=lab.ipynb", timeout=60).status == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        opener.open(urllib.request.Request(f"{lab.address}mltoolkit/run", b'{"job": "lab"}'), timeout=60)
    assert not (lab.place.root / "jobs.yaml").exists()
    listening = Path("/proc/net/tcp").read_text()
    port = f":{int(lab.address.rstrip('/').rpartition(':')[2]):04X} "
    assert {line.split()[1] for line in listening.splitlines() if port in line and " 0A " in line} == {
        f"0100007F{port.strip()}"
    }  # this machine only


def test_what_is_asked_for(lab: Lab) -> None:
    status, contract = lab.ask("contract?path=lab.ipynb")
    assert (status, contract["typed"], list(contract["schema"]["properties"])) == (200, True, ["limit"])
    status, found = lab.ask("check?path=lab.ipynb")
    assert status == 200
    said = CliRunner().invoke(cli.main, ["check", str(lab.place.root / "lab.ipynb"), "--json"]).stdout
    assert found == json.loads(said), said
    assert found
    assert lab.ask("runs?limit=5") == (200, [])
    assert lab.ask("jobs") == (200, {"jobs": [], "findings": []})
    for what, problem in (
        ("check?path=../out", "outside"), ("check?path=none.ipynb", "no file"), ("runs?limit=many", "1 to 1000"), ("contract?path=settings.ini", "not valid JSON"),
    ):  # fmt: skip
        status, told = lab.ask(what)
        assert status == 400, (what, told)
        assert problem in told["message"]


def test_a_notebook_is_scheduled_and_run(lab: Lab) -> None:
    jobs = lab.place.root / "jobs.yaml"
    for body, problem in (
        ({"path": "night.ipynb", "name": "night", "job": {"schedule": {"cron": "61 * * * *"}}}, "cron"),
        ({"path": "night.ipynb", "name": "night", "job": {"parameters": {"limit": "high"}}}, "limit"),
        ({"path": "night.ipynb", "name": "../night", "job": {}}, "name"),
        ({"path": "night.ipynb", "job": {}}, "name"),
        ({"path": "night.ipynb", "name": "night", "job": []}, "job"),
    ):
        status, told = lab.ask("schedule", body)
        assert status == 400, told
        assert problem in told["message"]
    assert not jobs.exists()
    assert lab.ask("schedule", {"path": "night.ipynb", "name": "night", "job": {"schedule": {"cron": "30 2 1 * *"}, "parameters": {"limit": 3.5}}}) == (
        200, {"job": "night", "file": "jobs.yaml", "schedule": "30 2 1 * * UTC"},
    )  # fmt: skip
    assert yaml.safe_load(jobs.read_text())["jobs"]["night"] == {
        "notebook": "night.ipynb",
        "schedule": {"cron": "30 2 1 * *"},
        "parameters": {"limit": 3.5},
    }
    assert "already" in lab.ask("schedule", {"path": "night.ipynb", "name": "night"})[1]["message"]
    assert [each["job"] for each in lab.ask("jobs")[1]["jobs"]] == ["night"]
    assert lab.ask("run", {"job": "nigh"})[0] == 400
    status, asked = lab.ask("run", {"job": "night", "date": "2013-01-01"})
    assert (status, asked["worker"]) == (200, False)
    state = wait_for(lambda: lab.ask("jobs")[1]["jobs"][0]["last_state"], "the job to be done", 180)
    assert state == "succeeded", (lab.place.root / ".mltoolkit" / "lab-jobs.log").read_text()
    (run,) = lab.ask("runs")[1]
    assert (run["status"], run["notebook"]) == ("succeeded", "night.ipynb")


def test_in_a_browser(lab: Lab, tmp_path: Path) -> None:
    wait_for(kernels.zygotes, "the zygote to be ready", 120)
    with chromium.browser() as tab:
        tab.size(1200)
        tab.open(lab.told["address"])
        page = Page(tab)
        page.kernel("Python 3 (ipykernel)")
        page.run(1)
        assert page.output(1, r"process (\d+) of (.*)")[2] == zygote.__file__
        page.run(2)
        page.output(2, "MLT|nothing")
        assert tab.complaints() == []
        tab.screenshot(tmp_path / "notebook.png")
        tab.click(".lm-MenuBar-item", "File")
        tab.click(".lm-Menu-item[data-command='launcher:create']")
        tab.click(".jp-LauncherCard", "MLflow")
        frame = "document.querySelector('iframe[src*=mlflow]')?.contentDocument?.body?.innerText ?? ''"
        tab.until(f"({frame}).includes('Experiments')", "MLflow's page", 180)
        asked = "{method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{\"experiment_ids\": [\"0\"]}'}"
        assert (
            tab.run(
                f"fetch('/mlflow/ajax-api/2.0/mlflow/runs/search', {asked}).then(answer => answer.status)"
            )
            == 200
        )
        tab.until(f"!({frame}).includes('Loading')", "the page to be complete")
        tab.screenshot(tmp_path / "mlflow.png")
        unknown = "mlflow/users/current"  # MLflow's page asks who is signed in, which a server without basic-auth answers with 404
        assert [each for each in tab.complaints() if not each.endswith(unknown)] == []


def test_it_goes_with_all_it_started(lab: Lab) -> None:
    assert "Traceback" not in lab.log()
    lab.process.send_signal(signal.SIGTERM)
    assert lab.process.wait(60) == 0
    folder = Path(os.environ["XDG_RUNTIME_DIR"])
    wait_for(
        lambda: all(
            b"/execution/zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
            for pid in inhabitants(folder)
        ),
        "JupyterLab and MLflow to be gone",
    )
    wait_for(lambda: not any(state.kernels for state in kernels.zygotes()), "its kernels to be gone")


def test_what_cannot_be_opened(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = CliRunner().invoke(cli.main, ["lab", "none.ipynb"])
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "no file or folder none.ipynb" in missing.stderr
    assert views.wanted(bare_workspace).page == "/lab"
    monkeypatch.setitem(sys.modules, "jupyter_server_proxy", None)
    with pytest.raises(MissingExtra, match="pip install 'mltoolkit"):
        views.wanted()


def test_a_job_is_added_to_what_is_written(bare_workspace: Path) -> None:
    folder = bare_workspace / "projects" / "flights"
    folder.mkdir(parents=True)
    document.write(notebook_of("1"), folder / "train.ipynb")
    before = "# ours\njobs:\n  first:  # of all\n    notebook: train.ipynb\n    needs: []\n\nx-own: {a: 1}\n"
    (folder / "jobs.yaml").write_text(before)
    assert add_job(folder / "train.ipynb", "second", {"needs": ["first"]}).id == "flights/second"
    assert (folder / "jobs.yaml").read_text() == before.replace(
        "    needs: []\n", "    needs: []\n  second:\n    notebook: train.ipynb\n    needs:\n    - first\n"
    )
    (folder / "jobs.yaml").write_text("jobs: {first: {notebook: train.ipynb}}\n")
    with pytest.raises(Invalid, match="by hand"):
        add_job(folder / "train.ipynb", "second", {})
    (folder / "jobs.yaml").write_text("jobs: [\n")
    with pytest.raises(Invalid, match=r"jobs\.yaml:2"):
        add_job(folder / "train.ipynb", "second", {})
