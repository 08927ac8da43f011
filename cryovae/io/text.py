"""Reads text metadata in any encoding: UTF-8, UTF-16 and UTF-32 with or without a mark, and the code pages of Windows.

Microscopes write one byte of a code page into an English file, and Windows shells write UTF-16. A byte that is not UTF-8 is read
by itself in the western code page, so that the rest of the file stays as it is.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from cryovae.errors import InputError

# A mark of UTF-32 begins with that of UTF-16, and is looked for first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Characters that no text has; a file of DOS may end with 0x1a.
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._\-]{1,40})["']""")


def read_text(path: Path, most: int, missing: str, wanted: str) -> str:
    """Read a text file; its lines end with a line feed, whatever they end with in the file.

    Args:
        path: the file.
        most: largest size in bytes.
        missing: what to do if the file is missing, for the error message.
        wanted: what is expected, for the error message of a file that is too large or no text.

    Raises:
        InputError: the file is missing, cannot be read, is too large, or is not text.
    """
    # os.path.isfile is False for names that no file can have, where pathlib raises OSError.
    if not os.path.isfile(path):
        raise InputError(f"{path} does not exist: {missing}")
    size = path.stat().st_size
    if size > most:
        raise InputError(f"{path} is {size / 2**20:.0f} MB, expected {wanted} of {most / 2**20:.0f} MB at most: check its name")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}), expected {wanted}: check its permissions") from error
    text = decoded(data)
    if text is None:
        raise InputError(f"{path} is no text file, expected {wanted}: check its name")
    return text


def decoded(data: bytes) -> str | None:
    """The text of bytes in any encoding, with line feeds at the ends of lines; None if they are not text."""
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), None) or _unmarked(data)
    text = data.decode(encoding, "replace") if encoding is not None else _narrow(data)
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\x1a\0" if encoding is not None else "\x1a")
    if CONTROL.search(text):
        return None
    # Any even number of bytes is UTF-16 of something; metadata are mostly ASCII.
    wide = encoding is not None and encoding != "utf-8-sig"
    return None if wide and 2 * sum(character.isascii() for character in text) < len(text) else text


def _unmarked(data: bytes) -> str | None:
    """Encoding of UTF-16 without a mark, where every second byte of ASCII is 0; None for narrow characters."""
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        high, low = data[first::2], data[1 - first :: 2]
        if b"\0" in high and b"\0" not in low and 10 * high.count(0) > 9 * len(high):
            return name
    return None


def _narrow(data: bytes) -> str:
    """Decode UTF-8, or else what XML declares, or else UTF-8 in which single bytes are of a code page."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        declared = DECLARED.match(data)
    if declared is not None:
        try:
            return data.decode(declared[1].decode())
        # LookupError is a declared encoding that does not exist, or that is none of text.
        except (LookupError, UnicodeError):
            pass
    return data.decode("utf-8", "cryovae.code_page")


def _code_page(error: UnicodeError) -> tuple[str, int]:
    """The bytes that are not UTF-8, in the western code page of Windows, or Latin-1 where that has no character."""
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return wrong.decode("cp1252" if not set(wrong) & set(b"\x81\x8d\x8f\x90\x9d") else "latin-1"), error.end


codecs.register_error("cryovae.code_page", _code_page)
