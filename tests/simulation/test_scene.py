"""Specimens: molecules where the list says, apart from each other; membranes, filaments, gold, slabs."""

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.spatial.transform import Rotation

from cryovae.errors import InputError
from cryovae.io.molecules import Molecule, molecule
from cryovae.simulation.crowd import rotated
from cryovae.simulation.scene import SceneConfig, build_scene
from cryovae.simulation.shapes import ACTIN, GOLD, MICROTUBULE, bilayer

EMPTY = {"sheets": 0, "vesicles": 0, "filaments": 0, "beads": 0}


@pytest.fixture(scope="module")
def arrow() -> Molecule:
    """Without symmetry: a heavy foot at the middle, arms of different lengths along +x and +z."""
    density = np.zeros((19, 19, 19), dtype=np.float32)
    density[8:11, 8:11, 8:11] = 1
    density[8:11, 8:11, 11:16] = 1
    density[11:14, 8:11, 8:11] = 1
    return molecule("arrow", density, np.array([9, 9, 9]))


def test_molecules_lie_where_the_list_says(arrow):
    config = SceneConfig(shape=(40, 56, 48), crowding=0.05, **EMPTY)
    scene = build_scene(config, [arrow], 10, np.random.default_rng(3))
    assert len(scene.placements) > 8
    # Arms are looked for with the rotation itself: independent of how the map was resampled.
    arms = {"x": (5, 0, 0), "z": (0, 0, 3), "none": (-5, 0, 0)}
    densities = {name: [] for name in arms}
    for placed in scene.placements:
        for name, arm in arms.items():
            at = np.array(placed.position) + placed.rotation.apply(arm)[::-1]
            index = np.rint(at).astype(int)
            if all(0 <= i < n for i, n in zip(index, config.shape, strict=True)):
                densities[name].append(scene.inside[tuple(index)])
    assert np.mean(densities["x"]) > 0.6
    assert np.mean(densities["z"]) > 0.6
    assert np.mean(densities["none"]) < 0.1


def test_a_molecule_is_its_rotated_map(arrow):
    quarter = Rotation.from_euler("y", 90, degrees=True)
    cube = rotated(arrow, quarter, np.zeros(3))
    half, middle = arrow.density.shape[0] // 2, cube.shape[0] // 2
    inner = cube[tuple(slice(middle - half, middle + half + 1) for _ in range(3))]
    # By 90 degrees about y, x goes to -z and z to x.
    expected = np.transpose(arrow.density, (2, 1, 0))[::-1]
    np.testing.assert_allclose(inner, expected, atol=1e-5)


def test_matter_is_apart_and_crowded(arrow):
    config = SceneConfig(shape=(48, 60, 52), crowding=0.15, **EMPTY)
    scene = build_scene(config, [arrow], 0, np.random.default_rng(0))
    held = (scene.inside > 0.2 * arrow.density.max()).mean()
    assert 0.08 < held < 0.2
    assert scene.inside.max() < 1.5 * arrow.density.max()


def test_a_lamella_is_empty_above_and_below(arrow):
    config = SceneConfig(shape=(60, 64, 56), lamella=240.0, beads=1, vesicles=1, sheets=1, filaments=2)
    density = build_scene(config, [arrow], 8, np.random.default_rng(5)).density
    assert np.abs(density[:17]).max() == 0
    assert np.abs(density[43:]).max() == 0
    assert density[18:42].std() > 0.1


def test_numbers_choose_what_is_there():
    shape = (48, 64, 56)
    rng = np.random.default_rng
    nothing = build_scene(SceneConfig(shape=shape, crowding=0.0, **EMPTY), [], 0, rng(1))
    assert np.abs(nothing.density).max() == 0
    assert nothing.placements == ()
    beads = build_scene(SceneConfig(shape=shape, crowding=0.0, **(EMPTY | {"beads": 2})), [], 0, rng(1))
    assert beads.density.max() == pytest.approx(GOLD)
    assert beads.beads[beads.density > 1].all()
    for kind in ("sheets", "vesicles", "filaments"):
        made = build_scene(SceneConfig(shape=shape, crowding=0.0, **(EMPTY | {kind: 1})), [], 0, rng(2))
        assert 0.005 < (made.density > 0.3).mean() < 0.3, kind
        assert not made.beads.any()


def test_vesicles_are_closed():
    """Their inside cannot be reached from outside without crossing the membrane, unless the tomogram's sides cut them."""
    config = SceneConfig(shape=(64, 120, 116), crowding=0.0, **(EMPTY | {"vesicles": 1}))
    closed = 0
    for seed in range(4):
        density = np.pad(build_scene(config, [], 0, np.random.default_rng(seed)).density, 1)
        regions, _ = label(density < 0.25)
        sizes = np.sort(np.bincount(regions.ravel())[1:])
        closed += len(sizes) > 1 and sizes[-2] > 1000
    assert closed >= 2


def test_bilayer_has_two_leaflets():
    d = np.linspace(-60, 60, 1201)
    profile = bilayer(d / 5.0, 5.0)
    peaks = d[1:-1][(profile[1:-1] > profile[:-2]) & (profile[1:-1] > profile[2:])]
    assert peaks == pytest.approx([-19, 19], abs=1.0)
    assert profile[600] < 0


def test_filaments_repeat():
    """A microtubule of 13 protofilaments maps to itself by 40 angstrom along its axis; actin by one subunit, rotated."""
    frame = np.eye(3)
    monomers = MICROTUBULE.subunits(np.zeros(3), frame, 0.0, 600.0, 0.0)
    moved = monomers[(monomers[:, 0] > 150) & (monomers[:, 0] < 400)] + (40.0, 0, 0)
    nearest = np.sqrt(((moved[:, None] - monomers) ** 2).sum(-1)).min(1)
    assert nearest.max() < 1e-6
    assert len({round(a) for a in np.degrees(np.arctan2(monomers[:, 2], monomers[:, 1])) % 360}) == 13
    actin = ACTIN.subunits(np.zeros(3), frame, 0.0, 300.0, 0.0)
    assert np.diff(actin[:, 0]) == pytest.approx(27.5)
    assert np.hypot(actin[:, 1], actin[:, 2]) == pytest.approx(25.0)


def test_seeds(arrow):
    config = SceneConfig(shape=(40, 48, 44), crowding=0.1)
    first, again, other = (build_scene(config, [arrow], 4, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.density, again.density)
    assert not np.array_equal(first.density, other.density)


@pytest.mark.parametrize(
    "bad", [{"shape": (8, 30, 30)}, {"crowding": 0.9}, {"beads": -1}, {"lamella": 20.0}, {"lamella": 9e3}, {"voxel_size": 0.0}]
)
def test_impossible_specimens_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        SceneConfig(**bad)


def test_a_molecule_larger_than_the_tomogram_is_refused():
    huge = molecule("huge", np.pad(np.ones((50, 4, 4)), 2), np.array([27, 4, 4]))
    with pytest.raises(InputError, match="50 voxels long"):
        build_scene(SceneConfig(shape=(40, 40, 44)), [huge], 0, np.random.default_rng(0))
