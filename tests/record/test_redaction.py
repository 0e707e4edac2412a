"""The filter: no declared value survives in any spelling or chunking, and nothing else changes."""

from __future__ import annotations

import base64
import copy
import html
import io
import itertools
import json
import pickle
import re
import threading
import traceback
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, quote_plus, urlencode
from xml.sax.saxutils import escape as xml_escape

import nbformat
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mltoolkit.errors import ParameterError
from mltoolkit.record.redaction import LONGEST_SECRET, SHORTEST_SECRET, Redactor, secret_from

thorough = settings(max_examples=300, deadline=None)
GITHUB = "gh" + "p_" + "x1Y2z3" * 6
PEM = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(["Ab1+" * 16, "cD2/" * 16, "eF3=" * 4]) + "\n-----END PRIVATE KEY-----\n"


def base64_within(before: int):
    return lambda value: base64.b64encode(b"~" * before + value.encode() + b"~" * 5).decode()


SPELLINGS = {
    "as it is": str,
    "json": lambda value: json.dumps(value),
    "json, unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "json, slashes": lambda value: json.dumps(value).replace("/", "\\/"),
    "json, in a script": lambda value: json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    "json in json": lambda value: json.dumps(json.dumps(value)),
    "repr": repr,
    "repr of a list": lambda value: repr([value, '"', "'"]),
    "repr of bytes": lambda value: repr(value.encode()),
    "ascii": ascii,
    "repr in json": lambda value: json.dumps({"evalue": repr(value)}),
    "url": quote,
    "url, all": lambda value: quote(value, safe=""),
    "url, small": lambda value: re.sub("%..", lambda found: found[0].lower(), quote(value, safe="")),
    "form": lambda value: urlencode({"password": value}),
    "url twice": lambda value: quote(quote_plus(value), safe=""),
    "html": html.escape,
    "html, text": lambda value: html.escape(value, quote=False),
    "xml": lambda value: xml_escape(value, {'"': "&quot;", "'": "&apos;"}),
    "markup": lambda value: html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "html, ascii": lambda value: html.escape(value).encode("ascii", "xmlcharrefreplace").decode(),
    "html of repr": lambda value: html.escape(repr(value)),
    "html of json": lambda value: html.escape(json.dumps(value)),
    "json of html": lambda value: json.dumps(html.escape(value)),
    "json of url": lambda value: json.dumps({"url": f"postgresql://ann:{quote(value, safe='')}@db"}),
}
MORE = {
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64, 1 before": base64_within(1),
    "base64, 2 before": base64_within(2),
    "base64, 3 before": base64_within(3),
    "base64 for urls": lambda value: base64.urlsafe_b64encode(b"ann:" + value.encode()).decode(),
}

values = st.one_of(
    st.text(st.characters(codec="utf-8"), min_size=SHORTEST_SECRET, max_size=30),
    st.text("ab\"'\\/<>&%+ =\n\té€😀.", min_size=SHORTEST_SECRET, max_size=16),
    st.sampled_from(["hunter2-long", 'p@ss"w/rd\'é&<x>', "abab", "tail\\\\", "nabla-7", "%41%42", "a b\tc\nd", PEM]),
)


@st.composite
def secrets(draw, count: int = 3) -> dict[str, str]:
    chosen = {f"S{number}": value for number, value in enumerate(draw(st.lists(values, min_size=1, max_size=count)))}
    try:
        Redactor(chosen)
    except ParameterError:
        assume(False)
    return chosen


def without_marks(text: str, names) -> str:
    for name in names:
        text = text.replace(f"[secret:{name}]", "\0")
    return text


def in_pieces(redactor: Redactor, text: str, cuts) -> str:
    stream = redactor.stream()
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    shown = [stream.feed(text[start:end]) for start, end in itertools.pairwise(places)]
    return "".join(shown) + stream.flush()


# declared values, whole


