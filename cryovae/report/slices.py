"""The pictures of a report: orthoslices before, after and std at one contrast, and xz power spectra with the wedge drawn."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from cryovae.evaluate.plane_power import log_power_xz
from cryovae.report.contents import Contents
from cryovae.report.pictures import middle_slices
from cryovae.report.plots import draw_power

SIDE, LABELS, TALLEST = 3.2, 0.65, 1.3


def orthoslices(contents: Contents) -> Any:
    """Rows xy, xz, yz; columns input, restored, standard deviation. Input and restored have one grey scale for all slices."""
    shown = [("input", contents.before), ("restored", contents.after), ("standard deviation", contents.std)]
    columns = [(name, _planes(density)) for name, density in shown if density is not None]
    heights = [SIDE * pixels.shape[0] / pixels.shape[1] for pixels in columns[0][1].values()]
    figure, axes = plt.subplots(
        3, len(columns), figsize=((SIDE + LABELS) * len(columns), sum(heights) + 2.3), height_ratios=heights,
        squeeze=False, layout="compressed",
    )  # fmt: skip
    grey = _contrast(contents)
    for column, (name, planes) in zip(axes.T, columns, strict=True):
        spread = contents.std if name == "standard deviation" else None
        limits = grey if spread is None else (0.0, float(np.percentile(_pixels(spread), 99.7)) or 1.0)
        for axis, (plane, pixels) in zip(column, planes.items(), strict=True):
            picture = _slice(axis, pixels, plane, contents.voxel_size / 10, "gray" if spread is None else "viridis", limits)
            axis.set_title(f"{name}, {plane}", fontsize=10)
        label = "density (grey values)" if spread is None else "std (grey values)"
        figure.colorbar(picture, ax=column, location="bottom", shrink=0.85, aspect=40, label=label)
    return figure


def _planes(density: np.ndarray) -> dict[str, np.ndarray]:
    """Middle slices by the axes that they show; a tall xy is laid on its side, or it would leave no room for the others."""
    planes = middle_slices(density)
    if density.shape[1] <= TALLEST * density.shape[2]:
        return planes
    return {"yx": planes["xy"].T, "xz": planes["xz"], "yz": planes["yz"]}


def _slice(axis: Any, pixels: np.ndarray, plane: str, nm: float, colours: str, limits: tuple[float, float]) -> Any:
    extent = (0, pixels.shape[1] * nm, 0, pixels.shape[0] * nm)
    picture = axis.imshow(pixels, cmap=colours, vmin=limits[0], vmax=limits[1], origin="lower", extent=extent)
    axis.set(xlabel=f"{plane[0]} (nm)", ylabel=f"{plane[1]} (nm)")
    _scale_bar(axis, extent[1], extent[3])
    return picture


def _contrast(contents: Contents) -> tuple[float, float]:
    """One range for all: that of the restored, widened to two standard deviations of the input, so that neither is lost."""
    low, high = np.percentile(_pixels(contents.after), (0.3, 99.7))
    if contents.before is None:
        return float(low), float(high)
    before = _pixels(contents.before)
    middle, width = float(before.mean()), 2 * float(before.std())
    return min(float(low), middle - width), max(float(high), middle + width)


def _pixels(density: np.ndarray) -> np.ndarray:
    return np.concatenate([s.ravel() for s in middle_slices(density).values()]).astype(np.float32)


def _scale_bar(axis: Any, width: float, height: float) -> None:
    """A bar of a round length, about a fifth of the width, in nm."""
    decade = 10 ** np.floor(np.log10(width / 5))
    length = float(decade * max(step for step in (1, 2, 5) if step * decade <= width / 5))
    left, bottom = 0.05 * width, 0.06 * height
    box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.55, "pad": 1.5}
    axis.plot((left, left + length), (bottom, bottom), color="white", linewidth=3, solid_capstyle="butt")
    axis.text(left, bottom + 0.025 * height, f"{length:g} nm", color="white", fontsize=8, va="bottom", bbox=box)


def spectra(contents: Contents) -> Any:
    """log10 power in the k_z-k_x plane before and after, on one scale, with the edges of what was measured as lines."""
    shown = [("input", contents.before), ("restored", contents.after)]
    found = [(name, log_power_xz(density)) for name, density in shown if density is not None]
    high = max(float(np.percentile(power, 99.9)) for _, power in found)
    figure, axes = plt.subplots(1, len(found), figsize=(4.6 * len(found) + 1, 4.6), squeeze=False, constrained_layout=True)
    for axis, (name, power) in zip(axes[0], found, strict=True):
        picture = draw_power(axis, power, high, f"power, {name}", contents.tilts)
    figure.colorbar(picture, ax=axes, shrink=0.85, label="log10 power (grey values squared)")
    return figure
