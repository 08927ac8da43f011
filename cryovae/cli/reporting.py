"""How a command ends: one line and an exit code for what can go wrong."""

from __future__ import annotations

import errno
import logging
import select
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import typer

from cryovae.errors import BrokenModel, BrokenResult, InputError
from cryovae.io.names import in_one_line
from cryovae.workflows.signals import interruptible

# Without a handler Python prints errors that are meant for a run's log on top of the one line that the user gets.
logging.getLogger("cryovae").addHandler(logging.NullHandler())
# By name, so that torch is not imported for it.
STOPPED = ("Interrupted", "Terminated", "StoppedMidStep")
# Commands that go on with --resume; the others begin again.
RESUMED = ("restore", "train", "pretrain")
# Commands that go on where they were stopped in any case.
AGAIN = ("batch",)
P = ParamSpec("P")
T = TypeVar("T")
# 75 is EX_TEMPFAIL of sysexits.h: the same again may succeed. 130 and 141 are what shells give for a Ctrl-C and a closed pipe.
FAILED, BAD_INPUT, INTERRUPTED, BROKEN_OFF, CLOSED = 1, 2, 75, 130, 141


def reported(command: Callable[P, T]) -> Callable[P, T]:
    """Turn what can go wrong into one line and an exit code.

    1 the run failed, 2 the input cannot be used, 75 it was interrupted and can be resumed, 130 it was broken off by Ctrl-C, 141
    nobody reads what it prints.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with interruptible():
                return command(*args, **kwargs)
        except InputError as error:
            _fail(str(error), FAILED if isinstance(error, BrokenModel) else BAD_INPUT, error.lines)
        except OSError as error:
            if is_closed(error):
                # Nobody reads on, e.g. after ``| head``: the application ends without a word.
                raise
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                _fail(f"no room left on the disk for {error.filename or 'the results'} ({error.strerror}): make room", FAILED)
            _fail(f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}", FAILED)
        except BrokenResult as error:
            _fail(str(error), FAILED)
        except KeyboardInterrupt:
            _fail(f"broken off by Ctrl-C; {_way_on(sys.argv[1:])}", BROKEN_OFF)
        except Exception as error:
            kind = type(error).__name__
            if kind in STOPPED:
                _fail(f"{error}; {_way_on(sys.argv[1:])}", INTERRUPTED)
            if kind == "OutOfMemoryError":
                _fail("the GPU has too little memory: use a smaller --batch, --patch or --preset", FAILED)
            raise

    return run


def command_again(words: Sequence[str]) -> str:
    """The command that goes on with one that was stopped, for a shell; ``words`` are those after its name."""
    again = list(words)
    if again and again[0] in RESUMED:
        # What is overwritten begins anew.
        again = [word for word in again if word not in ("--overwrite", "--resume")] + ["--resume"]
    return shlex.join([*program(), *again])


def program() -> list[str]:
    """The words that start this program, as the user started it: the command itself may be on no path."""
    named = Path(sys.argv[0])
    if named.name == "__main__.py" and named.parent.name == "cryovae":
        return [sys.executable, "-m", "cryovae"]
    on_path = shutil.which("cryovae")
    is_it = on_path is not None and named.exists() and Path(on_path).resolve() == named.resolve()
    return ["cryovae"] if is_it or named.name != "cryovae" else [str(named)]


def _way_on(words: Sequence[str]) -> str:
    """How to go on with a command that was stopped, or to begin it again where nothing of it was kept."""
    goes_on = bool(words) and words[0] in (*RESUMED, *AGAIN)
    return f"{'go on' if goes_on else 'begin again'} with: {command_again(words)}"


def is_closed(error: BaseException | None) -> bool:
    """Whether an error is that nobody reads what is printed any more."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__context__
    if error is None or not hasattr(select, "poll"):
        return error is not None
    outputs = select.poll()
    for number in (1, 2):
        outputs.register(number, 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in outputs.poll(0))


def _fail(text: str, code: int, lines: Sequence[str] = ()) -> NoReturn:
    for line in lines or (text,):
        shown = in_one_line(line)
        print(f"cryovae: {shown}", file=sys.stderr)
        logging.getLogger("cryovae").error("%s", shown)
    raise typer.Exit(code)
