import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.physics.noise import (
    TABLE_ANGLES,
    TABLE_RADIUS,
    TABLE_SHELLS,
    NoiseSpectrum,
    _without_signal,
    amplitude_table,
    estimate_noise,
    tabulated,
)
from cryovae.physics.wedge import volume_mask
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tomogram import TiltGeometry

SHAPE = (48, 64, 56)


def _coloured(seed, tilts):
    """Noise whose variance rises with frequency and falls towards the beam, in the measured bins."""
    k = fourier.frequencies(SHAPE)
    radius = k.square().sum(0).sqrt()
    variance = (0.3 + 2 * radius) * (1.5 - k[0].abs() / radius.clamp_min(1e-6))
    white = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    return fourier.filtered(white, variance.sqrt() * volume_mask(SHAPE, tilts, 1e-6)), variance


def test_halves_give_the_spectrum_of_their_mean_by_shell_and_angle(tilts):
    first, variance = _coloured(1, tilts)
    second, _ = _coloured(2, tilts)
    signal = 5 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    halves = ((first + signal).numpy(), (second + signal).numpy())
    noise = estimate_noise((halves[0] + halves[1]) / 2, halves, tilts)
    k = fourier.frequencies(SHAPE)
    inside = (volume_mask(SHAPE, tilts) > 0.5) & (k.abs() < 0.45).all(0) & (fourier.radius(SHAPE) > 0.08)
    ratio = noise(k)[inside] / (variance[inside] / 2)
    assert float(ratio.log().abs().mean()) < 0.12
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.08)
    assert noise.method == "halves"


def test_single_volume_takes_its_quietest_patches(tilts):
    noise, variance = _coloured(4, tilts)
    density = noise.clone()
    density[:, 34:] += 3 * torch.from_numpy(np.random.default_rng(0).normal(size=(48, 30, 56)).astype(np.float32))
    estimate = estimate_noise(density.numpy(), None, tilts, side=24)
    k = fourier.frequencies(SHAPE)
    inside = (volume_mask(SHAPE, tilts) > 0.5) & (fourier.radius(SHAPE) > 0.1) & (fourier.radius(SHAPE) < 0.4)
    assert float((estimate(k)[inside] / variance[inside]).median()) == pytest.approx(1.0, abs=0.2)
    assert estimate.method == "quiet patches"


def test_a_thin_volume_has_a_noise_spectrum_too():
    tilts = TiltGeometry.from_range(-50, 40)
    rng = np.random.default_rng(1)
    halves = tuple(rng.normal(size=(12, 60, 50)).astype(np.float32) for _ in range(2))
    noise = estimate_noise((halves[0] + halves[1]) / 2, halves, tilts)
    assert torch.isfinite(noise.table).all()
    assert float(noise.table.mean()) == pytest.approx(0.5, rel=0.1)


def test_a_crowded_volume_without_a_quiet_patch_is_not_taken_for_noise():
    """Signal everywhere, strong at low frequency: the estimate stays within a few times the noise that halves show."""
    made = simulate(SimulationConfig(shape=(48, 64, 56), crowding=0.35, seed=5))
    mean = ((made.half1 + made.half2) / 2).numpy()
    known = estimate_noise(mean, (made.half1.numpy(), made.half2.numpy()), made.tilts).table.mean((1, 2))
    guessed = estimate_noise(mean, None, made.tilts).table.mean((1, 2))
    ratio = guessed / known
    assert float(ratio[:8].max()) < 5
    assert float(ratio[9:14].log().abs().max()) < 0.25


def test_the_fitted_amplitude_is_that_of_the_data(tilts):
    data = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    k = fourier.frequencies(SHAPE)
    mask = volume_mask(SHAPE, tilts, 1e-6)
    estimate = amplitude_table(data / 1.25, data + 0.3 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(4)), mask, k)
    inside = fourier.radius(SHAPE) > 0.1
    assert float((estimate(k)[inside] - 1.25).abs().mean()) < 0.05
    assert torch.equal(amplitude_table(torch.zeros(SHAPE), data, mask, k).table, torch.ones(24, 4, 4))


