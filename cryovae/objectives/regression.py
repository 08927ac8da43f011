"""Losses of other methods: deterministic networks f, trained by regression from one half of the data to the other.

y0, y1: the halves of a patch (one volume stands for both where there are none). M: the wedge mask, R: a rotation, RM its mask.

    DeepDeWedge   u = M R y0+,  t = R y1            || RM M (f(u) - t) ||^2 + 2 || RM (1 - M) (f(u) - t) ||^2
    IsoNet2       xi = M yi + (1 - M) (f(M yi) + n)
      mw_weight off                                 1/2 sum || f(M R xi) - R xj ||^2
      mw_weight l                                   in the same pairs, || RM M (.) ||^2 + l || RM (1 - M) (.) ||^2
    Icecream      || M (f(yi) - yj) ||^2 + 2 || RM ( f(M R f(yi)) - R f(yj) ) ||^2, both ways, gradients through all passes

Norms are means over voxels of F^-1 of the masked spectrum. y0+ is y0 with its own wedge filled by f now and then (``refill``).

Sources: Wiedemann and Heckel, Nature Communications 15:8255 (2024), for DeepDeWedge; bioRxiv 2025-693325 for IsoNet2; Icecream,
Acta Crystallographica D (2026) zi5009. Differences: all use the same cube rotations, which are exact; halves are exchanged at
random in DeepDeWedge too; Icecream's mirror images, which break chirality, are left out. DeepDeWedge rotates a share of its
batches by any rotation, as the vae does: its prediction is then rotated back onto the data, and scored in a sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import ceil

import numpy as np
import torch
from torch import Tensor

from cryovae import distributed, fourier
from cryovae.data.measurement import sent
from cryovae.data.prepare import PreparedTomogram, drawn_position
from cryovae.data.sampling import sphere
from cryovae.physics.rotation import CubeRotation, random_rotation, rotate, rotated_frequencies
from cryovae.physics.wedge import wedge_mask
from cryovae.tiling.grid import Position, cut

Network = Callable[[Tensor], Tensor]
WEDGE_WEIGHT, EQUIVARIANCE_WEIGHT = 2.0, 2.0


@dataclass(frozen=True)
class FreeRotation:
    """A batch rotated by any rotations R, scored in the frame in which it was cut.

    Attributes:
        source: R y0+, (batch, z, y, x).
        inverse_rotation: R^-1, (batch, 3, 3).
        mask: M, (batch, z, y, x // 2 + 1).
        rotated_mask: R^-1 M, (batch, z, y, x // 2 + 1).
        support: 1 in the sphere that is scored, (z, y, x).
    """

    source: Tensor
    inverse_rotation: Tensor
    mask: Tensor
    rotated_mask: Tensor
    support: Tensor

    def to(self, device: torch.device) -> FreeRotation:
        """The same on another device."""
        return FreeRotation(*(sent(getattr(self, f.name), device) for f in fields(self)))


@dataclass(frozen=True)
class HalfPair:
    """A batch for regression, in the frame in which it was cut.

    Attributes:
        first: y0, (batch, z, y, x).
        second: y1, (batch, z, y, x).
        filled: y0 with its wedge filled, or y0, (batch, z, y, x).
        rotations: R of each patch.
        input_mask: M, Nyquist planes included, (z, y, x // 2 + 1).
        rotated_mask: RM, (batch, z, y, x // 2 + 1).
        free: the batch rotated by any rotations, in place of ``rotations`` and ``rotated_mask``, or None; for DeepDeWedge only.
    """

    first: Tensor
    second: Tensor
    filled: Tensor
    rotations: Sequence[CubeRotation]
    input_mask: Tensor
    rotated_mask: Tensor
    free: FreeRotation | None = None

    def to(self, device: torch.device) -> HalfPair:
        """The same on another device."""
        return HalfPair(
            sent(self.first, device),
            sent(self.second, device),
            sent(self.filled, device),
            self.rotations,
            sent(self.input_mask, device),
            sent(self.rotated_mask, device),
            None if self.free is None else self.free.to(device),
        )

    def rotated(self, density: Tensor) -> Tensor:
        """R x for each x of a batch (batch, z, y, x)."""
        return torch.stack([g(x) for g, x in zip(self.rotations, density, strict=True)])


def draw_halves(
    prepared: PreparedTomogram,
    halves: tuple[Tensor, Tensor],
    filled: tuple[Tensor, Tensor],
    side: int,
    batch: int,
    rng: torch.Generator,
    free_fraction: float = 0.0,
) -> HalfPair:
    """Draw a batch of patches that share no voxel with held-out ones.

    Args:
        prepared: the tomogram.
        halves: its halves, (z, y, x); they are exchanged at random.
        filled: the same with their wedges filled.
        side: side of a patch, in voxels.
        batch: patches of each process; of several, each takes its part of what one would draw for all.
        rng: random numbers of the step.
        free_fraction: share of the batches that are rotated by any rotations, not by those of training, 0 to 1.

    Returns:
        The batch.
    """
    count = batch * distributed.count()
    own = distributed.own(count)
    positions = [drawn_position(prepared, side, rng) for _ in range(count)]
    tables = prepared.orientations
    indices = [int(torch.randint(len(tables.rotations), (1,), generator=rng)) for _ in range(count)][own]
    swaps = [int(torch.randint(2, (1,), generator=rng)) for _ in range(count)][own]
    free = None
    if free_fraction and bool(torch.rand((), generator=rng) < free_fraction):
        numbers = np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng)))
        matrices = [random_rotation(numbers) for _ in positions][own]
        free = _free_rotation(prepared, [filled[swap] for swap in swaps], positions[own], matrices, side)

    def patches(volumes: tuple[Tensor, Tensor], other: int) -> Tensor:
        return torch.stack([cut(volumes[swap ^ other], p, side) for swap, p in zip(swaps, positions[own], strict=True)])

    return HalfPair(
        first=patches(halves, 0),
        second=patches(halves, 1),
        filled=patches(filled, 0),
        rotations=[tables.rotations[index] for index in indices],
        input_mask=tables.input_mask,
        rotated_mask=tables.masks[torch.tensor(indices)],
        free=free,
    )


def _free_rotation(
    prepared: PreparedTomogram, volumes: Sequence[Tensor], positions: Sequence[Position], matrices: Sequence[Tensor], side: int
) -> FreeRotation:
    shape, margin = (side, side, side), ceil(side * (3**0.5 - 1) / 2)
    corners = [(z - margin, y - margin, x - margin) for z, y, x in positions]
    wide = [cut(volume, corner, side + 2 * margin) for volume, corner in zip(volumes, corners, strict=True)]
    inverse_rotation = torch.stack([r.T for r in matrices])
    k = fourier.frequencies(shape)
    return FreeRotation(
        source=torch.stack([rotate(w[None, None], r, shape)[0, 0] for w, r in zip(wide, matrices, strict=True)]),
        inverse_rotation=inverse_rotation,
        mask=prepared.orientations.canonical.expand(len(matrices), -1, -1, -1),
        rotated_mask=torch.stack([wedge_mask(rotated_frequencies(k, r), prepared.tilts, 1 / side) for r in inverse_rotation]),
        support=sphere(side),
    )


def masked_power(residual: Tensor, mask: Tensor) -> Tensor:
    """Mean over voxels of the square of F^-1[ mask F residual ], by Parseval; residual (batch, z, y, x)."""
    spectrum = fourier.transform(residual)
    power = spectrum.real.square() + spectrum.imag.square()
    return (mask.square() * fourier.multiplicity(residual.shape[-3:], residual.device) * power).sum() / residual.numel()


def deepdewedge(network: Network, pair: HalfPair) -> Tensor:
    """DeepDeWedge's loss: what is measured of the other half, that in the canonical wedge with twice the weight."""
    free = pair.free
    if free is None:
        residual = network(fourier.filtered(pair.rotated(pair.filled), pair.input_mask)) - pair.rotated(pair.second)
        measured, visible = pair.rotated_mask, pair.input_mask
    else:
        predicted = network(fourier.filtered(free.source, pair.input_mask))
        returned = torch.cat([rotate(x[None, None], r)[0] for x, r in zip(predicted, free.inverse_rotation, strict=True)])
        residual = free.support * (returned - pair.second)
        measured, visible = free.mask, free.rotated_mask
    return masked_power(residual, measured * visible) + WEDGE_WEIGHT * masked_power(residual, measured * (1 - visible))


def isonet2(network: Network, pair: HalfPair, mw_weight: float | None, generator: torch.Generator) -> Tensor:
    """IsoNet2's loss between halves whose wedges the network has filled.

    Inputs get the noise that the predictions lack, and the mean and standard deviation of the patch as it was cut.

    Args:
        network: the network f.
        pair: the batch.
        mw_weight: weight of the canonical wedge in a score of what was measured; None scores all bins, those that the network
            itself made up included (IsoNet2's default).
        generator: random numbers of the step.

    Returns:
        The loss, a mean over voxels.
    """
    halves = (pair.first, pair.second)
    with torch.no_grad():
        masked = [fourier.filtered(half, pair.input_mask) for half in halves]
        predicted = [network(half) for half in masked]
        noise = ((masked[0] - masked[1]).var() / 2 - (predicted[0] - predicted[1]).var() / 2).abs().sqrt()
        white = [_white_like(x, generator) for x in predicted]
        filled = [
            h + fourier.filtered(x + noise * w - h, 1 - pair.input_mask) for h, x, w in zip(halves, predicted, white, strict=True)
        ]
    rotated = [pair.rotated(x) for x in filled]
    loss = pair.first.new_zeros(())
    for source, target in ((0, 1), (1, 0)):
        scaled = standardised_like(fourier.filtered(rotated[source], pair.input_mask), masked[source])
        residual = network(scaled) - rotated[target]
        if mw_weight is None:
            loss = loss + residual.square().mean() / 2
        else:
            visible = masked_power(residual, pair.rotated_mask * pair.input_mask)
            wedge = masked_power(residual, pair.rotated_mask * (1 - pair.input_mask))
            loss = loss + (visible + mw_weight * wedge) / 2
    return loss


def _white_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """White noise of the shape of ``x``; of several processes each takes its part of what one would draw for all."""
    count = len(x) * distributed.count()
    return torch.randn((count, *x.shape[1:]), generator=generator)[distributed.own(count)].to(x.device)


def standardised_like(x: Tensor, model: Tensor) -> Tensor:
    """x with the mean and standard deviation of ``model``, both (batch, z, y, x)."""
    axes = (-3, -2, -1)
    scale = model.std(axes, keepdim=True) / x.std(axes, keepdim=True).clamp_min(1e-9)
    return (x - x.mean(axes, keepdim=True)) * scale + model.mean(axes, keepdim=True)


def icecream(network: Network, pair: HalfPair) -> Tensor:
    """Icecream's loss: each half predicts the other where it was measured, and f after R and M undoes M."""
    halves = (pair.first, pair.second)
    predicted = [network(half) for half in halves]
    rotated = [pair.rotated(x) for x in predicted]
    loss = pair.first.new_zeros(())
    for source, target in ((0, 1), (1, 0)):
        loss = loss + masked_power(predicted[source] - halves[target], pair.input_mask)
        again = network(fourier.filtered(rotated[source], pair.input_mask))
        loss = loss + EQUIVARIANCE_WEIGHT * masked_power(again - rotated[target], pair.rotated_mask)
    return loss


OBJECTIVES: dict[str, Callable[[Network, HalfPair, torch.Generator], Tensor]] = {
    "deepdewedge": lambda network, pair, _: deepdewedge(network, pair),
    "isonet2": lambda network, pair, generator: isonet2(network, pair, None, generator),
    "isonet2_mw": lambda network, pair, generator: isonet2(network, pair, 20.0, generator),
    "icecream": lambda network, pair, _: icecream(network, pair),
}
# Only DeepDeWedge can be scored after its prediction is rotated back.
FREE = ("deepdewedge",)
# Only DeepDeWedge fills the wedge of its inputs now and then; IsoNet2 does it in every step.
REFILLED = ("deepdewedge",)
# Icecream's network sees its input twice at test: f(M f(x)).
TWICE = ("icecream",)
