"""A run starts lean: what is not needed is not imported, and what is put off still works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import notebook_of

from mltoolkit.execution.engine import Order, execute
from mltoolkit.execution.links import kernel_specs
from mltoolkit.notebook.document import _postpone


def python(code: str) -> Any:
    """What a fresh interpreter prints, read as JSON."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_runner_imports_nothing_that_a_run_without_tracking_does_not_need() -> None:
    heavy = {"IPython", "ipykernel", "lark", "mlflow", "nbconvert", "numpy", "pandas", "papermill", "pyarrow", "sqlalchemy"}
    loaded = python("import json, sys, mltoolkit.execution.run; print(json.dumps(list(sys.modules)))")
    assert heavy & set(loaded) == set()


def test_looking_for_kernels_finds_what_jupyter_finds_and_imports_no_ipython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_client.kernelspec import KernelSpecManager

    spec = tmp_path / "kernels" / "mine"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": ["true"], "display_name": "Mine", "language": "python"}))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    assert kernel_specs().find_kernel_specs() == KernelSpecManager().find_kernel_specs()
    assert kernel_specs().get_kernel_spec("mine").display_name == "Mine"
    found = "from mltoolkit.execution.links import kernel_specs; kernel_specs().get_kernel_spec('python3')"
    assert python(f"import json, sys; {found}; print(json.dumps('IPython' in sys.modules))") is False


def test_addresses_are_still_checked_when_somebody_asks() -> None:
    pytest.importorskip("rfc3987_syntax", reason="it comes with JupyterLab")
    before, *answers, after = python(
        "import json, sys, mltoolkit.notebook.document\n"
        "from jsonschema import Draft202012Validator\n"
        "checker = Draft202012Validator.FORMAT_CHECKER\n"
        "before = 'lark' in sys.modules\n"
        "answers = [checker.conforms(text, kind) for kind in ('iri', 'uri') for text in (f'http://example.org/{kind}', 'no address')]\n"
        "print(json.dumps([before, *answers, 'lark' in sys.modules]))"
    )
    assert (before, answers, after) == (False, [True, False, True, False], True)


def test_a_stand_in_is_the_module_to_whoever_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "slow_to_import"
    package.mkdir()
    (package / "__init__.py").write_text("from slow_to_import.part import ONE\ndef add(number): return number + ONE\n")
    (package / "part.py").write_text("ONE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def stand_in() -> Any:
        for name in ("slow_to_import", "slow_to_import.part"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        _postpone("slow_to_import", "add")
        return sys.modules["slow_to_import"]

    first = stand_in()
    assert not hasattr(first, "__wrapped__")
    assert "slow_to_import.part" not in sys.modules
    assert first.add(1) == 2
    assert sys.modules["slow_to_import"] is not first
    assert (first.add(2), first.ONE) == (3, 1)
    assert stand_in().ONE == 1
    stand_in()
    from slow_to_import.part import ONE  # type: ignore[import-not-found]

    assert ONE == 1
    real = sys.modules["slow_to_import"]
    _postpone("slow_to_import", "add")
    assert sys.modules["slow_to_import"] is real
    _postpone("no_such_module_anywhere", "add")
    assert "no_such_module_anywhere" not in sys.modules


def test_a_run_leaves_nothing_in_the_users_history(tmp_path: Path) -> None:
    notebook = notebook_of("secret_plan = 41", "get_ipython().history_manager.get_tail(2)[0][2]")
    outcome = execute(notebook, Order("python3", env={**os.environ, "IPYTHONDIR": str(tmp_path)}))
    assert outcome.status == "succeeded"
    assert "secret_plan" in notebook.cells[1].outputs[0].data["text/plain"]  # the notebook has a history of its own
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"secret_plan" in path.read_bytes()] == []


def test_meanwhile_is_called_once_after_the_process_has_started_and_its_error_ends_the_kernel(tmp_path: Path) -> None:
    from mltoolkit.execution.session import KernelSession, Stop

    stop, sessions = Stop(), []

    def fail() -> None:
        sessions.append(session.pid)
        raise RuntimeError("meanwhile")

    session = KernelSession("python3", cwd=tmp_path, env=dict(os.environ), stop=stop, meanwhile=fail)
    with pytest.raises(RuntimeError, match="meanwhile"), session:
        pass
    stop.close()
    assert len(sessions) == 1
    assert not Path(f"/proc/{sessions[0]}").exists()
    assert not session.folder.exists()
