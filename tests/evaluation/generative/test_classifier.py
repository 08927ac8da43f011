"""The classifier: chance for one law, certainty for two, and an area that is the chance of the right order."""

import numpy as np
import pytest
import torch

from cryovae.evaluation.generative.classifier import area, separation


def patches(count, seed, shift=0.0):
    return torch.randn(count, 16, 16, 16, generator=torch.Generator().manual_seed(seed)) + shift


def test_the_area_is_the_chance_of_the_right_order():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=60).round(1), rng.integers(0, 2, 60)
    ones, zeros = scores[labels == 1], scores[labels == 0]
    pairs = (ones[:, None] > zeros).mean() + 0.5 * (ones[:, None] == zeros).mean()
    assert area(scores, labels) == pytest.approx(pairs)


def test_the_area_is_one_for_perfect_scores_and_zero_for_reversed_ones():
    labels = np.array([0, 0, 1, 1, 1])
    assert area(np.arange(5.0), labels) == 1
    assert area(-np.arange(5.0), labels) == 0


def test_two_sets_of_one_law_are_alike():
    result = separation(patches(40, 1), patches(40, 2))
    assert abs(result.auc - 0.5) < 0.25
    assert 0.03 < result.error < 0.1


def test_bodies_differ_from_noise_of_the_same_power():
    noise = patches(32, 3)
    bodies = patches(32, 4)
    bodies[:, 5:11, 5:11, 5:11] -= 2
    bodies = (bodies - bodies.mean()) / bodies.std() * noise.std()
    assert separation(noise, bodies).auc > 0.95


def test_the_same_seed_gives_the_same_area():
    data, draws = patches(12, 5), patches(12, 6, 0.1)
    assert separation(data, draws, seed=3) == separation(data, draws, seed=3)


def test_the_units_of_the_densities_do_not_matter():
    data, draws = patches(12, 5), patches(12, 6, 0.1)
    assert separation(100 * data + 7, 100 * draws + 7).auc == pytest.approx(separation(data, draws).auc, abs=0.05)


def test_patches_of_one_scene_stay_in_one_half():
    """A scene is recognised by its own pattern: were it in both halves, data would be told from draws by heart."""
    rng = torch.Generator().manual_seed(0)
    patterns = torch.randn(8, 16, 16, 16, generator=rng)
    data = (3 * patterns.repeat_interleave(5, 0) + torch.randn(40, 16, 16, 16, generator=rng)) / 10**0.5
    draws = (3 * torch.randn(40, 16, 16, 16, generator=rng) + torch.randn(40, 16, 16, 16, generator=rng)) / 10**0.5
    assert separation(data, draws, 0, torch.arange(8).repeat_interleave(5)).auc < 0.8
