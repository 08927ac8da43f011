"""What the window for the latent space shows, without the window: a map, the patch in hand, and the two ends of a walk.

Places are (z, y, x) in voxels of the tomogram with the beam along z, points are in the plane of the map.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.posterior.codes import Code, between, prior_code
from cryovae.posterior.latent_map import LatentMap, Patches, mapped
from cryovae.tiling.grid import Position
from cryovae.workflows.run_inputs import tomogram_of, variational_model_of

# Grey values outside these percentiles of some decoded patches are shown black and white.
SHOWN = (0.5, 99.5)
PROBED = 6


@dataclass(frozen=True)
class Held:
    """A patch: its first voxel, its code, its level (1, 1, 1, 1), and its point in the plane."""

    position: Position
    code: Code
    level: Tensor
    point: tuple[float, float]


@dataclass
class Explorer:
    """The latent space of one run. limits: the grey values between which decoded patches lie."""

    run: Path
    patches: Patches
    plane: LatentMap
    voxel_size: float
    limits: tuple[float, float]
    held: Held
    ends: dict[str, Held] = field(default_factory=dict)

    @property
    def points(self) -> np.ndarray:
        """Of all patches in the plane, (n, 2)."""
        return self.plane.coordinates.numpy()

    def labels(self) -> tuple[str, str]:
        """Of the two axes, with the variance of the codes that they explain."""
        first, second = (f"axis {i + 1}, {100 * float(v):.1f} % of variance" for i, v in enumerate(self.plane.explained))
        return first, second

    def summary(self) -> str:
        """How many patches, and what the latents on the map say of them."""
        coarse, fine = self.plane.strides
        which = f"latents at stride {coarse}" if coarse == fine else f"latents from stride {coarse} down to {fine}"
        share = 100 * self.plane.shares[self.plane.finest]
        count = len(self.plane.positions)
        some = f"{count} patches" if count == self.plane.of else f"{count} of {self.plane.of} patches, evenly chosen"
        size = f"{self.patches.side} voxels ({self.patches.side * self.voxel_size / 10:.3g} nm)"
        return f"{some} of {size}; {which} voxels hold {share:.0f} % of the variance of what is decoded"

    def nearest(self, point: Sequence[float], reach: Sequence[float]) -> int | None:
        """The patch whose point is nearest, if it is nearer than ``reach`` along both axes; None otherwise."""
        apart = np.abs(self.points - np.asarray(point)) / np.asarray(reach)
        found = int(apart.max(1).argmin())
        return found if apart[found].max() <= 1 else None

    def take(self, position: Position) -> Tensor:
        """Take the patch at ``position`` in hand; what it decodes to, on the grey scale."""
        self.held = _held(self.patches, self.plane, position)
        return self.patches.decoded(self.held.code, self.held.level)[0]

    def take_about(self, place: Sequence[float]) -> Tensor:
        """The same for the patch whose middle is nearest to a place. InputError if the place is outside of the tomogram."""
        if not all(-0.5 <= at < size - 0.5 for at, size in zip(place, self.patches.shape, strict=True)):
            raise InputError("a place outside of the tomogram was picked, expected one inside it")
        return self.take(self.patches.around(place))

    def decode(self, point: Sequence[float], about_held: bool) -> Tensor:
        """The density at a point of the plane, about the patch in hand or about the mean of all patches."""
        if about_held:
            return self.patches.decoded(self.plane.at(point, self.held.code), self.held.level)[0]
        return self.patches.decoded(self.plane.at(point))[0]

    def draw(self, like_patches: bool, temperature: float, seed: int) -> tuple[Tensor, tuple[float, float]]:
        """A new patch, drawn from the prior or from the Gaussian of the patches, and its point in the plane."""
        if like_patches:
            code = self.plane.drawn(1, temperature, seed)
        else:
            code = prior_code(self.patches.ladder, self.patches.side, 1, temperature, seed)
        return self.patches.decoded(code)[0], _point(self.plane, code)

    def walk(self, share: float) -> tuple[Tensor, tuple[float, float]]:
        """The density at ``share`` (0 to 1) of the way between the ends, and its point. InputError before both are chosen."""
        if len(self.ends) < 2:
            raise InputError("a walk with no start or no end found, expected both: take a patch, press From; another, press To")
        first, second = self.ends["from"], self.ends["to"]
        code = between(first.code, second.code, share)
        return self.patches.decoded(code, (1 - share) * first.level + share * second.level)[0], _point(self.plane, code)

    def middle(self, position: Position) -> tuple[float, float, float]:
        """The middle of a patch in angstrom from the first voxel of the tomogram."""
        z, y, x = ((start + (self.patches.side - 1) / 2) * self.voxel_size for start in position)
        return z, y, x

    def corner(self, position: Position) -> tuple[float, float, float]:
        """The first voxel of a patch in angstrom from that of the tomogram."""
        z, y, x = (start * self.voxel_size for start in position)
        return z, y, x


def explored(run: Path, finest: int | None, most: int) -> Generator[tuple[int, int], None, Explorer]:
    """Encode the patches of a run, saying (done, total) on the way. InputError as for the parts of a run."""
    checkpoint = variational_model_of(run)
    tomogram = tomogram_of(run)
    patches = Patches(checkpoint.ladder, checkpoint.patch, prepare(tomogram, checkpoint.patch, held_out=False))
    plane = yield from mapped(patches, finest, most)
    step = max(len(plane.positions) // PROBED, 1)
    seen = np.concatenate([_grey(patches, position).ravel() for position in plane.positions[::step]])
    low, high = (float(v) for v in np.percentile(seen, SHOWN))
    limits = (low, high) if high > low else (low - 0.5, low + 0.5)
    held = _held(patches, plane, plane.positions[len(plane.positions) // 2])
    return Explorer(run, patches, plane, tomogram.voxel_size, limits, held)


def _grey(patches: Patches, position: Position) -> np.ndarray:
    code, _, level = patches.encoded([position])
    return patches.decoded(code, level).numpy()


def _held(patches: Patches, plane: LatentMap, position: Position) -> Held:
    code, _, level = patches.encoded([position])
    return Held(position, code, level, _point(plane, code))


def _point(plane: LatentMap, code: Code) -> tuple[float, float]:
    x, y = plane.project(code)[0].tolist()
    return x, y


def shell(side: int) -> np.ndarray:
    """A cube (side, side, side) that is 1 on its faces and 0 within: cut along any axis it is an outline."""
    cube = np.ones((side, side, side), dtype=np.uint8)
    cube[1:-1, 1:-1, 1:-1] = 0
    return cube


def as_bytes(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey values as 0 to 255 between the limits."""
    low, high = limits
    return np.ascontiguousarray(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)


def three_slices(density: np.ndarray) -> dict[str, np.ndarray]:
    """The middle slices xy, xz and yz of a (z, y, x) density, the first row of each on top as napari shows it."""
    z, y, x = (size // 2 for size in density.shape)
    return {"xy": density[z], "xz": density[:, y], "yz": density[:, :, x]}