@thorough
@given(secrets(), st.text(max_size=10), st.text(max_size=10), st.sampled_from([*SPELLINGS, *MORE]))
def test_no_declared_value_survives_in_any_spelling(chosen, before, after, how):
    spell = SPELLINGS.get(how) or MORE[how]
    spelled = {name: spell(value.strip()) for name, value in chosen.items()}
    if how in MORE:
        assume(all(len(value.strip().encode()) >= 7 for value in chosen.values()))
    text = before.join(["", *spelled.values()]) + after
    shown = without_marks(Redactor(chosen).text(text), chosen)
    for name, value in chosen.items():
        assert value.strip() not in shown
        assert spelled[name] not in shown


@pytest.mark.parametrize("how", [*SPELLINGS, *MORE])
@pytest.mark.parametrize("value", ["hunter2-long", 'p@ss"w/rd\'é&<x>', "a-tail-\\", '"quoted"', "7+/abc==", "line one\nline two"])
def test_each_spelling_becomes_the_mark(how, value):
    spell = SPELLINGS.get(how) or MORE[how]
    redactor = Redactor({"KEY": value})
    assert "[secret:KEY]" in redactor.text(f"<{spell(value)}>")
    assert redactor.counts == {"secret:KEY": 1}


@pytest.mark.parametrize("length", [4, 5, 6])
def test_of_a_short_value_its_own_base64_is_known(length):
    value = "wxyzuv"[:length]
    assert Redactor({"PIN": value}).text(base64.b64encode(value.encode()).decode()) == "[secret:PIN]"


def test_base64_leaves_less_than_a_character_of_a_long_value():
    value = "correct-horse-battery"
    for before in range(3):
        rest = Redactor({"KEY": value}).text(base64_within(before)(value)).split("[secret:KEY]")
        known = base64.b64decode((rest[0] + "A" * (-len(rest[0]) % 4)).encode())
        assert value[:1].encode() not in known[before:]


def test_overlapping_values_and_formats_become_one_mark():
    redactor = Redactor({"LONG": "hunter2-long", "SHORT": "hunter2", "TOKEN": GITHUB})
    assert redactor.text("hunter2-long hunter2") == "[secret:LONG] [secret:SHORT]"
    assert redactor.text(f"Authorization: Bearer {GITHUB}") == "Authorization: Bearer [secret:TOKEN]"
    assert redactor.text("https://ann:hunter2-long@db") == "https://ann:[secret:LONG]@db"
    assert redactor.text("https://ann:my-hunter2@db") == "https://ann:[secret:SHORT]@db"
    assert Redactor({"A": "abab"}).text("xababab!") == "x[secret:A]!"


def test_a_value_is_found_without_the_space_around_it():
    assert Redactor({"KEY": "  hunter2-long\n"}).text("<hunter2-long>") == "<[secret:KEY]>"


def test_a_multiline_value_is_found_whole_and_in_pieces():
    redactor = Redactor({"KEY": PEM.replace("\n", "\r\n")})
    assert redactor.text(f"<{PEM.strip()}>") == "<[secret:KEY]>"
    assert redactor.text("+" + "Ab1+" * 16 + "\n") == "+[secret:KEY]\n"
    account = json.dumps({"type": "service_account", "private_key": PEM, "key_id": "9f86d081884c7d65"}, indent=1)
    redactor = Redactor({"ACCOUNT": account})
    text = redactor.text(f"line 2 {'cD2/' * 16} id 9f86d081884c7d65 type service_account")
    assert text == "line 2 [secret:ACCOUNT] id [secret:ACCOUNT] type service_account"


def test_a_very_long_value_is_found_in_each_single_spelling():
    value = "".join(f"{number:x}é/" for number in range(3000))
    redactor = Redactor({"KEY": value})
    for spelled in (value, json.dumps(value), repr(value), quote(value, safe="")):
        assert redactor.text(f"({spelled})").count("[secret:KEY]") == 1
        assert len(redactor.text(f"({spelled})")) < 20


# what must not change


