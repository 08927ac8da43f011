"""Pages of the documentation that come from the code: a hook of mkdocs, which calls ``on_files`` when the site is built.

    python pipelines/docs_reference.py FOLDER       writes the pages into a folder, to look at them

reference/cli.md            commands and options, from the command line itself
reference/configuration.md  settings by section, from the dataclasses: type, value in each preset, and what the docstring says
reference/python.md         public functions, for mkdocstrings, which reads their docstrings
changes.md                  CHANGELOG.md
"""

from __future__ import annotations

import html
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
# Options that every command has.
COMMON = {"help", "install_completion", "show_completion"}
# Presets whose values are shown.
PRESETS = ("quick", "default", "large")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of the folder docs."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """The text of each page by its path in the site."""
    return {
        "reference/cli.md": "\n".join(command_line()),
        "reference/configuration.md": "\n".join(configuration()),
        "reference/python.md": "\n".join(python_interface()),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(),
    }


def command_line() -> Iterator[str]:
    """Lines of the page of commands."""
    import typer

    from cryovae.cli.app import app

    yield "# Command line\n\nAfter this page you know each command and each option. `cryovae COMMAND --help` says the same.\n"
    root = typer.main.get_command(app)
    yield from _rows(
        ("command", "what it does"), [(f"[`{path}`](#{_anchor(path)})", _first(one)) for path, one in _commands(root)]
    )
    for path, command in _commands(root):
        yield f"\n## {path}\n"
        yield "\n\n".join(" ".join(part.split()) for part in _escaped(command.help or "").split("\n\n")) + "\n"
        for panel, options in _by_panel(command).items():
            yield f"\n**{panel}**\n"
            yield from _rows(("option", "default", "what"), [_option(one) for one in options])


def _commands(command: Any, path: str = "cryovae") -> Iterator[tuple[str, Any]]:
    """All commands that do something, with their paths."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        if not one.hidden:
            yield from _commands(one, f"{path} {name}")


def _by_panel(command: Any) -> dict[str, list[Any]]:
    """The options of a command by the group under which its help shows them; arguments come first."""
    panels: dict[str, list[Any]] = {}
    for one in command.params:
        if one.name in COMMON or getattr(one, "hidden", False):
            continue
        kind = "Arguments" if one.param_type_name == "argument" else "Options"
        panels.setdefault(getattr(one, "rich_help_panel", None) or kind, []).append(one)
    return dict(sorted(panels.items(), key=lambda item: item[0] != "Arguments"))


def _option(one: Any) -> tuple[str, str, str]:
    """Names, default and help text of an option."""
    names = [one.name] if one.param_type_name == "argument" else [*one.opts, *one.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names) + (f" {_escaped(one.metavar)}" if getattr(one, "metavar", None) else "")
    value = one.default
    silent = value is None or callable(value) or isinstance(value, bool) or str(value) in ("", "[]", "Sentinel.UNSET")
    return shown, "" if silent else f"`{value}`", _escaped(getattr(one, "help", None) or "")


def _first(command: Any) -> str:
    return _escaped(" ".join((command.help or "").split("\n\n")[0].split()))


def _anchor(path: str) -> str:
    return path.replace(" ", "-")


def configuration() -> Iterator[str]:
    """Lines of the page of settings."""
    from cryovae.config import RunConfig, preset

    yield "# Configuration\n"
    yield "After this page you know each setting of config.toml, of `--set section.key=value`, and of `settings=`.\n"
    yield "Where the presets differ, the values are those of `quick`, `default` and `large`."
    yield "Most need no change: see [Settings](../guide/settings.md)."
    yield "Before the name of a setting stands that of its section, e.g. `--set training.batch=4`.\n"
    presets = [preset(name) for name in PRESETS]
    for section in fields(RunConfig):
        kind = type(getattr(presets[0], section.name))
        yield f"\n## {section.name}\n\n{_summary(kind)}\n"
        described = _attributes(kind)
        rows = []
        for one in fields(kind):
            values = [str(getattr(getattr(config, section.name), one.name)) for config in presets]
            value = values[0] if len(set(values)) == 1 else ", ".join(values)
            rows.append((f"`{one.name}`", f"`{value}`", _escaped(described.get(one.name, ""))))
        yield from _rows(("setting", "value", "what"), rows)


def _summary(kind: type) -> str:
    return _escaped(" ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()))


def _attributes(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, those of its base classes included."""
    known: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        text = (inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]).split("\n\n")[0]
        for match in re.finditer(r"^    (\w+): (.*(?:\n      +.*)*)", text, re.MULTILINE):
            known[match[1]] = " ".join(match[2].split())
    return known


def python_interface() -> Iterator[str]:
    """Lines of the page of functions: each is an instruction for mkdocstrings."""
    import cryovae

    yield "# Python\n\nAfter this page you know each public function and its arguments."
    yield "[The tutorial](../tutorials/python.md) shows them at work.\n"
    functions = [name for name in cryovae.__all__ if name[0].islower()]
    for name in sorted(functions, key=("read_tomogram", "train", "load_model", "restore", "save", "evaluate", "simulate").index):
        yield f"::: cryovae.api.{name}\n"
    for name in ("TiltGeometry", "Tomogram", "Restoration", "Checkpoint", "Assessment", "InputError"):
        yield f"::: {cryovae._TYPES[name]}.{name}\n"


def _rows(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a table."""
    for row in (header, ("---",) * len(header), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([*_`\[\]$])", r"\\\1", html.escape(text, quote=False))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for path, text in pages().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
