"""Images of a report: slices of input, restored density and standard deviation, and power spectra with the wedge edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cryovae.evaluation.plane_power import log_power_xz
from cryovae.report.contents import Contents, PatchesBeside
from cryovae.report.figure import PlainFigure
from cryovae.report.plots import draw_power
from cryovae.tomogram import TiltGeometry

PLANES = ("xy", "xz", "yz")
# Width of a slice and of its labels, in inches. An xy slice higher than MAX_HEIGHT times its width is transposed.
SIDE, LABELS, MAX_HEIGHT = 3.2, 0.65, 1.3


def middle_slices(density: np.ndarray) -> dict[str, np.ndarray]:
    """The three central slices of a (z, y, x) density, by plane; the beam points up in xz and yz."""
    nz, ny, nx = density.shape
    return {"xy": density[nz // 2], "xz": density[:, ny // 2], "yz": density[:, :, nx // 2]}


def middle_values(density: np.ndarray) -> np.ndarray:
    """All values of the three central slices."""
    return np.concatenate([pixels.ravel() for pixels in middle_slices(density).values()]).astype(np.float32)


def draw_slice(axis: Any, pixels: np.ndarray, plane: str, nm: float, colours: str, limits: tuple[float, float]) -> Any:
    """Draw a slice with axes in nanometres and a scale bar.

    Args:
        axis: Axes of matplotlib.
        pixels: Slice (rows, columns).
        plane: Plane of the slice, e.g. 'xy': the horizontal axis, then the vertical one.
        nm: Voxel size, in nanometres.
        colours: Colour map.
        limits: Lowest and highest value shown.

    Returns:
        Image, for a colour bar.
    """
    extent = (0, pixels.shape[1] * nm, 0, pixels.shape[0] * nm)
    picture = axis.imshow(pixels, cmap=colours, vmin=limits[0], vmax=limits[1], origin="lower", extent=extent)
    axis.set(xlabel=f"{plane[0]} (nm)", ylabel=f"{plane[1]} (nm)")
    _scale_bar(axis, extent[1], extent[3])
    return picture


def _scale_bar(axis: Any, width: float, height: float) -> None:
    """Draw a bar of a round length, at most a fifth of the width; both in nm."""
    decade = 10 ** np.floor(np.log10(width / 5))
    length = float(decade * max(step for step in (1, 2, 5) if step * decade <= width / 5))
    left, bottom = 0.05 * width, 0.06 * height
    box = {"facecolor": "black", "edgecolor": "none", "alpha": 0.55, "pad": 1.5}
    axis.plot((left, left + length), (bottom, bottom), color="white", linewidth=3, solid_capstyle="butt")
    axis.text(left, bottom + 0.025 * height, f"{length:g} nm", color="white", fontsize=8, va="bottom", bbox=box)


def orthoslices(contents: Contents) -> Figure:
    """Slices xy, xz, yz in rows; input, restored density, standard deviation in columns. The densities share one grey scale."""
    width, height = _size(contents)
    figure = PlainFigure(figsize=(width, height), layout="compressed")
    _draw_orthoslices(figure, contents)
    return figure


def overview(contents: Contents, title: str) -> Figure:
    """The slices of ``orthoslices`` and the spectra of ``spectra`` below them, in one figure with a title."""
    width, height = _size(contents)
    width = max(width, 9.0)
    figure = PlainFigure(figsize=(width, height + 5.0), layout="constrained")
    above, below = np.ravel(figure.subfigures(2, 1, squeeze=False, height_ratios=(height, 4.4)))
    _draw_orthoslices(above, contents)
    shown = _before_and_after(contents)
    draw_spectra(below, below.subplots(1, len(shown), squeeze=False)[0], shown, contents.tilts)
    figure.suptitle(title)
    return figure


def _columns(contents: Contents) -> dict[str, np.ndarray]:
    densities = {"input": contents.before, "restored": contents.after, "standard deviation": contents.std}
    return {name: density for name, density in densities.items() if density is not None}


def _before_and_after(contents: Contents) -> dict[str, np.ndarray]:
    return {name: density for name, density in _columns(contents).items() if name != "standard deviation"}


def _heights(contents: Contents) -> list[float]:
    return [SIDE * pixels.shape[0] / pixels.shape[1] for pixels in _planes(contents.after).values()]


def _size(contents: Contents) -> tuple[float, float]:
    """Width and height of the slices in inches."""
    return (SIDE + LABELS) * len(_columns(contents)), sum(_heights(contents)) + 2.3


def _draw_orthoslices(figure: Any, contents: Contents) -> None:
    columns, heights = _columns(contents), _heights(contents)
    axes = figure.subplots(3, len(columns), height_ratios=heights, squeeze=False)
    for column, (name, density) in zip(axes.T, columns.items(), strict=True):
        colours, limits, label = "gray", _grey_range(contents), "density (grey values)"
        if name == "standard deviation":
            limits = (0.0, float(np.percentile(middle_values(density), 99.7)) or 1.0)
            colours, label = "viridis", "std (grey values)"
        for axis, (plane, pixels) in zip(column, _planes(density).items(), strict=True):
            picture = draw_slice(axis, pixels, plane, contents.voxel_size / 10, colours, limits)
            axis.set_title(f"{name}, {plane}", fontsize=10)
        figure.colorbar(picture, ax=column, location="bottom", shrink=0.85, aspect=40, label=label)


def _planes(density: np.ndarray) -> dict[str, np.ndarray]:
    """The central slices, with a high xy slice transposed to yx."""
    planes = middle_slices(density)
    if density.shape[1] <= MAX_HEIGHT * density.shape[2]:
        return planes
    return {"yx": planes["xy"].T, "xz": planes["xz"], "yz": planes["yz"]}


def _grey_range(contents: Contents) -> tuple[float, float]:
    """Range of the restored density, extended to two standard deviations of the input about its mean, to show both."""
    low, high = np.percentile(middle_values(contents.after), (0.3, 99.7))
    if contents.before is None:
        return float(low), float(high)
    before = middle_values(contents.before)
    middle, width = float(before.mean()), 2 * float(before.std())
    return min(float(low), middle - width), max(float(high), middle + width)


def spectra(contents: Contents) -> Figure:
    """log10 power in the k_z-k_x plane before and after restoration, on one scale, with the edges of the measured part."""
    shown = _before_and_after(contents)
    figure = PlainFigure(figsize=(4.6 * len(shown) + 1, 4.6), layout="constrained")
    draw_spectra(figure, figure.subplots(1, len(shown), squeeze=False)[0], shown, contents.tilts)
    return figure


def draw_spectra(figure: Any, axes: Any, densities: Mapping[str, np.ndarray], tilts: TiltGeometry | None) -> None:
    """Draw the power spectra of named densities side by side on one scale, with a colour bar."""
    powers = {name: log_power_xz(density) for name, density in densities.items()}
    high = max(float(np.percentile(power, 99.9)) for power in powers.values())
    for axis, (name, power) in zip(axes, powers.items(), strict=True):
        picture = draw_power(axis, power, high, f"power, {name}", tilts)
    figure.colorbar(picture, ax=list(axes), shrink=0.85, label="log10 power (grey values squared)")


def beside(parts: PatchesBeside) -> Figure:
    """Middle slices of patches of the restored density, and of draws of the generative model below, on one grey scale."""
    columns = len(parts.patches)
    figure = PlainFigure(figsize=(1.3 * columns, 3.0), layout="constrained")
    low, high = np.percentile(parts.patches, (0.5, 99.5))
    for row, (name, slices) in zip(
        figure.subplots(2, columns), (("this restoration", parts.patches), ("draws", parts.draws)), strict=True
    ):
        for axis, pixels in zip(row, slices, strict=True):
            axis.imshow(pixels, cmap="gray", vmin=low, vmax=high, origin="lower")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    return figure
