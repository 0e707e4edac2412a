"""What must happen when a notebook shows too much, or what should do nothing: the same at every door."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import markdown
from doors import DOORS, Door, each_door
from nbformat import NotebookNode
from processes import Marked

from mltoolkit.execution.run import run_notebook
from mltoolkit.notebook import document

sys.path.insert(0, str(Path(__file__).parents[1] / "notebook"))
import attacks  # noqa: E402
import chromium  # noqa: E402
from test_page_browser import HIT, POKE, hits, settle  # noqa: E402


def text(cell: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


SECRET = "correct-horse-battery-staple"
SHAPED = "AKIA" + "QW3RTYU6IOP7ASD5"  # what an access key of AWS looks like
FLOOD = """
lines = ('y' * 99 + '\\n') * 10_000
shaped = 'AKIA' + 'QW3RTYU6IOP7ASD5'
for i in range(MB):
    if i in (0, MB - 5, MB - 1):
        print(key, shaped)
        print('split', key[:9], end='', flush=True); print(key[9:], shaped[:7], end='', flush=True); print(shaped[7:], flush=True)
    print(lines, end='', flush=True)
"""


@each_door
def test_100_mb_of_output(bare_workspace: Path, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    """Capped in the notebook, whole beside it, and nowhere a secret, far beyond the cap and in two pieces."""
    declared, size = door.name == "command", 100 if door.name == "command" else 30  # MB; the cap is 20
    write("a.ipynb", FLOOD.replace("MB", str(size)), parameters="key: str" if declared else "key: str = 'plain'")
    mark.env["KEY"] = SECRET
    done = mark.run(*door.command("a.ipynb", "out.ipynb", None, *(["--secret", "key=env:KEY"] if declared else [])))
    assert done.returncode == 0, done.stderr
    [spilt] = Path().glob(".mltoolkit/runs/*/a.cell-1.txt" if door.records else "out.cell-1.txt")
    [shown] = [text(cell) for cell in document.read("out.ipynb").cells if "lines" in cell.source]
    assert len(shown) <= 20_000_200
    assert shown.endswith(f"\n[mltoolkit: this cell's output exceeded 20 MB; all of it is in {spilt.name}]\n")
    key, shape = "[secret:key]" if declared else "plain", "[redacted:aws-access-key-id]"
    block, said = ("y" * 99 + "\n") * 10_000, f"{key} {shape}\nsplit {key} {shape}\n"
    assert spilt.read_text() == said + block * (size - 5) + said + block * 4 + said + block
    for path in bare_workspace.rglob("*.*"):
        content = path.read_bytes() if path.is_file() else b""
        assert SECRET.encode() not in content, path
        assert SHAPED.encode() not in content, path


def test_200_000_lines_flushed_one_by_one(bare_workspace: Path, write: Callable[..., Path], mark: Marked) -> None:
    write("a.ipynb", "for i in range(200_000):\n    print(i, flush=True)")
    done = mark.run(*DOORS[0].command("a.ipynb", "out.ipynb"))
    assert (done.returncode, done.stderr) == (0, "")
    assert text(document.read("out.ipynb").cells[0]) == "".join(f"{i}\n" for i in range(200_000))


@each_door
def test_widgets_do_not_wait_for_anybody(bare_workspace: Path, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    Path("settings.ini").write_text("[mltoolkit]\ntimeout = 60s\n")
    code = (
        "import ipywidgets as widgets\nfrom IPython.display import display\nout = widgets.Output()\n"
        "form = widgets.VBox([widgets.IntSlider(3), widgets.Button(description='go'), widgets.FileUpload(), out])\n"
        "form.children[0].observe(lambda change: print('changed'), 'value')\ndisplay(form)\n"
        "with out: print('inside')\n@widgets.interact(n=(0, 5))\ndef show(n=2): print('n is', n)\n"
        "form.children[0].value = 4"
    )
    write("a.ipynb", code, "print('after')")
    done = mark.run(*door.command("a.ipynb", "out.ipynb"))
    assert done.returncode == 0, done.stderr
    first, second = document.read("out.ipynb").cells
    assert (text(second), "changed\n" in text(first)) == ("after\n", True)
    assert "application/vnd.jupyter.widget-view+json" in first.outputs[0].data


@pytest.mark.parametrize("door", [DOORS[0], DOORS[2]], ids=str)
def test_terminal_escapes_do_not_reach_a_terminal(bare_workspace: Path, tiny: str, write: Callable[..., Path], mark: Marked, door: Door) -> None:
    code = "print('\\x1b]0;title\\x07\\x1b[2J\\x1b[31mred\\x1b[0m \\x9b5n\\x08 fine')"
    write("a.ipynb", f"# \x1b[31mdescription\n{code}", kernel=tiny)
    done = mark.run(*door.command("a.ipynb", "out.ipynb", None, "--log-output", *([] if door.records else ["--progress-bar"])))
    assert done.returncode == 0, done.stderr
    assert "red" in done.stderr
    assert "fine" in done.stderr
    stray = [each for each in done.stdout + done.stderr if not (each.isprintable() or each in "\n\r\t")]
    assert stray == []


SHOWN = """
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display
for attack in {attacks!r}:
    for show in (HTML, Markdown, Latex):
        display(show(attack))
    display({{"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'>" + attack + "</svg>"}}, raw=True)
display(Javascript("hit(1)"))
print("<script>hit(2)</script>")
raise ValueError("<img src=x onerror=hit(3)>")
"""


def test_the_page_of_a_real_run_does_nothing(bare_workspace: Path, write: Callable[..., Path]) -> None:
    """That each attack works where nothing is done about it is shown in test_page_browser.py."""
    from mltoolkit.errors import NotebookFailed

    write("a.ipynb", markdown("\n\n".join(attacks.numbered(attacks.IN_MARKDOWN, 5000))), SHOWN.format(attacks=attacks.numbered(attacks.HTML)))
    with pytest.raises(NotebookFailed) as caught:
        run_notebook("a.ipynb", track=False)
    page = Path(caught.value.run.html)
    assert page.stat().st_size > 50_000
    with chromium.browser() as tab:
        tab.call("Runtime.addBinding", name="report")
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=HIT)
        tab.open(page.as_uri())
        settle(tab)
        assert tab.run(POKE) == []
        assert hits(tab) == []
        assert [address for address in tab.requests() if not address.startswith(("file:", "data:"))] == []
