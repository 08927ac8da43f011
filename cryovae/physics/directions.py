"""The mask M of the frequencies that a tilt geometry measured.

A projection at tilt t measures the plane through k_y and (k_z, k_x) = |k| (sin t, cos t) in the frame of its tilt axis. A run of
tilts measures the angles between its ends; with a and b the signed distances of k from the planes at the ends, and s the half
width of a slab,

    d(k) = max( min(a, b), -max(a, b) ),        M(k) = clip( 1/2 + (d(k) + s) / edge, 0, 1 ),        M(0) = 1,

and M is the maximum over all runs and both axes. A tilt of a specimen T voxels thick measures a slab of 1/T, s = 1/(2T), in which
the transform of an object of thickness T hardly changes (Crowther, DeRosier and Klug, Proc. R. Soc. A 317, 319, 1970). The slabs
of neighbouring tilts of one run are assumed to touch; at high frequency they separate by less than a patch resolves.
"""

from __future__ import annotations

from functools import lru_cache
from math import cos, radians, sin

import numpy as np
import torch
from torch import Tensor

from cryovae.tomogram import TiltGeometry

# Steps per degree of the table of M by tilt.
STEPS_PER_DEGREE = 4


def tilt_mask(frequency: Tensor, tilts: TiltGeometry, edge: float) -> Tensor:
    """Mask (...) in [0, 1], 1 where measured, without regard to the contrast transfer.

    Args:
        frequency: (3, ...) in cycles per voxel, ordered (k_z, k_y, k_x).
        tilts: the tilt geometry.
        edge: width of the soft edge in cycles per voxel, one or two bins.
    """
    if not _has_wedge(tilts):
        return torch.ones_like(frequency[0])
    mask = _axis_mask(frequency, tilts, edge)
    other = tilts.second
    while other is not None:
        mask, other = torch.maximum(mask, _axis_mask(frequency, other, edge)), other.second
    return torch.where(frequency.abs().sum(0) < 1e-9, torch.ones_like(mask), mask)


def axis_frame(frequency: Tensor, tilts: TiltGeometry) -> tuple[Tensor, Tensor, Tensor]:
    """k_z, k_y, k_x (...) of frequencies (3, ...) in the frame whose y is the tilt axis: rotated in plane, then about x."""
    kz, ky, kx = frequency
    if tilts.axis_angle:
        c, s = cos(radians(tilts.axis_angle)), sin(radians(tilts.axis_angle))
        ky, kx = ky * c + kx * s, kx * c - ky * s
    if tilts.x_tilt:
        c, s = cos(radians(tilts.x_tilt)), sin(radians(tilts.x_tilt))
        kz, ky = kz * c - ky * s, ky * c + kz * s
    return kz, ky, kx


@lru_cache(maxsize=64)
def _has_wedge(tilts: TiltGeometry) -> bool:
    return tilts.has_wedge


@lru_cache(maxsize=64)
def _ranges(tilts: TiltGeometry) -> tuple[tuple[float, float], ...]:
    return tilts.ranges


@lru_cache(maxsize=64)
def _heights(tilts: TiltGeometry) -> Tensor | None:
    """M by tilt, (180 STEPS_PER_DEGREE + 1,) from -90 degrees, or None where it is 1 throughout.

    A tilt with at least half the median weight counts as measured, one with less in proportion. The noise spectrum already
    describes how noise grows with the tilt, so cosine weights must not enter M as well.
    """
    if tilts.weights is None:
        return None
    used = sorted((a, w) for a, w in zip(tilts.angles, tilts.weights, strict=True) if w > 0)
    angles, weights = np.array(used).T
    share = np.minimum(weights / (0.5 * np.median(weights)), 1.0)
    if share.min() >= 1.0:
        return None
    return torch.from_numpy(np.interp(np.linspace(-90, 90, 180 * STEPS_PER_DEGREE + 1), angles, share)).float()


def _axis_mask(frequency: Tensor, tilts: TiltGeometry, edge: float) -> Tensor:
    """Mask (...) of one axis of a geometry."""
    kz, ky, kx = axis_frame(frequency, tilts)
    if tilts.conical:
        return _cone_mask(kz, (kx.square() + ky.square()).sqrt(), tilts, edge)
    inside: Tensor | None = None
    for lowest, highest in _ranges(tilts):
        low, high = radians(lowest), radians(highest)
        above = kz * cos(low) - kx * sin(low)
        below = kx * sin(high) - kz * cos(high)
        depth = torch.maximum(torch.minimum(above, below), -torch.maximum(above, below))
        inside = depth if inside is None else torch.maximum(inside, depth)
    assert inside is not None
    return _softened(inside, tilts, edge) * _height_at(kz, kx, tilts)


def _cone_mask(kz: Tensor, across: Tensor, tilts: TiltGeometry, edge: float) -> Tensor:
    """Mask of conical tilting: all frequencies that rise no higher than the highest tilt."""
    steepest = radians(max(abs(tilts.lowest), abs(tilts.highest)))
    return _softened(across * sin(steepest) - kz.abs() * cos(steepest), tilts, edge)


def _softened(depth: Tensor, tilts: TiltGeometry, edge: float) -> Tensor:
    slab = 0.0 if tilts.thickness is None else 0.5 / tilts.thickness
    return (0.5 + (depth + slab if slab else depth) / edge).clamp(0, 1)


def _height_at(kz: Tensor, kx: Tensor, tilts: TiltGeometry) -> Tensor | float:
    heights = _heights(tilts)
    if heights is None:
        return 1.0
    angle = torch.rad2deg(torch.atan2(torch.where(kx < 0, -kz, kz), kx.abs()))
    return heights.to(kz)[((angle + 90) * STEPS_PER_DEGREE).round().long().clamp(0, len(heights) - 1)]
