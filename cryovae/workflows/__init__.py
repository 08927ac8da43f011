"""Workflows: the work of each command, from its inputs to its output folder."""
