"""Spectra and FSC curves drawn onto axes that somebody else made: the report's, or those of a window.

Without pyplot, which would choose for the whole program where figures are shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryovae.evaluate.fsc import LEVELS
from cryovae.evaluate.plane_power import edge_directions, measured_xz
from cryovae.evaluate.report import Row
from cryovae.tomogram import TiltGeometry

COLOURS = {"measured": "tab:blue", "wedge": "tab:red", "whole": "black", "hidden": "tab:purple"}
STYLES = {"restored": "-", "untouched input": ":", "low-pass and clipping": "--"}


def draw_power(axis: Any, power: np.ndarray, high: float, title: str, tilts: TiltGeometry | None) -> Any:
    """log10 power (k_z, k_x) over four decades under ``high``, with the edges of what was measured; the picture, for a bar."""
    picture = axis.imshow(power, cmap="magma", vmin=high - 4, vmax=high, origin="lower", extent=(-0.5, 0.5, -0.5, 0.5))
    if tilts is not None:
        draw_edges(axis, tilts)
    axis.set(title=title, xlabel="k_x (cycles per voxel)", ylabel="k_z, beam (cycles per voxel)")
    axis.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5))
    return picture


def draw_edges(axis: Any, tilts: TiltGeometry) -> None:
    """Lines at the ends of each run of tilts; for an axis off y, or two axes, the outline of what was measured."""
    directions = edge_directions(tilts)
    if directions is None:
        k, mask = measured_xz(tilts)
        axis.contour(k, k, mask, levels=[0.5], colors="cyan", linewidths=1, linestyles="--")
        return
    for angle, (z, x) in directions.items():
        axis.plot((-x, x), (-z, z), color="cyan", linewidth=1, linestyle="--")
        side = 0.42 / max(abs(x), abs(z))
        box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.6, "pad": 1.5}
        axis.text(side * x, side * z, f"{angle:g}°", color="cyan", fontsize=8, ha="center", va="center", bbox=box)


def draw_halves(axis: Any, rows: Sequence[Row], voxel_size: float, what: str) -> None:
    """FSC curves of some rows, measured part and wedge apart, in a frame."""
    for row in rows:
        kind = row.name.split(":")[0]
        for part in ("measured", "wedge"):
            curve = getattr(row.score, part)
            if np.isfinite(curve.shells).any():
                name, style = f"{kind}, {part}", STYLES.get(kind, "-.")
                axis.plot(curve.frequency / voxel_size, curve.shells, style, color=COLOURS[part], label=name, linewidth=1.3)
    frame_fsc(axis, f"FSC {what}", voxel_size)


def frame_fsc(axis: Any, title: str, voxel_size: float) -> None:
    """Levels, limits, labels; the resolution in angstrom along the top."""
    for level in LEVELS:
        axis.axhline(level, color="gray", linewidth=0.6)
        axis.text(0.5 / voxel_size, level + 0.01, f"{level:g}", color="gray", fontsize=7, ha="right")
    axis.set(xlim=(0, 0.5 / voxel_size), ylim=(-0.2, 1.03), xlabel="spatial frequency (1/Å)", ylabel="correlation (no unit)")
    axis.set_title(title, fontsize=10)
    top = axis.secondary_xaxis("top")
    marks = np.array([0.1, 0.2, 0.3, 0.4, 0.5]) / voxel_size
    top.set_xticks(marks, [f"{1 / mark:.3g}" for mark in marks])
    top.set_xlabel("resolution (Å)", fontsize=8)
    top.tick_params(labelsize=8)
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=2)
