from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.measurement import MaskingConfig, Orientations, random_keep
from cryovae.data.prepare import prepare
from cryovae.data.sampling import (
    LEAST_DROPPED,
    cube_rotated,
    draw,
    drawn_tomogram,
    dropped_share,
    freely_rotated,
    held_out,
    step_generator,
)
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.rotation import random_rotation
from cryovae.physics.wedge import patch_mask, smeared_mask, volume_mask, wedge_mask
from cryovae.tomogram import TiltGeometry, Tomogram

SIDE = 16


@pytest.fixture(scope="module")
def prepared(tomogram):
    return prepare(tomogram, SIDE)


def test_specimen_is_standardised_and_its_noise_scaled_with_it(tomogram):
    plain = prepare(tomogram, SIDE)
    scaled = Tomogram("scaled", tomogram.density * 37 + 1000, 10.0, tomogram.tilts, tuple(h * 37 + 1000 for h in tomogram.halves))
    other = prepare(scaled, SIDE)
    assert float(other.density.mean()) == pytest.approx(0, abs=1e-4)
    assert float(other.density.std()) == pytest.approx(1, abs=1e-4)
    assert torch.allclose(plain.noise.table, other.noise.table, rtol=1e-2)
    assert other.scale == pytest.approx(37 * plain.scale, rel=1e-3)


def test_hidden_bins_were_measured_and_are_not_in_what_r_sees(prepared):
    m = cube_rotated(prepared, [(2, 3, 4), (10, 20, 9)], [0, 7], SIDE, None)
    canonical = smeared_mask((SIDE,) * 3, prepared.tilts)
    assert torch.equal(m.target_mask, m.mask * (1 - prepared.orientations.input_mask))
    seen = fourier.transform(m.input_masked).abs()
    assert float((seen * (canonical == 0)).max()) < 1e-5
    assert float((m.target_mask * (canonical == 1)).max()) == 0
    assert float(m.target_mask.sum()) > 100


def test_what_r_sees_does_not_depend_on_the_hidden_bins(prepared):
    m = cube_rotated(prepared, [(2, 3, 4)], [4], SIDE, None)
    hard = (m.target_mask > 0.999).float()
    changed = m.input_full + fourier.filtered(torch.randn_like(m.input_full), hard)
    canonical = smeared_mask((SIDE,) * 3, prepared.tilts)
    assert torch.allclose(fourier.filtered(changed, canonical), m.input_masked, atol=1e-4)


def test_random_drop_is_hermitian_and_of_the_share_asked_for():
    keep = random_keep((2, 12, 12, 12), 0.25, step_generator(0, 1))
    assert float(keep.mean()) == pytest.approx(0.75, abs=0.03)
    white = torch.randn(2, 12, 12, 12)
    again = fourier.filtered(fourier.filtered(white, keep), keep)
    assert torch.allclose(again, fourier.filtered(white, keep), atol=1e-5)
    assert keep[:, 0, 0, 0].tolist() == [1, 1]


def test_a_batch_follows_from_seed_and_step(prepared):
    config = MaskingConfig(rotated_fraction=0.5)
    for step in range(6):
        one, two = (draw([prepared], SIDE, 2, config, step_generator(5, step)) for _ in range(2))
        assert torch.equal(one.input_masked, two.input_masked)
        assert torch.equal(one.target_mask, two.target_mask)
    other = draw([prepared], SIDE, 2, config, step_generator(6, 0))
    assert not torch.equal(other.data, draw([prepared], SIDE, 2, config, step_generator(5, 0)).data)


def test_training_patches_share_no_voxel_with_held_out_ones(prepared):
    assert prepared.held_out
    for step in range(200):
        generator = step_generator(1, step)
        from cryovae.data.prepare import drawn_position

        position = drawn_position(prepared, SIDE, generator)
        for box in prepared.held_out:
            assert any(abs(a - b) >= SIDE for a, b in zip(position, box, strict=True))


def test_validation_scores_every_held_out_patch(prepared):
    measurements = held_out(prepared, SIDE)
    assert len(measurements) == len(prepared.held_out)
    z, y, x = prepared.held_out[0]
    rotation = prepared.orientations.rotations[0]
    patch = prepared.density[z : z + SIDE, y : y + SIDE, x : x + SIDE]
    assert torch.allclose(measurements[0].data[0], rotation(patch - patch.mean()), atol=1e-5)


def test_freely_rotated_patches_are_scored_as_measured(prepared):
    m = freely_rotated(prepared, [(5, 6, 7)], [random_rotation(np.random.default_rng(3))], SIDE, None)
    missed = m.data[0] - prepared.density[5 : 5 + SIDE, 6 : 6 + SIDE, 7 : 7 + SIDE]
    assert torch.allclose(missed, missed.mean().expand_as(missed), atol=1e-5)
    assert m.inverse_rotation is not None
    assert m.support is not None
    assert torch.allclose(m.inverse_rotation[0] @ m.inverse_rotation[0].T, torch.eye(3), atol=1e-5)
    assert 0 < float(m.support.mean()) < 0.6


