"""Prediction of measured bins hidden from the model, on held-out patches.

gain         ( log p(hidden | x) - log p(hidden | 0) ) / hidden bins       nats; 0 is an empty wedge
correlation  sum Re(F x conj F y) / sigma^2  over  sqrt( sum |F x|^2 / sigma^2  sum |F y|^2 / sigma^2 )     hidden bins
chi2         < |F(y - x)|^2 / sigma^2 >                               1 where nothing but noise is left
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.measurement import Measurement
from cryovae.models.ladder import Ladder, R


@dataclass(frozen=True)
class ValidationScores:
    """Held-out figures: gain in nats per hidden coefficient, correlation with noisy data, and chi2."""

    gain: float
    correlation: float
    chi2: float


@torch.no_grad()
def validation_scores(ladder: Ladder, measurements: Iterable[Measurement], fill: bool = False) -> ValidationScores:
    """Score the hidden bins of held-out measurements against the density decoded from r's means.

    Args:
        ladder: the model.
        measurements: held-out measurements.
        fill: fill the wedge of each input first, as a model trained on refilled inputs expects (``own_wedge_filled``).

    Returns:
        The scores.
    """

    def predict(input_masked: Tensor) -> Tensor:
        return ladder.restore(ladder.encode(input_masked, R), None)

    return validation_scores_of(predict, (own_wedge_filled(ladder, m) if fill else m for m in measurements))


@torch.no_grad()
def own_wedge_filled(ladder: Ladder, m: Measurement) -> Measurement:
    """Fill the rotated wedge in r's input with the density predicted from that input, plus noise.

    The prediction uses the input from which both wedges are missing, so the hidden bins stay hidden. One wedge remains missing,
    as in a tomogram at test time.
    """
    if m.input_mask is None or m.inverse_rotation is not None:
        raise ValueError("a measurement rotated off the grid found, expected cube rotations")
    restored = ladder.restore(ladder.encode(m.input_masked, R), None)
    white = torch.randn(restored.shape, generator=torch.Generator().manual_seed(1)).to(restored.device)
    noisy = restored + fourier.filtered(white, m.variance.sqrt())
    return replace(m, input_masked=m.input_masked + fourier.filtered(noisy - m.input_masked, (1 - m.mask) * m.input_mask))


@torch.no_grad()
def validation_scores_of(predict: Callable[[Tensor], Tensor], measurements: Iterable[Measurement]) -> ValidationScores:
    """Scores of a function that predicts a density from u, both (batch, z, y, x)."""
    sums = torch.zeros(5, dtype=torch.float64)
    for m in measurements:
        density = predict(m.input_masked)
        if m.inverse_rotation is not None:
            raise ValueError("measurements rotated off the grid found, expected cube rotations")
        support = 1 if m.support is None else m.support
        x, y = fourier.transform(support * density), fourier.transform(support * m.data)
        weight = m.target_mask * fourier.multiplicity(m.data.shape[-3:], x.device) / m.scored_variance
        cross = (x * y.conj()).real
        misfit = (x - y).abs().square()
        terms = (cross, x.abs().square(), y.abs().square(), misfit)
        dtype = fourier.sum_dtype(x.device)
        sums[:4] += torch.stack([(weight * term).sum(dtype=dtype).cpu() for term in terms])
        sums[4] += (m.target_mask * fourier.multiplicity(m.data.shape[-3:], x.device)).sum(dtype=dtype).cpu()
    cross, model, data, misfit, bins = sums.tolist()
    return ValidationScores(
        gain=0.5 * (data - misfit) / max(bins, 1.0),
        correlation=cross / max((model * data) ** 0.5, 1e-30),
        chi2=misfit / max(bins, 1.0),
    )
