"""What is varied: texts, ranges, tables, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import notebook_of
from hypothesis import given
from hypothesis import strategies as st

from mltoolkit.errors import Invalid, ParameterError
from mltoolkit.execution.points import Range, checked, grid, read_spec, rows, space
from mltoolkit.notebook.parameters import Contract, contract


def told(parameters: str) -> Contract:
    return contract(notebook_of("1", parameters=parameters))


def values(text: str) -> list[Any]:
    found = read_spec(text)
    return found.values() if isinstance(found, Range) else found


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("[3, 5, 7]", [3, 5, 7]),
            ('["a", "b"]', ["a", "b"]),
            ("[forest, gbm]", ["forest", "gbm"]),
            ("[[1, 2], null]", [[1, 2], None]),
            ("3..7", [3, 4, 5, 6, 7]),
            ("-2..2 step 2", [-2, 0, 2]),
            ("0..10 lin 3", [0, 5, 10]),
            ("0..1 3", [0, 0.5, 1]),
            ("0.1..0.5 step 0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
            ("0.1..0.45 step 0.1", [0.1, 0.2, 0.3, 0.4]),
            ("1e-3..1 log 4", [0.001, 0.01, 0.1, 1.0]),
            ("1..1000 log 4", [1, 10, 100, 1000]),
            ("5..5", [5]),
            ("0.5..2 log 1", [0.5]),
        ],
    )
    def test_read(self, text: str, expected: list[Any]) -> None:
        assert values(text) == expected
        assert [type(value) for value in values(text)] == [type(value) for value in expected]

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "neither a list nor a range"),
            ("[]", "neither a list nor a range"),
            ("5", "neither a list nor a range"),
            ("{a: 1}", "neither a list nor a range"),
            ("[1, 2", "neither a list nor a range"),
            ("1..", "neither a list nor a range"),
            ("1..5 by 2", "neither a list nor a range"),
            ("!!python/object:os.system [1]", "neither a list nor a range"),
            ("7..3", "smaller number first"),
            ("0..1 log 3", "above 0"),
            ("1..5 step 0", "a step is above 0"),
            ("0..1 lin 0", "1 to 100000"),
            ("0.5..1.5", "how many"),
            ("0..1000000", "no sweep"),
        ],
    )
    def test_refused(self, text: str, reason: str) -> None:
        with pytest.raises(Invalid, match=reason):
            values(text)

    @given(st.integers(-1000, 1000), st.integers(0, 50), st.integers(1, 30))
    def test_ends_are_part_of_a_range(self, low: int, width: int, count: int) -> None:
        found = Range(low, low + width, count=count).values()
        assert (len(found), found[0], found == sorted(found)) == (count, low, True)
        assert count == 1 or found[-1] == low + width


class TestGrid:
    def test_every_combination_the_last_fastest(self) -> None:
        assert grid(space({"a": "1..2", "b": ["x", "y"]})) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]

    def test_values_from_python(self) -> None:
        assert grid(space({"a": range(2), "b": Range(0.5, 1.5, count=2)})) == [{"a": 0, "b": 0.5}, {"a": 0, "b": 1.5}, {"a": 1, "b": 0.5}, {"a": 1, "b": 1.5}]

    @pytest.mark.parametrize(("vary", "reason"), [({}, "at least one"), ({"a": 3}, "varied over 3"), ({"a": []}, "0 points"), ({"a": range(1000), "b": range(1000)}, "1000000 points")])
    def test_refused(self, vary: dict[str, Any], reason: str) -> None:
        with pytest.raises(Invalid, match=reason):
            grid(space(vary))


class TestTables:
    def test_a_file_is_read_by_the_declared_types(self, tmp_path: Path) -> None:
        path = tmp_path / "points.csv"
        path.write_bytes("\ufeffdepth,name,rate\r\n3,007,0.5\r\n5,,1\r\n".encode())
        assert rows(path, told("depth: int = 1\nname: str = ''\nrate: float = 0.0")) == [{"depth": 3, "name": "007", "rate": 0.5}, {"depth": 5, "rate": 1}]

    @pytest.mark.parametrize(("text", "reason"), [("a,b\n1,2\n3\n", "line 3"), ("a\n1,2\n", "line 2"), ("a\n", "0 rows"), ("", "0 rows")])
    def test_a_file_that_is_no_table(self, tmp_path: Path, text: str, reason: str) -> None:
        path = tmp_path / "points.csv"
        path.write_text(text)
        with pytest.raises(Invalid, match=reason):
            rows(path, told("a: int = 1\nb: int = 1"))

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="No such file"):
            rows(str(tmp_path / "none.csv"), told("a: int = 1"))

    def test_a_frame_and_its_types(self) -> None:
        frame = pd.DataFrame({"depth": np.array([3, 5]), "rate": np.array([0.5, 1], dtype="float32"), "deep": [True, False]})
        made = checked(rows(frame, told("")), told("depth: int = 1\nrate: float = 0.0\ndeep: bool = False"))
        assert made == [{"depth": 3, "rate": 0.5, "deep": True}, {"depth": 5, "rate": 1.0, "deep": False}]


class TestChecks:
    @pytest.mark.parametrize(
        ("points", "fixed", "reason"),
        [
            ([{"a": 1}, {"aa": 2}], {}, "(?s)point 2 of 2: .*there is no parameter 'aa'; did you mean 'a'"),
            ([{"a": 1}, {"a": "one"}], {}, "point 2 of 2: parameter 'a' wants int"),
            ([{"a": 1}], {"a": 2}, "both fixed and varied"),
            ([{"a": 1}], {"b": "x"}, "parameter 'b' wants int"),
            ([{"b": 1}], {}, "'a' .* has no default"),
            ([{"a": 1, "b; import os": 2}], {}, "is not a name"),
        ],
    )
    def test_refused(self, points: list[dict[str, Any]], fixed: dict[str, Any], reason: str) -> None:
        with pytest.raises(ParameterError, match=reason):
            checked(points, told("a: int\nb: int = 2"), fixed)
