"""Values from the command line and from files, and what arrives in the notebook's namespace."""

from __future__ import annotations

import base64
import json
import keyword
import math
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import nbformat
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from mltoolkit.errors import ParameterError
from mltoolkit.notebook.parameters import Contract, contract
from mltoolkit.notebook.values import (
    codify,
    expand_path,
    from_text,
    guess,
    inject,
    literal,
    load_base64,
    load_file,
    load_yaml,
)

quick = settings(database=None, deadline=None, max_examples=40)


def notebook(source: str, *after: str, **metadata: Any) -> NotebookNode:
    cells = [new_code_cell(source, metadata={"tags": ["parameters"]}), *(new_code_cell(each) for each in after)]
    return new_notebook(cells=cells, metadata=metadata)


def declaring(annotation: str) -> Contract:
    return contract(minimal(f"x: {annotation!r}"))


def minimal(source: str) -> NotebookNode:
    """The same, without nbformat's validation, which takes its time."""
    cell = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": source}
    return nbformat.from_dict({"cells": [cell | {"outputs": []}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def same(a: Any, b: Any) -> bool:
    """Equality that knows NaN, types and folds."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(p, q) and same(a[p], b[q]) for p, q in zip(a, b, strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, datetime | time):
        return a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and repr(a) == repr(b)
    return bool(a == b) or (a != a and b != b)


def arrives(annotation: str, values: dict[str, Any]) -> Any:
    """Run the defaults and the injected cell as a kernel would; the value of x."""
    nb = minimal(f"x: {annotation!r}")
    declared = contract(nb)
    ran = inject(nb, declared.check(values), declared)
    nbformat.v4.writes(ran).encode("utf-8")
    json.loads(json.dumps(ran.metadata.papermill.parameters, allow_nan=False))
    namespace: dict[str, Any] = {"set": 1, "frozenset": 1, "date": 1, "datetime": 1, "Path": 1, "Decimal": 1}
    for cell in ran.cells:
        exec(cell.source, namespace)
    return namespace["x"]


TEXT = st.text(st.characters(exclude_categories=()))
CLEAN = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ZONES = st.none() | st.just(UTC) | st.timezones() | st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(),
    "float": st.floats(),
    "bool": st.booleans(),
    "str": TEXT,
    "bytes": st.binary(),
    "date": st.dates(),
    "datetime": st.datetimes(timezones=ZONES),
    "time": st.times(),
    "timedelta": st.timedeltas(),
    "Path": st.builds(Path, st.text(st.characters(exclude_characters="\0", exclude_categories=()))),
    "Decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "int | None": st.none() | st.integers(),
    "str | None": st.none() | TEXT,
    "list[int]": st.lists(st.integers()),
    "list[date]": st.lists(st.dates()),
    "dict[str, float]": st.dictionaries(TEXT, st.floats()),
    "dict[int, str]": st.dictionaries(st.integers(), TEXT),
    "set[int]": st.sets(st.integers()),
    "frozenset[str]": st.frozensets(TEXT),
    "tuple[int, str]": st.tuples(st.integers(), TEXT),
    "tuple[float, ...]": st.lists(st.floats()).map(tuple),
    "list[Annotated[int, '>= 0']]": st.lists(st.integers(0)),
    "Literal['a', 1, True, None]": st.sampled_from(["a", 1, True, None]),
    "int | float | str": st.integers() | st.floats() | TEXT,
    "dict": st.dictionaries(TEXT | st.integers() | st.dates(), PLAIN, max_size=3),
    "list": st.lists(PLAIN, max_size=3),
    "Any": PLAIN | st.dates() | st.tuples(PLAIN, PLAIN),
}


@pytest.mark.parametrize("annotation", TYPED)
@quick
@given(data=st.data())
def test_python_to_namespace(annotation: str, data: st.DataObject) -> None:
    value = data.draw(TYPED[annotation])
    assert same(arrives(annotation, {"x": value}), value)


WORDS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "int": (st.integers(), str),
    "float": (st.floats(), repr),
    "bool": (st.booleans(), str),
    "str": (TEXT, str),
    "bytes": (CLEAN.map(str.encode), bytes.decode),
    "date": (st.dates(), str),
    "datetime": (st.datetimes(timezones=st.none() | st.just(UTC)).map(lambda moment: moment.replace(fold=0)), str),
    "time": (st.times().map(lambda moment: moment.replace(fold=0)), str),
    "timedelta": (st.timedeltas(), str),
    "Path": (TYPED["Path"], str),
    "Decimal": (TYPED["Decimal"], str),
    "int | None": (TYPED["int | None"], str),
    "str | None": (st.none() | TEXT.filter(lambda text: text not in ("None", "null")), str),
    "list[int]": (st.lists(st.integers()), repr),
    "list[str]": (st.lists(CLEAN), json.dumps),
    "list[date]": (st.lists(st.dates()), lambda days: json.dumps(list(map(str, days)))),
    "dict[str, float]": (st.dictionaries(CLEAN, st.floats()), json.dumps),
    "set[int]": (st.sets(st.integers(), min_size=1), repr),
    "set[str]": (st.sets(CLEAN), lambda each: json.dumps(list(each))),
    "tuple[int, str]": (st.tuples(st.integers(), TEXT), repr),
    "Literal['a', 1, True, None]": (TYPED["Literal['a', 1, True, None]"], str),
    "dict | None": (st.none() | st.dictionaries(st.integers() | TEXT, st.none() | TEXT), repr),
}


@pytest.mark.parametrize("annotation", WORDS)
@quick
@given(data=st.data())
def test_command_line_to_namespace(annotation: str, data: st.DataObject) -> None:
    strategy, spell = WORDS[annotation]
    value = data.draw(strategy)
    text = spell(value)
    assert same(arrives(annotation, {"x": from_text(declaring(annotation), "x", text)}), value)


FILED = [each for each in TYPED if each not in ("bytes", "dict[int, str]")]


def filed(value: Any) -> Any:
    """What a person writes into YAML or JSON for a value."""
    if isinstance(value, dict):
        return {filed(key): filed(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [filed(each) for each in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta | Path | Decimal) else value


def unspeakable(value: Any) -> bool:
    """What these files cannot hold: lone surrogates (they are UTF-8), named zones, the second of two equal hours."""
    if isinstance(value, dict):
        return any(map(unspeakable, value)) or any(map(unspeakable, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(unspeakable, value))
    if isinstance(value, str | Path):
        return any("\ud800" <= each <= "\udfff" for each in str(value))
    if isinstance(value, datetime | time):
        return value.tzinfo not in (None, UTC) or value.fold == 1
    return False


@pytest.mark.parametrize("annotation", [each for each in FILED if each not in ("dict", "Any")])
@quick
@given(data=st.data())
def test_yaml_and_json_to_namespace(annotation: str, data: st.DataObject) -> None:
    value = data.draw(TYPED[annotation].filter(lambda each: not unspeakable(each)))
    for text in (yaml.safe_dump({"x": filed(value)}, sort_keys=False), json.dumps({"x": filed(value)})):
        assert same(arrives(annotation, load_yaml(text)), value)
        assert same(arrives(annotation, load_base64(base64.b64encode(text.encode()).decode())), value)


@quick
@given(PLAIN.filter(lambda each: not unspeakable(each)))
def test_untyped_yaml_and_json_to_namespace(value: Any) -> None:
    texts = [yaml.safe_dump({"x": value}, sort_keys=False, allow_unicode=each) for each in (True, False)]
    for text in (*texts, json.dumps({"x": value})):
        assert same(arrives("Any", load_yaml(text)), value)


@quick
@given(TEXT)
def test_raw_words_stay_text(text: str) -> None:
    assert same(arrives("Any", {"x": text}), text)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        -0.0,
        10**400,
        -(10**5000),
        {"a": [None, {"b": None}]},
        "😀",
        "\ud83d",
        "x" * 100_000,
        "'\"\\\n\r\t\0\x1b'''\"\"\"",
        "\\N{BULLET} \\u0041 {x} %s $x `x` $(x)",
        '"); import os; os.abort()  #',
        "'+__import__('os').abort()+'",
        [[[]]] * 3,
        (),
        (1,),
        set(),
        frozenset(),
        {1: {2.5: {None: {True: {(1, 2): 3}}}}},
        datetime(2013, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2013, 1, 1, tzinfo=timezone(timedelta(hours=1), "'; import os #")),
        time(6, 30, tzinfo=UTC),
        timedelta.min,
        date.max,
        Decimal("NaN"),
        Path("a'b\\c\n"),
    ],
    ids=range(26),
)
def test_hard_values_arrive_unchanged(value: Any) -> None:
    assert same(arrives("Any", {"x": value}), value)


def test_deep_values_arrive_or_are_refused() -> None:
    deep: Any = date(2013, 1, 31)
    for _ in range(89):
        deep = [deep]
    assert same(arrives("Any", {"x": deep}), deep)
    with pytest.raises(ParameterError, match="nested deeper"):
        arrives("Any", {"x": [[[deep]]]})


NAMES = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))


@quick
@given(st.dictionaries(NAMES, PLAIN, max_size=4))
def test_the_cell_is_papermills_byte_for_byte(values: dict[str, Any]) -> None:
    from papermill.translators import PythonTranslator, Translator

    assert codify(values) == Translator.codify.__func__(PythonTranslator, values, "Parameters")  # type: ignore[attr-defined]


def test_a_variable_called_float_does_not_matter() -> None:
    nb = notebook("float = 1\nset = 2\nx = 0.5\ny: 'set[int]' = None")
    declared = contract(nb)
    ran = inject(nb, declared.check({"x": math.nan, "y": []}), declared)
    namespace: dict[str, Any] = {}
    for cell in ran.cells:
        exec(cell.source, namespace)
    assert math.isnan(namespace["x"])
    assert namespace["y"] == set()


def test_what_cannot_be_written_is_refused() -> None:
    class Zone(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(0)

    with pytest.raises(ParameterError, match="parameter 'x' has a time zone of type Zone"):
        codify({"x": datetime(2013, 1, 1, tzinfo=Zone())})
    with pytest.raises(ParameterError, match="parameter 'x' is of type object"):
        codify({"x": object()})
    with pytest.raises(ValueError, match="cannot be written"):
        literal(object())
    for name in ("a b", "import os; x", "class", "x=1;y"):
        with pytest.raises(ParameterError, match="is not a name"):
            codify({name: 1})


def test_the_comment_stays_a_comment() -> None:
    assert codify({}, comment="a\nimport os") == "# a import os\n"
    assert codify({}, comment="") == "#\n"


# Words


@pytest.mark.parametrize(
    "word", ["True", "False", "None", "true", "007", "1_000", " 5 ", "1e3", "nan", "-inf", "x", "", "1.5", "٣", "0x10", "infinity"]
)
def test_guess_is_papermills(word: str) -> None:
    from papermill.cli import _resolve_type

    assert same(guess(word), _resolve_type(word))


def test_guess_keeps_what_papermill_would_turn_into_infinity() -> None:
    assert guess("9" * 5000) == "9" * 5000
    assert guess("1e999") == "1e999"


@pytest.mark.parametrize(
    ("annotation", "word", "expected"),
    [
        ("str", "007", "007"),
        ("str", "None", "None"),
        ("bool", "yes", True),
        ("bool", "0", False),
        ("int | None", "null", None),
        ("Annotated[int, Ge(1)]", "3", 3),
        ("Literal['1', 1]", "1", "1"),
        ("Literal['x', 1]", "1", 1),
        ("bool | int", "1", 1),
        ("bool | int", "true", True),
        ("str | date | int", "2013-01-31", date(2013, 1, 31)),
        ("float | int", "3", 3),
        ("list | str", "[1]", [1]),
        ("list | str", "a", "a"),
        ("list[str]", "[007, EWR]", ["007", "EWR"]),
        ("list[int]", "[3,5]", [3, 5]),
        ("list[int]", "range(1, 4)", [1, 2, 3]),
        ("list[int]", "(1, 2)", [1, 2]),
        ("list[date]", "[2013-01-31]", [date(2013, 1, 31)]),
        ("list", "[None, True]", [None, True]),
        ("list", "[null, true, None]", [None, True, "None"]),
        ("dict[str, int]", "{a: 1}", {"a": 1}),
        ("dict[str, int]", "{'a': 1}", {"a": 1}),
        ("dict", '{"a": NaN}', {"a": math.nan}),
        ("dict[int, str]", "{1: a}", {1: "a"}),
        ("set[int]", "{1, 2}", {1, 2}),
        ("set[int]", "set()", set()),
        ("Any", "3", 3),
        ("DataFrame", "3", 3),
        ("timedelta", "20m", timedelta(minutes=20)),
    ],
)
def test_words(annotation: str, word: str, expected: Any) -> None:
    declared = declaring(annotation)
    assert same(declared.check({"x": from_text(declared, "x", word)})["x"], expected)


@pytest.mark.parametrize(
    ("annotation", "word"),
    [
        ("int", "3.5"),
        ("int", "1e3x"),
        ("int", ""),
        ("int", "9" * 5000),
        ("bool", "maybe"),
        ("bool | None", "1.0"),
        ("date", "31.1.2013"),
        ("list[int]", "1,2"),
        ("list[int]", "[1, 2"),
        ("list[int]", "[1, 'a']"),
        ("list[int]", "!!python/object:os.system []"),
        ("list[int]", "[" * 800),
        ("list[int]", "__import__('os').system('true')"),
        ("list[str]", "[1]"),
        ("dict[str, int]", '{"a": 1, "a": 2}'),
        ("dict[str, int]", "{a: 1, a: 2}"),
        ("Literal['a', 1]", "b"),
        ("int | list[int]", "x"),
    ],
)
def test_a_word_that_does_not_fit_is_refused_by_the_contract(annotation: str, word: str) -> None:
    declared = declaring(annotation)
    with pytest.raises(ParameterError, match="parameter 'x' wants"):
        declared.check({"x": from_text(declared, "x", word)})


def test_a_word_for_an_unknown_name_is_left_to_the_contract() -> None:
    assert from_text(declaring("int"), "y", "3") == 3
    assert from_text(contract(notebook("x <- 1"), language="R"), "x", "True") is True


@settings(database=None, deadline=None, max_examples=200)
@given(st.sampled_from([*TYPED, "SecretStr", "Unknown"]), st.text(st.characters(exclude_categories=())) | st.text("[]{}(),:'\"1a "))
def test_no_word_breaks_anything(annotation: str, word: str) -> None:
    declared = declaring(annotation)
    with suppress(ParameterError):
        declared.check({"x": from_text(declared, "x", word)})


# Files


def test_scalars_of_yaml() -> None:
    text = """
a: 1
b: -0x1F
c: 0b11
d: 1_000
e: 1.5
f: 1.0e+3
g: .inf
h: -.INF
i: .nan
j: yes
k: ~
l: !!binary AAE=
m: !!set {1, 2}
n: !!timestamp 2013-01-31
o: &anchor [1]
p: *anchor
q: =
r: "007"
"""
    found = load_yaml(text)
    assert math.isnan(found.pop("i"))
    assert found == {
        **{"a": 1, "b": -31, "c": 3, "d": 1000, "e": 1.5, "f": 1000.0, "g": math.inf, "h": -math.inf, "j": True, "k": None},
        **{"l": b"\0\1", "m": {1, 2}, "n": date(2013, 1, 31), "o": [1], "p": [1], "q": "=", "r": "007"},
    }


@pytest.mark.parametrize("word", ["007", "010", "-08", "12:30", "1:30:00", "2013-01-31", "1e-3", "1e3", "2013-01-31 06:30:00", "0o7"])
def test_ambiguous_scalars_stay_text(word: str) -> None:
    assert load_yaml(f"x: {word}") == {"x": word}


def test_merging_is_allowed() -> None:
    assert load_yaml("base: &b {x: 1}\nmore: {<<: *b, x: 2}")["more"] == {"x": 2}


def test_json_is_read_as_json() -> None:
    assert load_yaml('{"rate": 1e-3, "face": "\\ud83d\\ude00", "n": -Infinity}') == {"rate": 0.001, "face": "😀", "n": -math.inf}
    assert load_yaml("{rate: 1.5, 'x': [yes]}") == {"rate": 1.5, "x": [True]}


def test_nothing_is_no_parameters() -> None:
    assert load_yaml("") == load_yaml("# comment") == load_yaml("null") == load_yaml("{}") == load_base64("") == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x: 1\nx: 2", "line 2, column 1: the key 'x' occurs twice"),
        ("x: {a: 1, a: 2}", "the key 'a' occurs twice"),
        ('{"x": 1, "x": 2}', "the key 'x' occurs twice"),
        ('{"a": {"x": 1, "x": 2}}', "the key 'x' occurs twice"),
        ("x: !!python/object/apply:os.system [true]", "the tag !!python/object/apply:os.system is refused"),
        ("x: !!python/name:os.system", "refused"),
        ("x: !local 1", "the tag !local is refused"),
        ("!!python/tuple [1]", "refused"),
        ("- 1", "holds a list; it must map names to values"),
        ("3", "holds a int"),
        ("hello", "holds a str"),
        ("[1, 2]", "holds a list"),
        ("x: [1", "line 1, column 6"),
        ("x: 'a", "line 1"),
        ("\tx: 1", "line 1"),
        ("x: 1\n--- \ny: 2", "line 2"),
        ("x: \x01", "special characters"),
        ("x: *nowhere", "undefined alias"),
        ("{x: 1}: 2", "unhashable"),
        ("x: !!int abc", "a value does not fit its tag"),
        ("x: !!int ''", "a value does not fit its tag"),
        ("x: !!timestamp abc", "a value does not fit its tag"),
        ("x: !!bool maybe", "a value does not fit its tag"),
        ("x: !!float abc", "a value does not fit its tag"),
        ("x: " + "9" * 5000, "a value does not fit its tag"),
        ('{"x": ' + "9" * 5000 + "}", "a value does not fit its tag"),
        ("x: " + "[" * 800, "nested too deeply"),
        ('{"x": ' + "[" * 100_000, "nested too deeply"),
    ],
    ids=range(28),
)
def test_files_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ParameterError) as caught:
        load_yaml(text, "p.yaml")
    assert str(caught.value).startswith("p.yaml")
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_alias_to_itself_is_refused_before_it_is_written() -> None:
    with pytest.raises(ParameterError, match="nested deeper"):
        arrives("Any", load_yaml("x: &a [*a]"))


def test_a_bomb_of_aliases_is_refused_before_it_is_written() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 7)]
    with pytest.raises(ParameterError, match="too large"):
        arrives("Any", {"x": load_yaml("\n".join(lines))["a6"]})


@settings(database=None, deadline=None, max_examples=300)
@given(st.text() | st.text("{}[]:,-&*!<> '\"\n1aex.|?%@=~#") | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_no_text_breaks_the_reader(text: str) -> None:
    for load in (load_yaml, load_base64):
        try:
            found = load(text)
        except ParameterError:
            continue
        assert isinstance(found, dict)


def test_base64() -> None:
    encoded = base64.b64encode("x: é".encode()).decode()
    assert load_base64(encoded[:4] + "\n" + encoded[4:]) == {"x": "é"}
    for text in ("x: 1", "é", base64.b64encode(b"\xff").decode()):
        with pytest.raises(ParameterError, match="is not UTF-8 text in base 64"):
            load_base64(text)


def test_files(tmp_path: Path) -> None:
    for name, text in (("p.yaml", "x: é"), ("p.json", '{"x": "é"}'), ("bom.yml", "\ufeffx: é")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert load_file(tmp_path / name) == load_file(str(tmp_path / name)) == {"x": "é"}
    (tmp_path / "latin.yaml").write_bytes("x: é".encode("latin-1"))
    for name, reason in (("no.yaml", "No such file"), (".", "Is a directory"), ("latin.yaml", "not UTF-8 text")):
        with pytest.raises(ParameterError, match=f"cannot read the parameter file .*: {reason}"):
            load_file(tmp_path / name)
    (tmp_path / "wrong.yaml").write_text("x: [")
    with pytest.raises(ParameterError, match=r"wrong\.yaml, line 1"):
        load_file(tmp_path / "wrong.yaml")


def test_remote_files_go_through_papermills_handlers() -> None:
    from papermill.iorw import papermill_io

    class Memory:
        def read(self, path: str) -> str:
            if path.endswith("no.yaml"):
                raise RuntimeError("the bucket is closed")
            return "x: 3"

    papermill_io.register("memory://", Memory())
    try:
        assert load_file("memory://p.yaml") == {"x": 3}
        with pytest.raises(ParameterError, match=r"memory://no\.yaml: the bucket is closed"):
            load_file("memory://no.yaml")
    finally:
        papermill_io._handlers = [each for each in papermill_io._handlers if each[0] != "memory://"]


# Injecting


def by_papermill(nb: NotebookNode, values: dict[str, Any], **options: Any) -> NotebookNode:
    from papermill.parameterize import parameterize_notebook

    nb = nbformat.from_dict(json.loads(json.dumps(nb)))
    nb.metadata.setdefault("papermill", nbformat.from_dict({}))
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    options = {"kernel_name": "python3", "language": "python", **options}
    result: NotebookNode = parameterize_notebook(nb, values, **options)
    return result


def bare(nb: NotebookNode) -> Any:
    """Everything but what papermill makes up: ids and empty lists of tags."""
    plain = json.loads(json.dumps(nb))
    for cell in plain["cells"]:
        cell.pop("id", None)
        if not cell["metadata"].get("tags"):
            cell["metadata"].pop("tags", None)
    return plain


def injected(nb: NotebookNode) -> NotebookNode:
    cell = new_code_cell("old = 1", metadata={"tags": ["injected-parameters"]})
    nb.cells.insert(2, cell)
    return nb


@pytest.mark.parametrize("report_mode", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_the_notebook_is_papermills(report_mode: bool, before: bool) -> None:
    nb = notebook("x = 1", "print(x)", "print(2)")
    nb.cells.insert(0, new_code_cell("import os"))
    if before:
        nb = injected(nb)
    values = {"x": [1, {"a": None}], "y": "é"}
    ours = inject(nb, values, contract(nb), report_mode=report_mode)
    assert bare(ours) == bare(by_papermill(nb, values, report_mode=report_mode))
    nbformat.validate(ours)


def test_an_older_format_is_upgraded_as_papermill_does() -> None:
    nb = notebook("x = 1")
    nb.nbformat_minor = 4
    for cell in nb.cells:
        del cell["id"]
    ours = inject(nb, {"x": 2}, contract(nb))
    assert (nb.nbformat_minor, ours.nbformat_minor) == (4, 5)
    nbformat.validate(ours)


def test_the_given_notebook_is_not_changed() -> None:
    nb = injected(notebook("x = 1", "print(x)"))
    before = json.dumps(nb)
    inject(nb, {"x": 2}, contract(nb))
    assert json.dumps(nb) == before


def test_an_earlier_cell_does_not_outlive_its_run() -> None:
    nb = injected(notebook("x = 1", "print(x)"))
    assert [cell.source for cell in inject(nb, {}, contract(nb)).cells] == ["x = 1", "print(x)"]
    twice = injected(injected(nb))
    found = [cell.source for cell in inject(twice, {"x": 2}, contract(nb)).cells]
    assert found == ["x = 1", "print(x)", "# Parameters\nx = 2\n"]
    above = notebook("x = 1", "print(x)")
    above.cells.insert(0, new_code_cell("x = 0", metadata={"tags": ["injected-parameters"]}))
    found = [cell.source for cell in inject(above, {"x": 2}, contract(above)).cells]
    assert found == ["x = 1", "# Parameters\nx = 2\n", "print(x)"]


def test_without_a_parameters_cell_an_injected_one_is_all_there_is() -> None:
    nb = new_notebook(cells=[new_code_cell("x = 1", metadata={"tags": ["injected-parameters"]}), new_code_cell("x")])
    assert [cell.source for cell in inject(nb, {}, contract(nb)).cells] == ["x = 1", "x"]
    assert [cell.source for cell in inject(nb, {"x": 2}, contract(nb)).cells] == ["# Parameters\nx = 2\n", "x"]


def test_secrets_are_nowhere() -> None:
    nb = notebook("key: SecretStr\nx = 1")
    declared = contract(nb)
    ours = inject(nb, {"key": "s3cret", "x": 2}, declared)
    assert "s3cret" not in json.dumps(ours)
    assert ours.metadata.papermill.parameters == {"x": 2}
    assert len(inject(nb, {"key": "s3cret"}, declared).cells) == 1
    assert codify({"key": "s3cret"}, declared) == "# Parameters\n"


def test_metadata_is_json_that_every_reader_takes() -> None:
    nb = notebook("x = 1")
    values = {"x": math.nan, "n": 10**5000, "s": "\ud800", "d": date(2013, 1, 31), "t": {1: (2,)}}
    ours = inject(nb, values, contract(nb, language="python"))
    text = nbformat.writes(ours).encode("utf-8").decode()
    strict = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert strict["metadata"]["papermill"]["parameters"]["d"] == "2013-01-31"
    assert strict["metadata"]["papermill"]["parameters"]["x"] == "NaN"


def test_metadata_of_papermill_is_kept() -> None:
    nb = notebook("x = 1", papermill={"version": "2.7.0", "parameters": {"old": 1}})
    assert inject(nb, {"x": 2}, contract(nb)).metadata.papermill == {"version": "2.7.0", "parameters": {"x": 2}}


LANGUAGES = ["R", "scala", "julia", "matlab", ".net-csharp", ".net-fsharp"]
COMMON = {"n": 3, "rate": 0.5, "name": 'it\'s "é"', "on": True, "list": [1, "a"], "map": {"a": 1}}


@pytest.mark.parametrize("language", [*LANGUAGES, ".net-powershell"])
def test_other_languages_are_papermills(language: str) -> None:
    from papermill.translators import translate_parameters

    nb = notebook("", language_info={"name": language})
    values = {name: value for name, value in COMMON.items() if language != ".net-powershell" or not isinstance(value, str | list | dict)}
    ours = inject(nb, values, contract(nb))
    assert ours.cells[1].source == translate_parameters("", language, values)


def test_other_languages_get_what_they_know() -> None:
    nb = notebook("", language_info={"name": "R"})
    values = {"d": date(2013, 1, 31), "t": (1, {2}), "m": {1: math.inf}}
    source = inject(nb, values, contract(nb)).cells[1].source
    assert source == '# Parameters\nd = "2013-01-31"\nt = list(1, list(2))\nm = list("1" = inf)\n'


def test_the_kernel_chooses_the_translator_as_in_papermill() -> None:
    nb = notebook("", kernelspec={"name": "sparkrkernel", "language": "x", "display_name": ""})
    assert inject(nb, {"x": None}, contract(nb)).cells[1].source == "# Parameters\nx = NULL\n"
    assert inject(nb, {"x": None}, contract(nb), kernel_name="julia-1.10", language="julia").cells[1].source == "# Parameters\nx = nothing\n"


def test_a_value_does_not_run_in_julia_or_powershell() -> None:
    text = "$(run(`rm x`)) \\$x \u2019; rm 'x'"
    julia = inject(notebook("", language_info={"name": "julia"}), {"x": text, "y": {text: [text]}}, contract(notebook(""), language="julia"))
    assert '"\\$(run(`rm x`)) \\\\\\$x \\u2019; rm \'x\'"' in julia.cells[1].source
    assert "$" not in julia.cells[1].source.replace("\\$", "")
    shell = inject(notebook(""), {"x": text, "y": {text: [text]}}, contract(notebook(""), language=".net-powershell"))
    assert "'$(run(`rm x`)) \\$x \u2019\u2019; rm ''x'''" in shell.cells[1].source
    assert '"' not in shell.cells[1].source


@pytest.mark.parametrize(("language", "value"), [("cobol", 1), ("bash", {"a": 1}), (".net-csharp", None)])
def test_what_a_language_cannot_say_is_refused(language: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"parameters cannot be written in {language}"):
        inject(notebook(""), {"x": value}, contract(notebook(""), language=language))


def test_names_are_checked_in_every_language() -> None:
    for language in ("python", "R", "bash"):
        with pytest.raises(ParameterError, match="is not a name"):
            inject(notebook(""), {"x=1;y": 1}, contract(notebook(""), language=language))


# Paths

VALUES = {"month": 3, "airport": "EWR", "day": date(2013, 1, 31), "rate": 0.5, "on": True, "file": Path("a")}
NOW = datetime(2013, 1, 31, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("out.ipynb", "out.ipynb"),
        ("/abs/../out.ipynb", "/abs/../out.ipynb"),
        ("", ""),
        ("{airport}/{month:02d}.ipynb", "EWR/03.ipynb"),
        ("s3://bucket/{day:%Y-%m}/{file}.ipynb", "s3://bucket/2013-01/a.ipynb"),
        ("{{literal}}/{month}.ipynb", "{literal}/3.ipynb"),
        ("../{airport}", "../EWR"),
        ("./{airport}//x", "./EWR//x"),
        ("{pm.run_uuid}.ipynb", "abc.ipynb"),
        ("{pm.current_datetime_utc:%Y%m%dT%H%M}.ipynb", "20130131T0630.ipynb"),
        ("{rate:.2f}-{on}", "0.50-True"),
    ],
)
def test_paths(template: str, expected: str) -> None:
    assert expand_path(template, VALUES, run_id="abc", now=NOW) == expected


def test_papermills_own_fields_have_values() -> None:
    assert len(expand_path("{pm.run_uuid}", {})) == 36
    assert expand_path("{pm.current_datetime_local:%Y}", {}).isdigit()
    assert expand_path("{pm.current_datetime_local}", {}, now=NOW) == str(NOW.astimezone().replace(tzinfo=None))


@pytest.mark.parametrize(
    "value", ["../x", "..", "a/b", "/etc/passwd", "a\\b", "C:x", "~root", "", "a\0b", "a\nb", "...", "x/../..", Path("/etc"), "\x1b[31m"]
)
@pytest.mark.parametrize("template", ["{x}", "out/{x}", "out/{x}/a.ipynb", "{x}/a.ipynb"])
def test_a_value_does_not_leave_the_folder(template: str, value: Any) -> None:
    with pytest.raises(ParameterError, match="folder"):
        expand_path(template, {"x": value})


@pytest.mark.parametrize("template", ["out/{x}{x}/a", "out/.{x}/a", "{x}", "a/{x}"])
def test_dots_do_not_add_up(template: str) -> None:
    with pytest.raises(ParameterError, match="leaves its folder"):
        expand_path(template, {"x": "."})


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{mnth}", "did you mean 'month'"),
        ("{}", "which is no parameter"),
        ("{0}", "which is no parameter"),
        ("{month.__class__}", "which is no parameter"),
        ("{airport[0]}", "which is no parameter"),
        ("{pm.__class__}", "which is no parameter"),
        ("{pm}", "which is no parameter"),
        ("{airport!r}", "not supported"),
        ("{airport:{month}}", "not supported"),
        ("{month:99999999d}", "not supported"),
        ("{month:q}", "cannot format"),
        ("{airport:%Y}", "cannot format"),
        ("{month", "is no template"),
        ("month}", "is no template"),
        ("{day:%Y/%m}", "separator"),
    ],
)
def test_templates_that_are_refused(template: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        expand_path(template, VALUES)


@settings(database=None, deadline=None, max_examples=200)
@given(st.text("ab./{}x~:\\") | st.just("out/{a}{b}/x"), st.text("./~\\ax:"), st.text("./~\\ax:"))
def test_no_value_changes_the_folder(template: str, first: str, second: str) -> None:
    try:
        path = expand_path(template, {"a": first, "b": second})
    except ParameterError:
        return
    blank = expand_path(template, {"a": "a", "b": "b"})
    assert path.count("/") == blank.count("/")
    assert [each for each in path.split("/") if each == ".."] == [each for each in blank.split("/") if each == ".."]
