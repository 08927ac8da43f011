"""A tomogram at several binnings, for training one network on structures wider than a patch.

A network that sees patches of side p cannot learn waves much longer than p / 2. Patches at full size do not show how a large
outline (a vesicle, a needle, the edge of the ice) continues through the missing wedge. The same network is therefore also
trained on the volume binned by 2, 4, ..., as long as the share of the signal power in waves longer than half a patch,

    l = sum_{|k| < 2 / p} S(k) / sum_k S(k),                 S = |F y|^2 - sigma^2 in measured bins, by shell

exceeds LONG. The binned volumes receive the share l of the batches, within bounds. Only the tomogram at full size is restored.
Binning crops Fourier space, so mask and noise keep their meaning.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cryovae import fourier
from cryovae.data.held_out_boxes import Box
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import Fill, Tomogram

LONG = 0.1
# Smallest share of the batches for the finer binning, and for all coarser ones together.
LEAST = 0.25


def binned(
    tomogram: Tomogram, side: int, most: int, seed: int = 0, masking: MaskingConfig | None = None
) -> list[PreparedTomogram]:
    """Prepare a tomogram and the binnings that its long waves require.

    Args:
        tomogram: the tomogram at full size.
        side: side of a patch, in voxels; no binned volume is smaller.
        most: largest number of sizes, the full size included.
        seed: seed of the preparation.
        masking: masking settings.

    Returns:
        Prepared tomograms, the full size first, each with its share of the batches. Held-out boxes are held out at every binning.
    """
    prepared_tomograms: list[PreparedTomogram] = []
    share = 1.0
    unscored_boxes: tuple[Box, ...] = ()
    while True:
        prepared = prepare(tomogram, side, seed, held_out=not prepared_tomograms, masking=masking)
        more = len(prepared_tomograms) + 1 < most and min(tomogram.shape) >= 2 * side
        long = long_waves(prepared, side) if more else 0.0
        part = min(max(long, LEAST), 1 - LEAST) if long > LONG else 0.0
        prepared_tomograms.append(
            replace(prepared, share=share * (1 - part), binned=bool(prepared_tomograms), unscored_boxes=unscored_boxes)
        )
        if not part:
            return prepared_tomograms
        share *= part
        unscored_boxes = tuple(_halved_box(box) for box in prepared_tomograms[-1].boxes(side))
        tomogram = halved(tomogram)


def long_waves(prepared: PreparedTomogram, side: int) -> float:
    """Share of the signal power, in measured bins, in waves longer than half of ``side`` voxels, 0 to 1."""
    shape = prepared.density.shape
    k = fourier.frequencies(shape)
    weight = (volume_mask(shape, prepared.tilts) > 0.99) * fourier.multiplicity(shape)
    weight[0, 0, 0] = 0
    density = prepared.density if prepared.region is None else prepared.density * prepared.region.window()
    excess = weight * (fourier.transform(density).abs().square() - prepared.noise(k))
    shell = (k.square().sum(0).sqrt() * side / 2).long()
    signal = fourier.shell_sums(excess[None], shell, int(shell.max()) + 1)[0].clamp_min(0)
    return float(signal[0] / signal.sum().clamp_min(1e-30))


def halved(tomogram: Tomogram) -> Tomogram:
    """The tomogram binned by 2, with the same grey values and wedge."""
    halves = None if tomogram.halves is None else (halved_density(tomogram.halves[0]), halved_density(tomogram.halves[1]))
    tilts = tomogram.tilts
    if tilts.thickness is not None:
        tilts = replace(tilts, thickness=tilts.thickness / 2)
    return replace(
        tomogram,
        name=f"{tomogram.name} binned",
        density=halved_density(tomogram.density),
        halves=halves,
        tilts=tilts,
        mask=None if tomogram.mask is None else tomogram.mask[::2, ::2, ::2],
        fill=None if tomogram.fill is None else _halved_fill(tomogram.fill),
        voxel_size=2 * tomogram.voxel_size,
        grey=None,
        validation_patches=None,
        validation_boxes=None,
    )


def halved_density(density: np.ndarray) -> np.ndarray:
    """Bin a density (z, y, x) by 2, as float32; the last plane of an odd axis is repeated."""
    values = np.pad(np.asarray(density, dtype=np.float32), [(0, size % 2) for size in density.shape], mode="edge")
    return fourier.resampled(torch.from_numpy(values), [size // 2 for size in values.shape]).numpy()


def _halved_fill(fill: Fill) -> Fill:
    """A voxel is fill at half the size if any of its voxels is."""
    mask = np.pad(fill[:], [(0, size % 2) for size in fill.shape], mode="edge")
    return Fill.of(np.logical_or.reduce([mask[z::2, y::2, x::2] for z, y, x in np.ndindex(2, 2, 2)]))


def _halved_box(box: Box) -> Box:
    (z0, z1), (y0, y1), (x0, x1) = ((start // 2, -(-stop // 2)) for start, stop in box)
    return (z0, z1), (y0, y1), (x0, x1)
