"""What others train: deterministic networks f, by regression from one half of the data to the other.

y0, y1: the halves of a patch (one volume stands for both where there are none). M: the wedge mask, R: a rotation, RM its mask.

    DeepDeWedge   u = M R y0+,  t = R y1            || RM M (f(u) - t) ||^2 + 2 || RM (1 - M) (f(u) - t) ||^2
    IsoNet2       xi = M yi + (1 - M) (f(M yi) + n)
      mw_weight off                                 1/2 sum || f(M R xi) - R xj ||^2
      mw_weight l                                   in the same pairs, || RM M (.) ||^2 + l || RM (1 - M) (.) ||^2
    Icecream      || M (f(yi) - yj) ||^2 + 2 || RM ( f(M R f(yi)) - R f(yj) ) ||^2, both ways, gradients through all passes

Norms are means over voxels of F^-1 of the masked spectrum. y0+ is y0 with its own wedge filled by f now and then (``refill``).

Sources: Wiedemann and Heckel, Nature Communications 15:8255 (2024), for DeepDeWedge; bioRxiv 2025-693325 for IsoNet2; Icecream,
Acta Crystallographica D (2026) zi5009. Here as there, except that all turn by the same cube rotations, which are exact, that
halves are swapped at random in DeepDeWedge too, and that Icecream's mirror images, which break chirality, are left out.
DeepDeWedge turns a share of its batches by any rotation, as the vae does: its answer is then turned back onto the data, and
scored in a sphere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import ceil

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
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
    """A batch turned by any rotations, scored in the frame in which it was cut.

    source: R y0+, (batch, z, y, x). back: R^-1, (batch, 3, 3). measured, seen: M and R^-1 M, (batch, z, y, x // 2 + 1). support:
    (z, y, x), 1 in the sphere that is scored.
    """

    source: Tensor
    back: Tensor
    measured: Tensor
    seen: Tensor
    support: Tensor

    def to(self, device: torch.device) -> FreeRotation:
        """The same on another device."""
        return FreeRotation(*(sent(getattr(self, f.name), device) for f in fields(self)))


@dataclass(frozen=True)
class HalfPair:
    """A batch for regression, all (batch, z, y, x) in the frame in which it was cut.

    first, second: y0 and y1. filled: y0 with its wedge filled, or y0. rotations: one for each of the batch. given: M,
    (z, y, x // 2 + 1), Nyquist planes included. rotated: RM, (batch, z, y, x // 2 + 1). free: where rotations are any of
    SO(3), of which only DeepDeWedge knows; then ``rotations`` and ``rotated`` go unused.
    """

    first: Tensor
    second: Tensor
    filled: Tensor
    rotations: Sequence[CubeRotation]
    given: Tensor
    rotated: Tensor
    free: FreeRotation | None = None

    def to(self, device: torch.device) -> HalfPair:
        """The same on another device."""
        moved = [sent(x, device) for x in (self.first, self.second, self.filled, self.given, self.rotated)]
        first, second, filled, given, rotated = moved
        free = None if self.free is None else self.free.to(device)
        return replace(self, first=first, second=second, filled=filled, given=given, rotated=rotated, free=free)

    def rotation(self, density: Tensor) -> Tensor:
        """R x for each of the batch."""
        return torch.stack([g(x) for g, x in zip(self.rotations, density, strict=True)])


def draw_halves(
    prepared: PreparedTomogram,
    halves: tuple[Tensor, Tensor],
    filled: tuple[Tensor, Tensor],
    side: int,
    batch: int,
    rng: torch.Generator,
    freely: float = 0.0,
) -> HalfPair:
    """A batch of patches that share no voxel with held-out ones, halves in either order, turned by the training rotations.

    freely: the share of batches that are turned by any rotations instead.
    """
    positions = [drawn_position(prepared, side, rng) for _ in range(batch)]
    tables = prepared.orientations
    orientations = [int(torch.randint(len(tables.rotations), (1,), generator=rng)) for _ in range(batch)]
    swaps = [int(torch.randint(2, (1,), generator=rng)) for _ in range(batch)]

    def patches(volumes: tuple[Tensor, Tensor], other: int) -> Tensor:
        return torch.stack([cut(volumes[swap ^ other], p, side) for swap, p in zip(swaps, positions, strict=True)])

    return HalfPair(
        first=patches(halves, 0),
        second=patches(halves, 1),
        filled=patches(filled, 0),
        rotations=[tables.rotations[rotation] for rotation in orientations],
        given=tables.input_mask,
        rotated=tables.masks[torch.tensor(orientations)],
        free=_free_rotation(prepared, [filled[swap] for swap in swaps], positions, side, rng)
        if freely and bool(torch.rand((), generator=rng) < freely)
        else None,
    )


def _free_rotation(
    prepared: PreparedTomogram, volumes: Sequence[Tensor], positions: Sequence[Position], side: int, rng: torch.Generator
) -> FreeRotation:
    numbers = np.random.default_rng(int(torch.randint(2**31, (1,), generator=rng)))
    orientations = [random_rotation(numbers) for _ in positions]
    shape, margin = (side, side, side), ceil(side * (3**0.5 - 1) / 2)
    places = [(z - margin, y - margin, x - margin) for z, y, x in positions]
    wide = [cut(volume, place, side + 2 * margin) for volume, place in zip(volumes, places, strict=True)]
    back = torch.stack([r.T for r in orientations])
    k = fourier.frequencies(shape)
    return FreeRotation(
        source=torch.stack([rotate(w[None, None], r, shape)[0, 0] for w, r in zip(wide, orientations, strict=True)]),
        back=back,
        measured=prepared.orientations.canonical.expand(len(orientations), -1, -1, -1),
        seen=torch.stack([wedge_mask(rotated_frequencies(k, r), prepared.tilts, 1 / side) for r in back]),
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
        miss = network(fourier.filtered(pair.rotation(pair.filled), pair.given)) - pair.rotation(pair.second)
        measured, seen = pair.rotated, pair.given
    else:
        answer = network(fourier.filtered(free.source, pair.given))
        returned = torch.cat([rotate(x[None, None], r)[0] for x, r in zip(answer, free.back, strict=True)])
        miss = free.support * (returned - pair.second)
        measured, seen = free.measured, free.seen
    return masked_power(miss, measured * seen) + WEDGE_WEIGHT * masked_power(miss, measured * (1 - seen))


def isonet2(network: Network, pair: HalfPair, mw_weight: float | None, generator: torch.Generator) -> Tensor:
    """IsoNet2's loss between halves whose wedges the network has filled.

    mw_weight: None scores all bins, those that the network itself invented among them (the default there); a number scores what
    was measured, with that weight in the canonical wedge. Inputs get the noise that the predictions lack, and the scale of the
    patch as it was cut.
    """
    halves = (pair.first, pair.second)
    with torch.no_grad():
        given = [fourier.filtered(half, pair.given) for half in halves]
        found = [network(half) for half in given]
        noise = ((given[0] - given[1]).var() / 2 - (found[0] - found[1]).var() / 2).abs().sqrt()
        white = [torch.randn(f.shape, generator=generator).to(f.device) for f in found]
        filled = [h + fourier.filtered(f + noise * w - h, 1 - pair.given) for h, f, w in zip(halves, found, white, strict=True)]
    rotated = [pair.rotation(x) for x in filled]
    loss = pair.first.new_zeros(())
    for source, target in ((0, 1), (1, 0)):
        miss = network(standing_like(fourier.filtered(rotated[source], pair.given), given[source])) - rotated[target]
        if mw_weight is None:
            loss = loss + miss.square().mean() / 2
        else:
            inside = masked_power(miss, pair.rotated * pair.given)
            loss = loss + (inside + mw_weight * masked_power(miss, pair.rotated * (1 - pair.given))) / 2
    return loss


def standing_like(x: Tensor, model: Tensor) -> Tensor:
    """x with the mean and standard deviation of ``model``, both (batch, z, y, x)."""
    axes = (-3, -2, -1)
    scale = model.std(axes, keepdim=True) / x.std(axes, keepdim=True).clamp_min(1e-9)
    return (x - x.mean(axes, keepdim=True)) * scale + model.mean(axes, keepdim=True)


def icecream(network: Network, pair: HalfPair) -> Tensor:
    """Icecream's loss: each half foretells the other where it was measured, and f after R and M undoes M."""
    halves = (pair.first, pair.second)
    found = [network(half) for half in halves]
    rotated = [pair.rotation(x) for x in found]
    loss = pair.first.new_zeros(())
    for source, target in ((0, 1), (1, 0)):
        loss = loss + masked_power(found[source] - halves[target], pair.given)
        again = network(fourier.filtered(rotated[source], pair.given))
        loss = loss + EQUIVARIANCE_WEIGHT * masked_power(again - rotated[target], pair.rotated)
    return loss


OBJECTIVES: dict[str, Callable[[Network, HalfPair, torch.Generator], Tensor]] = {
    "deepdewedge": lambda network, pair, _: deepdewedge(network, pair),
    "isonet2": lambda network, pair, generator: isonet2(network, pair, None, generator),
    "isonet2_mw": lambda network, pair, generator: isonet2(network, pair, 20.0, generator),
    "icecream": lambda network, pair, _: icecream(network, pair),
}
# Only DeepDeWedge can be scored after turning its answer back.
FREE = ("deepdewedge",)
# Only DeepDeWedge fills the wedge of its inputs now and then; IsoNet2 does it in every step.
REFILLED = ("deepdewedge",)
# Icecream's network sees its input twice at test: f(M f(x)).
TWICE = ("icecream",)
