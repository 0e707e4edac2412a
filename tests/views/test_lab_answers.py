"""What JupyterLab's menus ask for, and how its kernels and MLflow are named; tests/views/test_lab.py has the same in a real one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mltoolkit import settings
from mltoolkit.errors import Invalid, TrackingError
from mltoolkit.execution import kernels, zygote
from mltoolkit.scheduling.adding import add_job
from mltoolkit.views import lab, lab_answers, lab_server


def test_answers(workspace: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write("night.ipynb", "print(limit)", parameters="limit: float")
    worked: list[Any] = []
    monkeypatch.setattr(lab_answers, "_work", lambda *given: worked.append(given))
    shown, done = lab_answers.SHOWN, lab_answers.DONE
    assert shown["contract"](workspace, {"path": "night.ipynb"})["required"] == ["limit"]
    assert [each["code"] for each in shown["check"](workspace, {"path": "night.ipynb"})] == ["MLT203"]
    assert shown["runs"](workspace, {}) == []
    with pytest.raises(Invalid, match="limit"):
        done["schedule"](workspace, {"path": "night.ipynb", "name": "night"})
    assert (
        done["schedule"](
            workspace, {"path": "night.ipynb", "name": "night", "job": {"parameters": {"limit": 1}}}
        )["schedule"]
        is None
    )
    asked = done["run"](workspace, {"job": "night", "date": "2013-01-01", "alone": True})
    assert asked == {"keys": ["night@2013-01-01T00:00:00"], "states": ["waiting"], "worker": False}
    assert worked == [(workspace, "night@2013-01-01T00:00:00", True)]
    (workspace / "jobs.yaml").write_text("jobs:\n  other:\n    notebook: none.ipynb\n")
    told = shown["jobs"](workspace, {})
    assert (told["jobs"], told["findings"][0]["code"]) == ([], "JOB003")


@pytest.mark.parametrize("path", ["../elsewhere", "/etc/passwd", "link", 3, "none.ipynb", "a\0b", "a" * 5000, "circle"])
def test_what_is_not_below_the_folder_is_refused(bare_workspace: Path, path: Any) -> None:
    (bare_workspace / "link").symlink_to("/etc/passwd")
    (bare_workspace / "circle").symlink_to("circle")
    with pytest.raises(Invalid, match=r"outside|no text|no file|is none"):
        lab_answers.findings(bare_workspace, {"path": path})


def test_what_is_no_number_is_told_as_text() -> None:
    told: list[str] = []
    asking = SimpleNamespace(settings={"server_root_dir": "."}, answer=lambda root, asked: [{"auc": float("nan")}], finish=told.append)
    asyncio.run(lab_server.Asking.reply(asking, {}))  # type: ignore[arg-type]
    assert told == ['[{"auc": "NaN"}]']


@pytest.mark.parametrize("asked", [{"limit": "0"}, {"limit": "1001"}, {"limit": "-1"}, {"limit": "two"}])
def test_a_limit_is_a_number(bare_workspace: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="1 to 1000"):
        lab_answers.runs(bare_workspace, asked)


def test_only_kernels_of_this_environment_are_changed(
    kernelspec: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = ("-m", "ipykernel_launcher", "-f", "{connection_file}")
    kernelspec("ours", "python", *launcher, metadata={"debugger": True})
    kernelspec(
        "told",
        sys.executable,
        *launcher,
        metadata={"kernel_provisioner": {"provisioner_name": "local-provisioner"}},
    )
    kernelspec("another", "/usr/bin/python3", *launcher)
    kernelspec("julia", "julia", "{connection_file}", language="julia")
    found = {name: each["spec"] for name, each in lab_server.WarmKernels().get_all_specs().items()}
    extension = "--InteractiveShellApp.extra_extensions=mltoolkit"
    assert {name for name, spec in found.items() if extension in spec["argv"]} == {"python3", "ours", "told"}
    assert found["ours"]["metadata"] == {
        "debugger": True,
        "kernel_provisioner": {"provisioner_name": kernels.PROVISIONER},
    }
    assert found["told"]["metadata"]["kernel_provisioner"]["provisioner_name"] == "local-provisioner"


def test_mlflow_has_a_tile_unless_it_is_a_server_already(
    bare_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = lab_server.mlflow_tile()
    assert tile["launcher_entry"]["enabled"]
    assert tile["environment"] == {"JPY_PARENT_PID": str(os.getpid())}
    assert tile["command"][4] == ""  # no report; two of them would share it
    monkeypatch.setenv("MLTOOLKIT_TRACKING_URI", "http://127.0.0.1:9")
    assert not lab_server.mlflow_tile()["launcher_entry"]["enabled"]


@pytest.mark.parametrize("told", ["text", "json", None])
def test_the_address_is_said_once(
    told: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = SimpleNamespace(
        connection_url="http://127.0.0.1:1/", identity_provider=SimpleNamespace(token="t"), root_dir="/w"
    )
    if told:
        monkeypatch.setenv(lab.TOLD, told)
    asyncio.run(lab_server._start_jupyter_server_extension(app))
    said = capsys.readouterr().out
    address = "http://127.0.0.1:1/?token=t"
    assert said.strip() == {"text": address, None: ""}.get(told, said.strip())
    assert told != "json" or json.loads(said) == {"address": address, "pid": os.getpid(), "workspace": "/w"}
    assert lab.TOLD not in os.environ


def test_a_process_becomes_jupyterlab(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *given: became.append((os.getcwd(), *given)))
    (bare_workspace / "a b").mkdir()
    lab.become(lab.wanted("a b", port=0, browser=False), told="json")
    (where, program, command, env) = became[0]
    assert (where, program, env[lab.TOLD]) == (str(bare_workspace), sys.executable, "json")
    assert {
        "--LabApp.default_url=/lab/tree/a%20b",
        "--LabApp.open_browser=False",
        "--ServerApp.ip=127.0.0.1",
    } <= set(command)
    assert "--ServerApp.port=0" not in command
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TrackingError, match="taken"):
        lab.become(lab.wanted(port=taken.getsockname()[1]))


def test_a_zygote_is_started_unless_it_is_there(
    bare_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[kernels.Request] = []
    monkeypatch.setattr(kernels, "start_zygote", lambda request, idle: started.append(request))
    monkeypatch.setenv("MLTOOLKIT_WARM", "yes")
    monkeypatch.setattr(os, "execve", lambda *given: None)
    lab.become(lab.wanted(port=0))
    assert [each.root for each in started] == [str(bare_workspace)]
    monkeypatch.setattr(
        zygote, "paths", lambda folder, key, env: iter(["/its/socket"] if key == started[0].key else [])
    )
    monkeypatch.setattr(kernels, "zygotes", lambda: [SimpleNamespace(socket="/its/socket")])
    lab.become(lab.wanted(port=0))
    assert len(started) == 1


def test_jobs_that_are_worked_at_at_once_share_no_report(bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(lab_answers.subprocess, "run", lambda command, **options: commands.append(command))
    for date in ("2026-05-04", "2026-05-05"):
        lab_answers._work(bare_workspace, f"p/a@{date}", alone=False)
    assert [each[4] for each in commands] == ["", ""]
    assert [each[-2] for each in commands] == ["2026-05-04", "2026-05-05"]


def test_a_job_is_not_added_where_it_cannot_be(bare_workspace: Path, write: Callable[..., Path]) -> None:
    path = write("night.ipynb", "1")
    for text, problem in (
        ("- a\n", "must map"),
        ("jobs: [a]\n", "must map"),
        ("jobs:\n  night: {notebook: night.ipynb}\n", "already"),
    ):
        (bare_workspace / "jobs.yaml").write_text(text)
        with pytest.raises(Invalid, match=problem):
            add_job(path, "night", {})
        assert (bare_workspace / "jobs.yaml").read_text() == text
    for text in ("jobs:", "", "x-own: 1"):
        (bare_workspace / "jobs.yaml").write_text(text)
        assert add_job(path, "night", {}).file == bare_workspace / "jobs.yaml"
    assert settings.workspace(path) == bare_workspace
