"""What a tomogram with fill or a mask is standardised by, and where its patches and spectra come from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.data.binning import halved
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import drawn_position, prepare
from cryovae.data.region import Region, region_of
from cryovae.data.sampling import draw, step_generator
from cryovae.data.validation_split import held_out_patches, informative_patches
from cryovae.errors import InputError
from cryovae.io.fill import with_fill
from cryovae.tomogram import Fill, TiltGeometry, Tomogram

TILTS, SIDE = TiltGeometry.from_range(-60, 60), 16
SHAPE = (40, 64, 72)


def _tomogram(shape=SHAPE, seed=0, halves=False):
    rng = np.random.default_rng(seed)
    both = tuple(rng.normal(100, 5, shape).astype(np.float32) for _ in range(2))
    return Tomogram("t", (both[0] + both[1]) / 2, 10.0, TILTS, both if halves else None)


def _padded(tomogram, before=12, after=20, value=0.0):
    def pad(density):
        return np.pad(density, [(0, 0), (0, 0), (before, after)], constant_values=value)

    halves = None if tomogram.halves is None else (pad(tomogram.halves[0]), pad(tomogram.halves[1]))
    return with_fill(replace(tomogram, density=pad(tomogram.density), halves=halves))


def _cornered(tomogram, share=0.8):
    y, x = np.mgrid[: tomogram.shape[1], : tomogram.shape[2]]
    y, x = y - tomogram.shape[1] / 2, x - tomogram.shape[2] / 2
    outside = (np.abs(y * 0.96 + x * 0.29) > share * tomogram.shape[1] / 2) | (np.abs(x * 0.96 - y * 0.29) > share * 36)
    density = tomogram.density.copy()
    density[:, outside] = 0.0
    halves = tomogram.halves
    if halves is not None:
        halves = tuple(np.where(outside, 0, half).astype(np.float32) for half in halves)
    return with_fill(replace(tomogram, density=density, halves=halves)), outside


def test_statistics_leave_fill_out():
    tomogram, outside = _cornered(_tomogram())
    mean, std = region_of(tomogram).statistics(tomogram.density)
    inside = np.broadcast_to(~outside, tomogram.shape)
    assert mean == pytest.approx(tomogram.density[inside].mean(), rel=1e-5)
    assert std == pytest.approx(tomogram.density[inside].std(), rel=1e-4)
    prepared = prepare(tomogram, SIDE)
    assert (prepared.mean, prepared.scale) == pytest.approx((mean, std))


@pytest.mark.parametrize("halves", [True, False])
def test_the_noise_of_a_tomogram_with_fill_is_that_of_its_data(halves):
    """Without a region the noise of a volume with 30 % fill was a millionth of the right one."""
    tomogram = _tomogram(halves=halves)
    plain = prepare(tomogram, SIDE)
    expected = float(plain.noise.table.mean()) * plain.scale**2
    for other in (_padded(tomogram), _cornered(tomogram)[0]):
        prepared = prepare(other, SIDE)
        assert float(prepared.noise.table.mean()) * prepared.scale**2 == pytest.approx(expected, rel=0.05)


def test_noise_leaves_what_is_outside_a_mask_out():
    tomogram = _tomogram(halves=True)
    loud = tuple(h.copy() for h in tomogram.halves)
    mask = np.ones(SHAPE, bool)
    mask[:, 40:] = False
    for half in loud:
        half[:, 44:] = 100 + 10 * (half[:, 44:] - 100)
    both = replace(tomogram, density=(loud[0] + loud[1]) / 2, halves=loud, mask=mask)
    prepared, quiet = prepare(both, SIDE), prepare(tomogram, SIDE)
    assert prepared.scale == pytest.approx(quiet.scale, rel=0.02)
    assert float(prepared.noise.table.mean()) == pytest.approx(float(quiet.noise.table.mean()), rel=0.1)


def test_no_patch_of_training_or_validation_has_fill():
    for tomogram in (_padded(_tomogram()), _cornered(_tomogram())[0]):
        prepared = prepare(tomogram, SIDE)
        generator = torch.Generator().manual_seed(0)
        positions = [drawn_position(prepared, SIDE, generator) for _ in range(200)]
        assert len(set(positions)) > 60
        assert prepared.held_out
        informative = informative_patches(prepared.density, SIDE, prepared.region).tolist()
        for position in (*positions, *prepared.held_out, *informative):
            assert not tomogram.fill[tuple(slice(p, p + SIDE) for p in position)].any()


def test_fill_around_a_box_changes_no_choice():
    tomogram = _tomogram(halves=True)
    plain, padded = prepare(tomogram, SIDE), prepare(_padded(tomogram), SIDE)
    moved = {(z, y, x + 12) for z, y, x in plain.held_out}
    assert set(padded.held_out) == moved
    positions = [drawn_position(p, SIDE, torch.Generator().manual_seed(3)) for p in (plain, padded)]
    assert positions[1] == (positions[0][0], positions[0][1], positions[0][2] + 12)


def test_where_no_patch_is_free_voxels_of_fill_are_not_scored():
    tomogram = _tomogram()
    density = tomogram.density.copy()
    density[:, :, 14:] = 0.0
    thin = with_fill(replace(tomogram, density=density))
    prepared = prepare(thin, SIDE)
    assert prepared.has_partial_patches(SIDE)
    batch = draw([prepared], SIDE, 2, MaskingConfig(rotated_fraction=0.0), step_generator(0, 0))
    assert batch.support is not None
    assert float(batch.support.mean()) == pytest.approx(14 / 16, abs=0.01)


def test_a_tomogram_that_is_almost_all_fill_is_refused():
    fill = np.ones(SHAPE, bool)
    fill[:, 30:34, 30:36] = False
    with pytest.raises(InputError, match="constant regions leave no patch of 16 voxels"):
        held_out_patches(_tomogram().density, SIDE, Region(SHAPE, Fill.of(fill), None))


@pytest.mark.parametrize("with_mask", [True, False])
def test_the_window_of_sections_is_that_of_the_volume(with_mask):
    tomogram, outside = _cornered(_tomogram())
    mask = None
    if with_mask:
        mask = np.zeros(SHAPE, bool)
        mask[10:30] = True
    region = Region(SHAPE, tomogram.fill, mask)
    window = region.window()
    parts = torch.cat([region.window(slice(z, min(z + 7, SHAPE[0]))) for z in range(0, SHAPE[0], 7)])
    assert torch.allclose(window, parts, atol=1e-6)
    assert float(window.square().mean()) == pytest.approx(1, rel=1e-5)
    assert float(window[:, torch.from_numpy(outside)].abs().max()) == 0
    assert float(window[20, 32, 36]) > 1


def test_a_binned_tomogram_has_its_fill_binned():
    tomogram = _padded(_tomogram((41, 64, 72)))
    small = halved(tomogram)
    assert small.fill.shape == small.shape == (21, 32, 52)
    assert np.array_equal(small.fill[:][0, 0], np.r_[np.ones(6), np.zeros(36), np.ones(10)].astype(bool))
    border = small.density[..., 8:40]
    assert small.density[..., :4].std() < 0.2 * border.std()
