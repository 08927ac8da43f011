"""Pictures saved with the results of a run: slices and spectra, training curves, and a sheet of patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cryovae.io.atomic import whole_file
from cryovae.report.contents import Contents
from cryovae.report.curves import training
from cryovae.report.figure import PlainFigure
from cryovae.report.slices import PLANES, middle_slices, overview

# Number of patches in a row of a sheet.
SHEET_COLUMNS = 8


def preview(path: Path, contents: Contents, title: str) -> None:
    """Write the slices and the spectra that the report begins with, as one PNG file with a title."""
    save_figure(path, overview(contents, title))


def loss_plot(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a plot of the terms of the bound, or of the loss, by step, from rows of metrics.csv; nothing without any."""
    figure = training(rows)
    if figure is not None:
        save_figure(path, figure)


def contact_sheet(path: Path, densities: np.ndarray, voxel_size: float, title: str, unit: str) -> None:
    """Write the three central slices of each patch, all on the same grey scale.

    Args:
        path: PNG file.
        densities: Patches (count, z, y, x).
        voxel_size: Voxel size, in angstrom.
        title: Line above the patches.
        unit: Unit of the density, the label of the colour bar.
    """
    columns, blocks = min(len(densities), SHEET_COLUMNS), -(-len(densities) // SHEET_COLUMNS)
    low, high = np.percentile(densities, (0.5, 99.5))
    nm = densities.shape[-1] * voxel_size / 10
    figure = PlainFigure(figsize=(1.6 * columns + 1.6, 4.8 * blocks + 0.8), layout="constrained")
    axes = figure.subplots(3 * blocks, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    for number, density in enumerate(densities):
        block, column = divmod(number, SHEET_COLUMNS)
        for row, (plane, pixels) in enumerate(middle_slices(density).items()):
            axis = axes[3 * block + row, column]
            picture = axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, origin="lower", extent=(0, nm, 0, nm))
            if row == 0:
                axis.set_title(str(number), fontsize=9)
            if column == 0:
                axis.set_ylabel(plane)
    figure.colorbar(picture, ax=axes, shrink=0.5, label=unit)
    figure.suptitle(f"{title}\nmiddle slices {', '.join(PLANES)}, {nm:.3g} nm wide", fontsize=10)
    save_figure(path, figure, dpi=90)


def save_figure(path: Path, figure: Figure, dpi: int = 80) -> None:
    """Write a figure to a PNG file, atomically."""
    with whole_file(path) as beside:
        # A tight box is needed: with a colour bar over two panels the layout leaves no room for the label at the left.
        figure.savefig(beside, dpi=dpi, bbox_inches="tight")