@thorough
@given(st.text(max_size=200))
def test_text_without_secrets_is_the_same_object(text):
    redactor = Redactor({"KEY": "hunter2-long"})
    assert redactor.text(text) is text
    assert redactor.counts == {}


@thorough
@given(secrets(), st.text("xyz ,.:;[]{}()0", max_size=100))
def test_text_without_the_declared_values_is_the_same_object(chosen, text):
    assume(not any(value.strip() in text for value in chosen.values()))
    assert Redactor(chosen).text(text) is text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@thorough
@given(secrets(), json_values, st.booleans(), st.sampled_from([None, 1]), st.data())
def test_json_stays_valid(chosen, obj, ascii_only, indent, data):
    # a value that is nothing but a number, or has quotes where JSON has them, cannot be told from JSON
    assume(all(any(char.isalpha() for char in value) for value in chosen.values()))
    holder = {"x": obj, "list": [data.draw(st.text("\\\"\nnu/", max_size=3)) + value for value in chosen.values()]}
    dumped = json.dumps(holder, ensure_ascii=ascii_only, indent=indent)
    assume(not any(value in dumped for value in chosen.values() if '"' in value))
    assume(not any(value.strip() in json.dumps([None, True, False, 1e16, 1e-7]) for value in chosen.values()))
    redactor = Redactor(chosen)
    loaded = json.loads(redactor.text(dumped))
    assert set(loaded) <= {"x", "list"}
    texts = without_marks("\n".join(str(item) for item in loaded["list"]), chosen)
    assert not any(value.strip() in texts for value in chosen.values())


def test_a_backslash_goes_with_the_letter_it_escapes():
    redactor = Redactor({"KEY": "nabla-7", "HEX": "e9abcdef", "END": "tail\\"})
    assert redactor.text(r'"\nabla-7"') == '"[secret:KEY]"'
    assert redactor.text(r'"\\nabla-7"') == r'"\\[secret:KEY]"'
    assert redactor.text(r'"\u00e9abcdef"') == '"[secret:HEX]"'
    assert redactor.text(r'"\\u00e9abcdef"') == r'"\\u00[secret:HEX]"'
    assert redactor.text(r'{"a": "tail\""}') == r'{"a": "[secret:END]\""}'
    assert redactor.text(r'{"a": "tail\\"}') == '{"a": "[secret:END]"}'


# pieces

