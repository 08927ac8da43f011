"""A sheet of draws of the posterior of one patch: what was observed, their mean, some of them, and the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure
from cryovae.report.slices import PLANES, middle_slices, middle_values

# Draws on a sheet at most, and the width of a slice in inches.
MOST_SHOWN, WIDTH = 6, 1.9
Limits = tuple[float, float]


def posterior_sheet(
    path: Path, observed: np.ndarray, mean: np.ndarray, samples: np.ndarray, voxel_size: float, title: str
) -> None:
    """Write the central slices of a patch and of its draws, and the first draw less the second.

    Args:
        path: PNG file.
        observed: the patch of the tomogram, (z, y, x).
        mean: mean of all draws, (z, y, x).
        samples: draws, at least two, (n, z, y, x).
        voxel_size: in angstrom.
        title: line above the slices.
    """
    shown = samples[:MOST_SHOWN]
    difference = samples[0] - samples[1]
    drawn = _limits(np.concatenate([middle_values(density) for density in (mean, *shown)]))
    largest = float(np.percentile(np.abs(middle_values(difference)), 99.5)) or 1.0
    # Columns with one scale of colours: names, densities, limits, colours, and the label of their bar.
    groups: list[tuple[Sequence[str], Sequence[np.ndarray], Limits, str, str]] = [
        (["observed"], [observed], _limits(middle_values(observed)), "gray", "grey levels"),
        (["mean", *(f"sample {i}" for i in range(len(shown)))], [mean, *shown], drawn, "gray", "grey levels"),
        (["sample 0 - sample 1"], [difference], (-largest, largest), "RdBu_r", "difference"),
    ]
    columns = len(shown) + 3
    nm = observed.shape[-1] * voxel_size / 10
    figure = PlainFigure(figsize=(WIDTH * columns, 3 * WIDTH + 1.6), layout="constrained")
    axes = figure.subplots(3, columns, squeeze=False)
    start = 0
    for names, densities, limits, colours, label in groups:
        part = axes[:, start : start + len(names)]
        for column, (name, density) in enumerate(zip(names, densities, strict=True)):
            picture = _draw_column(part[:, column], density, nm, limits, colours)
            part[0, column].set_title(name, fontsize=9)
        figure.colorbar(picture, ax=part, location="bottom", aspect=30 if len(names) > 1 else 12, label=label)
        start += len(names)
    for axis, plane in zip(axes[:, 0], PLANES, strict=True):
        axis.set_ylabel(plane)
    figure.suptitle(f"{title}\nmiddle slices {', '.join(PLANES)}, {nm:.3g} nm wide", fontsize=10)
    save_figure(path, figure, dpi=90)


def _limits(values: np.ndarray) -> Limits:
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)


def _draw_column(axes: np.ndarray, density: np.ndarray, nm: float, limits: Limits, colours: str) -> Any:
    """Draw the three slices of a density below each other; returns a picture for a colour bar."""
    for axis, pixels in zip(axes, middle_slices(density).values(), strict=True):
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
        picture = axis.imshow(pixels, cmap=colours, vmin=limits[0], vmax=limits[1], origin="lower", extent=(0, nm, 0, nm))
    return picture
