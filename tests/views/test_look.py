"""Rows worth seeing come with a reason, columns are pictures, and that somebody looked is kept beside the data."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest

import mltoolkit
from mltoolkit.errors import DataError, DatasetNotFound, Invalid
from mltoolkit.record.environment import user
from mltoolkit.record.looks import Look, minutes, read, write
from mltoolkit.views.look import rows_html, violations
from mltoolkit.views.profiles import bars_svg, profile, profiles_html
from mltoolkit.views.rows import WHY, at_random, changed, extreme, mispredicted, rare


@pytest.fixture
def frame() -> pd.DataFrame:
    made = pd.DataFrame({
        "carrier": ["UA", "DL"] * 50, "delay": np.arange(100.0), "constant": 1, "flight": [f"n{each}" for each in range(100)],
        "late": [False, True] * 50, "p": [0.25, 0.75] * 50, "when": pd.date_range("2013-01-01", periods=100), "gone": np.nan,
    })  # fmt: skip
    made.loc[7, "delay"], made.loc[11, "carrier"], made.loc[13, "p"], made.loc[17, "delay"] = 5000.0, "<b>OO", 0.01, np.nan
    return made


def test_rows_worth_seeing(frame: pd.DataFrame) -> None:
    assert extreme(frame, 1).index.tolist() == [7]
    assert "delay is" in extreme(frame, 1)[WHY].iloc[0]
    assert rare(frame, 1).index.tolist() == [11]
    assert rare(frame, 1)[WHY].iloc[0] == "carrier is <b>OO in 1 of 100 rows"
    assert mispredicted(frame, "p", "late", 1).index.tolist() == [13]
    assert mispredicted(frame, "carrier", "flight", 3).index.tolist() == [0, 1, 2]
    assert mispredicted(frame, "carrier", "carrier").empty
    assert len(at_random(frame, 1000)) == 100
    assert not at_random(frame, 5, 1).equals(at_random(frame, 5, 2))
    after = frame.copy()
    after.loc[3, "delay"] = -1.0
    after = pd.concat([after, after.iloc[[4]]], ignore_index=True)
    assert changed(after, frame).index.tolist() == [3, 100]
    assert "columns changed: extra" in changed(frame.assign(extra=1), frame, 2)[WHY].iloc[0]
    for each in (extreme, rare, at_random):
        assert each(frame.head(0)).empty  # type: ignore[operator]


def test_columns_are_pictures(frame: pd.DataFrame) -> None:
    found = profile(frame["carrier"])
    assert (found.missing, found.distinct, found.bars[-1]) == (0, 3, 1)
    assert sum(profile(frame["delay"]).bars) == 99
    assert profile(frame["gone"]).words == "no numbers"
    assert profile(pd.Series([[1], [2]])).distinct == 2
    assert profile(pd.Series([1, [2]])).distinct == 2
    assert profile(pd.Series([1 + 2j])).words == "(1+2j) 1"
    for values, bars in (([10**17] * 5, [5]), ([1e16, 1e16 + 2], [1, 1]), ([-1.7e308, 1.7e308], [1, 1]), ([1.7e308] * 2, [2])):
        assert [each for each in profile(pd.Series(values)).bars if each] == bars
    assert "median 1.7e+308" in profile(pd.Series([1.7e308] * 2)).words
    assert "<rect" not in bars_svg(profile(frame["gone"]))
    shown = profiles_html(frame.assign(nested=[[1]] * 100), limit=7)
    assert "and 2 more columns" in shown
    assert "<b>OO" not in shown
    assert shown.count("<svg") == 7


def test_strange_columns_are_looked_at(bare_workspace: Path) -> None:
    strange = pd.DataFrame({"constant": [10**17] * 9, "wide": [*[1.7e308] * 8, -1.7e308], "steep": [*[5e-324] * 5, *[1.0] * 3, 1.7e308], "lists": [[1, 2]] * 9})
    mltoolkit.save_dataset(strange, "strange")
    mltoolkit.save_dataset(strange.head(8), "strange")
    made = mltoolkit.look("strange")
    assert made.kinds == ["random", "extreme", "rare", "changed"]
    for kind in made.kinds:
        made.kind.value = kind
        assert "<table>" in made.rows.value or "no such rows" in made.rows.value
    assert extreme(strange, 2).index.tolist() == [8, 5]
    assert extreme(strange.assign(phase=1 + 2j).head(1)).empty
    assert mispredicted(pd.DataFrame({"p": [1j, 2j], "late": [1j, 1j]}), "p", "late").index.tolist() == [1]


def test_violations(frame: pd.DataFrame) -> None:
    schema = pa.DataFrameSchema({"delay": pa.Column(float, pa.Check.le(1000), nullable=True)})
    (found,) = violations(frame, schema)
    assert (found["column"], found["count"]) == ("delay", 1)
    assert violations(frame[frame.delay < 1000], schema) == []


def test_somebody_looks(bare_workspace: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = pa.DataFrameSchema({"carrier": pa.Column(str)}, name="flights")
    mltoolkit.save_dataset(frame.drop(columns="gone"), "flights/2013", contract=contract)
    first = mltoolkit.look("flights/2013")
    assert first.kinds == ["random", "extreme", "rare"]
    later = frame.drop(columns="gone").copy()
    later.loc[0, "delay"] = -99.0
    mltoolkit.save_dataset(later, "flights/2013", contract=contract)
    now = [0.0]
    monkeypatch.setattr("mltoolkit.views.look.time", SimpleNamespace(monotonic=lambda: now[0]))
    made = mltoolkit.look("flights/2013", prediction="p", label="late", contract=lambda data: bool(data.delay.max() < 1000))
    assert made.kinds == ["random", "extreme", "rare", "changed", "mispredicted"]
    shown = {}
    for kind in made.kinds[1:]:
        now[0] += 60
        made.kind.value = kind
        shown[kind] = made.rows.value
    assert "5000.0" in shown["extreme"]
    assert "&lt;b&gt;OO" in shown["rare"]
    assert "-99.0" in shown["changed"]
    assert "p is 0.01" in shown["mispredicted"]
    now[0] += 10_000
    made.others.click()
    whole = "".join(child.value for child in made.widget.children if hasattr(child, "value"))
    assert "broken" in whole
    assert "<b>OO" not in whole
    assert "You looked for 9 minutes" in made.said.value, "four clicks a minute apart, and five minutes of being away"
    looks = read("flights/2013")
    assert [(each.version, each.who) for each in looks] == [(1, user()), (2, user())]
    assert looks[1].minutes == pytest.approx(9, abs=0.1)
    assert 10 < looks[1].rows <= 100
    assert len(mltoolkit.load_dataset("flights/2013")) == 100, "the dataset does not mind"
    assert "widget-view" in str(made._repr_mimebundle_())
    monkeypatch.setenv("MLTOOLKIT_RUN_DIR", ".")
    batch = made._repr_mimebundle_()
    assert set(batch) == {"text/html", "text/plain"}
    assert "You looked for 9 minutes" in batch["text/plain"]
    assert "<table>" in batch["text/html"]
    monkeypatch.delenv("MLTOOLKIT_RUN_DIR")
    assert "kept it" in "".join(child.value for child in first.widget.children if hasattr(child, "value"))

    place = bare_workspace / ".mltoolkit/data/flights/2013/_looked"
    (place / "broken.json").write_text("[1, 2")
    (place / "strange.json").write_text(json.dumps({"name": 1, "unknown": 2}))
    assert len(read("flights/2013")) == 2
    for each in place.glob("*"):
        each.unlink()
    place.rmdir()
    place.write_text("in the way")
    made.others.click()
    assert "could not be recorded" in made.said.value


def test_bad_input(bare_workspace: Path, frame: pd.DataFrame) -> None:
    with pytest.raises(DatasetNotFound):
        mltoolkit.look("nothing")
    assert read("nothing") == []
    with pytest.raises(Invalid, match="belong together"):
        mltoolkit.look("nothing", label="late")
    with pytest.raises(Invalid, match="at least one row"):
        mltoolkit.look("nothing", count=0)
    mltoolkit.save_dataset(frame[["carrier", "late"]], "few")
    with pytest.raises(DataError, match="no column 'lat'; did you mean 'late'"):
        mltoolkit.look("few", prediction="lat", label="late")
    assert read("few") == [], "who saw nothing did not look"
    assert "without a contract" in str([child.value for child in mltoolkit.look("few").widget.children if hasattr(child, "value")])
    assert rows_html(frame.head(0)) == "<p>There are no such rows.</p>"


def test_minutes_are_those_of_the_last_days(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    now = datetime.now(UTC)
    for days in (1, 6, 8):
        looked: dict[str, Any] = {"version": 1, "who": "ada", "host": "laptop", "began_at": (now - timedelta(days=days)).isoformat()}
        write(Look("data", **looked, rows=1, minutes=10.0), str(days), tmp_path)
    assert minutes(read("data", tmp_path)) == 20
