"""Pairs of samples: rotated, measured anew, cut alike, from allowed places alone, the same for the same seed."""

from dataclasses import replace

import pytest
import torch

from cryovae import fourier
from cryovae.objectives.generative import scored_places
from cryovae.physics.observation import RandomNoise
from cryovae.physics.rotation import training_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.simulation.patches import measured
from cryovae.tomogram import TiltGeometry
from cryovae.training.adaptation import AdaptationConfig, AdaptedTraining
from cryovae.training.sampled_pairs import SampledPairs, SampledTomogram
from tests.helpers.generative import tiny_generator

SHAPE, SIDE = (24, 36, 28), 16
RANGE = TiltGeometry.from_range(-60, 50)
SILENT = RandomNoise(1e-8, 0.0, 0.0, 0.0)


def _sampled(noise=SILENT, corners=None, samples=1, estimator=lambda data: 0.5 * data):
    volumes = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(n)) for n in range(samples)]
    return SampledTomogram(volumes, RANGE, noise, estimator, corners)


def _batch(pairs, size=12, seed=0):
    return pairs.batch(0, size, torch.Generator().manual_seed(seed))


def test_a_pair_is_a_patch_of_the_rotated_sample_and_of_its_measurement():
    """Without noise, every patch of the batch stands in one of the turned samples, its data at the same place."""
    one = _sampled()
    batch = _batch(SampledPairs([one], SIDE, 4, seed=0))
    volumes = [rotation(one.samples[0]) for rotation in training_rotations(RANGE)]
    for clean, data, estimate in zip(batch.clean, batch.observation.data, batch.observation.estimate, strict=True):
        places = [(v, _place_of(v, clean)) for v in volumes]
        volume, place = next((v, p) for v, p in places if p is not None)
        z, y, x = place
        expected = fourier.filtered(volume, volume_mask(volume.shape, RANGE) * fourier.below_nyquist(volume.shape))
        torch.testing.assert_close(data, expected[z : z + SIDE, y : y + SIDE, x : x + SIDE], atol=5e-3, rtol=5e-3)
        torch.testing.assert_close(estimate, 0.5 * data, atol=2e-3, rtol=2e-3)


def _place_of(volume, patch):
    """Where a patch stands in a volume, or None."""
    windows = volume.unfold(0, SIDE, 1).unfold(1, SIDE, 1).unfold(2, SIDE, 1)
    near = (windows[..., 0, 0, 0] - patch[0, 0, 0]).abs() < 2e-3
    for z, y, x in near.nonzero().tolist():
        if torch.allclose(windows[z, y, x], patch, atol=3e-3):
            return z, y, x
    return None


def test_the_noise_is_that_of_the_tomogram():
    noise = RandomNoise(2.0, 0.5, 0.3, 0.0)
    one = SampledTomogram([torch.zeros(SHAPE)], RANGE, noise, lambda data: data)
    batch = _batch(SampledPairs([one], SIDE, 8, seed=1), 64)
    expected = measured(torch.zeros(SHAPE), RANGE, noise(fourier.frequencies(SHAPE)), torch.Generator().manual_seed(0))
    assert float(batch.observation.data.std()) == pytest.approx(float(expected.std()), rel=0.05)


def test_patches_are_from_allowed_places_alone():
    """One place is allowed: all patches are it, turned."""
    corners = torch.tensor([[3, 17, 9]])
    one = _sampled(corners=corners)
    patch = one.samples[0][3 : 3 + SIDE, 17 : 17 + SIDE, 9 : 9 + SIDE]
    rotated = [rotation(patch) for rotation in training_rotations(RANGE)]
    for clean in _batch(SampledPairs([one], SIDE, 6, seed=0)).clean:
        assert any(torch.allclose(clean, other, atol=3e-3) for other in rotated)


def test_all_tomograms_and_samples_have_scenes():
    levels = [1.0, 2.0, 3.0]
    volumes = [torch.full(SHAPE, level) for level in levels]
    first = SampledTomogram(volumes[:2], RANGE, SILENT, lambda data: data)
    second = SampledTomogram(volumes[2:], RANGE, SILENT, lambda data: data)
    batch = _batch(SampledPairs([first, second], SIDE, 4, seed=0), 96)
    assert sorted(set(batch.clean[:, 0, 0, 0].tolist())) == levels


def test_the_same_seed_gives_the_same_pairs():
    noise = RandomNoise(1.0, 0.0, 0.0, 0.0)
    batches = [_batch(SampledPairs([_sampled(noise)], SIDE, 3, seed=seed)) for seed in (4, 4, 5)]
    torch.testing.assert_close(batches[0].observation.data, batches[1].observation.data, rtol=0, atol=0)
    assert not torch.equal(batches[0].observation.data, batches[2].observation.data)


def test_a_tomogram_thinner_than_a_patch_is_continued_by_reflection():
    thin = SampledTomogram([torch.randn(8, 24, 20)], RANGE, SILENT, lambda data: data)
    batch = _batch(SampledPairs([thin], SIDE, 6, seed=0), 8)
    assert batch.clean.shape == (8, SIDE, SIDE, SIDE)
    assert bool(torch.isfinite(batch.observation.data).all())


def test_each_scene_is_reported():
    calls = []
    SampledPairs([_sampled()], SIDE, 3, seed=0, watch=calls.append)
    assert calls == [1, 2, 3]


def test_held_out_voxels_rotate_and_are_cut_with_the_sample():
    """A sample that is 5 in held-out voxels and at most 4 elsewhere shows where they are."""
    scored = torch.ones(SHAPE, dtype=torch.bool)
    scored[4:12, 8:16, 12:20] = False
    volume = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    volume[~scored] = 5.0
    one = SampledTomogram([volume], RANGE, SILENT, lambda data: data, None, scored)
    batch = _batch(SampledPairs([one], SIDE, 6, seed=0), 24)
    assert torch.equal(batch.scored == 0, batch.clean > 4.5)
    assert 0 < float(batch.scored.mean()) < 1


def test_the_flow_is_not_fitted_to_held_out_voxels():
    """What it would have to predict there changes no loss, beyond the places beside them that a convolution reaches."""
    generator = tiny_generator().taking_estimates()
    pairs = SampledPairs([_sampled()], SIDE, 2, seed=0)
    batch = _batch(pairs, 2)
    config = AdaptationConfig(precision="float32")
    losses = []
    for scored in (None, torch.ones_like(batch.clean), torch.zeros_like(batch.clean)):
        method = AdaptedTraining(generator, pairs, config.training(SIDE, 0), config.losses(), torch.device("cpu"))
        losses.append(method.backward(replace(batch, scored=scored), 0, {"forward": 0.0, "backward": 0.0})["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] > 0.1
    assert losses[2] == 0
    half = torch.ones(2, 8, 8, 8)
    half[0, :4] = 0
    half[1, 5, 5, 5] = 0
    places = scored_places(half, 4)
    assert places[0].tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert float(places[1].sum()) == 7
