"""cryovae config: every setting with its default, its unit and what it is."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from cryovae.errors import InputError

# An entry of the list of attributes in a docstring: name, text, and the lines that go on.
ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)
# Columns of the keys with their defaults.
KEYS = 44


@dataclass(frozen=True)
class Setting:
    """A key of ``--set``.

    Attributes:
        key: ``section.name``.
        default: as ``--set`` takes it.
        unit: unit or allowed values, in words; empty if the text says it all.
        text: what it is, in one sentence.
    """

    key: str
    default: str
    unit: str
    text: str


def config(
    words: Annotated[list[str] | None, typer.Argument(help="Show the keys alone that hold one of these words.")] = None,
    *,
    preset: Annotated[str, typer.Option(help="Whose defaults are shown: quick, default or large.", metavar="NAME")] = "quick",
) -> None:
    """List all settings that --set and a TOML file take: their defaults, units and meaning."""
    shown = [one for one in settings(preset) if not words or any(word in one.key for word in words)]
    if not shown:
        raise InputError(f"no key holds {' or '.join(words or [])}, expected e.g. training or steps: see cryovae config")
    width = max(KEYS + 30, shutil.get_terminal_size((120, 24)).columns)
    print(f"Preset {preset}. Change any with --set KEY=VALUE, or write them into a TOML file for --config.\n")
    for one in shown:
        head = f"{one.key}={one.default}"
        text = f"{one.text[0].upper()}{one.text[1:]}{f' [{one.unit}]' if one.unit else ''}"
        lines = textwrap.wrap(text, width - KEYS) or [""]
        print(f"{head:<{KEYS - 1}} {lines[0]}" if len(head) < KEYS else f"{head}\n{'':<{KEYS}}{lines[0]}")
        for line in lines[1:]:
            print(f"{'':<{KEYS}}{line}")


def settings(preset: str) -> list[Setting]:
    """All settings in the order of their sections. InputError if there is no such preset."""
    from cryovae.config import preset as preset_of

    settings_of_preset = preset_of(preset)
    known = []
    for section in fields(settings_of_preset):
        part = getattr(settings_of_preset, section.name)
        rules, texts = get_type_hints(type(part), include_extras=True), documented(type(part))
        for one in fields(part):
            default = _plain(getattr(part, one.name))
            unit = "; ".join(rule.words for rule in getattr(rules[one.name], "__metadata__", ()) if hasattr(rule, "words"))
            known.append(Setting(f"{section.name}.{one.name}", default, unit, texts.get(one.name, "")))
    return known


def documented(kind: type) -> dict[str, str]:
    """Field to its text in the docstrings of a dataclass and of those that it extends."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        doc = inspect.cleandoc(base.__doc__ or "")
        attributes = doc.partition("Attributes:\n")[2]
        texts |= {match[1]: " ".join(match[2].split()) for match in ATTRIBUTE.finditer(attributes)}
    return texts


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        words = (f'"{item}"' if isinstance(item, str) else _plain(item) for item in value)
        return f"[{','.join(words)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
