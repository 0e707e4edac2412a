"""Hostile notebooks in a real Chromium: nothing runs, nothing is sent, and the page looks as it should."""

from __future__ import annotations

import base64
import html
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attacks
import chromium
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from mltoolkit.notebook import sanitise
from mltoolkit.notebook.page import render

# Each frame gets `hit` before anything else; it reports to this test and leaves a mark.
HIT = "window.hits = []; window.hit = n => { window.hits.push(n); window.report && window.report(String(n)); return n; };"
POKE = """(async () => {
  const kinds = ['click', 'auxclick', 'dblclick', 'contextmenu', 'mouseover', 'mouseenter', 'mousemove', 'pointerenter',
    'pointerover', 'focus', 'focusin', 'blur', 'keydown', 'keypress', 'input', 'change', 'copy', 'paste', 'cut',
    'dragstart', 'wheel', 'scroll', 'toggle', 'beforetoggle', 'load', 'error', 'animationstart', 'animationend',
    'transitionrun', 'submit', 'reset', 'close', 'begin', 'end'];
  for (const element of document.querySelectorAll('*')) {
    for (const kind of kinds) element.dispatchEvent(new Event(kind, {bubbles: false, cancelable: true}));
    if (element.tagName === 'DETAILS') element.open = true;
  }
  await new Promise(done => setTimeout(done, 300));
  return window.hits;
})()"""
# What the browser itself made of the page: everything that is not on the list.
STRANGERS = """(() => {
  const tags = new Set(TAGS), names = new Set(NAMES), found = [];
  for (const element of document.querySelectorAll('.text *, .html *')) {
    if (!tags.has(element.localName) || element.namespaceURI !== 'http://www.w3.org/1999/xhtml') found.push(element.localName);
    for (const attribute of element.attributes) if (!names.has(attribute.name)) found.push(element.localName + ' ' + attribute.name);
  }
  for (const element of document.querySelectorAll('*'))
    for (const attribute of element.attributes) if (/^on|^srcdoc$|^xlink|^formaction$/.test(attribute.name)) found.push(attribute.name);
  for (const name of ['script', 'iframe', 'object', 'embed', 'form', 'input', 'button', 'base', 'link', 'svg', 'math', 'frame'])
    if (document.querySelector(name)) found.push('<' + name + '>');
  if (document.querySelectorAll('style').length !== 1 || document.querySelectorAll('meta').length > 5) found.push('head');
  for (const link of document.querySelectorAll('a, area'))
    if (link.href && !/^(https?|mailto):$/.test(link.protocol) && !link.getAttribute('href').startsWith('#')) found.push(link.href);
  for (const image of document.querySelectorAll('img'))
    if (image.getAttribute('src') && !/^data:image\\//i.test(image.getAttribute('src'))) found.push(image.getAttribute('src'));
  for (const element of document.querySelectorAll('[style]'))
    if (/url|expression|import|@|fixed|absolute|behavior|binding/i.test(element.getAttribute('style'))) found.push(element.getAttribute('style'));
  const ids = [...document.querySelectorAll('.text [id], .html [id]')].filter(element => !element.id.startsWith('n-'));
  return found.concat(ids.map(element => '#' + element.id));
})()"""
NAMES = sanitise._EVERYWHERE | set().union(*sanitise._BY_TAG.values()) | {"rel", "tabindex"}
STRANGERS = STRANGERS.replace("TAGS", json.dumps(sorted(sanitise._TAGS))).replace("NAMES", json.dumps(sorted(NAMES)))


@pytest.fixture(scope="module")
def tab() -> Iterator[chromium.Tab]:
    with chromium.browser() as opened:
        opened.call("Runtime.addBinding", name="report")
        opened.call("Page.addScriptToEvaluateOnNewDocument", source=HIT)
        yield opened


def hits(tab: chromium.Tab) -> list[int]:
    """Numbers of the attacks that ran, in any frame, since the page was opened."""
    tab.run("new Promise(done => setTimeout(done, 50))")
    called = (seen for seen in tab.events if seen["method"] == "Runtime.bindingCalled")
    return sorted({int(seen["params"]["payload"]) for seen in called})


