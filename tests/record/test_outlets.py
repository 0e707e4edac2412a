"""The filter before MLflow's doors: values, names, files, and the doors themselves."""

from __future__ import annotations

import enum
import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Metric, Param, RunInfo

from mltoolkit.record import joining, outlets, tracking
from mltoolkit.record.outlets import REMOVALS, Outlet, filter_mlflow, filtered_file, filtered_folder, removals

KEY = "correct-horse-battery"


@pytest.fixture
def outlet(tmp_path: Path) -> Outlet:
    return Outlet({"KEY": KEY}, tmp_path)


# --- values


def test_what_holds_no_secret_is_the_same_object(outlet: Outlet) -> None:
    colour = enum.Enum("colour", "red")
    for harmless in ("text", 3, None, ["a"], {"a": ["b"]}, ("a",), {"a"}, Param("a", "b"), colour.red, SimpleNamespace(a=KEY), Param, KEY.encode()):
        assert outlet.filtered(harmless) is harmless
    assert outlet.redactor.counts == {}


def test_containers_and_entities_are_copied(outlet: Outlet) -> None:
    original = {"list": [KEY, ("a", KEY)], KEY: {KEY}, "deque": deque([KEY], maxlen=3), "metric": Metric(f"{KEY}/x", 1.0, 2, 3)}
    found = outlet.filtered(original)
    assert found["list"] == ["[secret:KEY]", ("a", "[secret:KEY]")]
    assert found["secret-KEY"] == {"[secret:KEY]"}
    assert (found["deque"], type(found["deque"])) == (deque(["[secret:KEY]"]), deque)
    assert (found["metric"].key, found["metric"].value, found["metric"].step) == ("secret-KEY/x", 1.0, 3)
    assert original["metric"].key == f"{KEY}/x"
    assert original["list"][0] == KEY


def test_identifiers_are_mlflows_own(outlet: Outlet) -> None:
    info = RunInfo(run_id=KEY, experiment_id=KEY, user_id="u", status="RUNNING", start_time=0, end_time=0, lifecycle_stage="active", run_name=KEY)
    assert (outlet.filtered(info).run_id, outlet.filtered(info).run_name) == (KEY, "[secret:KEY]")


def test_an_entity_that_holds_itself_ends(outlet: Outlet) -> None:
    param = Param("a", KEY)
    vars(param)["_itself"] = param
    assert outlet.filtered(param).value == "[secret:KEY]"


def test_names_stay_apart_and_the_same(outlet: Outlet) -> None:
    tokens = ["gh" + "p_" + each * 36 for each in "aB"]
    first, second = (outlet.filtered(token, name=True) for token in tokens)
    assert (first, second) == ("redacted-github-token", "redacted-github-token 2")
    assert outlet.filtered(tokens[0], outlet.asking, name=True) == first


# --- counting