def test_a_copy_of_noise_is_given_no_amplitude(tilts):
    """An answer that is the noise of its data again has no more power than the data less their noise: none."""
    noise, variance = _coloured(6, tilts)
    k, mask = fourier.frequencies(SHAPE), volume_mask(SHAPE, tilts)
    fitted = amplitude_table(0.4 * noise, noise, mask, k)(k)
    limited = amplitude_table(0.4 * noise, noise, mask, k, variance)(k)
    inside = (mask == 1) & (fourier.radius(SHAPE) > 0.15) & (fourier.radius(SHAPE) < 0.5)
    assert float(fitted[inside].mean()) > 1.9
    assert float(limited[inside].mean()) < 0.6


def test_a_difference_of_grey_levels_is_no_noise(tilts):
    first, second = (_coloured(seed, tilts)[0].numpy() for seed in (1, 2))
    plain, shifted = (estimate_noise(first, (first, second + level), tilts).table for level in (0.0, 50.0))
    assert torch.allclose(plain, shifted, rtol=1e-2, atol=1e-4)


def test_quiet_patches_are_lowered_to_the_line_of_the_rim_and_never_raised():
    radius = (torch.arange(TABLE_SHELLS) + 0.5) / TABLE_SHELLS * TABLE_RADIUS
    line = torch.exp(-1 + 2 * radius)
    factor = torch.ones(TABLE_SHELLS)
    factor[1], factor[3] = 5.0, 0.5
    table = (line * factor).view(-1, 1, 1).expand(-1, TABLE_ANGLES, TABLE_ANGLES).clone()
    lowered = _without_signal(table).mean((1, 2)) / line
    factor[1] = 1.0
    assert torch.allclose(lowered, factor, rtol=1e-3)


def _white(count):
    return (torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(count))


def test_the_signal_of_a_density_is_its_power_less_the_noise():
    first, second = _white(2)
    noise = NoiseSpectrum(torch.full((TABLE_SHELLS, TABLE_ANGLES, TABLE_ANGLES), 0.5), "halves")
    k = fourier.frequencies(SHAPE)
    signal = noise.signal(first + 0.5**0.5 * second, torch.ones_like(k[0]))(k)
    assert float(signal[fourier.radius(SHAPE) > 0.1].mean()) == pytest.approx(1, abs=0.03)
    assert not noise.signal(0.1 * first, torch.ones_like(k[0])).table.any()


def test_the_noise_of_one_map_follows_from_the_seed(tilts):
    density = _coloured(1, tilts)[0].numpy()
    one, two, other = (estimate_noise(density, None, tilts, side=16, seed=seed).table for seed in (4, 4, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_table_gives_back_what_was_tabulated():
    k = fourier.frequencies(SHAPE)
    radius = fourier.radius(SHAPE)
    table = tabulated(1 + radius, fourier.multiplicity(SHAPE).expand_as(radius), k)
    inside = (radius > 0.1) & (radius < 0.6)
    assert torch.allclose(table(k)[inside], 1 + radius[inside], atol=0.009)


def test_amplitudes_are_ratios_of_amplitudes_without_shared_noise():
    signal, noise = _white(2)
    noise = 0.5**0.5 * noise
    k, ones = fourier.frequencies(SHAPE), torch.ones(SHAPE[0], SHAPE[1], SHAPE[2] // 2 + 1)
    inside = fourier.radius(SHAPE) > 0.1
    limited = amplitude_table(2 * signal, signal + noise, ones, k, 0.5 * ones)(k)[inside]
    assert float(limited.mean()) == pytest.approx(0.5, abs=0.02)
    copying = signal + 0.5 * noise
    plain, corrected = (
        amplitude_table(copying, signal + noise, ones, k, copied=copied)(k)[inside] for copied in (None, 0.25 * ones)
    )
    assert float(plain.mean()) == pytest.approx(1.25 / 1.125, abs=0.02)
    assert float(corrected.mean()) == pytest.approx(1 / 1.125, abs=0.02)
