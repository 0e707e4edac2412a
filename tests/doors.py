"""The three doors to an execution, to be knocked at alike: the command, the function, and papermill's command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from processes import BIN

PROGRAM = """
import sys, yaml, mltoolkit
from mltoolkit.errors import MltoolkitError
source, output, given, track = sys.argv[1:]
try:
    run = mltoolkit.run_notebook(source, output, yaml.safe_load(open(given)) if given else None, track=track == "track")
except MltoolkitError as error:
    sys.exit((print(error, file=sys.stderr), error.exit_code)[1])
print(*run.warnings, sep="\\n", file=sys.stderr)
"""


@dataclass
class Done:
    """How it ended, and what was said."""

    code: int
    said: str


@dataclass(frozen=True)
class Door:
    """One way to execute a notebook."""

    name: str

    @property
    def records(self) -> bool:
        """Whether it makes a run of record; papermill's does not."""
        return self.name != "papermill"

    def command(self, source: str, output: str, given: Mapping[str, Any] | None = None, *options: str, track: bool = False) -> list[str]:
        """A command that goes through this door in a process of its own; what is given lies in a file."""
        file = ""
        if given is not None:
            file = "given.yaml"
            Path(file).write_text(yaml.safe_dump(dict(given)))
        files = ["-f", file] if file else []
        if self.name == "function":
            return [sys.executable, "-c", PROGRAM, source, output, file, "track" if track else ""]
        if self.name == "papermill":
            return [str(BIN / "papermill"), "--engine", "mltoolkit", "--no-progress-bar", source, output, *files, *options]
        return [str(BIN / "mltoolkit"), "run", source, output, *files, *([] if track else ["--no-track"]), *options]

    def go(self, source: str, output: str, given: Mapping[str, Any] | None = None, *options: str) -> Done:
        """Go through this door in this process."""
        if self.name == "function":
            return _called(source, output, given)
        _, *arguments = self.command(source, output, given, *options)
        if self.name == "papermill":
            import papermill.cli

            done = CliRunner().invoke(papermill.cli.papermill, arguments)
        else:
            from mltoolkit import cli

            done = CliRunner().invoke(cli.main, arguments)
        unforeseen = done.exception if not isinstance(done.exception, SystemExit) else None
        return Done(done.exit_code, done.output + (repr(unforeseen) if unforeseen else ""))

    def __str__(self) -> str:
        return self.name


def _called(source: str, output: str, given: Mapping[str, Any] | None) -> Done:
    from mltoolkit.errors import MltoolkitError
    from mltoolkit.execution.run import run_notebook

    try:
        run_notebook(source, output, given, track=False)
    except MltoolkitError as error:
        return Done(error.exit_code, str(error))
    return Done(0, "")


DOORS = [Door("command"), Door("function"), Door("papermill")]
each_door = pytest.mark.parametrize("door", DOORS, ids=str)
