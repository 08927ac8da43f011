"""The pictures of a diagnosis: bounds, rate by level and channel, what a level says, and where in the tomogram the nats lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from cryovae.evaluate.diagnosis.diagnose import Diagnosis, Figure
from cryovae.evaluate.diagnosis.information import LevelNats
from cryovae.evaluate.diagnosis.place import Plane
from cryovae.io.atomic import whole_file
from cryovae.posterior.activity import MIN_ACTIVE_VARIANCE

COLOURS = {"q": "tab:blue", "r": "tab:orange"}


def diagnosis_picture(path: Path, found: Diagnosis, plane: Plane, voxel_size: float, title: str) -> None:
    """Write the picture. plane: a slice of the tomogram and nats a voxel of it; voxel size in angstrom."""
    figure, axes = plt.subplots(3, 3, figsize=(18, 15), constrained_layout=True)
    main = "q" if found.q else "r"
    _bounds(axes[0, 0], found)
    _importance(axes[0, 1], found)
    _rates(axes[0, 2], found)
    _channels(axes[1, 0], found.levels[main], main)
    _information(axes[1, 1], found)
    _shuffled(axes[1, 2], found)
    _place(figure, axes[2], plane, voxel_size, main)
    figure.suptitle(title)
    with whole_file(path) as beside:
        figure.savefig(beside, dpi=75)
    plt.close(figure)


def _bounds(axis: Any, found: Diagnosis) -> None:
    most = max(found.gaps.importance)
    state = "" if found.gaps.converged else "\n(not converged)"
    rows: list[tuple[str, Figure, str]] = [("Gaussian of the\nsame spectrum", found.gaussian, "black")]
    rows += [("bound of r", found.r.bound, COLOURS["r"])]
    rows += [("bound of q", found.q.bound, COLOURS["q"])] if found.q else []
    rows += [("after the search", found.gaps.refined, "tab:green")]
    rows += [(f"{most} weighted\ndraws{state}", found.gaps.importance[most], "tab:purple")]
    if found.gaps.evidence is not None:
        nats = found.gaps.evidence.nats
        state = "" if found.gaps.evidence.converged else "\n(not converged)"
        rows += [(f"annealed{state}", Figure(float(np.mean(nats)), float("nan")), "tab:red")]
    for place, (_, figure, colour) in enumerate(rows):
        axis.errorbar(figure.mean, place, xerr=np.nan_to_num(figure.error), fmt="o", color=colour, capsize=4)
        axis.annotate(f"{figure.mean:.3f}", (figure.mean, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axis.axvline(found.gaussian.mean, color="black", linewidth=0.7, linestyle=":")
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.set(ylim=(-0.6, len(rows) - 0.4), title="bounds on the evidence: right is better")
    axis.set_xlabel("nats a measured coefficient, +- standard error over patches")
    axis.margins(x=0.12)


def _rates(axis: Any, found: Diagnosis) -> None:
    splits = ({"q": found.q} if found.q else {}) | {"r": found.r}
    strides = _grouped(axis, {role: split.rates for role, split in splits.items()})
    axis.set(title="rate: what the latents cost, by level", xlabel="stride of the level (voxels)")
    axis.set_ylabel("KL to the prior (nats a measured coefficient)")
    axis.set_yscale("log")
    axis.set_xticks(range(len(strides)), [str(2**level) for level in strides])
    axis.legend()


def _grouped(axis: Any, values: dict[str, dict[int, float]], errors: dict[str, dict[int, float]] | None = None) -> list[int]:
    """Bars beside each other, levels from coarse to fine."""
    levels = sorted(next(iter(values.values())), reverse=True)
    width = 0.8 / len(values)
    for number, (role, heights) in enumerate(values.items()):
        at = np.arange(len(levels)) + (number - (len(values) - 1) / 2) * width
        bars = None if errors is None else [np.nan_to_num(errors[role][level]) for level in levels]
        axis.bar(at, [heights[level] for level in levels], width, yerr=bars, color=COLOURS[role], label=role, capsize=3)
    return levels


def _channels(axis: Any, levels: Sequence[LevelNats], role: str) -> None:
    start = 0
    marks, names = [], []
    for level in levels:
        nats = (level.kl.double().sum((0, 2, 3, 4)) / len(level.kl)).numpy()
        order = np.argsort(nats)[::-1]
        active = (level.variance.numpy() > MIN_ACTIVE_VARIANCE)[order]
        at = start + np.arange(len(nats))
        axis.bar(at[active], nats[order][active], color=COLOURS[role])
        axis.bar(at[~active], nats[order][~active], color="lightgray", edgecolor="gray")
        marks.append(start + (len(nats) - 1) / 2)
        names.append(f"{2**level.level}\n{int(active.sum())} of {len(nats)}\nactive")
        start += len(nats) + 2
    axis.set_xticks(marks, names)
    axis.set_yscale("log")
    axis.set(
        title=f"rate of {role} by channel; grey: inactive", xlabel="stride of the level (voxels)", ylabel="KL (nats a patch)"
    )


def _information(axis: Any, found: Diagnosis) -> None:
    for number, (role, parts) in enumerate(found.levels.items()):
        at = np.arange(len(parts)) + 0.2 * (number - (len(found.levels) - 1) / 2)
        low = np.array([max(part.minibatch, 1e-2) for part in parts])
        high = np.array([max(part.upper_bound, 1e-2) for part in parts])
        axis.vlines(at, np.minimum(low, high), high, color=COLOURS[role], linewidth=6, alpha=0.5, label=role)
        axis.plot(at, low, "^", color=COLOURS[role])
        axis.plot(at, high, "v", color=COLOURS[role])
    most = f"log {found.patches}, the most that the lower mark can be"
    axis.axhline(np.log(found.patches), color="gray", linestyle=":", linewidth=1, label=most)
    axis.set_xticks(range(len(parts)), [str(2**part.level) for part in parts])
    axis.set_yscale("log")
    axis.set(title="what a level says of its patch: between the marks", xlabel="stride of the level (voxels)")
    axis.set_ylabel("mutual information (nats a patch)")
    axis.legend(loc="upper left", fontsize=8)


def _importance(axis: Any, found: Diagnosis) -> None:
    gaps = found.gaps
    draws = sorted(gaps.importance)
    # Less the bound after the search, patch by patch the same draws: the scatter between patches would hide the rise.
    rise = [(gaps.importance[k].mean - gaps.importance[1].mean) * found.bins for k in draws]
    axis.plot(draws, rise, "o-", color="tab:purple")
    axis.set_xscale("log", base=2)
    state = "" if gaps.converged else ": not converged"
    axis.set(title=f"importance-weighted bound\neffective sample size {gaps.effective:.1f} of {draws[-1]}{state}")
    axis.set(xlabel="draws", ylabel="rise over a single draw (nats a patch)")


def _shuffled(axis: Any, found: Diagnosis) -> None:
    values = {role: {level: figure.mean for level, figure in parts.items()} for role, parts in found.shuffled.items()}
    errors = {role: {level: figure.error for level, figure in parts.items()} for role, parts in found.shuffled.items()}
    strides = _grouped(axis, values, errors)
    axis.set_xticks(range(len(strides)), [str(2**level) for level in strides])
    axis.axhline(0, color="black", linewidth=0.7)
    axis.set(title="shuffled: the price of another patch's latents", xlabel="stride of the level (voxels)")
    axis.set_ylabel("log-likelihood lost (nats a coefficient:\nof q measured ones, of r those hidden from it)")
    axis.legend()


def _place(figure: Any, axes: Any, plane: Plane, voxel_size: float, role: str) -> None:
    nm = voxel_size / 10
    extent = (0, plane.density.shape[1] * nm, 0, plane.density.shape[0] * nm)
    shown = (
        ("the tomogram, middle plane", plane.density, "gray", "standard deviations"),
        (f"where the nats of {role} lie, all levels", plane.nats, "magma", "KL (nats a voxel)"),
        (f"of them, what the means of {role} account for", plane.of_mean, "magma", "nats a voxel"),
    )
    for axis, (title, values, colours, unit) in zip(axes, shown, strict=True):
        low, high = np.percentile(values, (0.5, 99.5))
        picture = axis.imshow(values, cmap=colours, vmin=low, vmax=high, origin="lower", extent=extent)
        axis.set(title=title, xlabel="x (nm)", ylabel="y (nm)")
        figure.colorbar(picture, ax=axis, shrink=0.8, label=unit)
