"""Code blocks of the documentation: where they stand, and why some are not run.

A block that cannot run has a line before it: ``<!-- not run: KIND -->``, or ``<!-- not run: KIND: REASON -->``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKER = re.compile(r"<!-- not run: (\w+)(?:: (.+))? -->")
# The kinds of blocks that are not run, and why.
KINDS = {
    "install": "installs packages, or sets up the clone",
    "cluster": "needs Slurm or several GPUs",
    "window": "opens a window",
    "slow": "takes minutes to hours",
    "molecules": "needs files that are not in the repository",
    "benchmark": "needs the data of the benchmark, and hours",
}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file that it is in.
        line: the line of its first fence, from 1.
        language: sh, python or text.
        text: what it says.
        kind: the kind of its marker, None if it is run.
    """

    page: Path
    line: int
    language: str
    text: str
    kind: str | None

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a block of the shell, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    lines, number = page.read_text().splitlines(), 0
    while number < len(lines):
        opening = re.match(r" *```(\w*)", lines[number])
        if opening is None:
            number += 1
            continue
        end = next(i for i in range(number + 1, len(lines)) if lines[i].strip() == "```")
        marker = MARKER.search(lines[number - 1]) if number else None
        text = "\n".join(lines[number + 1 : end]) + "\n"
        yield Block(page, number + 1, opening[1], text, marker[1] if marker else None)
        number = end + 1
