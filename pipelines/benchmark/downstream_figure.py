"""One picture of downstream.py: slices of the four volumes with picks, and precision-recall curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from downstream_table import LABELS
from matching import Peaks
from ranking import right_picks
from scenes import PICKED, VOLUMES, Case

from cryovae.io.molecules import Molecule

SHOWN = "1bxn"
COLOURS = {"raw": "black", "measured": "tab:blue", "mean": "tab:orange", "unet": "tab:green"}
# Slices averaged for the picture, on either side of the middle one.
SLAB = 1


def draw(
    path: Path, case: Case, results: list[dict[str, Any]], molecule: Molecule, truth: np.ndarray, picks: dict[str, Peaks]
) -> None:
    """Draw the slices of one case, and the curves of all.

    Args:
        path: PNG to write.
        case: whose slices are shown.
        results: the figures of all cases.
        molecule: whose picks are shown.
        truth: its positions (n, 3) in ``case``.
        picks: its picks, by scene and volume.
    """
    levels = sorted({r["snr"] for r in results}, reverse=True)
    figure = plt.figure(figsize=(19, 9.5 + 4.5 * len(levels)), layout="constrained")
    rows = figure.add_gridspec(2 + len(levels), 12)
    radius = molecule.radius
    for row, axis in enumerate((0, 1)):
        at = _busiest(truth[:, axis], radius / 2)
        for column, kind in enumerate(VOLUMES):
            axes = figure.add_subplot(rows[row, 3 * column : 3 * column + 3])
            volume = case.volume("with", kind).numpy()
            _slice(axes, volume, axis, at)
            _marks(axes, picks[f"with_{kind}"].positions[: len(truth)], truth, axis, at, radius)
            axes.set_title(f"{kind}, {'xy' if axis == 0 else 'xz (beam up)'} slice {at}", fontsize=10)
    for row, level in enumerate(levels):
        for column, name in enumerate(PICKED):
            axes = figure.add_subplot(rows[2 + row, 4 * column : 4 * column + 4])
            _curves(axes, [r for r in results if r["snr"] == level], name)
            axes.set_title(f"{LABELS[name]}, SNR {level:g}", fontsize=10)
    figure.suptitle(
        f"{LABELS[molecule.name]} in {case.name}: the best picks, as many as molecules. "
        "Yellow circle: molecule not picked; green: right pick; red: false pick",
        fontsize=12,
    )
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _busiest(along: np.ndarray, reach: float) -> int:
    """The slice with the most molecules within ``reach``."""
    places = np.arange(int(along.min()), int(along.max()) + 1) if len(along) else np.array([0])
    return int(places[np.argmax((np.abs(along[None] - places[:, None]) <= reach).sum(1))])


def _slice(axes: Any, volume: np.ndarray, axis: int, at: int) -> None:
    slab = np.take(volume, range(max(at - SLAB, 0), min(at + SLAB + 1, volume.shape[axis])), axis).mean(axis)
    low, high = np.percentile(slab, (0.5, 99.5))
    axes.imshow(slab, cmap="gray", vmin=low, vmax=high, origin="lower")
    axes.axis("off")


def _marks(axes: Any, picks: np.ndarray, truth: np.ndarray, axis: int, at: int, radius: float) -> None:
    owners = right_picks(picks, truth, radius / 2)
    missed = np.delete(truth, owners[owners >= 0], 0)
    shown = [0, 1, 2]
    shown.remove(axis)
    for places, colour in ((missed, "yellow"), (picks[owners >= 0], "lime"), (picks[owners < 0], "red")):
        for place in places[np.abs(places[:, axis] - at) <= radius / 2]:
            axes.add_patch(plt.Circle((place[shown[1]], place[shown[0]]), radius, fill=False, color=colour, linewidth=1.3))


def _curves(axes: Any, results: list[dict[str, Any]], name: str) -> None:
    for kind in VOLUMES:
        for number, one in enumerate(results):
            figures = one["molecules"][name]["volumes"][kind]
            label = kind if number == 0 else None
            axes.plot(
                figures["recall"], figures["precision"], color=COLOURS[kind], label=label, linestyle="-" if number == 0 else "--"
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.legend(fontsize=8, loc="lower left")
