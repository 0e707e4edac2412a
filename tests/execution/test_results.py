"""Tables, the best point, and pictures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from mltoolkit.errors import Cancelled, Invalid, NotebookFailed, Status
from mltoolkit.execution.results import Point, Sweep, save


def swept(*points: Point, **more: object) -> Sweep:
    return Sweep("abc", "train.ipynb", list(points), Path("."), **{"status": Status.succeeded, **more})  # type: ignore[arg-type]


def ended(index: int, loss: float | None, **parameters: object) -> Point:
    return Point(index, parameters, Status.succeeded, f"run{index}", 1.0, {} if loss is None else {"loss": loss})


def test_the_table_has_a_row_for_each_point_whatever_became_of_it() -> None:
    points = [ended(0, 0.5, a=1), Point(1, {"a": 2}, Status.failed, "run1", message="no"), Point(2, {"a": 3}), Point(3, {"a": 4}, Status.cancelled, pruned=True)]
    table = swept(*points).table()
    assert list(table.status) == ["succeeded", "failed", "", "pruned"]
    assert list(table.a) == [1, 2, 3, 4]
    assert table.loss[0] == 0.5
    assert table.loss[1:].isna().all()
    assert swept(*points).summary() == "sweep of train.ipynb: 1 succeeded, 1 failed, 1 not run, 1 pruned"
    assert [point.index for point in swept(*points).failed] == [1]


def test_the_best() -> None:
    made = swept(ended(0, 2.0, a=1), ended(1, math.nan, a=2), ended(2, 1.0, a=3), ended(3, None, a=4), metric="loss", mode="min")
    assert made.best().index == 2
    assert made.best("loss", "max").index == 0
    with pytest.raises(Invalid, match="did you mean 'loss'"):
        made.best("los")


@pytest.mark.parametrize(("status", "kind"), [(Status.failed, NotebookFailed), (Status.cancelled, Cancelled)])
def test_raising(status: Status, kind: type[NotebookFailed]) -> None:
    made = swept(Point(0, {"a": 1}, status), status=status)
    with pytest.raises(kind) as caught:
        made.raise_for_status()
    assert caught.value.sweep is made  # type: ignore[attr-defined]
    assert swept(ended(0, 1.0, a=1)).raise_for_status().status == "succeeded"


GRIDS = {
    "one number": [ended(at, at**2, a=at) for at in range(5)],
    "one word": [ended(at, at, a=word) for at, word in enumerate(["x", "a word that is rather too long to show", "z"])],
    "two numbers": [ended(10 * a + b, a * b, a=a / 10 + 0.1, b=b) for a in range(4) for b in range(3)],
    "two words": [ended(at, at, a="xy"[at % 2], b="uvw"[at // 2]) for at in range(6)],
    "two numbers of many values": [ended(20 * a + b, a * b, a=a, b=b) for a in range(9) for b in range(9)],
    "many values of a word": [ended(20 * a + b, a * b, a=chr(65 + a), b=b) for a in range(9) for b in range(20)],
    "three": [ended(at, at, a=at % 3, b="uv"[at % 2], c=0.1 * 10 ** -(at % 4)) for at in range(24)],
    "three of many values": [ended(at, at * 0.1, a=at, b=2 * at, c=math.exp(-at)) for at in range(20)],
    "one metric for all": [ended(at, 1.0, a=at) for at in range(3)],
}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("logarithmic", [(), ("a", "c")])
def test_pictures(name: str, logarithmic: tuple[str, ...], tmp_path: Path) -> None:
    if logarithmic and name != "three of many values" and not all(isinstance(point.parameters["a"], float) for point in GRIDS[name]):
        logarithmic = ("c",)
    made = swept(*GRIDS[name], logarithmic=logarithmic, parameters={"fixed": 3})
    made.folder = tmp_path
    save(made)
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "results.csv", index_col="point")) == len(GRIDS[name])
    assert len(json.loads((tmp_path / "results.json").read_text())["points"]) == len(GRIDS[name])


@pytest.mark.parametrize("points", [[Point(0, {"a": 1})], [ended(0, None, a=1), ended(1, None, a=2)], [ended(0, 1.0, a=1)], [ended(0, math.inf, a=1), ended(1, math.nan, a=2)]])
def test_nothing_to_draw(points: list[Point], tmp_path: Path) -> None:
    made = swept(*points)
    made.folder = tmp_path
    save(made)
    assert made.plot() is None
    assert sorted(each.name for each in tmp_path.iterdir()) == ["results.csv", "results.json"]
