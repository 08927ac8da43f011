"""The command line: one application, the commands of ``commands/``. Nothing imports torch before a command needs it."""

from __future__ import annotations

from typing import Annotated

import typer

from cryovae import __version__
from cryovae.interfaces.commands.batch import app as batch
from cryovae.interfaces.commands.diagnose import diagnose
from cryovae.interfaces.commands.evaluate import evaluate
from cryovae.interfaces.commands.info import info
from cryovae.interfaces.commands.mask import mask
from cryovae.interfaces.commands.reporting import reported
from cryovae.interfaces.commands.restore import restore
from cryovae.interfaces.commands.sample import sample
from cryovae.interfaces.commands.simulate import simulate
from cryovae.interfaces.commands.star import import_table
from cryovae.interfaces.commands.train import train
from cryovae.interfaces.commands.view import view
from cryovae.interfaces.together import together

app = typer.Typer(
    name="cryovae",
    help="Restore cryo-electron tomograms: fill the missing wedge, remove noise, and say how sure the result is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _version(value: bool) -> None:
    if value:
        print(f"cryovae {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Restore cryo-electron tomograms."""


for command in (together(restore), together(train), evaluate, diagnose, sample, simulate, info, mask, view):
    app.command()(reported(command))

star = typer.Typer(name="star", help="Tables of tomograms, STAR files.", no_args_is_help=True, pretty_exceptions_enable=False)
star.callback()(lambda: None)
star.command("import")(reported(import_table))
app.add_typer(star)
app.add_typer(batch)
