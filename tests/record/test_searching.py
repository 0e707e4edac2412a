"""The same runs as MLflow finds, in the same order, by another way."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from postgresql import server

from mltoolkit.record import searching, stores, tracking
from mltoolkit.record.finding import Question, find_runs

__all__ = ["server"]  # a fixture

CONDITIONS = [
    "",
    "tags.colour = 'red'",
    "tags.colour != 'red'",
    "tags.colour LIKE 'r%'",
    "tags.colour LIKE 'R%'",
    "tags.colour ILIKE 'R%'",
    "tags.note = \"it's\"",
    "tags.nobody = 'x'",
    "params.depth = '3'",
    "params.depth != '3' and tags.colour = 'blue'",
    "metrics.auc > 0.5",
    "metrics.auc <= 0.5",
    "metrics.auc != 0.5",
    "metrics.auc = 0",
    "metrics.auc > 0.2 and metrics.auc < 0.7 and params.depth = '2'",
    "attributes.status = 'FAILED'",
    "attributes.status != 'FAILED' and tags.colour != 'blue'",
    "attributes.start_time >= 40",
    "attributes.start_time < 10",
    "attributes.run_name = 'run 5'",
    "attributes.run_name LIKE 'run 1%'",
    "dataset.name = 'flights'",
    "dataset.name = 'flights' and dataset.digest = 'd1'",
    "dataset.context = 'training'",
    "tags.colour IS NULL",
    "params.depth IS NOT NULL",
]


def filled(client: Any) -> list[str]:
    """Fill a store with runs that differ in everything that can be asked for; return its experiments."""
    chance = random.Random(8)
    experiments = [client.create_experiment(name) for name in ("one", "two")]
    for number in range(60):
        run = client.create_run(chance.choice(experiments), start_time=number // 2, run_name=f"run {number}").info.run_id
        if colour := chance.choice(["red", "blue", "Rose", ""]):
            client.set_tag(run, "colour", colour)
        if chance.random() < 0.1:
            client.set_tag(run, "note", "it's")
        client.log_param(run, "depth", chance.choice([1, 2, 3, "3.0", "deep"]))
        if chance.random() < 0.8:
            client.log_metric(run, "auc", chance.choice([0, 0.25, 0.5, 0.75, math.nan, math.inf]))
        if chance.random() < 0.3:
            data = Dataset(chance.choice(["flights", "weather"]), chance.choice(["d1", "d2"]), "local", "{}")
            client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", chance.choice(["training", "test"]))])])
        client.set_terminated(run, chance.choice(["FINISHED", "FAILED"]))
        if chance.random() < 0.1:
            client.delete_run(run)
    return experiments


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str]]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("store") / "mlflow.db"
        path.write_bytes(request.getfixturevalue("prepared_store").read_bytes())
        client = MlflowClient(f"sqlite:///{path}")
    else:
        client = MlflowClient(request.getfixturevalue("server").database().replace("postgresql://", "postgresql+psycopg://"))
    return client, filled(client)


def plainly(client: Any, experiments: list[str], condition: str) -> list[str]:
    found = client.search_runs(experiments, condition, max_results=1000, order_by=["attributes.start_time DESC"])
    return [run.info.run_id for run in found]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_mlflow_finds_the_same(store: tuple[Any, list[str]], condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, experiments = store
    monkeypatch.setattr(searching, "_PAGE", 7)
    expected = plainly(client, experiments, condition)
    assert [run.info.run_id for run in searching.pages(client, experiments, condition)] == expected
    assert [run.info.run_id for run in islice(searching.pages(client, experiments, condition, 3), 3)] == expected[:3]
    here = searching.ids(client._tracking_client.store, experiments, condition)
    assert here == (None if "NULL" in condition or "context" in condition else expected)


def test_the_questions_say_something(store: tuple[Any, list[str]]) -> None:
    client, experiments = store
    numbers = [len(plainly(client, experiments, condition)) for condition in CONDITIONS]
    assert sum(0 < number < numbers[0] for number in numbers) >= len(CONDITIONS) - 3


def test_a_run_is_told_whole(store: tuple[Any, list[str]]) -> None:
    client, experiments = store
    for run in searching.pages(client, experiments, "metrics.auc < 0.5"):
        assert run.to_dictionary() == client.get_run(run.info.run_id).to_dictionary()


@pytest.mark.parametrize("scattered", [0, 10**9], ids=["by the index", "from end to end"])
@pytest.mark.parametrize("page", [7, 1000])
@pytest.mark.parametrize("test", [lambda text: text.startswith("3"), lambda text: text == "deep", lambda text: False], ids=["some", "few", "none"])
def test_parameters_are_told_by_their_text(
    store: tuple[Any, list[str]], test: Callable[[str], bool], page: int, scattered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, experiments = store
    monkeypatch.setattr(searching, "_PAGE", page)
    monkeypatch.setattr(searching, "_SCATTERED", scattered)
    expected = [run for run in plainly(client, experiments, "tags.colour != ''") if test(client.get_run(run).data.params["depth"])]
    assert [run.info.run_id for run in searching.pages(client, experiments, "tags.colour != ''", 3, [("depth", test)])] == expected


def test_what_cannot_be_read_is_said_in_mlflows_words(store: tuple[Any, list[str]]) -> None:
    client, experiments = store
    with pytest.raises(MlflowException, match="Invalid"):
        list(searching.pages(client, experiments, "colour is red"))


def test_a_question_for_a_parameter_looks_at_no_run_that_it_does_not_return(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.client(workspace)
    for number in range(30):
        run = client.create_run("0", start_time=number, tags={"mltoolkit.status": "succeeded"}).info.run_id
        client.log_param(run, "rate", number / 10)
    seen: list[int] = []
    asked = MlflowClient.search_runs

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = asked(self, *args, **kwargs)
        seen.append(len(found))
        return found

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    (row,) = find_runs(Question(parameters=["rate=2.50"]), start=workspace)
    assert (row.parameters, seen) == ({"rate": "2.5"}, [1])


def test_a_store_that_is_no_database_is_left_to_mlflow(tmp_path: Path) -> None:
    assert not searching.is_searched_here(stores.plain_store("http://127.0.0.1:9"))


def test_what_runs_below_another_is_found_by_its_tag(store: tuple[Any, list[str]]) -> None:
    client, experiments = store
    record = "f" * 32
    wanted, others = [client.create_run(experiments[0], tags={"mltoolkit.record": record}).info.run_id for _ in range(2)], []
    for tags in ({"mltoolkit.record": "e" * 32}, {"another": record}, {"mltoolkit.record": record}, {"mltoolkit.record": record}):
        others.append(client.create_run(experiments[0], tags=tags).info.run_id)
    client.set_terminated(others[2])
    client.delete_run(others[3])
    try:
        assert sorted(searching.running(searching.store_of(client), "mltoolkit.record", record) or []) == sorted(wanted)
        assert searching.running(object(), "mltoolkit.record", record) is None
    finally:
        for run in (*wanted, *others[:3]):
            client.delete_run(run)


def test_who_asks_a_server_imports_nothing_of_databases() -> None:
    code = "import sys; from mltoolkit.record import searching as s; print(s.ids(object(), [], ''), s.running(object(), 'a', 'b'), [name for name in ('mlflow', 'sqlalchemy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "None None []\n"
