"""The patches of a tomogram as points of a plane: principal axes of their codes, and densities decoded at any point.

    c_i = A (e_i - <e>),        x(c) = G( <e> + A^T c )        or, about a patch,        x(c) = G( e_i + A^T (c - c_i) )

e are codes in units of the prior (``codes``): whole grids of latents, not averages over a patch. An average says how much of
something there is but not where, and decodes to a patch that is the same everywhere. In return, a particle and the same particle
a few voxels away are different points. Latents finer than those of the map are the prior's mean given the coarser ones, or those
of the patch.

The coarsest latents alone may explain almost nothing of a patch. The map therefore uses as many levels, from the coarsest, as
explain the share MIN_SHARE of the variance of the decoded densities, and reports the shares.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import PreparedTomogram
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder
from cryovae.physics.wedge import smeared_mask
from cryovae.posterior.codes import Code, decoded, encoded, flattened, unflattened
from cryovae.posterior.suited import suited
from cryovae.posterior.tile_memory import side_of
from cryovae.tiling.grid import PatchGrid, Position, cut, levels

# Share of the decoded variance that the levels of a map explain at least, and the patches that it is estimated from.
MIN_SHARE, PROBED = 0.25, 8
# Patches on a map at most, evenly spaced in a larger tomogram, and the memory of their latents at most.
MOST, BYTES = 256, 512 * 2**20
AXES = 2
# Principal axes that are computed, of which two make a plane.
MOST_AXES = 6


class Patches:
    """The patches of a standardised tomogram as r sees them, and their codes. They are the tiles of a restoration.

    Attributes:
        side: Side of a patch, in voxels.
        shapes: (channels, z, y, x) of the latents, fine to coarse.
    """

    def __init__(self, ladder: Ladder, patch: int, prepared: PreparedTomogram, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.ladder = suited(ladder, [prepared]).to(self.device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.side = side_of(ladder.config, patch)
        self.prepared = prepared
        self.shapes = ladder.latent_shapes((self.side,) * 3)
        self._input_mask = smeared_mask((self.side,) * 3, prepared.tilts).to(self.device)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the tomogram along z, y, x."""
        nz, ny, nx = self.prepared.density.shape
        return nz, ny, nx

    def grid(self) -> list[Position]:
        """First voxels of the tiles of a restoration."""
        return list(PatchGrid(self.shape, self.side, self.side // 2))

    def around(self, place: Sequence[float]) -> Position:
        """First voxel of the patch inside the tomogram whose centre is nearest to ``place``, in voxels along z, y, x."""
        starts = [
            min(max(round(at) - self.side // 2, 0), max(size - self.side, 0)) for at, size in zip(place, self.shape, strict=True)
        ]
        return starts[0], starts[1], starts[2]

    def encoded(self, positions: Sequence[Position]) -> tuple[Code, Tensor, Tensor]:
        """Codes of the patches at ``positions``, decoded densities (batch, z, y, x), and patch means (batch, 1, 1, 1)."""
        tiles = torch.stack([cut(self.prepared.density, position, self.side) for position in positions]).to(self.device)
        level = levels(tiles)
        code, density = encoded(self.ladder, fourier.filtered(tiles - level, self._input_mask))
        return code, density, level

    def decoded(self, code: Code, level: Tensor | float = 0.0) -> Tensor:
        """Densities (batch, z, y, x) of codes on the tomogram's grey scale, in main memory; level: standardised patch means."""
        density = decoded(self.ladder, [part.to(self.device) for part in code])
        density = density + (level.to(self.device) if isinstance(level, Tensor) else level)
        return (density * self.prepared.scale + self.prepared.mean).cpu()


@dataclass(frozen=True)
class LatentMap:
    """Patches in the plane of their first two principal axes.

    Attributes:
        positions: First voxels of the n patches.
        of: Number of patches in the tomogram.
        finest: The finest level of the latents on the map, at stride 2^finest.
        shares: For each level, 0 first, the share of the decoded variance that latents at this level and coarser explain.
        shapes: (channels, z, y, x) of the latents, fine to coarse.
        rows: Codes, coarse first, (n, D).
        mean: (D,).
        axes: Orthonormal axes, (2, D).
        coordinates: (n, 2), in standard deviations of the prior, summed in squares over D latents.
        explained: Shares of the variance of the rows, (2,).
        all_axes: All principal axes, (k, D), of which ``axes`` are two.
        all_explained: Shares of the variance that they explain, larger first, (k,).
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
    all_axes: Tensor
    all_explained: Tensor

    def plane(self, first: int, second: int) -> LatentMap:
        """The same patches in the plane of two other axes, counted from 0."""
        pair = [first, second]
        axes = self.all_axes[pair]
        return replace(self, axes=axes, coordinates=(self.rows - self.mean) @ axes.T, explained=self.all_explained[pair])

    @property
    def strides(self) -> tuple[int, int]:
        """Coarsest and finest stride of the latents on the map, in voxels."""
        return 2 ** (len(self.shapes) - 1), 2**self.finest

    def project(self, code: Code) -> Tensor:
        """Coordinates (batch, 2) of codes."""
        return (flattened(code, self.finest) - self.mean) @ self.axes.T

    def at(self, point: Sequence[float], patch: Code | None = None) -> Code:
        """The code at a point of the plane, relative to the mean of all patches or to a patch, whose own point is its code."""
        place = torch.tensor([list(point)], dtype=self.mean.dtype)
        if patch is None:
            return unflattened(self.mean + place @ self.axes, self.shapes, self.finest)
        change = (place - self.project(patch)) @ self.axes
        return unflattened(flattened(patch, self.finest) + change, self.shapes, self.finest, patch)

    def drawn(self, count: int, temperature: float, seed: int) -> Code:
        """Codes drawn from the Gaussian with the mean of these patches and their covariance times the temperature squared.

        e = <e> + t / sqrt(n - 1) sum_i g_i (e_i - <e>), g ~ N(0, 1): a density fitted to the codes after training (Ghosh et al.
        2020, arXiv 1903.12436), for models whose prior was not trained to match the aggregated posterior.
        """
        weights = torch.randn(count, len(self.rows), generator=torch.Generator().manual_seed(seed))
        scaled = weights * (temperature / (len(self.rows) - 1) ** 0.5)
        rows = self.mean + scaled @ self.rows - scaled.sum(1, keepdim=True) * self.mean
        return unflattened(rows, self.shapes, self.finest)


def mapped(
    patches: Patches, finest: int | None = None, most: int = MOST, batch: int = 4
) -> Generator[tuple[int, int], None, LatentMap]:
    """Encode the patches of a tomogram, yielding (done, total), and return their map.

    Args:
        patches: The tomogram.
        finest: The finest level of the latents on the map; if None, as described at the top.
        most: Patches on the map at most, evenly spaced.
        batch: Patches encoded at once.

    Raises:
        InputError: The tomogram has fewer than three patches.
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
    shares = shares_decoded(patches, _evenly_spaced(grid, PROBED))
    level = finest if finest is not None else max(i for i, share in enumerate(shares) if share >= MIN_SHARE or i == 0)
    size = sum(prod(shape) for shape in patches.shapes[level:])
    positions = _evenly_spaced(grid, max(AXES + 1, min(most, BYTES // (4 * max(size, 1)))))
    rows = torch.empty(len(positions), size)
    for start in range(0, len(positions), batch):
        part = positions[start : start + batch]
        rows[start : start + len(part)] = flattened(patches.encoded(part)[0], level)
        yield start + len(part), len(positions)
    mean = rows.mean(0)
    every, explained = principal_axes(rows - mean, min(MOST_AXES, len(rows) - 1))
    axes = every[:AXES]
    coordinates = (rows - mean) @ axes.T
    where = tuple(positions), len(grid), level, shares, tuple(patches.shapes)
    return LatentMap(*where, rows, mean, axes, coordinates, explained[:AXES], every, explained)


def _evenly_spaced(positions: list[Position], count: int) -> list[Position]:
    """``count`` evenly spaced positions of a list, or all of them if they are fewer."""
    if count >= len(positions):
        return positions
    return [positions[round(i * (len(positions) - 1) / max(count - 1, 1))] for i in range(count)]


def shares_decoded(patches: Patches, positions: Sequence[Position]) -> tuple[float, ...]:
    """For each level l, 0 first, the share of the decoded variance that latents at l and coarser explain, 0 to 1.

    1 - < |G(e_L .. e_l, 0 ..) - G(e)|^2 > / < |G(e) - <G(e)>|^2 >
    """
    residual = torch.zeros(len(patches.shapes), dtype=torch.float64)
    power = 0.0
    for position in positions:
        code, density, _ = patches.encoded([position])
        power += float((density - density.mean()).square().sum())
        for level in range(1, len(code)):
            truncated = [torch.zeros_like(part) if i < level else part for i, part in enumerate(code)]
            residual[level] += float((decoded(patches.ladder, truncated) - density).square().sum())
    return tuple(float(share) for share in (1 - residual / max(power, 1e-30)).clamp(0, 1))


def principal_axes(centred: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first principal axes (count, D), orthonormal, and their shares of the variance (count,), of centred rows (n, D).

    From the eigenvectors of the n x n products of the rows (Sirovich 1987), as D is much larger than n. Randomised methods need a
    falling spectrum, and that of patches is flat: 3.6, 3.1, 2.9 % in a crowded tomogram. Each axis points to its farthest patch.
    """
    products = (centred @ centred.T).double()
    values, vectors = torch.linalg.eigh(products)
    values, vectors = values.flip(0)[:count].clamp_min(0), vectors.flip(1)[:, :count]
    axes = torch.linalg.qr(centred.T.double() @ vectors).Q.T
    scores = centred.double() @ axes.T
    sign = torch.sign(scores.gather(0, scores.abs().argmax(0, keepdim=True))).squeeze(0)
    sign[sign == 0] = 1
    return (axes * sign[:, None]).float(), (values / products.diagonal().sum().clamp_min(1e-30)).float()
