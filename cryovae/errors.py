"""Errors that a user can correct."""

from __future__ import annotations


class InputError(ValueError):
    """An input of the user that cannot be used. Its text is one line that says what to do; the command line exits with 2.

    Attributes:
        lines: the text line by line if several things are wrong, else empty.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines if len(lines) > 1 else ()


class BrokenModel(InputError):
    """A model whose weights are not finite, so it cannot give a result. The command line prints the error and exits with 1."""


class BrokenResult(RuntimeError):
    """A result that is wrong, e.g. not finite, and is not written. The command line prints the error and exits with 1."""
