"""Files that are damaged at random, and what a reader may do with them: read them, or refuse them in one line.

``mangle(data, draw)`` damages bytes within a hypothesis strategy; ``mangled(seeds)`` is such a strategy.
``survive(read, path, content)`` writes a file, reads it under a limit of memory and time, and fails if anything but a value or an
InputError of one line comes out.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from cryovae.errors import InputError

MEGABYTE = 1 << 20
MOST_MEMORY, MOST_SECONDS = 200 * MEGABYTE, 5.0
INTEGERS = (0, 1, 2, 3, 4, 16, 101, 255, 401, 1024, 65536, 1 << 20, 1 << 24, (1 << 31) - 1, -(1 << 31), -1, -2, -1024)
FLOATS = (0.0, -1.0, 1e-40, 1e30, -1e30, float("inf"), float("-inf"), float("nan"))
WORDS = [*(struct.pack(f"{order}i", i) for i in INTEGERS for order in "<>"), *(struct.pack("<f", f) for f in FLOATS)]
# For formats of text: what tears numbers, lines, tables and tags.
TEXT = [
    b"", b"\n", b"\r", b"\t", b" ", b"\0", b"nan", b"inf", b"-1e400", b"1e400", b"9" * 30, b"-", b"None", b"<", b">", b"</", b"'",
    b'"', b"#", b"[", b"]", b"=", b"data_", b"loop_", b"_rln", b"\xff\xfe", "é".encode(), b"../", b"/", b"{", b"%s", b",",
]  # fmt: skip


def mangle(data: bytes, draw: Callable[[Any], Any], words: Sequence[bytes] = WORDS, head: int = 256) -> bytes:
    """``data`` after one to six injuries: bytes changed, a word put over others or between them, pieces cut or doubled.

    Half of them fall on the first ``head`` bytes, where headers have their counts.
    """
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        near = draw(st.booleans())
        at = draw(st.integers(0, min(head, len(data)) - 1 if near else len(data) - 1))
        how = draw(st.sampled_from(("flip", "word", "word", "aligned", "aligned", "insert", "cut", "double", "end")))
        if how == "flip":
            data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
        elif how in ("word", "aligned"):
            at -= at % 4 if how == "aligned" else 0
            word = draw(st.sampled_from(words))
            data = data[:at] + word + data[at + len(word) :]
        elif how == "insert":
            data = data[:at] + draw(st.sampled_from(words)) + data[at:]
        elif how == "cut":
            data = data[:at] + data[at + draw(st.integers(1, 64)) :]
        elif how == "double":
            data = data[: at + draw(st.integers(1, 64))] + data[at:]
        else:
            data = data[:at]
    return data


@st.composite
def mangled(draw: Callable[[Any], Any], seeds: Sequence[bytes], words: Sequence[bytes] = WORDS, head: int = 256) -> bytes:
    """One of ``seeds``, damaged."""
    return mangle(draw(st.sampled_from(seeds)), draw, words, head)


@contextmanager
def limited(memory: int = MOST_MEMORY, seconds: float = MOST_SECONDS) -> Iterator[None]:
    """No more than ``memory`` bytes of address space above what is in use (MemoryError), and no more than ``seconds``.

    Where the system does not tell its address space, time alone is watched. A real hang is ended by the timeout of pytest.
    """
    began = time.monotonic()
    with _address_space(memory):
        yield
    assert time.monotonic() - began < seconds, f"took {time.monotonic() - began:.1f} s, expected less than {seconds:g} s"


@contextmanager
def _address_space(more: int) -> Iterator[None]:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def survive(read: Callable[[Path], object], path: Path, content: bytes) -> bool:
    """Whether ``content`` could be read as the file ``path``; it fails for anything but a value or an InputError of one line."""
    path.write_bytes(content)
    refusal = None
    try:
        with limited():
            read(path)
    except InputError as error:
        refusal = str(error)
    except MemoryError:
        pytest.fail(f"more than {MOST_MEMORY >> 20} MB for a file of {len(content)} bytes")
    if refusal is None:
        return True
    assert "\n" not in refusal, f"more than one line: {refusal}"
    assert path.name in refusal, f"names no file: {refusal}"
    return False
