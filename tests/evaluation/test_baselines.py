import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.assessment import assess, compare_halves
from cryovae.evaluation.baselines import SEARCH_SIDE, Recipe, best_clipping, low_pass, predict_by_clipping
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (40, 56, 48)


def test_clipping_predicts_held_out_bins_of_a_specimen_and_none_of_noise(simulation, tilts):
    density = (simulation.half1 + simulation.half2) / 2
    assert predict_by_clipping(density, tilts).correlation > 0.3
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    # The best of 64 recipes on noise is above zero by chance; held-out data that remain in the input would raise it further.
    assert predict_by_clipping(fourier.filtered(noise, volume_mask(SHAPE, tilts)), tilts).correlation < 0.1


def test_without_a_wedge_no_bins_are_held_out():
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    assert predict_by_clipping(noise, TiltGeometry.from_range(-90, 90)) is None


def test_a_recipe_clips_at_its_quantile():
    density = torch.randn(20, 24, 22, generator=torch.Generator().manual_seed(1))
    lower, upper = Recipe(0.5, 0.3, "max")(density), Recipe(0.5, 0.3, "min")(density)
    assert float((lower == lower.min()).float().mean()) == pytest.approx(0.3, abs=0.001)
    assert float((upper == upper.max()).float().mean()) == pytest.approx(0.7, abs=0.001)
    assert torch.allclose(lower + upper, low_pass(density, 0.5) + upper.max(), atol=1e-5)


def test_the_recipe_of_a_large_tomogram_is_that_of_its_middle(tilts):
    """Voxels outside the middle change the result, and not the recipe."""
    generator = torch.Generator().manual_seed(3)
    truth = -(torch.rand(24, SEARCH_SIDE + 40, 26, generator=generator) > 0.99).float()
    density = fourier.filtered(truth, volume_mask(truth.shape, tilts))
    spoiled = density.clone()
    spoiled[:, :20] += 5 * torch.randn(24, 20, 26, generator=generator)
    assert best_clipping(density, truth, tilts).recipe == best_clipping(spoiled, truth, tilts).recipe


def test_halves_that_agree_score_one_beside_those_of_the_input(simulation, tilts):
    inputs = (simulation.half1, simulation.half2)
    clipping = predict_by_clipping(simulation.half1, tilts)
    rows = compare_halves((simulation.truth, 2 * simulation.truth), inputs, clipping, tilts)
    assert [row.name for row in rows] == ["restored", "untouched input", "low-pass and clipping"]
    assert rows[0].score.wedge.band == pytest.approx(1, abs=1e-5)
    assert rows[1].score.measured.band < 0.9
    assert rows[2].score.wedge.band > rows[1].score.wedge.band


def test_an_assessment_has_only_what_can_be_known(simulation, tilts):
    alone = assess(simulation.half1, tilts)
    assert (alone.rows, alone.cones, alone.halves, alone.calibration, alone.clipping) == ([], [], [], {}, None)
    known = assess(simulation.half1, tilts, simulation.truth, std=torch.ones(SHAPE))
    assert [row.name for row in known.rows] == ["restored"]
    assert len(known.cones) == 3
    assert known.calibration["wedge"] is None


def test_a_full_range_is_scored_without_a_wedge(simulation):
    tilts = TiltGeometry.from_range(-90, 90)
    restored = assess(simulation.half1, tilts, simulation.truth, simulation.half2).rows[0].score
    assert np.isnan(restored.wedge.band)
    assert restored.measured.band > 0
