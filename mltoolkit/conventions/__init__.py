"""Conventions that are checked in the editor, before a commit, in CI and before a job runs."""
