"""From sums over held-out bins to the errors of the model, by shell.

Let x be the mean and s^2 the variance of the samples of r. In the wedge, the variance of the samples is multiplied by

    c^2(k) = e^2(k) / s^2(k),           e^2 = < |F(y - x)|^2 > - sigma^2

This factor is fitted on held-out measured bins, never on a truth. Held-out patches miss two wedges, a restoration misses one:
``one_wedge_factor`` lowers c^2 for that. c^2 s^2 is at most the power of the specimen in the measured bins of the same shell.

In measured bins the weight w of the data and the error E come from two observations a and b with noise 2 sigma^2 each, where the
model sees a. Both are carried over to noise sigma^2 as for a Gaussian of variance P or S:

    w_a = < Re (b - x) conj(a - x) > / < |a - x|^2 >              w_a = P / (P + 2 sigma^2),          w = P / (P + sigma^2)
    E_a = < |b - x|^2 > - 2 sigma^2 - w_a^2 < |a - x|^2 >       E_a = 2 S sigma^2 / (S + 2 sigma^2), E = S sigma^2 / (S + sigma^2)

S of a Gaussian is the same at any noise, but a model knows more of a voxel's surroundings where there is less noise. E_a is also
measured at noise 4 sigma^2; as far as it falls from 4 to 2 sigma^2 by more than a constant S says, E is taken to fall again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.factors import at
from cryovae.calibration.hidden_bins import SHELL_WIDTH, SHELLS, shell_centres
from cryovae.physics.noise import SpectralTable

# Largest factor, up or down, on the variance of the samples: a larger one means that something else is wrong.
MAX_VARIANCE_SCALE = 16.0
# Largest share of a held-out error that may be put down to the second wedge, or to a tile that is not blended.
MAX_REMOVED_SHARE = 0.75
# Depths in the wedge that are distinguished, in bins of a patch; largest slope of log c^2 with depth; bins that a depth of a
# shell needs to count; and the number of bins that are correlated by the window.
DEPTHS, MAX_DEPTH_SLOPE, MIN_DEPTH_BINS, CORRELATED_BINS = 12, 0.5, 20, 4.0
# Smallest factor on the error for what a model gains at half the noise.
MIN_NOISE_FACTOR = 0.3
# With this many bins, the weight of the data is half measured, half the one that the variance of the samples gives.
PRIOR_BINS = 10.0

# Rows of the sums over target bins (measured, but hidden from the model), all over sigma^2: number of bins, Re x conj y, |x|^2,
# |y|^2, |y - x|^2, variance of a sample.
BINS, CROSS, MODEL, DATA, MISFIT, VARIANCE = range(6)
# Rows of the sums over input bins (seen by the model with more noise): products of a, b and x, variance of a sample, bins.
AA, AB, BB, AX, BX, XX, SPREAD, COUNT = range(8)


@dataclass(frozen=True)
class VarianceCalibration:
    """What held-out bins say of the errors of the model: tables by shell, (SHELLS,) float32 at ``frequency``.

    Attributes:
        wedge_scale: c^2, the factor on the variance of the samples in the wedge.
        sample_variance: s^2 / sigma^2 of the samples that c^2 was fitted to; 0 where a shell has no target bins.
        wedge_amplitude: factor on the mean in the wedge, 0 (nothing was predicted there) to 1.
        depth_slope: of log c^2 with the depth in the wedge (physics/depth.py), in 1 / bins of a patch.
        reference_depth: depth at which c^2 is ``wedge_scale``, in bins of a patch.
        data_weight: w of the data in measured bins, 0 to 1.
        error: E / sigma^2 in measured bins.
        noise_gain: < Re n conj F x > / sigma^2, the share of its input's noise that x repeats, by shell and direction.
    """

    wedge_scale: Tensor
    sample_variance: Tensor
    wedge_amplitude: Tensor
    depth_slope: float
    reference_depth: Tensor
    data_weight: Tensor
    error: Tensor
    noise_gain: SpectralTable

    @staticmethod
    def frequency() -> Tensor:
        """Centres of the shells, cycles per voxel."""
        return shell_centres()

    @staticmethod
    def at(table: Tensor, radius: Tensor) -> Tensor:
        """Values (...) of a table (SHELLS,) at |k| (...), linear between shells."""
        return at(table, radius)


# Sums by shell.


def shells(radius: Tensor) -> Tensor:
    """The shell of each |k|, SHELLS for those beyond the last."""
    return (radius / SHELL_WIDTH).long().clamp(max=SHELLS)


def by_shell(values: Tensor, shell: Tensor) -> Tensor:
    """Sums (rows, SHELLS) float64, on the CPU, of values (rows, ..., z, y, x // 2 + 1) over the bins of each shell."""
    return fourier.shell_sums(values, shell, SHELLS + 1)[:, :SHELLS].cpu()


def pooled(values: Tensor) -> Tensor:
    """Sums over a shell and half of each neighbour: (..., SHELLS)."""
    padded = torch.nn.functional.pad(values, (1, 1))
    return padded[..., 1:-1] + 0.5 * (padded[..., :-2] + padded[..., 2:])


def _error_ratio(error: Tensor, expected: Tensor, bins: Tensor) -> Tensor:
    """error / expected by shell, both sums over sigma^2; near 1 in shells where the error does not stand out of noise.

    Noise alone adds sqrt(2 bins) to ``error``. The ratio lies within 1 / MAX_VARIANCE_SCALE to MAX_VARIANCE_SCALE.
    """
    ratio = error.clamp_min(1e-9) / expected.clamp_min(1e-9)
    return _filled(ratio.clamp(1 / MAX_VARIANCE_SCALE, MAX_VARIANCE_SCALE).log(), _trust(error, 2 * bins), 0.0).exp()


def _trust(values: Tensor, variance: Tensor) -> Tensor:
    """0 to 1: how far a sum stands out of two standard deviations of its noise."""
    power = values.clamp_min(0).square()
    return power / (power + 4 * variance + 1e-12)


def _filled(values: Tensor, trust: Tensor, beyond: float) -> Tensor:
    """Values by shell; where trust is low, drawn towards the nearest trusted shells, and past the last of those to ``beyond``.

    Low shells have few bins and much signal, so their neighbours stand for them. High shells have many bins and little signal.
    """
    trusted = np.flatnonzero((trust > 0.5).numpy())
    if len(trusted) == 0:
        return trust * values + (1 - trust) * beyond
    numbers = np.arange(len(values))
    between = np.interp(numbers, trusted, values[torch.from_numpy(trusted)].double().numpy())
    target = torch.from_numpy(np.where(numbers > trusted[-1], beyond, between)).to(values)
    return trust * values + (1 - trust) * target


# The wedge, from sums over target bins.


def sample_variance(sums: Tensor) -> Tensor:
    """s^2 / sigma^2 in a target bin by shell, 0 where there is none: (SHELLS,)."""
    s = pooled(sums)
    return torch.where(s[BINS] >= 1, s[VARIANCE] / s[BINS].clamp_min(1), torch.zeros_like(s[BINS])).float()


def power_limit(product: Tensor, bins: Tensor) -> Tensor:
    """Upper bound of the specimen's power over sigma^2, by shell: (SHELLS,).

    Args:
        product: sums of Re a conj b / sigma^2 over measured bins, of two observations with noise 2 sigma^2; noise alone adds
            2 sqrt(bins), which the bound allows for.
        bins: number of bins.
    """
    bins = pooled(bins).clamp_min(1e-9)
    return (pooled(product) / bins).clamp_min(0) + 2 / bins.sqrt()


def blended_wedge_sums(sums: Tensor, disagreement: Tensor) -> Tensor:
    """Sums over target bins as they were if the mean had been blended from overlapping tiles (blending.py)."""
    blended = sums.clone()
    lost = torch.minimum(disagreement * sums[BINS], MAX_REMOVED_SHARE * (sums[MISFIT] - sums[BINS]).clamp_min(0))
    blended[MODEL] = (sums[MODEL] - lost).clamp_min(sums[MODEL] / 2)
    blended[MISFIT] = sums[MISFIT] - lost
    return blended


def fit_wedge(sums: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """c^2 and the amplitude b of the mean in the wedge, (SHELLS,) each.

    b = < Re x conj y > / < |x|^2 >, within 0 to 1. Noise alone gives that sum a standard deviation of sqrt(sum |x|^2 / sigma^2);
    where the sum does not stand out of it, b follows the neighbouring shells, and is 0 past the last of them.

    Args:
        sums: over target bins, (rows, SHELLS).
        power: ``power_limit`` of the specimen. It bounds c^2 s^2, because no mean, not even an empty one, is farther off.
    """
    s = pooled(sums)
    amplitude = (s[CROSS].clamp_min(0) / s[MODEL].clamp_min(1e-9)).clamp(max=1.0)
    amplitude = _filled(amplitude, _trust(s[CROSS], s[MODEL]), 0.0)
    scale = _error_ratio(error_power(s, amplitude), s[VARIANCE], s[BINS])
    limit = power * s[BINS] / s[VARIANCE].clamp_min(1e-9)
    # In shells without target bins s^2 is unknown too.
    return torch.where(s[BINS] > 0, torch.minimum(scale, limit), scale).float(), amplitude.float()


def fit_depth(deep: Tensor, scale: Tensor, amplitude: Tensor) -> tuple[float, Tensor]:
    """The slope of log c^2 with depth, in 1 / bins of a patch, and the depth (SHELLS,) at which c^2 is ``scale``.

    All shells have one slope, that of log(e^2 / s^2) against depth, weighted by precision, within 0 to MAX_DEPTH_SLOPE. A slope
    that does not stand out of noise is drawn towards 0.

    Args:
        deep: sums over target bins by shell and depth, (rows, SHELLS, DEPTHS).
        scale: c^2 by shell.
        amplitude: b by shell.
    """
    depth = torch.arange(deep.shape[-1]).double() + 0.5
    expected = scale.double()[:, None] * deep[VARIANCE]
    ratio = error_power(deep, amplitude.double()[:, None]) / expected.clamp_min(1e-9)
    # Precision of log(ratio): noise of the data, and the noise of as many squares as there are bins.
    counts = (deep[BINS] >= MIN_DEPTH_BINS) & (ratio > 0.1)
    noise = 2 * deep[BINS] / expected.clamp_min(1e-9).square() + 2 / deep[BINS].clamp_min(1)
    weight = counts / noise / CORRELATED_BINS
    log = ratio.clamp_min(0.1).log()
    total = weight.sum(-1, keepdim=True).clamp_min(1e-12)
    away = depth - (weight * depth).sum(-1, keepdim=True) / total
    covariance = float((weight * away * (log - (weight * log).sum(-1, keepdim=True) / total)).sum())
    precision = float((weight * away.square()).sum())
    slope = min(max(covariance / max(precision, 1e-12), 0.0), MAX_DEPTH_SLOPE)
    slope *= slope**2 * precision / (slope**2 * precision + 4)
    # The depth at which exp(slope depth) has its mean, weighted by the variance; shells without bins follow their neighbours.
    variance = pooled(deep[VARIANCE].T).T
    per_shell = variance.sum(-1).clamp_min(1e-12)
    if slope > 0:
        reference = ((variance * (slope * depth).exp()).sum(-1) / per_shell).clamp_min(1e-12).log() / slope
    else:
        reference = (variance * depth).sum(-1) / per_shell
    known = np.flatnonzero((variance.sum(-1) > 0).numpy())
    if len(known) == 0:
        return 0.0, torch.zeros(SHELLS)
    return slope, torch.from_numpy(np.interp(np.arange(SHELLS), known, reference[known].numpy())).float()


def one_wedge_factor(sums: Tensor, amplitude: Tensor, extra: Tensor) -> Tensor:
    """Factor (SHELLS,) on c^2 where one wedge is missing and not two: 1 - b^2 extra / e^2, at least 1 - MAX_REMOVED_SHARE.

    extra: what the second wedge adds to e^2 / sigma^2 in a bin (second_wedge.py).
    """
    s = pooled(sums)
    b = amplitude.double()
    error = error_power(s, b)
    second = b.square() * extra * s[BINS]
    # Where no error stands out of noise the fit kept the variance of the samples, and there is nothing to correct.
    share = torch.where(error > 2 * (2 * s[BINS]).sqrt(), second / error.clamp_min(1e-9), torch.zeros_like(error))
    return (1 - share.clamp(0, MAX_REMOVED_SHARE)).float()


def error_power(s: Tensor, amplitude: Tensor) -> Tensor:
    """Squared error of ``amplitude`` times the mean, summed over sigma^2, without the noise of the data."""
    return s[MISFIT] + 2 * (1 - amplitude) * s[CROSS] - (1 - amplitude.square()) * s[MODEL] - s[BINS]


# Measured bins, from sums over input bins.


def at_noise(share: Tensor, noise: Tensor) -> Tensor:
    """P / (P + n) for the P that gives ``share`` at n = 1; shares of 1 and more stay as they are."""
    return torch.where(share < 1, share / (share + (1 - share) * noise), share)


def blended_measured_sums(sums: Tensor, disagreement: Tensor) -> Tensor:
    """Sums over input bins as they were if the mean had been blended from overlapping tiles (blending.py)."""
    blended = sums.clone()
    off = (sums[AA] - 2 * sums[AX] + sums[XX]).clamp_min(0)
    lost = torch.minimum(disagreement * sums[COUNT], MAX_REMOVED_SHARE * off)
    blended[XX] = (sums[XX] - lost).clamp_min(sums[XX] / 2)
    return blended


def fit_measured(s: Tensor) -> tuple[Tensor, Tensor]:
    """w and E / sigma^2 in measured bins, (SHELLS,) each, for the mean times the amplitude that fits b best."""
    amplitude, bins, miss, shared, own = _compared(s)
    # Prediction from the variance of the samples, in units of 2 sigma^2. It is used where noise hides the measured error.
    variance = pooled(amplitude**2 * s[SPREAD]) / bins
    prior = variance / (variance + 1)
    trust = bins / (bins + PRIOR_BINS)
    weight = (trust * shared / own + (1 - trust) * prior).clamp(0, 1)
    error = prior * _error_ratio(miss - bins - weight.square() * own, prior * bins, bins)
    power = weight / (1 - weight).clamp_min(1e-6)
    return (2 * power / (2 * power + 1)).float(), (2 * error / (1 + error)).float()


def noise_factor(sums: Tensor, noisier: Tensor) -> Tensor:
    """Factor (SHELLS,) on the error at half the noise against a Gaussian of constant S, MIN_NOISE_FACTOR to 1.

    sums, noisier: over input bins, with noise 2 sigma^2 and 4 sigma^2 in a; b has 2 sigma^2 in both, over which both are.
    """
    bins, error = _measured_error(sums)
    _, before = _measured_error(noisier)
    at_twice = (before / bins).clamp(1e-6, 1.9)
    own = 2 * at_twice / (2 - at_twice)
    ratio = (error / bins / (own / (own + 1))).clamp(MIN_NOISE_FACTOR, 1)
    trust = _trust(error, 2 * bins) * _trust(before, 2 * bins)
    return (trust * ratio + (1 - trust)).float()


def _measured_error(s: Tensor) -> tuple[Tensor, Tensor]:
    """Bins, and E_a over the noise of b summed over them, by shell."""
    _, bins, miss, shared, own = _compared(s)
    return bins, miss - bins - (shared / own).clamp(0, 1).square() * own


def _compared(s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The amplitude A with which x fits b best, the bins, and sums of |b - A x|^2, Re (b - A x) conj(a - A x) and |a - A x|^2."""
    amplitude = (s[BX] / s[XX].clamp_min(1e-12)).clamp(0.0, 2.0)
    bins = pooled(s[COUNT]).clamp_min(1e-9)
    miss = pooled(s[BB] - 2 * amplitude * s[BX] + amplitude**2 * s[XX])
    shared = pooled(s[AB] - amplitude * (s[AX] + s[BX]) + amplitude**2 * s[XX])
    own = pooled(s[AA] - 2 * amplitude * s[AX] + amplitude**2 * s[XX]).clamp_min(1e-9)
    return amplitude, bins, miss, shared, own
