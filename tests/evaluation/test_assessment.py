import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.region import Region
from cryovae.evaluation.assessment import assess, compare
from cryovae.evaluation.baselines import best_clipping
from cryovae.evaluation.calibration import calibration
from cryovae.evaluation.fsc import correlation, regions, resolution_at, score
from cryovae.evaluation.wedge_detection import detect_wedge
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import Fill

SHAPE = (40, 56, 48)


def test_truth_correlates_with_itself_and_noise_with_nothing(simulation):
    same = score(simulation.truth, simulation.truth, simulation.tilts)
    assert same.wedge.band == pytest.approx(1)
    assert np.nanmin(same.measured.shells) == pytest.approx(1)
    noise = score(torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)), simulation.truth, simulation.tilts)
    assert abs(noise.wedge.band) < 0.1
    assert abs(noise.measured.band) < 0.1


def test_what_is_in_the_wedge_is_scored_in_the_wedge_alone(simulation):
    mask = (volume_mask(SHAPE, simulation.tilts, 1e-6) > 0.5).float()
    spoiled = simulation.truth + fourier.filtered(20 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)), 1 - mask)
    scores = score(spoiled, simulation.truth, simulation.tilts)
    assert scores.measured.band > 0.99
    assert scores.wedge.band < 0.3


def test_correlation_is_that_of_signal_and_noise():
    generator = torch.Generator().manual_seed(0)
    truth, noise = torch.randn(2, *SHAPE, generator=generator)
    curve = correlation(truth + noise, truth, torch.ones(40, 56, 25), (0.0, 0.5))
    assert curve.band == pytest.approx(0.5**0.5, abs=0.02)
    assert np.nanmean(curve.shells[3:]) == pytest.approx(0.5**0.5, abs=0.05)


def test_scores_do_not_depend_on_grey_scale(simulation):
    filled = simulation.half1 + simulation.truth / 2
    one = score(filled, simulation.truth, simulation.tilts)
    two = score(filled * 250 + 1e4, simulation.truth, simulation.tilts)
    assert one.wedge.band == pytest.approx(two.wedge.band, abs=1e-3)


def test_wedge_and_measured_part_do_not_overlap(tilts):
    wedge, measured = regions(SHAPE, tilts)
    assert float((wedge * measured).max()) == 0
    assert wedge[0, 0, 0] == measured[0, 0, 0] == 0
    share = float(wedge.sum() / (wedge.sum() + measured.sum()))
    assert 0.25 < share < 0.4


def test_clipping_beats_the_input_in_the_wedge_and_names_its_recipe(simulation):
    density = (simulation.half1 + simulation.half2) / 2
    rows = compare(density, simulation.truth, density, simulation.tilts)
    assert [row.name for row in rows] == ["restored", "untouched input", "low-pass and clipping"]
    assert rows[2].score.wedge.band > rows[1].score.wedge.band + 0.3
    assert "min(x" in rows[2].recipe
    assert rows[2].recipe == best_clipping(density, simulation.truth, simulation.tilts).recipe


def test_a_true_standard_deviation_covers_its_nominal_shares():
    generator = torch.Generator().manual_seed(0)
    truth, error = torch.randn(2, 30, 40, 35, generator=generator)
    std = 0.2 + torch.rand(30, 40, 35, generator=generator)
    honest = calibration(truth + std * error, std, truth)
    assert honest.error_ratio == pytest.approx(1, abs=0.02)
    assert all(covered == pytest.approx(share, abs=0.01) for share, covered in honest.coverage.items())
    assert calibration(truth + 2 * std * error, std, truth).coverage[0.9] < 0.65


def test_resolution_where_the_curve_falls():
    frequency = np.array([0.1, 0.2, 0.3])
    assert resolution_at(frequency, np.array([0.9, 0.6, 0.1]), 10.0, 0.5) == pytest.approx(10 / 0.22)
    assert np.isnan(resolution_at(frequency, np.array([0.1, 0.6, 0.1]), 10.0, 0.5))
    assert resolution_at(frequency, np.ones(3), 10.0, 0.5) == 20


def test_the_wedge_of_a_simulation_is_seen(simulation):
    seen = detect_wedge(simulation.half1.numpy())
    assert (seen.lowest, seen.highest) == (pytest.approx(-60, abs=4), pytest.approx(60, abs=4))


def test_voxels_of_fill_change_no_score(tilts):
    """Fill that is the same in a restoration and its truth would raise every correlation, and lower the error over the std."""
    rng = torch.Generator().manual_seed(0)
    shape = (24, 40, 36)
    truth = torch.randn(shape, generator=rng)
    restored, std = truth + 0.5 * torch.randn(shape, generator=rng), torch.full(shape, 0.5)
    fill = np.zeros((24, 40, 72), bool)
    fill[..., 36:] = True

    def padded(volume, value):
        return torch.nn.functional.pad(volume, (0, 36), value=value)

    region = Region((24, 40, 72), Fill.of(fill), None)
    plain = assess(restored, tilts, truth=truth, std=std)
    left_out = assess(padded(restored, 50.0), tilts, truth=padded(truth, 50.0), std=padded(std, 0.0), region=region)
    blind = assess(padded(restored, 50.0), tilts, truth=padded(truth, 50.0), std=padded(std, 0.0))
    expected = plain.rows[0].score.measured.band
    assert left_out.rows[0].score.measured.band == pytest.approx(expected, abs=0.02)
    assert abs(blind.rows[0].score.measured.band - expected) > 0.05
    assert left_out.calibration["volume"].error_ratio == pytest.approx(plain.calibration["volume"].error_ratio, rel=1e-3)
    assert left_out.calibration["volume"].coverage == pytest.approx(plain.calibration["volume"].coverage, abs=1e-3)