FRAGMENTS = [
    GITHUB,
    "github_pat_" + "A1b2" * 12,
    "glpat-" + "a1B2" * 6 + ".01.abcdef12",
    "AKIA" + "ABCD2345" * 2,
    "AKIA" + "ABCD2345" * 2 + "," + "aB3/" * 10,
    "aws_secret_access_key = '" + "aB3/" * 10 + "'",
    "sk-" + "proj-" + "aB3_" * 10,
    "xoxb-" + "1234567890-" + "aB3" * 8,
    "SG." + "aB3_" * 5 + "." + "aB3_" * 10,
    "eyJ" + "aB3_" * 5 + ".eyJ" + "aB3_" * 5 + "." + "aB3_" * 10,
    "hf_" + "aB" * 17,
    "ya29." + "aB3_" * 10,
    "https://ann:hunter@7@db:80/x",
    "docker://ubuntu:20.04@sha256:" + "a1" * 32,
    "?sig=" + "aB3" * 14 + "a%3D&x",
    "Authorization: Basic " + base64.b64encode(b"ann:hunter7").decode(),
    "Bearer " + "aB3" * 8,
    "bot12345678:AA" + "aB3" * 11,
    "https://hooks.slack.com/services/T00/B00/" + "aB3" * 8,
    PEM,
    PEM.replace("\n", "\\n"),
    json.dumps(PEM.splitlines(keepends=True)),
    PEM.replace("\n", "\n+"),
    PEM.replace("\n", "\n-"),
    PEM[:70],
    PEM.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123ABCD\n\n", 1),
    "hunter2-long",
    "hunter2-lon",
    r"p@ss\"w/rd'\u00e9&<x>",
    "p%40ss%22w%2Frd%27%C3%A9%26%3Cx%3E",
    "nabla-7",
    "tail\\",
    base64.b64encode(b"ann:hunter2-long").decode(),
    "------",
    "\\",
    "\\n",
    "%20",
    "\x1b[31m",
]
DECLARED = {"A": "hunter2-long", "B": 'p@ss"w/rd\'é&<x>', "C": "nabla-7", "D": "tail\\", "E": "abab"}
texts = st.lists(
    st.sampled_from(FRAGMENTS) | st.tuples(st.sampled_from(FRAGMENTS), st.integers(0, 90)).map(lambda cut: cut[0][: cut[1]]) | st.sampled_from([" ", "\n", ",", '"', ":", "/", "-", "ab", "x", "n", "="]),
    min_size=1,
    max_size=8,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(texts, st.lists(st.integers(0, 600), max_size=12), st.sampled_from([{}, DECLARED]))
def test_pieces_make_the_same_whole(text, cuts, chosen):
    whole, pieces = Redactor(chosen), Redactor(chosen)
    assert in_pieces(pieces, text, cuts) == whole.text(text)
    assert pieces.counts == whole.counts


@pytest.mark.parametrize("fragment", FRAGMENTS)
@pytest.mark.parametrize("chosen", [{}, DECLARED])
def test_letter_by_letter_makes_the_same_whole(fragment, chosen):
    text = f"begin {fragment} and {fragment}\nend"
    assert in_pieces(Redactor(chosen), text, range(len(text))) == Redactor(chosen).text(text)


@thorough
@given(secrets(), st.text(max_size=6), st.sampled_from(list(SPELLINGS)), st.lists(st.integers(0, 200), max_size=8))
def test_no_declared_value_survives_any_chunking(chosen, between, how, cuts):
    text = between.join(SPELLINGS[how](value.strip()) for value in chosen.values())
    shown = without_marks(in_pieces(Redactor(chosen), text, cuts), chosen)
    assert shown == without_marks(Redactor(chosen).text(text), chosen)
    assert not any(value.strip() in shown for value in chosen.values())


def test_text_that_cannot_be_a_secret_is_passed_on_at_once():
    stream = Redactor({"KEY": "hunter2-long"}).stream()
    for piece in ("Downloading", ":", " 10 %\r", "[=====>----", "-" * 40, "epoch 1/3\n", "https://", "ann@example.org/ ", "Password:", "Authorization: ", "a well-", "known task\n", ">>> "):
        assert stream.feed(piece) == piece
    assert stream.flush() == ""


def test_what_may_begin_a_secret_waits_and_no_more():
    stream = Redactor({"KEY": "hunter2-long"}).stream()
    assert [stream.feed(piece) for piece in ("the hun", "t is on, the token is gh", "p", "pard\n")] == ["the ", "hunt is on, the token is ", "", "ghppard\n"]
    assert stream.feed("key -----BEGIN PRIV") == "key -----"
    assert stream.feed("ATE VIEW-----\n") == "BEGIN PRIVATE VIEW-----\n"
    assert stream.feed("https://ann:") == "https://ann:"
    assert stream.feed("80") == ""
    assert stream.feed("80/index.html\n") == "8080/index.html\n"


def test_flush_shows_what_was_held_and_the_stream_goes_on():
    stream = Redactor({"KEY": "hunter2-long"}).stream()
    assert stream.feed("hunter2") + stream.flush() == "hunter2"
    assert stream.feed("-long hunter2-long") == "[secret:KEY] [secret:KEY]"  # what is left of it goes
    assert stream.flush() == ""


def test_a_password_in_a_url_is_seen_across_pieces():
    redactor = Redactor()
    assert in_pieces(redactor, "to https://ann:hunter2@db/ now", [5, 9, 13, 16, 21, 22]) == "to https://ann:[redacted:url-password]@db/ now"


def test_nothing_is_held_for_longer_than_a_match_can_be():
    stream = Redactor().stream()
    text = "-----BEGIN PRIVATE KEY-----\n" + ("A1b2" * 16 + "\n") * 1200
    shown = "".join(stream.feed(text[at : at + 4000]) for at in range(0, len(text), 4000))
    assert len(shown) > 10_000
    assert (shown + stream.flush()) == Redactor().text(text)


# structures


def test_value_walks_dictionaries_lists_and_tuples_and_leaves_the_rest():
    Point = namedtuple("Point", "x y")
    array = np.arange(3)
    obj = {
        "a": ["hunter2-long", 1, None, 2.5, True, b"hunter2-long", array],
        "hunter2-long": ("x", {"deep": "my hunter2-long"}),
        "point": Point("hunter2-long", 2),
    }
    before = copy.deepcopy(obj)
    redactor = Redactor({"KEY": "hunter2-long"})
    new = redactor.value(obj)
    assert new["a"][:6] == ["[secret:KEY]", 1, None, 2.5, True, b"hunter2-long"]
    assert new["a"][6] is array
    assert new["[secret:KEY]"] == ("x", {"deep": "my [secret:KEY]"})
    assert new["point"] == Point("[secret:KEY]", 2)
    assert isinstance(new["point"], Point)
    assert str(obj) == str(before)
    assert redactor.counts == {"secret:KEY": 4}


def test_value_keeps_types_order_and_all_keys():
    redactor = Redactor({"A": "hunter2-long", "B": "hunter3-long"})
    ordered = redactor.value(OrderedDict([("z", "hunter2-long"), ("a", 1)]))
    assert type(ordered) is OrderedDict
    assert list(ordered) == ["z", "a"]
    counted = redactor.value(defaultdict(list, {"hunter2-long": [1], "x hunter2-long": [2]}))
    assert type(counted) is defaultdict
    assert counted["new"] == []
    same = redactor.value({f"{GITHUB}": 1, f"{GITHUB[:-1]}4": 2, f"{GITHUB[:-1]}5": 3})
    assert same == {"[redacted:github-token]": 1, "[redacted:github-token] 2": 2, "[redacted:github-token] 3": 3}


@thorough
@given(json_values)
def test_a_structure_without_secrets_is_the_same_object(obj):
    assert Redactor({"KEY": "hunter2-long"}).value(obj) is obj


def picture() -> str:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 3, 2])
    data = io.BytesIO()
    figure.savefig(data)
    return base64.b64encode(data.getvalue()).decode()


