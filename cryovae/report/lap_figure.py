"""The convergence of the laps of expectation-maximisation, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure

# Entries of a lap, and labels of their axes.
PANELS = {
    "held_out": "hidden bins (nats a coefficient)",
    "mean_change": "change of the mean (of its std)",
    "prior_power": "power of the prior / samples",
    "noise_out": "noise: share in the wedge",
    "random_phases": "random phases: correlation",
}


def laps_plot(path: Path, laps: Sequence[Mapping[str, Any]]) -> None:
    """Write a panel for each figure of the laps that is known.

    Args:
        path: PNG file.
        laps: entries of each lap, as in run.json.
    """
    known = {name: label for name, label in PANELS.items() if any(lap.get(name) is not None for lap in laps)}
    figure = PlainFigure(figsize=(3.2 * len(known), 2.8), layout="constrained")
    axes = figure.subplots(1, len(known), squeeze=False)[0]
    for axis, (name, label) in zip(axes, known.items(), strict=True):
        points = [(lap["lap"], lap[name]) for lap in laps if lap.get(name) is not None]
        axis.plot([x for x, _ in points], [y for _, y in points], "o-", color="tab:blue")
        axis.set(xlabel="lap", ylabel=label)
        axis.set_xticks([lap["lap"] for lap in laps])
        if name == "prior_power":
            axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    save_figure(path, figure)
