"""What a second missing wedge costs: of a model that copies what it is given, all that is hidden; of one that knows, nothing."""

import pytest
import torch

from cryovae.inference.foretold import window
from cryovae.inference.second_wedge import second_wedge
from cryovae.inference.spread import BINS, CROSS, MISFIT, MODEL, MOST_BLAMED, SHELLS, WEIGHT, one_wedge
from tests.inference.test_foretold import NOISE, SIDE, SIGNAL, Shrinking, _specimen

MIDDLE = slice(4, 16)


def _extra(model, tilts):
    specimen, _, scale = _specimen(tilts)
    power = window(SIDE).square().mean() / scale**2
    found = second_wedge(model, specimen, specimen.held_out[:1], SIDE, window(SIDE), False, torch.device("cpu"))
    return found / power


def test_a_copy_lacks_what_is_hidden_and_nothing_more_at_test(tilts):
    """It imagines its own input, whose wedge is empty: at test it is right, and of held-out bins it knows nothing."""
    found = _extra(Shrinking(1.0, 0.0), tilts)
    assert found.shape == (SHELLS,)
    assert float(found[MIDDLE].mean()) == pytest.approx(SIGNAL + NOISE, rel=0.15)


def test_an_answer_that_does_not_look_loses_nothing(tilts):
    assert float(_extra(Shrinking(0.0, 0.0), tilts).abs().max()) == 0


def test_the_spread_is_lowered_by_the_share_of_the_error_that_the_second_wedge_made():
    bins, error = 4000.0, 3.0
    sums = torch.zeros(7, SHELLS, dtype=torch.float64)
    sums[BINS], sums[WEIGHT], sums[MISFIT] = bins, bins, bins * (1 + error)
    sums[CROSS] = sums[MODEL] = bins
    full = torch.ones(SHELLS)
    one = torch.ones(SHELLS, dtype=torch.float64)
    assert torch.allclose(one_wedge(sums, full, 0 * one), full)
    assert torch.allclose(one_wedge(sums, full, one), full - 1 / error)
    assert torch.allclose(one_wedge(sums, full, 100 * one), full - MOST_BLAMED)
    sums[MISFIT] = bins * (1 + 1e-3)
    assert torch.equal(one_wedge(sums, full, one), full)
