"""Drawing of power spectra and FSC curves on matplotlib axes, for the report and for windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryovae.evaluation.assessment import Row
from cryovae.evaluation.fsc import LEVELS
from cryovae.evaluation.plane_power import edge_directions, measured_xz
from cryovae.tomogram import TiltGeometry

COLOURS = {"measured": "tab:blue", "wedge": "tab:red", "volume": "black", "held-out": "tab:purple"}
STYLES = {"restored": "-", "untouched input": ":", "low-pass and clipping": "--"}


def draw_power(axis: Any, power: np.ndarray, high: float, title: str, tilts: TiltGeometry | None) -> Any:
    """Draw log10 power with the edges of the measured part.

    Args:
        axis: Axes of matplotlib.
        power: log10 of the power (k_z, k_x).
        high: Upper limit of the colour scale, which spans four decades.
        title: Title of the axes.
        tilts: Measured tilts; None to draw no edges.

    Returns:
        Image, for a colour bar.
    """
    picture = axis.imshow(power, cmap="magma", vmin=high - 4, vmax=high, origin="lower", extent=(-0.5, 0.5, -0.5, 0.5))
    if tilts is not None:
        draw_edges(axis, tilts)
    axis.set(title=title, xlabel="k_x (cycles per voxel)", ylabel="k_z, beam (cycles per voxel)")
    axis.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5))
    return picture


def draw_edges(axis: Any, tilts: TiltGeometry) -> None:
    """Draw the edges of the measured part: lines, or a contour where ``edge_directions`` gives no lines."""
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
    """Draw the FSC of the measured part and of the wedge, with two standard errors where they are known.

    Args:
        axis: Axes of matplotlib.
        rows: Scores to draw.
        voxel_size: Voxel size, in angstrom.
        what: End of the title, after 'FSC'.
    """
    for row in rows:
        for part in ("measured", "wedge"):
            curve = getattr(row.score, part)
            if np.isfinite(curve.shells).any():
                label, style = f"{row.name}, {part}", STYLES.get(row.name, "-.")
                axis.plot(curve.frequency / voxel_size, curve.shells, style, color=COLOURS[part], label=label, linewidth=1.3)
                if curve.shell_errors is not None:
                    low, high = curve.shells - 2 * curve.shell_errors, curve.shells + 2 * curve.shell_errors
                    axis.fill_between(curve.frequency / voxel_size, low, high, color=COLOURS[part], alpha=0.12, linewidth=0)
    frame_fsc(axis, f"FSC {what}", voxel_size)


def frame_fsc(axis: Any, title: str, voxel_size: float) -> None:
    """Set levels, limits and labels of an FSC plot, with the resolution in angstrom along the top."""
    for level in LEVELS:
        axis.axhline(level, color="gray", linewidth=0.6)
        axis.text(0.5 / voxel_size, level + 0.01, f"{level:g}", color="gray", fontsize=7, ha="right")
    axis.set(xlim=(0, 0.5 / voxel_size), ylim=(-0.5, 1.03), xlabel="spatial frequency (1/Å)", ylabel="correlation (no unit)")
    axis.set_title(title, fontsize=10)
    top = axis.secondary_xaxis("top")
    marks = np.array([0.1, 0.2, 0.3, 0.4, 0.5]) / voxel_size
    top.set_xticks(marks, [f"{1 / mark:.3g}" for mark in marks])
    top.set_xlabel("resolution (Å)", fontsize=8)
    top.tick_params(labelsize=8)
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=2)
