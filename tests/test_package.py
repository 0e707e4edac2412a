"""The package as a whole: what importing it costs, what it offers, and which part may know which."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

import mltoolkit

PACKAGE = Path(mltoolkit.__file__).parent
HEAVY = ["mlflow", "pandas", "papermill", "pydantic", "numpy", "pyarrow", "deltalake", "matplotlib", "sklearn",
         "IPython", "nbconvert", "nbformat", "nbclient", "jupyter_client", "zmq", "sqlalchemy", "fsspec", "psutil"]  # fmt: skip
WINGS = ["errors", "doors", "settings", "notebook", "record", "execution", "conventions", "scheduling", "release", "monitoring", "views", "cli"]
MODULES = sorted(
    found.name for found in pkgutil.walk_packages([str(PACKAGE)], "mltoolkit.") if not found.name.endswith(("._modidx", ".supervisor"))
)


def loaded_after(code: str, cwd: Path) -> set[str]:
    """The top-level modules that a fresh interpreter has after `code`, in a folder without a workspace."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{each.partition('.')[0] for each in sys.modules}})))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def imports_of(path: Path) -> Iterator[str]:
    """The names of all modules that a module imports, wherever in it."""
    package = ["mltoolkit", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1] if node.level else [])
            base = ".".join(filter(None, [start, node.module]))
            yield from (f"{base}.{each.name}" for each in node.names)


# --- what it costs


@pytest.mark.parametrize(
    "code",
    [
        "import mltoolkit",
        "import mltoolkit; dir(mltoolkit); mltoolkit.__version__; mltoolkit.Status; mltoolkit.NotebookFailed",
        "import mltoolkit.errors, mltoolkit.settings",
        "import mltoolkit.record.tracking, mltoolkit.record.environment, mltoolkit.record.joining, mltoolkit.record.journal",
        "from mltoolkit.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from mltoolkit.cli import main\ntry: main(['run', '--help'])\nexcept SystemExit: pass",
        "from mltoolkit.cli import main\ntry: main(['settings'])\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_loaded(code: str, tmp_path: Path) -> None:
    loaded = loaded_after(code, tmp_path)
    assert "mltoolkit" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_installed_command_shows_help_without_anything_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", str(Path(sys.executable).with_name("mltoolkit")), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "run" in done.stdout
    loaded = set(re.findall(r"^import time:.*\| +(\w+)$", done.stderr, re.M))
    assert "click" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert list(tmp_path.iterdir()) == []


def test_the_package_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mltoolkit", "--version"], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == f"mltoolkit, version {mltoolkit.__version__}\n"


def test_defining_runs_does_not_load_mlflow(tmp_path: Path) -> None:
    assert "mlflow" not in loaded_after("import mltoolkit; mltoolkit.run_notebook; mltoolkit.Run", tmp_path)


# --- what it offers


def test_public_names_are_sorted_and_the_same_for_people_and_type_checkers() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    branches = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    typed = {
        alias.asname or alias.name: node.module
        for branch in branches
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert mltoolkit.__all__ == sorted(mltoolkit.__all__)
    assert sorted(typed) == mltoolkit.__all__
    assert typed == mltoolkit._NAMES
    assert set(mltoolkit.__all__) <= set(dir(mltoolkit))


def test_each_public_name_can_be_had(bare_workspace: Path) -> None:
    for name in mltoolkit.__all__:
        value = getattr(mltoolkit, name)
        assert value is getattr(importlib.import_module(mltoolkit._NAMES[name]), name)
        assert value.__doc__
        assert getattr(mltoolkit, name) is value, "the second time it is an ordinary attribute"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mltoolkit' has no attribute 'run_notebok'"):
        mltoolkit.run_notebok  # noqa: B018
    with pytest.raises(ImportError):
        from mltoolkit import run_notebok  # noqa: F401
    assert not hasattr(mltoolkit, "__wrapped__")


@pytest.mark.parametrize("name", MODULES)
def test_each_module_says_what_it_is_and_where_it_comes_from(name: str, bare_workspace: Path) -> None:
    if name.endswith("papermill_engine"):
        importlib.import_module("papermill")  # it asks for our engine while it is being imported itself
    module = importlib.import_module(name)
    assert module.__doc__
    assert re.match(r"[A-Z`].*\.(\n|$)", module.__doc__), "the first line is a sentence"
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ lists {public}"
    path = Path(str(module.__file__))
    text = path.read_text(encoding="utf-8")
    source = re.search(r"^# AUTOGENERATED! .* File to edit: (\S+)\.$", text, re.M)
    plain = path.name == "__init__.py" or "plain module" in module.__doc__
    assert bool(source) is not plain
    if source:
        assert (path.parent / source[1]).is_file()


@pytest.mark.parametrize("name", ["supervisor", "freshness"])
def test_what_a_zygote_loads_by_its_path_is_plain_and_needs_the_standard_library_only(name: str) -> None:
    path = PACKAGE / "execution" / f"{name}.py"
    assert "A plain module" in path.read_text(encoding="utf-8")
    assert {name.partition(".")[0] for name in imports_of(path)} <= sys.stdlib_module_names


def test_a_wing_imports_only_wings_above_it() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        own = re.sub("^cli_.*", "cli", path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
        if own in ("__init__", "__main__", "_modidx", "start"):
            continue
        for imported in imports_of(path):
            if imported.startswith("mltoolkit."):
                wing = re.sub("^cli_.*", "cli", imported.split(".")[1])
                if wing not in ("__version__", "start"):  # the command's beginning, which is told of its end
                    assert WINGS.index(wing) <= WINGS.index(own), f"{path.relative_to(PACKAGE)} imports {imported}"


def test_what_a_notebook_expects_to_fail_is_run() -> None:
    """fastcore's `expect_fail` is a context manager: called on its own it checks nothing."""
    for path in sorted(PACKAGE.parent.glob("nbs/**/*.ipynb")):
        cells = [cell["source"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        used = re.findall(r"^.*expect_fail\(.*$", "\n".join("".join(source) for source in cells), re.M)
        assert all(line.lstrip().startswith("with expect_fail(") for line in used), path


# --- how it is installed


def test_version_is_one() -> None:
    assert distribution("mltoolkit").version == mltoolkit.__version__


def test_doors_of_others_lead_to_ours(bare_workspace: Path) -> None:
    doors = {
        "papermill.engine": ("mltoolkit", "PapermillEngine"),
        "mlflow.run_context_provider": ("mltoolkit", "RunContext"),
    }
    for group, (name, what) in doors.items():
        importlib.import_module(group.partition(".")[0])  # as they come to us
        (door,) = entry_points(group=group, name=name)
        assert door.load().__name__ == what


def test_package_ships_its_types_and_schema() -> None:
    patterns = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mltoolkit"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert {PACKAGE / "py.typed", PACKAGE / "record" / "run.schema.json", PACKAGE / "scheduling" / "jobs.schema.json"} <= shipped
    assert os.access(PACKAGE / "execution" / "supervisor.py", os.R_OK)
