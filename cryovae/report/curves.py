"""The curves of a report: FSC, training, calibration. Public functions return a figure, or None if there is nothing to plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cryovae.evaluation.calibration import NOMINAL, Calibration
from cryovae.evaluation.held_out import HeldOut
from cryovae.report.contents import Contents
from cryovae.report.figure import PlainFigure
from cryovae.report.plots import COLOURS, draw_halves, frame_fsc

Panel = Callable[[Any], None]


def _figure(panels: list[Panel], width: float = 5.2, height: float = 4.0) -> Figure | None:
    """A figure with two or three panels in a row; None without panels."""
    if not panels:
        return None
    columns = len(panels) if len(panels) <= 3 else 2 + (len(panels) > 4)
    rows = -(-len(panels) // columns)
    figure = PlainFigure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    return figure


def correlations(contents: Contents) -> Figure | None:
    """FSC with the truth, in total and by cone, with held-out bins, and between the halves."""
    assessment, held, size = contents.assessment, contents.held_out, contents.voxel_size
    panels: list[Panel] = []
    if assessment.rows:
        panels.append(lambda axis: draw_halves(axis, assessment.rows, size, "with the truth"))
    if assessment.cones:
        panels.append(lambda axis: _cones(axis, contents))
    if held is not None and held.has("fsc"):
        panels.append(lambda axis: _held_out(axis, held, size))
    if assessment.halves:
        panels.append(lambda axis: draw_halves(axis, assessment.halves, size, "of one half with the other"))
    return _figure(panels)


def _cones(axis: Any, contents: Contents) -> None:
    for cone, colour in zip(contents.assessment.cones, ("tab:red", "tab:orange", "tab:blue"), strict=False):
        curve, name = cone.all_bins, f"{cone.low:g}° to {cone.high:g}° to the beam"
        axis.plot(curve.frequency / contents.voxel_size, curve.shells, color=colour, label=name, linewidth=1.3)
    frame_fsc(axis, "FSC with the truth, restored, by direction", contents.voxel_size)


def _held_out(axis: Any, held: HeldOut, voxel_size: float) -> None:
    axis.plot(held.frequency / voxel_size, held.fsc, color=COLOURS["held-out"], label="restored, held-out bins", linewidth=1.3)
    if held.has("ceiling"):
        axis.plot(held.frequency / voxel_size, held.ceiling, "--", color="gray", label="ceiling set by the noise of the data")
    frame_fsc(axis, "FSC with held-out measured bins", voxel_size)


def training(rows: list[dict[str, str]]) -> Figure | None:
    """Terms of the bound, KL divergence of each level and held-out gain as functions of the step, from rows of metrics.csv.

    A line marks the step from which the bound is trained; before it, the completion alone is.
    """
    levels = sorted((name for name in (rows[0] if rows else {}) if name.startswith("kl_")), reverse=True)
    groups = (
        ("log-likelihood (nats per coefficient)", ("log_likelihood", "completion"), "linear"),
        ("divergence (nats per measured coefficient)", ("kl", "matching"), "symlog"),
        ("KL by level (nats per measured coefficient)", tuple(levels), "symlog"),
        ("held out: gain over an empty wedge (nats)", ("val_gain",), "linear"),
        ("loss (squared standard deviations of the input)", ("loss",), "linear"),
    )
    return _figure(
        [_by_step(rows, *group) for group in groups if any(row.get(name) for row in rows for name in group[1])], height=3
    )


def _bound_from(rows: list[dict[str, str]]) -> int:
    """The step before the first of the bound; 0 if there was no completion alone, or no bound."""
    first = next((index for index, row in enumerate(rows) if row.get("kl")), 0)
    return int(rows[first - 1]["step"]) if first else 0


def _by_step(rows: list[dict[str, str]], label: str, names: tuple[str, ...], scale: str) -> Panel:
    bound_from = _bound_from(rows)

    def panel(axis: Any) -> None:
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                shown = name.replace("kl_", "level ").replace("val_", "").replace("_", "-")
                axis.plot(*zip(*points, strict=True), label=shown, marker="." if name.startswith("val") else None, linewidth=1.2)
        if 0 < bound_from < int(rows[-1]["step"]):
            axis.axvline(bound_from, color="gray", linewidth=0.9, linestyle=":")
            place = {"ha": "center", "transform": axis.get_xaxis_transform()}
            axis.text(bound_from, 0.02, "completion | bound", fontsize=7, color="gray", **place)
        axis.set(xlabel="training step", ylabel=label, xlim=(0, int(rows[-1]["step"])))
        axis.yaxis.label.set_fontsize(8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if scale == "symlog":
            axis.set_yscale("symlog", linthresh=0.01)
            axis.set_ylim(bottom=0)
        axis.legend(fontsize=7)

    return panel


def calibrations(contents: Contents) -> Figure | None:
    """Coverage and reliability of the standard deviation; chi squared and fitted factor on held-out bins."""
    fits = {part: fit for part, fit in contents.assessment.calibration.items() if fit is not None}
    held = contents.held_out
    panels: list[Panel] = []
    if fits or (held is not None and held.coverage):
        panels.append(lambda axis: _coverage(axis, fits, held))
    if fits:
        panels.append(lambda axis: _reliability(axis, fits))
    labels = (("chi2", "predictive chi² (no unit)"), ("spread_factor", "fitted factor on the std of samples (no unit)"))
    if held is not None:
        frequency = held.frequency / contents.voxel_size
        panels += [_by_shell(frequency, getattr(held, name), label) for name, label in labels if held.has(name)]
    return _figure(panels)


def _coverage(axis: Any, fits: Mapping[str, Calibration], held: HeldOut | None) -> None:
    axis.plot((40, 100), (40, 100), color="gray", linewidth=0.8, label="calibrated")
    curves = [(f"{part}, truth", "o-", COLOURS[part], {s: fit.coverage[s] for s in NOMINAL}) for part, fit in fits.items()]
    if held is not None and held.coverage:
        curves.append(("held-out bins, data", "s--", COLOURS["held-out"], dict(sorted(held.coverage.items()))))
    for name, style, colour, coverage in curves:
        percent = [[100 * share for share in shares] for shares in (coverage.keys(), coverage.values())]
        axis.plot(*percent, style, color=colour, label=name, markersize=4)
    axis.set(xlabel="nominal interval (%)", ylabel="values inside it (%)", xlim=(45, 100), ylim=(0, 102))
    axis.set_title("Coverage of the intervals; below the line: too small", fontsize=10)
    axis.legend(fontsize=7, loc="lower right")


def _reliability(axis: Any, fits: Mapping[str, Calibration]) -> None:
    end = max(float(fit.reliability.predicted.max()) for fit in fits.values())
    axis.plot((0, end), (0, end), color="gray", linewidth=0.8, label="calibrated")
    for part, fit in fits.items():
        line = fit.reliability
        words = f", slope {line.slope:.2f}, offset {line.offset:.2g}" if np.isfinite(line.slope) else ""
        axis.plot(line.predicted, line.observed, "o-", color=COLOURS[part], label=part + words, markersize=3, linewidth=1)
    axis.set(xlabel="predicted std (grey values)", ylabel="rms error with the truth (grey values)")
    axis.set_title("Reliability of the standard deviation", fontsize=10)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7)


def _by_shell(frequency: np.ndarray, values: np.ndarray, label: str) -> Panel:
    def panel(axis: Any) -> None:
        axis.axhline(1, color="gray", linewidth=0.8, label="calibrated" if "chi" in label else "as sampled")
        axis.plot(frequency, values, "o-", color=COLOURS["held-out"], label="held-out bins", markersize=3)
        axis.set(xlabel="spatial frequency (1/Å)", ylabel=label)
        axis.set_ylim(0, max(2.0, 1.1 * float(np.nanmax(values))) if np.isfinite(values).any() else 2.0)
        axis.legend(fontsize=7)

    return panel