def failing_notebook() -> nbformat.NotebookNode:
    try:
        raise ValueError("cannot log in with 'hunter2-long'")
    except ValueError as error:
        frames = traceback.format_exception(error)
    table = "<table><tr><td>p@ss&quot;word</td></tr></table>"
    return new_notebook(
        metadata={"papermill": {"parameters": {"password": "hunter2-long", "month": 1}}, "language_info": {"name": "python"}},
        cells=[
            new_markdown_cell("![a](attachment:a.png)", attachments={"a.png": {"image/png": picture()}}),
            new_code_cell("month = 1", metadata={"tags": ["parameters"]}),
            new_code_cell("password = 'hunter2-long'", metadata={"tags": ["injected-parameters"]}),
            new_code_cell(
                "connect()",
                outputs=[
                    new_output("stream", name="stdout", text="hunt"),
                    new_output("stream", name="stdout", text="er2-long\n"),
                    new_output("stream", name="stderr", text=f"{GITHUB}\n"),
                    new_output("display_data", data={"image/png": picture(), "text/plain": "<Figure>"}, metadata={"alt": "hunter2-long"}),
                    new_output("execute_result", data={"text/html": table, "application/json": {"k": ["hunter2-long"]}}, execution_count=1),
                    new_output("display_data", data={"image/svg+xml": f"<svg><text>{GITHUB}</text></svg>"}),
                    new_output("error", ename="ValueError", evalue="'hunter2-long'", traceback=frames),
                ],
            ),
        ],
    )


