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
from cryovae.cli.config import config
from cryovae.cli.demo import demo
from cryovae.cli.diagnose import diagnose
from cryovae.cli.distributed_command import distributed_command
from cryovae.cli.evaluate import evaluate
from cryovae.cli.groups import grouped
from cryovae.cli.help import TwoLengths
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
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
GREETING = """cryovae restores cryo-electron tomograms: it fills the missing wedge, removes noise, and says how sure it is.

One volume:          cryovae restore ts_01.mrc --tilts ts_01.tlt -o restored/
Two halves, better:  cryovae restore --half1 ts_01_EVN.mrc --half2 ts_01_ODD.mrc --tilts ts_01.tlt -o restored/
A table of many:     cryovae restore tomograms.star -o restored/

Try a command with --dry-run first: it says how long it takes, and writes nothing.
Read on: cryovae restore --help, cryovae --help for all commands, cryovae config for all settings, and README.md."""


def _version(value: bool) -> None:
    if value:
        print(f"cryovae {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Restore cryo-electron tomograms."""
    if ctx.invoked_subcommand is None:
        print(GREETING)


for command in (restore, train):
    app.command(cls=TwoLengths)(reported(distributed_command(grouped(command, two_lengths=True))))
ALONE: tuple[Callable[..., None], ...] = (
    evaluate,
    diagnose,
    sample,
    simulate,
    pretrain,
    info,
    mask,
    metadata,
    view,
    demo,
    config,
)
for alone in ALONE:
    app.command()(reported(grouped(alone)))

star = typer.Typer(name="star", help="Tables of tomograms, STAR files.", no_args_is_help=True, pretty_exceptions_enable=False)
star.callback()(lambda: None)
star.command("import")(reported(grouped(import_table)))
app.add_typer(star)
app.add_typer(batch)
