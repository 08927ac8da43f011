"""The figure of a diagnosis: bounds, rate by level and channel, information of each level, and rate in a slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cryovae.evaluation.diagnosis.diagnose import Diagnosis, Figure
from cryovae.evaluation.diagnosis.information import LevelNats
from cryovae.evaluation.diagnosis.place import Plane
from cryovae.posterior.activity import MIN_ACTIVE_VARIANCE
from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure

COLOURS = {"q": "tab:blue", "r": "tab:orange"}


def diagnosis_picture(path: Path, diagnosis: Diagnosis, plane: Plane, voxel_size: float, title: str) -> None:
    """Write the figure of a diagnosis.

    Args:
        path: PNG file.
        diagnosis: Results of the diagnosis.
        plane: Slice of the tomogram and its rate, in nats per voxel.
        voxel_size: Voxel size, in angstrom.
        title: Line above the panels.
    """
    figure = PlainFigure(figsize=(18, 15), layout="constrained")
    axes = figure.subplots(3, 3)
    main = "q" if diagnosis.q else "r"
    _bounds(axes[0, 0], diagnosis)
    _importance(axes[0, 1], diagnosis)
    _rates(axes[0, 2], diagnosis)
    _channels(axes[1, 0], diagnosis.levels[main], main)
    _information(axes[1, 1], diagnosis)
    _shuffled(axes[1, 2], diagnosis)
    _place(figure, axes[2], plane, voxel_size, main)
    figure.suptitle(title)
    save_figure(path, figure, dpi=75)


def _bounds(axis: Any, diagnosis: Diagnosis) -> None:
    draws = max(diagnosis.gaps.importance)
    state = "" if diagnosis.gaps.converged else "\n(not converged)"
    rows: list[tuple[str, Figure, str]] = [("Gaussian of the\nsame spectrum", diagnosis.gaussian, "black")]
    rows += [("bound of r", diagnosis.r.bound, COLOURS["r"])]
    rows += [("bound of q", diagnosis.q.bound, COLOURS["q"])] if diagnosis.q else []
    rows += [("after the search", diagnosis.gaps.refined, "tab:green")]
    rows += [(f"{draws} weighted\ndraws{state}", diagnosis.gaps.importance[draws], "tab:purple")]
    if diagnosis.gaps.evidence is not None:
        nats = diagnosis.gaps.evidence.nats
        state = "" if diagnosis.gaps.evidence.converged else "\n(not converged)"
        rows += [(f"annealed{state}", Figure(float(np.mean(nats)), float("nan")), "tab:red")]
    for place, (_, figure, colour) in enumerate(rows):
        axis.errorbar(figure.mean, place, xerr=np.nan_to_num(figure.error), fmt="o", color=colour, capsize=4)
        axis.annotate(f"{figure.mean:.3f}", (figure.mean, place), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axis.axvline(diagnosis.gaussian.mean, color="black", linewidth=0.7, linestyle=":")
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.set(ylim=(-0.6, len(rows) - 0.4), title="bounds on the evidence: higher is better")
    axis.set_xlabel("nats per measured coefficient, +- standard error over patches")
    axis.margins(x=0.12)


def _rates(axis: Any, diagnosis: Diagnosis) -> None:
    splits = ({"q": diagnosis.q} if diagnosis.q else {}) | {"r": diagnosis.r}
    strides = _grouped(axis, {role: split.rates for role, split in splits.items()})
    axis.set(title="rate by level: KL divergence of the latents", xlabel="stride of the level (voxels)")
    axis.set_ylabel("KL to the prior (nats per measured coefficient)")
    axis.set_yscale("log")
    axis.set_xticks(range(len(strides)), [str(2**level) for level in strides])
    axis.legend()


def _grouped(axis: Any, values: dict[str, dict[int, float]], errors: dict[str, dict[int, float]] | None = None) -> list[int]:
    """Draw bars of each role side by side, with levels from coarse to fine, and return the levels."""
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
        title=f"rate of {role} by channel; grey: inactive", xlabel="stride of the level (voxels)", ylabel="KL (nats per patch)"
    )


def _information(axis: Any, diagnosis: Diagnosis) -> None:
    for number, (role, parts) in enumerate(diagnosis.levels.items()):
        at = np.arange(len(parts)) + 0.2 * (number - (len(diagnosis.levels) - 1) / 2)
        low = np.array([max(part.minibatch, 1e-2) for part in parts])
        high = np.array([max(part.upper_bound, 1e-2) for part in parts])
        axis.vlines(at, np.minimum(low, high), high, color=COLOURS[role], linewidth=6, alpha=0.5, label=role)
        axis.plot(at, low, "^", color=COLOURS[role])
        axis.plot(at, high, "v", color=COLOURS[role])
    limit = f"log {diagnosis.patches}, the upper limit of the lower mark"
    axis.axhline(np.log(diagnosis.patches), color="gray", linestyle=":", linewidth=1, label=limit)
    axis.set_xticks(range(len(parts)), [str(2**part.level) for part in parts])
    axis.set_yscale("log")
    axis.set(title="information of a level about its patch: between the marks", xlabel="stride of the level (voxels)")
    axis.set_ylabel("mutual information (nats per patch)")
    axis.legend(loc="upper left", fontsize=8)


def _importance(axis: Any, diagnosis: Diagnosis) -> None:
    gaps = diagnosis.gaps
    draws = sorted(gaps.importance)
    # The bound of a single draw is subtracted, because the variation between patches is larger than the rise.
    rise = [(gaps.importance[k].mean - gaps.importance[1].mean) * diagnosis.bins for k in draws]
    axis.plot(draws, rise, "o-", color="tab:purple")
    axis.set_xscale("log", base=2)
    state = "" if gaps.converged else ": not converged"
    axis.set(title=f"importance-weighted bound\neffective sample size {gaps.effective:.1f} of {draws[-1]}{state}")
    axis.set(xlabel="draws", ylabel="gain over a single draw (nats per patch)")


def _shuffled(axis: Any, diagnosis: Diagnosis) -> None:
    values = {role: {level: figure.mean for level, figure in parts.items()} for role, parts in diagnosis.shuffled.items()}
    errors = {role: {level: figure.error for level, figure in parts.items()} for role, parts in diagnosis.shuffled.items()}
    strides = _grouped(axis, values, errors)
    axis.set_xticks(range(len(strides)), [str(2**level) for level in strides])
    axis.axhline(0, color="black", linewidth=0.7)
    axis.set(title="shuffled: log-likelihood lost with the latents of another patch", xlabel="stride of the level (voxels)")
    axis.set_ylabel("log-likelihood lost (nats per coefficient:\nmeasured ones for q, held-out ones for r)")
    axis.legend()


def _place(figure: Any, axes: Any, plane: Plane, voxel_size: float, role: str) -> None:
    nm = voxel_size / 10
    extent = (0, plane.density.shape[1] * nm, 0, plane.density.shape[0] * nm)
    shown = (
        ("the tomogram, middle slice", plane.density, "gray", "standard deviations"),
        (f"rate of {role}, all levels", plane.nats, "magma", "KL (nats per voxel)"),
        (f"part of the rate due to the means of {role}", plane.of_mean, "magma", "nats per voxel"),
    )
    for axis, (title, values, colours, unit) in zip(axes, shown, strict=True):
        low, high = np.percentile(values, (0.5, 99.5))
        picture = axis.imshow(values, cmap=colours, vmin=low, vmax=high, origin="lower", extent=extent)
        axis.set(title=title, xlabel="x (nm)", ylabel="y (nm)")
        figure.colorbar(picture, ax=axis, shrink=0.8, label=unit)