def test_a_notebook_is_clean_everywhere_and_otherwise_the_same():
    nb = failing_notebook()
    before = copy.deepcopy(nb)
    redactor = Redactor({"PASSWORD": "hunter2-long", "OTHER": 'p@ss"word'})
    new = redactor.notebook(nb)
    nbformat.validate(new)
    written = nbformat.writes(new)
    assert "hunter2" not in written
    assert "er2-long" not in written
    assert GITHUB not in written
    assert "p@ss" not in written
    assert nb == before
    assert isinstance(new, nbformat.NotebookNode)
    assert isinstance(new.cells[2], nbformat.NotebookNode)
    assert new.cells[0] is nb.cells[0]
    assert new.cells[1] is nb.cells[1]
    assert new.cells[2].source == "password = '[secret:PASSWORD]'"
    assert [output.output_type for output in new.cells[3].outputs] == ["stream", "stream", "display_data", "execute_result", "display_data", "error"]
    assert new.cells[3].outputs[0].text == "[secret:PASSWORD]\n"
    assert new.cells[3].outputs[2].data is nb.cells[3].outputs[3].data
    assert new.cells[3].outputs[3].data["application/json"] == {"k": ["[secret:PASSWORD]"]}
    assert new.metadata.papermill.parameters == {"password": "[secret:PASSWORD]", "month": 1}
    assert redactor.counts["redacted:github-token"] == 2
    assert redactor.counts["secret:OTHER"] == 1


def test_a_notebook_as_json_has_it_keeps_its_lists_of_lines():
    raw = {
        "cells": [
            {"cell_type": "code", "source": ["key = '''line one 12345\n", "line two 67890'''\n", "print(key)"], "metadata": {}, "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["a\n", "line one 12345\n", "line two 67890\n"]},
                {"output_type": "stream", "name": "stdout", "text": ["b\n"]},
                {"output_type": "display_data", "data": {"text/plain": ["line one 12345\n", "line two 67890"], "text/html": ["<b>"]}},
            ]},
            {"cell_type": "raw", "source": ["nothing\n", "here"]},
            "not a cell",
        ],
    }
    new = Redactor({"KEY": "line one 12345\nline two 67890"}).notebook(raw)
    assert new["cells"][0]["source"] == ["key = '''[secret:KEY]'''\n", "print(key)"]
    assert new["cells"][0]["outputs"] == [
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "[secret:KEY]\n", "b\n"]},
        {"output_type": "display_data", "data": {"text/plain": ["[secret:KEY]"], "text/html": ["<b>"]}},
    ]
    assert new["cells"][1:] == raw["cells"][1:]


def test_a_notebook_without_secrets_is_the_same_object():
    nb = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text="a"), new_output("display_data", data={"image/png": picture()})])])
    assert Redactor({"KEY": "hunter2-long"}).notebook(nb) is nb
    assert Redactor().notebook({"cells": "none", "x": 1}) == {"cells": "none", "x": 1}
    assert Redactor({"KEY": "hunter2-long"}).notebook(["hunter2-long"]) == ["[secret:KEY]"]
    odd = {"cells": [{"attachments": None, "outputs": None, "source": None}]}
    assert Redactor().notebook(odd) is odd


def test_one_output_by_itself():
    output = new_output("display_data", data={"text/plain": "hunter2-long", "image/png": picture()})
    assert Redactor({"KEY": "hunter2-long"}).output(output).data["text/plain"] == "[secret:KEY]"
    assert Redactor({"KEY": "hunter2-long"}).output({"data": "hunter2-long"}) == {"data": "[secret:KEY]"}


def test_a_declared_value_inside_a_picture_goes_and_chance_stays():
    inside = base64.b64encode(b"\x89PNG comment: hunter2-long end").decode()
    data = {"image/png": inside, "application/pdf": inside, "audio/wav": inside}
    (cell,) = Redactor({"KEY": "hunter2-long"}).notebook({"cells": [{"outputs": [{"output_type": "display_data", "data": data}]}]})["cells"]
    assert all("[secret:KEY]" in text for text in cell["outputs"][0]["data"].values())
    short = picture()
    redactor = Redactor({"PIN": short[100:105], "URL": short[200:204]})
    assert redactor.binary(short) is short
    assert redactor.text(short) != short


