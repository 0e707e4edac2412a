"""Notebooks on a calendar: what is to run, when, and what came of it."""
