"""Errors that a user can correct."""

from __future__ import annotations


class InputError(ValueError):
    """An input of the user cannot be used. Its text is one line that says what to do; the command line exits with 2."""
