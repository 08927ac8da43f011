"""cryovae view."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cryovae.errors import InputError


def view(
    run: Annotated[Path, typer.Argument(help="The folder of a run of cryovae restore, or a tomogram.")],
) -> None:
    """Open a run in napari, its input, mean, std and samples, to compare them and see the uncertainty; or a tomogram."""
    if find_spec("napari") is None:
        raise InputError('napari is not installed, expected for cryovae view: pip install "cryovae[napari]"')
    from cryovae.napari_plugin.opening import RUN_WIDGETS, VOLUME_WIDGETS, layers_at, opened

    layers = layers_at(run)
    from napari import run as until_closed

    viewer = opened(layers, f"cryovae: {run}", RUN_WIDGETS if (run / "run.json").is_file() else VOLUME_WIDGETS)
    until_closed()
    del viewer
