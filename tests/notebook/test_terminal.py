"""What a terminal would show, against a terminal simulated letter by letter."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltoolkit.notebook import terminal as module
from mltoolkit.notebook.terminal import terminal_html, text_of

PIECES = st.lists(
    st.sampled_from(["a", "bc", "def", " ", "\r", "\b", "\b\b", "\n", "\r\n", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[31m", "\x1b[0m",
                     "\x1b[2J", "\x1b]0;t\x07", "\x9b5A", "<&>", "é"]),
    max_size=25,
).map("".join)  # fmt: skip


def simulated(text: str) -> str:
    """One letter at a time."""
    lines: list[list[str]] = [[]]
    column = 0
    text = re.sub(r"\x1b\]0;t\x07|\x9b5A|\x1b\[2J|\x1b\[\d*m", "", re.sub(r"\r+\n", "\n", text))
    for piece in re.findall(r"\x1b\[\d*K|.", text, re.DOTALL):
        line = lines[-1]
        if piece == "\n":
            lines.append([])
            column = 0
        elif piece == "\r":
            column = 0
        elif piece == "\b":
            column = max(0, column - 1)
        elif piece == "\x1b[K":
            del line[column:]
        elif piece == "\x1b[2K":
            line.clear()
        elif piece == "\x1b[1K":
            for index in range(min(column + 1, len(line))):
                line[index] = " "
        else:
            line.extend(" " * (column + 1 - len(line)))
            line[column] = piece
            column += 1
    return "\n".join("".join(line) for line in lines)


STEPS = ["\r", "\b", "\b\b\b", "\x1b[K", "\x1b[0K", "\x1b[1K", "\x1b[2K", "\x9bK", "\x9b2K", "\n", "\r\n"]
COLOURS = {"\x1b[0;31m": "f1", "\x9b0;34m": "f4", "\x1b[0;38;5;28m": "f2", "\x1b[0;1;4m": "bd un", "\x1b[0m": "", "\x1b[m": ""}
DROPPED = ["\x1b[2J", "\x1b[?25l", "\x1b]0;t&<\x07", "\x9b5A", "\x1b(B", "\x07", "\x00", "\x7f"]
COLOURED = st.lists(st.sampled_from(["a", "bc ", "<&>", "é", *STEPS, *COLOURS, *DROPPED]), max_size=30)


def letters(pieces: list[str]) -> list[tuple[str, str]]:
    """The classes of each letter that stands there in the end, and the letter."""
    shown: list[tuple[str, str]] = []
    line: list[tuple[str, str]] = []
    column, classes = 0, ""
    for piece in pieces:
        if piece in COLOURS:
            classes = COLOURS[piece]
        elif piece in ("\n", "\r\n"):
            shown += [*line, ("", "\n")]
            line, column = [], 0
        elif piece == "\r":
            column = 0
        elif piece.startswith("\b"):
            column = max(0, column - len(piece))
        elif piece.endswith("1K"):
            line = [("", " ")] * len(line[: column + 1]) + line[column + 1 :]
        elif piece.endswith("K"):
            line = [] if piece.endswith("2K") else line[:column]
        elif piece not in DROPPED:
            for letter in piece:
                line += [("", " ")] * (column + 1 - len(line))
                line[column] = (classes, letter)
                column += 1
    return shown + line


def letters_of(markup: str) -> list[tuple[str, str]]:
    """The classes of each letter of a piece of HTML, and the letter."""
    shown, classes = [], ""
    for opening, closing, text in re.findall(r'<span class="([^"]+)">|(</span>)|([^<]+)', markup):
        classes = opening or ("" if closing else classes)
        shown += [("" if letter == "\n" else classes, letter) for letter in html.unescape(text)]
    return shown


@given(COLOURED)
@settings(max_examples=500)
def test_each_letter_has_the_colours_it_was_written_with(pieces: list[str]) -> None:
    assert letters_of(terminal_html("".join(pieces))[0]) == letters(pieces)


@pytest.mark.parametrize("limit", [10, 100, 1000])
def test_lines_in_colour_and_lines_written_over_are_cut_alike(limit: int) -> None:
    coloured = "".join(f"\x1b[3{number % 8}mword\x1b[0m\n" for number in range(400))
    for text in (coloured, coloured.replace("\n", "\x1b[K\n"), coloured.replace("\n", "\n\x1b[2K"), coloured.replace("\n", " \rw\n")):
        shown, left_out = terminal_html(text, limit)
        plain = html.unescape(re.sub(r"</?span[^>]*>", "", shown))
        assert 0 < len(plain) <= limit
        assert left_out > 0
        assert ("word\n" * 400).startswith(plain.replace(" ", "").replace("\n\n", "\n"))


@given(PIECES)
@settings(max_examples=500)
def test_both_show_what_a_terminal_shows(text: str) -> None:
    assert text_of(text) == simulated(text)
    shown, left_out = terminal_html(text)
    assert html.unescape(re.sub(r"</?span[^>]*>", "", shown)) == simulated(text)
    assert left_out == 0


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    once = text_of(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", once)
    assert text_of(once) == once
    shown, _ = terminal_html(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)


@given(st.text(alphabet=st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cc", "Cs"])))
def test_plain_text_is_unchanged(text: str) -> None:
    assert text_of(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;aGVsbG8=\x07x", "x"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1b]0;never ended\nnext", "\nnext"),
        ("\x1b(Bx\x1b=y\x1bcz", "xyz"),
        ("\x9b31mx\x9d0;t\x9cy", "xy"),
        ("x\x1b", "x"),
        ("x\x1b[", "x"),
        ("x\x1b[31", "x"),
        ("x\x1b[31\ny", "x\ny"),
        ("\x1b[?25l\x1b[1;1Hx\x1b[10Cy", "xy"),
        ("a\x07b\x00c\x7fd\x85e", "abcde"),
        ("50%\r100%", "100%"),
        ("100%\r50%", "50%%"),
        ("100%\r\x1b[K50%", "50%"),
        ("a\r\r\nb\r\n", "a\nb\n"),
        ("\b\bab\b\b\bX", "Xb"),
        ("abc\x1b[2Kd", "   d"),
        ("abc\r\x07\x00X\x7fY", "XYc"),
        ("\x1b[2K\rabc\x1b[K\n\x1b[1Kdef", "abc\ndef"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_text_of(text: str, shown: str) -> None:
    assert text_of(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", '<span class="f1">red</span>'),
        ("\x1b[91;1mx", '<span class="f9 bd">x</span>'),
        ("\x1b[41;103mx", '<span class="b11">x</span>'),
        ("\x1b[1;2;3;4;9mx\x1b[22;23;24;29my", '<span class="bd dm it un st">x</span>y'),
        ("\x1b[31;42;7mx\x1b[27my", '<span class="f2 b1">x</span><span class="f1 b2">y</span>'),
        ("\x1b[7mx", '<span class="sw">x</span>'),
        ("\x1b[31m\x1b[39mx\x1b[42m\x1b[49my", "xy"),
        ("\x1b[38;5;9mx", '<span class="f9">x</span>'),
        ("\x1b[38;5;241mx", '<span class="f8">x</span>'),
        ("\x1b[38;5;999mx", '<span class="f15">x</span>'),
        ("\x1b[38;2;0;200;0mx", '<span class="f2">x</span>'),
        ("\x1b[48:2::0:0:200mx", '<span class="b4">x</span>'),
        ("\x1b[38:5:196mx", '<span class="f1">x</span>'),
        ("\x1b[4:3mx\x1b[4:0my", '<span class="un">x</span>y'),
        ("\x1b[38;5mx\x1b[38mx\x1b[38;2;1mx\x1b[38;9;1mx", "xxxx"),
        ("\x1b[38;2;999999;0;0mx", '<span class="f1">x</span>'),
        ("\x1b[31mone\ntwo\x1b[mthree", '<span class="f1">one\ntwo</span>three'),
        ("\x1b[31mab\r\x1b[32mX", '<span class="f2">X</span><span class="f1">b</span>'),
        ("\x1b[53;99mx", "x"),
        ("\x1b[31m<b>\x1b[0m&", '<span class="f1">&lt;b&gt;</span>&amp;'),
        ("\x1b[31ma\x1b[5Ab", '<span class="f1">a</span><span class="f1">b</span>'),
        ("", ""),
    ],
)
def test_terminal_html(text: str, shown: str) -> None:
    assert terminal_html(text)[0] == shown


@pytest.mark.parametrize("text", ["plain <line>\n" * 400, "\x1b[32mok\x1b[0m plain\n" * 300, "bar 1\rbar 2\n" * 300, "é" * 3000, "x" * 3000])
@pytest.mark.parametrize("limit", [1, 2, 10, 500, 1500])
def test_no_more_than_the_limit_is_shown(text: str, limit: int) -> None:
    shown, left_out = terminal_html(text, limit)
    visible = html.unescape(re.sub(r"</?span[^>]*>", "", shown))
    assert len(visible.encode()) <= limit
    assert left_out > 0
    assert text_of(text).startswith(visible.rstrip("\n"))
    assert shown.count("<span") == shown.count("</span>")


def test_what_is_left_out_is_counted_in_bytes() -> None:
    assert terminal_html("é" * 10, 7) == ("ééé", 14)
    assert terminal_html("a" * 10, 7) == ("a" * 7, 3)
    assert terminal_html("a" * 10, 10) == ("a" * 10, 0)


def test_a_long_progress_bar_is_one_line() -> None:
    bar = "".join(f"\r{number:>6} of 200000" for number in range(200_000))
    assert terminal_html(bar, 1000) == ("199999 of 200000", 0)


def test_a_line_of_millions_of_returns_shows_its_end() -> None:
    assert text_of("x\r" * 1_500_000 + "done") == "done"


def test_a_colour_for_each_letter_keeps_the_page_small() -> None:
    text = "".join(f"\x1b[3{number % 8}mx" for number in range(50_000))
    shown, left_out = terminal_html(text, 50_000)
    assert len(shown) < 8 * 50_000
    assert left_out > 0


def test_colours_are_the_nearest_of_sixteen() -> None:
    near = {(0, 0, 0): 0, (255, 255, 255): 15, (128, 128, 128): 8, (200, 200, 200): 7, (200, 0, 0): 1, (0, 180, 0): 2,
            (180, 160, 0): 3, (0, 0, 200): 4, (180, 0, 180): 5, (0, 180, 180): 6, (255, 120, 120): 9}  # fmt: skip
    assert {colour: module._nearest(*colour) for colour in near} == near
