"""A specimen: molecules in random orientations, crowded, between membranes, filaments and gold beads; nothing overlaps.

    x(r) = sum_i x_species(i)( R_i^-1 (r - r_i) ) + membranes + filaments + beads,        0 in ice

Matter goes on beside the tomogram along x, as it does under a microscope: at a tilt, rays through the tomogram pass through it.
Positions are indices (z, y, x) of voxels of the tomogram, the first voxel's centre being 0; R_i turns coordinates (x, y, z) of
the molecule's map into those of the tomogram.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from cryovae.io.molecules import BODY, Molecule
from cryovae.physics.shapes import ACTIN, GOLD, MICROTUBULE, THICKNESS, Helix, bilayer, made_up_molecule, sphere
from cryovae.tomogram import InputError

Progress = Callable[[str, int, int], None]
TRIES = 12
SMALLEST = 24


@dataclass(frozen=True)
class SceneConfig:
    """What is in the specimen.

    shape: (z, y, x) of the tomogram in voxels of voxel_size angstrom. crowding: the share of the volume that molecules take, at
    most. species: how many made-up molecules there are when no others are given. sheets, vesicles, filaments, beads: how many.
    lamella: thickness in angstrom of the slab along z that holds all matter; None for all of the tomogram.
    """

    shape: tuple[int, int, int] = (96, 128, 112)
    voxel_size: float = 10.0
    crowding: float = 0.2
    species: int = 5
    sheets: int = 1
    vesicles: int = 2
    filaments: int = 2
    beads: int = 3
    lamella: float | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < SMALLEST:
            raise InputError(f"shape {self.shape} found, expected three sizes of at least {SMALLEST} voxels, e.g. 96 128 112")
        if not self.voxel_size > 0:
            raise InputError(f"voxel size {self.voxel_size:g} found, expected angstrom above 0, e.g. 10")
        if not 0 <= self.crowding <= 0.6:
            raise InputError(f"crowding {self.crowding:g} found, expected a share of the volume within 0 to 0.6, e.g. 0.2")
        for name in ("species", "sheets", "vesicles", "filaments", "beads"):
            if getattr(self, name) < 0:
                raise InputError(f"{getattr(self, name)} {name} found, expected 0 or more")
        if self.lamella is not None and not 8 * self.voxel_size <= self.lamella <= self.shape[0] * self.voxel_size:
            raise InputError(
                f"lamella of {self.lamella:g} angstrom found, expected {8 * self.voxel_size:g} to "
                f"{self.shape[0] * self.voxel_size:g}, the tomogram's depth"
            )

    @property
    def slab(self) -> tuple[float, float]:
        """Lowest and highest z of matter, in voxels."""
        thickness = self.shape[0] if self.lamella is None else self.lamella / self.voxel_size
        middle = (self.shape[0] - 1) / 2
        return middle - thickness / 2, middle + thickness / 2


@dataclass(frozen=True)
class Placement:
    """A molecule in the tomogram: name, position (z, y, x) in voxels, and rotation of (x, y, z) from its map to the tomogram."""

    name: str
    position: tuple[float, float, float]
    rotation: Rotation


@dataclass(frozen=True)
class Scene:
    """density: (z, y, x + 2 margin) float32, protein 1, ice 0. placements: of molecules whose middle is inside the tomogram.

    margin: voxels of matter on either side along x. beads: (z, y, x + 2 margin), True in gold.
    """

    density: np.ndarray
    placements: tuple[Placement, ...]
    margin: int
    beads: np.ndarray
    slab: tuple[float, float]

    @property
    def inside(self) -> np.ndarray:
        """The density (z, y, x) of the tomogram itself."""
        return self.density[:, :, self.margin : self.density.shape[2] - self.margin]


class _Site:
    """What has been put where: density, the voxels that are taken, those of gold."""

    def __init__(self, config: SceneConfig, margin: int, rng: np.random.Generator) -> None:
        nz, ny, nx = config.shape
        self.config, self.margin, self.rng = config, margin, rng
        self.shape = (nz, ny, nx + 2 * margin)
        self.density = np.zeros(self.shape, dtype=np.float32)
        self.taken = np.zeros(self.shape, dtype=bool)
        self.beads = np.zeros(self.shape, dtype=bool)
        self.low, self.high = config.slab

    def place(self, depth: float) -> np.ndarray:
        """A random point (z, y, x) at least ``depth`` voxels inside the slab, where it is that thick."""
        room = min(depth, (self.high - self.low) / 2 - 0.5)
        z = self.rng.uniform(self.low + room, self.high - room)
        return np.array([z, *(self.rng.uniform(0, n - 1) for n in self.shape[1:])])

    def box(self, centre: np.ndarray, half: float) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        """The voxels within ``half`` of a centre, and their offsets from it along each axis, ready to broadcast."""
        spans = [
            (max(int(np.floor(c - half)), 0), min(int(np.ceil(c + half)) + 1, n)) for c, n in zip(centre, self.shape, strict=True)
        ]
        offsets = np.ix_(*[np.arange(a, b, dtype=np.float32) - np.float32(c) for (a, b), c in zip(spans, centre, strict=True)])
        return tuple(slice(a, b) for a, b in spans), list(offsets)

    def count(self, number: int) -> int:
        """How many to put in so that the tomogram itself holds about ``number``."""
        return round(number * self.shape[2] / self.config.shape[2])


def build_scene(
    config: SceneConfig, molecules: Sequence[Molecule], margin: int, rng: np.random.Generator, progress: Progress | None = None
) -> Scene:
    """Put a specimen together; without molecules, of ``config.species`` made-up ones. margin: voxels added on either side in x.

    Large molecules are placed before small ones, until each species has its share or finds no room any more.
    """
    chosen = list(molecules) or [made_up_molecule(f"chain{i + 1}", rng, config.voxel_size) for i in range(config.species)]
    for one in chosen:
        if 2 * one.radius > min(config.shape[1:]):
            raise InputError(
                f"molecule {one.name} is {2 * one.radius:.0f} voxels long, expected less than the tomogram's "
                f"{config.shape[1]} x {config.shape[2]} (y, x): make --shape or --voxel-size larger"
            )
    site = _Site(config, margin, rng)
    for i in range(config.sheets):
        _add_sheet(site)
        _say(progress, "sheets", i + 1, config.sheets)
    vesicles = site.count(config.vesicles)
    for i in range(vesicles):
        _add_vesicle(site)
        _say(progress, "vesicles", i + 1, vesicles)
    _add_filaments(site, site.count(config.filaments))
    for _ in range(site.count(config.beads)):
        _add_bead(site)
    placements = _add_molecules(site, chosen, progress)
    z = np.arange(site.shape[0], dtype=np.float32)
    within = np.clip(np.minimum(z - site.low, site.high - z) + 0.5, 0, 1)[:, None, None]
    return Scene(site.density * within, tuple(placements), margin, site.beads, config.slab)


def _say(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)


def _directions(rng: np.random.Generator, flat: float = 1.0) -> np.ndarray:
    """A random frame (3, 3), rows (z, y, x); with ``flat`` below 1 the first row lies nearer to the plane of the slab."""
    first = rng.normal(size=3) * (flat, 1, 1)
    first /= np.linalg.norm(first)
    second = np.cross(first, rng.normal(size=3))
    second /= np.linalg.norm(second)
    return np.array([first, second, np.cross(first, second)])


def _add_membrane(site: _Site, where: tuple[slice, ...], distance: np.ndarray) -> None:
    keep_free = THICKNESS / site.config.voxel_size
    near = np.abs(distance) < keep_free
    site.density[where] += np.where(near | (np.abs(distance) < 2 * keep_free), bilayer(distance, site.config.voxel_size), 0)
    site.taken[where] |= near


def _add_sheet(site: _Site) -> None:
    """A membrane through all of the specimen, waving a little."""
    frame = _directions(site.rng)
    centre = site.place((site.high - site.low) / 4)
    where, offset = site.box(centre, max(site.shape))
    along = [sum(o * np.float32(a) for o, a in zip(offset, axis, strict=True)) for axis in frame]
    length = max(site.config.shape)
    phases = site.rng.uniform(0, 2 * np.pi, 2)
    waves = sum(
        np.float32(0.02 * length) * np.sin(2 * np.pi * across / length * turns + phase)
        for across, turns, phase in zip(along[1:], (1.3, 0.9), phases, strict=True)
    )
    steepness = (
        0.02
        * 2
        * np.pi
        * sum(
            (turns * np.cos(2 * np.pi * across / length * turns + phase)) ** 2
            for across, turns, phase in zip(along[1:], (1.3, 0.9), phases, strict=True)
        )
        ** 0.5
    )
    distance = (along[0] + waves) / np.sqrt(1 + steepness**2)
    if not site.taken[where][np.abs(distance) < 2].mean() > 0.05:
        _add_membrane(site, where, distance)


def _add_vesicle(site: _Site) -> None:
    """A closed vesicle, a little squashed, of 150 to 400 angstrom radius as far as there is room, apart from other membranes."""
    voxel, thickness = site.config.voxel_size, site.high - site.low
    largest = min(400 / voxel, 0.45 * thickness, 0.35 * min(site.config.shape[1:]))
    for attempt in range(4 * TRIES):
        radius = site.rng.uniform(min(150 / voxel, largest), largest) * (1 - 0.5 * attempt / (4 * TRIES))
        stretch = site.rng.uniform(0.85, 1.15, 3)
        frame = _directions(site.rng)
        centre = site.place(radius + THICKNESS / voxel)
        where, offset = site.box(centre, 1.2 * radius + 2 * THICKNESS / voxel)
        along = [
            sum(o * np.float32(a) for o, a in zip(offset, axis, strict=True)) * s for axis, s in zip(frame, stretch, strict=True)
        ]
        length = np.sqrt(sum(a**2 for a in along))
        # |r|_stretched - R, over the length of its gradient: the distance to an ellipsoid, near it.
        slope = np.sqrt(sum((a * s) ** 2 for a, s in zip(along, stretch, strict=True))) / np.maximum(length, 1e-3)
        distance = (length - np.float32(radius)) / np.maximum(slope, 0.5)
        shell = np.abs(distance) < 1.3 * THICKNESS / voxel
        if not (site.taken[where] & shell).any():
            _add_membrane(site, where, distance)
            return


def _add_filaments(site: _Site, count: int) -> None:
    """Filaments of two kinds through the specimen, slightly bent, and mostly along the slab."""
    voxel = site.config.voxel_size
    subunits: dict[str, list[np.ndarray]] = {}
    kinds = {helix.name: helix for helix in (ACTIN, MICROTUBULE)}
    for i in range(count):
        helix = (MICROTUBULE, ACTIN)[i % 2]
        for _ in range(4 * TRIES):
            found = _try_filament(site, helix)
            if found is not None:
                subunits.setdefault(helix.name, []).append(found)
                break
    for name, places in subunits.items():
        grid = np.zeros(site.shape, dtype=np.float32)
        at = np.concatenate(places)
        below = np.floor(at).astype(int)
        for corner in np.ndindex(2, 2, 2):
            index = below + corner
            kept = ((index >= 0) & (index < site.shape)).all(1)
            share = np.prod(np.where(corner, at - below, 1 - at + below), axis=1)
            np.add.at(grid, tuple(index[kept].T), share[kept])
        blurred = gaussian_filter(grid, max(0.6 * kinds[name].subunit / voxel, 0.7))
        dense = blurred > BODY * blurred.max()
        if dense.any():
            site.density += blurred / blurred[dense].mean()


def _try_filament(site: _Site, helix: Helix) -> np.ndarray | None:
    """Subunits (n, 3) in voxels of a filament that runs through free space, or None; takes the space."""
    voxel = site.config.voxel_size
    length = 1.2 * max(site.shape) * voxel
    frame = _directions(site.rng, 0.15)
    bend = site.rng.uniform(-1, 1) / (6 * length)
    reach = helix.reach / voxel
    middle = site.place(reach)
    start = middle * voxel - 0.5 * length * frame[0] - 0.125 * bend * length**2 * frame[1]
    axis = Helix("axis", 0.0, voxel, 0.0, 0.0).subunits(start, frame, bend, length, 0.0) / voxel
    inside = ((axis >= 0) & (axis <= np.array(site.shape) - 1)).all(1) & (axis[:, 0] > site.low) & (axis[:, 0] < site.high)
    if inside.sum() < 12:
        return None
    every = max(int(reach / 3), 1)
    parts = [site.box(point, reach) for point in axis[inside][::every]]
    balls = [(where, np.asarray(sum(o**2 for o in offset)) <= reach**2) for where, offset in parts]
    if sum(int((site.taken[where] & ball).sum()) for where, ball in balls) > 0.01 * sum(int(ball.sum()) for _, ball in balls):
        return None
    for where, ball in balls:
        site.taken[where] |= ball
    return helix.subunits(start, frame, bend, length, site.rng.uniform(0, 2 * np.pi)) / voxel


def _add_bead(site: _Site) -> None:
    """A gold bead of 5 to 10 nanometres, free of everything else."""
    for _ in range(TRIES):
        radius = site.rng.uniform(25, 50) / site.config.voxel_size
        where, offset = site.box(centre := site.place(radius + 1), radius + 1)
        distance = np.sqrt(sum(o**2 for o in offset))
        body = distance < radius + 1
        if centre is not None and not (site.taken[where] & body).any():
            site.density[where] += GOLD * sphere(distance, radius)
            site.taken[where] |= body
            site.beads[where] |= body
            return


def turned(one: Molecule, rotation: Rotation, part: np.ndarray) -> np.ndarray:
    """A molecule turned by a rotation of (x, y, z), its middle ``part`` (z, y, x) of a voxel beyond the cube's middle; a cube."""
    half = one.density.shape[0] // 2
    reach = int(np.ceil(min(one.radius, half * 3**0.5))) + 2
    matrix = rotation.as_matrix()[::-1, ::-1].T
    offset = half - matrix @ (reach + part)
    return affine_transform(one.density, matrix, offset, (2 * reach + 1,) * 3, order=1)


