"""How far the answers to single tiles are from the answer that is blended of all tiles that share their voxels.

What is foretold is scored on single patches; a restoration averages tiles x_i, with weights w_i that sum to 1:

    sum_i w_i |x_i - t|^2  =  |x - t|^2 + sum_i w_i |x_i - x|^2,        x = sum_i w_i x_i

for any t (Krogh and Vedelsby, Neural network ensembles, cross validation, and active learning, 1995, equation 6). The last term
needs no truth. Seen through the root of the weights, it is what the power of an answer, and its squared error, lose by blending.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.variance import by_shell, pooled, shells
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import unseen
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.grid import Position, cut

# Orientations of the answer.
ORIENTATIONS = 4


def window(side: int) -> Tensor:
    """The root of a tile's weights (side, side, side) where tiles overlap by half: half a sine along each axis.

    Near a face a model knows one side only, and a restoration gives such voxels next to no weight.
    """
    profile = torch.sin(torch.pi * (torch.arange(side) + 0.5) / side)
    return profile[:, None, None] * profile[None, :, None] * profile[None, None, :]


def smeared(variance: Tensor, support: Tensor) -> Tensor:
    """Power in each bin (..., z, y, x // 2 + 1) of noise whose spectrum is ``variance``, seen through ``support`` (..., z, y, x).

    A window smears the edge of the wedge: < |F(t n)|^2 > is the spectrum convolved with |F t|^2.
    """
    shape = support.shape[-3:]
    shift = fourier.inverse(fourier.transform(support).abs().square().to(torch.complex64), shape)
    return fourier.transform(shift * fourier.inverse(variance.to(torch.complex64), shape)).real / shape.numel() ** 0.5


@torch.no_grad()
def tile_disagreement(
    predictor: TilePredictor, prepared: PreparedTomogram, volume: Tensor, position: Position, noise: float = 1.0
) -> tuple[Tensor, Tensor]:
    """< |F(x_i - x)|^2 > / sigma^2 in a bin by shell, in the wedge and in measured bins, (SHELLS,) each.

    It is found at one tile of a ``volume`` (z, y, x) and those around it. position: of the tile, (z, y, x). noise: variance of
    the volume's noise over that of the specimen's.
    """
    side, tilts = predictor.side, prepared.tilts
    shape = (side, side, side)
    low = [max(start - side // 2, 0) for start in position]
    high = [min(start + side + side // 2, size) for start, size in zip(position, volume.shape, strict=True)]
    around = torch.as_tensor(volume[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    # The tile is one of those that are blended: on their grid, which begins where what is around it does.
    z, y, x = ((start - a) // (side // 2) * (side // 2) for start, a in zip(position, low, strict=True))
    distributed_command = cut(predictor.predict(around, tilts, ORIENTATIONS), (z, y, x), side)
    tile = cut(around, (z, y, x), side)[None].to(predictor.device)
    alone = predictor.predict_tiles(tile, tilts, symmetry_rotations(tilts)[:ORIENTATIONS]).mean(0)[0].cpu()
    support = window(side)
    spectrum = smeared(noise * prepared.noise(fourier.frequencies(shape)), support).clamp_min(1e-12)
    found = fourier.transform(support * (alone - distributed_command)).abs().square() / spectrum
    mask = smeared_mask(shape, tilts)
    by_part = []
    for part in (unseen(mask), (mask > 0.99).float()):
        counted = part * fourier.multiplicity(shape)
        total, bins = pooled(by_shell(torch.stack([counted * found, counted]), shells(fourier.radius(shape))))
        by_part.append(total / bins.clamp_min(1))
    return by_part[0], by_part[1]
