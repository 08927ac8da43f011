"""What is summed over the parts of a restoration: the moments of its samples, and the powers of its spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.io.stored import Stored


class Added:
    """Two volumes in files as one, a + sign b, read by the box."""

    def __init__(self, first: Stored, second: Stored, sign: float) -> None:
        self.first, self.second, self.sign, self.shape = first, second, sign, first.shape

    def __getitem__(self, key: Any) -> np.ndarray:
        found: np.ndarray = self.first[key] + np.float32(self.sign) * self.second[key]
        return found


class Sums:
    """``SampleMoments`` of one slab, in a file that is written anew with every pair: it holds whole pairs only."""

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / f"sums_{start:05d}.npz"

    def add(self, pair: int, plus: Tensor, minus: Tensor) -> None:
        """Take in pair number ``pair``, (z, y, x) each, unless it is in already."""
        zero = torch.zeros_like(plus)
        pairs, total, within, between = self._read() if pair else (0, zero, zero.clone(), zero.clone())
        if pairs > pair:
            return
        middle = (plus + minus) / 2
        total += middle
        within += ((plus - minus) / 2).square_()
        between += middle.square_()
        beside = self.path.with_suffix(".part.npz")
        np.savez(beside, pairs=pairs + 1, total=total.numpy(), within=within.numpy(), between=between.numpy())
        beside.replace(self.path)

    def mean(self) -> Tensor:
        """Of all pairs."""
        pairs, total, _, _ = self._read()
        return total / pairs

    def variance(self) -> Tensor:
        """Unbiased, not smoothed."""
        pairs, total, within, between = self._read()
        found = within / pairs
        if pairs > 1:
            found += (between / pairs - (total / pairs).square()).clamp_min(0) * (pairs / (pairs - 1))
        return found

    def _read(self) -> tuple[int, Tensor, Tensor, Tensor]:
        with np.load(self.path) as found:
            total, within, between = (torch.from_numpy(found[name]) for name in ("total", "within", "between"))
            return int(found["pairs"]), total, within, between


class Powers:
    """The sums behind ``restore.wedge_figures``, over parts of the spectra of the restored density and the data."""

    def __init__(self, multiplicity: Tensor) -> None:
        self.multiplicity = multiplicity
        self.inside = self.outside = self.bins_in = self.bins_out = self.data = 0.0

    def add(self, frequency: Tensor, mask: Tensor, restored: Tensor, data: Tensor) -> None:
        """Take in bins at frequencies (3, ...)."""
        hidden = (mask < 0.5) * self.multiplicity
        rest, middle = self.multiplicity - hidden, (frequency == 0).all(0)
        power = restored.abs().square()
        self.bins_in += float(hidden.double().sum())
        self.bins_out += float(rest.double().sum())
        self.inside += float((power * hidden).double().sum())
        self.outside += float((power * rest * ~middle).double().sum())
        self.data += float((data.abs().square() * self.multiplicity * ~middle).double().sum())

    def figures(self) -> dict[str, float]:
        """Power in the wedge over that in measured bins, per bin, and over the data's variance."""
        ratio = (self.inside / max(self.bins_in, 1)) / max(self.outside / max(self.bins_out, 1), 1e-30)
        return {"wedge_energy_ratio": ratio, "wedge_power_of_input": self.inside / self.data}