# the filter itself


def test_a_redactor_tells_no_value(capsys):
    redactor = Redactor({"KEY": "hunter2-long", "OTHER": "correct-horse"})
    assert repr(redactor) == str(redactor) == f"{redactor}" == "Redactor(KEY, OTHER)"
    redactor.text("hunter2-long")
    for part in (redactor, redactor._declared, redactor.stream(), redactor.counts):
        assert "hunter2" not in repr(part)
    for dump in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError):
            dump(redactor)
    with pytest.raises(TypeError):
        vars(redactor)


def test_counts_are_a_copy_and_right_among_threads():
    redactor = Redactor({"KEY": "hunter2-long"})
    workers = [threading.Thread(target=lambda: [redactor.text(f"hunter2-long {GITHUB}") for _ in range(300)]) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    redactor.counts.clear()
    assert redactor.counts == {"redacted:github-token": 2400, "secret:KEY": 2400}


def test_any_mapping_and_none_are_accepted():
    assert Redactor(MappingProxyType({"KEY": "hunter2-long"})).text("hunter2-long") == "[secret:KEY]"
    assert Redactor({}).text("hunter2-long") == Redactor(None).text("hunter2-long") == "hunter2-long"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("KEY", "", "shorter"),
        ("KEY", "abc", "shorter"),
        ("KEY", "  ab \n", "shorter"),
        ("KEY", "x" * (LONGEST_SECRET + 1), "longer"),
        ("KEY", "None", "ever set"),
        ("KEY", " null ", "ever set"),
        ("KEY", "token", "the filter writes"),
        ("KEY", "secret", "the filter writes"),
        ("KEY", "url-password", "the filter writes"),
        ("KEY", "[secret:KEY]", "the filter writes"),
        ("KEY", 12345678, "must be text, not int"),
        ("KEY", None, "must be text, not NoneType"),
        ("not a name", "hunter2-long", "identifier"),
        ("", "hunter2-long", "identifier"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_without_saying_it(name, value, problem):
    with pytest.raises(ParameterError, match=problem) as error:
        Redactor({"GOOD": "hunter2-long", name: value})
    assert "hunter2" not in str(error.value) + repr(error.value.fields)
    assert error.value.exit_code == 2


def test_a_value_may_not_be_in_the_name_of_another():
    with pytest.raises(ParameterError, match="'B'"):
        Redactor({"A_PASSWORD": "hunter2-long", "B": "PASSWORD"})


def test_marks_pass_the_filter_again_unchanged():
    redactor = Redactor({"KEY": "hunter2-long"})
    once = redactor.text(f"https://ann:hunter2-long@db https://ann:other@db Authorization: Bearer {GITHUB} {PEM}")
    assert Counter(redactor.counts.values()) == {1: 4}
    assert redactor.text(once) is once


# --secret


def test_a_secret_from_the_environment(monkeypatch):
    monkeypatch.setenv("FLIGHTS_KEY", "hunter2-long ")
    assert secret_from("API_KEY=env:FLIGHTS_KEY") == ("API_KEY", "hunter2-long ")
    monkeypatch.setenv("FLIGHTS_KEY", "")
    with pytest.raises(ParameterError, match="FLIGHTS_KEY is empty"):
        secret_from("API_KEY=env:FLIGHTS_KEY")
    monkeypatch.delenv("FLIGHTS_KEY")
    with pytest.raises(ParameterError, match="'API_KEY': environment variable FLIGHTS_KEY is not set") as error:
        secret_from("API_KEY=env:FLIGHTS_KEY")
    assert error.value.variable == "FLIGHTS_KEY"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"hunter2-long", "hunter2-long"),
        (b"hunter2-long\n", "hunter2-long"),
        (b"hunter2-long\r\n", "hunter2-long"),
        (b"hunter2-long\n\n", "hunter2-long\n"),
        (b"hunter2-long\r", "hunter2-long\r"),
        (b"one 1234\r\ntwo 5678\r\n", "one 1234\r\ntwo 5678"),
        ("pässword".encode(), "pässword"),
    ],
)
def test_a_secret_from_a_file(tmp_path, content, value):
    path = tmp_path / "key=1:a"
    path.write_bytes(content)
    assert secret_from(f"API_KEY=file:{path}") == ("API_KEY", value)


