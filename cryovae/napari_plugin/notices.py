"""Errors as one notification in plain words; napari continues."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import torch

from cryovae.errors import InputError

P = ParamSpec("P")
log = logging.getLogger("cryovae")
MEMORY = "out of memory: restore a smaller region, or choose a smaller preset, or the processor instead of the GPU"
EXPECTED = (InputError, OSError, MemoryError, torch.OutOfMemoryError)


def in_words(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return MEMORY
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}" if error.filename else error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def show(text: str) -> None:
    """One notification."""
    from napari.utils.notifications import show_error

    show_error(text)


@contextmanager
def reporting() -> Iterator[None]:
    """Turn errors that users can correct into a notification; others are raised, for napari's error dialogue."""
    try:
        yield
    except EXPECTED as error:
        log.info("notified: %s", error)
        show(in_words(error))


def reported(function: Callable[P, None]) -> Callable[P, None]:
    """``reporting`` around a function without a result, such as the callback of a button."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        with reporting():
            function(*args, **kwargs)

    return wrapped
