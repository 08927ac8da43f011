"""The command line: one application with a module for each command. Nothing imports torch before a command needs it.

Options are declared once, as fields of the dataclasses in ``workflows`` (``workflows.options``); ``cli.groups`` expands them for
typer. Typer was kept after a trial of cyclopts, which takes dataclasses as they are: import time and help are alike, but cyclopts
adds five dependencies, gives every argument a ``--name`` and every list and flag an opposite unless told otherwise, and needs a
handler of its own for errors; the expansion for typer is sixty lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from cryovae import __version__
from cryovae.cli.batch import app as batch
from cryovae.cli.demo import demo
from cryovae.cli.diagnose import diagnose
from cryovae.cli.distributed_command import distributed_command
from cryovae.cli.evaluate import evaluate
from cryovae.cli.groups import grouped
from cryovae.cli.info import info
from cryovae.cli.mask import mask
from cryovae.cli.metadata import metadata
from cryovae.cli.pretrain import pretrain
from cryovae.cli.reporting import reported
from cryovae.cli.restore import restore
from cryovae.cli.root import Root
from cryovae.cli.sample import sample
from cryovae.cli.simulate import simulate
from cryovae.cli.star import import_table
from cryovae.cli.train import train
from cryovae.cli.view import view

app = typer.Typer(
    name="cryovae",
    cls=Root,
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


for command in (restore, train):
    app.command()(reported(distributed_command(grouped(command))))
ALONE: tuple[Callable[..., None], ...] = (evaluate, diagnose, sample, simulate, pretrain, info, mask, metadata, view, demo)
for alone in ALONE:
    app.command()(reported(grouped(alone)))

star = typer.Typer(name="star", help="Tables of tomograms, STAR files.", no_args_is_help=True, pretty_exceptions_enable=False)
star.callback()(lambda: None)
star.command("import")(reported(grouped(import_table)))
app.add_typer(star)
app.add_typer(batch)
