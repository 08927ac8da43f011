"""Patches side by side: the three middle slices of each, all on one grey scale."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from cryovae.io.atomic import whole_file
from cryovae.report.pictures import PLANES, middle_slices

matplotlib.use("Agg")

import matplotlib.pyplot as plt

# Patches in a row.
WIDE = 8


def contact_sheet(path: Path, densities: np.ndarray, voxel_size: float, title: str, unit: str) -> None:
    """Write a picture of patches (count, z, y, x), voxel size in angstrom; ``unit`` of the density, beside its bar."""
    count = len(densities)
    wide, blocks = min(count, WIDE), -(-count // WIDE)
    low, high = np.percentile(densities, (0.5, 99.5))
    nm = densities.shape[-1] * voxel_size / 10
    figure, axes = plt.subplots(
        3 * blocks, wide, figsize=(1.6 * wide + 1.6, 4.8 * blocks + 0.8), squeeze=False, constrained_layout=True
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    for number, density in enumerate(densities):
        block, column = divmod(number, WIDE)
        for row, (plane, shown) in enumerate(middle_slices(density).items()):
            axis = axes[3 * block + row, column]
            picture = axis.imshow(shown, cmap="gray", vmin=low, vmax=high, origin="lower", extent=(0, nm, 0, nm))
            if row == 0:
                axis.set_title(str(number), fontsize=9)
            if column == 0:
                axis.set_ylabel(plane)
    figure.colorbar(picture, ax=axes, shrink=0.5, label=unit)
    figure.suptitle(f"{title}\nmiddle slices {', '.join(PLANES)}, {nm:.3g} nm wide", fontsize=10)
    with whole_file(path) as beside:
        figure.savefig(beside, dpi=90)
    plt.close(figure)
