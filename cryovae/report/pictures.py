"""Pictures saved with the results of a run: slices and spectra, training curves, and a sheet of patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cryovae.io.atomic import whole_file
from cryovae.report.curves import training
from cryovae.report.figure import PlainFigure
from cryovae.report.slices import PLANES, draw_slice, draw_spectra, middle_slices, middle_values

# Number of patches in a row of a sheet.
SHEET_COLUMNS = 8


def preview(path: Path, before: np.ndarray, after: np.ndarray, std: np.ndarray | None, voxel_size: float, title: str) -> None:
    """Write slices xy, xz, yz of input, restored mean and standard deviation, and xz power spectra.

    Args:
        path: PNG file.
        before: Input (z, y, x).
        after: Restored mean (z, y, x).
        std: Its standard deviation (z, y, x), or None.
        voxel_size: Voxel size, in angstrom.
        title: Line above the slices.
    """
    rows = [("input", before, "gray"), ("restored mean", after, "gray")]
    rows += [] if std is None else [("standard deviation", std, "viridis")]
    figure = PlainFigure(figsize=(13, 3.75 * (len(rows) + 1)), layout="constrained")
    axes = figure.subplots(len(rows) + 1, 3)
    for row, (name, density, colours) in zip(axes, rows, strict=False):
        low, high = np.percentile(middle_values(density), (0.5, 99.5))
        for axis, (plane, pixels) in zip(row, middle_slices(density).items(), strict=True):
            picture = draw_slice(axis, pixels, plane, voxel_size / 10, colours, (low, high))
            axis.set_title(f"{name}, {plane}")
        figure.colorbar(picture, ax=row, shrink=0.7)
    draw_spectra(figure, axes[-1, :2], {"input": before, "restored mean": after}, None)
    axes[-1, 2].axis("off")
    figure.suptitle(title)
    save_figure(path, figure)


def loss_plot(path: Path, rows: list[dict[str, str]]) -> None:
    """Write a plot of the terms of the bound, or of the loss, as functions of the step, from rows of metrics.csv."""
    save_figure(path, training(rows) or PlainFigure())


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