def test_a_secret_from_a_file_of_ones_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("hunter2-long\n")
    assert secret_from("API_KEY=file:~/key") == ("API_KEY", "hunter2-long")


def test_a_file_that_is_no_secret(tmp_path):
    missing, binary, empty, large = (tmp_path / name for name in ("missing", "binary", "empty", "large"))
    binary.write_bytes(b"\xff\xfe\x00hunter2")
    empty.write_text("\n")
    large.write_text("hunter2-long" * 10_000)
    for path, problem in ((missing, "No such file"), (tmp_path, "Is a directory"), (binary, "not text in UTF-8"), (empty, "shorter"), (large, "longer")):
        with pytest.raises(ParameterError, match=problem) as error:
            secret_from(f"API_KEY=file:{path}")
        assert "hunter2" not in str(error.value)
        assert error.value.__cause__ is None


def test_a_file_that_never_ends_is_not_read_to_its_end():
    with pytest.raises(ParameterError, match="longer"):
        secret_from(f"API_KEY=file:{Path('/dev/zero')}")


def test_a_secret_that_somebody_types():
    asked = []

    def prompt(question: str) -> str:
        asked.append(question)
        return "hunter2-long"

    assert secret_from("API_KEY", prompt=prompt) == ("API_KEY", "hunter2-long")
    assert asked == ["Value of secret API_KEY: "]
    with pytest.raises(ParameterError, match="no terminal"):
        secret_from("API_KEY")
    with pytest.raises(ParameterError, match="shorter"):
        secret_from("API_KEY", prompt=lambda question: "")

    def closed(question: str) -> str:
        raise EOFError

    with pytest.raises(ParameterError, match="no value was entered"):
        secret_from("API_KEY", prompt=closed)


@pytest.mark.parametrize(
    "spec",
    ["API_KEY=hunter2-long", "API_KEY=", "API_KEY=env:", "API_KEY=env:hunter2-long", "API_KEY=file:", "API_KEY=vault:hunter2", "hunter2-long", "hunter2 long=env:X", "", "=hunter2-long", "1KEY=env:X"],
)
def test_a_spec_that_is_none_is_not_repeated(spec):
    with pytest.raises(ParameterError) as error:
        secret_from(spec, prompt=lambda question: "")
    assert "hunter2" not in str(error.value) + repr(error.value.fields)
    assert "env:VARIABLE" in str(error.value)


@pytest.mark.parametrize("place", ["first", "last", "picture", "metadata", "streams"])
def test_a_secret_is_found_wherever_it_is_in_a_large_notebook(place: str) -> None:
    secret, redactor = "correct horse battery", Redactor({"key": "correct horse battery"})
    cells = [nbformat.v4.new_code_cell(f"x = {number}  # {'long ' * 30_000}") for number in range(8)]
    nb = nbformat.v4.new_notebook(cells=cells)
    assert redactor.notebook(nb) is nb
    if place in ("first", "last"):
        cells[0 if place == "first" else -1].source += secret
    elif place == "picture":
        cells[3].outputs = [nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(secret.encode()).decode()})]
    elif place == "metadata":
        nb.metadata["note"] = {"deep": [secret]}
    else:
        cells[5].outputs = [nbformat.v4.new_output("stream", name="stdout", text=part) for part in (secret[:9], secret[9:])]
    before = json.dumps(nb)
    clean = json.dumps(redactor.notebook(nb))
    assert json.dumps(nb) == before
    assert secret not in clean
    assert "[secret:key]" in clean
    assert redactor.counts == {"secret:key": 1}