def write(folder: Path, page: str, policy: bool = True) -> str:
    """Write a page, with its policy or without, and return its address."""
    if not policy:
        page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        assert count == 1
    path = folder / f"page-{policy}.html"
    path.write_bytes(page.encode())
    return path.as_uri()


def framed(fragments: list[str]) -> str:
    """A page that has each fragment in a frame of its own, with no protection at all."""
    frames = "".join(f'<iframe srcdoc="{html.escape(fragment)}"></iframe>' for fragment in fragments)
    return f"<!DOCTYPE html><meta charset=utf-8><body>{frames}"


def settle(tab: chromium.Tab) -> None:
    tab.run("new Promise(done => setTimeout(done, 800))")


def test_the_attacks_work_where_nothing_is_done_about_them(tab: chromium.Tab, tmp_path: Path) -> None:
    path = tmp_path / "raw.html"
    path.write_bytes(framed(attacks.numbered(attacks.HTML)).encode())
    tab.open(path.as_uri())
    settle(tab)
    ran = [number for number in hits(tab) if number < len(attacks.AT_ONCE)]
    assert len(ran) > 90, f"this test would not notice an attack: {len(ran)} ran"


def test_sanitised_fragments_do_nothing_each_alone(tab: chromium.Tab, tmp_path: Path) -> None:
    fragments = [sanitise.sanitise(attack) for attack in attacks.numbered(attacks.HTML)]
    # Parsed, written out and parsed again, as a mail program or an editor would.
    again = """<script>addEventListener('load', () => {
      document.body.innerHTML += ''; document.body.innerHTML += ''; setTimeout(() => hit(9999), 50) })</script>"""
    path = tmp_path / "alone.html"
    path.write_bytes(framed([fragment + again for fragment in fragments]).encode())
    tab.open(path.as_uri())
    settle(tab)
    assert hits(tab) == [9999]
    assert sum(seen["method"] == "Runtime.bindingCalled" for seen in tab.events) == len(fragments)
    assert tab.requests() == [path.as_uri()]


def hostile_outputs(attack: str) -> list[Any]:
    return [
        new_output("display_data", data={"text/html": attack, "text/plain": attack}),
        new_output("display_data", data={"text/markdown": attack}),
        new_output("display_data", data={"text/latex": attack}),
        new_output("execute_result", data={"text/plain": attack}, execution_count=1),
        new_output("display_data", data={"application/json": {attack: [attack]}}),
        new_output("display_data", data={"image/png": attack}, metadata={"image/png": {"width": attack}}),
        new_output("display_data", data={"image/svg+xml": attack}),
        new_output("stream", name="stdout", text=attack + "\n\x1b[31m" + attack + "\r" + attack),
        new_output("stream", name="stderr", text=attack),
        new_output("error", ename=attack, evalue=attack, traceback=[attack, "\x1b[31m" + attack]),
    ]


@pytest.mark.parametrize("policy", [True, False])
def test_a_notebook_of_attacks_is_inert(tab: chromium.Tab, tmp_path: Path, policy: bool) -> None:
    body = []
    for attack in attacks.numbered(attacks.HTML):
        body.append(new_markdown_cell(attack))
        body.append(new_code_cell(attack, outputs=hostile_outputs(attack)))
    for attack in attacks.numbered(attacks.IN_MARKDOWN, 1000):
        body.append(new_markdown_cell(attack))
    body.append(new_markdown_cell("\n".join(attacks.numbered(attacks.IN_MARKDOWN, 1000))))
    page = render(new_notebook(cells=body), title="attacks", facts={"status": "failed"})
    address = write(tmp_path, page, policy)
    tab.open(address)
    settle(tab)
    assert tab.run(POKE) == []
    assert hits(tab) == []
    assert tab.dialogs == []
    assert tab.run(STRANGERS) == []
    assert tab.requests() == [address]
    assert tab.run("document.querySelectorAll('main > section').length") > 500


