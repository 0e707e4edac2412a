"""Cells and outputs as HTML: which form of an output is shown, how much of it, and what damaged ones do."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_output

from mltoolkit.notebook import cells
from mltoolkit.notebook.cells import (
    Heading,
    Rendering,
    bundle_html,
    code_html,
    escape,
    markdown_html,
    output_html,
    outputs_html,
    size,
    text,
)

PNG = base64.b64encode(b"\x89PNG not really").decode()


def plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


@pytest.mark.parametrize(
    ("value", "written"),
    [("a", "a"), (["a\n", "b"], "a\nb"), (("a", 5, "b"), "ab"), (None, ""), (5, "5"), ({"a": 1}, '{"a": 1}'), ("\ud83d", "?"), ("é", "é")],
)
def test_text(value: Any, written: str) -> None:
    assert text(value) == written


def test_escape_is_for_attributes_too() -> None:
    assert escape("<a b=\"c\" d='e'>&\x00\x1b") == "&lt;a b=&quot;c&quot; d=&#x27;e&#x27;&gt;&amp;"


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (9_123_456, "9.1 MB"), (2e9, "2.0 GB"), (-1, ""), (True, ""), ("5", ""),
     (float("nan"), ""), (float("inf"), "")],
)  # fmt: skip
def test_size(count: Any, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize("language", ["python", "ipython3", "Python", "r", "julia", "sql", "json", "javascript", "no such", ""])
@pytest.mark.parametrize("source", ["def f(x): return '<b>' & x # c\n", "\n\n  x\n\n", "%matplotlib inline\n!ls <x>", "'never closed", "é ∑ 😀", ""])
def test_code_keeps_every_letter(language: str, source: str) -> None:
    assert plain(code_html(source, Rendering(language=language))) == source


def test_code_is_coloured_by_its_language() -> None:
    assert '<span class="k">def</span>' in code_html("def f(): pass", Rendering())
    assert "<span" not in code_html("def f(): pass", Rendering(language="no such"))
    assert '<span class="k">SELECT</span>' in code_html("SELECT 1", Rendering(), "sql")


def test_when_the_allowance_is_spent_code_and_text_are_plain() -> None:
    page = Rendering(allowance=30)
    assert "<span" in code_html("def f(): pass", page)
    assert "<em>" in markdown_html("*a*", page)
    assert "<span" not in code_html("def g(): pass # longer", page)
    assert markdown_html("*a* <b>", page) == '<pre class="plain">*a* &lt;b&gt;</pre>'


def test_markdown_of_all_kinds() -> None:
    page = Rendering(cell=2)
    source = """# One *two* `three`
para **b** ~~s~~ H~2~O https://example.org [l](https://example.org "t") <u>u</u> costs $5 and $10

| a | b |
|:-:|--:|
| 1 | $x_1$ |

- [ ] open
- [x] done

1. one
   - two

> quote

```python
x = 1
```
```
y < 2
```
    indented

$$
\\sum_i x_i^2
$$

[^n]

[^n]: Note.

