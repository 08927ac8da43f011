"""The patches of a tomogram as points of a plane: principal axes of their codes, and densities decoded from anywhere in it.

    c_i = A (e_i - <e>),        x(c) = G( <e> + A^T c )        or, about a patch,        x(c) = G( e_i + A^T (c - c_i) )

e are codes in units of the prior (``codes``), whole grids of latents and not averages over a patch: an average says how much of
something there is and not where, and decodes to a patch that is the same everywhere. The price is that a particle and the same
one a few voxels on are different points. Latents finer than those of the map are the prior's mean given the coarser, or those of
the patch.

The coarsest latents alone may say next to nothing of a patch: the map takes as many levels, from the coarsest on, as hold the
share LEAST of the variance of what is decoded, and tells the shares.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import PreparedTomogram
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.codes import Code, decoded, encoded, flattened, unflattened
from cryovae.tiling.grid import PatchGrid, Position, cut, levels

# Share of the variance of what is decoded that the levels of a map hold together, at least; of so many patches it is found.
LEAST, PROBED = 0.25, 8
# Patches on a map, fewer if their latents take more than so many bytes; of a larger tomogram, evenly chosen ones.
MOST, BYTES = 256, 512 * 2**20
AXES = 2


class Patches:
    """The patches of a standardised tomogram as r sees them, and their codes.

    side: of a patch in voxels, that of restoring, whose half is a multiple of the coarsest latent stride. Overlap is by half.
    """

    def __init__(self, ladder: Ladder, patch: int, prepared: PreparedTomogram, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.ladder = ladder.to(self.device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.side = side_of(ladder, patch)
        self.prepared = prepared
        self.shapes = ladder.latent_shapes((self.side,) * 3)
        self._given = smeared_mask((self.side,) * 3, prepared.tilts).to(self.device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the tomogram along z, y, x."""
        nz, ny, nx = self.prepared.density.shape
        return nz, ny, nx

    def grid(self) -> list[Position]:
        """First voxels of the tiles that a restoration is made of."""
        return list(PatchGrid(self.shape, self.side, self.side // 2))

    def around(self, place: Sequence[float]) -> Position:
        """First voxel of the patch whose middle is nearest to ``place``, voxels along z, y, x, and that lies in the tomogram."""
        starts = [
            min(max(round(at) - self.side // 2, 0), max(size - self.side, 0)) for at, size in zip(place, self.shape, strict=True)
        ]
        return starts[0], starts[1], starts[2]

    def encoded(self, positions: Sequence[Position]) -> tuple[Code, Tensor, Tensor]:
        """Codes of the patches at ``positions``, what they decode to (batch, z, y, x), and their levels (batch, 1, 1, 1)."""
        tiles = torch.stack([cut(self.prepared.density, position, self.side) for position in positions]).to(self.device)
        level = levels(tiles)
        code, density = encoded(self.ladder, fourier.filtered(tiles - level, self._given))
        return code, density, level

    def decoded(self, code: Code, level: Tensor | float = 0.0) -> Tensor:
        """Densities (batch, z, y, x) of codes on the grey scale of the tomogram, on the processor; level: standardised."""
        found = decoded(self.ladder, [part.to(self.device) for part in code]) + (
            level.to(self.device) if isinstance(level, Tensor) else level
        )
        return (found * self.prepared.scale + self.prepared.mean).cpu()


@dataclass(frozen=True)
class LatentMap:
    """Patches in the plane of their first two principal axes.

    positions: first voxels, n of them, of ``of`` in all. finest: the finest level of the latents on the map, at stride 2^finest.
    shares: of the variance of what is decoded that the latents from the coarsest down to level l hold, l = 0 first.
    rows (n, D): codes, coarse first. mean (D,). axes (2, D): orthonormal. coordinates (n, 2), in standard deviations of the prior
    added in squares over D latents. explained (2,): shares of the variance of the rows, larger first.
    """

    positions: tuple[Position, ...]
    of: int
    finest: int
    shares: tuple[float, ...]
    shapes: tuple[tuple[int, int, int, int], ...]
    rows: Tensor
    mean: Tensor
    axes: Tensor
    coordinates: Tensor
    explained: Tensor

    @property
    def strides(self) -> tuple[int, int]:
        """Coarsest and finest stride of the latents on the map, in voxels."""
        return 2 ** (len(self.shapes) - 1), 2**self.finest

    def project(self, code: Code) -> Tensor:
        """Coordinates (batch, 2) of codes."""
        return (flattened(code, self.finest) - self.mean) @ self.axes.T

    def at(self, point: Sequence[float], patch: Code | None = None) -> Code:
        """The code at a point of the plane: about the mean of all patches, or about a patch, whose own point is its own code."""
        place = torch.tensor([list(point)], dtype=self.mean.dtype)
        if patch is None:
            return unflattened(self.mean + place @ self.axes, self.shapes, self.finest)
        moved = (place - self.project(patch)) @ self.axes
        return unflattened(flattened(patch, self.finest) + moved, self.shapes, self.finest, patch)

    def drawn(self, count: int, temperature: float, seed: int) -> Code:
        """Codes drawn from the Gaussian of these patches: their mean, and their covariance times the temperature squared.

        e = <e> + t / sqrt(n - 1) sum_i g_i (e_i - <e>), g ~ N(0, 1): a density fitted to the codes after training (Ghosh et al.
        2020, arXiv 1903.12436), for models whose prior was not trained to be the sum of their posteriors.
        """
        weights = torch.randn(count, len(self.rows), generator=torch.Generator().manual_seed(seed))
        scaled = weights * (temperature / (len(self.rows) - 1) ** 0.5)
        rows = self.mean + scaled @ self.rows - scaled.sum(1, keepdim=True) * self.mean
        return unflattened(rows, self.shapes, self.finest)


def side_of(ladder: Ladder, patch: int) -> int:
    """Side of the tiles for a model trained on patches of ``patch`` voxels: its half is a multiple of the coarsest stride."""
    unit = 2 * ladder.config.stride
    return -(-patch // unit) * unit


def mapped(
    patches: Patches, finest: int | None = None, most: int = MOST, batch: int = 4
) -> Generator[tuple[int, int], None, LatentMap]:
    """Encode the patches of a tomogram, saying (done, total) on the way, and return their map.

    finest: down to which level latents are on the map; without it, as the module says. most: patches, evenly chosen if there are
    more. InputError for a tomogram of fewer than three patches.
    """
    grid = patches.grid()
    if len(grid) <= AXES:
        raise InputError(
            f"{len(grid)} patches of {patches.side} voxels found in {patches.prepared.name}, expected 3 for a plane: "
            "take a larger tomogram, or a model of smaller patches"
        )
    coarsest = len(patches.shapes) - 1
    if finest is not None and not 0 <= finest <= coarsest:
        raise InputError(f"latents down to stride {2**finest:g} found, expected a power of two up to {2**coarsest}")
    shares = shares_decoded(patches, _chosen(grid, PROBED))
    level = finest if finest is not None else max(i for i, share in enumerate(shares) if share >= LEAST or i == 0)
    size = sum(prod(shape) for shape in patches.shapes[level:])
    chosen = _chosen(grid, max(AXES + 1, min(most, BYTES // (4 * max(size, 1)))))
    rows = torch.empty(len(chosen), size)
    for start in range(0, len(chosen), batch):
        positions = chosen[start : start + batch]
        rows[start : start + len(positions)] = flattened(patches.encoded(positions)[0], level)
        yield start + len(positions), len(chosen)
    mean = rows.mean(0)
    axes, explained = principal_axes(rows - mean, AXES)
    coordinates = (rows - mean) @ axes.T
    return LatentMap(tuple(chosen), len(grid), level, shares, tuple(patches.shapes), rows, mean, axes, coordinates, explained)


def _chosen(positions: list[Position], count: int) -> list[Position]:
    """``count`` of the positions, evenly spaced in their order, or all of them if they are fewer."""
    if count >= len(positions):
        return positions
    return [positions[round(i * (len(positions) - 1) / max(count - 1, 1))] for i in range(count)]


def shares_decoded(patches: Patches, positions: Sequence[Position]) -> tuple[float, ...]:
    """For each level l, 0 first, the share of the variance of what is decoded that latents at l and coarser hold; 0 to 1.

    1 - < |G(e_L .. e_l, 0 ..) - G(e)|^2 > / < |G(e) - <G(e)>|^2 >
    """
    missed = torch.zeros(len(patches.shapes), dtype=torch.float64)
    power = 0.0
    for position in positions:
        code, density, _ = patches.encoded([position])
        power += float((density - density.mean()).square().sum())
        for level in range(1, len(code)):
            cut_off = [torch.zeros_like(part) if i < level else part for i, part in enumerate(code)]
            missed[level] += float((decoded(patches.ladder, cut_off) - density).square().sum())
    return tuple(float(share) for share in (1 - missed / max(power, 1e-30)).clamp(0, 1))


def principal_axes(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first principal axes (count, D), orthonormal, and their shares of the variance (count,), of centred rows (n, D).

    By the eigenvectors of the n x n products of the rows (Sirovich 1987), as D is far above n. Randomised methods need a spectrum
    that falls, and that of patches is flat: 3.6, 3.1, 2.9 % in a crowded tomogram. Each axis points to its farthest patch.
    """
    products = (centred @ centred.T).double()
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values.flip(0)[:count].clamp_min(0), vectors.flip(1)[:, :count]
    axes = torch.linalg.qr(centred.T.double() @ vectors).Q.T
    scores = centred.double() @ axes.T
    sign = torch.sign(scores.gather(0, scores.abs().argmax(0, keepdim=True))).squeeze(0)
    sign[sign == 0] = 1
    return (axes * sign[:, None]).float(), (values / products.diagonal().sum().clamp_min(1e-30)).float()
