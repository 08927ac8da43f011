"""A tomogram at several binnings, for one network: what is too wide for a patch at full size is not at half of it.

A network that sees p voxels knows nothing of waves much longer than p / 2: where the wedge cuts through a large outline (a
vesicle, a needle, the edge of the ice), patches at full size do not show how it closes. The same network is trained on the
volume binned by 2, and by 4, ..., too, while waves longer than half a patch hold more than LONG of the power of the signal,

    l = sum_{|k| < 2 / p} S(k) / sum_k S(k),                 S = |F y|^2 - sigma^2 in measured bins, by shell

and on it with that share l of the batches, within bounds. Restored is the tomogram at its full size alone. Binning is a cut in
Fourier space, so that mask and noise keep their meaning: bins of one size are bins of the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cryovae import fourier
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import Box, PreparedTomogram, prepare
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import Tomogram

LONG = 0.1
# What the smaller binning and the larger ones together get of the batches at least.
LEAST = 0.25


def binned(
    tomogram: Tomogram, side: int, most: int, seed: int = 0, masking: MaskingConfig | None = None
) -> list[PreparedTomogram]:
    """A tomogram made ready, and as many binnings of it as its long waves ask for, ``most`` in all and none smaller than a patch.

    Each knows its share of the batches; what is held out is so at every binning.
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
    """The share of the signal's power, in measured bins, of waves longer than half of ``side`` voxels."""
    shape = prepared.density.shape
    k = fourier.frequencies(shape)
    weight = (volume_mask(shape, prepared.tilts) > 0.99) * fourier.multiplicity(shape)
    weight[0, 0, 0] = 0
    excess = weight * (fourier.transform(prepared.density).abs().square() - prepared.noise(k))
    shell = (k.square().sum(0).sqrt() * side / 2).long()
    signal = fourier.shell_sums(excess[None], shell, int(shell.max()) + 1)[0].clamp_min(0)
    return float(signal[0] / signal.sum().clamp_min(1e-30))


def halved(tomogram: Tomogram) -> Tomogram:
    """The tomogram binned by 2, grey values and wedge kept."""
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
        voxel_size=2 * tomogram.voxel_size,
        grey=None,
        validation_patches=None,
    )


def halved_density(density: np.ndarray) -> np.ndarray:
    """(z, y, x) to float32 of half the size along each axis; the last plane of an odd one counts twice."""
    values = np.pad(np.asarray(density, dtype=np.float32), [(0, size % 2) for size in density.shape], mode="edge")
    return fourier.resampled(torch.from_numpy(values), [size // 2 for size in values.shape]).numpy()


def _halved_box(box: Box) -> Box:
    (z0, z1), (y0, y1), (x0, x1) = ((start // 2, -(-stop // 2)) for start, stop in box)
    return (z0, z1), (y0, y1), (x0, x1)
