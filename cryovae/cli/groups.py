"""Commands that take groups of options: typer sees each option of a group as a parameter of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from cryovae.cli.help import COMMON, HelpAll
from cryovae.workflows.options import ADVANCED, PANELS, OptionField, from_options, group_of, options_in

METAVARS: dict[Any, str] = {Path: "FILE", int: "N", float: "X", bool: ""}


def grouped(command: Callable[..., None], two_lengths: bool = False) -> Callable[..., None]:
    """Replace each parameter that is a group (``workflows.options``) by the options of the group.

    Args:
        command: the function of a command.
        two_lengths: whether the options are shown in the order of ``PANELS``, by a short help and by --help-all (cli/help.py).
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    common: set[str] = set()
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, selection = group_of(hints[name])
        if is_dataclass(kind):
            assert isinstance(kind, type)
            groups[name] = kind
            options = list(options_in(kind, selection))
            parameters += [_parameter(one) for one in options]
            common |= {one.name for one in options if one.option.common}
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    if two_lengths:
        parameters.append(inspect.Parameter("help_all", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=HelpAll))
        parameters.sort(key=_place)
        common.add("help_all")

    @wraps(command)
    def run(**values: Any) -> None:
        own = {name: value for name, value in values.items() if name in hints}
        command(**own, **{name: from_options(group, values) for name, group in groups.items()})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    setattr(run, COMMON, frozenset(common))
    return run


def _place(parameter: inspect.Parameter) -> int:
    """Where the part of the help stands that shows a parameter: arguments first."""
    info = parameter.annotation.__metadata__[0]
    if not isinstance(info, typer.models.OptionInfo):
        return -1
    panel = info.rich_help_panel or ADVANCED
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def _metavar(one: OptionField) -> str | None:
    """What stands for the value of an option in the help."""
    kinds = [one.type, *(kind for kind in get_args(one.type) if kind is not type(None))]
    kinds += [kind for outer in kinds for kind in get_args(outer)]
    return one.option.metavar or next((METAVARS[kind] for kind in kinds if kind in METAVARS), None)


def _parameter(one: OptionField) -> inspect.Parameter:
    option = one.option
    panel = option.panel or getattr(one.group, "panel", None)
    info: Any
    if option.positional:
        info = typer.Argument(help=option.help, rich_help_panel=panel)
    else:
        shown: Any = True if option.shown is None else option.shown
        info = typer.Option(*option.names, help=option.help, metavar=_metavar(one), rich_help_panel=panel, show_default=shown)
    default = inspect.Parameter.empty if one.default is MISSING else one.default
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[one.type, info])
