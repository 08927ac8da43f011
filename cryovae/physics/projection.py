"""Projection along the beam at each tilt, its adjoint, and reconstruction by weighted back-projection.

    p_t(y, u) = sum over (z, x) of a_t(u - u(z, x)) x(z, y, x),        u(z, x) = x cos t + z sin t
    x(z, y, x) = sum_t dt sum_u a_t(u - u(z, x)) (w * p_t)(y, u),      F w (k) = |k| Hann(k) / F a_t (k)

All coordinates are in voxels from the centres of the grids. a_t is the area that the square of a voxel shares with the strip of a
detector pixel, so mass is conserved and a constant specimen projects to its thickness without ripple (strip-area model; Kak and
Slaney, Principles of Computerized Tomographic Imaging, 1988, section 7.1). By the projection-slice theorem tilt t measures
(k_z, k_x) = |k| (sin t, cos t), the convention of ``physics.wedge``: positive tilts where k_z and k_x have the same sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import cos, pi, radians, sin

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError

# A rotated unit square touches at most three detector pixels, as its width is at most sqrt(2).
PIXELS = 3
Step = Callable[[int, int], None]


def _ramp_integral(u: Tensor, start: float, end: float) -> Tensor:
    """Integral to u of a function that rises linearly from 0 at ``start`` to 1 at ``end`` and stays there."""
    if end - start < 1e-9:
        return (u - start).clamp_min(0)
    inside = (u - start).clamp(0, end - start)
    return inside.square() / (2 * (end - start)) + (u - end).clamp_min(0)


def _below(u: Tensor, angle: float) -> Tensor:
    """The share of a unit square, rotated by ``angle`` radians, that lies below u: the integral of its trapezoid."""
    long, short = sorted((abs(cos(angle)), abs(sin(angle))), reverse=True)
    inner, outer = (long - short) / 2, (long + short) / 2
    return (_ramp_integral(u, -outer, -inner) - _ramp_integral(u, inner, outer)) / long


def system_matrix(angle: float, depth: int, width: int, pixels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sparse (pixels, depth * width): the weights a_t of the voxels of one (z, x) slice in each detector pixel.

    The angle is in degrees. Rays that miss the detector are dropped.
    """
    t = radians(angle)
    z = torch.arange(depth, dtype=torch.float64) - (depth - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    u = (z[:, None] * sin(t) + x * cos(t)).flatten() + (pixels - 1) / 2
    reach = (abs(cos(t)) + abs(sin(t))) / 2
    first = torch.floor(u - reach + 0.5)
    edges = [_below(first + step - 0.5 - u, t) for step in range(PIXELS + 1)]
    weight = torch.stack([edges[i + 1] - edges[i] for i in range(PIXELS)])
    row = torch.stack([first + i for i in range(PIXELS)]).long()
    column = torch.arange(depth * width).expand(PIXELS, -1)
    kept = (weight > 1e-12) & (row >= 0) & (row < pixels)
    index = torch.stack((row[kept], column[kept]))
    return torch.sparse_coo_tensor(index, weight[kept].to(dtype), (pixels, depth * width), check_invariants=False).coalesce()


def footprint(frequency: Tensor, angle: float) -> Tensor:
    """F a_t (...) at frequencies (...) along u in cycles per voxel: the blur of one projection or back-projection."""
    t = radians(angle)
    return torch.sinc(frequency * cos(t)) * torch.sinc(frequency * sin(t)) * torch.sinc(frequency)


def project(density: Tensor, angles: Sequence[float], width: int | None = None, step: Step | None = None) -> Tensor:
    """Projections (tilts, y, width) of a density: sums along the beam, linear in the density.

    Args:
        density: (z, y, x).
        angles: tilts in degrees.
        width: detector pixels along x, of the size of a voxel; None for as many as voxels.
        step: called with (done, total) after each tilt, or None.
    """
    nz, ny, nx = density.shape
    pixels = nx if width is None else width
    flat = density.transpose(1, 2).reshape(nz * nx, ny)
    images = []
    for i, angle in enumerate(angles):
        matrix = system_matrix(angle, nz, nx, pixels, density.dtype).to(density.device)
        images.append(torch.sparse.mm(matrix, flat).T)
        if step is not None:
            step(i + 1, len(angles))
    return torch.stack(images)


def back_project(images: Tensor, angles: Sequence[float], shape: Sequence[int], step: Step | None = None) -> Tensor:
    """The adjoint of ``project``: a density (z, y, x) of shape ``shape`` from images (tilts, y, x) at ``angles`` in degrees.

    Raises:
        InputError: images, angles and shape do not fit each other.
    """
    nz, ny, nx = shape
    if images.ndim != 3 or images.shape[0] != len(angles) or images.shape[1] != ny:
        raise InputError(
            f"images of shape {tuple(images.shape)} and {len(angles)} angles found, expected (tilts, {ny}, x) and as many angles"
        )
    density = images.new_zeros(nz * nx, ny)
    for i, angle in enumerate(angles):
        matrix = system_matrix(angle, nz, nx, images.shape[2], images.dtype).to(images.device)
        density += torch.sparse.mm(matrix.t(), images[i].T.contiguous())
        if step is not None:
            step(i + 1, len(angles))
    return density.view(nz, nx, ny).transpose(1, 2).contiguous()


def angular_steps(angles: Sequence[float]) -> np.ndarray:
    """The angle (tilts,), in radians, that each tilt represents: half the distance to both neighbours on the half circle.

    -90 and 90 degrees are one direction. A gap more than twice as wide as any other is the missing wedge; the tilts beside it
    use the distance on their other side twice.
    """
    direction = np.asarray(angles, dtype=float) % 180
    order = np.argsort(direction, kind="stable")
    gaps = np.diff(direction[order], append=direction[order[0]] + 180) / 2
    before, after = np.roll(gaps, 1), gaps.copy()
    widest, following = int(np.argmax(gaps)), (int(np.argmax(gaps)) + 1) % len(gaps)
    if gaps[widest] > 2 * np.delete(gaps, widest).max(initial=0):
        after[widest], before[following] = before[widest], gaps[following]
    steps = np.empty(len(gaps))
    steps[order] = np.radians(before + after)
    return steps


def ramp(length: int, cutoff: float, edge: float) -> Tensor:
    """F w (length // 2 + 1,) without the footprint: the ramp of a band-limited image, with a soft edge.

    The ramp is the transform of its samples in space. |k| itself would remove the mean (Kak and Slaney, section 3.3).

    Args:
        length: number of samples.
        cutoff: highest frequency in cycles per voxel.
        edge: share of the band, 0 to 1, over which a Hann window falls to zero; 1 is a plain Hann window.
    """
    n = torch.arange(length, dtype=torch.float64)
    n = torch.minimum(n, length - n)
    kernel = torch.where(n % 2 == 1, -1 / (pi * n.clamp_min(1)).square(), torch.zeros_like(n))
    kernel[0] = 0.25
    slope = fourier.transform(kernel.view(1, 1, -1)).real.flatten() * length**0.5
    k = fourier.frequencies((1, 1, length))[2].flatten().double()
    start = cutoff * (1 - edge)
    fallen = ((k - start) / max(cutoff - start, 1e-9)).clamp(0, 1)
    return slope * 0.5 * (1 + torch.cos(pi * fallen))


def weighted_back_projection(
    images: Tensor,
    angles: Sequence[float],
    shape: Sequence[int],
    cutoff: float = 0.5,
    edge: float = 0.3,
    step: Step | None = None,
) -> Tensor:
    """Reconstruct a density from its projections.

    Projections over the half circle give the density on its own scale. Uneven tilts are weighted by ``angular_steps``.

    Args:
        images: (tilts, y, x).
        angles: tilts in degrees.
        shape: (z, y, x) of the density.
        cutoff: highest frequency in cycles per voxel, see ``ramp``.
        edge: share of the band in which the filter falls, see ``ramp``.
        step: called with (done, total) after each tilt, or None.

    Raises:
        InputError: cutoff or edge are out of range, or images, angles and shape do not fit each other.
    """
    if not 0 < cutoff <= 0.5 or not 0 <= edge <= 1:
        raise InputError(
            f"cutoff {cutoff:g}, edge {edge:g} found, expected a cutoff within 0 to 0.5 cycles and an edge in 0 to 1"
        )
    nx = images.shape[-1]
    length = 2 ** (2 * nx - 1).bit_length()
    filter_ = ramp(length, cutoff, edge)
    k = fourier.frequencies((1, 1, length))[2].flatten().double()
    weighted = []
    for image, angle, share in zip(images, angles, angular_steps(angles), strict=False):
        padded = torch.nn.functional.pad(image, (0, length - nx))[:, None, None, :]
        weight = (filter_ * share / footprint(k, angle)).to(padded)
        weighted.append(fourier.filtered(padded, weight)[:, 0, 0, :nx])
    return back_project(torch.stack(weighted), angles, shape, step)
