"""The demo: prepare three months of flights, train on two, evaluate on the third, and show what is on the record; then let the
schedule in jobs.yaml do the same for three dates."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mltoolkit import MltoolkitError, Run, run_notebook
from mltoolkit.scheduling import history, scheduler
from mltoolkit.scheduling.jobs import load
from mltoolkit.scheduling.store import State, open_store

PROJECT = Path(__file__).parent
STEPS = [
    ("01_prepare.ipynb", {"month": 1}),
    ("01_prepare.ipynb", {"month": 2}),
    ("01_prepare.ipynb", {"month": 3}),
    ("02_train.ipynb", {"months": [1, 2]}),
    ("03_evaluate.ipynb", {"month": 3}),
]


def row(run: Run) -> list[str]:
    """Return a run's line of the table."""
    given = ", ".join(f"{name} {run.parameters[name]}" for name in run.given)
    measured = [
        f"{run.metrics['auc']:.3f}" if "auc" in run.metrics else "",
        *(f"{run.metrics[name]:.1%}" if name in run.metrics else "" for name in ("base_rate", "predicted_rate")),
    ]
    data = " + ".join(f"{use.name} v{use.version} {use.digest[:8]}" for use in run.datasets)
    return [run.run_id[:8], Path(run.notebook).stem, given, f"{run.duration_s:.1f} s", *measured, data]


def table(rows: list[list[str]]) -> str:
    """Lay rows out in columns, numbers to the right."""
    head = ["run", "notebook", "parameters", "duration", "AUC", "base rate", "predicted", "dataset, version, digest"]
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    right = range(3, 7)
    lines = [
        "  ".join(text.rjust(width) if i in right else text.ljust(width) for i, (text, width) in enumerate(zip(line, widths, strict=True)))
        for line in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def nights(first: str, last: str) -> bool:
    """Run the schedule at each of its dates from the first to the last month; tell whether all is well."""
    store = open_store(PROJECT)
    keys = scheduler.backfill(store, load(PROJECT), "evaluate", first, last, workers=2)
    scheduler.work_off(store, keys, tell=lambda text: print(f"  {text}"))
    entries = [history.show(store, key) for key in keys]
    store.close()
    for entry in entries:
        if entry.job.endswith("/evaluate"):
            auc = f", AUC {entry.attempts[-1]['metrics']['auc']:.3f}" if entry.state == State.succeeded else f": {entry.reason}"
            print(f"  {entry.logical_date[:10]}  {entry.state}{auc}")
    return all(entry.state == State.succeeded for entry in entries)


def main() -> int:
    """Run the steps one after another and print the table; then the schedule."""
    started, runs = time.monotonic(), []
    print("All 336,776 flights out of New York in 2013: learn from January and February, predict March.\n")
    for number, (notebook, parameters) in enumerate(STEPS, 1):
        if notebook == "03_evaluate.ipynb":
            parameters = {"model_run": runs[-1].run_id[:8], **parameters}
        shown = ", ".join(f"{name} {value}" for name, value in parameters.items())
        print(f"[{number}/{len(STEPS)}] {notebook}, {shown} ... ", end="", flush=True)
        try:
            runs.append(run_notebook(PROJECT / notebook, parameters=parameters))
        except MltoolkitError as error:
            print(f"\n{error}", file=sys.stderr)
            return error.exit_code
        print(f"{runs[-1].duration_s:.1f} s")
    print(f"\n{table([row(run) for run in runs])}\n")
    print("The same by the schedule in projects/flights/jobs.yaml, for the first of April, May and June:\n")
    well = nights("2013-04", "2013-06")
    print(f"\nDone in {time.monotonic() - started:.0f} s. The first evaluation as a page, with its plots: {runs[-1].html}")
    print("What the jobs did:  .venv/bin/mltoolkit jobs history")
    print("Everything on record, in MLflow's UI:  .venv/bin/mltoolkit ui")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
