"""The computations of the latent space widget, without a window: a map, the selected patch, and the two ends of a walk.

Places are (z, y, x) in voxels of the tomogram with the beam along z, points are in the plane of the map.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from warnings import catch_warnings, simplefilter

import numpy as np
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.io.positions import write_positions
from cryovae.napari_plugin.layers import grey_range
from cryovae.posterior.codes import Code, between, prior_code
from cryovae.posterior.latent_map import LatentMap, Patches, mapped
from cryovae.tiling.grid import Position
from cryovae.workflows.run_inputs import checked_tomogram_of, record_of, variational_model_of

PROBED = 6


@dataclass(frozen=True)
class SelectedPatch:
    """A patch.

    Attributes:
        position: Its first voxel (z, y, x).
        code: Its latents.
        mean: The patch mean (1, 1, 1, 1).
        point: Its point in the plane.
    """

    position: Position
    code: Code
    mean: Tensor
    point: tuple[float, float]


@dataclass
class Explorer:
    """The latent space of one run.

    Attributes:
        run: Folder of the run.
        patches: The patches of its tomogram.
        plane: The map of their codes.
        voxel_size: In angstrom.
        limits: Grey values between which decoded patches lie.
        selected: The selected patch.
        ends: The patches "from" and "to" of a walk, once they are set.
        shown: The two axes of the plane, counted from 0.
    """

    run: Path
    patches: Patches
    plane: LatentMap
    voxel_size: float
    limits: tuple[float, float]
    selected: SelectedPatch
    ends: dict[str, SelectedPatch] = field(default_factory=dict)
    shown: tuple[int, int] = (0, 1)

    @property
    def points(self) -> np.ndarray:
        """Points (n, 2) of all patches in the plane."""
        return self.plane.coordinates.numpy()

    def axis_names(self, short: bool = False) -> list[str]:
        """Names of all axes, with the variance of the codes that each explains; ``short`` ones leave out the word."""
        end = "" if short else " of variance"
        return [f"axis {i + 1}, {100 * float(v):.1f} %{end}" for i, v in enumerate(self.plane.all_explained)]

    def labels(self) -> tuple[str, str]:
        """Labels of the two axes of the plane."""
        names = self.axis_names()
        return names[self.shown[0]], names[self.shown[1]]

    def show_axes(self, first: int, second: int) -> None:
        """Put the patches into the plane of two axes, counted from 0; the selected patch and the ends of a walk too."""
        self.shown, self.plane = (first, second), self.plane.plane(first, second)
        self.selected = self._again(self.selected)
        self.ends = {name: self._again(patch) for name, patch in self.ends.items()}

    def _again(self, patch: SelectedPatch) -> SelectedPatch:
        return replace(patch, point=_point(self.plane, patch.code))

    def inside(self, outline: Sequence[Sequence[float]]) -> np.ndarray:
        """Numbers of the patches whose points lie inside an outline (m, 2) in the plane."""
        if len(outline) < 3:
            return np.zeros(0, dtype=int)
        from matplotlib.path import Path as Outline

        return np.flatnonzero(Outline(np.asarray(outline)).contains_points(self.points))

    def middles(self, numbers: Sequence[int]) -> np.ndarray:
        """The middles of patches (n, 3) as z, y, x, in angstrom from the first voxel of the tomogram."""
        return np.array([self.middle(self.plane.positions[number]) for number in numbers], dtype=float).reshape(-1, 3)

    def export(self, path: Path, numbers: Sequence[int]) -> None:
        """Write the middles of patches as a STAR table of positions. InputError for none."""
        if not len(numbers):
            raise InputError("no group of patches found, expected one: press Lasso, and draw about points of the plane")
        names, voxels = ["patch"] * len(numbers), self.middles(numbers) / self.voxel_size
        name = record_of(self.run).get("name", self.run.name)
        with catch_warnings():
            # Patches have no orientation, of which scipy warns.
            simplefilter("ignore", UserWarning)
            write_positions(path, name, names, voxels, Rotation.identity(len(numbers)), self.patches.shape, self.voxel_size)

    def summary(self) -> str:
        """How many patches there are, and how much of their variance the latents on the map hold."""
        coarse, fine = self.plane.strides
        which = f"latents at stride {coarse}" if coarse == fine else f"latents from stride {coarse} down to {fine}"
        share = 100 * self.plane.shares[self.plane.finest]
        count = len(self.plane.positions)
        some = f"{count} patches" if count == self.plane.of else f"{count} of {self.plane.of} patches, evenly sampled,"
        size = f"{self.patches.side} voxels ({self.patches.side * self.voxel_size / 10:.3g} nm)"
        return f"{some} of {size}; {which} voxels hold {share:.0f} % of the variance of what is decoded"

    def nearest(self, point: Sequence[float], reach: Sequence[float]) -> int | None:
        """The patch whose point is nearest, if it is nearer than ``reach`` along both axes; None otherwise."""
        distances = (np.abs(self.points - np.asarray(point)) / np.asarray(reach)).max(1)
        index = int(distances.argmin())
        return index if distances[index] <= 1 else None

    def select(self, position: Position) -> Tensor:
        """Select the patch at a position; returns what it decodes to, on the grey scale."""
        self.selected, density = self.patch(position)
        return density

    def patch(self, position: Position) -> tuple[SelectedPatch, Tensor]:
        """The patch at a position, and what it decodes to, on the grey scale."""
        patch = _patch_at(self.patches, self.plane, position)
        return patch, self.patches.decoded(patch.code, patch.mean)[0]

    def select_about(self, place: Sequence[float]) -> Tensor:
        """``select`` for the patch whose middle is nearest to a place. InputError if the place is outside of the tomogram."""
        return self.select(self.position_about(place))

    def position_about(self, place: Sequence[float]) -> Position:
        """The position of the patch whose middle is nearest to a place in voxels. InputError outside of the tomogram."""
        if not all(-0.5 <= at < size - 0.5 for at, size in zip(place, self.patches.shape, strict=True)):
            raise InputError("a place outside of the tomogram was picked, expected one inside it: click on the tomogram")
        return self.patches.around(place)

    def decode(self, point: Sequence[float], about_selected: bool) -> Tensor:
        """The density at a point of the plane, about the selected patch or about the mean of all patches."""
        if about_selected:
            return self.patches.decoded(self.plane.at(point, self.selected.code), self.selected.mean)[0]
        return self.patches.decoded(self.plane.at(point))[0]

    def draw(self, like_patches: bool, temperature: float, seed: int) -> tuple[Tensor, tuple[float, float]]:
        """A new patch, drawn from the prior or from the Gaussian of the patches, and its point in the plane."""
        if like_patches:
            code = self.plane.drawn(1, temperature, seed)
        else:
            code = prior_code(self.patches.ladder, self.patches.side, 1, temperature, seed)
        return self.patches.decoded(code)[0], _point(self.plane, code)

    def walk(self, share: float) -> tuple[Tensor, tuple[float, float]]:
        """The density at a share (0 to 1) of the way between the ends, and its point. InputError if an end is not set."""
        if len(self.ends) < 2:
            raise InputError("a walk without two ends found, expected both: select a patch, press From; select another, press To")
        first, last = self.ends["from"], self.ends["to"]
        code = between(first.code, last.code, share)
        return self.patches.decoded(code, (1 - share) * first.mean + share * last.mean)[0], _point(self.plane, code)

    def place(self, position: Position, offset: float = 0.0) -> tuple[float, float, float]:
        """A voxel of a patch, ``offset`` voxels from its first along each axis, in angstrom from that of the tomogram."""
        z, y, x = ((start + offset) * self.voxel_size for start in position)
        return z, y, x

    def middle(self, position: Position) -> tuple[float, float, float]:
        """The middle of a patch in angstrom from the first voxel of the tomogram."""
        return self.place(position, (self.patches.side - 1) / 2)


def encode_run(run: Path, finest: int | None, most: int) -> Generator[tuple[int, int], None, Explorer]:
    """Encode the patches of a run.

    Args:
        run: Folder of the run.
        finest: Finest level of the latents on the map, None for automatic.
        most: Number of patches, at most.

    Yields:
        Patches done and their total.

    Raises:
        InputError: The run has no model with latents, or its tomogram is gone.
    """
    checkpoint = variational_model_of(run)
    tomogram = checked_tomogram_of(run)
    patches = Patches(checkpoint.ladder, checkpoint.patch, prepare(tomogram, checkpoint.patch, held_out=False))
    plane = yield from mapped(patches, finest, most)
    positions = plane.positions[:: max(len(plane.positions) // PROBED, 1)]
    probed = [patches.decoded(code, mean).numpy().ravel() for code, _, mean in (patches.encoded([at]) for at in positions)]
    selected = _patch_at(patches, plane, plane.positions[len(plane.positions) // 2])
    return Explorer(run, patches, plane, tomogram.voxel_size, grey_range(np.concatenate(probed)), selected)


def _patch_at(patches: Patches, plane: LatentMap, position: Position) -> SelectedPatch:
    code, _, mean = patches.encoded([position])
    return SelectedPatch(position, code, mean, _point(plane, code))


def _point(plane: LatentMap, code: Code) -> tuple[float, float]:
    x, y = plane.project(code)[0].tolist()
    return x, y


def shell(side: int) -> np.ndarray:
    """A cube (side, side, side) that is 1 on its faces and 0 inside: each slice of it is an outline."""
    cube = np.ones((side, side, side), dtype=np.uint8)
    cube[1:-1, 1:-1, 1:-1] = 0
    return cube


def as_bytes(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Grey values as bytes, 0 at the lower limit and 255 at the upper one."""
    low, high = limits
    return np.ascontiguousarray(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)


def three_slices(density: np.ndarray) -> dict[str, np.ndarray]:
    """The middle slices xy, xz and yz of a (z, y, x) density, their first rows on top as in napari."""
    z, y, x = (size // 2 for size in density.shape)
    return {"xy": density[z], "xz": density[:, y], "yz": density[:, :, x]}