def poisoned(value: Any, attack: str) -> Any:
    """`value` with an attack in place of every text and of every key that the format does not prescribe."""
    if isinstance(value, dict):
        kept = {"cell_type", "output_type", "cells", "outputs", "metadata", "data", "source", "tags", "text", "name"}
        return {
            (key if key in kept or key in FACTS or "/" in key else attack): (
                item if key in ("cell_type", "output_type") else poisoned(item, attack)
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item, attack) for item in value]
    return attack if isinstance(value, str) else value


FACTS: dict[str, Any] = {
    "run_id": "r", "status": "failed", "notebook": "n", "project": "p", "experiment": "e",
    "parameters": {"name": "value", "list": ["a" * 300]}, "parameter_types": {"name": "str"}, "given": ["name"],
    "started_at": "2026-01-01T00:00:00+00:00", "ended_at": "z", "duration_s": 1.5, "cpu_s": "x",
    "git": {"commit": "c", "branch": "b", "dirty": True}, "commit": "c", "branch": "b",
    "environment": {"python": "3", "platform": "p", "packages": {"a": "1"}, "variables": {"V": "1"}, "cpu_count": "2"},
    "python": "3", "platform": "p", "packages": {}, "variables": {}, "implementation": "i", "cpu_count": 1,
    "datasets": [{"name": "d", "version": "1", "digest": "x", "rows": "5", "event": "read", "changed": True}],
    "metrics": {"m": "1"}, "user": "u", "host": "h", "trigger": "t", "seed": "0", "job": "j", "logical_date": "d",
    "kernel": {"name": "k", "warm": True}, "failure": {"cell": 1, "ename": "E", "evalue": "v", "message": "m"},
    "ename": "", "evalue": "", "message": "", "cell": 0, "secrets": ["s"], "warnings": ["w"],
}  # fmt: skip


@pytest.mark.parametrize("policy", [True, False])
def test_attacks_in_unusual_places_are_inert(tab: chromium.Tab, tmp_path: Path, policy: bool) -> None:
    timing = {"iopub.execute_input": "x", "shell.execute_reply": "y"}
    metadata = {"tags": ["parameters", "x"], "papermill": {"status": "x", "duration": "x", "exception": "x"}, "execution": timing}
    notebook = new_notebook(
        cells=[
            new_markdown_cell("![a](attachment:a.png)", attachments={"a.png": {"image/png": "x", "x/y": "z"}}, id="x"),
            new_code_cell("x", id="x1", metadata=metadata, outputs=hostile_outputs("x"), execution_count=1),
            new_raw_cell("x", metadata={"format": "x"}),
        ],
        metadata={
            "title": "x", "authors": [{"name": "x"}], "kernelspec": {"name": "x", "display_name": "x", "language": "x"},
            "language_info": {"name": "x", "pygments_lexer": "x", "codemirror_mode": {"name": "x"}}, "widgets": {"x": "x"},
        },
    )  # fmt: skip
    closers = ['"><script>X</script>', "'><img src=x onerror=X>", "</title></style></script><svg onload=X>",
               '" onmouseover="X" autofocus onfocus="X', "-->]]><img src=x onerror=X>", "javascript:X", "`${X}`"]  # fmt: skip
    for attack in attacks.numbered(closers, 2000):
        page = render(poisoned(notebook, attack), title=attack, facts=poisoned(FACTS, attack))
        page += render(poisoned(notebook, attack), title=attack, facts=FACTS).split("<body>")[1]
        address = write(tmp_path, page, policy)
        tab.open(address)
        assert tab.run(POKE) == []
        assert hits(tab) == []
        assert tab.run(STRANGERS) == []
        assert tab.requests() == [address]
        assert tab.run("document.title") == attack.strip()


