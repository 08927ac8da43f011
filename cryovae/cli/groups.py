"""Commands that take groups of options: typer sees each option of a group as a parameter of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from cryovae.workflows.options import OptionField, from_options, group_of, options_in


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter that is a group (``workflows.options``) by the options of the group."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, selection = group_of(hints[name])
        if is_dataclass(kind):
            assert isinstance(kind, type)
            groups[name] = kind
            parameters += [_parameter(one) for one in options_in(kind, selection)]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @wraps(command)
    def run(**values: Any) -> None:
        own = {name: value for name, value in values.items() if name in hints}
        command(**own, **{name: from_options(group, values) for name, group in groups.items()})

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameter(one: OptionField) -> inspect.Parameter:
    option, panel = one.option, getattr(one.group, "panel", None)
    info: Any
    if option.positional:
        info = typer.Argument(help=option.help, rich_help_panel=panel)
    else:
        info = typer.Option(*option.names, help=option.help, metavar=option.metavar, rich_help_panel=panel)
    default = inspect.Parameter.empty if one.default is MISSING else one.default
    return inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[one.type, info])
