"""Adds membranes, filaments and gold beads to a site where there is room; simulation/shapes.py has the shapes."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from cryovae.io.molecules import BODY
from cryovae.simulation.shapes import ACTIN, GOLD, MICROTUBULE, THICKNESS, Helix, bilayer, sphere
from cryovae.simulation.site import TRIES, Site, random_frame

# Number of waves of a sheet along its two directions per length of the tomogram, and their height relative to that length.
WAVES, SWING = (1.3, 0.9), 0.02


def _add_membrane(site: Site, where: tuple[slice, ...], distance: np.ndarray) -> None:
    keep_free = THICKNESS / site.voxel_size
    near = np.abs(distance) < keep_free
    site.density[where] += np.where(near | (np.abs(distance) < 2 * keep_free), bilayer(distance, site.voxel_size), 0)
    site.taken[where] |= near


def add_sheet(site: Site) -> None:
    """Add a slightly wavy membrane across the scene. Slice by slice, because its distances would fill the memory."""
    frame = random_frame(site.rng)
    centre = site.place((site.high - site.low) / 4)
    length = max(site.tomogram)
    phases = site.rng.uniform(0, 2 * np.pi, 2)
    y, x = np.ogrid[: site.shape[1], : site.shape[2]]
    for z in range(site.shape[0]):
        offset = (z - centre[0], y - centre[1], x - centre[2])
        along = [sum(o * a for o, a in zip(offset, axis, strict=True)) for axis in frame]
        angles = [2 * np.pi * across / length * waves + p for across, waves, p in zip(along[1:], WAVES, phases, strict=True)]
        height = along[0] + SWING * length * sum(np.sin(angle) for angle in angles)
        slopes = [2 * np.pi * SWING * waves * np.cos(angle) for angle, waves in zip(angles, WAVES, strict=True)]
        distance = height / np.sqrt(1 + sum(slope**2 for slope in slopes))
        _add_membrane(site, (slice(z, z + 1),), distance[None])


def add_vesicle(site: Site) -> None:
    """Add a slightly flattened vesicle of 150 to 400 angstrom radius, as large as possible, away from other membranes."""
    voxel, thickness = site.voxel_size, site.high - site.low
    largest = min(400 / voxel, 0.45 * thickness, 0.35 * min(site.tomogram[1:]))
    for attempt in range(4 * TRIES):
        radius = site.rng.uniform(min(150 / voxel, largest), largest) * (1 - 0.5 * attempt / (4 * TRIES))
        stretch = site.rng.uniform(0.85, 1.15, 3)
        frame = random_frame(site.rng)
        centre = site.place(radius + THICKNESS / voxel)
        where, offset = site.box(centre, 1.2 * radius + 2 * THICKNESS / voxel)
        along = [
            sum(o * np.float32(a) for o, a in zip(offset, axis, strict=True)) * s for axis, s in zip(frame, stretch, strict=True)
        ]
        length = np.sqrt(sum(a**2 for a in along))
        # Distance to an ellipsoid near its surface: (|r| in stretched coordinates - R) over the length of the gradient.
        slope = np.sqrt(sum((a * s) ** 2 for a, s in zip(along, stretch, strict=True))) / np.maximum(length, 1e-3)
        distance = (length - np.float32(radius)) / np.maximum(slope, 0.5)
        shell = np.abs(distance) < 1.3 * THICKNESS / voxel
        if not (site.taken[where] & shell).any():
            _add_membrane(site, where, distance)
            return


def add_filaments(site: Site, count: int) -> None:
    """Add filaments of two kinds through the scene, slightly bent and mostly along the slab."""
    voxel = site.voxel_size
    subunits: dict[str, list[np.ndarray]] = {}
    kinds = {helix.name: helix for helix in (ACTIN, MICROTUBULE)}
    for i in range(count):
        helix = (MICROTUBULE, ACTIN)[i % 2]
        for _ in range(4 * TRIES):
            centres = _try_filament(site, helix)
            if centres is not None:
                subunits.setdefault(helix.name, []).append(centres)
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


def _try_filament(site: Site, helix: Helix) -> np.ndarray | None:
    """Subunits (n, 3), in voxels, of a filament through free space, whose voxels become occupied; None if there is no room."""
    voxel = site.voxel_size
    length = 1.2 * max(site.shape) * voxel
    frame = random_frame(site.rng, 0.15)
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


def add_bead(site: Site) -> None:
    """Add a gold bead of 5 to 10 nanometres in free space."""
    for _ in range(TRIES):
        radius = site.rng.uniform(25, 50) / site.voxel_size
        where, offset = site.box(site.place(radius + 1), radius + 1)
        distance = np.sqrt(sum(o**2 for o in offset))
        body = distance < radius + 1
        if not (site.taken[where] & body).any():
            site.density[where] += GOLD * sphere(distance, radius)
            site.taken[where] |= body
            site.beads[where] |= body
            return
