"""A repetition sees the registry as it was, and what it registers stays with it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.file_store import FileStore

from mltoolkit.record.pinned import registry
from mltoolkit.record.repeated_registry import RepeatedRegistry


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """A registry in files, as everybody's; its versions 1 and 3 are from before `tmp_path/began`, 4 from after it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "shared").as_uri())  # as every kernel has one
    monkeypatch.chdir(tmp_path)
    store = FileStore((tmp_path / "shared").as_uri())
    store.create_registered_model("delay", description="minutes")
    for number in (1, 2, 3):
        store.create_model_version("delay", f"s3://models/{number}", run_id="a" * 32, tags=[ModelVersionTag("number", str(number))])
    store.delete_model_version("delay", 2)
    store.set_registered_model_alias("delay", "champion", "1")
    time.sleep(0.005)
    (tmp_path / "began").touch()
    time.sleep(0.005)
    store.create_model_version("delay", "s3://models/4")
    store.create_registered_model("newer")
    store.set_registered_model_alias("delay", "candidate", "4")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    return store


def own(tmp_path: Path) -> MlflowClient:
    address = registry(tmp_path / "own place", (tmp_path / "shared").as_uri(), (tmp_path / "began").stat().st_mtime)
    return MlflowClient(tracking_uri=(tmp_path / "shared").as_uri(), registry_uri=address)


def test_it_begins_with_what_there_was_and_keeps_what_is_new(tmp_path: Path, shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = own(tmp_path)
    assert isinstance(client._get_registry_client().store, RepeatedRegistry), "MLflow finds it by its address"
    assert [each.name for each in client.search_registered_models()] == ["delay"]
    model = client.get_registered_model("delay")
    assert (model.description, model.aliases) == ("minutes", {"champion": "1"})
    assert sorted((int(each.version), each.source, each.tags, each.run_id) for each in client.search_model_versions("name='delay'")) == [
        (number, f"s3://models/{number}", {"number": str(number)}, "a" * 32) for number in (1, 3)
    ]
    assert client.get_model_version_by_alias("delay", "champion").source == "s3://models/1"
    assert client.get_model_version_download_uri("delay", "3") == "s3://models/3"
    for gone in (lambda: client.get_model_version("delay", "4"), lambda: client.get_model_version_by_alias("delay", "candidate"), lambda: client.get_registered_model("newer")):
        with pytest.raises(MlflowException, match="not found"):
            gone()
    made = client.create_model_version("delay", "s3://models/own")
    client.set_registered_model_alias("delay", "champion", made.version)
    client.create_registered_model("newer")
    assert int(made.version) == 4, "the number that the original got"
    assert own(tmp_path).get_model_version_by_alias("delay", "champion").source == "s3://models/own", "other processes of the repetition see it, too"
    assert shared.get_model_version("delay", 4).source == "s3://models/4"
    assert {each.alias: each.version for each in shared.get_all_registered_model_aliases_from_path(shared._get_registered_model_path("delay"))} == {"champion": "1", "candidate": "4"}


def test_a_shared_registry_that_does_not_answer_is_no_empty_one(tmp_path: Path, shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")

    def busy(*arguments: object) -> None:
        raise MlflowException("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "get_registered_model", busy)
        with pytest.raises(MlflowException, match="locked"):
            own(tmp_path).get_model_version("delay", "1")
    assert int(own(tmp_path).get_model_version("delay", "1").version) == 1


def test_without_leave_for_files_it_still_has_its_own(tmp_path: Path, shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    RepeatedRegistry(registry(tmp_path / "own", "sqlite:///x.db", 0))
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ


def test_a_model_is_there_as_a_whole_or_not_at_all(tmp_path: Path, shared: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    halfway, go_on = threading.Event(), threading.Event()
    place = FileStore.get_model_version_download_uri

    def broken(self: FileStore, name: str, version: str) -> str:
        if version == "3":
            raise MlflowException("the connection was cut")
        return str(place(self, name, version))

    def slow(self: FileStore, name: str, version: str) -> str:
        halfway.set()
        go_on.wait(10)
        return str(place(self, name, version))

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "get_model_version_download_uri", broken)
        with pytest.raises(MlflowException, match="cut"):
            own(tmp_path).get_registered_model("delay")
    (tmp_path / "own place" / "models" / "delay" / "version-1").mkdir(parents=True)  # as of one that was killed
    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "get_model_version_download_uri", slow)
        seen: list[dict[str, str]] = []
        first = threading.Thread(target=lambda: own(tmp_path).get_registered_model("delay"))
        first.start()
        assert halfway.wait(10)
        another = threading.Thread(target=lambda: seen.append(own(tmp_path).get_registered_model("delay").aliases))
        another.start()
        another.join(0.2)
        assert seen == [], "it waits for who is at it"
        go_on.set()
        first.join()
        another.join()
    assert seen == [{"champion": "1"}]
    assert [int(each.version) for each in own(tmp_path).search_model_versions("name='delay'")] == [3, 1]
