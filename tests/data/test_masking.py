import numpy as np
import pytest

from cryovae.data.masking import specimen_mask
from cryovae.errors import InputError


def _volume(shape=(41, 60, 53)):
    """Noise, with dark blobs in a slab of the middle third."""
    rng = np.random.default_rng(2)
    density = rng.normal(size=shape)
    third = shape[0] // 3
    for _ in range(60):
        z, y, x = (int(rng.integers(low, high)) for low, high in ((third, 2 * third), (3, shape[1] - 3), (3, shape[2] - 3)))
        density[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] -= 8
    slab = np.zeros(shape, dtype=bool)
    slab[third - 2 : 2 * third + 3] = True
    return density, slab


def test_the_mask_covers_dark_crowded_places():
    density, slab = _volume()
    mask = specimen_mask(density, patch_size=2)
    assert mask.shape == density.shape
    assert 0.1 < mask.mean() < 0.5
    assert slab[mask].mean() > 0.75
    assert np.array_equal(specimen_mask(-density, patch_size=2, bright=True), mask)
    assert slab[specimen_mask(density, patch_size=2, bright=True)].mean() < slab[mask].mean()


def test_a_grey_level_that_is_added_changes_nothing():
    density, _ = _volume()
    assert (specimen_mask(density + 1000.0) == specimen_mask(density)).mean() > 0.999


def test_percentages_say_how_much_passes():
    density, _ = _volume()
    assert specimen_mask(density, 100, 100).all()
    assert specimen_mask(density, 30, 100).mean() == pytest.approx(0.3, abs=0.04)
    assert specimen_mask(density, 100, 70).mean() == pytest.approx(0.7, abs=0.04)
    both, one = specimen_mask(density), specimen_mask(density, 50, 100)
    assert not (both & ~one).any()


def test_top_and_bottom_are_cropped():
    mask = specimen_mask(_volume()[0], 100, 100, z_crop=0.2)
    assert mask[:4].sum() + mask[-4:].sum() == 0
    assert mask[4:-4].all()


@pytest.mark.parametrize(
    "wrong", [{"density_percentage": 0}, {"std_percentage": 101}, {"patch_size": 0}, {"z_crop": 1.0}, {"z_crop": -0.1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        specimen_mask(np.zeros((8, 8, 8)), **wrong)


def test_an_even_place_is_no_specimen_however_bright_it_is():
    """By deviation alone, ice of another grey level than the rest is left out."""
    density = np.random.default_rng(0).normal(0, 1, (24, 48, 36)).astype(np.float32)
    density[:, :16] = 4 + 0.1 * density[:, :16]
    mask = specimen_mask(density, density_percentage=100, std_percentage=50, patch_size=1)
    assert mask[:, 26:].mean() > 0.6
    assert mask[:, :10].mean() < 0.05