def test_random_mixtures_leave_only_what_is_on_the_list(tab: chromium.Tab, tmp_path: Path) -> None:
    rng = random.Random(0)
    tags = "a b p div table tr td th svg math style script title textarea select option template noscript iframe form mglyph mtext mi "
    tags += "annotation-xml foreignObject desc xmp plaintext img image details ul li pre code body html frameset drawing x-y"
    names = ['onerror=hit(1)', 'onload="hit(2)"', "src=x", 'href="javascript:hit(3)"', "style='color:red;background:url(x)'", 'id="x"',
             'class="failing k"', "title='</style><img src=x onerror=hit(4)>'", "xmlns='http://www.w3.org/2000/svg'", "a<b=c", "/", "'\""]  # fmt: skip
    extras = ["<!--", "-->", "--!>", "<![CDATA[", "]]>", "\x00", "&lt;", "&#x3c;", "<", ">", '"', "'", "`", "text", "<?", "</", "\n"]
    soup = []
    for _ in range(1500):
        parts = []
        for _ in range(rng.randint(2, 14)):
            kind = rng.random()
            if kind < 0.5:
                attributes = " ".join(rng.sample(names, rng.randint(0, 3)))
                parts.append(f"<{rng.choice(tags.split())} {attributes}>")
            elif kind < 0.75:
                parts.append(f"</{rng.choice(tags.split())}>")
            else:
                parts.append(rng.choice(extras))
        soup.append("".join(parts))
    outputs = [new_output("display_data", data={"text/html": markup}) for markup in soup]
    body = [new_code_cell("", outputs=outputs), *map(new_markdown_cell, soup), new_code_cell("the_end")]
    address = write(tmp_path, render(new_notebook(cells=body), title="soup"), policy=False)
    tab.open(address)
    assert hits(tab) == []
    assert tab.run(STRANGERS) == []
    assert tab.requests() == [address]
    assert tab.run("document.querySelector('main').lastElementChild.innerText").endswith("the_end")
    # Nothing got out of its cell.
    assert tab.run("[...document.querySelectorAll('main > *')].filter(e => !e.matches('section.cell')).length") == 0
    assert tab.run("document.body.lastElementChild.matches('.columns') && document.querySelectorAll('main').length === 1")
    assert tab.run("document.querySelectorAll('main > section > .body > .output, main > section > .text').length") > 1500


def test_a_drawing_shows_but_does_nothing(tab: chromium.Tab, tmp_path: Path) -> None:
    drawing = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="40" height="30" onload="hit(1)">
      <script>hit(2)</script><rect width="40" height="30" fill="#f00"/><image href="https://example.org/x.png" onerror="hit(3)"/>
      <foreignObject><img xmlns="http://www.w3.org/1999/xhtml" src="https://example.org/y.png" onerror="hit(4)"/></foreignObject>
      <style>@import url(https://example.org/z.css);</style><a xlink:href="javascript:hit(5)"><text>a</text></a></svg>"""
    output = new_output("display_data", data={"image/svg+xml": drawing})
    page = render(new_notebook(cells=[new_code_cell("", outputs=[output])]), title="drawing")
    for policy in (True, False):
        address = write(tmp_path, page, policy)
        tab.open(address)
        settle(tab)
        assert tab.run("(i => [i.naturalWidth, i.alt])(document.querySelector('img'))") == [40, "output of cell 1"]
        assert hits(tab) == []
        assert tab.requests() == [address]


def a_whole_notebook() -> Any:
    traceback = ["\x1b[31mKeyError\x1b[39m: \x1b[38;5;28mx\x1b[39m", "\x1b[30;43mhere\x1b[0m \x1b[37;41mx\x1b[0m \x1b[7mswapped\x1b[0m"]
    colours = "".join(f"\x1b[{code}m{code} \x1b[0m" for code in (*range(30, 38), *range(90, 98), *range(40, 48), *range(100, 108), 1, 2, 3, 4, 9))
    colours += "".join(f"\x1b[38;5;{code}m{code} \x1b[0m" for code in range(0, 256, 5))
    source = '@decorator\nclass A(Base):\n    """Doc."""\n    def f(self, x: int = 5) -> str:  # why\n        return f"{x!r}" + len("s") * 1.5 or None\n'
    styled = "<table><tr><th>a</th></tr><tr><td>1</td></tr><tr><td>2</td></tr></table>"
    error = new_output("error", ename="KeyError", evalue="'x'", traceback=traceback)
    return new_notebook(
        cells=[
            new_markdown_cell("# One\n## Two\n### Three\n> quoted `code` [link](https://example.org)\n\n| a |\n|---|\n| 1 |\n\n```python\nx = 1  # c\n```\n![e](https://example.org/e.png) $a_1$"),
            new_code_cell("x = 5", execution_count=1, metadata={"tags": ["parameters"], "papermill": {"duration": 0.5}}),
            new_code_cell(source, execution_count=2, outputs=[
                new_output("stream", name="stdout", text=colours + "\n" * 60),
                new_output("stream", name="stderr", text="warning " + colours),
                new_output("display_data", data={"text/html": styled}),
                new_output("display_data", data={"text/html": "<p style='color:black'>on paper <a href=#x>l</a></p>"}),
                new_output("display_data", data={"application/json": {"a": [1, None, "s"]}}),
                new_output("display_data", data={"application/vnd.plotly.v1+json": {}}),
            ]),
            new_code_cell("1 / 0", execution_count=3, outputs=[error], metadata={"papermill": {"exception": True}}),
            new_code_cell("never", metadata={"papermill": {"status": "pending"}}),
        ]
    )  # fmt: skip


CONTRAST = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const part = value => (value /= 255) <= .03928 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  let count = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    let back = [0, 0, 0, 0], dim = 1;
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      dim *= Number(getComputedStyle(at).opacity);
      if (colour.length === 3 || colour[3] === 1) { back = colour; break; }
    }
    const front = parse(getComputedStyle(element).color).slice(0, 3).map((value, index) => value * dim + back[index] * (1 - dim));
    const [a, b] = [light(front), light(back)];
    const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    count += 1;
    if (contrast < 4.5) low.push([element.className || element.localName, element.innerText.slice(0, 20), contrast.toFixed(2)]);
  }
  return [count, low];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "lost"])
