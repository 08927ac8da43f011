"""Rotations of densities: the 24 of the cube, exact on the grid, and any of SO(3), by interpolation.

A cube rotation moves voxels, out(r) = in(g^-1 r), so F out (k) = F in (g^-1 k) up to a phase. Masks and spectra are rotated by
evaluating them at rotated frequencies, never by resampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovae.errors import InputError
from cryovae.physics.directions import tilt_mask
from cryovae.tomogram import TiltGeometry


@dataclass(frozen=True)
class CubeRotation:
    """One of the 24 rotations of a cube.

    Attributes:
        axes: input axis of each output axis.
        signs: -1 for each output axis along which the input is reversed, else 1.
    """

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]

    @property
    def inverse(self) -> CubeRotation:
        """The rotation that undoes this one."""
        axes, signs = [0, 0, 0], [1, 1, 1]
        for out, (axis, sign) in enumerate(zip(self.axes, self.signs, strict=True)):
            axes[axis], signs[axis] = out, sign
        return CubeRotation((axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2]))

    @property
    def matrix(self) -> Tensor:
        """(3, 3) rotation g with out(r) = in(g^-1 r), r = (z, y, x)."""
        backward = torch.zeros(3, 3)
        for out, (axis, sign) in enumerate(zip(self.axes, self.signs, strict=True)):
            backward[axis, out] = sign
        return backward.T

    def __call__(self, density: Tensor) -> Tensor:
        """Rotate the last three axes, (..., z, y, x) to (..., z', y', x'), without interpolation; a copy."""
        lead = density.ndim - 3
        rotated = density.permute(*range(lead), *(lead + axis for axis in self.axes))
        return rotated.flip([lead + out for out, sign in enumerate(self.signs) if sign < 0])


def cube_rotations() -> list[CubeRotation]:
    """The 24 proper rotations of the cube, the identity first."""
    candidates = [CubeRotation((p[0], p[1], p[2]), s) for p in permutations(range(3)) for s in product((1, -1), (1, -1), (1, -1))]
    return [g for g in candidates if torch.linalg.det(g.matrix) > 0]


IDENTITY = CubeRotation((0, 1, 2), (1, 1, 1))


def rotated_frequencies(frequency: Tensor, rotation: Tensor) -> Tensor:
    """R^-1 k (3, ...) for frequencies (3, ...): the spectrum of a density rotated by R at k is the original one at R^-1 k."""
    return torch.einsum("ji,j...->i...", rotation.to(frequency), frequency)


def random_rotation(rng: np.random.Generator) -> Tensor:
    """A (3, 3) rotation matrix, uniform on SO(3)."""
    return torch.from_numpy(Rotation.random(rng=rng).as_matrix()).float()


def rotate(density: Tensor, rotation: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
    """out(r) = in(R^-1 r) about the centre, trilinear, zero outside.

    Interpolation colours noise, so rotate noise-free densities only.

    Args:
        density: (batch, channel, z, y, x).
        rotation: R, (3, 3).
        shape: (z, y, x) of the output, or None for that of the input.

    Returns:
        (batch, channel, *shape).
    """
    nz, ny, nx = density.shape[-3:] if shape is None else shape
    centred = [torch.arange(n, dtype=density.dtype, device=density.device) - (n - 1) / 2 for n in (nz, ny, nx)]
    out = torch.stack(torch.meshgrid(*centred, indexing="ij"), dim=-1)
    source = out @ rotation.to(density)
    half = torch.tensor([(n - 1) / 2 for n in density.shape[-3:]], dtype=density.dtype, device=density.device)
    grid = (source / half.clamp_min(0.5)).flip(-1).expand(density.shape[0], nz, ny, nx, 3)
    if density.is_cuda and density.requires_grad:
        rotated: Tensor = Sampled.apply(density, grid)  # type: ignore[no-untyped-call]
        return rotated
    return sampled(density, grid)


def sampled(density: Tensor, grid: Tensor) -> Tensor:
    """(batch, channel, z, y, x) at positions (batch, z', y', x', 3), x first, -1 to 1 from first to last voxel; 0 outside."""
    return nnf.grid_sample(density, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class Sampled(torch.autograd.Function):
    """``sampled`` with reproducible gradients of the density; torch sums its own on a GPU in varying order."""

    @staticmethod
    def forward(ctx: Any, density: Tensor, grid: Tensor) -> Tensor:
        """See ``sampled``."""
        ctx.save_for_backward(grid)
        ctx.shape = density.shape
        return sampled(density, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient at each position, distributed to the eight voxels around it."""
        (grid,) = ctx.saved_tensors
        batch, channels, *sizes = ctx.shape
        last = torch.tensor([n - 1 for n in reversed(sizes)], dtype=grid.dtype, device=grid.device)
        position = (grid + 1) / 2 * last
        low = position.floor()
        sums = gradient.new_zeros(batch * sizes[0] * sizes[1] * sizes[2], channels)
        rows = torch.arange(batch, device=grid.device).view(-1, 1, 1, 1) * sizes[0]
        for corner in product((0, 1), repeat=3):
            at = low + torch.tensor(corner, dtype=grid.dtype, device=grid.device)
            weight = (1 - (position - at).abs()).prod(-1) * ((at >= 0) & (at <= last)).all(-1)
            x, y, z = torch.minimum(at.clamp_min(0), last).long().unbind(-1)
            index = ((rows + z) * sizes[1] + y) * sizes[2] + x
            # index_put_ with accumulate sorts by index first, so the order of the sum is fixed.
            parts = (gradient * weight[:, None]).movedim(1, -1).reshape(-1, channels)
            sums.index_put_((index.flatten(),), parts, accumulate=True)
        return sums.view(batch, *sizes, channels).movedim(-1, 1), None


# |k| in cycles per voxel at which ``wedge_share`` is evaluated: there is signal, and the slabs are thin compared with it.
SHARE_FREQUENCY = 0.25


def wedge_share(tilts: TiltGeometry, rotation: Tensor, count: int = 4096) -> float:
    """The share of the missing wedge that is measured once the specimen is rotated, (3, 3), from ``count`` directions."""
    k = torch.randn(3, count, generator=torch.Generator().manual_seed(0))
    k = SHARE_FREQUENCY * k / k.square().sum(0).sqrt()

    def measured(frequency: Tensor) -> Tensor:
        return tilt_mask(frequency, tilts, 1e-6) > 0.5

    missing = ~measured(k)
    if not missing.any():
        return 1.0
    return float((measured(rotated_frequencies(k, rotation)) & missing).sum() / missing.sum())


@cache
def training_rotations(tilts: TiltGeometry, least: float = 0.3) -> tuple[CubeRotation, ...]:
    """The cube rotations that bring measured data into at least the share ``least`` of the missing wedge.

    These are 20 of 24 for a symmetric range, 16 for two such axes or a cone. The others map the wedge to itself: nothing in it
    would be scored, and the encoder would learn to leave the wedge empty.
    """
    return tuple(g for g in cube_rotations() if wedge_share(tilts, g.matrix) >= least)


def rotations_named(name: str, tilts: TiltGeometry) -> tuple[CubeRotation, ...]:
    """Cube rotations by name: 'useful' (``training_rotations``), 'all' (24), 'beam' (the 4 about the beam) or 'none'.

    Raises:
        InputError: the name is none of these.
    """
    if name == "useful":
        return training_rotations(tilts)
    sets = {
        "all": cube_rotations(),
        "beam": [g for g in cube_rotations() if g.axes[0] == 0 and g.signs[0] == 1],
        "none": [IDENTITY],
    }
    if name not in sets:
        raise InputError(f"rotations '{name}' found, expected useful, {', '.join(sets)}")
    return tuple(sets[name])


@cache
def symmetry_rotations(tilts: TiltGeometry, most: float = 0.01) -> tuple[CubeRotation, ...]:
    """The cube rotations that map the wedge to itself, the identity first.

    These are 4 for a symmetric range about y, 2 for any other, 8 for two equal axes at right angles or a cone, and fewer for an
    axis off the grid.
    """
    if not tilts.has_wedge:
        return (IDENTITY,)
    return tuple(g for g in cube_rotations() if wedge_share(tilts, g.matrix) <= most)
