"""Options: a field of a dataclass declares an option of the command line, its help text and the settings that it changes.

A group is such a dataclass. Groups may hold groups. The command line, the jobs of a batch and Python callers share them.
To add an option, add a field to a group: ``name: type = option("Help text.", ...)``. ``panel`` of the group, or of the option, is
the part of the help that shows it; ``common=True`` shows it in the short help too, by its first sentence. Nothing here imports
torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
# The parts of the help of the commands that train and restore, in their order.
PANELS = INPUT, GEOMETRY, TRAINING, RESTORATION, OUTPUT, ADVANCED = (
    "Input",
    "Geometry",
    "Training",
    "Restoration",
    "Output",
    "Advanced",
)


@dataclass(frozen=True)
class Option:
    """What an option says of itself.

    Attributes:
        help: the help text.
        names: spellings, e.g. ``--output`` and ``-o``; empty for ``--`` and the name of the field.
        keys: settings that the option changes, each as ``section.key`` of ``RunConfig``.
        metavar: stands for the values in the help text.
        positional: whether it is an argument without a name.
        panel: the part of the help that shows it, over that of its group; one of ``PANELS`` for training and restoring.
        common: whether the short help shows it; the others are shown by --help-all.
        shown: what stands for the default in the help, where it depends on other options.
    """

    help: str
    names: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    metavar: str | None = None
    positional: bool = False
    panel: str | None = None
    common: bool = False
    shown: str | None = None


@dataclass(frozen=True)
class Selection:
    """A selection of the options of a group: those of ``names``, or all except those."""

    names: frozenset[str] = frozenset()
    excluded: bool = True

    def __contains__(self, name: str) -> bool:
        return (name in self.names) != self.excluded


ALL = Selection()


def only(*names: str) -> Selection:
    """Select the options of these names."""
    return Selection(frozenset(names), excluded=False)


def without(*names: str) -> Selection:
    """Select all options but those of these names."""
    return Selection(frozenset(names))


def option(
    text: str,
    *names: str,
    default: Any = None,
    keys: tuple[str, ...] = (),
    metavar: str | None = None,
    panel: str | None = None,
    common: bool = False,
    shown: str | None = None,
) -> Any:
    """Declare an option as a field of a group. Arguments as for ``Option``."""
    about = Option(text, names, keys, metavar, panel=panel, common=common, shown=shown)
    return field(default=default, metadata={"option": about})


def argument(text: str, default: Any = MISSING) -> Any:
    """Declare a positional argument as a field of a group; it is required without a default."""
    return field(default=default, metadata={"option": Option(text, positional=True, common=True)})


def output_option(default: str) -> Any:
    """Declare the folder for the results."""
    return option("Folder for the results.", "--output", "-o", default=Path(default), panel=OUTPUT, common=True)


@dataclass(frozen=True)
class OptionField:
    """An option with the name, type, default (or MISSING) and group of its field."""

    name: str
    type: Any
    default: Any
    option: Option
    group: type


def group_of(hint: Any) -> tuple[Any, Selection]:
    """The type of a type hint without its annotations, and the selection among them."""
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return kind, next((note for note in notes if isinstance(note, Selection)), ALL)


def options_in(group: type, selection: Selection = ALL) -> Iterator[OptionField]:
    """The selected options of a group, and those of the groups within it."""
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        kind, inner = group_of(hints[one.name])
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from (f for f in options_in(kind, inner) if f.name in selection)
        elif one.name in selection:
            yield OptionField(one.name, kind, one.default, one.metadata["option"], group)


def from_options(group: type[T], values: Mapping[str, Any]) -> T:
    """Make a group from the values of its options by name; an option that is not among them has its default."""
    parts: dict[str, Any] = {}
    for name, hint in get_type_hints(group, include_extras=True).items():
        kind, _ = group_of(hint)
        if is_dataclass(kind):
            assert isinstance(kind, type)
            parts[name] = from_options(kind, values)
        elif name in values:
            parts[name] = values[name]
    return group(**parts)
