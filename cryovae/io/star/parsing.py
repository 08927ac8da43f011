"""STAR text to blocks of text columns and back.

A line is one row. A value with spaces is between quotes, and a quote closes only before a space or the end of the line, as in
CIF. A # begins a comment only at the beginning of a word. Values with # are written between quotes, because some programs cut off
what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryovae.errors import InputError

# Texts that denote a missing value in tables of IsoNet and other programs.
MISSING = ("", "None", "none", "nan", "NaN", "<NA>", "null")
SPACE = " \t\v\f"
TOKEN = re.compile(
    r"""[ \t\v\f]*(?:
        '(?P<single>(?:[^']|'(?=[^ \t\v\f]))*)'(?=[ \t\v\f]|$)
        |"(?P<double>(?:[^"]|"(?=[^ \t\v\f]))*)"(?=[ \t\v\f]|$)
        |(?P<comment>\#.*)
        |(?P<word>[^ \t\v\f]+)
    )""",
    re.VERBOSE,
)
# Values that need quotes: empty ones, those with spaces or #, those that begin with a quote, _, ; or a key word.
UNSAFE = re.compile(r"^$|\s|\#|^[\"'_;]|^(?:data_|loop_|save_|stop_|global_)", re.IGNORECASE)
# Control characters and surrogates, which cannot be written at all.
UNWRITABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


@dataclass
class _Draft:
    """A block that is being read: its name, first line, names of columns and rows."""

    name: str
    line: int
    loop: bool = False
    names: list[str] = field(default_factory=list)
    rows: list[Sequence[str]] = field(default_factory=list)

    def columns(self) -> dict[str, tuple[str, ...]]:
        if not self.names:
            raise ValueError(f"data_{self.name} on line {self.line} has no columns")
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"the column {twice} appears twice in data_{self.name}")
        return dict(zip(self.names, zip(*self.rows, strict=True) if self.rows else [()] * len(self.names), strict=True))


def parse(path: Path, text: str) -> list[tuple[str, dict[str, tuple[str, ...]], bool]]:
    """The blocks of a STAR text in its order: name, values by column, and whether it is a table.

    Args:
        path: path of the file, for error messages.
        text: its text.

    Raises:
        InputError: a line cannot be understood, or two blocks have one name.
    """
    drafts: list[_Draft] = []
    try:
        for number, line in enumerate(text.split("\n"), 1):
            words = _words(line)
            if words and words[0].lower().startswith("data_") and not line.lstrip(SPACE).startswith(("'", '"')):
                if len(words) > 1:
                    raise ValueError(f"line {number} is a block with {len(words)} words: put a value data_... between quotes")
                drafts.append(_Draft(words[0][5:], number))
            # Lines before the first block are a title.
            elif words and drafts:
                _add(drafts[-1], words, line.lstrip(SPACE), number)
        _check_names(path, drafts)
        if drafts and not any(draft.names for draft in drafts):
            drafts[0].columns()
        return [(draft.name, draft.columns(), draft.loop) for draft in drafts if draft.names]
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as STAR ({str(error)[:160]}): write it again, or correct it") from error


def _check_names(path: Path, drafts: Sequence[_Draft]) -> None:
    """InputError if two blocks have one name, as after ``cat a.star b.star``: which of their rows count is not known."""
    seen: dict[str, _Draft] = {}
    for draft in drafts:
        first = seen.setdefault(draft.name.lower(), draft)
        if first is not draft:
            raise InputError(
                f"{path} has two blocks of one name, data_{first.name} on line {first.line} and data_{draft.name} on line "
                f"{draft.line}, expected different names: join their rows in one block, or give the files one by one"
            )


def _words(line: str) -> list[str]:
    """The values of a line without quotes and comment."""
    if "'" not in line and '"' not in line and "#" not in line:
        # Without an argument, split would also take spaces of other scripts, which names may have.
        return line.split() if line.isascii() else [word for word in re.split("[ \t\v\f]+", line) if word]
    words = []
    for match in TOKEN.finditer(line):
        kind = match.lastgroup
        if kind == "comment":
            break
        value = match[kind or 0]
        if kind == "word" and value[0] in "'\"":
            raise ValueError(f"a quote is not closed in '{line.strip()[:60]}'")
        words.append(value)
    return words


def _add(draft: _Draft, words: Sequence[str], line: str, number: int) -> None:
    """Add a line of a block: loop_, the name of a column, a pair of name and value, or a row."""
    named = line.startswith("_")
    if line.lower().startswith("loop_") and len(words) == 1:
        if draft.names or draft.loop:
            raise ValueError(f"line {number} begins a second table in data_{draft.name}, expected a block for each")
        draft.loop = True
    # A name is alone on its line, or followed by its number: _name #1 or _name 1.
    elif draft.loop and not draft.rows and named and list(words[1:]) in ([], [str(len(draft.names) + 1)]):
        draft.names.append(words[0][1:])
    elif draft.loop and len(words) == len(draft.names):
        draft.rows.append(words)
    elif draft.loop:
        raise ValueError(f"line {number} has {len(words)} values, expected one for each of the {len(draft.names)} columns")
    elif named and len(words) == 2:
        draft.names.append(words[0][1:])
        draft.rows = [(*(draft.rows[0] if draft.rows else ()), words[1])]
    else:
        raise ValueError(f"line {number} is '{line.strip()[:40]}', expected loop_, or a name and a value")


def star_text(blocks: Mapping[str, tuple[Mapping[str, Sequence[str]], bool]]) -> str:
    """The text of blocks by name: values by column, and whether the block is a table.

    Raises:
        InputError: a value cannot be written so that it is read as it is.
    """
    lines = []
    for name, (columns, loop) in blocks.items():
        lines += [f"data_{name}", ""]
        if loop:
            lines += ["loop_", *(f"_{column} #{index}" for index, column in enumerate(columns, 1))]
            lines += ["\t".join(map(quoted, row)) for row in zip(*columns.values(), strict=True)]
        else:
            lines += [f"_{column}\t\t\t{quoted(values[0])}" for column, values in columns.items()]
        lines += ["", ""]
    return "".join(f"{line}\n" for line in lines)


def quoted(value: str) -> str:
    """A value as it is written: between quotes if it would not be read as one value without them.

    Raises:
        InputError: the value has a control character, or quotes of both kinds before spaces.
    """
    if UNWRITABLE.search(value):
        raise InputError(f"{value[:60]!r} has a character that a STAR file cannot hold, expected plain text: rename it")
    if not UNSAFE.search(value):
        return value
    for mark in sorted("\"'", key=lambda mark: mark in value):
        marked = f"{mark}{value}{mark}"
        if (match := TOKEN.fullmatch(marked)) is not None and value in (match["single"], match["double"]):
            return marked
    raise InputError(f"{value[:60]!r} has both kinds of quotes, expected one at most in a STAR file: rename it")


def check_portable(value: str, what: str) -> None:
    """InputError if a new value would be read differently by some program that reads STAR files.

    Args:
        value: the value.
        what: what it names, for the error message.
    """
    if "'" in value or '"' in value:
        fault = "a quote in it"
    elif value in MISSING:
        fault = "the name of a missing value"
    elif value != value.strip() or UNWRITABLE.search(value):
        fault = "spaces at an end, or control characters"
    else:
        return
    raise InputError(
        f"{what} {value[:120]!r} has {fault}, expected a name that all programs read alike from a STAR file: rename it"
    )
