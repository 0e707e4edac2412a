"""Repositories of several kinds become workspaces: nothing of theirs is changed, and a second time there is nothing to do."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from mltoolkit import settings
from mltoolkit.conventions import adoption
from mltoolkit.conventions.adoption import adopt, appended, library_of
from mltoolkit.conventions.check import check
from mltoolkit.conventions.rules import example_notebook
from mltoolkit.errors import Invalid, OutputRefused
from mltoolkit.notebook.export import export_workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def put(root: Path, files: dict[str, str | bytes]) -> dict[str, bytes]:
    """Write files; return what is in them."""
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return contents


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file() and not {".git", ".mltoolkit", ".ruff_cache"} & set(path.parts)}


def test_a_package_of_pip_keeps_every_byte(root: Path) -> None:
    project = b'[project]\r\nname = "shop"  # mine\r\nversion = "1"\r\n\r\n[tool.black]\r\nline-length = 99'
    before = put(root, {"pyproject.toml": project, "shop/__init__.py": '"""Shop."""\n', "Makefile": "all:\n\ttrue\n", ".gitignore": "*.pyc\n", "README.md": "# Shop\n"})
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)

    planned = adopt(root, dry_run=True, locked=False)
    assert contents(root) == before
    done = adopt(root, locked=False)
    after = contents(root)

    assert (planned.added, planned.extended, planned.by_hand) == (done.added, done.extended, done.by_hand)
    assert sorted(after.keys() - before.keys()) == done.added
    assert {name: after[name] for name in before if name != "pyproject.toml"} == {name: before[name] for name in before if name != "pyproject.toml"}
    assert after["pyproject.toml"].startswith(project)
    assert after["pyproject.toml"].count(b"\n") == after["pyproject.toml"].count(b"\r\n")
    said = tomllib.loads(after["pyproject.toml"].decode())
    assert said["tool"]["nbdev"]["lib_path"] == "shop"
    assert said["tool"]["nbdev"]["allowed_cell_metadata_keys"] == ["tags"]
    assert "mltoolkit[jobs]" in said["dependency-groups"]["dev"]
    assert done.extended == ["pyproject.toml"]
    assert done.kept == [".gitignore", "Makefile", "README.md", "shop/__init__.py"]
    assert [each.partition(":")[0] for each in done.by_hand] == ["Makefile", ".gitignore"]
    assert ".github/workflows/check.yml" not in done.added
    assert any("not committed" in note for note in done.notes)

    assert export_workspace(root, check=True) == []
    assert check([root]).findings == []
    again = adopt(root, locked=False)
    assert (again.added, again.extended) == ([], [])
    assert contents(root) == after


def test_a_repository_of_nbdev_2_keeps_its_settings_and_notebooks(root: Path) -> None:
    old = "[DEFAULT]\nlib_name = geo\nlib_path = %(lib_name)s\nnbs_path = notebooks\n"
    core = example_notebook(["#| default_exp core", "#| export\ndef area(side): return side**2", "area(2)"])
    before = put(root, {"settings.ini": old, "setup.py": "", "geo/__init__.py": "", "nbs/00_core.ipynb": core, "projects/old/a.ipynb": core})
    done = adopt(root, locked=False)
    after = contents(root)
    assert done.extended == ["settings.ini"]
    assert after["settings.ini"].startswith(old.encode())
    assert settings.is_workspace(root)
    assert settings.get("seed", start=root) == 0
    assert {name: after[name] for name in before if name != "settings.ini"} == {name: before[name] for name in before if name != "settings.ini"}
    assert not any(name.startswith(("nbs/", "tests/", "projects/", "geo/")) for name in done.added)
    assert {"nbs/", "projects/"} <= set(done.kept)
    said = tomllib.loads(after["pyproject.toml"].decode())
    assert "project" not in said, "setup.py says it"
    assert said["tool"]["nbdev"]["lib_path"] == "geo"
    assert any(each.startswith("settings.ini: nbs_path is notebooks") for each in done.by_hand)
    assert adopt(root, locked=False).added == []


def test_what_cannot_be_extended_is_shown_and_stays(root: Path) -> None:
    files = {"pyproject.toml": "tool = {black = {}}\n", "settings.ini": "no section\n", "tests": "a file\n", "requirements.lock": "a==1\n"}
    before = put(root, files)
    (root / "nbs").symlink_to(root.parent)
    done = adopt(root)
    after = contents(root)
    assert {name: after[name] for name in before} == before
    shown = "\n".join(done.by_hand)
    assert 'pyproject.toml: this cannot be added safely; add it yourself:\n[tool.nbdev]\nlib_path = "shop"' in shown
    assert "settings.ini: this cannot be added safely" in shown
    assert "tests/test_forecast.py: tests is no folder of this repository" in shown
    assert "nbs/00_forecast.ipynb: nbs is no folder of this repository" in shown
    assert "requirements.lock" in done.kept
    assert not list(root.parent.glob("*.ipynb"))


def test_an_empty_folder_becomes_what_a_new_workspace_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "My Data"
    root.mkdir()
    put(root, {"pyproject.toml": "[project\n"})
    broken = adopt(root, locked=False, dry_run=True)
    assert any("pyproject.toml: it is not valid" in each and "[tool.nbdev]" in each for each in broken.by_hand)
    (root / "pyproject.toml").unlink()
    monkeypatch.setattr(adoption.scaffold, "lock", lambda root, facts: "there is no index")
    done = adopt(root)
    assert (done.extended, done.kept, done.by_hand) == ([], [], [])
    assert {"Makefile", "pyproject.toml", "my_data/forecast.py", "nbs/00_forecast.ipynb", "projects/example/jobs.yaml"} <= set(done.added)
    assert done.notes == ["this is no git repository; `git init` makes it one", "there is no index"]
    assert (root / "my_data" / "__init__.py").read_text().endswith('__version__ = "0.1.0"\n')
    with pytest.raises(Invalid, match="a part of the workspace"):
        adopt(root / "nbs")


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything() -> None:
    with pytest.raises(OutputRefused, match="/proc/sys is read-only"):
        adopt("/proc/sys")


@pytest.mark.parametrize(
    ("files", "package", "expected"),
    [
        ({}, None, "shop"),
        ({}, "till", "till"),
        ({"pyproject.toml": '[project]\nname = "till-roll"\n'}, None, "till_roll"),
        ({"pyproject.toml": '[project]\nname = "till"\n[tool.nbdev]\nlib_path = "src/lib"\n'}, None, "src/lib"),
        ({"src/shop/__init__.py": ""}, None, "src/shop"),
        ({"settings.ini": "[DEFAULT]\nlib_name = till\n"}, None, "till"),
        ({"pyproject.toml": "tool = 1\nproject = 2\n"}, None, "shop"),
    ],
)
def test_the_package_is_the_one_the_repository_names(files: dict[str, str | bytes], package: str | None, expected: str, root: Path) -> None:
    put(root, files)
    assert library_of(root, package) == expected


@pytest.mark.parametrize("package", ["../up", "/etc", "a b", "1st", "json", "pandas"])
def test_a_package_that_cannot_be_is_refused(package: str, root: Path) -> None:
    with pytest.raises(Invalid, match=r"--package|take another name"):
        library_of(root, package)


@pytest.mark.parametrize(
    ("content", "possible"),
    [(b"", True), (b"a = 1", True), (b"[tool.black]\n", True), (b"tool = {}\n", False), (b"[tool]\nnbdev.x = 1\n", False), (b"a = \xff", False), (b"a =\n", False)],
)
def test_text_goes_to_the_end_only_if_nothing_changes_by_it(content: bytes, possible: bool) -> None:
    made = appended(content, "[tool.nbdev]\nrecursive = true\n", tomllib.loads)
    assert (made is not None) is possible
    if made is not None:
        assert made.startswith(content)