def test_freely_rotated_patches_hide_what_the_rotated_input_lacks(prepared):
    """A bin k of the data lies at R k in the rotated input, from which the canonical wedge is taken: only there is it hidden."""
    rotation = random_rotation(np.random.default_rng(3))
    m = freely_rotated(prepared, [(5, 6, 7)], [rotation], SIDE, None)
    assert torch.equal(m.inverse_rotation[0], rotation.T)
    in_input = torch.einsum("ij,j...->i...", rotation, fourier.frequencies((SIDE,) * 3))
    seen = wedge_mask(in_input, prepared.tilts, 1 / SIDE)
    # At the edge of a mask, rounding decides.
    visible, missing = m.target_mask[0][seen > 0.999], (m.target_mask[0] - m.mask[0])[seen < 1e-3]
    assert float(visible.abs().max()) < 1e-2
    assert float(missing.abs().max()) < 1e-2
    assert 0.05 < float(m.target_mask.sum() / m.mask.sum()) < 0.6
    assert float(m.support[0, 0, 0, 0]) == 0
    assert float(m.support[0, SIDE // 2, SIDE // 2, SIDE // 2]) == 1


def test_the_corners_of_freely_rotated_patches_are_filled_too(prepared):
    level = replace(prepared, density=torch.ones_like(prepared.density), filled=torch.ones_like(prepared.density))
    m = freely_rotated(level, [(12, 20, 16)], [random_rotation(np.random.default_rng(5))], SIDE, None)
    assert float(m.input_full.abs().max()) < 1e-4


def test_held_out_patches_score_no_bin_of_which_the_input_has_a_trace(prepared):
    for m in held_out(prepared, SIDE):
        visible = (m.input_mask >= 0.01).expand_as(m.mask)
        assert float(m.target_mask[visible].max()) == 0
        assert torch.equal(m.target_mask[~visible], m.mask[~visible])
        assert float(m.target_mask.sum()) > 100


def test_tables_of_a_rotation_are_those_of_the_tomogram_rotated():
    """Masks and noise of an odd side as full spectra, moved by the rotation of the density itself."""
    side, tilts = 13, TiltGeometry.from_range(-35, 62)
    table = torch.rand(24, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    noise = NoiseSpectrum(table, "halves")
    tables = Orientations(tilts, noise, side, rotations="all")
    plain = tables.canonical, tables.canonical_variance
    assert torch.equal(tables.canonical, patch_mask((side,) * 3, tilts))
    for rotation, *rotated in zip(tables.rotations, tables.masks, tables.variances, strict=True):
        for one, two in zip(plain, rotated, strict=True):
            before, after = (fourier.centred(x, (side,) * 3) for x in (one, two))
            assert torch.allclose(rotation(before), after, atol=1e-4)


def test_tomograms_are_drawn_by_their_shares(prepared):
    three = [replace(prepared, share=share) for share in (0.0, 0.25, 0.75)]
    drawn = [three.index(drawn_tomogram(three, step_generator(0, step))) for step in range(400)]
    assert [drawn.count(i) for i in range(3)] == pytest.approx([0, 100, 300], abs=40)
    assert 0 not in drawn


def test_without_a_wedge_bins_are_hidden_at_random(prepared):
    full = replace(prepared, tilts=TiltGeometry.from_range(-90, 90))
    assert dropped_share(full, 0.1) == LEAST_DROPPED
    assert dropped_share(full, 0.6) == 0.6
    assert dropped_share(prepared, 0.1) == 0.1


def test_without_hide_the_encoder_sees_everything(tomogram):
    seen = prepare(tomogram, SIDE, masking=MaskingConfig(hide=False)).orientations.input_mask
    assert torch.equal(seen, torch.ones_like(seen))


def test_thin_volumes_are_padded_and_the_pad_is_not_scored():
    thin = torch.randn(10, 40, 36).numpy()
    tomogram = Tomogram("thin", thin, 10.0, TiltGeometry.from_range(-60, 50))
    prepared = prepare(tomogram, SIDE)
    m = draw([prepared], SIDE, 2, MaskingConfig(rotated_fraction=0.0), step_generator(0, 0))
    assert m.support is not None
    assert m.support.sum((1, 2, 3)).tolist() == [10 * SIDE * SIDE] * 2


@pytest.mark.parametrize("rotated", [0.0, 1.0])
def test_the_level_of_a_patch_is_no_part_of_what_is_learned(prepared, rotated):
    """A constant added to the tomogram changes neither what the encoders see nor what is scored."""
    higher = replace(prepared, density=prepared.density + 3.0, filled=prepared.filled + 3.0)
    config = MaskingConfig(rotated_fraction=rotated)
    one, two = (draw([s], SIDE, 2, config, step_generator(0, 4)) for s in (prepared, higher))
    for name in ("input_full", "input_masked", "data"):
        assert torch.allclose(getattr(one, name), getattr(two, name), atol=1e-4)
    assert float(one.input_full.mean((1, 2, 3)).abs().max()) < 1e-5


def test_the_tolerance_is_a_share_of_the_signal_in_every_orientation(tomogram):
    strict = prepare(tomogram, SIDE, masking=MaskingConfig(tolerance=0.0))
    lenient = prepare(tomogram, SIDE, masking=MaskingConfig(tolerance=0.1))
    assert strict.orientations.model_variance is None
    plain, eased = (cube_rotated(s, [(2, 3, 4)], [5], SIDE, None) for s in (strict, lenient))
    added = eased.scored_variance - plain.scored_variance
    assert torch.equal(plain.scored_variance, plain.variance)
    assert torch.equal(eased.variance, plain.variance)
    power = fourier.transform(lenient.density).abs().square()
    radius, small = fourier.radius(lenient.density.shape), fourier.radius((SIDE,) * 3)
    low = (volume_mask(lenient.density.shape, tomogram.tilts) == 1) & (radius > 0.03) & (radius < 0.1)
    mean = float(added[0][(small > 0.03) & (small < 0.1)].mean())
    assert 0.04 < mean / float(power[low].mean()) < 0.2
    assert float(added.min()) >= 0
