"""The plots of a report: FSC, training, calibration. Each gives a figure, or None where there is nothing to plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from cryovae.evaluate.calibration import NOMINAL, Calibration
from cryovae.report.contents import Contents, HeldOut
from cryovae.report.plots import COLOURS, draw_halves, frame_fsc

Panel = Callable[[Any], None]


def _figure(panels: list[Panel], width: float = 5.2, height: float = 4.0) -> Any | None:
    """Panels side by side, two in a row."""
    if not panels:
        return None
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, constrained_layout=True)
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    return figure


def correlations(contents: Contents) -> Any | None:
    """FSC with the truth, by cone, with hidden bins, and of the halves; those that there are."""
    found, size = contents.assessment, contents.voxel_size
    panels: list[Panel] = []
    if found.rows:
        panels.append(lambda axis: draw_halves(axis, found.rows, size, "with the truth"))
    if found.cones:
        panels.append(lambda axis: _cones(axis, contents))
    held = contents.held_out
    if held is not None and len(held.fsc) and len(held.fsc) == len(held.frequency):
        panels.append(lambda axis: _hidden(axis, held, size))
    if found.halves:
        panels.append(lambda axis: draw_halves(axis, found.halves, size, "of one half with the other"))
    return _figure(panels)


def _cones(axis: Any, contents: Contents) -> None:
    for cone, colour in zip(contents.assessment.cones, ("tab:red", "tab:orange", "tab:blue"), strict=False):
        name = f"{cone.low:g}° to {cone.high:g}° off the beam"
        axis.plot(cone.whole.frequency / contents.voxel_size, cone.whole.shells, color=colour, label=name, linewidth=1.3)
    frame_fsc(axis, "FSC with the truth, restored, by direction", contents.voxel_size)


def _hidden(axis: Any, held: HeldOut, voxel_size: float) -> None:
    axis.plot(held.frequency / voxel_size, held.fsc, color=COLOURS["hidden"], label="restored, hidden bins", linewidth=1.3)
    if len(held.ceiling) == len(held.frequency):
        axis.plot(held.frequency / voxel_size, held.ceiling, "--", color="gray", label="ceiling that the data's noise sets")
    frame_fsc(axis, "FSC with measured bins that were hidden", voxel_size)


def training(contents: Contents) -> Any | None:
    """The terms of the bound, the divergence of each level, and the held-out figures over the steps."""
    rows = contents.metrics
    levels = sorted((name for name in (rows[0] if rows else {}) if name.startswith("kl_")), reverse=True)
    groups = (
        ("log-likelihood (nats per coefficient)", ("log_likelihood", "completion"), "linear"),
        ("divergence (nats per measured coefficient)", ("kl", "matching"), "symlog"),
        ("KL by level (nats per measured coefficient)", tuple(levels), "symlog"),
        ("held out: gain over an empty wedge (nats)", ("val_gain",), "linear"),
        ("loss (squared standard deviations of the input)", ("loss",), "linear"),
    )
    return _figure(
        [_course(rows, *group) for group in groups if any(row.get(name) for row in rows for name in group[1])], height=3
    )


def _course(rows: list[dict[str, str]], label: str, names: tuple[str, ...], scale: str) -> Panel:
    def panel(axis: Any) -> None:
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                shown = name.replace("kl_", "level ").replace("val_", "").replace("_", "-")
                axis.plot(*zip(*points, strict=True), label=shown, marker="." if name.startswith("val") else None, linewidth=1.2)
        axis.set(xlabel="training step", ylabel=label)
        axis.yaxis.label.set_fontsize(8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if scale == "symlog":
            axis.set_yscale("symlog", linthresh=0.01)
        axis.legend(fontsize=7)

    return panel


def calibrations(contents: Contents) -> Any | None:
    """Coverage, the reliability of the standard deviation, and chi2 and spread on hidden bins; those that there are."""
    known = {name: found for name, found in contents.assessment.calibration.items() if found is not None}
    held = contents.held_out
    panels: list[Panel] = []
    if known or (held is not None and held.coverage):
        panels.append(lambda axis: _coverage(axis, known, held))
    if known:
        panels.append(lambda axis: _reliability(axis, known))
    for name, label in (("chi2", "predictive chi² (no unit)"), ("spread_factor", "fitted factor on the spread (no unit)")):
        values = np.array([]) if held is None else getattr(held, name)
        if held is not None and len(values) and len(values) == len(held.frequency):
            panels.append(_by_shell(held.frequency / contents.voxel_size, values, label))
    return _figure(panels)


def _coverage(axis: Any, known: dict[str, Calibration], held: HeldOut | None) -> None:
    axis.plot((40, 100), (40, 100), color="gray", linewidth=0.8, label="calibrated")
    for name, found in known.items():
        shares = [100 * found.coverage[share] for share in NOMINAL]
        axis.plot([100 * share for share in NOMINAL], shares, "o-", color=COLOURS[name], label=f"{name}, truth", markersize=4)
    if held is not None and held.coverage:
        shares = sorted(held.coverage)
        covered = [100 * held.coverage[share] for share in shares]
        axis.plot([100 * s for s in shares], covered, "s--", color=COLOURS["hidden"], label="hidden bins, data", markersize=4)
    axis.set(xlabel="nominal interval (%)", ylabel="values inside it (%)", xlim=(45, 100), ylim=(0, 102))
    axis.set_title("Coverage of the intervals; under the line: too sure", fontsize=10)
    axis.legend(fontsize=7, loc="lower right")


def _reliability(axis: Any, known: dict[str, Calibration]) -> None:
    ends = [float(found.reliability.predicted.max()) for found in known.values()]
    axis.plot((0, max(ends)), (0, max(ends)), color="gray", linewidth=0.8, label="calibrated")
    for name, found in known.items():
        line = found.reliability
        fit = f", slope {line.slope:.2f}, offset {line.offset:.2g}" if np.isfinite(line.slope) else ""
        axis.plot(line.predicted, line.observed, "o-", color=COLOURS[name], label=name + fit, markersize=3, linewidth=1)
    axis.set(xlabel="predicted std (grey values)", ylabel="rms error with the truth (grey values)")
    axis.set_title("Reliability of the standard deviation", fontsize=10)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7)


def _by_shell(frequency: np.ndarray, values: np.ndarray, label: str) -> Panel:
    def panel(axis: Any) -> None:
        axis.axhline(1, color="gray", linewidth=0.8, label="calibrated" if "chi" in label else "as drawn")
        axis.plot(frequency, values, "o-", color=COLOURS["hidden"], label="hidden bins", markersize=3)
        axis.set(xlabel="spatial frequency (1/Å)", ylabel=label)
        axis.set_ylim(0, max(2.0, 1.1 * float(np.nanmax(values))) if np.isfinite(values).any() else 2.0)
        axis.legend(fontsize=7)

    return panel
