"""The scores of a row: correlation with the truth by part, shell and cone, error bars, and how sharp its samples are."""

from __future__ import annotations

from typing import Any

import torch
from data import Subject

from cryovae import fourier
from cryovae.evaluation.calibration import calibration_by_part
from cryovae.evaluation.fsc import CONES, angle_to_beam, centred_spectrum, regions
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.steps import Restoration

# The share of the power of a measured bin under which a bin counts as empty.
EMPTY = 1e-9
SHELLS = ((0.01, 0.05), (0.05, 0.1), (0.1, 0.15), (0.15, 0.2), (0.2, 0.3))


def scores(restored: torch.Tensor, subject: Subject) -> dict[str, Any]:
    """Correlation with the truth in the wedge and in the measured part, over the band, by shell, and by cone about the beam."""
    tilts, truth = subject.tomogram.tilts, subject.truth
    wedge, seen = regions((truth.shape[0], truth.shape[1], truth.shape[2]), tilts)
    if subject.known is not None:
        wedge = wedge * (volume_mask(truth.shape, subject.known) == 1)
    radius = fourier.radius(truth.shape)
    cosine = fourier.frequencies(truth.shape)[0].abs() / radius.clamp_min(1e-9)
    x, y = (centred_spectrum(v) for v in (restored, truth))

    power = float((seen * x.abs().square()).sum() / seen.sum())

    def correlation(part: torch.Tensor) -> float:
        terms = torch.stack([(x * y.conj()).real, x.abs().square(), y.abs().square()]).double() * part
        cross, a, b = terms.sum((1, 2, 3))
        # An empty wedge holds what single precision rounded, and that correlates with the truth by chance, be it 0.2 or -0.4.
        if a < EMPTY * part.sum() * power:
            return 0.0
        return float(cross / (a * b).sqrt().clamp_min(1e-30))

    def error(part: torch.Tensor) -> float:
        p, q = part * x.abs().square(), part * y.abs().square()
        return float(((p * q / part.clamp_min(1)).sum() / (p.sum() * q.sum()).clamp_min(1e-30)).sqrt())

    def by_cone(low: float, high: float) -> dict[str, float | None]:
        inside = band * ((off_beam >= low) & (off_beam < high if high < 90 else off_beam <= 90))
        parts = {"wedge": wedge * inside, "measured": seen * inside}
        return {name: correlation(part) if part.any() else None for name, part in parts.items()}

    off_beam = angle_to_beam((truth.shape[0], truth.shape[1], truth.shape[2]))
    band = ((radius > 0.01) & (radius < 0.2)).float()
    cone = (cosine > 3**0.5 / 2).float()
    return {
        "wedge": correlation(wedge * band),
        "measured": correlation(seen * band),
        "wedge_by_shell": [correlation(wedge * ((radius > low) & (radius <= high))) for low, high in SHELLS],
        "measured_by_shell": [correlation(seen * ((radius > low) & (radius <= high))) for low, high in SHELLS],
        "cones": {f"{low:g}-{high:g}": by_cone(low, high) for low, high in CONES},
        "cone_30": correlation(wedge * band * cone),
        "wedge_outside_cone_30": correlation(wedge * band * (1 - cone)),
        # Of two densities that have nothing in common: strong bins are few, and decide.
        "wedge_standard_error": error(wedge * band),
        "cone_standard_error": error(wedge * band * cone),
    }


def sharpness(one: torch.Tensor, mean: torch.Tensor, subject: Subject) -> list[float]:
    """Power of one sample in the wedge over that of the truth, by shell; the truth on the grey scale of what was measured."""
    truth = subject.truth
    wedge, seen = regions((truth.shape[0], truth.shape[1], truth.shape[2]), subject.tomogram.tilts)
    radius = fourier.radius(truth.shape)
    x, s, y = (centred_spectrum(v) for v in (mean, one, truth))
    band = seen * ((radius > 0.01) & (radius < 0.2))
    scale = float(((x * y.conj()).real * band).sum() / (y.abs().square() * band).sum().clamp_min(1e-30))
    ratios = []
    for low, high in SHELLS:
        part = wedge * ((radius > low) & (radius <= high))
        power = scale**2 * float((y.abs().square() * part).sum())
        ratios.append(float((s.abs().square() * part).sum()) / max(power, 1e-30))
    return ratios


def calibrated(restoration: Restoration, subject: Subject) -> dict[str, Any]:
    """Error over standard deviation, and coverage: in all and by part."""
    parts = calibration_by_part(restoration.mean, restoration.std, subject.truth, subject.tomogram.tilts, restoration.samples)
    return {
        name: {"rms_over_std": part.error_ratio, "coverage": {f"{k:g}": v for k, v in part.coverage.items()}}
        for name, part in parts.items()
        if part is not None
    }
