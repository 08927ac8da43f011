"""One fit of held-out residuals: by shell, the amplitude of the mean and the factor on the variance of the samples.

    y - b x  ~  N( 0, sigma^2 + c^2 s^2 )        s^2 the variance of the samples; log c and b smooth over shells

The penalised likelihood of all shells is maximised at once; its curvature gives the standard errors. A posterior sampler that is
right has c = 1 and b = 1 everywhere, and both are drawn there where the data say little. c^2 s^2 is at most the power of the
specimen that the same bins show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

import torch
from scipy.optimize import nnls
from scipy.stats import norm
from torch import Tensor

from cryovae.calibration.hidden_bins import BAND, FITTED, SHELL_WIDTH, SHELLS, MeanSums, ShellSums, shell_centres

# Standard deviations of the change of log c^2 and of b from shell to shell, and of both from no correction.
LOG_CHANGE, LOG_PRIOR, AMPLITUDE_CHANGE, AMPLITUDE_PRIOR = 0.3, 1.0, 0.05, 0.2
# Coefficients that vary together: densities are localised and the wedge of a tile is smeared.
CORRELATED = 4.0
# Largest sum of the weights of the means: a mean that has almost no power is not made a prediction by any factor.
MOST_WEIGHT = 1.5
# Share of the mean power of the means that is added to their products.
RIDGE = 0.01
# Iterations of the fit.
ITERATIONS = 200
NOMINAL_COVERAGE = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Factors:
    """A fit, (SHELLS,) float32 each at ``shell_centres``.

    Attributes:
        scale: c^2.
        error: standard error of log c^2.
        amplitude: b.
        weight: w of what the model saw in the mean, b x + w (a - b x), at the noise of the held-out observation; 0 in the wedge.
    """

    scale: Tensor
    error: Tensor
    amplitude: Tensor
    weight: Tensor

    def at_noise(self, noise: float) -> Factors:
        """The same for noise of ``noise`` times the variance: w = P / (P + sigma^2) of the P that gives w now."""
        return replace(self, weight=at_noise(self.weight, torch.as_tensor(noise)))

    @staticmethod
    def none() -> Factors:
        """No correction."""
        one, zero = torch.ones(SHELLS), torch.zeros(SHELLS)
        return Factors(one, zero, one, zero)


def at_noise(share: Tensor, noise: Tensor) -> Tensor:
    """P / (P + n) for the P that gives ``share`` at n = 1; shares of 1 and more stay as they are."""
    return torch.where(share < 1, share / (share + (1 - share) * noise), share)


def at(table: Tensor, radius: Tensor) -> Tensor:
    """Values (...) of a table (SHELLS,) at |k| (...) in cycles per voxel, linear between shells."""
    place = (radius / SHELL_WIDTH - 0.5).clamp(0, SHELLS - 1)
    below = place.floor().long()
    above = (below + 1).clamp(max=SHELLS - 1)
    table = table.to(radius.device)
    return table[below] + (place - below) * (table[above] - table[below])


def stacked(sums: MeanSums) -> Tensor:
    """The weights (means,) >= 0 with which the means together predict the bins of the band best, each bin over its noise."""
    weight = _band(sums, FITTED) * sums.count / sums.noise.clamp_min(1e-12)
    gram, product = (sums.xx * weight).sum(-1), (sums.yx * weight).sum(-1)
    # Nearly equal means would get weights of any size; a share of the trace holds them together.
    gram = gram + (RIDGE * gram.diagonal().mean()).clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    root = torch.linalg.cholesky(gram)
    weights, _ = nnls(root.T.numpy(), torch.linalg.solve_triangular(root, product[:, None], upper=False)[:, 0].numpy())
    return torch.from_numpy(weights * min(1.0, MOST_WEIGHT / max(float(weights.sum()), 1e-12))).float()


def fit(s: ShellSums, blend: bool = False) -> Factors:
    """Fit the factors.

    Args:
        s: sums over held-out bins.
        blend: whether what the model saw gets a weight in the mean, as measured bins do.
    """
    weight = torch.zeros(SHELLS, dtype=torch.float64)
    log, amplitude = torch.zeros(SHELLS, dtype=torch.float64), torch.ones(SHELLS, dtype=torch.float64)
    parameters = [log.requires_grad_(), amplitude.requires_grad_()]
    # The weight depends on the amplitude, and the fit of both on the weight: two rounds settle it.
    for _ in range(2 if blend else 1):
        optimiser = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def closure(optimiser: torch.optim.LBFGS = optimiser, weight: Tensor = weight) -> Tensor:
            optimiser.zero_grad()
            loss = _loss(s, log, amplitude, weight)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        if blend:
            weight = _weight(s, amplitude.detach())
    curvature = torch.autograd.functional.hessian(lambda values: _loss(s, values, amplitude.detach(), weight), log.detach())
    error = torch.linalg.inv(curvature).diagonal().clamp_min(0).sqrt()  # type: ignore[arg-type]
    scale = torch.minimum(log.detach().exp(), _limit(s))
    return Factors(scale.float(), error.float(), amplitude.detach().float(), weight.float())


def overfitting(regions: Tensor) -> tuple[float, float]:
    """Error over variance in held-out regions, over that in all other voxels, and the standard error of its log.

    Args:
        regions: as of ``MeanSums``.

    Returns:
        The ratio and the error; 1 and infinity if nothing is held out, or errors do not stand out of the noise.
    """
    excess, variance = regions
    count = len(excess) - 1
    if not (variance > 0).all():
        return 1.0, float("inf")
    others, held = excess[0] / variance[0].clamp_min(1e-30), excess[1:].sum() / variance[1:].sum().clamp_min(1e-30)
    if count < 2 or not (others > 0 and held > 0):
        return 1.0, float("inf")
    # Jackknife: the ratio without each region in turn.
    without = (excess[1:].sum() - excess[1:]) / (variance[1:].sum() - variance[1:])
    logs = without.clamp_min(0.1 * held).log()
    error = ((count - 1) * logs.var(correction=0)).sqrt()
    return float(held / others), float(error)


def widened(factors: Factors, regions: Tensor) -> Factors:
    """The factors with c^2 raised as far as errors are larger, by more than a standard error, where training saw nothing."""
    ratio, error = overfitting(regions)
    return replace(factors, scale=factors.scale * exp(max(log(ratio) - error, 0.0)))


def _misfit(s: ShellSums, amplitude: Tensor, weight: Tensor) -> Tensor:
    """Sums of |y - b x - w (a - b x)|^2."""
    b, w = amplitude, weight
    own = (1 - w) * b
    return s.yy - 2 * own * s.yx - 2 * w * s.ay + own.square() * s.xx + 2 * own * w * s.ax + w.square() * s.aa


def _weight(s: ShellSums, b: Tensor) -> Tensor:
    """The weight with the least misfit, 0 to 1."""
    shared, own = s.ay - b * (s.yx + s.ax) + b.square() * s.xx, s.aa - 2 * b * s.ax + b.square() * s.xx
    return (shared / own.clamp_min(1e-12)).clamp(0, 1) * _known(s)


def _loss(s: ShellSums, log: Tensor, amplitude: Tensor, weight: Tensor) -> Tensor:
    """Negative penalised log-likelihood."""
    variance = (s.noise + log.exp() * s.spread).clamp_min(1e-12)
    known = _known(s)
    misfit = _misfit(s, amplitude, weight).clamp_min(1e-12)
    terms = s.count * torch.log(variance / s.count.clamp_min(1)) + s.count * misfit / variance
    data = 0.5 * torch.where(known, terms, torch.zeros_like(terms)).sum() / CORRELATED
    change = log.diff().square().sum() / LOG_CHANGE**2 + amplitude.diff().square().sum() / AMPLITUDE_CHANGE**2
    prior = log.square().sum() / LOG_PRIOR**2 + (amplitude - 1).square().sum() / AMPLITUDE_PRIOR**2
    return data + 0.5 * (change + prior)


def _limit(s: ShellSums) -> Tensor:
    """The largest c^2: that of an error as large as the power of the specimen, and two standard errors of that."""
    power = (s.yy - s.noise).clamp_min(0) + 2 * s.noise * (2 * CORRELATED / s.count.clamp_min(1)).sqrt()
    return torch.where(_known(s) & (s.spread > 0), power / s.spread.clamp_min(1e-12), torch.full_like(power, torch.inf))


def log_likelihood(sums: ShellSums, factors: Factors) -> float:
    """Mean log-likelihood of the held-out coefficients in the band, in nats a coefficient, above that of an empty mean.

    The empty mean has the power of the specimen as its variance.
    """
    s, band = sums, _band(sums, FITTED)
    variance = s.noise + factors.scale.double() * s.spread
    misfit = _misfit(s, factors.amplitude.double(), factors.weight.double())
    gain = torch.log(s.yy / variance.clamp_min(1e-12)) + 1 - misfit / variance
    return float((0.5 * s.count * gain)[band].sum() / s.count[band].sum().clamp_min(1))


def figures(sums: ShellSums, factors: Factors) -> dict[str, object]:
    """Figures of the held-out bins for the record of a restoration. ``rms_over_std`` and ``factor_two`` are before the fit.

    ``rms_over_std_fitted`` is after it, on the bins to which it was fitted.
    """
    s, band = sums, _band(sums, BAND)
    b, w = factors.amplitude.double(), factors.weight.double()
    error, spread = _misfit(s, b, w) - s.noise, factors.scale.double() * s.spread
    raw = float((_misfit(s, torch.ones_like(b), w * 0) - s.noise)[band].sum())
    own, expected = float(s.spread[band].sum()), s.noise + spread
    signal = (s.yy - s.noise).clamp_min(0)
    crossed, modelled, data = (float(rows[band].sum()) for rows in (s.yx, s.xx, s.yy))
    return {
        "frequency": listed(shell_centres()),
        "fsc": listed(s.yx / (s.xx * s.yy).sqrt()),
        "ceiling": listed((signal / s.yy).sqrt()),
        "correlation": crossed / max(modelled * data, 1e-30) ** 0.5,
        "correlation_ceiling": (float(signal[band].sum()) / max(data, 1e-30)) ** 0.5,
        "chi2": listed((error + s.noise) / expected),
        "chi2_band": float((error + s.noise)[band].sum() / expected[band].sum().clamp_min(1e-12)),
        "rms_over_std": (raw / own) ** 0.5 if raw > 0 and own > 0 else None,
        "rms_over_std_fitted": _ratio(float(error[band].sum()), float(spread[band].sum())),
        "factor_two": 1 + own / raw if raw > 0 else None,
        "coverage": _coverage(s, factors, band),
        "spread_factor": listed(factors.scale.sqrt()),
        "spread_error": listed(factors.error / 2 * factors.scale.sqrt()),
        "amplitude": listed(factors.amplitude),
        "bins": int(s.count.sum()),
    }


def _ratio(error: float, spread: float) -> float | None:
    """Root of a ratio of sums, None if one of them is not above 0."""
    return (error / spread) ** 0.5 if error > 0 and spread > 0 else None


def _known(sums: ShellSums | MeanSums) -> Tensor:
    """Shells that hold a coefficient at least."""
    return sums.count >= 1


def _band(sums: ShellSums | MeanSums, limits: tuple[float, float]) -> Tensor:
    centres = shell_centres()
    return (centres > limits[0]) & (centres < limits[1]) & _known(sums)


def _coverage(s: ShellSums, factors: Factors, band: Tensor) -> dict[str, float]:
    """Share of the residuals in the band within intervals of a nominal share."""
    y, x, a = s.kept.double()
    b, w = factors.amplitude.double()[:, None], factors.weight.double()[:, None]
    # The variance of a voxel: that of all coefficients, over as many voxels as the sums are of.
    std = ((s.noise + factors.scale.double() * s.spread) / s.yy.clamp_min(1e-12) * y.square().nanmean(1)).sqrt()
    over = ((y - b * x - w * (a - b * x)) / std.clamp_min(1e-12)[:, None]).abs()
    shares = {}
    for level in NOMINAL_COVERAGE:
        within = (over < norm.ppf(0.5 + level / 2)).double().sum(1) / torch.isfinite(over).sum(1).clamp_min(1)
        shares[f"{level:g}"] = float((within * s.count)[band].sum() / s.count[band].sum().clamp_min(1))
    return shares


def listed(values: Tensor) -> list[float | None]:
    """Numbers for JSON, None for those that are not finite."""
    return [float(value) if bool(torch.isfinite(value)) else None for value in values]
