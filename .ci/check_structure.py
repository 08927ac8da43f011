"""Checks the size of functions and folders of the package.

    python .ci/check_structure.py

No function is longer than 60 lines, none outside the command line has more than 12 parameters, and no folder of the package holds
more than 15 % of its lines. Exit code 1, and a line for each place, if there is any.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "cryovae"
LINES, PARAMETERS, SHARE = 60, 12, 0.15
# Each option of a command is a parameter there.
MANY_PARAMETERS = {"cli"}


def long_functions(path: Path) -> Iterator[str]:
    """A line for each function of a module that is too long or has too many parameters."""
    where = path.relative_to(PACKAGE.parent)
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > LINES:
            yield f"{where}:{node.lineno}: {node.name} has {lines} lines, expected at most {LINES}"
        named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [argument for argument in named if argument.arg not in ("self", "cls")]
        if len(parameters) > PARAMETERS and path.relative_to(PACKAGE).parts[0] not in MANY_PARAMETERS:
            yield f"{where}:{node.lineno}: {node.name} has {len(parameters)} parameters, expected at most {PARAMETERS}"


def large_folders(paths: list[Path]) -> Iterator[str]:
    """A line for each folder of the package that holds too large a share of its lines."""
    sizes: Counter[str] = Counter()
    for path in paths:
        sizes[path.relative_to(PACKAGE).parts[0]] += len(path.read_text().splitlines())
    total = sum(sizes.values())
    for name, lines in sizes.most_common():
        if lines > SHARE * total:
            yield f"cryovae/{name} has {lines} of {total} lines, {lines / total:.1%}, expected at most {SHARE:.0%}"


def main() -> int:
    """Check the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    problems = [*(line for path in paths for line in long_functions(path)), *large_folders(paths)]
    print("\n".join(problems) if problems else f"{len(paths)} modules: no long function, no large folder")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
