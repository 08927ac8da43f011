"""A command run by several processes at once (distributed.py). The first one prints and writes; the others report errors only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import wraps
from typing import ParamSpec, TypeVar

import typer

from cryovae.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")


def distributed_command(command: Callable[P, T]) -> Callable[P, T]:
    """Let the processes that a launcher started meet before the command, and part after it."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if "MASTER_ADDR" not in os.environ:
            # Nothing imports torch before a command needs it.
            return command(*args, **kwargs)
        from cryovae import distributed

        where = distributed.place()
        with distributed.joined(where):
            if where.rank == 0:
                return command(*args, **kwargs)
            try:
                with _silent():
                    return command(*args, **kwargs)
            except InputError as error:
                # The first has said so.
                raise typer.Exit(2) from error

    return run


@contextmanager
def _silent() -> Iterator[None]:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
