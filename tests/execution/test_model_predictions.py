"""Models are told apart by what they predict, by what they say of themselves, and by their files where nothing else is to be had."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from mltoolkit.execution.compare import Comparison, Verdict
from mltoolkit.execution.models import by_name, compare_models

FACTS = {"flavors": {"python_function": {"loader_module": "mlflow.sklearn"}}, "signature": {"inputs": "[x]"}}
SAMPLE = {"saved_input_example_info": {"artifact_path": "input_example.json"}}


def model(folder: Path, number: int = 1, weights: bytes = b"1", *, sample: bool = True, facts: dict[str, Any] | None = None, **texts: str) -> str:
    """The files of a model, as MLflow lays them."""
    folder.mkdir()
    own = {"model_id": f"m-{number}", "run_id": str(number), "utc_time_created": f"2026-05-0{number}", "model_size_bytes": number, "artifact_path": str(folder)}
    (folder / "MLmodel").write_text(yaml.safe_dump(own | FACTS | (SAMPLE if sample else {}) | (facts or {})))
    (folder / "registered_model_meta").write_text(f"version: {number}")
    (folder / "model.bin").write_bytes(weights)
    for name, text in {"requirements": "numpy==2\n", "input_example": "[1]", **texts}.items():
        (folder / {"requirements": "requirements.txt", "input_example": "input_example.json"}.get(name, name)).write_text(text)
    return str(folder)


def unasked(pairs: list[tuple[str, str]]) -> list[list[dict[str, Any]]]:
    return pytest.fail(f"{pairs} are opened for nothing")


def found(made: Comparison) -> list[tuple[str, str, str]]:
    return [(each.what, each.original, each.repeated) for each in made.facts]


def test_equal_files_settle_it_without_opening_anything(tmp_path: Path) -> None:
    one, other = model(tmp_path / "a"), model(tmp_path / "b", 2)
    made = compare_models({"m": one}, {"m": other}, unasked)
    assert (made.verdict, made.facts, made.fact_noise) == (Verdict.identical, [], [])


def test_what_a_model_says_of_itself(tmp_path: Path) -> None:
    one = model(tmp_path / "a")
    other = model(tmp_path / "b", 2, facts={"signature": {"inputs": "[x, y]"}}, requirements="numpy==3\n", input_example="[2]")
    assert found(compare_models({"m": one}, {"m": other}, unasked)) == [
        ("model m, MLmodel", "/signature/inputs: [x]", "/signature/inputs: [x, y]"), ("model m, input_example.json", "[1]", "[2]"), ("model m, requirements.txt", "numpy==2", "numpy==3"),
    ]  # fmt: skip
    (Path(other) / "model.bin").write_bytes(b"2")
    assert found(compare_models({"m": one}, {"m": other}, unasked))[-1][2] == "other content; not opened, as the two do not say the same of themselves"
    (Path(other) / "more.json").touch()
    assert ("model m, more.json", "(none)", "a file") in found(compare_models({"m": one}, {"m": other}, unasked))


@pytest.mark.parametrize(
    ("told", "verdict", "what"),
    [
        ([{"predicted": [[0.1, 0.9]]}, {"predicted": [[0.1, 0.9]]}], Verdict.identical, None),
        ([{"predicted": [1.0]}, {"predicted": [1.05]}], Verdict.within_tolerance, "model m, predictions: '/predicted/0: 1.0' became '/predicted/0: 1.05'"),
        ([{"predicted": [1.0]}, {"predicted": [1.2]}], Verdict.different, "model m, predictions: '/predicted/0: 1.0' became '/predicted/0: 1.2'"),
        ([{"predicted": [1.0]}, {"predicted": [1.0, 1.0]}], Verdict.different, "model m, predictions: '/predicted: [1.0]' became '/predicted: [1.0, 1.0]'"),
        ([{"predicted": ["a", "bc"]}, {"predicted": ["ab", "c"]}], Verdict.different, "model m, predictions: '/predicted/0: a' became '/predicted/0: ab'"),
        ([{"predicted": [1.0]}, {"problem": "ValueError: no"}], Verdict.different, "model m, predictions: 'other files' became 'other files, and predictions cannot be compared: ValueError: no'"),
    ],
)
def test_predictions_decide_where_files_differ(tmp_path: Path, told: list[dict[str, Any]], verdict: Verdict, what: str | None) -> None:
    one, other = model(tmp_path / "a"), model(tmp_path / "b", 2, b"2")
    asked: list[Any] = []
    made = compare_models({"m": one}, {"m": other}, lambda pairs: [told] if not asked.append(pairs) else [], rtol=0.1)
    assert asked == [[(one, other)]]
    assert made.verdict is verdict
    assert (str(made.first) if made.first else None) == what
    assert [(each.kind, each.what) for each in made.fact_noise] == ([("model file", "model m, model.bin")] if verdict.proved else [])


def test_without_a_sample_files_decide_and_it_is_said(tmp_path: Path) -> None:
    one, other = model(tmp_path / "a", sample=False), model(tmp_path / "b", 2, b"2", sample=False)
    [(what, _, hint)] = found(compare_models({"m": one}, {"m": other}, unasked))
    assert what == "model m, model.bin"
    assert hint == "other content, and no sample to predict for; log_model(..., input_example=...) records one"
    for folder, year in ((one, 2020), (other, 2021)):
        with zipfile.ZipFile(Path(folder, "model.bin"), "w") as archive:
            archive.writestr(zipfile.ZipInfo("weights", (year, 1, 1, 0, 0, 0)), "1")
    made = compare_models({"m": one}, {"m": other}, unasked)
    assert (made.verdict, [(each.kind, each.what, each.repeated) for each in made.fact_noise]) == (Verdict.identical, [("model file", "model m, model.bin", "the same members")])
    with zipfile.ZipFile(Path(other, "model.bin"), "w") as archive:
        archive.writestr("weights", "2")
    assert compare_models({"m": one}, {"m": other}, unasked).verdict is Verdict.different


def test_models_that_are_not_there(tmp_path: Path) -> None:
    one = model(tmp_path / "a")
    assert by_name([("m", one), ("m", None), ("n", one)]) == {"m": one, "m (2)": None, "n": one}
    assert found(compare_models({"m": one, "n": None}, {"n": one, "o": one}, unasked)) == [
        ("model m", "a model", "(none)"), ("model n", "its files are gone", "a model"), ("model o", "(none)", "a model"),
    ]  # fmt: skip


def zipped(path: Path, year: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("weights", (year, 1, 1, 0, 0, 0)), "1")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("MLmodel", b"flavors: [", "its files cannot be read: ParserError: "),
        ("MLmodel", b"- a\n- b\n", "its files cannot be read: AttributeError: "),
        ("MLmodel", b"\xff\xfe", "its files cannot be read: UnicodeDecodeError: "),
        ("MLmodel", None, "its files cannot be read: FileNotFoundError: "),
        ("model.bin", (b"1PK", b"2PK"), "its files cannot be read: BadZipFile: Bad CRC-32 for file 'weights'"),
        ("model.bin", (b"PK\x01\x02", b"PK\x00\x00"), "its files cannot be read: BadZipFile: "),
        ("MLmodel", b"signature: &it [*it]\n", "a model that cannot be compared with it: ValueError: Circular reference"),
    ],
)  # fmt: skip
def test_a_damaged_model_is_a_difference_and_the_others_are_compared_all_the_same(tmp_path: Path, name: str, content: Any, why: str) -> None:
    one, other, well = model(tmp_path / "a"), model(tmp_path / "b", 2), model(tmp_path / "c", 3)
    for folder, year in ((one, 2020), (other, 2021)):
        zipped(Path(folder, "model.bin"), year)
    path = Path(other, name)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(*content) if isinstance(content, tuple) else content)
    [(what, before, after)] = found(compare_models({"m": one, "n": well}, {"m": other, "n": well}, unasked))
    assert (what, before) == ("model m", "a model")
    assert after.startswith(why)
    [(what, before, after)] = found(compare_models({"m": other}, {"m": one}, unasked))
    assert "cannot be" in before + after


def test_large_files_are_read_in_pieces_and_a_model_says_once_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = model(tmp_path / "a"), model(tmp_path / "b", 2)
    for folder in (one, other):
        with Path(folder, "model.bin").open("wb") as file:
            file.truncate(64_000_000)
    parsed, load = [], yaml.safe_load
    monkeypatch.setattr(yaml, "safe_load", lambda text: parsed.append(text) or load(text))
    tracemalloc.start()
    try:
        assert compare_models({"m": one}, {"m": other}, unasked).verdict is Verdict.identical
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    with Path(other, "model.bin").open("ab") as file:
        file.write(b"1")
    parsed.clear()
    assert compare_models({"m": one}, {"m": other}, lambda pairs: [[{"predicted": [1.0]}] * 2]).verdict is Verdict.identical
    assert len(parsed) == 2
