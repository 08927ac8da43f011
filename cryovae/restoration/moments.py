"""Sums behind the standard deviation of samples and behind the power in the wedge, added up part by part."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

# Width of the Gaussian that smooths the variance of the samples, in voxels, and the planes that it reaches on either side.
SMOOTHING_WIDTH = 1.5
SMOOTHING_REACH = int(4 * SMOOTHING_WIDTH + 0.5)


@dataclass
class SampleMoments:
    """Mean and variance of samples that come in opposite pairs, without the samples.

    Attributes:
        total: sum of the means of the pairs (z, y, x).
        within: sum of the squared half differences of the pairs (z, y, x).
        between: sum of the squared means of the pairs (z, y, x).
        unfiltered: sum of the means of the pairs before any filter (z, y, x).
        pairs: number of pairs in the sums.
    """

    total: Tensor
    within: Tensor
    between: Tensor
    unfiltered: Tensor
    pairs: int = 0

    @classmethod
    def empty(cls, shape: tuple[int, ...], device: torch.device | None = None) -> SampleMoments:
        """Sums of no pairs."""
        total, within, between, unfiltered = (torch.zeros(shape, device=device) for _ in range(4))
        return cls(total, within, between, unfiltered)

    def add(self, plus: Tensor, minus: Tensor, unfiltered: Tensor | None = None) -> None:
        """Add one pair, (z, y, x) each, and the mean of the pair before any filter, if it is asked for later."""
        self.unfiltered += 0.0 if unfiltered is None else unfiltered
        middle = (plus + minus) / 2
        self.total += middle
        self.between += middle.square()
        self.within += ((plus - minus) / 2).square()
        self.pairs += 1

    def mean(self) -> Tensor:
        """Mean of all samples (z, y, x)."""
        return self.total / self.pairs

    def average(self) -> Tensor:
        """Mean of all samples before any filter (z, y, x)."""
        return self.unfiltered / self.pairs

    def variance(self) -> Tensor:
        """Unbiased variance of a sample (z, y, x)."""
        variance = self.within / self.pairs
        if self.pairs > 1:
            variance += (self.between / self.pairs - self.mean().square()).clamp_min(0) * (self.pairs / (self.pairs - 1))
        return variance


def smoothed_std(variance: Tensor) -> Tensor:
    """Root of a variance (z, y, x) smoothed over SMOOTHING_WIDTH, because a few pairs say little of one voxel; on the CPU."""
    smooth = gaussian_filter(variance.cpu().numpy(), SMOOTHING_WIDTH, mode="nearest")
    return torch.from_numpy(smooth).clamp_min(0).sqrt()


class WedgePower:
    """Power of a restored density in the wedge and in the measured bins, summed over parts of its spectrum.

    Args:
        multiplicity: how often each column of the half spectrum counts, (x // 2 + 1,).
    """

    def __init__(self, multiplicity: Tensor) -> None:
        self.multiplicity = multiplicity
        self.inside = self.outside = self.bins_inside = self.bins_outside = self.data = 0.0

    def add(self, frequency: Tensor, mask: Tensor, restored: Tensor, data: Tensor) -> None:
        """Add bins (...) of the spectra of the restored density and the data, at frequencies (3, ...); the mask is 0 or 1."""
        inside = (mask < 0.5) * self.multiplicity
        outside, not_zero = self.multiplicity - inside, ~(frequency == 0).all(0)
        power = restored.abs().square()
        sums = (inside, outside, power * inside, power * outside * not_zero, data.abs().square() * self.multiplicity * not_zero)
        bins_inside, bins_outside, power_inside, power_outside, power_data = (float(s.sum(dtype=torch.float64)) for s in sums)
        self.bins_inside += bins_inside
        self.bins_outside += bins_outside
        self.inside += power_inside
        self.outside += power_outside
        self.data += power_data

    def figures(self) -> dict[str, float]:
        """Power in the wedge over the power in the measured bins, per bin, and over the variance of the data."""
        ratio = (self.inside / max(self.bins_inside, 1)) / max(self.outside / max(self.bins_outside, 1), 1e-30)
        return {"wedge_energy_ratio": ratio, "wedge_power_of_input": self.inside / self.data}
