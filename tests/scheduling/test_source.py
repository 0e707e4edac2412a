"""YAML as plain values with their lines, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mltoolkit.errors import Invalid
from mltoolkit.scheduling.source import parse_yaml, read_yaml


def test_values_know_their_lines() -> None:
    source = parse_yaml("a:\n  - 1\n  - {b: x,\n     c: y}\n# a comment\nd: 2\n")
    assert source.data == {"a": [1, {"b": "x", "c": "y"}], "d": 2}
    assert [source.line(*place) for place in [(), ("a",), ("a", 0), ("a", 1, "c"), ("d",)]] == [1, 1, 2, 4, 6]
    assert source.line("a", 1, "missing", "deeper") == 3
    assert source.line("nothing") == 1
    assert parse_yaml("").line("a") == 1


def test_words_of_yaml_11_are_keys_as_they_are_written() -> None:
    assert parse_yaml("on: yes\noff: no\nyes: {no: on}").data == {"on": True, "off": False, "yes": {"no": True}}
    assert parse_yaml("day: 2013-01-31\ntime: 12:30\nzeros: 007\nsmall: 1e-3\n1: one").data == {
        "day": "2013-01-31", "time": "12:30", "zeros": "007", "small": "1e-3", 1: "one",
    }  # fmt: skip


def test_what_is_merged_gives_way_and_keeps_its_line() -> None:
    source = parse_yaml("x: &x {a: 1, b: 2}\ny: &y\n  b: 3\n  c: 4\nz:\n  c: 5\n  <<: [*x, *y]\n")
    assert source.data["z"] == {"c": 5, "a": 1, "b": 2}
    assert [source.line("z", key) for key in "abc"] == [1, 1, 6]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' occurs twice"),
        ("a: 1\nb: {on: 1, 'on': 2}", 2, "the key 'on' occurs twice"),
        ("a:\n  b: !!python/object/apply:os.system [ls]", 2, "the tag !!python/object/apply:os.system is refused"),
        ("a: !!binary aGVsbG8=", 1, "the tag !!binary is refused"),
        ("a: !!timestamp 2013-01-31", 1, "the tag !!timestamp is refused"),
        ("!!set {a, b}", 1, "the tag !!set is refused"),
        ("a: !custom x", 1, "the tag !custom is refused"),
        ("a: !!int many", 1, "does not fit its tag"),
        ("a: !!bool many", 1, "does not fit its tag"),
        ("a: 1\n? [b, c]\n: 2", 2, "a key is a single plain value"),
        ("a: {<<: 3}", 1, "<< takes a mapping"),
        ("a: {<<: [{b: 1}, 2]}", 1, "<< takes a mapping"),
        ("a: [1,\nb: 2", 2, ""),
        ("a: 1\n\tb: 2", 2, ""),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("a: *b", 1, "undefined alias"),
        ("a:\n  cron: */5 * * * *", 2, "text that begins with * or & is written in quotes"),
        ("a: & b", 1, "text that begins with * or & is written in quotes"),
        ("a: 1\nb: \x07", 2, "not allowed"),
        ("a: &a [*a]", 1, "nested deeper"),
        ("a: &a {b: *a}", 1, "nested deeper"),
        ("a: " + "[" * 60 + "]" * 60, 1, "nested deeper"),
        ("a: " + "[" * 5000, 1, "nested too deeply"),
        ("x: &x [" + "1," * 200 + "]\ny: &y [" + "*x," * 200 + "]\n", 1, "more than 20,000 values"),
    ],
)
def test_more_than_plain_values_is_refused_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(Invalid, match=r"jobs.yaml:") as caught:
        parse_yaml(text)
    assert problem in str(caught.value)
    assert caught.value.fields["line"] == line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    with pytest.raises(Invalid, match=r"cannot read .*jobs.yaml: No such file"):
        read_yaml(path)
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(Invalid, match=r"jobs.yaml:2: not UTF-8 text: byte 0xff"):
        read_yaml(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(path).data == {"a": 1, "b": 2}
    path.write_text("# " + "x" * 1_000_000)
    with pytest.raises(Invalid, match="at most 1,000,000 are read"):
        read_yaml(path)