---
"""
    shown = markdown_html(source, page)
    for part in (
        "<h2", "<em>two</em>", "<strong>b</strong>", "<del>s</del>", "<u>u</u>", 'title="t"', "costs $5 and $10", "text-align:right",
        '<span class="formula">$x_1$</span>', "☐ open", "☑ done", "<blockquote>", '<span class="mi">1</span>', "y &lt; 2", "indented",
        "\\sum_i x_i^2", '<a href="#n-note-2-1"', '<li id="n-note-2-1">', '<a href="#n-ref-2-1"', "<hr>",
    ):  # fmt: skip
        assert part in shown, part
    assert page.headings == [Heading(1, "One two three", "n-One-two-three")]


def test_headings_go_down_a_level_and_have_anchors_of_their_own() -> None:
    page = Rendering()
    shown = markdown_html("# A\n\n###### A\n\nB\n===\n\n# <script>x</script>&lt;i&gt; \"q\"", page)
    assert re.findall(r"<h\d", shown) == ["<h2", "<h6", "<h2", "<h2"]
    assert [heading.anchor for heading in page.headings][:3] == ["n-A", "n-A-2", "n-B"]
    assert page.headings[3].text == 'x<i> "q"'
    for heading in page.headings:
        assert f'id="{html.escape(heading.anchor, quote=False).replace(chr(34), "&quot;")}"' in shown


def test_two_cells_with_footnotes_do_not_meet() -> None:
    page = Rendering()
    shown = []
    for number in (1, 2):
        page.cell = number
        shown.append(markdown_html("a[^1]\n\n[^1]: n", page))
    anchors = re.findall(r'id="([^"]*)"', "".join(shown))
    assert len(anchors) == len(set(anchors)) == 4


def test_pictures_in_markdown() -> None:
    page = Rendering(cell=7)
    attached = {"a b.png": {"image/png": PNG}, "bad.png": {"image/png": '"><script>'}, "odd": "x", "t": {"text/html": "<b>"}}
    assert f'<img src="data:image/png;base64,{PNG}" alt="alt">' in markdown_html("![alt](attachment:a%20b.png)", page, attached)
    assert f'<img src="data:image/png;base64,{PNG}" alt="picture in cell 7">' in markdown_html("![](attachment:a%20b.png)", page, attached)
    for missing in ("bad.png", "odd", "t", "none"):
        assert '<img alt="x">' in markdown_html(f"![x](attachment:{missing})", page, attached)
    large = "data:image/png;base64," + "A" * 3_000_000
    assert large in markdown_html(f"*before* ![x]({large}) *after*", page)
    assert "<em>after</em>" in markdown_html(f"*before* ![x]({large}) *after*", page)
    assert large in markdown_html(f'<img src="{large}">', Rendering(cell=1))
    assert f'<img src="data:image/png;base64,{PNG}">' in markdown_html('<img src="attachment:a%20b.png" onerror="x">', page, attached)
    assert f"<p>pictureoutoftext0x and {large}</p>" in markdown_html(f"pictureoutoftext0x and {large}", page).replace(large, "pictureoutoftext0x", 1)
    assert markdown_html("pictureoutoftext7x", page) == "<p>pictureoutoftext7x</p>\n"
    assert "picture elsewhere: x.png</a>" in markdown_html("![](https://example.org/a/x.png?b)", page)
    assert "picture elsewhere" in markdown_html("![](https://[bad/x.png)", page)
    assert markdown_html("![a](x.png)", page, attachments=["odd"]).count("<img") == 0


def test_long_markdown_is_cut_and_plain() -> None:
    shown = markdown_html("*a* " * 1000, Rendering(limit=100))
    assert shown.startswith('<pre class="plain">*a* ')
    assert "3.9 kB more, in the .ipynb" in shown


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"image/png": PNG, "text/html": "<b>h</b>", "text/plain": "p"}, f'<img src="data:image/png;base64,{PNG}"'),
        ({"image/png": PNG[:8] + "\n" + PNG[8:] + "\n"}, f'<img src="data:image/png;base64,{PNG}"'),
        ({"image/jpeg": PNG}, '<img src="data:image/jpeg;base64,'),
        ({"image/gif": PNG}, '<img src="data:image/gif;base64,'),
        ({"image/webp": [PNG]}, '<img src="data:image/webp;base64,'),
        ({"image/svg+xml": "<svg/>"}, '<img src="data:image/svg+xml;base64,'),
        ({"image/png": "not base64!", "text/plain": "p"}, '<pre class="plain">p</pre>'),
        ({"image/tiff": PNG, "text/plain": "p"}, '<pre class="plain">p</pre>'),
        ({"image/tiff": PNG}, "An output of type image/tiff"),
        ({"text/html": ["<b>", "h</b>"], "text/plain": "p"}, '<div class="html"><b>h</b></div>'),
        ({"text/html": "<p style='color: red'>h</p>"}, '<div class="html paper">'),
        ({"text/html": "<script>x</script>", "text/plain": "p"}, '<pre class="plain">p</pre><p class="note">The interactive part'),
        ({"text/html": "<b>h</b><iframe src=x></iframe>"}, '<div class="html"><b>h</b></div><p class="note">The interactive part'),
        ({"text/html": "<script>x</script>"}, '<p class="note">The interactive part'),
        ({"text/html": "<div></div>", "text/plain": "p"}, '<pre class="plain">p</pre>'),
        ({"text/html": '<style>x</style><div><div class="sk-text-repr-fallback">P()<b>rerun</b></div><input></div>', "text/plain": "P()"}, '<pre class="plain">P()</pre>'),
        ({"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "IntSlider(value=5)"}, "IntSlider(value=5)</pre><p"),
        ({"application/vnd.plotly.v1+json": {"data": []}, "image/png": PNG}, "<img"),
        ({"application/vnd.vegalite.v5+json": {}, "text/plain": "alt.Chart()"}, "alt.Chart()</pre><p"),
        ({"application/javascript": "steal()"}, '<p class="note">The interactive part'),
        ({"text/markdown": "*m*", "text/plain": "p"}, '<div class="text"><p><em>m</em></p>'),
        ({"text/latex": "$\\frac{a}{b}$", "text/plain": "p"}, '<pre class="formula">$\\frac{a}{b}$</pre>'),
        ({"application/json": {"a": [1, None]}, "text/plain": "p"}, "<span"),
        ({"text/plain": "\x1b[31mr\x1b[0m <b>"}, '<pre class="plain"><span class="f1">r</span> &lt;b&gt;</pre>'),
        ({"x/y": 1, "<script>": 2}, "x/y, &lt;script&gt;"),
    ],
)  # fmt: skip
def test_the_best_form_of_an_output(data: dict[str, Any], part: str) -> None:
    shown = bundle_html(data, {}, Rendering(cell=3))
    assert part in shown
    assert not any(word in shown for word in ("<script", "rerun", "steal", "<p>p</p>"))


@pytest.mark.parametrize("data", [{}, None, [], "text", 5])
def test_an_output_without_data_is_nothing(data: Any) -> None:
    assert bundle_html(data, None, Rendering()) == ""
    assert output_html({"output_type": "display_data", "data": data}, Rendering()) == ""


@pytest.mark.parametrize(
    ("sizes", "attributes"),
    [({"width": 30, "height": 20.0}, ' width="30" height="20"'), ({"width": "30"}, ""), ({"width": -3}, ""), ({"width": 1e9}, ""), ("x", ""), (None, "")],
)
def test_sizes_of_pictures(sizes: Any, attributes: str) -> None:
    shown = bundle_html({"image/png": PNG}, {"image/png": sizes}, Rendering(cell=3))
    assert shown.endswith(f' alt="output of cell 3"{attributes}>')


def test_a_drawing_without_its_namespace_gets_it() -> None:
    shown = bundle_html({"image/svg+xml": "<?xml version='1.0'?><svg><rect/></svg>"}, {}, Rendering())
    drawing = base64.b64decode(shown.split("base64,")[1].split('"')[0]).decode()
    assert '<svg xmlns="http://www.w3.org/2000/svg"><rect/>' in drawing


def test_json_that_cannot_be_written_is_shown_somehow() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "[[...]]" in plain(bundle_html({"application/json": endless}, {}, Rendering()))
    assert "..." not in plain(bundle_html({"application/json": {"é": "\ud800"}}, {}, Rendering()))


def test_each_kind_of_output_is_cut_at_the_limit() -> None:
    page = Rendering(limit=1000)
    row = "<tr><td>12345</td></tr>"
    many = {"rows": list(range(3000))}
    for output in (
        new_output("stream", name="stdout", text="line\n" * 2000),
        new_output("display_data", data={"text/plain": "line\n" * 2000}),
        new_output("display_data", data={"text/html": f"<table>{row * 500}</table>"}),
        new_output("display_data", data={"text/markdown": "word " * 2000}),
        new_output("display_data", data={"text/latex": "x " * 5000}),
        new_output("display_data", data={"application/json": many}),
        new_output("error", ename="E", evalue="v", traceback=["frame\n" * 2000]),
    ):
        shown = output_html(output, page)
        assert "kB more, in the .ipynb" in shown, output
        assert len(plain(shown)) < 1100


def test_html_is_cut_between_elements_and_closed() -> None:
    shown = bundle_html({"text/html": "<table><tr><td title='abc'>1</td></tr>" * 3}, {}, Rendering(limit=60))
    assert shown.count("<table") == shown.count("</table") == 2
    assert "bytes more" in shown


def test_pictures_in_html_do_not_count() -> None:
    picture = f'<img src="data:image/png;base64,{"A" * 5000}">'
    shown = bundle_html({"text/html": f"<p>one</p>{picture}<p>two</p>{picture}" + "<p>three</p>" * 100}, {}, Rendering(limit=150))
    assert shown.count("A" * 5000) == 2
    assert "more, in the .ipynb" in shown
    assert "kB" in bundle_html({"text/html": "<p>one</p>" * 50 + picture * 2}, {}, Rendering(limit=150))


def test_streams_are_joined_before_lines_are_looked_at() -> None:
    out = [new_output("stream", name="stdout", text=part) for part in ("10%", "\r20", "%\n\x1b[31", "mred\n")]
    err = new_output("stream", name="stderr", text="w")
    assert outputs_html([*out, err, out[0]], Rendering()) == (
        '<pre class="stdout">20%\n<span class="f1">red\n</span></pre><pre class="stderr">w</pre><pre class="stdout">10%</pre>'
    )


def test_long_text_scrolls_in_a_box_that_a_keyboard_reaches() -> None:
    shown = outputs_html([new_output("stream", name="stdout", text="a\n" * 50)], Rendering())
    assert shown.startswith('<pre class="stdout scrolls" tabindex="0">')


def test_errors() -> None:
    error = new_output("error", ename="ValueError", evalue="<x>", traceback=["\x1b[31mValueError\x1b[39m: <x>"])
    assert output_html(error, Rendering()) == '<pre class="traceback"><span class="f1">ValueError</span>: &lt;x&gt;</pre>'
    for frames in ([], None, "text"):
        shown = output_html({"output_type": "error", "ename": "E", "evalue": ["v", "w"], "traceback": frames}, Rendering())
        assert shown == '<pre class="traceback">E: vw</pre>'


@pytest.mark.parametrize("outputs", [None, "x", {"a": 1}, [None, 5, "x", []], [{}], [{"output_type": "new kind"}], [{"output_type": "stream"}]])
def test_damaged_outputs_are_survived(outputs: Any) -> None:
    assert plain(outputs_html(outputs, Rendering())) == ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
mime = st.sampled_from(["text/html", "text/plain", "text/markdown", "image/png", "image/svg+xml", "application/json", "text/latex", "x/y"])


@given(st.dictionaries(mime, anything, max_size=3), anything)
def test_any_bundle_gives_html_that_can_be_written(data: dict[str, Any], metadata: Any) -> None:
    shown = output_html({"output_type": "display_data", "data": data, "metadata": metadata}, Rendering())
    assert shown.encode("utf-8").decode() == shown
    assert not re.search(r"<(script|iframe|svg|style)", shown)


@given(st.lists(st.sampled_from(["# ", "*", "`", "[a](b)", "<b", ">", "|", "\n", "$", "![", "](", "- ", "> ", "<script>", "x", "[^1]: "])).map("".join))
def test_any_markdown_gives_html_that_can_be_written(source: str) -> None:
    shown = markdown_html(source, Rendering())
    assert shown.encode("utf-8").decode() == shown
    assert not re.search(r"<(script|iframe|svg|style|input)", shown)


def test_json_is_indented() -> None:
    data = {"b": [1, 2.5, True, None], "a": "é"}
    assert json.loads(plain(bundle_html({"application/json": data}, {}, Rendering()))) == data


def test_the_parser_is_made_once_a_page() -> None:
    page = Rendering()
    assert page.markdown is page.markdown
    assert cells.Rendering().markdown is not page.markdown
