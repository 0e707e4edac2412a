"""Modules of the project flights, exported from its notebooks."""
