"""Errors that a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used; its text is one line that says what to do. The command line exits with 2."""
