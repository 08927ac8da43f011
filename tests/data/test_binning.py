from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.binning import LEAST, _halved_box, binned, halved, halved_density, long_waves
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.data.sampling import draw, drawn_tomogram, step_generator
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import Tomogram

SHAPE = (48, 72, 60)


def seen(density: np.ndarray, tilts, noise: float = 0.3, seed: int = 0) -> Tomogram:
    """Halves of a density as measured at the tilts."""
    rng = torch.Generator().manual_seed(seed)
    mask = volume_mask(density.shape, tilts)
    truth = torch.from_numpy(density)
    parts = [fourier.filtered(truth + noise * torch.randn(truth.shape, generator=rng), mask).numpy() for _ in range(2)]
    return Tomogram("t", (parts[0] + parts[1]) / 2, 8.0, tilts, (parts[0], parts[1]))


def ball(width: float) -> np.ndarray:
    """A ball ``width`` voxels wide, with a soft edge."""
    axes = torch.meshgrid(*(torch.arange(n) - n / 2 for n in SHAPE), indexing="ij")
    return torch.sigmoid(width / 2 - torch.stack(axes).square().sum(0).sqrt()).numpy()


def waves(period: float) -> np.ndarray:
    """Plane waves along y and x of ``period`` voxels."""
    _, y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in SHAPE), indexing="ij")
    return (torch.cos(2 * torch.pi * y / period) + torch.cos(2 * torch.pi * x / period)).numpy()


def test_binning_keeps_grey_values_and_voxels_in_place():
    """A wave that the smaller grid can hold is the same wave there, sampled at every second voxel."""
    density = waves(12.0) + 5
    half = halved_density(density)
    assert half.shape == (24, 36, 30)
    assert np.allclose(half, density[::2, ::2, ::2], atol=1e-4)
    resampled = fourier.resampled(torch.from_numpy(half), SHAPE)
    assert torch.allclose(resampled, torch.from_numpy(density), atol=1e-4)


def test_odd_sizes_are_rounded_up_and_voxels_stay_in_place():
    density = np.cumsum(np.ones((23, 39, 31), dtype="f4"), axis=1) / 39
    half = halved_density(density)
    assert half.shape == (12, 20, 16)
    assert np.allclose(half[:, 4:16], density[::2, 8:32:2, ::2], atol=0.05)


def test_the_wedge_of_a_binned_tomogram_is_as_empty(tilts):
    """What is not measured at full size is not measured at half the size, by the same mask."""
    tomogram = seen(np.random.default_rng(0).normal(size=SHAPE).astype("f4"), tilts)
    half = halved(replace(tomogram, tilts=replace(tilts, thickness=40.0), mask=np.ones(SHAPE, dtype=bool)))
    assert (half.voxel_size, half.tilts.thickness, half.mask.shape) == (16.0, 20.0, half.shape)
    mask = volume_mask(half.shape, tilts, 1e-6)
    power = fourier.transform(torch.from_numpy(half.density)).abs().square()
    assert float(power[mask == 0].mean()) < 0.03 * float(power[mask == 1].mean())
    assert all(part.shape == half.shape for part in half.halves)


def test_waves_longer_than_half_a_patch_are_counted_and_noise_is_not(tilts):
    long, short = (long_waves(prepare(seen(waves(period), tilts), 16), 16) for period in (24.0, 4.0))
    assert long > 0.9
    assert short < 0.1
    assert long_waves(prepare(seen(waves(24.0), tilts, noise=3.0), 16), 16) > 0.9


def test_only_what_has_long_waves_is_binned_and_never_below_a_patch(tilts):
    assert len(binned(seen(waves(4.0), tilts), 12, 4)) == 1
    sizes = binned(seen(ball(36.0), tilts), 12, 4)
    assert [tuple(s.density.shape) for s in sizes] == [(48, 72, 60), (24, 36, 30), (12, 18, 15)]
    shares = [s.share for s in sizes]
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares[0], shares[1] / (1 - shares[0])) >= LEAST - 1e-9
    assert len(binned(seen(ball(36.0), tilts), 12, 2)) == 2


def test_batches_come_by_the_shares(tilts):
    prepared_tomograms = binned(seen(ball(36.0), tilts), 12, 2)
    drawn = [drawn_tomogram(prepared_tomograms, step_generator(0, step)) is prepared_tomograms[1] for step in range(400)]
    assert np.mean(drawn) == pytest.approx(prepared_tomograms[1].share, abs=0.08)


def test_what_is_held_out_is_scored_at_no_binning(tilts):
    """A change of the data within held-out boxes changes no residual that training scores."""
    prepared_tomograms = binned(seen(ball(36.0), tilts), 12, 2)
    first, second = prepared_tomograms
    assert first.held_out
    for z, y, x in first.held_out:
        box = (slice(z // 2, (z + 12) // 2), slice(y // 2, (y + 12) // 2), slice(x // 2, (x + 12) // 2))
        seen_by_training = torch.zeros(second.density.shape)
        for pz in range(0, 13, 2):
            for py in range(0, 25, 2):
                for px in range(0, 19, 2):
                    place = (slice(pz, pz + 12), slice(py, py + 12), slice(px, px + 12))
                    scored = second.scored((pz, py, px), 12)
                    seen_by_training[place] += torch.ones(12, 12, 12) if scored is None else scored
        assert float(seen_by_training[box].max()) == 0
        assert float(seen_by_training.max()) > 0
    for rotated in (0.0, 1.0):
        batch = draw([second], 12, 2, MaskingConfig(rotated_fraction=rotated), step_generator(0, 3))
        assert batch.scored is not None


def test_a_box_with_odd_ends_covers_all_its_voxels_at_half_the_size():
    assert _halved_box(((1, 17), (4, 20), (7, 24))) == ((0, 9), (2, 10), (3, 12))
