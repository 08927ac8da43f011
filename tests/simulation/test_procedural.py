"""Procedural molecules: a number is a molecule, in one piece, symmetric where it should be, different from the others."""

import numpy as np
import pytest
from scipy.ndimage import label, map_coordinates
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from cryovae.io.molecules import BODY
from cryovae.simulation import procedural
from cryovae.simulation.procedural import GROUPS, MOST_POINTS, procedural_molecule

COUNT = 60


@pytest.fixture(scope="module")
def kinds():
    """The first sixty kinds at 14 angstrom."""
    return [procedural_molecule(kind, 14.0) for kind in range(COUNT)]


def _always(monkeypatch, group):
    """Let all molecules have one symmetry."""
    monkeypatch.setattr(procedural, "CHANCES", tuple(float(name == group) for name in GROUPS))


def test_a_kind_is_the_same_molecule_each_time(kinds):
    for kind in (0, 7, 31):
        again = procedural_molecule(kind, 14.0)
        assert np.array_equal(again.density, kinds[kind].density)
        assert again.name == kinds[kind].name == f"kind{kind}"


def test_the_body_has_mean_one_and_the_ground_is_empty(kinds):
    for one in kinds:
        body = one.density > BODY * one.density.max()
        assert one.density[body].mean() == pytest.approx(1, abs=1e-4)
        assert 0 <= one.density.min() < 1e-6
        assert one.density[0].max() < 0.05
        assert len(set(one.density.shape)) == 1
        assert one.density.shape[0] % 2 == 1


def test_molecules_are_of_the_sizes_of_complexes(kinds):
    lengths = 2 * 14 * np.array([one.radius for one in kinds])
    volumes = 14**3 * np.array([one.volume for one in kinds])
    assert lengths.min() > 25
    assert lengths.max() < 900
    assert np.median(lengths) > 100
    # Protein has 1.2 cubic angstrom a dalton: from some ten kilodalton to more than a megadalton.
    assert np.percentile(volumes, 5) > 1e4
    assert volumes.max() > 1e6


def test_most_molecules_are_in_one_piece():
    pieces = []
    for kind in range(16):
        one = procedural_molecule(kind, 10.0)
        labelled, count = label(one.density > BODY * one.density.max(), np.ones((3, 3, 3)))
        largest = np.bincount(labelled.ravel())[1:].max() if count else 0
        pieces.append(largest / max(one.volume, 1))
    # Subunits of some assemblies touch by their points, and not by their bodies.
    assert np.mean(np.array(pieces) > 0.98) > 0.6


def _signature(one):
    """Mean density by shell about the middle, and its spread, on one grid: the same in any orientation."""
    half = one.density.shape[0] // 2
    grid = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0)).round().astype(int).ravel()
    density = one.density.ravel().astype(float)
    sums = [np.bincount(radius, weights, 48)[:48] for weights in (density, density**2)]
    return np.concatenate(sums) / np.linalg.norm(one.density)


def test_at_least_forty_of_sixty_kinds_differ_from_all_others(kinds):
    signatures = np.array([_signature(one) for one in kinds])
    unit = signatures / np.linalg.norm(signatures, axis=1, keepdims=True)
    near = unit @ unit.T - 2 * np.eye(COUNT)
    distinct = []
    for i in range(COUNT):
        if all(near[i, j] < 0.998 for j in distinct):
            distinct.append(i)
    assert len(distinct) >= 40
    assert len({one.density.shape[0] for one in kinds}) > 8


def test_a_molecule_is_as_large_in_angstrom_at_any_voxel_size():
    for kind in (4, 9, 14):
        fine, coarse = procedural_molecule(kind, 7.0), procedural_molecule(kind, 14.0)
        assert 7 * fine.radius == pytest.approx(14 * coarse.radius, rel=0.1)
        assert 7**3 * fine.volume == pytest.approx(14**3 * coarse.volume, rel=0.3)


@pytest.mark.parametrize("group", ["C2", "C3", "C7", "D2", "D3", "T", "O", "I"])
def test_an_assembly_has_the_symmetry_of_its_group(group, monkeypatch):
    _always(monkeypatch, group)
    points = np.random.default_rng(1).normal(scale=12.0, size=(80, 3))
    places, weights = procedural._assembled(points, np.ones(80), np.random.default_rng(2))
    rotations = Rotation.create_group(group)
    assert len(weights) == len(places)
    assert len(places) > 0.4 * 80 * len(rotations)
    # Points that share a cell with another are left out, on either side of a symmetry; the others have their copies.
    for rotation in list(rotations)[1:4]:
        distances = cKDTree(rotation.apply(places)).query(places)[0]
        assert np.mean(distances < 4.0 * 3**0.5) > 0.97
        assert np.median(distances) < 1e-6


def test_a_symmetric_kind_keeps_its_symmetry_on_the_grid(monkeypatch):
    """About its axis, z, x, a ring of seven is itself again after a seventh of a circle, and not after a tenth."""
    _always(monkeypatch, "C7")
    one = procedural_molecule(3, 8.0)
    likeness = {parts: max(_likeness(one.density, axis, 360 / parts) for axis in (0, 2)) for parts in (7, 10)}
    assert likeness[7] > 0.9
    assert likeness[10] < likeness[7] - 0.05


def _likeness(density, axis, degrees):
    """Correlation of a density with itself rotated about an axis."""
    half = density.shape[0] // 2
    grid = np.stack(np.meshgrid(*[np.arange(-half, half + 1)] * 3, indexing="ij")).reshape(3, -1)
    rotation = Rotation.from_rotvec(degrees * np.eye(3)[axis], degrees=True)
    moved = map_coordinates(density, rotation.apply(grid.T).T + half, order=1)
    return np.corrcoef(moved, density.ravel())[0, 1]


def test_a_molecule_has_no_more_points_than_allowed(monkeypatch):
    _always(monkeypatch, "I")
    points = np.random.default_rng(0).normal(scale=40, size=(MOST_POINTS // 50, 3))
    places, _ = procedural._assembled(points, np.ones(len(points)), np.random.default_rng(0))
    assert len(places) == len(points)
