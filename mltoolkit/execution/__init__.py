"""Executing notebooks: the kernel, the cells, and the run of record."""
