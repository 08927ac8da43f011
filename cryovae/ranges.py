"""Ranges of settings, declared at the fields themselves: ``batch: Annotated[int, Range(1, 4096)] = 4``.

``check_fields`` is called by ``__post_init__`` of each dataclass of settings. It checks the type and the range of every field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, get_args, get_origin, get_type_hints

from cryovae.errors import InputError

# Seeds are multiplied by numbers of four digits and fed to generators that take 63 bits.
MAX_SEED = 2**48


@dataclass(frozen=True)
class Range:
    """Numbers from ``lowest`` to ``highest``.

    Attributes:
        lowest: the smallest number.
        highest: the largest number.
        above: whether ``lowest`` itself is excluded.
        below: whether ``highest`` itself is excluded.
        what: what the numbers are, in words.
    """

    lowest: float
    highest: float
    above: bool = False
    below: bool = False
    what: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a finite number is in the range."""
        low = self.lowest < value if self.above else self.lowest <= value
        return bool(low and (value < self.highest if self.below else value <= self.highest))

    @property
    def words(self) -> str:
        """The range in words."""
        low = f"above {_plain(self.lowest)}" if self.above else f"from {_plain(self.lowest)}"
        high = f"to below {_plain(self.highest)}" if self.below else f"to {_plain(self.highest)}"
        return f"{f'{self.what} ' if self.what else ''}{low} {high}"


@dataclass(frozen=True)
class OneOf:
    """One of several words or numbers."""

    names: tuple[str | int, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.names

    @property
    def words(self) -> str:
        """They as one phrase."""
        names = [str(name) for name in self.names]
        return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


@dataclass(frozen=True)
class Length:
    """The number of entries of a list."""

    lowest: int
    highest: int


def check_fields(settings: Any) -> None:
    """InputError, with the field's name, if a value of a dataclass is not of its type, not finite, or out of its range.

    A list where a tuple belongs becomes one.
    """
    for name, kind, rules in _declared(type(settings)):  # type: ignore[arg-type]
        value = getattr(settings, name)
        if get_origin(kind) is tuple and isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, name, value)
        _check(name, value, kind, rules)


@lru_cache
def _declared(settings: type) -> tuple[tuple[str, Any, tuple[Any, ...]], ...]:
    """Name, type and rules of each field."""
    full, plain = get_type_hints(settings, include_extras=True), get_type_hints(settings)
    rules = {name: getattr(kind, "__metadata__", ()) for name, kind in full.items()}
    return tuple((f.name, plain[f.name], rules[f.name]) for f in fields(settings))  # type: ignore[arg-type]


def _check(name: str, value: Any, kind: Any, rules: Sequence[Any]) -> None:
    if get_origin(kind) is tuple:
        length = next((rule for rule in rules if isinstance(rule, Length)), None)
        if not isinstance(value, tuple):
            raise InputError(f"{name} {shown(value)} found, expected a list")
        if length is not None and not length.lowest <= len(value) <= length.highest:
            raise InputError(f"{name} with {len(value)} entries found, expected {length.lowest} to {length.highest} of them")
        for item in value:
            _check(name, item, get_args(kind)[0], [rule for rule in rules if rule is not length])
        return
    if kind in TYPES and not TYPES[kind][0](value):
        raise InputError(f"{name} {shown(value)} found, expected {_expected(TYPES[kind][1], rules)}")
    for rule in rules:
        if not rule.holds(value):
            raise InputError(f"{name} {shown(value)} found, expected {_expected(TYPES[kind][1], [rule])}")


def _expected(kind: str, rules: Sequence[Any]) -> str:
    words = [rule.words for rule in rules]
    named = any(isinstance(rule, OneOf) or getattr(rule, "what", "") for rule in rules)
    return " ".join(words if named else [kind, *words])


def _integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


TYPES: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_integer, "a whole number"),
    float: (_finite, "a finite number"),
    str: (lambda value: isinstance(value, str), "a word"),
}


def shown(value: Any, most: int = 60) -> str:
    """A value in one short line, whatever it is."""
    try:
        text = f"{value:g}" if isinstance(value, float) else f"'{value}'" if isinstance(value, str) else repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most] + " ..."


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else f"{number:g}"