def test_notes_add_up_from_many_threads_and_are_taken_once(outlet: Outlet, tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(50):
            outlet.filtered(KEY)
            outlet.note()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with (tmp_path / REMOVALS).open("a") as file:
        file.write('{"secret:KEY": 2')  # cut off
    assert removals(tmp_path) == {"secret:KEY": 200}
    assert removals(tmp_path) == {}


def test_without_a_folder_nothing_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outlet = Outlet({"KEY": KEY})
    outlet.filtered(KEY)
    outlet.note()
    assert list(tmp_path.iterdir()) == []


# --- files


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("before", [0, 7, (1 << 20) - 10, (1 << 20) + 5, 3 << 20])
def test_a_long_text_is_rewritten_wherever_the_secret_stands(outlet: Outlet, tmp_path: Path, before: int) -> None:
    filling = ("äöü line\n" * (before // 9 + 1)).encode()[: before - before % 2].decode(errors="ignore").encode()
    source = written(tmp_path / "long.txt", filling + KEY.encode() + "\r\nénd".encode())
    with filtered_file(outlet, str(source)) as path:
        assert Path(path).name == "long.txt"
        assert Path(path).read_bytes() == filling + b"[secret:KEY]" + "\r\nénd".encode()
    assert not Path(path).exists()
    assert KEY.encode() in source.read_bytes()
    assert outlet.redactor.counts == {"secret:KEY": 1}


@pytest.mark.parametrize("content", [b"\x89PNG" + KEY.encode(), b"\x00" + KEY.encode(), KEY.encode() + b"\xff", KEY.encode() * 90_000 + b"\xff", b"", b"harmless"])
def test_what_is_not_text_or_has_no_secret_stays(outlet: Outlet, tmp_path: Path, content: bytes) -> None:
    source = str(written(tmp_path / "file", content))
    with filtered_file(outlet, source) as path:
        assert path == source
    assert outlet.redactor.counts == {}


def test_a_name_alone(outlet: Outlet, tmp_path: Path) -> None:
    source = written(tmp_path / f"{KEY}.bin", b"\x00")
    with filtered_file(outlet, str(source)) as path:
        assert (Path(path).name, Path(path).read_bytes()) == ("secret-KEY.bin", b"\x00")


def test_a_missing_file_is_mlflows_to_report(outlet: Outlet, tmp_path: Path) -> None:
    with filtered_file(outlet, str(tmp_path / "none")) as path:
        assert path == str(tmp_path / "none")


def test_folders(outlet: Outlet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    written(folder / "a" / "text.txt", KEY.encode())
    written(folder / "a" / "same.txt", b"same")
    written(folder / KEY / "picture.png", b"\x00")
    (folder / "empty").mkdir()
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    expected = {"a/text.txt": b"[secret:KEY]", "a/same.txt": b"same", "secret-KEY/picture.png": b"\x00"}
    for links in (True, False):
        if not links:
            monkeypatch.setattr(Path, "symlink_to", lambda *args, **more: (_ for _ in ()).throw(OSError("not here")))
        with filtered_folder(outlet, str(folder)) as path:
            assert {str(each.relative_to(path)): each.read_bytes() for each in Path(path).rglob("*") if each.is_file()} == expected
            assert (Path(path) / "empty").is_dir()
    assert (folder / "a" / "text.txt").read_text() == KEY


def test_a_folder_without_secrets_is_itself(outlet: Outlet, tmp_path: Path) -> None:
    written(tmp_path / "folder" / "a" / "same.txt", b"same")
    with filtered_folder(outlet, str(tmp_path / "folder")) as path:
        assert path == str(tmp_path / "folder")


# --- the doors


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow, as it was afterwards."""
    import mlflow
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.store.model_registry.abstract_store import AbstractStore as Registry
    from mlflow.store.tracking.abstract_store import AbstractStore as Store
    from mlflow.tracking._tracking_service import utils

    import mltoolkit.record.spooled_artifacts
    import mltoolkit.record.spooled_store  # noqa: F401

    bases: list[Any] = [Store, Registry, ArtifactRepository]
    for base in bases:
        monkeypatch.setattr(base, "__init__", base.__init__)
    were = {(kind, name): found for base in bases for kind in outlets._below(base) for name, found in vars(kind).items()}
    before = mlflow.get_tracking_uri()
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)
    utils._artifact_repos_cache.clear()
    outlets._GUARDED.clear()
    outlets._Passage.outlet = None
    for base in bases:
        for kind in outlets._below(base):
            for name, found in list(vars(kind).items()):
                if (kind, name) in were:
                    if found is not were[kind, name]:
                        setattr(kind, name, were[kind, name])
                elif getattr(found, "_passes_filter", False):
                    its_own = (found.__module__, found.__qualname__) == (kind.__module__, f"{kind.__qualname__}.{name}")
                    setattr(kind, name, found.__wrapped__) if its_own else delattr(kind, name)


def test_every_door(restored: Any, workspace: Path, outlet: Outlet, tmp_path: Path) -> None:
    store = tracking.client(workspace)
    restored.set_tracking_uri(store.tracking_uri)
    filter_mlflow(outlet)
    filter_mlflow(outlet)  # no door has two filters
    with restored.start_run(run_name=KEY, experiment_id=store.create_experiment("e", str(workspace / "files"))) as run:
        restored.log_params({KEY: KEY})
        restored.log_metric(KEY, 1, synchronous=False).wait()
        assert [each.value for each in restored.MlflowClient().get_metric_history(run.info.run_id, KEY)] == [1.0]
        restored.log_text(KEY, "a.txt")
        written(tmp_path / "more" / "b.txt", KEY.encode())
        restored.MlflowClient().log_artifacts(run.info.run_id, local_dir=str(tmp_path / "more"))
        kept = restored.MlflowClient()._tracking_client._get_artifact_repo(run.info.run_id)
        kept.log_artifact(local_file=tmp_path / "more" / "b.txt", artifact_path=KEY)
    found = store.get_run(run.info.run_id)
    assert (found.info.run_name, found.data.params, found.data.metrics) == ("[secret:KEY]", {"secret-KEY": "[secret:KEY]"}, {"secret-KEY": 1.0})
    folder = Path(found.info.artifact_uri)
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert texts == {"a.txt": "[secret:KEY]", "b.txt": "[secret:KEY]", "secret-KEY/b.txt": "[secret:KEY]"}
    assert removals(tmp_path) == {"secret:KEY": 9}, "questions are not counted"
    registry = restored.MlflowClient()._get_registry_client().store
    assert not hasattr(registry.create_webhook, "_passes_filter"), "it needs its address"


def test_prepared_ahead_all_passes_until_there_is_a_filter(restored: Any, workspace: Path, outlet: Outlet) -> None:
    """A process from which kernels are forked does it before it knows their secrets."""
    store = tracking.client(workspace)
    restored.set_tracking_uri(store.tracking_uri)
    outlets.guard_mlflow()
    with restored.start_run(experiment_id=store.create_experiment("e", str(workspace / "files"))) as run:
        restored.log_param("before", KEY)
        restored.log_text(KEY, "before.txt")
        filter_mlflow(outlet)
        restored.log_param("after", KEY)
        restored.log_text(KEY, "after.txt")
    found = store.get_run(run.info.run_id)
    assert found.data.params == {"before": KEY, "after": "[secret:KEY]"}
    folder = Path(found.info.artifact_uri)
    assert {path.name: path.read_text() for path in folder.rglob("*.txt")} == {"before.txt": KEY, "after.txt": "[secret:KEY]"}


def test_prepared_only_when_asked(restored: Any, bare_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking.abstract_store import AbstractStore

    construct = AbstractStore.__init__
    joining.prepare_kernel()
    assert AbstractStore.__init__ is construct
    joining.prepare_kernel(None, {})
    assert AbstractStore.__init__ is not construct


def test_what_a_subprocess_prints_is_not_copied_to_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("wb") as terminal:
        copies = [os.dup(terminal.fileno()) for _ in range(2)]
        monkeypatch.setattr("sys.stdout", SimpleNamespace(_original_stdstream_copy=copies[0]))
        monkeypatch.setattr("sys.stderr", SimpleNamespace(_original_stdstream_copy=copies[1]))
        monkeypatch.setattr("faulthandler.is_enabled", lambda: False)
        joining.mute_echo()
        for copy in copies:
            os.write(copy, KEY.encode())
            os.close(copy)
        joining.mute_echo()  # closed: there is nothing to mute
    assert (tmp_path / "terminal").read_bytes() == b""


def test_two_who_wait_for_one_import_are_both_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written(tmp_path / "awaited_by_two.py", b"")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.meta_path", list(sys.meta_path))
    called: list[str] = []
    joining.after_import("awaited_by_two", lambda module: called.append("first"))
    joining.after_import("awaited_by_two", lambda module: called.append("second"))
    importlib.import_module("awaited_by_two")
    assert called == ["first", "second"]
    del sys.modules["awaited_by_two"]
