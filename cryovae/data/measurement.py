"""Pairs: what an encoder is given, and what the model must explain.

A patch y and its mask M are turned by a rotation R. The posterior q sees v = R y. The partial posterior r sees

    u = F^-1[ M D F v ]                       the canonical wedge removed, as at test; D drops further bins at random

and what was measured but hidden from r, M_R (1 - M D), is where filling the wedge can be scored.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.noise import NoiseSpectrum, SpectralTable
from cryovae.physics.rotation import CubeRotation, rotated_frequencies, rotations_named
from cryovae.physics.wedge import patch_mask, smeared_mask
from cryovae.tomogram import TiltGeometry

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Measurement:
    """A batch of patches, what of them was measured, and what each encoder sees.

    All three densities are less the mean of v, which is measured whatever the tilts.

    input_full, input_masked: v and u, (batch, z, y, x), in the turned frame. data: y, (batch, z, y, x), in the frame where it is scored.
    mask, target_mask, variance: (batch, z, y, x // 2 + 1) in the frame of ``data``: all measured bins, those that r was not
    given, and sigma^2. support: (batch, z, y, x), the voxels that are scored, or None for all. inverse_rotation: (batch, 3, 3), the
    rotations from the turned frame to that of ``data``, or None where the two are one. input_mask: M D, as ``mask``, or None
    where what r was given is no mask in that frame. model_variance: (z, y, x // 2 + 1), the variance of the model's own error that
    the likelihood allows for on top of sigma^2, or None for none.
    """

    input_full: Tensor
    input_masked: Tensor
    data: Tensor
    mask: Tensor
    target_mask: Tensor
    variance: Tensor
    support: Tensor | None = None
    inverse_rotation: Tensor | None = None
    input_mask: Tensor | None = None
    model_variance: Tensor | None = None

    @property
    def scored_variance(self) -> Tensor:
        """The variance that the likelihood takes for a residual."""
        return self.variance if self.model_variance is None else self.variance + self.model_variance

    def to(self, device: torch.device) -> Measurement:
        """The same on another device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def rows(self, which: slice) -> Measurement:
        """Some of the patches."""
        cut = {name: value[which] for name, value in vars(self).items() if isinstance(value, Tensor) and name != "tolerated"}
        return replace(self, **cut)


class Orientations:
    """The turned masks and noise spectra of one tilt geometry, each computed once.

    masks, variances: (rotations, z, y, x // 2 + 1), z = y = x = side. canonical: (z, y, x // 2 + 1), not turned; input_mask: the
    same with its Nyquist planes, which are in what r is given and scored nowhere; without ``hide``, all of it is given.
    model_variance: (z, y, x // 2 + 1), of the model's own error, by shell and so the same in every orientation, or None.
    rotations: by name, as in physics/rotation.py.
    """

    def __init__(
        self,
        tilts: TiltGeometry,
        noise: NoiseSpectrum,
        side: int,
        edge_bins: float = 1.0,
        rotations: str = "useful",
        hide: bool = True,
        model_variance: SpectralTable | None = None,
    ) -> None:
        shape = (side, side, side)
        self.rotations: Sequence[CubeRotation] = rotations_named(rotations, tilts)
        matrices = [g.matrix for g in self.rotations]
        k = fourier.frequencies(shape)
        self.masks = torch.stack([patch_mask(shape, tilts, m, edge_bins) for m in matrices])
        self.variances = torch.stack([noise(rotated_frequencies(k, m)) for m in matrices])
        self.canonical = patch_mask(shape, tilts, None, edge_bins)
        input_mask = smeared_mask(shape, tilts, None, edge_bins)
        self.input_mask = input_mask if hide else torch.ones_like(input_mask)
        self.canonical_variance = noise(k)
        self.model_variance = None if model_variance is None else model_variance(k)

    def on(self, device: torch.device) -> Orientations:
        """The same on another device; those that were used last are kept there."""
        return self if device.type == "cpu" else _moved(self, device)


@lru_cache(maxsize=64)
def _moved(tables: Orientations, device: torch.device) -> Orientations:
    found = copy.copy(tables)
    for name, value in vars(tables).items():
        if isinstance(value, Tensor):
            setattr(found, name, sent(value, device))
    return found


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device, which reads them by itself: nothing waits for what it has to do before."""
    return values if device.type == "cpu" else values.contiguous().pin_memory().to(device, non_blocking=True)


def random_keep(shape: Sequence[int], share: float, generator: torch.Generator, device: torch.device = CPU) -> Tensor:
    """Mask (batch, z, y, x // 2 + 1) of 0 and 1 that drops ``share`` of the bins at random, Hermitian, keeping k = 0.

    The powers of white noise are exponential and Hermitian by themselves, so a threshold on them draws the bins.
    """
    white = fourier.transform(sent(torch.randn(tuple(shape), generator=generator), device))
    keep = (white.real.square() + white.imag.square() > -log(max(1 - share, 1e-9))).float()
    keep[..., 0, 0, 0] = 1.0
    return keep
