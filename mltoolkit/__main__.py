"""The command, as `python -m mltoolkit`.

A plain module, not exported from a notebook: for interpreters whose folder of programs is not on the path."""

from mltoolkit.cli import main

if __name__ == "__main__":
    main(prog_name="mltoolkit")
