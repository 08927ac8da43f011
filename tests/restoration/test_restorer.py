"""Restoring with ladders whose output is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.posterior_tiles import PosteriorTiles
from cryovae.restoration.config import OUTPUTS, RestoreConfig
from cryovae.restoration.restorer import Restorer
from cryovae.tomogram import TiltGeometry, Tomogram

NO_WEDGE = TiltGeometry.from_range(-90, 90)


class Identity(nn.Module):
    """Stands in for a ladder: returns what it sees, plus smooth noise made from the latents that it gets."""

    mixed = False
    film = None

    def __init__(self, spread: float = 0.0) -> None:
        super().__init__()
        self.config = LadderConfig((4, 4, 4), (1, 1, 1), 1)
        self.spread = spread

    def latent_shapes(self, shape):
        return [(1, *(n >> level for n in shape)) for level in range(3)]

    def encode(self, density, role):
        assert role == R
        return [density]

    def restore(self, features, noise):
        return features[0]

    def restore_pair(self, features, noise):
        e = self.spread * noise[0][:, 0]
        return torch.stack((features[0] + e, features[0] - e))


def _tomogram(shape, tilts=NO_WEDGE, seed=0):
    return Tomogram("t", np.random.default_rng(seed).normal(100, 7, shape).astype(np.float32), 10.0, tilts)


@pytest.mark.parametrize(("shape", "patch"), [((90, 33, 41), 24), ((126, 24, 40), 40), ((131, 30, 26), 48), ((10, 50, 48), 16)])
def test_an_identity_network_returns_the_tomogram(shape, patch):
    """Exactly: no seams, no zero planes, at sizes where others leave some."""
    tomogram = _tomogram(shape)
    restored = Restorer(Identity(), patch, RestoreConfig(samples=2, batch=8, calibrate=False))(tomogram)
    assert np.abs(restored.mean.numpy() - tomogram.density).max() < 1e-3


def test_overlapping_tiles_do_not_shrink_the_standard_deviation():
    """Noise is indexed by absolute voxel: blending averages a sample with itself."""
    tomogram = _tomogram((24, 40, 36))
    restored = Restorer(Identity(spread=0.5), 16, RestoreConfig(samples=32, raw=True, batch=8, calibrate=False))(tomogram)
    expected = 0.5 * float(np.std(tomogram.density))
    assert float(restored.std.square().mean().sqrt()) == pytest.approx(expected, rel=0.03)


def test_data_are_kept_by_their_precision_and_the_wedge_is_left(tilts, monkeypatch):
    """With a spread like the noise, half of what was measured is taken over; in the wedge nothing is."""
    rng = torch.Generator().manual_seed(0)
    shape = (32, 40, 36)
    mask = volume_mask(shape, tilts, 1e-6)
    halves = [fourier.filtered(torch.randn(shape, generator=rng), mask) * 7 + 100 for _ in range(2)]
    density = (halves[0] + halves[1]) / 2
    tomogram = Tomogram("t", density.numpy(), 10.0, tilts, (halves[0].numpy(), halves[1].numpy()))

    class Empty(Identity):
        def restore(self, features, noise):
            return 0 * features[0]

        def restore_pair(self, features, noise):
            return torch.zeros(2, *features[0].shape) + 0 * features[0] + torch.stack((noise[0][:, 0], -noise[0][:, 0]))

    # The means of tiles would be a prediction, to which an amplitude is fitted.
    monkeypatch.setattr("cryovae.posterior.ladder_boxes.levels", lambda tiles: tiles.new_zeros(len(tiles), 1, 1, 1))
    config = RestoreConfig(samples=8, halves=False, calibrate=False)
    restored = Restorer(Empty(), 16, config)(tomogram)
    power = fourier.transform(restored.mean - restored.mean.mean()).abs().square()
    measured = fourier.transform(density - density.mean()).abs().square()
    inside = (fourier.radius(shape) > 0.1) & (mask > 0.5)
    # Standardised, all of the variance 1 lies in the measured bins, and is noise; the spread is 1 in every bin.
    share = float((mask * fourier.multiplicity(shape)).sum() / np.prod(shape))
    expected = (1 / (1 + 1 / share)) ** 2
    assert float(power[inside].sum() / measured[inside].sum()) == pytest.approx(expected, rel=0.15)
    raw = Restorer(Empty(), 16, replace(config, raw=True))(tomogram)
    wedge = volume_mask(shape, tilts) == 0
    one, two = (fourier.transform(r.mean)[wedge] for r in (restored, raw))
    assert torch.allclose(one, two, atol=1e-2)


@pytest.mark.parametrize("wedge", [TiltGeometry.from_range(-60, 60), TiltGeometry.from_range(-45, 63)])
def test_the_measured_volume_is_the_mean_without_its_wedge(ladder, wedge):
    tomogram = _tomogram((24, 36, 32), wedge)
    restored = Restorer(ladder, 16, RestoreConfig(samples=2, calibrate=False))(tomogram)
    shape = tomogram.shape
    density, mean = (fourier.transform(volume - volume.mean()) for volume in (restored.measured, restored.mean))
    count, hard = fourier.multiplicity(shape), volume_mask(shape, wedge, 1e-6)
    inside = fourier.below_nyquist(shape) * (volume_mask(shape, wedge) == 1)
    # The sum of all voxels, of which so small a mean is left by rounding.
    inside[0, 0, 0] = 0
    power = (density.abs().square() * count * (1 - hard)).sum() / (density.abs().square() * count).sum()
    assert float(power) < 1e-3
    assert float(((density - mean).abs() * inside).max()) < 1e-3 * float(mean.abs().max())
    assert float(((mean.abs().square() * count) * (1 - hard)).sum() / (mean.abs().square() * count).sum()) > 1e-2
    # The grey scale is that of the input.
    assert float(restored.measured.mean()) == pytest.approx(float(restored.mean.mean()), abs=0.01)


def test_what_is_not_asked_for_is_not_restored(ladder, small):
    config = RestoreConfig(samples=2, calibrate=False, outputs=())
    restored = Restorer(ladder, 16, config)(small)
    assert set(restored.volumes()) == {"mean"}
    everything = Restorer(ladder, 16, replace(config, samples_out=2, outputs=OUTPUTS))(small)
    assert set(everything.volumes()) == {"mean", "std", "measured", "mean_half1", "mean_half2", "sample_0", "sample_1"}
    assert torch.equal(everything.mean, restored.mean)


def test_same_seed_same_samples_and_halves_come_with_halves(small, small_config):
    torch.manual_seed(1)
    ladder = Ladder(small_config)
    config = RestoreConfig(samples=4, samples_out=2, seed=5)
    corner = tuple(h[:16, :24, :20] for h in small.halves)
    small = replace(small, density=(corner[0] + corner[1]) / 2, halves=corner)
    one, two = (Restorer(ladder, 16, config)(small) for _ in range(2))
    assert torch.equal(one.mean, two.mean)
    assert torch.equal(one.samples[1], two.samples[1])
    assert len(one.samples) == 2
    assert one.halves is not None
    assert all(torch.equal(a, b) for a, b in zip(one.halves, two.halves, strict=True))
    assert not torch.equal(*one.halves)
    other = Restorer(ladder, 16, replace(config, seed=6))(small)
    assert not torch.equal(one.samples[0], other.samples[0])


def test_contrast_and_grey_scale_follow_the_input(tomogram):
    rotated = Tomogram("n", -3 * tomogram.density + 500, 10.0, tomogram.tilts)
    plain = Tomogram("p", tomogram.density, 10.0, tomogram.tilts)
    config = RestoreConfig(samples=4, raw=True, calibrate=False)
    one, two = (Restorer(Identity(), 16, config)(t).mean for t in (plain, rotated))
    assert torch.allclose(two, -3 * one + 500, atol=0.05)


def test_tiles_rotated_and_rotated_back_are_the_same(tilts):
    tomogram = _tomogram((24, 30, 28), tilts)
    restorer = Restorer(Identity(), 16, RestoreConfig(samples=2, raw=True))
    data = torch.from_numpy(tomogram.density)
    pairs = [restorer.predictor.pair(data, tilts, pair)[0] for pair in range(len(symmetry_rotations(tilts)))]
    assert len(pairs) == 4
    for other in pairs[1:]:
        assert torch.allclose(pairs[0], other, atol=1e-3)


def test_an_identity_network_returns_each_half():
    """Of its own voxels and not of the other half's or the mean's, on the grey scale of the input."""
    halves = tuple(_tomogram((18, 26, 22), seed=seed).density for seed in (1, 2))
    tomogram = Tomogram("t", (halves[0] + halves[1]) / 2, 10.0, NO_WEDGE, halves)
    restored = Restorer(Identity(), 16, RestoreConfig(samples=2, calibrate=False))(tomogram)
    for mine, half in zip(restored.halves, halves, strict=True):
        assert np.abs(mine.numpy() - half).max() < 1e-2


@pytest.mark.parametrize("search", [{"sampler": "reweighted", "candidates": 2}, {"refine": 1}], ids=str)
def test_halves_of_a_search_are_restored_each_by_itself(ladder, small, search):
    """Exchanged halves give exchanged results; the noise of a half is twice that of the mean."""
    corner = tuple(h[:16, :24, :16] for h in small.halves)
    excesses, over = [], PosteriorTiles.over

    def watched(self, data, tilts, noise, samples, excess=1.0):
        excesses.append(excess)
        return over(self, data, tilts, noise, samples, excess)

    restored = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PosteriorTiles, "over", watched)
        patch.setattr("cryovae.restoration.sources.early_stopping", lambda *_: None)
        for pair in (corner, corner[::-1]):
            tomogram = replace(small, density=(pair[0] + pair[1]) / 2, halves=pair)
            config = RestoreConfig(samples=2, orientations=1, raw=True, calibrate=False, **search)
            restored.append(Restorer(ladder, 16, config)(tomogram))
    assert excesses == [1.0, 2.0, 2.0] * 2
    one, two = restored
    assert torch.allclose(one.mean, two.mean, atol=1e-4)
    assert torch.allclose(one.halves[0], two.halves[1], atol=1e-4)
    assert not torch.allclose(one.halves[0], one.halves[1], atol=1e-2)
    assert all(float(half.std()) > 1e-3 for half in one.halves)


def test_samples_of_a_pair_differ_by_the_error_that_the_filters_allow(monkeypatch):
    """Without a wedge and a calibration, variances v of the model and s of the noise leave v s / (v + s): half, where v = s."""
    monkeypatch.setattr("cryovae.posterior.ladder_boxes.levels", lambda tiles: tiles.new_zeros(len(tiles), 1, 1, 1))
    rng = np.random.default_rng(0)
    shape = (24, 32, 28)
    halves = tuple(rng.normal(100, 10, shape).astype(np.float32) for _ in range(2))
    density = (halves[0] + halves[1]) / 2
    tomogram = Tomogram("t", density, 10.0, NO_WEDGE, halves)

    class Silent(Identity):
        def restore(self, features, noise):
            return 0 * features[0]

        def restore_pair(self, features, noise):
            return torch.stack((noise[0][:, 0], -noise[0][:, 0])) + 0 * features[0]

    restored = Restorer(Silent(), 16, RestoreConfig(samples=2, samples_out=2, calibrate=False))(tomogram)
    # Of a model that predicts nothing, all of a restored half is its own data.
    for mine, half in zip(restored.halves, halves, strict=True):
        assert np.corrcoef(mine.numpy().ravel(), half.ravel())[0, 1] > 0.95
    one, two = restored.samples
    assert torch.allclose((one + two) / 2, restored.mean, atol=1e-2)
    # The deviation of a sample is its own, w v shrunk to (1 - w) v, and noise for the rest.
    allowed = 0.5 * float(density.var())
    assert float(((one - two) / 2).var()) == pytest.approx(allowed, rel=0.15)
    assert float(restored.std.square().mean()) == pytest.approx(allowed, rel=0.15)
    other = Restorer(Silent(), 16, RestoreConfig(samples=2, samples_out=2, halves=False, calibrate=False, seed=1))(tomogram)
    cosine = torch.cosine_similarity((one - two).flatten(), (other.samples[0] - other.samples[1]).flatten(), dim=0)
    assert abs(float(cosine)) < 0.05


@pytest.mark.parametrize("bad", [{"samples": 3}, {"samples": 0}, {"samples": 4, "samples_out": 5}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        RestoreConfig(**bad)


def test_a_higher_grey_level_gives_the_same_restoration_higher(tomogram):
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1))
    data = torch.from_numpy(tomogram.density.astype(np.float32))
    restorer = Restorer(ladder, 16, RestoreConfig(samples=2))
    one, two = restorer.predictor.predict(data, tomogram.tilts), restorer.predictor.predict(data + 5.0, tomogram.tilts)
    assert torch.allclose(two, one + 5.0, atol=1e-3)
