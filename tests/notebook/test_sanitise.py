"""The allow-list, without a browser: what stays, what goes, and that nothing hostile is slow."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import attacks
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltoolkit.notebook import sanitise as module
from mltoolkit.notebook.sanitise import MAX_DEPTH, interactive, is_visible, sanitise, static


class Census(HTMLParser):
    """Every element and attribute, as Python's parser sees them."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in {"img", "br", "hr", "col", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag


def only_what_is_listed(markup: str) -> None:
    census = Census(markup)
    assert census.open == []
    for tag, attributes in census.seen:
        assert tag in module._TAGS
        assert set(attributes) <= module._EVERYWHERE | module._BY_TAG.get(tag, set()) | {"rel"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name == "href":
                assert re.match(r"(https?://|mailto:|#n-)", value or "", re.IGNORECASE)
            if name == "src":
                assert (value or "").lower().startswith("data:image/")
            if name == "style":
                assert not re.search(r"url|expression|@|\\|position|/\*", value or "", re.IGNORECASE)


@pytest.mark.parametrize("attack", attacks.numbered(attacks.HTML))
def test_attacks_leave_only_what_is_listed(attack: str) -> None:
    only_what_is_listed(sanitise(attack))
    only_what_is_listed(sanitise(sanitise(attack)))


fragments = st.lists(
    st.sampled_from(attacks.HTML)
    | st.sampled_from(["<a", "<b>", "</b>", "<table>", "</table>", "<td>", "<p>", "</p>", "<svg>", "</svg>", "<math>", "<style>", "</style>",
                       "<!--", "-->", '"', "'", "`", "=", ">", "<", "/", "&lt;", "\x00", "id=x", 'style="color:red"', "<template>", "<select>"])
    | st.text(max_size=8),
    max_size=12,
)  # fmt: skip


@given(fragments)
@settings(max_examples=300, deadline=None)
def test_any_mixture_leaves_only_what_is_listed(parts: list[str]) -> None:
    clean = sanitise("".join(parts))
    only_what_is_listed(clean)
    # A second parser may nest it otherwise (links in a table, say), and still finds nothing else.
    only_what_is_listed(sanitise(clean))


@given(st.text())
def test_text_without_markup_stays_itself(text: str) -> None:
    text = text.replace("<", "").replace("&", "").replace("\x00", "").replace("\r", "")
    printed = text.encode("utf-8", "replace").decode()
    assert sanitise(text) == printed.replace(">", "&gt;")


def test_what_tables_and_text_need_stays() -> None:
    table = (
        '<table class="dataframe"><thead><tr style="text-align:right"><th></th><th colspan="2">a</th></tr></thead>'
        "<tbody><tr><th>0</th><td>1</td><td>2</td></tr></tbody></table>"
    )
    assert sanitise(table) == table
    text = "<h2>A</h2><p><b>b</b> <i>i</i> <code>c</code> x<sub>1</sub></p><ul><li>one</li></ul><details open=\"\"><summary>s</summary>d</details>"
    assert sanitise(text) == text
    picture = '<img src="data:image/png;base64,AAAA" alt="a" width="30" height="20">'
    assert sanitise(picture) == picture


@pytest.mark.parametrize(
    ("markup", "clean"),
    [
        ('<a href="https://example.org/?a=1&amp;b=2">l</a>', '<a href="https://example.org/?a=1&amp;b=2" rel="noopener noreferrer">l</a>'),
        ('<a href="mailto:a@example.org">l</a>', '<a href="mailto:a@example.org" rel="noopener noreferrer">l</a>'),
        ('<a href="#">l</a>', '<a rel="noopener noreferrer">l</a>'),
        ('<a href="other.ipynb">l</a>', '<a rel="noopener noreferrer">l</a>'),
        ('<a href="//example.org">l</a>', '<a rel="noopener noreferrer">l</a>'),
        ('<a href="https://a b">l</a>', '<a rel="noopener noreferrer">l</a>'),
        ('<a href="data:image/png;base64,AAAA">l</a>', '<a rel="noopener noreferrer">l</a>'),
        ('<a name="x" target="_top">l</a>', '<a rel="noopener noreferrer">l</a>'),
        ('<img src="https://example.org/x.png" alt="a">', '<img alt="a">'),
        ('<img src="data:text/html,x">', "<img>"),
        ('<img src="data:image/png;base64,AA" width="1e9" height="9999999">', '<img src="data:image/png;base64,AA">'),
        ('<p id="two words">t</p>', '<p id="n-two-words">t</p>'),
        ('<p id="">t</p>', "<p>t</p>"),
        ('<p class="badge succeeded k dataframe">t</p>', '<p class="k dataframe">t</p>'),
        ('<p aria-label="x" role="alert" data-x="1">t</p>', "<p>t</p>"),
        ("<form><input value=a><button>b</button></form>", "b"),
        ("<font color=red size=9>t</font>", '<font color="red">t</font>'),
        ("<p hidden>t</p>", '<p hidden="">t</p>'),
        ("a < b & c", "a &lt; b &amp; c"),
        ("&lt;b&gt;", "&lt;b&gt;"),
        ("<!-- c -->t", "t"),
        ("", ""),
    ],
)  # fmt: skip
def test_decisions(markup: str, clean: str) -> None:
    assert sanitise(markup) == clean


@pytest.mark.parametrize(
    ("style", "kept"),
    [
        ("COLOR: Red", "color:Red"),
        ("color: rgb(1, 2, 3); background-color: hsla(120, 50%, 50%, .3)", "color:rgb(1, 2, 3);background-color:hsla(120, 50%, 50%, .3)"),
        ("width: 10em; height: +2.5px; flex: 1 1 0%", "width:10em;height:+2.5px;flex:1 1 0%"),
        ("font-family: 'Some Font', serif", "font-family:'Some Font', serif"),
        ("border: 1px solid #abc !important", "border:1px solid #abc !important"),
        ("color: var(--x)", ""),
        ("color: #12", ""),
        ("--x: red", ""),
        ("background: URL(x)", ""),
        ("background: u\\72l(x)", ""),
        ("background: url/**/(x)", ""),
        ("background-image: image-set('x' 1x)", ""),
        ("background: -webkit-gradient(x)", ""),
        ("width: expression(alert(1))", ""),
        ("position: absolute; z-index: 9", ""),
        ("margin: -1px; margin-top: 1px", "margin-top:1px"),
        ("transform: scale(9); content: 'x'", ""),
        ("color: red } body { color: blue", ""),
        ("color: '</style>'", ""),
        ("color", ""),
        (";;:;", ""),
        ("x" * 10_000 + ";color:red", ""),
    ],
)  # fmt: skip
def test_styles(style: str, kept: str) -> None:
    assert module._style(style) == kept


def test_colours_of_a_pandas_styler_stay(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    shown = sanitise(frame.style.highlight_max(color="yellow").bar(subset=["b"])._repr_html_())
    assert shown.count("background-color:yellow") == 2
    assert "linear-gradient(90deg" in shown
    assert "<style" not in shown


def test_rules_for_other_things_than_a_cell_of_a_styler_are_dropped() -> None:
    sheet = "<style>#T_1 td, .x, #cells, #T_2 { color: red } #T_3 { background: url(x) } #T_4 { color } broken</style>"
    cells = "".join(f'<td id="{name}">t</td>' for name in ("T_1", "T_2", "T_3", "T_4", "cells"))
    shown = sanitise(f"{sheet}<table><tr>{cells}</tr></table>")
    assert shown.count("style=") == 1
    assert '<td id="n-T_2" style="color:red">' in shown


def test_rules_cannot_break_out_of_the_attribute() -> None:
    sheet = '<style>#T_1 { color: red" onmouseover="steal() }</style>'
    assert sanitise(sheet + '<p id="T_1">t</p>') == '<p id="n-T_1">t</p>'


@pytest.mark.parametrize(
    "unit",
    ["<div>", "<b>", "<b><p></b></p>", "<span><p></span></p>", "<b><table></b></table>", "<font></i>", "<ul><li>", "<svg><td>", "<object>"],
)
def test_nesting_beyond_reading_is_refused(unit: str) -> None:
    assert sanitise(unit * (MAX_DEPTH + 1)) == ""


def test_long_but_flat_is_not_refused() -> None:
    rows = "<tr><td><b>1</b><td><p>2<p>3</tr>" * 5000
    assert sanitise(f"<table>{rows}</table>").count("<tr>") == 5000
    assert sanitise("<p>a<br>" * 5000).count("<p>") == 5000
    assert sanitise("<div><p>a</div>" * 5000).count("<div>") == 5000


@pytest.mark.parametrize("attribute", ["a{}=1", 'a{}=">"', "a<{}", "a{}='x'", 'a{}="x"', "a{}/"])
def test_elements_of_a_thousand_attributes_are_refused(attribute: str) -> None:
    assert sanitise("<p " + " ".join(attribute.format(number) for number in range(1000)) + ">text</p>") == ""


def test_ends_in_the_middle_of_anything() -> None:
    whole = '<table style="color: red"><tr><td title="a>b">1 < 2 &amp; 3</td></tr></table><img src="data:image/png;base64,AAAA" alt=\'x\'>'
    for end in range(len(whole)):
        only_what_is_listed(sanitise(whole[:end]))


def test_static_takes_scripts_and_sheets_out_first() -> None:
    assert static("a<SCRIPT x>1<2</SCRIPT >b<style>x</style>c") == "abc"
    assert static("a<script>b") == "a<script>b"
    assert sanitise("a<script>b") == "a"
    assert static("<scripted>a</scripted>") == "<scripted>a</scripted>"
    assert static("plain") == "plain"


def test_half_a_surrogate_pair_is_written_as_a_question_mark() -> None:
    assert sanitise("<b>\ud800</b>") == "<b>?</b>"


@pytest.mark.parametrize("tag", ["script", "IFRAME", "video", "button", "canvas"])
def test_interactive(tag: str) -> None:
    assert interactive(f"<p>a</p><{tag} src=x>")
    assert not interactive(f"<p>{tag}</p>")


@pytest.mark.parametrize(
    ("markup", "seen"),
    [("", False), ("<div> \n</div>", False), ("<div><p>a</p></div>", True), ("a", True), ("<img>", True), ("<hr>", True),
     ('<div title="a"></div>', False), ("<progress></progress>", True), ("<p></p> b", True)],
)  # fmt: skip
def test_visible(markup: str, seen: bool) -> None:
    assert is_visible(markup) is seen
