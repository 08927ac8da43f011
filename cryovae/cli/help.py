"""Help in two lengths: the short one shows common options by the first sentence of their help, --help-all shows everything.

Which option is common, and in which part of the help it stands, is declared with it (``workflows.options``).
"""

from __future__ import annotations

import copy
import re
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cryovae.workflows.options import ADVANCED

# Names of the common options of a command, as an attribute of the function that it calls.
COMMON = "common_options"
SENTENCE = re.compile(r"(.+?[^.]\.)(?=\s|$)", re.DOTALL)


class TwoLengths(TyperCommand):
    """A command whose --help shows its common options alone."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the short help, or all of it after --help-all."""
        if ctx.meta.get("all_help"):
            super().format_help(ctx, formatter)
            return
        params, text = self.params, self.help
        self.params, self.help = short(self), text and text.split("\n\n")[0]
        try:
            super().format_help(ctx, formatter)
        finally:
            self.params, self.help = params, text

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, among the last."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel, option.metavar = ADVANCED, ""
        return option


def short(command: Any) -> list[Any]:
    """The common options of a command, each with the first sentence of its help."""
    common: frozenset[str] = getattr(command.callback, COMMON, frozenset())
    params = []
    for param in command.params:
        if param.name in common:
            param = copy.copy(param)
            sentence = SENTENCE.match(param.help or "")
            param.help = param.help if sentence is None else sentence[1]
            params.append(param)
    return params


def _show_all(ctx: typer.Context, value: bool) -> None:
    if value:
        ctx.meta["all_help"] = True
        ctx.get_help()
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all", callback=_show_all, is_eager=True, metavar="", help="Show all options and exit.", rich_help_panel=ADVANCED
    ),
]