def test_every_text_has_contrast(tab: chromium.Tab, tmp_path: Path, scheme: str, status: str) -> None:
    page = render(a_whole_notebook(), title="contrast", facts={**FACTS, "status": status})
    tab.media(scheme)
    tab.open(write(tmp_path, page))
    tab.run("document.querySelectorAll('details').forEach(element => { element.open = true })")
    count, low = tab.run(CONTRAST)
    tab.media()
    assert low == []
    assert count > 200


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_the_page_never_scrolls_sideways(tab: chromium.Tab, tmp_path: Path, width: int) -> None:
    notebook = a_whole_notebook()
    notebook.cells += [
        new_code_cell("x = '" + "wide " * 100 + "'", outputs=[
            new_output("stream", name="stdout", text="w" * 5000),
            new_output("display_data", data={"text/html": "<table><tr>" + "<td>0.123456</td>" * 80 + "</tr></table>"}),
            new_output("display_data", data={"text/html": "<div style='width:9999px;margin-left:900px'>far</div>"}),
            new_output("error", ename="E", evalue="v" * 500, traceback=["t" * 500]),
        ]),
        new_markdown_cell("w" * 500 + "\n\n|" + "a|" * 60 + "\n|" + "-|" * 60 + "\n|" + "1|" * 60),
    ]  # fmt: skip
    facts = {**FACTS, "parameters": {"p" * 60: "v" * 500}, "metrics": {"m" * 80: 1.5}, "git": {"commit": "c" * 40, "branch": "b" * 200}}
    tab.size(width)
    tab.open(write(tmp_path, render(notebook, title="t" * 200, facts=facts)))
    assert tab.run("document.documentElement.scrollWidth") <= width


def test_the_failing_cell_is_one_step_away_and_first_in_sight(tab: chromium.Tab, tmp_path: Path) -> None:
    notebook = a_whole_notebook()
    failure = {"cell": 3, "ename": "ZeroDivisionError", "evalue": "division by zero", "message": ""}
    tab.size(1280, 900)
    tab.open(write(tmp_path, render(notebook, title="failed", facts={**FACTS, "failure": failure})))
    banner = "document.querySelector('.banner')"
    assert tab.run(f"{banner}.getBoundingClientRect().bottom") < 400
    assert "ZeroDivisionError: division by zero" in tab.run(f"{banner}.innerText")
    place = "(r => [r.top, innerHeight])(document.querySelector('.failing').getBoundingClientRect())"
    top, height = tab.run(place)
    assert top > height
    tab.run(f"{banner}.querySelector('a').click()")
    top, height = tab.run(place)
    assert 0 <= top < height
    assert tab.run("document.querySelectorAll('.failing').length") == 1


