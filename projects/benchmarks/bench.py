"""`make bench`: run the benchmarks as runs of record and print their tables."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from mltoolkit import MltoolkitError, Run, run_notebook
from mltoolkit.cli import Progress
from mltoolkit.notebook import document

PROJECT = Path(__file__).parent
QUICK: dict[str, dict[str, Any]] = {
    "01_engine.ipynb": {"rounds": 2, "slow_rounds": 1, "cells": [1, 100], "output_mb": 1.0, "rows": 100_000},
    "02_scale.ipynb": {"rounds": 1, "output_mb": 1.0, "runs": 1000, "megabytes": 20, "cells": 200},
    "03_warm.ipynb": {"rounds": 2, "cells": [20, 100], "points": 20, "papermill_points": 2, "ploomber": False},
    "04_jobs.ipynb": {"rounds": 5, "peer_rounds": 2, "backlog": 40, "idle": 20.0, "history": 20_000},
    "05_check.ipynb": {"rounds": 1, "notebooks": 200, "peers": False},
    "06_tracking.ipynb": {"rounds": 1, "steps": 1000, "slow_steps": 20, "runs": 10_000},
    "07_reproduce.ipynb": {"rounds": 2, "cells": 50, "pictures": 10},
    "08_views.ipynb": {"rounds": 3, "runs": 1000, "cells": 100},
}
NOTEBOOKS = list(QUICK)


def tables(run: Run) -> str:
    """Return what the cells tagged `table` showed."""
    notebook = document.read(run.output)
    outputs = [output for cell in notebook.cells if "table" in document.tags(cell) for output in cell.outputs]
    return "\n\n".join(str(output.get("text") or output["data"]["text/plain"]).rstrip() for output in outputs)


def parameters(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Return the parameters of a notebook that the options stand for."""
    given = dict(QUICK[name]) if arguments.quick else {}
    return given | ({"rounds": arguments.repeat} if arguments.repeat else {})


def main() -> int:
    """Run the notebooks one after another and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=int(os.environ.get("REPEAT") or 0), metavar="N", help="measure N times (or REPEAT=N)")
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")), help="smaller works, fewer rounds (or QUICK=1)")
    arguments = parser.parse_args()
    print(f"Measuring takes {'a quarter of an hour' if arguments.quick else 'three quarters of an hour'} on a machine that does nothing else.", file=sys.stderr)
    for name in NOTEBOOKS:
        progress = Progress()
        try:
            run = run_notebook(PROJECT / name, parameters=parameters(arguments, name), watch=progress)
        except MltoolkitError as error:
            progress.close()
            print(error, file=sys.stderr)
            return error.exit_code
        progress.close()
        print(f"{tables(run)}\n\nWith its plot, as a page: {run.html}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
