"""How a volume is restored: from what means, with what amplitude and variance, in the wedge and in measured bins.

    x = b sum_i w_i x_i            in the wedge                     w_i >= 0 weights of the means, b amplitude by shell
    x = (1 - v) b sum_i w_i x_i + v y            in measured bins   v the weight of the data by shell
    x^s = x + c (s - < s >)                                         c^2 the factor on the variance of the samples by shell

All of it is fitted to hidden bins, one fit for each kind of bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae.calibration.factors import Factors, figures, fit, overfitting, stacked, widened
from cryovae.calibration.hidden_bins import ADDED_NOISE, SHELLS, MeanSums
from cryovae.calibration.scores import HeldOutSums, weights_by_name
from cryovae.posterior.volume_data import AVERAGE


@dataclass(frozen=True)
class Part:
    """How one kind of bins is restored.

    Attributes:
        weights: of the means, (means,).
        factors: of amplitude, variance and data.
    """

    weights: Tensor
    factors: Factors


@dataclass(frozen=True)
class Fitted:
    """How both kinds of bins are restored.

    Attributes:
        wedge: bins that were not measured.
        measured: bins that were.
    """

    wedge: Part
    measured: Part

    def raw(self) -> Fitted:
        """The same without the data in measured bins."""
        none = torch.zeros_like(self.measured.factors.weight)
        return replace(self, measured=replace(self.measured, factors=replace(self.measured.factors, weight=none)))


def plain(names: Sequence[str]) -> Fitted:
    """Without any fit: the average of the samples, or else the first mean."""
    own = names.index(AVERAGE) if AVERAGE in names else 0
    part = Part(torch.tensor([float(number == own) for number in range(len(names))]), Factors.none())
    return Fitted(part, part)


def fitted(held_out: HeldOutSums, samples: int, noise: float = 1.0) -> Fitted:
    """The fit to hidden bins.

    Args:
        held_out: sums over them.
        samples: that will be averaged.
        noise: variance of the noise of the volume to be restored, over that of the tomogram.
    """
    wedge = plain(held_out.names).wedge if held_out.wedge is None else _part(held_out, held_out.wedge, samples, False)
    measured = _part(held_out, held_out.measured, samples, True)
    # The model saw more noise than the tomogram has.
    return Fitted(wedge, Part(measured.weights, measured.factors.at_noise(noise / (1 + ADDED_NOISE))))


def _part(held_out: HeldOutSums, sums: MeanSums, samples: int, blend: bool) -> Part:
    averaged = held_out.averaging(sums, samples)
    weights = stacked(averaged)
    return Part(weights, widened(fit(averaged.of(weights), blend), sums.regions))


@dataclass(frozen=True)
class MeasuredPowers:
    """Powers in measured bins by shell, (SHELLS,), 0 where a shell has none.

    Attributes:
        noise: mean of sigma^2.
        spread: mean power of the deviation of a sample.
    """

    noise: Tensor
    spread: Tensor


def bounded(fit_of: Fitted, powers: MeasuredPowers) -> Fitted:
    """The same with no variance in measured bins above that of the noise: the data alone say so much."""
    most = torch.where(powers.spread > 0, powers.noise / powers.spread.clamp_min(1e-12), torch.inf).float()
    factors = fit_of.measured.factors
    return replace(fit_of, measured=replace(fit_of.measured, factors=replace(factors, scale=torch.minimum(factors.scale, most))))


def of_samples(names: Sequence[str], powers: MeasuredPowers) -> Fitted:
    """Without hidden bins: in measured bins the data have Wiener's weight, S / (S + sigma^2), S the variance of samples."""
    total = (powers.spread + powers.noise).clamp_min(1e-12)
    weight = torch.where(powers.spread > 0, powers.spread / total, torch.zeros(SHELLS)).float()
    start = plain(names)
    return replace(start, measured=replace(start.measured, factors=replace(Factors.none(), scale=1 - weight, weight=weight)))


def figures_of(held_out: HeldOutSums, fit_of: Fitted, samples: int) -> dict[str, object]:
    """Figures of hidden bins for the record of a restoration: those of the wedge, and of measured bins by themselves."""
    shared: dict[str, object] = {
        "patches": held_out.regions,
        "held_out_share": held_out.share,
        "trained_on": not held_out.regions,
    }
    measured = _figures(held_out, held_out.measured, fit_of.measured, samples)
    if held_out.wedge is None:
        return shared | {"measured": measured}
    return _figures(held_out, held_out.wedge, fit_of.wedge, samples) | shared | {"measured": measured}


def _figures(held_out: HeldOutSums, sums: MeanSums, part: Part, samples: int) -> dict[str, object]:
    ratio, error = overfitting(sums.regions)
    known = {"overfitting": ratio, "overfitting_error": error} if error < float("inf") else {}
    averaged = held_out.averaging(sums, samples).of(part.weights)
    return figures(averaged, part.factors) | {"mean": weights_by_name(held_out.names, part.weights), **known}
