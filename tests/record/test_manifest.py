"""The manifest: what is written comes back, follows the published schema, and says how a run ended."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mltoolkit.errors import NotebookFailed, Status
from mltoolkit.record import manifest
from mltoolkit.record.manifest import Cells, DatasetUse, Failure, GitState, Kernel, Machine, Run

LEAST: dict[str, Any] = {"run_id": "4f", "status": "succeeded", "notebook": "a.ipynb", "kernel": {"name": "python3"}, "started_at": "2026-01-02T03:04:05Z"}


def full(**changes: Any) -> Run:
    """A run with a value in every part."""
    values: dict[str, Any] = {
        "run_id": "4f" * 16, "status": Status.failed, "exit_code": 1, "notebook": "projects/flüge/02_train 🤯.ipynb",
        "kernel": Kernel(name="python3", language="python"), "parameters": {"months": [1, 2], "rate": 0.1, "name": "ü🤯\0\n", "deep": {"a": [None, {}]}},
        "given": ["months"], "parameter_types": {"months": "list"}, "secrets": ["key"], "redacted": {"url": 2},
        "started_at": datetime(2026, 3, 29, 2, 30, 1, 123456, tzinfo=timezone(timedelta(hours=1))), "ended_at": datetime(2026, 3, 29, 1, 31, tzinfo=UTC),
        "duration_s": 1.5, "failure": Failure(message="ValueError: no", cell=3, ename="ValueError", evalue="no", signal=9),
        "cells": Cells(total=3, executed=2, skipped=1), "metrics": {"auc": 0.75, "loss": math.nan, "up": math.inf, "down": -math.inf},
        "datasets": [DatasetUse(event="read", name="flights", version=0, digest="0" * 32)], "git": GitState(commit="c" * 40, dirty=True, diff="uncommitted.diff"),
        "environment": Machine(python="3.11.7", packages={"numpy": "2.0"}, variables={"LANG": "C"}), "seed": 0, "warnings": ["so so"],
    }  # fmt: skip
    return Run(**(values | changes))


def valid(text: str) -> dict[str, Any]:
    """The document, checked against the schema that the package ships."""

    def strict(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    document: dict[str, Any] = json.loads(text, parse_constant=strict)
    jsonschema.Draft202012Validator(manifest.published_schema()).validate(document)
    return document


def test_published_schema_is_that_of_the_class() -> None:
    assert manifest.published_schema() == manifest.schema(), (
        "write it anew: Path('mltoolkit/record/run.schema.json').write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + '\\n')"
    )
    jsonschema.Draft202012Validator.check_schema(manifest.schema())
    assert manifest.schema()["title"] == "mltoolkit run"
    described = manifest.schema()["properties"]
    assert {"run_id", "status", "output", "html", "duration_s", "metrics"} <= set(described)
    with pytest.raises(jsonschema.ValidationError, match="'status' is a required property"):
        valid(json.dumps({key: value for key, value in LEAST.items() if key != "status"}))


def test_a_full_run_comes_back_and_follows_the_schema() -> None:
    run = full()
    text = run.to_json()
    document = valid(text)
    assert document["parameters"] == run.parameters
    assert document["metrics"] == {"auc": 0.75, "loss": "NaN", "up": "Infinity", "down": "-Infinity"}
    assert document["failure"]["cell"] == 3
    again = Run.from_json(text)
    assert again.to_json() == text
    assert math.isnan(again.metrics.pop("loss"))
    run.metrics.pop("loss")
    assert again == run
    assert text.endswith("}\n")
    assert "🤯" in text


def test_times_have_a_zone_and_stay_the_same_moment() -> None:
    document = valid(full().to_json())
    for name in ("started_at", "ended_at"):
        written = datetime.fromisoformat(document[name])
        assert written.utcoffset() is not None
        assert written == getattr(full(), name)
    assert valid(full(ended_at=None).to_json())["ended_at"] is None


def test_the_least_a_run_needs() -> None:
    run = Run.from_json(json.dumps(LEAST))
    assert (run.schema_version, run.tracked, run.parameters, run.datasets, run.git) == (manifest.SCHEMA_VERSION, True, {}, [], None)
    valid(run.to_json())
    for name in LEAST:
        with pytest.raises(ValidationError, match=name):
            Run.from_json(json.dumps({key: value for key, value in LEAST.items() if key != name}))


def test_two_runs_share_nothing() -> None:
    one, two = Run(**LEAST), Run(**LEAST)
    one.cells.executed, one.parameters["x"], one.environment.packages["y"] = 5, 1, "2"
    one.warnings.append("w")
    assert (two.cells.executed, two.parameters, two.environment.packages, two.warnings) == (0, {}, {}, [])


def test_what_a_newer_version_wrote_is_kept() -> None:
    text = json.dumps({**LEAST, "carbon_g": 3, "kernel": {"name": "python3", "gpu": {"count": 2}}, "cells": {"cached": 1}})
    document = json.loads(Run.from_json(text).to_json())
    assert (document["carbon_g"], document["kernel"]["gpu"], document["cells"]["cached"]) == (3, {"count": 2}, 1)
    valid(json.dumps(document))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", json.dumps({**LEAST, "status": "great"}), json.dumps({**LEAST, "started_at": "soon"}), json.dumps({**LEAST, "metrics": {"auc": "high"}})],
)
def test_what_is_no_manifest_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"validation error"):
        Run.from_json(text)


def test_half_a_surrogate_pair_can_be_written() -> None:
    run = full(notebook="caf\udce9.ipynb", failure=Failure(message="\ud800 🤯"), parameters={"\udfff": ["\ud800", 1.5]})
    text = run.to_json()
    text.encode("utf-8")
    document = valid(text)
    assert document["notebook"] == "caf\\udce9.ipynb"
    assert document["failure"]["message"] == "\\ud800 🤯"
    assert document["parameters"] == {"\\udfff": ["\\ud800", 1.5]}
    assert document["metrics"]["loss"] == "NaN"
    assert Run.from_json(text).started_at == run.started_at


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), VALUES, max_size=4), st.dictionaries(st.sampled_from("abc"), st.floats()))
def test_any_parameters_and_metrics_come_back(parameters: dict[str, Any], metrics: dict[str, float]) -> None:
    text = full(parameters=parameters, metrics=metrics).to_json()
    assert valid(text)["parameters"] == parameters
    again = Run.from_json(text)
    assert again.parameters == parameters
    assert {name: repr(value) for name, value in again.metrics.items()} == {name: repr(value) for name, value in metrics.items()}


@given(st.text(), st.text())
@settings(max_examples=50, deadline=None)
def test_any_text_can_be_written_and_read(message: str, name: str) -> None:
    text = full(failure=Failure(message=message), parameters={name: message}).to_json()
    assert Run.from_json(text).to_json() == text
    valid(text)


def test_summary_says_what_how_why_and_where() -> None:
    assert full(output="/w/runs/x.ipynb").summary() == "02_train 🤯.ipynb failed: ValueError: no (see /w/runs/x.ipynb)"
    assert Run(**LEAST).summary() == "a.ipynb succeeded"
    assert Run(**LEAST).raise_for_status().run_id == "4f"
    with pytest.raises(NotebookFailed, match=r"ValueError: no") as caught:
        full().raise_for_status()
    assert caught.value.run.failure.cell == 3
