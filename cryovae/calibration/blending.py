"""How far the means of single tiles are from the mean that is blended from all tiles that share their voxels.

The calibration scores single patches; a restoration averages tiles x_i with weights w_i that sum to 1:

    sum_i w_i |x_i - t|^2  =  |x - t|^2 + sum_i w_i |x_i - x|^2,        x = sum_i w_i x_i

for any t (Krogh and Vedelsby, Neural network ensembles, cross validation, and active learning, 1995, equation 6). The last term
needs no truth. It is what the squared error of a tile, and its power, lose by blending.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.hidden_bins import smeared
from cryovae.calibration.variance import by_shell, pooled, shells
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import unseen
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.grid import Position, cut

# Orientations over which a restoration averages the mean.
ORIENTATIONS = 4


def window(side: int) -> Tensor:
    """Root of the weights (side, side, side) of tiles that overlap by half: half a sine along each axis.

    A model sees only one side of a voxel near a face, and a restoration gives such voxels little weight.
    """
    profile = torch.sin(torch.pi * (torch.arange(side) + 0.5) / side)
    return profile[:, None, None] * profile[None, :, None] * profile[None, None, :]


@torch.no_grad()
def tile_disagreement(
    predictor: TilePredictor, prepared: PreparedTomogram, volume: Tensor, position: Position, noise: float = 1.0
) -> tuple[Tensor, Tensor]:
    """< |F(x_i - x)|^2 > / sigma^2 in a bin by shell, in the wedge and in measured bins, (SHELLS,) each.

    Args:
        predictor: the model on tiles.
        prepared: the tomogram of which ``volume`` is one observation.
        volume: (z, y, x).
        position: of the tile that is compared with the blend of the tiles around it.
        noise: variance of the noise of ``volume`` over that of the tomogram.
    """
    side, tilts = predictor.side, prepared.tilts
    shape = (side, side, side)
    low = [max(start - side // 2, 0) for start in position]
    high = [min(start + side + side // 2, size) for start, size in zip(position, volume.shape, strict=True)]
    around = torch.as_tensor(volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    # The tile has to lie on the grid of the tiles that are blended, which begins at ``low``.
    z, y, x = ((start - a) // (side // 2) * (side // 2) for start, a in zip(position, low, strict=True))
    blended = cut(predictor.predict(around, tilts, ORIENTATIONS), (z, y, x), side)
    tile = cut(around, (z, y, x), side)[None].to(predictor.device)
    single = predictor.predict_tiles(tile, tilts, symmetry_rotations(tilts)[:ORIENTATIONS]).mean(0)[0].cpu()
    support = window(side)
    spectrum = smeared(noise * prepared.noise(fourier.frequencies(shape)), support).clamp_min(1e-12)
    difference = fourier.transform(support * (single - blended)).abs().square() / spectrum
    mask = smeared_mask(shape, tilts)
    means = []
    for bins in (unseen(mask), (mask > 0.99).float()):
        weight = bins * fourier.multiplicity(shape)
        total, count = pooled(by_shell(torch.stack([weight * difference, weight]), shells(fourier.radius(shape))))
        means.append(total / count.clamp_min(1))
    return means[0], means[1]