def _add_molecules(site: _Site, molecules: Sequence[Molecule], progress: Progress | None) -> list[Placement]:
    """Each species gets an equal share of the volume that crowding allows; returns those inside the tomogram."""
    if not molecules:
        return []
    nz, ny, nx = site.shape
    share = site.config.crowding * ny * nx * min(site.high - site.low, nz) / len(molecules)
    placements: list[Placement] = []
    for i, one in enumerate(sorted(molecules, key=lambda m: -m.volume)):
        room, misses = share, 0
        while room > one.volume / 2 and misses < TRIES:
            rotation = Rotation.random(rng=site.rng)
            part = site.rng.uniform(-0.5, 0.5, 3)
            cube = turned(one, rotation, part)
            at = _find_room(site, cube, one.radius)
            if at is None:
                misses += 1
                continue
            room, misses = room - one.volume, 0
            position = at + part - (0, 0, site.margin)
            if -0.5 <= position[2] < nx - 2 * site.margin - 0.5 and -0.5 <= position[1] < ny - 0.5:
                placements.append(Placement(one.name, (float(position[0]), float(position[1]), float(position[2])), rotation))
        _say(progress, "species of molecules", i + 1, len(molecules))
    return placements


def _find_room(site: _Site, cube: np.ndarray, radius: float) -> np.ndarray | None:
    """Add a turned molecule where nothing is; its middle voxel (z, y, x), or None after many tries."""
    half = cube.shape[0] // 2
    body = cube > BODY * cube.max()
    for _ in range(20 * TRIES):
        centre = np.rint(site.place(min(radius, 0.4 * (site.high - site.low)))).astype(int)
        if site.taken[tuple(np.clip(centre, 0, np.array(site.shape) - 1))]:
            continue
        inside = [(max(c - half, 0), min(c + half + 1, n)) for c, n in zip(centre, site.shape, strict=True)]
        place_in = tuple(slice(a, b) for a, b in inside)
        place_of = tuple(slice(a - c + half, b - c + half) for (a, b), c in zip(inside, centre, strict=True))
        if (site.taken[place_in] & body[place_of]).any():
            continue
        site.density[place_in] += cube[place_of]
        site.taken[place_in] |= body[place_of]
        return centre
    return None
