"""One slice of every row beside the truth and the input, across the wedge: what a row's figures look like."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from data import Subject

ACROSS = 4


def keep_slice(path: Path, restored: torch.Tensor) -> None:
    """The middle xz slice of a restored (z, y, x) density, beside the row's figures."""
    np.save(path, restored[:, restored.shape[1] // 2].numpy().astype(np.float32))


def draw_slices(out: Path, subject: Subject, path: Path) -> None:
    """Truth, input, and the slices that rows left in ``out``, best wedge first, each on its own grey scale."""
    rows = []
    for kept in out.glob(f"{subject.name}-*.npy"):
        record = kept.with_suffix(".json")
        if record.exists():
            figures = json.loads(record.read_text())
            rows.append(
                (figures["wedge"], f"{figures['row']}, {figures['minutes']:g} min: {figures['wedge']:.3f}", np.load(kept))
            )
    middle = subject.truth.shape[1] // 2
    pictures = [("truth", np.asarray(subject.truth[:, middle])), ("input", np.asarray(subject.tomogram.density[:, middle]))]
    pictures += [(title, values) for _, title, values in sorted(rows, key=lambda row: -row[0])]
    down = -(-len(pictures) // ACROSS)
    figure, axes = plt.subplots(down, ACROSS, figsize=(3 * ACROSS, 3 * down), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, values) in zip(axes.flat, pictures, strict=False):
        middle_grey, spread = float(np.median(values)), 3 * float(values.std())
        axis.imshow(values, cmap="gray", vmin=middle_grey - spread, vmax=middle_grey + spread, origin="lower")
        axis.set_title(title, fontsize=8)
    figure.suptitle(f"{subject.name}, xz slice through the middle; correlation with the truth in the wedge", fontsize=9)
    figure.savefig(path, dpi=80)
    plt.close(figure)
