import numpy as np
import pytest

from cryovae.checks.advice import bead_advice, halves_advice, mask_advice, size_advice

SHAPE = (48, 60, 52)


def _slab(low, high, seed=0):
    """Noise, with smooth structure in the sections from ``low`` to ``high``."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=SHAPE)
    for _ in range(300):
        z, y, x = int(rng.integers(low + 2, high - 2)), int(rng.integers(3, SHAPE[1] - 3)), int(rng.integers(3, SHAPE[2] - 3))
        volume[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] -= 2
    return volume.astype(np.float32)


@pytest.mark.parametrize(("size", "factor"), [(1.35, 7), (2.1, 5), (4.8, 2), (5.9, 2)])
def test_fine_voxels_are_to_be_binned_to_about_ten_angstrom(size, factor):
    said = size_advice(size, 40)
    assert f"bin it by {factor}, to {factor * size:g} angstrom" in said
    assert 8 <= factor * size <= 12


@pytest.mark.parametrize(("size", "word"), [(8.0, "keep the voxel size"), (13.48, "keep the voxel size"), (33.6, "finer ones")])
def test_usual_and_coarse_voxels(size, word):
    assert word in size_advice(size, 40)


def test_ice_above_and_below_the_specimen_asks_for_a_mask():
    said = mask_advice(_slab(16, 34))
    assert said is not None
    assert "cryovae mask" in said
    lowest = int(said.split("the lowest ")[1].split()[0])
    highest = int(said.split("the highest ")[1].split()[0])
    assert 12 <= lowest <= 18
    assert 10 <= highest <= 16


def test_a_full_tomogram_and_a_grey_level_ask_for_none():
    assert mask_advice(_slab(2, 46)) is None
    assert mask_advice(_slab(2, 46) + 500) is None


def test_gold_is_seen():
    volume = _slab(2, 46)
    assert bead_advice(volume, 10.0) is None
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    volume[(z - 20) ** 2 + (y - 30) ** 2 + (x - 25) ** 2 <= 16] -= 60
    assert "a gold bead stands out" in (bead_advice(volume, 10.0) or "")


def test_halves_are_asked_for():
    assert "give both halves" in halves_advice(True)
    assert "if there are" in halves_advice(False)
