"""Fixtures that many tests share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

# the same examples everywhere, and no verdict that depends on how busy a machine is
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}


def _own_variables() -> list[str]:
    return [name for name in os.environ if name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW"))]


@pytest.fixture(scope="session", autouse=True)
def _own_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody else's zygotes are used or ended here, and none of ours is left."""
    from mltoolkit.execution import kernels

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="mlt-run-") as folder:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # a short one: it is part of the addresses of sockets
        yield
        kernels.stop_zygotes()


@pytest.fixture(autouse=True)
def _no_variables_of_another_test() -> Iterator[None]:
    """MLflow and its run-context provider set variables; none may outlive the test that had them set."""
    for name in _own_variables():
        del os.environ[name]
    os.environ["MLTOOLKIT_WARM"] = "no"  # what outlives a run on purpose has tests of its own
    yield
    for name in _own_variables():
        del os.environ[name]
    chosen = sys.modules.get("mlflow.tracking._tracking_service.utils")
    if chosen is not None:
        chosen._tracking_uri = None  # type: ignore[attr-defined]  # by `mlflow.set_tracking_uri`, which is stronger than a variable
    fluent = sys.modules.get("mlflow.tracking.fluent")
    if fluent is not None:
        fluent._active_experiment_id = None  # type: ignore[attr-defined]  # by `mlflow.set_experiment`


@pytest.fixture(scope="session")
def prepared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store that MLflow has already migrated, which takes it ten seconds."""
    root = tmp_path_factory.mktemp("store")
    (root / "settings.ini").write_text("[mltoolkit]\n")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW"))}
    program = "from mltoolkit.record import tracking; tracking.client('.')"
    subprocess.run([sys.executable, "-c", program], cwd=root, env=clean, check=True, capture_output=True)
    return root / ".mltoolkit" / "mlflow.db"


@pytest.fixture
def bare_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace without a tracking store; the working directory."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "settings.ini").write_text("[mltoolkit]\n")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def workspace(bare_workspace: Path, prepared_store: Path) -> Path:
    """A workspace with a tracking store."""
    local = bare_workspace / ".mltoolkit"
    local.mkdir()
    (local / ".gitignore").write_text("*\n")
    shutil.copy(prepared_store, local / "mlflow.db")
    return bare_workspace


@pytest.fixture(scope="session")
def tracking_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real MLflow server behind a faulty proxy, and notebooks and shipping workers that can be killed; see tracking_server.py."""
    from tracking_server import staged

    with staged(tmp_path_factory.mktemp("stage"), hasty=True) as stage:
        yield stage


def notebook_of(*cells: str | NotebookNode, parameters: str | None = None, kernel: str | None = "python3") -> NotebookNode:
    """A notebook of code cells, after one tagged `parameters` if there are any."""
    made = [cell if isinstance(cell, NotebookNode) else new_code_cell(cell) for cell in cells]
    if parameters is not None:
        made.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    metadata: dict[str, Any] = {"kernelspec": {**KERNEL["kernelspec"], "name": kernel}} if kernel else {}
    return new_notebook(cells=made, metadata=metadata)


def tagged(source: str, *tags: str) -> NotebookNode:
    """A code cell with tags."""
    return new_code_cell(source, metadata={"tags": list(tags)})


def markdown(source: str) -> NotebookNode:
    """A markdown cell."""
    return new_markdown_cell(source)


@pytest.fixture
def write() -> Callable[..., Path]:
    """Writes a notebook: `write("train.ipynb", "1 + 1", parameters="n: int = 1")`."""
    from mltoolkit.notebook import document

    def writing(name: str | Path, *cells: str | NotebookNode, **options: Any) -> Path:
        path = Path.cwd() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        document.write(notebook_of(*cells, **options), path)
        return path

    return writing


@pytest.fixture
def put(bare_workspace: Path) -> Callable[..., Path]:
    """Writes a notebook of these cells into the workspace."""

    from mltoolkit.conventions.rules import example_notebook

    def writing(name: str, *cells: str | dict[str, Any]) -> Path:
        path = bare_workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(example_notebook(cells))
        return path

    return writing


@pytest.fixture
def kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Installs a kernel for this test: `kernelspec("tiny", sys.executable, "kernel.py", "{connection_file}")`."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))

    def install(name: str, *argv: str, language: str = "python", **more: Any) -> str:
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": language, **more}))
        return name

    return install


@pytest.fixture
def tiny(kernelspec: Callable[..., str]) -> str:
    """The name of a kernel that starts in a tenth of a second; see tiny_ipykernel.py."""
    return kernelspec("tiny", sys.executable, str(Path(__file__).with_name("tiny_ipykernel.py")), "{connection_file}")


@pytest.fixture
def mark() -> Iterator[Any]:
    """Marks the processes that this test starts, to see whether they are gone; see processes.py."""
    from processes import marked

    yield from marked()
