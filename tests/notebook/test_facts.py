"""The top of a page: what of a record is shown, and how."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltoolkit.errors import Status
from mltoolkit.notebook import facts as module
from mltoolkit.notebook.facts import about, duration, header, items, mapping, warnings


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.00 s"), (0.042, "0.04 s"), (9.99, "9.99 s"), (9.996, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (192, "3 min 12 s"),
     (3599.6, "1 h 00 min"), (7500, "2 h 05 min"), (-1, ""), (None, ""), ("x", ""), (True, ""), (float("nan"), ""), (float("inf"), "")],
)  # fmt: skip
def test_durations(seconds: Any, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2026-02-03T04:05:06.789Z", "2026-02-03 04:05:06 UTC"),
        ("2026-02-03T04:05:06+01:00", "2026-02-03 04:05:06 UTC+01:00"),
        ("2026-02-03T04:05:06-03:30", "2026-02-03 04:05:06 UTC-03:30"),
        ("2026-02-03T04:05:06", "2026-02-03 04:05:06"),
        (datetime(2026, 2, 3, tzinfo=UTC), "2026-02-03 00:00:00 UTC"),
        ("yesterday <b>", "yesterday <b>"),
        (5, "5"),
    ],
)
def test_moments(value: Any, said: str) -> None:
    assert words(module.moment(value)) == said


@pytest.mark.parametrize(("value", "said"), [(5, "5"), (1234567, "1,234,567"), (0.123456789, "0.123457"), (1e-9, "1e-09"), (float("nan"), "nan"), ("x", "x"), (None, "")])
def test_numbers(value: Any, said: str) -> None:
    assert module._number(value) == said


def test_values_are_shown_as_python_writes_them() -> None:
    shown = words(about({"parameters": {"a": "5", "b": 5, "c": None, "d": [1.5, "<b>"], "e": float("inf")}}))
    assert shown == "Parameters 5 name value type a '5' b 5 c None d [1.5, '<b>'] e inf"


def test_a_long_value_opens_on_a_click() -> None:
    shown = about({"parameters": {"a": "x" * 30_000}})
    assert "<details class=\"value\"><summary><code>&#x27;" + "x" * 79 + "…</code>" in shown
    assert "10,002 more characters" in shown


def test_where_parameters_came_from_and_secrets_by_name_only() -> None:
    record = {"parameters": {"a": 1, "b": 2}, "parameter_types": {"a": "int"}, "given": ["a"], "secrets": ["key"]}
    assert words(about(record)) == "Parameters 3 name value type from a 1 int given b 2 default key not recorded secret given"
    assert words(about({"secrets": ["key"]})) == "Parameters 1 name value type key not recorded secret"


def test_long_lists_are_closed() -> None:
    short, long = ({"parameters": {f"p{number}": number for number in range(count)}} for count in (12, 13))
    assert '<details class="part" open>' in about(short)
    assert '<details class="part">' in about(long)


def test_everything_known_is_shown() -> None:
    record = {
        "run_id": "r1", "notebook": "n.ipynb", "project": "p", "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:05Z",
        "duration_s": 5.0, "cpu_s": 4.5, "peak_memory_bytes": 5_000_000, "git": {"commit": "0123456789abcdef", "branch": "main", "dirty": True},
        "environment": {"python": "3.11.7", "implementation": "CPython", "platform": "Linux", "cpu_count": 2, "memory_bytes": 8e9,
                        "packages": {"pandas": "3.0"}, "variables": {"TZ": "UTC"}},
        "datasets": [{"name": "d", "version": 3, "digest": "ff", "rows": 5000, "event": "read", "changed": True}, "damaged"],
        "metrics": {"mae": 1.25}, "user": "u", "host": "h", "trigger": "job", "job": "j", "logical_date": "2026", "seed": 0,
        "kernel": {"name": "python3", "warm": True}, "unknown": {"x": "y"},
    }  # fmt: skip
    shown = words(about(record))
    for part in ("run r1", "notebook n.ipynb", "project p", "code 0123456789ab on main with uncommitted changes", "started 2026-01-01 00:00:00 UTC",
                 "took 5.00 s · 4.50 s of CPU", "peak memory 5.0 MB", "run by u on h", "trigger job", "job j 2026", "seed 0", "kernel python3 (warm)",
                 "Python CPython 3.11.7", "machine Linux · 2 CPUs · 8.0 GB of memory", "Packages 1 pandas 3.0", "Environment variables 1 TZ UTC",
                 "Metrics 1 mae 1.25", "Datasets 2", "d changed while it was read 3 5,000 read ff"):  # fmt: skip
        assert part in shown, part
    assert "unknown" not in shown


@pytest.mark.parametrize("record", [{}, {"parameters": {}, "metrics": {}, "git": {}, "datasets": [], "environment": {}}, {"git": {"branch": "x"}}])
def test_what_is_missing_is_left_out(record: dict[str, Any]) -> None:
    assert about(record) == ""


def test_kernel_may_be_a_name() -> None:
    assert "kernel python3" in words(about({"kernel": "python3"}))
    assert "warm" not in about({"kernel": {"name": "python3", "warm": False}})


@pytest.mark.parametrize("status", list(Status))
def test_badges(status: Status) -> None:
    assert f'<span class="badge {status}">{status.replace("_", " ")}</span>' in header("t", {"status": status}, 1)


def test_header() -> None:
    assert words(header("a <b>", {}, 1)) == "a <b> 1 code cell"
    shown = header("t", {"status": 'x" onclick="y', "started_at": "2026-01-01T00:00:00Z", "duration_s": 5, "user": "u"}, 2)
    assert '<span class="badge other">x&quot; onclick=&quot;y</span>' in shown
    assert words(shown).endswith("2026-01-01 00:00:00 UTC · 5.00 s · 2 code cells · u")


def test_warnings() -> None:
    assert warnings({}) == ""
    assert words(warnings({"warnings": ["\x1b[31mone\x1b[0m <b>", 5]})) == "one <b> 5"


def test_mapping_and_items_take_nothing_for_granted() -> None:
    assert (mapping({"a": 1}), mapping([1]), mapping(None)) == ({"a": 1}, {}, {})
    assert (items([1]), items((1,)), items("ab"), items(None)) == ([1], [1], [], [])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["run_id", "status", "notebook", "project", "parameters", "parameter_types", "given", "started_at", "ended_at", "duration_s", "cpu_s",
         "peak_memory_bytes", "git", "environment", "datasets", "metrics", "user", "host", "trigger", "job", "seed", "kernel", "secrets", "warnings"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), anything))
def test_any_record_gives_a_page(record: dict[str, Any]) -> None:
    shown = header("t", record, 0) + about(record) + warnings(record)
    assert shown.count("<details") == shown.count("</details>")
    assert shown.encode("utf-8")
