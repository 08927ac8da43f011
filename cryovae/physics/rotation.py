"""Rotations of densities: the 24 of the cube, exact on the grid, and any of SO(3), by interpolation.

A cube rotation turns a density by moving voxels, out(r) = in(g^-1 r), so F out (k) = F in (g^-1 k) up to a phase: masks and
spectra are turned by turning the frequencies at which they are evaluated, never by resampling a mask.
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
from cryovae.physics.directions import wedge_mask
from cryovae.tomogram import TiltGeometry


@dataclass(frozen=True)
class CubeRotation:
    """One of the 24 rotations of a cube: output axis a is input axis ``axes[a]``, reversed where ``signs[a]`` is -1."""

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
        """Turn the last three axes, (..., z, y, x) to (..., z', y', x'); a copy, without interpolation."""
        lead = density.ndim - 3
        rotated = density.permute(*range(lead), *(lead + axis for axis in self.axes))
        return rotated.flip([lead + out for out, sign in enumerate(self.signs) if sign < 0])


def cube_rotations() -> list[CubeRotation]:
    """The 24 proper rotations of the cube, the identity first."""
    found = [CubeRotation((p[0], p[1], p[2]), s) for p in permutations(range(3)) for s in product((1, -1), (1, -1), (1, -1))]
    return [g for g in found if torch.linalg.det(g.matrix) > 0]


IDENTITY = CubeRotation((0, 1, 2), (1, 1, 1))


def rotated_frequencies(frequency: Tensor, rotation: Tensor) -> Tensor:
    """R^-1 k for frequencies (3, ...): where the spectrum of a density turned by R takes its values from."""
    return torch.einsum("ji,j...->i...", rotation.to(frequency), frequency)


def random_rotation(rng: np.random.Generator) -> Tensor:
    """A (3, 3) rotation matrix, uniform on SO(3)."""
    return torch.from_numpy(Rotation.random(rng=rng).as_matrix()).float()


def rotate(density: Tensor, rotation: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
    """out(r) = in(R^-1 r) about the centre, trilinear, zero outside: (batch, channel, z, y, x), (3, 3) -> (..., *shape).

    The noise-free density is what should be rotated: interpolation colours noise.
    """
    nz, ny, nx = density.shape[-3:] if shape is None else shape
    centred = [torch.arange(n, dtype=density.dtype, device=density.device) - (n - 1) / 2 for n in (nz, ny, nx)]
    out = torch.stack(torch.meshgrid(*centred, indexing="ij"), dim=-1)
    source = out @ rotation.to(density)
    half = torch.tensor([(n - 1) / 2 for n in density.shape[-3:]], dtype=density.dtype, device=density.device)
    grid = (source / half.clamp_min(0.5)).flip(-1).expand(density.shape[0], nz, ny, nx, 3)
    if density.is_cuda and density.requires_grad:
        found: Tensor = Sampled.apply(density, grid)  # type: ignore[no-untyped-call]
        return found
    return sampled(density, grid)


def sampled(density: Tensor, grid: Tensor) -> Tensor:
    """(batch, channel, z, y, x) at places (batch, z', y', x', 3), x first, -1 to 1 from first to last voxel; 0 outside."""
    return nnf.grid_sample(density, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class Sampled(torch.autograd.Function):
    """``sampled``, with gradients of the density that are the same each time: torch's own on a GPU are summed in any order."""

    @staticmethod
    def forward(ctx: Any, density: Tensor, grid: Tensor) -> Tensor:
        """As ``sampled``."""
        ctx.save_for_backward(grid)
        ctx.shape = density.shape
        return sampled(density, grid)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """What each place gave, back onto the eight voxels around it."""
        (grid,) = ctx.saved_tensors
        batch, channels, *sizes = ctx.shape
        last = torch.tensor([n - 1 for n in reversed(sizes)], dtype=grid.dtype, device=grid.device)
        place = (grid + 1) / 2 * last
        low = place.floor()
        found = gradient.new_zeros(batch * sizes[0] * sizes[1] * sizes[2], channels)
        rows = torch.arange(batch, device=grid.device).view(-1, 1, 1, 1) * sizes[0]
        for corner in product((0, 1), repeat=3):
            at = low + torch.tensor(corner, dtype=grid.dtype, device=grid.device)
            weight = (1 - (place - at).abs()).prod(-1) * ((at >= 0) & (at <= last)).all(-1)
            x, y, z = torch.minimum(at.clamp_min(0), last).long().unbind(-1)
            index = ((rows + z) * sizes[1] + y) * sizes[2] + x
            # Sorted by index first, and so in one order.
            parts = (gradient * weight[:, None]).movedim(1, -1).reshape(-1, channels)
            found.index_put_((index.flatten(),), parts, accumulate=True)
        return found.view(batch, *sizes, channels).movedim(-1, 1), None


# |k| in cycles per voxel at which a geometry's share is judged: where there is signal, and slabs are thin beside it.
TYPICAL = 0.25


def wedge_share(tilts: TiltGeometry, rotation: Tensor, count: int = 4096) -> float:
    """The share of the missing wedge that is measured once the specimen is turned by ``rotation``."""
    k = torch.randn(3, count, generator=torch.Generator().manual_seed(0))
    k = TYPICAL * k / k.square().sum(0).sqrt()

    def measured(frequency: Tensor) -> Tensor:
        return wedge_mask(frequency, tilts, 1e-6) > 0.5

    missing = ~measured(k)
    if not missing.any():
        return 1.0
    return float((measured(rotated_frequencies(k, rotation)) & missing).sum() / missing.sum())


@cache
def training_rotations(tilts: TiltGeometry, least: float = 0.3) -> tuple[CubeRotation, ...]:
    """The cube rotations that bring measured data into at least the share ``least`` of the missing wedge.

    20 of 24 for a symmetric range, 16 for two such axes or a cone. The others map the wedge to itself: nothing in it would be
    scored, and the encoder would learn that one missing wedge is to be left empty.
    """
    return tuple(g for g in cube_rotations() if wedge_share(tilts, g.matrix) >= least)


def rotations_named(name: str, tilts: TiltGeometry) -> tuple[CubeRotation, ...]:
    """Cube rotations by name: 'useful' (``training_rotations``), 'all' (24), 'beam' (the 4 about the beam) or 'none'."""
    if name == "useful":
        return training_rotations(tilts)
    found = {
        "all": cube_rotations(),
        "beam": [g for g in cube_rotations() if g.axes[0] == 0 and g.signs[0] == 1],
        "none": [IDENTITY],
    }
    if name not in found:
        raise InputError(f"rotations '{name}' found, expected useful, {', '.join(found)}")
    return tuple(found[name])


@cache
def symmetry_rotations(tilts: TiltGeometry, most: float = 0.01) -> tuple[CubeRotation, ...]:
    """The cube rotations that map the wedge to itself, the identity first.

    4 for a symmetric range about y, 2 for any other, 8 for two alike at right angles or a cone; fewer for an axis off the grid.
    """
    if not tilts.has_wedge:
        return (IDENTITY,)
    return tuple(g for g in cube_rotations() if wedge_share(tilts, g.matrix) <= most)