def test_it_reads_well_with_a_keyboard_and_a_screen_reader(tab: chromium.Tab, tmp_path: Path) -> None:
    picture = base64.b64encode(b"not really").decode()
    notebook = a_whole_notebook()
    notebook.cells.append(new_code_cell("", outputs=[new_output("display_data", data={"image/png": picture})]))
    tab.open(write(tmp_path, render(notebook, title="reading", facts=FACTS)))
    press = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    tab.call("Input.dispatchKeyEvent", type="keyDown", **press)
    assert tab.run("document.activeElement.innerText") == "Skip to the cells"
    assert tab.run("document.activeElement.getBoundingClientRect().left") >= 0
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in nodes if not node.get("ignored")]
    assert {"banner", "main", "navigation", "complementary"} <= set(roles)
    images = [node for node in nodes if node.get("role", {}).get("value") == "image"]
    assert [image["name"]["value"] for image in images] == ["output of cell 6"]
    levels = tab.run("[...document.querySelectorAll('h1')].length")
    assert levels == 1


def test_it_opens_in_a_sandboxed_frame_as_mlflow_shows_it(tab: chromium.Tab, tmp_path: Path) -> None:
    """MLflow makes a blob of the text, without a character set, and shows it in `<iframe sandbox="allow-scripts">`."""
    page = render(a_whole_notebook(), title="größer als null ✓", facts={**FACTS, "status": "succeeded"})
    host = tmp_path / "host.html"
    text = json.dumps(page).replace("</", "<\\/")
    host.write_text(
        "<!DOCTYPE html><meta charset=utf-8><body style='margin:0'><iframe sandbox=allow-scripts width=1200 height=800 "
        f"style='border:0'></iframe><script>const text = {text}; document.querySelector('iframe').src = "
        "URL.createObjectURL(new Blob([text], {type: 'text/html'}))</script>",
        encoding="utf-8",
    )
    tab.size(1200, 800)
    tab.media("light")
    tab.open(host.as_uri())
    settle(tab)
    framed_view, alone = tmp_path / "framed.png", tmp_path / "alone.png"
    tab.screenshot(framed_view)
    tab.open(write(tmp_path, page))
    tab.screenshot(alone)
    assert framed_view.read_bytes() == alone.read_bytes()


def test_on_paper_everything_is_dark_on_light_and_open(tab: chromium.Tab, tmp_path: Path) -> None:
    tab.media("dark", "print")
    tab.open(write(tmp_path, render(a_whole_notebook(), title="paper", facts=FACTS)))
    colours = tab.run("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    hidden = tab.run("getComputedStyle(document.querySelector('.contents')).display")
    tab.media()
    assert colours == ["rgb(255, 255, 255)", "rgb(31, 35, 40)"]
    assert hidden == "none"


def test_the_policy_stops_what_the_sanitiser_would_let_through(tab: chromium.Tab, tmp_path: Path) -> None:
    page = render(a_whole_notebook(), title="second wall")
    fragment = "".join(attacks.numbered([a for a in attacks.AT_ONCE if "</body" not in a and "refresh" not in a][:60]))
    leak = '<img src="https://example.org/leak.png"><style>body { background: rgb(1, 2, 3) }</style>'
    page = page.replace('<main id="cells">', f'<main id="cells">{leak}{fragment}')
    address = write(tmp_path, page)
    tab.open(address)
    settle(tab)
    assert hits(tab) == []
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    failed = {seen["params"].get("blockedReason") for seen in tab.events if seen["method"] == "Network.loadingFailed"}
    assert "csp" in failed
    assert failed <= {"csp", "origin"}


