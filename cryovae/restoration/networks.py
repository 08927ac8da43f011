"""Restoring by a deterministic network: one density, and no error bars.

x = 1/2 sum_i f(M y_i),            or f(M f(y_i)) where the objective says so                     over the halves
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import PreparedHalves, prepare, prepare_halves
from cryovae.models.unet import UNet
from cryovae.objectives.regression import TWICE
from cryovae.physics.wedge import emptied, smeared_mask, volume_mask
from cryovae.tiling.grid import Blender, PatchGrid, cut
from cryovae.tomogram import TiltGeometry, Tomogram


@dataclass(frozen=True)
class NetworkRestoration:
    """What a deterministic network makes of a tomogram, on the grey scale of the input.

    Attributes:
        mean: mean of the densities restored from the halves, (z, y, x).
        consistent: the same, weighted with the data where something was measured, (z, y, x); ``mean`` where there are no halves.
        halves: the density restored from each half, (z, y, x), or None.
        measured: ``consistent``, or ``mean`` if asked for raw, without its wedge, and without the fill of the tomogram.
    """

    mean: Tensor
    consistent: Tensor
    halves: tuple[Tensor, Tensor] | None
    measured: Tensor


@torch.no_grad()
def predict_volume(
    network: UNet,
    density: Tensor,
    tilts: TiltGeometry,
    patch: int,
    device: torch.device,
    twice: bool = False,
    overlapping: bool = True,
) -> Tensor:
    """Restore a volume tile by tile.

    Args:
        network: the trained network.
        density: standardised density, (z, y, x).
        tilts: its tilt geometry; the wedge of a tile is made empty, as in training.
        patch: side of a tile, in voxels.
        device: where the network is.
        twice: apply the network twice, f(M f(y)).
        overlapping: tiles overlap by half and are blended; otherwise they lie side by side.

    Returns:
        The restored density, (z, y, x).
    """
    grid = PatchGrid((density.shape[0], density.shape[1], density.shape[2]), patch, patch // 2 if overlapping else patch)
    input_mask = smeared_mask((patch,) * 3, tilts).to(device)
    blender = Blender(grid)
    for position in grid:
        tile = cut(density, position, patch)[None].to(device)
        # In training the first of two passes sees the patch as it was cut.
        blender.add(position, network(fourier.filtered(network(tile) if twice else tile, input_mask))[0])
    return blender.blended()


def fill_halves(network: UNet, data: PreparedHalves, patch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both halves (z, y, x) with the missing wedge filled by a network, each tile by itself, as DeepDeWedge does."""
    tilts = data.prepared.tilts
    mask = volume_mask(data.prepared.density.shape, tilts)

    def filled(half: Tensor) -> Tensor:
        restored = predict_volume(network, half, tilts, patch, device, overlapping=False)
        return restored + fourier.filtered(half - restored, mask)

    return filled(data.halves[0]), filled(data.halves[1])


def restore_by_network(
    network: UNet, tomogram: Tomogram, patch: int, objective: str, device: torch.device, raw: bool = False
) -> NetworkRestoration:
    """Apply a trained network to both halves of a tomogram, or to its one volume; ``raw`` as of ``NetworkRestoration``."""
    network = network.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    data = prepare_halves(tomogram, prepare(tomogram, patch))
    tilts, scale, shift = data.prepared.tilts, data.prepared.scale, data.prepared.mean

    def restored(density: Tensor) -> Tensor:
        return predict_volume(network, density, tilts, patch, device, twice=objective in TWICE)

    def without_wedge(density: Tensor) -> Tensor:
        mask = emptied(volume_mask(density.shape, replace(tilts, transfer=None)))
        return fourier.filtered(density, mask) * scale + shift

    if data.single:
        density = restored(data.prepared.density)
        mean = _kept(density * scale + shift, tomogram, 0)
        return NetworkRestoration(mean, mean, None, without_wedge(density))
    halves = restored(data.halves[0]), restored(data.halves[1])
    mean = (halves[0] + halves[1]) / 2
    region = data.prepared.region
    window = None if region is None else region.window()
    weight = data_weight(halves, data.halves, volume_mask(mean.shape, tilts), window)
    consistent = mean + fourier.filtered(data.prepared.density - mean, weight)
    measured = without_wedge(mean if raw else consistent)
    grey, consistent, first, second = (volume * scale + shift for volume in (mean, consistent, *halves))
    return NetworkRestoration(
        _kept(grey, tomogram, 0),
        _kept(consistent, tomogram, 0),
        (_kept(first, tomogram, 1), _kept(second, tomogram, 2)),
        measured,
    )


def _kept(restored: Tensor, tomogram: Tomogram, source: int) -> Tensor:
    """A restored volume with the fill of the tomogram as it was."""
    return restored if tomogram.fill is None else torch.from_numpy(tomogram.fill.kept(restored.numpy(), source))


def data_weight(
    restored: tuple[Tensor, Tensor], halves: tuple[Tensor, Tensor], mask: Tensor, window: Tensor | None = None
) -> Tensor:
    """The weight w with which w y + (1 - w) x has the least error, by shell, from what one half says of the other.

    With x0 = f(y0), v = < Re (y1 - x0) conj(y0 - x0) > / < |y0 - x0|^2 > is the best weight of y0, whose noise has twice the
    variance of the mean's: v = P / (P + 2 sigma^2), so w = P / (P + sigma^2) = 2 v / (1 + v).

    Args:
        restored: densities restored from the halves, (z, y, x).
        halves: the halves, (z, y, x).
        mask: 1 where something was measured, (z, y, x // 2 + 1).
        window: (z, y, x) through which all of them are seen, or None for all voxels.

    Returns:
        w, (z, y, x // 2 + 1), 0 to 1.
    """
    shape = mask.shape[0], mask.shape[1], restored[0].shape[-1]
    shell = (fourier.radius(shape) * min(shape)).round().long()
    sums = torch.zeros(2, int(shell.max()) + 1, dtype=torch.float64)
    measured = (mask == 1) * fourier.multiplicity(shape)
    for own, other in ((0, 1), (1, 0)):
        residuals = halves[own] - restored[own], halves[other] - restored[own]
        own_residual, cross_residual = (fourier.transform(r if window is None else r * window) for r in residuals)
        terms = torch.stack(((cross_residual * own_residual.conj()).real, own_residual.abs().square())) * measured
        fourier.add_shell_sums(sums, terms, shell)
    v = (sums[0] / sums[1].clamp_min(1e-30)).clamp(0, 1).float()
    return mask * (2 * v / (1 + v))[shell]
