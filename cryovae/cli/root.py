"""The root of the command line: help texts without markup, errors of the parser in one line, and outputs that are closed."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer
from typer.core import TyperGroup

from cryovae.cli.reporting import BAD_INPUT, CLOSED, FAILED, is_closed
from cryovae.io.names import in_one_line

# The class of all errors of the parser; typer brings a click of its own since 0.16.
PARSER_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
# What rich reads as markup. The pattern is that of rich.markup.escape, which is slow to import.
MARKUP = re.compile(r"(\\*)(\[[a-zA-Z/@#].*?\])", re.DOTALL)


class Root(TyperGroup):
    """The application. It ends with an exit code, and prints an error as one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, and leave with its exit code."""
        show_as_is(self)
        open_outputs()
        words = list(sys.argv[1:] if args is None else args)
        try:
            try:
                code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            except PARSER_ERROR as error:
                code = _print_error(error, words, self)
            sys.stdout.flush()
        except SystemExit as stop:
            # rich has closed the output when it leaves for that reason.
            if not isinstance(stop.__context__, BrokenPipeError):
                raise
            code = CLOSED
        except OSError as error:
            # The output could not be written: its reader has closed it, or the disk is full.
            code = CLOSED if is_closed(error) else FAILED
            _discard_outputs()
            if code == FAILED:
                print(f"cryovae: the output cannot be written ({error.strerror}): print it elsewhere", file=sys.stderr)
        if code == CLOSED:
            _discard_outputs()
        sys.exit(code)


def open_outputs() -> None:
    """Replace missing outputs by the null device, and print characters that the terminal lacks as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_as_is(command: Any) -> None:
    """Escape the help of a command, of its options and of its subcommands, which rich would read as markup."""
    texts = [(part, name) for part in (command, *command.params) for name in ("help", "short_help", "epilog")]
    for part, name in texts:
        text = getattr(part, name, None)
        if text:
            setattr(part, name, escape(text))
    for inner in getattr(command, "commands", {}).values():
        show_as_is(inner)


def escape(text: str) -> str:
    """A text that rich shows as it is."""
    return MARKUP.sub(r"\1\1\\\2", text)


def _print_error(error: Any, words: Sequence[str], root: Any) -> int:
    """Print an error of the parser in one line: what was given, what is expected, and where to read on."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return BAD_INPUT
    text = " ".join(error.format_message().split()).rstrip(".")
    option = _option_of(error, root)
    named = next((word for word in words if option is not None and word.partition("=")[0] in option.opts), None)
    if option is not None and named is not None and not text.startswith("No such"):
        text = f"{_as_typed(words, named, option.nargs)} found, {_expected(option, text)}"
    print(in_one_line(f"cryovae: {text}: see {_command_path(error, words, root)} --help"), file=sys.stderr)
    return BAD_INPUT


def _command_path(error: Any, words: Sequence[str], command: Any) -> str:
    """The command that was called, e.g. cryovae batch run."""
    path, context = ["cryovae"], getattr(error, "ctx", None)
    if context is not None:
        return f"cryovae{context.command_path.removeprefix(context.find_root().command_path)}"
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        path, command = [*path, word], inner
    return " ".join(path)


def _option_of(error: Any, command: Any) -> Any:
    """The option of a command or of its subcommands that an error is about; None if it is about none."""
    param = getattr(error, "param", None)
    if param is not None:
        return param if param.opts[0].startswith("-") else None
    name = getattr(error, "option_name", None)
    own = next((one for one in command.params if name in one.opts), None)
    inner = getattr(command, "commands", {}).values()
    return own or next((one for part in inner if (one := _option_of(error, part)) is not None), None)


def _as_typed(words: Sequence[str], named: str, count: int) -> str:
    """An option as it was given, with its values."""
    at = words.index(named)
    return " ".join(words[at : at + 1 + (count if "=" not in named else count - 1)])


def _expected(option: Any, text: str) -> str:
    """What an option expects, from the message of the parser."""
    if option.nargs > 1:
        values = option.metavar or " ".join(["VALUE"] * option.nargs)
        return f"expected {option.nargs} values with a space between them, {option.opts[0]} {values}"
    if text.endswith("requires an argument"):
        return "expected a value after it"
    if text.endswith("does not take a value"):
        return "expected no value after it"
    said = text.partition("': ")[2] or text
    return f"expected another value ({said[0].lower()}{said[1:]})"


def _discard_outputs() -> None:
    """Send what is still to be printed to the null device, so that Python does not try to print it again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
