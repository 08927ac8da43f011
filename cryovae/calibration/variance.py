"""From sums over held-out bins to the model's errors by shell.

With x the mean of samples of r and s^2 their variance, the spread in the wedge falls short, by shell, by the factor

    c^2(k) = e^2(k) / s^2(k),           e^2 = < |F(y - x)|^2 > - sigma^2

fitted on held-out measured bins, never on a truth; a restoration's is less by what a second missing wedge costs
(second_wedge.py), and c^2 s^2 is at most the power of the specimen itself, which the measured bins of the same shell show.

In measured bins the weight w of the data that leaves least error, and that error E, follow from a second observation b of what
the model was given as a, at noise 2 sigma^2 each; both are carried over to sigma^2 as for a Gaussian of variance P or S:

    w_a = < Re (b - x) conj(a - x) > / < |a - x|^2 >              w_a = P / (P + 2 sigma^2),          w = P / (P + sigma^2)
    E_a = < |b - x|^2 > - 2 sigma^2 - w_a^2 < |a - x|^2 >       E_a = 2 S sigma^2 / (S + 2 sigma^2), E = S sigma^2 / (S + sigma^2)

A Gaussian's S is one whatever the noise; a model knows more of its neighbourhood, too, where there is less noise. By how much
more E_a falls from 4 sigma^2 to 2 sigma^2 than S allows, E is taken to fall again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.physics.noise import SpectralTable

SHELLS = 20
WIDTH = 0.5 / SHELLS
# The spread may be widened or narrowed by so much, in variance; outside, something else is wrong.
WIDEST = 16.0
# Of the held-out error, what a second wedge can be blamed for at most, or that a tile is answered alone.
MOST_BLAMED = 0.75
# Depths in the wedge that are told apart, in bins of a patch; the slope of log c^2 with depth at most; bins that a depth of a
# shell must have to count; and by how much fewer independent ones there are behind a window.
DEPTHS, STEEPEST, LEAST_BINS, CORRELATED = 12, 0.5, 20, 4.0
# By how much less than a Gaussian's an error may be at half the noise.
LEAST_GAINED = 0.3
# Of so many bins the weight of the data is half found, half the one that the model's own spread gives.
FEW_BINS = 10.0

# Rows of the sums over hidden bins.
BINS, CROSS, MODEL, DATA, MISFIT, VARIANCE = range(6)
# Rows of the sums of ``given``: products of a = y + n', b = y - n' and x, the variance of samples, and the number of bins.
AA, AB, BB, AX, BX, XX, SPREAD, COUNT = range(8)


@dataclass(frozen=True)
class VarianceCalibration:
    """What held-out bins say of the model's errors, by shell: (SHELLS,) float32 at ``frequency``, cycles per voxel.

    hidden: c^2 in the wedge, reference: the variance s^2 / sigma^2 of samples that it multiplies, 0 where that is not known, and
    amplitude: by what the mean is multiplied there, 0 where nothing is foretold. slope: of log c^2 in bins of a patch, from
    ``middle`` (SHELLS,) on: errors grow with the depth in the wedge (physics/depth.py). In measured bins,
    weight: w, error: E / sigma^2, and copied: by how much the model's answer moves with the noise of its input,
    < Re n conj F x > / sigma^2, by shell and direction: what is never hidden in training may be copied, in some directions more.
    """

    hidden: Tensor
    reference: Tensor
    amplitude: Tensor
    slope: float
    middle: Tensor
    weight: Tensor
    error: Tensor
    copied: SpectralTable

    @staticmethod
    def frequency() -> Tensor:
        """Centres of the shells, cycles per voxel."""
        return (torch.arange(SHELLS) + 0.5) * WIDTH

    @staticmethod
    def at(table: Tensor, radius: Tensor) -> Tensor:
        """Values (...) of a table (SHELLS,) at |k| (...), linear between shells."""
        place = (radius / WIDTH - 0.5).clamp(0, SHELLS - 1)
        below = place.floor().long()
        above = (below + 1).clamp(max=SHELLS - 1)
        table = table.to(radius.device)
        return table[below] + (place - below) * (table[above] - table[below])


def shells(radius: Tensor) -> Tensor:
    """The shell of each |k|, SHELLS for those beyond the last."""
    return (radius / WIDTH).long().clamp(max=SHELLS)


def by_shell(values: Tensor, shell: Tensor) -> Tensor:
    """Sum (rows, ..., z, y, x // 2 + 1) over the bins of each shell, dropping those beyond the last: (rows, SHELLS) float64, on
    the CPU.
    """
    return fourier.shell_sums(values, shell, SHELLS + 1)[:, :SHELLS].cpu()


def at_noise(share: Tensor, noise: Tensor) -> Tensor:
    """P / (P + n) for the P that gives ``share`` at n = 1; shares of 1 and more, errors as large as the noise, stay."""
    return torch.where(share < 1, share / (share + (1 - share) * noise), share)


def variance_of(sums: Tensor) -> Tensor:
    """s^2 / sigma^2 in a hidden bin by shell, 0 where there is none: (SHELLS,)."""
    s = pooled(sums)
    return torch.where(s[BINS] >= 1, s[VARIANCE] / s[BINS].clamp_min(1), torch.zeros_like(s[BINS])).float()


def pooled(values: Tensor) -> Tensor:
    """Sums over a shell and, by half, its neighbours: (..., SHELLS)."""
    padded = torch.nn.functional.pad(values, (1, 1))
    return padded[..., 1:-1] + 0.5 * (padded[..., :-2] + padded[..., 2:])


def _ratio(error: Tensor, plain: Tensor, bins: Tensor) -> Tensor:
    """error / plain by shell, within 1 / WIDEST to WIDEST; beyond the shells where it stands out of noise, 1: the model's own.

    error and plain are sums over sigma^2, and noise alone adds sqrt(2 bins) to ``error``.
    """
    found = (error.clamp_min(1e-9) / plain.clamp_min(1e-9)).clamp(1 / WIDEST, WIDEST).log()
    return _leaning(found, _trust(error, 2 * bins), 0.0).exp()


def _trust(found: Tensor, variance: Tensor) -> Tensor:
    """0 to 1: how far a sum stands out of two standard deviations of its noise."""
    power = found.clamp_min(0).square()
    return power / (power + 4 * variance + 1e-12)


def _leaning(values: Tensor, trust: Tensor, beyond: float) -> Tensor:
    """Values by shell, leaning on the shells beside them that can be trusted; past the last of those, on ``beyond``.

    Low shells have few bins, and much signal: what holds beside them holds there. High shells have many, and next to none.
    """
    known = np.flatnonzero((trust > 0.5).numpy())
    if len(known) == 0:
        return trust * values + (1 - trust) * beyond
    shells = np.arange(len(values))
    beside = np.interp(shells, known, values[torch.from_numpy(known)].double().numpy())
    target = torch.from_numpy(np.where(shells > known[-1], beyond, beside)).to(values)
    return trust * values + (1 - trust) * target


def power_of(product: Tensor, bins: Tensor) -> Tensor:
    """The most that the specimen's power may be, by shell, over sigma^2: (SHELLS,).

    product: sums of Re a conj b / sigma^2 over measured ``bins``, a and b two observations at noise 2 sigma^2; noise alone adds
    2 sqrt(bins), which is allowed for.
    """
    bins = pooled(bins).clamp_min(1e-9)
    return (pooled(product) / bins).clamp_min(0) + 2 / bins.sqrt()


def hidden_blended(sums: Tensor, apart: Tensor) -> Tensor:
    """Sums over hidden bins as they were, had the answer been blended of the tiles around (blending.py)."""
    found = sums.clone()
    lost = torch.minimum(apart * sums[BINS], MOST_BLAMED * (sums[MISFIT] - sums[BINS]).clamp_min(0))
    found[MODEL] = (sums[MODEL] - lost).clamp_min(sums[MODEL] / 2)
    found[MISFIT] = sums[MISFIT] - lost
    return found


def given_blended(sums: Tensor, apart: Tensor) -> Tensor:
    """Sums of ``given`` as they were, had the answer been blended of the tiles around (blending.py)."""
    found = sums.clone()
    off = (sums[AA] - 2 * sums[AX] + sums[XX]).clamp_min(0)
    found[XX] = (sums[XX] - torch.minimum(apart * sums[COUNT], MOST_BLAMED * off)).clamp_min(sums[XX] / 2)
    return found


def fit_hidden(sums: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """c^2 in the wedge, and the amplitude b of the mean there, (SHELLS,) each.

    power: (SHELLS,) of the specimen, over sigma^2, at most: no answer needs to be farther off, as an empty one is not. It bounds
    the spread where so little is left of the specimen that held-out bins show no error, and a model's spread is far too wide.

    b = < Re x conj y > / < |x|^2 >, within 0 to 1; where that stands out no more than noise would, whose standard deviation is
    sqrt(sum |x|^2 / sigma^2), it leans on its neighbours, and past them on 0: what is not foretold is not put into the wedge.
    """
    s = pooled(sums)
    found = (s[CROSS].clamp_min(0) / s[MODEL].clamp_min(1e-9)).clamp(max=1.0)
    amplitude = _leaning(found, _trust(s[CROSS], s[MODEL]), 0.0)
    found = _ratio(missed_power(s, amplitude), s[VARIANCE], s[BINS])
    most = power * s[BINS] / s[VARIANCE].clamp_min(1e-9)
    # Of shells without a hidden bin nothing is known of s^2 either.
    return torch.where(s[BINS] > 0, torch.minimum(found, most), found).float(), amplitude.float()


def fit_depth(deep: Tensor, widening: Tensor, amplitude: Tensor) -> tuple[float, Tensor]:
    """The slope of log c^2 with depth, in 1 / bins of a patch, and the depth at which c^2 is ``widening``, (SHELLS,).

    deep: sums over hidden bins by shell and depth, (rows, SHELLS, DEPTHS). The slope is one for all shells: that of
    log(e^2 / s^2) against depth, weighted by how well each is known, within 0 to STEEPEST; leaning on 0 where it does not stand
    out.
    """
    at = torch.arange(deep.shape[-1]).double() + 0.5
    expected = widening.double()[:, None] * deep[VARIANCE]
    found = missed_power(deep, amplitude.double()[:, None])
    share = found / expected.clamp_min(1e-9)
    # Of log(share): the noise of the data, and of as many squares as there are bins.
    known = (deep[BINS] >= LEAST_BINS) & (share > 0.1)
    weight = known / (2 * deep[BINS] / expected.clamp_min(1e-9).square() + 2 / deep[BINS].clamp_min(1)) / CORRELATED
    log = share.clamp_min(0.1).log()
    total = weight.sum(-1, keepdim=True).clamp_min(1e-12)
    away = at - (weight * at).sum(-1, keepdim=True) / total
    gained = float((weight * away * (log - (weight * log).sum(-1, keepdim=True) / total)).sum())
    precision = float((weight * away.square()).sum())
    slope = min(max(gained / max(precision, 1e-12), 0.0), STEEPEST)
    trust = slope**2 * precision / (slope**2 * precision + 4)
    slope *= trust
    # Where e^(slope d), weighted as it is by the variance, is 1 in the mean; of shells without bins, as beside them.
    variance = pooled(deep[VARIANCE].T).T
    mean = (variance * (slope * at).exp()).sum(-1) / variance.sum(-1).clamp_min(1e-12)
    middle = mean.clamp_min(1e-12).log() / slope if slope > 0 else (variance * at).sum(-1) / variance.sum(-1).clamp_min(1e-12)
    there = np.flatnonzero((variance.sum(-1) > 0).numpy())
    if len(there) == 0:
        return 0.0, torch.zeros(SHELLS)
    return slope, torch.from_numpy(np.interp(np.arange(SHELLS), there, middle[there].numpy())).float()


def one_wedge(sums: Tensor, amplitude: Tensor, extra: Tensor) -> Tensor:
    """By what c^2 (SHELLS,) is multiplied where one wedge is missing, not two: 1 - b^2 extra / e^2, at least 1 - MOST_BLAMED.

    extra: (SHELLS,) what the second wedge adds to e^2 / sigma^2 in a bin.
    """
    s = pooled(sums)
    b = amplitude.double()
    missed = missed_power(s, b)
    blamed = b.square() * extra * s[BINS]
    # Where no error stands out of noise, the fit kept the model's own spread, and there is nothing to correct.
    share = torch.where(missed > 2 * (2 * s[BINS]).sqrt(), blamed / missed.clamp_min(1e-9), torch.zeros_like(missed))
    return (1 - share.clamp(0, MOST_BLAMED)).float()


def missed_power(s: Tensor, amplitude: Tensor) -> Tensor:
    """Error of the mean times ``amplitude``, summed over sigma^2, from sums over shells; the noise of the data taken out."""
    return s[MISFIT] + 2 * (1 - amplitude) * s[CROSS] - (1 - amplitude.square()) * s[MODEL] - s[BINS]


def gained(sums: Tensor, noisier: Tensor) -> Tensor:
    """By what the error at half the noise is less than for a Gaussian of one S: (SHELLS,), LEAST_GAINED to 1.

    sums, noisier: of ``given``, with noise 2 sigma^2 and 4 sigma^2 in a; both against a b of 2 sigma^2, over which they are.
    """
    bins, missed = _missed_given(sums)
    _, before = _missed_given(noisier)
    at_twice = (before / bins).clamp(1e-6, 1.9)
    own = 2 * at_twice / (2 - at_twice)
    ratio = (missed / bins / (own / (own + 1))).clamp(LEAST_GAINED, 1)
    trust = _trust(missed, 2 * bins) * _trust(before, 2 * bins)
    return (trust * ratio + (1 - trust)).float()


def _missed_given(s: Tensor) -> tuple[Tensor, Tensor]:
    """Bins, and E_a over the noise of b summed over them, by shell."""
    _, bins, miss, shared, own = _compared(s)
    return bins, miss - bins - (shared / own).clamp(0, 1).square() * own


def _compared(s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of sums of ``given``: the amplitude A with which x fits b best, the bins, and |b - A x|^2, Re (b - A x) conj(a - A x) and
    |a - A x|^2 summed over them, by shell.
    """
    amplitude = (s[BX] / s[XX].clamp_min(1e-12)).clamp(0.0, 2.0)
    bins = pooled(s[COUNT]).clamp_min(1e-9)
    miss = pooled(s[BB] - 2 * amplitude * s[BX] + amplitude**2 * s[XX])
    shared = pooled(s[AB] - amplitude * (s[AX] + s[BX]) + amplitude**2 * s[XX])
    own = pooled(s[AA] - 2 * amplitude * s[AX] + amplitude**2 * s[XX]).clamp_min(1e-9)
    return amplitude, bins, miss, shared, own


def fit_given(s: Tensor) -> tuple[Tensor, Tensor]:
    """w and E / sigma^2 of measured bins, for the answer times the amplitude that fits b best."""
    amplitude, bins, miss, shared, own = _compared(s)
    # What the model's own spread says, in units of 2 sigma^2: that is kept where noise hides the rest.
    spread = pooled(amplitude**2 * s[SPREAD]) / bins
    plain = spread / (spread + 1)
    trust = bins / (bins + FEW_BINS)
    weight = (trust * shared / own + (1 - trust) * plain).clamp(0, 1)
    error = plain * _ratio(miss - bins - weight.square() * own, plain * bins, bins)
    power = weight / (1 - weight).clamp_min(1e-6)
    return (2 * power / (2 * power + 1)).float(), (2 * error / (1 + error)).float()
