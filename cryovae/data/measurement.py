"""Inputs of the encoders and the data that the model must explain.

A patch y and its mask M are rotated by a rotation R. The posterior q sees v = R y. The partial posterior r sees

    u = F^-1[ M D F v ]                       the canonical wedge removed, as at test; D drops further bins at random

Bins that are measured but hidden from r, M_R (1 - M D), score how well the wedge is filled.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from typing import Annotated

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.noise import NoiseSpectrum, SpectralTable
from cryovae.physics.rotation import CubeRotation, rotated_frequencies, rotations_named
from cryovae.physics.wedge import patch_mask, smeared_mask
from cryovae.ranges import OneOf, Range, check_fields
from cryovae.tomogram import TiltGeometry

CPU = torch.device("cpu")
ROTATION_SETS = ("useful", "all", "beam", "none")


@dataclass(frozen=True)
class MaskingConfig:
    """Settings of the bins hidden from the encoder r, the rotations, and the variances of the likelihood.

    Attributes:
        drop: share of the bins hidden from r at random, on top of the wedge, 0 to below 1.
        rotated_fraction: share of the batches rotated by random rotations of SO(3) instead of the cube, 0 to 1.
        rotations: cube rotations of the other batches: 'useful' (those that bring measured data into the wedge), 'all' (24),
            'beam' (about the beam) or 'none'.
        hide: whether the canonical wedge is hidden from r; off for ablations only.
        tolerance: variance of the model's own error that the likelihood allows for, as a share of the signal's power by shell.
        noise: the noise variance sigma^2(k): 'angular', 'radial' or 'white'.
    """

    drop: Annotated[float, Range(0, 1, below=True, what="a share of the bins")] = 0.1
    rotated_fraction: Annotated[float, Range(0, 1, what="a share of the batches")] = 0.1
    rotations: Annotated[str, OneOf(ROTATION_SETS)] = "useful"
    hide: bool = True
    tolerance: Annotated[float, Range(0, 100, what="a share of the signal's power")] = 0.03
    noise: Annotated[str, OneOf(("angular", "radial", "white"))] = "angular"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Measurement:
    """A batch of patches with their measured bins and the input of each encoder.

    The mean of v, which every tilt range measures, is subtracted from all three densities.

    Attributes:
        input_full: v, input of q, in the rotated frame, (batch, z, y, x).
        input_masked: u, input of r, in the rotated frame, (batch, z, y, x).
        data: y, in the frame in which it is scored, (batch, z, y, x).
        mask: measured bins, in the frame of ``data``, (batch, z, y, x // 2 + 1), 0 to 1.
        target_mask: measured bins that are hidden from r, in the frame of ``data``, (batch, z, y, x // 2 + 1), 0 to 1.
        variance: sigma^2, in the frame of ``data``, (batch, z, y, x // 2 + 1).
        support: voxels with data, (batch, z, y, x) in [0, 1], or None for all.
        scored: 0 for held-out voxels, else 1, (batch, z, y, x), or None if there are none.
        inverse_rotation: rotations from the rotated frame to that of ``data``, (batch, 3, 3), or None if both are the same.
        input_mask: M D, in the frame of ``data``, (batch, z, y, x // 2 + 1), or None where the input of r has no mask there.
        model_variance: variance of the model's own error that the likelihood allows for, (z, y, x // 2 + 1), or None for none.
    """

    input_full: Tensor
    input_masked: Tensor
    data: Tensor
    mask: Tensor
    target_mask: Tensor
    variance: Tensor
    support: Tensor | None = None
    scored: Tensor | None = None
    inverse_rotation: Tensor | None = None
    input_mask: Tensor | None = None
    model_variance: Tensor | None = None

    @property
    def scored_variance(self) -> Tensor:
        """Variance of a residual in the likelihood."""
        return self.variance if self.model_variance is None else self.variance + self.model_variance

    def to(self, device: torch.device) -> Measurement:
        """The same on another device."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **moved)

    def rows(self, which: slice) -> Measurement:
        """Some of the patches."""
        cut = {name: value[which] for name, value in vars(self).items() if isinstance(value, Tensor) and name != "model_variance"}
        return replace(self, **cut)


class Orientations:
    """The rotated masks and noise spectra of one tilt geometry, each computed once.

    Attributes:
        rotations: cube rotations, chosen by name as in physics/rotation.py.
        masks: rotated masks, (rotations, z, y, x // 2 + 1), z = y = x = side.
        variances: rotated noise variances, of the shape of ``masks``.
        canonical: mask without rotation, (z, y, x // 2 + 1).
        input_mask: the same with its Nyquist planes, which r sees but no term scores; all 1 without ``hide``.
        canonical_variance: noise variance without rotation, (z, y, x // 2 + 1).
        model_variance: variance of the model's own error, (z, y, x // 2 + 1), the same in every orientation, or None.
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
        """The same on another device; the most recently used are cached there."""
        return self if device.type == "cpu" else _moved(self, device)


@lru_cache(maxsize=64)
def _moved(tables: Orientations, device: torch.device) -> Orientations:
    moved = copy.copy(tables)
    for name, value in vars(tables).items():
        if isinstance(value, Tensor):
            setattr(moved, name, sent(value, device))
    return moved


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device, copied asynchronously from pinned memory."""
    return values if device.type == "cpu" else values.contiguous().pin_memory().to(device, non_blocking=True)


def random_keep(shape: Sequence[int], share: float, generator: torch.Generator, device: torch.device = CPU) -> Tensor:
    """Mask (batch, z, y, x // 2 + 1) of 0 and 1 that drops ``share`` of the bins at random, Hermitian, keeping k = 0.

    The power of white noise is Hermitian and exponentially distributed, so a threshold on it draws the bins.
    """
    white = fourier.transform(sent(torch.randn(tuple(shape), generator=generator), device))
    keep = (white.real.square() + white.imag.square() > -log(max(1 - share, 1e-9))).float()
    keep[..., 0, 0, 0] = 1.0
    return keep
