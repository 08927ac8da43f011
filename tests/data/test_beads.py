import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from cryovae.data.beads import bead_mask, find_beads
from cryovae.errors import InputError
from cryovae.simulation.scene import SceneConfig, build_scene

SHAPE = (40, 72, 64)


def _made(beads, seed=5, voxel_size=10.0, noise=2.0):
    """A scene with beads, dark as in a tomogram, with noise, and where its gold is."""
    config = SceneConfig(SHAPE, voxel_size, crowding=0.15, vesicles=1, filaments=0, beads=beads)
    rng = np.random.default_rng(seed)
    scene = build_scene(config, [], 4, rng)
    gold = scene.beads[:, :, 4:-4]
    return -scene.inside + rng.normal(scale=noise, size=SHAPE).astype(np.float32), gold


def test_every_bead_is_seen_and_nothing_else():
    density, gold = _made(4)
    beads = find_beads(density, 10.0)
    assert len(beads) == 4
    assert all(gold[bead.centre] for bead in beads)
    mask = bead_mask(density, 10.0, beads)
    assert mask[gold].all()
    assert not (mask & ~binary_dilation(gold, iterations=6)).any()


@pytest.mark.parametrize("noise", [0.5, 2.0, 5.0])
def test_protein_and_noise_alone_hold_no_bead(noise):
    density, _ = _made(0, noise=noise)
    beads = find_beads(density, 10.0)
    assert beads == []
    assert not bead_mask(density, 10.0, beads).any()


def test_bright_gold_is_the_same_gold():
    density, _ = _made(3)
    assert find_beads(-density, 10.0, bright=True) == find_beads(density, 10.0)
    assert find_beads(-density + 100, 10.0) == []


def test_a_grey_scale_changes_nothing():
    density, _ = _made(3)
    beads, same = find_beads(density, 10.0), find_beads(37 * density.astype(np.float64) + 900, 10.0)
    assert [bead.centre for bead in same] == [bead.centre for bead in beads]


@pytest.mark.parametrize(("diameter", "voxel_size"), [(1.0, 10.0), (90.0, 10.0), (5.0, 40.0)])
def test_a_diameter_out_of_range_is_refused(diameter, voxel_size):
    with pytest.raises(InputError, match="expected"):
        find_beads(np.zeros(SHAPE), voxel_size, diameter)


def test_a_constant_volume_holds_none():
    assert find_beads(np.zeros(SHAPE), 10.0) == []


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_constant_regions_make_no_protein_gold(share):
    density, _ = _made(0)
    density[:, : int(share * SHAPE[1])] = 3.0
    assert find_beads(density, 10.0) == []
    density, gold = _made(4)
    density[: int(share * SHAPE[0] / 2)] = 3.0
    inside = gold & (np.arange(SHAPE[0])[:, None, None] > share * SHAPE[0] / 2 + 6)
    beads = find_beads(density, 10.0)
    assert len(beads) <= 4
    assert all(gold[bead.centre] for bead in beads)
    assert bead_mask(density, 10.0, beads)[inside].mean() > 0.6 or not inside.any()


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
def test_saturated_gold_of_integers_is_seen(kind):
    density, gold = _made(4)
    low, high = (float(v) for v in np.percentile(density, (0.2, 100)))
    limits = np.iinfo(kind)
    scaled = (density.clip(low, high) - low) / (high - low) * (float(limits.max) - float(limits.min)) + float(limits.min)
    integers = scaled.round().astype(kind)
    beads = find_beads(integers, 10.0)
    assert beads
    assert all(gold[bead.centre] for bead in beads)
    assert (bead_mask(integers, 10.0, beads)).mean() < 0.05


def test_fine_voxels_are_binned_and_the_mask_is_not():
    density, gold = _made(3)
    fine = np.repeat(np.repeat(np.repeat(density, 2, 0), 2, 1), 2, 2)
    beads = find_beads(fine, 5.0)
    assert len(beads) == len(find_beads(density, 10.0)) == 3
    mask = bead_mask(fine, 5.0, beads)
    fine_gold = np.repeat(np.repeat(np.repeat(gold, 2, 0), 2, 1), 2, 2)
    assert mask[fine_gold].mean() > 0.9
    assert mask.mean() < 4 * fine_gold.mean()
