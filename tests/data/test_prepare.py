"""Training patches come from where the mask says that there is specimen."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.prepare import divided, drawn_position, prepare, prepare_halves
from cryovae.errors import InputError
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import Optics

SIDE = 16


def _drawn(prepared, count=300):
    generator = torch.Generator().manual_seed(1)
    return [drawn_position(prepared, SIDE, generator) for _ in range(count)]


def test_middles_of_patches_are_inside_and_held_out_ones_too(tomogram):
    mask = np.zeros(tomogram.shape, dtype=bool)
    mask[:, 20:, 10:40] = True
    prepared = prepare(replace(tomogram, mask=mask), SIDE)
    near = SIDE // 8
    wide = np.zeros_like(mask)
    wide[:, 20 - near :, 10 - near : 40 + near] = True
    positions = _drawn(prepared)
    assert len(set(positions)) > 100
    assert all(wide[tuple(p + SIDE // 2 for p in place)] for place in positions)
    assert not any(prepared.overlaps_held_out(place, SIDE) for place in positions)
    assert prepared.held_out
    assert all(mask[tuple(p + SIDE // 2 for p in box)] for box in prepared.held_out)


def test_without_a_mask_patches_come_from_everywhere(tomogram):
    positions = np.array(_drawn(prepare(tomogram, SIDE)))
    assert (positions.min(0) == 0).all()
    assert (positions.max(0) == np.array(tomogram.shape) - SIDE).all()


def test_a_tomogram_thinner_than_a_patch_has_its_middle_inside(tomogram):
    thin = replace(tomogram, density=tomogram.density[:12], halves=None, mask=np.ones((12, *tomogram.shape[1:]), dtype=bool))
    assert {z for z, _, _ in _drawn(prepare(thin, SIDE))} == {0}


def test_a_mask_without_room_is_refused(tomogram):
    mask = np.zeros(tomogram.shape, dtype=bool)
    mask[0, 0, 0] = True
    with pytest.raises(InputError, match="the mask leaves no patch"):
        prepare(replace(tomogram, mask=mask), SIDE)


def test_halves_are_prepared_as_their_mean_is(tomogram):
    prepared = prepare(tomogram, SIDE)
    pair = prepare_halves(tomogram, prepared)
    assert not pair.single
    assert torch.allclose((pair.halves[0] + pair.halves[1]) / 2, prepared.density, atol=1e-4)
    for mine, half in zip(pair.halves, tomogram.halves, strict=True):
        assert torch.allclose(mine * prepared.scale + prepared.mean, torch.from_numpy(half), atol=1e-4)
    assert prepare_halves(replace(tomogram, halves=None), prepared).single


def test_patches_validated_elsewhere_are_not_drawn(tomogram):
    prepared = replace(prepare(tomogram, SIDE), held_out=((0, 0, 0),), excluded_patches=((20, 30, 20),), held_out_boxes=())
    assert prepared.overlaps_held_out((SIDE - 1, 0, 0), SIDE)
    assert not prepared.overlaps_held_out((0, SIDE, 0), SIDE)
    assert prepared.overlaps_held_out((20 + SIDE - 1, 30, 20), SIDE)
    boxes = [((a, a + SIDE), (b, b + SIDE), (c, c + SIDE)) for a, b, c in ((0, 0, 0), (20, 30, 20))]
    assert list(prepared.boxes(SIDE)) == boxes


def test_divided_data_keep_the_grey_scale_and_know_their_noise(tomogram):
    """The contrast transfer is divided out of the density and the halves, whose difference has the noise that is stated."""
    prepared = prepare(replace(tomogram, optics=Optics((20000.0,))), SIDE)
    grey = divided(torch.from_numpy(tomogram.density) - prepared.mean, prepared.tilts)
    assert torch.allclose(prepared.density * prepared.scale, grey, atol=1e-3)
    assert float(prepared.density.std()) == pytest.approx(1, abs=1e-3)
    assert abs(prepared.scale / float(tomogram.density.std()) - 1) > 0.1
    one, two = (prepared.ready(half) for half in tomogram.halves)
    k = fourier.frequencies(tomogram.shape)
    inside = (volume_mask(tomogram.shape, prepared.tilts) == 1) & (fourier.radius(tomogram.shape) > 0.05)
    power = fourier.transform((one - two) / 2).abs().square() / prepared.noise(k)
    assert float(power[inside].mean()) == pytest.approx(1, abs=0.1)


def test_patches_to_score_are_held_out_ones_if_there_is_room(tomogram, small):
    """Patches of the training are scored in a volume without room alone; they are no held-out patches then."""
    prepared = prepare(tomogram, SIDE)
    assert prepared.held_out
    assert prepared.patches_to_score(SIDE) == prepared.held_out
    of_another = prepare(tomogram, SIDE, held_out=False)
    assert of_another.patches_to_score(SIDE) == prepared.held_out
    tight = prepare(small, SIDE)
    assert not tight.held_out
    assert len(tight.patches_to_score(SIDE)) > 1
