"""Checks that no name and no text uses a word that the project has replaced by a standard one.

    python .ci/check_names.py [FILE ...]         without files: the package, the tests, the pipelines, the README and its pages

Checked are names where they are defined (modules, classes, functions, parameters, variables, fields, keyword arguments), keys of
dictionaries, and words in strings, docstrings and comments that have no other meaning in this field. Exit code 1, and a line for
each place, if there is any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# No part of a name, between underscores or capitals, may be one of these.
PARTS = {
    "answer", "answered", "answers", "charged", "descend", "descended", "doubt", "foresight", "foretell", "foretells", "foretold",
    "found", "guarded", "heard", "lookalike", "lying", "pushed", "remedies", "rung", "rungs", "searched", "shelf", "shelved",
    "solo", "spared", "telling", "told", "tolerated", "turn", "turned", "turns",
}  # fmt: skip
# No name may be one of these.
NAMES = {
    "ahead", "apart", "back", "by_parts", "chosen", "given", "hidden", "laid_down", "leaving", "partial", "ranks", "reserved",
    "teach_posterior", "together", "whole", "Answer", "Specimen", "Spread",
}  # fmt: skip
# No text may have one of these.
WORDS = re.compile(
    r"\b(foret(?:ell|ells|elling|old)|foresight|lookalikes?|remed(?:y|ies)|shel(?:f|ves|ved)|laid down|telling (?:part|patch)\w*|"
    r"by parts|rungs?|doubts?|tolerated|spared|ranks\.told)\b",
    re.IGNORECASE,
)
# Names of version 0.1 stand where they are translated; the history of the benchmark and of the project may quote them.
EXEMPT = {
    ".ci/check_names.py", "cryovae/aliases.py", "tests/test_aliases.py", "CHANGELOG.md", "docs/benchmark/notes.md",
    "docs/benchmark/all_rows.md",
}  # fmt: skip
FOLDERS = ("cryovae", "tests", "pipelines", ".ci", "docs", "recipe")


def parts_of(name: str) -> set[str]:
    """The words of a name, in lower case: ``HalfTurns`` and ``half_turns`` give half and turns."""
    return {word.lower() for piece in name.split("_") for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", piece)}


def is_replaced(name: str) -> bool:
    """Whether a name is, or has a part that is, a word that was replaced."""
    return name in NAMES or name.strip("_") in NAMES or bool(parts_of(name) & PARTS)


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all that a module defines, and of keys and keyword arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield 0, node.asname
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.value.lineno, node.arg
        elif isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value.isidentifier():
                    yield key.lineno, key.value


def texts_in(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of the strings and comments of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line


def check(path: Path) -> list[str]:
    """A line for each name and word of a file that was replaced."""
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    source = path.read_text()
    if path.suffix != ".py":
        texts: Iterator[tuple[int, str]] = iter(enumerate(source.splitlines(), 1))
        names: list[tuple[int, str]] = []
    else:
        texts, names = texts_in(source), [*names_in(ast.parse(source)), (1, path.stem)]
    lines = [f"{where}:{line}: name '{name}'" for line, name in names if is_replaced(name)]
    return lines + [f"{where}:{line}: word '{match.group()}'" for line, text in texts for match in WORDS.finditer(text)]


def main() -> int:
    """Check the files that are named, or all of the project."""
    paths = [Path(name).resolve() for name in sys.argv[1:]]
    if not paths:
        paths = [ROOT / "README.md", *(p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*")))]
        kinds = {".py", ".md", ".toml", ".yaml", ".sh"}
        paths = [p for p in paths if p.is_file() and p.suffix in kinds and not any(q.is_symlink() for q in (p, p.parent))]
    lines = [line for path in paths if path.relative_to(ROOT).as_posix() not in EXEMPT for line in check(path)]
    print("\n".join(lines) if lines else f"{len(paths)} files: no replaced name or word")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
