"""What a second missing wedge costs: a model that fills nothing, nothing; one that fills a wedge from another, what was there."""

import torch

from cryovae import fourier
from cryovae.calibration.blending import window
from cryovae.calibration.second_wedge import second_wedge
from cryovae.calibration.variance import BINS, CROSS, MAX_REMOVED_SHARE, MISFIT, MODEL, SHELLS, one_wedge_factor
from cryovae.data.prepare import held_out_rotations
from tests.helpers.calibration import NOISE, SIDE, SIGNAL, Shrinking, prepared_white

MIDDLE = slice(4, 16)


def _extra(model, tilts):
    """In units of the specimen's power, which the wedge of the model's means is taken to have as well."""
    prepared, _, _ = prepared_white(tilts)
    power = torch.full((SHELLS,), SIGNAL / NOISE, dtype=torch.float64)
    return second_wedge(model, prepared, prepared.held_out[:1], SIDE, window(SIDE), power, False, torch.device("cpu")) / power


def test_a_copy_loses_nothing_by_a_second_wedge(tilts):
    """It leaves a wedge empty, be it alone or one of two."""
    assert float(_extra(Shrinking(1.0, 0.0), tilts)[MIDDLE].max()) < 0.01


def test_what_comes_from_the_other_wedge_is_lost_with_it(tilts):
    """A model that fills the wedge along z with what was measured along x; some rotations bring the other wedge there."""
    prepared, _, _ = prepared_white(tilts)
    tables = prepared.orientations

    class Mirroring(Shrinking):
        def restore(self, features, noise):
            return features[0] + fourier.filtered(features[0].transpose(-3, -1), 1 - tables.input_mask)

    along = [abs(float(tables.rotations[rotation].matrix[2, 0])) > 0.5 for rotation in held_out_rotations(tables)]
    share = sum(along) / len(along)
    assert 0 < share < 1
    # In those rotations all of it is lost; the mirrored noise is there with one wedge missing as with two.
    lost = float(_extra(Mirroring(1.0, 0.0), tilts)[MIDDLE].mean())
    assert 0.5 * share < lost < 1.5 * share * (SIGNAL + NOISE) / SIGNAL


def test_the_scale_is_lowered_by_the_share_of_the_second_wedge():
    bins, error = 4000.0, 3.0
    sums = torch.zeros(6, SHELLS, dtype=torch.float64)
    sums[BINS], sums[MISFIT] = bins, bins * (1 + error)
    sums[CROSS] = sums[MODEL] = bins
    full = torch.ones(SHELLS)
    one = torch.ones(SHELLS, dtype=torch.float64)
    assert torch.allclose(one_wedge_factor(sums, full, 0 * one), full)
    assert torch.allclose(one_wedge_factor(sums, full, one), full - 1 / error)
    assert torch.allclose(one_wedge_factor(sums, full, 100 * one), full - MAX_REMOVED_SHARE)
    sums[MISFIT] = bins * (1 + 1e-3)
    assert torch.equal(one_wedge_factor(sums, full, one), full)
