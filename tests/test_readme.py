"""README's commands work as written, from a fresh clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mltoolkit.settings import SETTINGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files git knows, as they are now, in a folder of their own that is a repository."""
    folder = tmp_path_factory.mktemp("clone") / "mltoolkit"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    identity = ["-c", "user.name=mltoolkit", "-c", "user.email=mltoolkit@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def bare_environment(clone: Path) -> dict[str, str]:
    """An environment in which no virtual environment is active, but the clone's own programs are found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLTOOLKIT_", "MLFLOW_", "_MLFLOW", "VIRTUAL", "COV", "PYTEST"))}
    base = str(Path(sys.base_prefix, "bin"))
    others = [each for each in kept.get("PATH", "").split(os.pathsep) if ".venv" not in each]
    return {**kept, "PATH": os.pathsep.join([str(clone / ".venv" / "bin"), base, *others])}


def test_the_commands_in_order(clone: Path) -> None:
    shell = blocks("sh")
    assert shell[0].split() == ["make", "demo", "make", "test"]
    shown = ""
    for block in shell:
        script = block.replace("make test\n", "make --dry-run test\n")  # this very test is part of `make test`
        script = re.sub(r"^mltoolkit ui.*\n", "", script, flags=re.M)  # serves until it is stopped
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=clone, env=bare_environment(clone), capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        shown += done.stdout
    assert "02_train" in shown
    assert "mltoolkit ui" in shown


def test_the_python_in_order(clone: Path) -> None:
    program = "\n".join(blocks("python"))
    assert "run_notebook" in program
    done = subprocess.run(
        [str(clone / ".venv" / "bin" / "python"), "-c", program], cwd=clone, env=bare_environment(clone), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in README


def test_every_relative_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
