"""What JupyterLab loads of ours is what its sources say, small, and found from a clone as from a wheel; test_labextension_browser.py drives it."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from mltoolkit.views import lab

FOLDER = Path(lab.__file__).parent / "labextension"
BUILT = FOLDER / "built" / "mltoolkit"
ROOT = FOLDER.parents[2]


def test_what_is_built_is_in_step_with_its_sources() -> None:
    written = dict(reversed(line.split("  ./")) for line in (FOLDER / "built" / "SHA256SUMS").read_text().splitlines())
    there = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file() and path.name != "SHA256SUMS"}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()}
    assert found == written, "the sources of the extension changed: `make labextension`"


def test_what_is_built_is_small_and_of_ours_alone() -> None:
    files = [path for path in BUILT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    assert not [path for path in files if path.suffix == ".map" or "//# sourceMappingURL" in path.read_text(encoding="utf-8")]
    licences = json.loads((BUILT / "static" / "third-party-licenses.json").read_text())
    assert {each["name"] for each in licences["packages"]} <= {"css-loader", "style-loader"}
    told = json.loads((BUILT / "package.json").read_text())
    assert (BUILT / told["jupyterlab"]["_build"]["load"]).is_file()
    assert json.loads((BUILT / "install.json").read_text())["packageName"] == "mltoolkit"


def test_no_address_of_a_registry_is_in_the_lock() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    assert lock["packages"]
    assert not [name for name, each in lock["packages"].items() if "resolved" in each]
    assert all("integrity" in each for name, each in lock["packages"].items() if name)


def test_a_clone_shows_jupyterlab_where_it_is_and_a_wheel_need_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    option = f"--LabApp.extra_labextensions_path={BUILT.parent}"
    assert option in lab.command(lab.Wanted(tmp_path))
    monkeypatch.setattr(lab, "files", lambda package: tmp_path)
    assert not [each for each in lab.command(lab.Wanted(tmp_path)) if "labextension" in each]


def test_jupyterlab_loads_it_once_however_often_it_finds_it(tmp_path: Path) -> None:
    from jupyterlab_server.config import get_federated_extensions

    (tmp_path / "mltoolkit").symlink_to(BUILT)
    found = get_federated_extensions([str(BUILT.parent), str(tmp_path)])
    assert list(found) == ["mltoolkit"]
    assert found["mltoolkit"]["install"]["packageManager"] == "python"


def test_the_wheel_has_what_is_built() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    files = pyproject["tool"]["setuptools"]["data-files"]
    listed = {path for folder, patterns in files.items() if "labextensions" in folder for pattern in patterns for path in ROOT.glob(pattern)}
    assert listed == {path for path in BUILT.rglob("*") if path.is_file()}
    for folder, patterns in files.items():  # each lies where JupyterLab looks for it
        if "labextensions" in folder:
            inside = folder.removeprefix("share/jupyter/labextensions/mltoolkit").strip("/")
            assert {str(Path(pattern).parent) for pattern in patterns} == {str((BUILT / inside).relative_to(ROOT))}


def test_each_command_of_the_menus_is_there() -> None:
    schema = json.loads((FOLDER / "schema" / "plugin.json").read_text())
    text = (FOLDER / "src" / "index.ts").read_text()
    made = set(re.findall(r"add\(\s*'(mltoolkit:[\w-]+)'", text))
    named = set(re.findall(r'"command": "(mltoolkit:[\w-]+)"', json.dumps(schema)))
    assert named == made
