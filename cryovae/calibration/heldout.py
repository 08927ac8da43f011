"""How well a trained ladder foretells what it was not given, and how far its own spread is from its error.

Two things are kept from the partial encoder, on patches that training left out, and compared with what was measured:

    hidden   the measured bins of a turned patch that lie in the canonical wedge
    given    measured bins, seen with noise added, a = y + n', and scored against b = y - n', whose noise is another: halves are
             such a pair, and with n' drawn from sigma^2(k) one volume is split likewise (Recorrupted-to-Recorrupted, Pang 2021)

What follows from the sums over their shells is in spread.py; by what a single patch does worse than a restoration, in blending.py
and second_wedge.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.blending import smeared, tile_disagreement, window
from cryovae.calibration.second_wedge import second_wedge
from cryovae.calibration.variance import (
    BINS,
    CROSS,
    DATA,
    DEPTHS,
    MODEL,
    SHELLS,
    VARIANCE,
    VarianceCalibration,
    by_shell,
    fit_depth,
    fit_given,
    fit_hidden,
    gained,
    given_blended,
    hidden_blended,
    missed_power,
    one_wedge,
    power_of,
    shells,
    variance_of,
)
from cryovae.data.measurement import Measurement
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import held_out
from cryovae.data.validation_split import held_out_patches, informative_patches, shown_patches
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.validation import own_wedge_filled, validation_scores
from cryovae.physics.depth import depth
from cryovae.physics.noise import SpectralTable, tabulated
from cryovae.physics.rotation import symmetry_rotations
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.grid import Position, cut, inside, levels
from cryovae.tomogram import TiltGeometry

NOMINAL = (0.5, 0.8, 0.9, 0.95)
BAND = (0.01, 0.2)
KEPT_BINS = 200_000
# Tiles at once, and patches that show the power of a specimen.
BATCH, POWER_PATCHES = 2, 16

# A specimen and a source of random numbers to two volumes of one signal, their noises independent, each of variance 2 sigma^2.
Split = Callable[[PreparedTomogram, torch.Generator], tuple[Tensor, Tensor]]


@dataclass
class _Patch:
    """Sums over the hidden bins of one held-out patch in all its turns, (rows, SHELLS), over sigma^2; by depth in the wedge as
    well, (rows, SHELLS, DEPTHS); and some single bins.
    """

    sums: Tensor
    deep: Tensor
    bins: Tensor


@dataclass(frozen=True)
class CalibrationResult:
    """The fitted spread, and the figures of a restoration's record, which need no truth."""

    spread: VarianceCalibration
    figures: dict[str, object]


@torch.no_grad()
def calibrate(
    ladder: Ladder,
    prepared: PreparedTomogram,
    patch: int,
    halves: tuple[Tensor, Tensor] | None,
    pairs: int = 4,
    seed: int = 0,
    device: torch.device | None = None,
    split: Split | None = None,
) -> CalibrationResult:
    """Compare what a ladder foretells with what was measured, on the held-out patches of a specimen.

    A specimen too small to hold patches out is scored on patches that training saw, all over it: ``trained_on`` in the figures
    says so.
    halves: (z, y, x) each, standardised like the specimen, or None to split its own noise; split: how, or None for in memory.
    """
    device = device or torch.device("cpu")
    trained_on = not prepared.held_out
    positions = prepared.held_out or held_out_patches(prepared.density, patch) or shown_patches(prepared.density, patch)
    scored = replace(prepared, held_out=tuple(positions))
    generator = torch.Generator().manual_seed(seed)
    measurements = [m.to(device) for m in held_out(scored, patch)] if scored.tilts.has_wedge else []
    filled = _as_in_training(ladder, measurements)
    patches = [_hidden(ladder, m, prepared.tilts, pairs, generator) for m in filled]
    if not any(float(p.sums[BINS].sum()) >= 1 for p in patches):
        # A wedge thinner than its soft edge in a patch: there are no bins of which nothing was given.
        patches = []
    two = halves if halves is not None else (split or _split)(prepared, generator)
    given = [_given(ladder, prepared, p, patch, two, pairs, generator, device) for p in positions]
    predictor = TilePredictor(ladder, patch, BATCH, seed, device, lambda tiles: None)
    middle = _middle(prepared, predictor.side)
    _, seen = tile_disagreement(predictor, prepared, two[0], middle, noise=2.0)
    sums = given_blended(torch.stack([sums for sums, _, _ in given]).sum(0), seen)
    noisier = given_blended(torch.stack([sums for _, sums, _ in given]).sum(0), seen)
    weight, error = fit_given(sums)
    error = error * gained(sums, noisier)
    copied = SpectralTable(torch.stack([own.table for _, _, own in given]).mean(0).clamp(0, 2))
    figures: dict[str, object] = {}
    hidden, reference, amplitude = torch.ones(SHELLS), torch.zeros(SHELLS), torch.ones(SHELLS)
    slope, core = 0.0, torch.zeros(SHELLS)
    if patches:
        power = _power(prepared, two, patch)
        total: Tensor = sum(p.sums for p in patches)  # type: ignore[assignment]
        # The amplitude is that of single patches: how far it stands out of noise is known of those.
        hidden, amplitude = fit_hidden(total, power)
        figures = _figures(patches, (hidden, amplitude), power)
        # What was trained on is foretold too well already: nothing is taken off that.
        fewer = torch.ones(SHELLS)
        if not trained_on:
            total = hidden_blended(total, tile_disagreement(predictor, prepared, prepared.density, middle)[0])
            hidden, _ = fit_hidden(total, power)
            fill = filled is not measurements
            extra = second_wedge(ladder, prepared, tuple(positions), patch, window(patch), power, fill, device)
            fewer = one_wedge(total, amplitude, extra)
            slope, core = fit_depth(torch.stack([p.deep for p in patches]).sum(0), hidden, amplitude)
        hidden, reference = hidden * fewer, variance_of(total)
        figures |= {"one_wedge": _listed(fewer.sqrt()), "amplitude": _listed(amplitude), "slope": slope}
    figures |= {"patches": len(positions), "trained_on": trained_on}
    figures |= {"weight_of_data": _listed(weight), "error_given": _listed(error)}
    return CalibrationResult(VarianceCalibration(hidden, reference, amplitude, slope, core, weight, error, copied), figures)


def _middle(prepared: PreparedTomogram, side: int) -> Position:
    """The patch nearest to the middle of a tomogram that shows some of its specimen."""
    found = informative_patches(prepared.density, side)
    centre = torch.tensor([max(size - side, 0) / 2 for size in prepared.density.shape])
    z, y, x = found[(found - centre).square().sum(1).argmin()].tolist()
    return z, y, x


def _power(prepared: PreparedTomogram, two: tuple[Tensor, Tensor], side: int) -> Tensor:
    """The most that the specimen's power may be, by shell, over sigma^2, from patches all over two observations: (SHELLS,)."""
    found = informative_patches(prepared.density, side)
    tables = prepared.orientations
    sums = torch.zeros(2, SHELLS, dtype=torch.float64)
    for z, y, x in found[:: -(-len(found) // POWER_PATCHES)].tolist():
        support = window(side) * inside((z, y, x), side, tuple(prepared.density.shape))
        first, second = (cut(volume, (z, y, x), side) for volume in two)
        a, b = (fourier.transform(support * (tile - tile.mean())) for tile in (first, second))
        noise = smeared(tables.canonical * tables.canonical_variance, support).clamp_min(1e-12)
        weight = (tables.canonical > 0.99) * fourier.multiplicity(first.shape)
        sums += by_shell(torch.stack([weight * (a * b.conj()).real / noise, weight]), shells(fourier.radius(first.shape)))
    return power_of(*sums)


def _samples(
    ladder: Ladder, partial: Tensor, tilts: TiltGeometry, pairs: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The answer and opposite pairs of samples for inputs (batch, z, y, x), each in another orientation, as in a restoration.

    Returns the answer (batch, z, y, x), the pairs' means (pairs, batch, z, y, x) and half differences, likewise.
    """
    rotation_indices = symmetry_rotations(tilts)
    shapes = ladder.latent_shapes(partial.shape[-3:])
    answers, means, halves = [], [], []
    for pair in range(pairs):
        rotation = rotation_indices[pair % len(rotation_indices)]
        features = ladder.encode(rotation(partial), R)
        answers.append(rotation.inverse(ladder.restore(features, None)))
        noise = [torch.randn((len(partial), *s), generator=generator).to(partial.device) for s in shapes]
        plus, minus = rotation.inverse(ladder.restore_pair(features, noise))
        means.append((plus + minus) / 2)
        halves.append((plus - minus) / 2)
    return torch.stack(answers).mean(0).cpu(), torch.stack(means).cpu(), torch.stack(halves).cpu()


def _moments(answer: Tensor, means: Tensor, halves: Tensor, mask: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrum of the answer, and the unbiased variance of a sample in each bin, from pairs' means and half differences.

    Of what ``mask`` leaves of each density, within ``support``.
    """
    spectra = fourier.transform(support * fourier.filtered(means, mask))
    between = (spectra - spectra.mean(0)).abs().square().sum(0) / max(len(means) - 1, 1)
    within = fourier.transform(support * fourier.filtered(halves, mask)).abs().square().mean(0)
    return fourier.transform(support * fourier.filtered(answer, mask)), within + between


def _as_in_training(ladder: Ladder, measurements: list[Measurement]) -> list[Measurement]:
    """Inputs with both wedges empty, or with their own filled by the ladder, whichever it was trained on: it does better."""
    if not measurements:
        return []
    filled = [own_wedge_filled(ladder, m) for m in measurements]
    return max(measurements, filled, key=lambda inputs: validation_scores(ladder, inputs).gain)


def _hidden(ladder: Ladder, m: Measurement, tilts: TiltGeometry, pairs: int, generator: torch.Generator) -> _Patch:
    answer, means, halves = _samples(ladder, m.input_masked, tilts, pairs, generator)
    m = m.to(torch.device("cpu"))
    shape = m.data.shape[-3:]
    support = window(shape[-1]) if m.support is None else window(shape[-1]) * m.support
    x, variance = _moments(answer, means, halves, m.mask, support)
    y = fourier.transform(support * m.data)
    noise = smeared(m.mask * m.variance, support).clamp_min(1e-12)
    weight = m.target_mask * fourier.multiplicity(shape) / noise
    terms = torch.stack(
        [
            weight * noise,
            weight * (x * y.conj()).real,
            weight * x.abs().square(),
            weight * y.abs().square(),
            weight * (y - x).abs().square(),
            weight * variance,
        ]
    )
    shell = shells(fourier.radius(shape))
    deep = _by_depth(terms, shell, cast(Tensor, m.input_mask)[0])
    sums = deep.sum(-1)
    # Within a shell of one patch the variance is taken as one: of a single bin a few samples know too little.
    smooth = (sums[VARIANCE] / sums[BINS].clamp_min(1)).float()
    chosen = torch.nonzero((m.target_mask > 0.99) & (shell < SHELLS), as_tuple=True)
    stride = max(-(-len(chosen[0]) // KEPT_BINS), 1)
    chosen = tuple(index[::stride] for index in chosen)
    data, model = ((v / noise.sqrt())[chosen] for v in (y, x))
    where = shell.expand(m.target_mask.shape)[chosen]
    return _Patch(sums, deep, torch.stack([data.real, data.imag, model.real, model.imag, smooth[where], where.float()]))


def _by_depth(terms: Tensor, shell: Tensor, given: Tensor) -> Tensor:
    """Sums (rows, SHELLS, DEPTHS) of terms (rows, batch, z, y, x // 2 + 1) over bins, by shell and by depth in the wedge."""
    layer = depth(given).clamp(max=DEPTHS - 1).long()
    sums = fourier.shell_sums(terms, shell * DEPTHS + layer, (SHELLS + 1) * DEPTHS)
    return sums.unflatten(1, (SHELLS + 1, DEPTHS))[:, :SHELLS]


def _split(prepared: PreparedTomogram, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two volumes of one signal whose noises are independent, each of variance 2 sigma^2."""
    density = prepared.density
    white = torch.randn(density.shape, generator=generator)
    k = fourier.frequencies(density.shape)
    noise = fourier.filtered(white, prepared.noise(k).sqrt() * volume_mask(density.shape, prepared.tilts))
    return density + noise, density - noise


def _given(
    ladder: Ladder,
    prepared: PreparedTomogram,
    position: Position,
    side: int,
    split: tuple[Tensor, Tensor],
    pairs: int,
    generator: torch.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor, SpectralTable]:
    """Sums over the shells of one patch; the same with as much noise again in what is given; and by how much the answer moves
    with the noise of what was given.
    """
    tables = prepared.orientations
    first, second = (cut(volume, position, side) for volume in split)
    support = window(side) * inside(position, side, tuple(prepared.density.shape))
    spectrum = tables.canonical * tables.canonical_variance
    noise = 2 * smeared(spectrum, support).clamp_min(1e-12)
    weight = (tables.canonical > 0.99) * fourier.multiplicity(first.shape) / noise
    b, shell = fourier.transform(support * second), shells(fourier.radius(first.shape))
    more = fourier.filtered(torch.randn(first.shape, generator=generator), (2 * spectrum).sqrt())
    found = []
    for tile in (first, first + more):
        level = levels(tile[None])
        given = fourier.filtered(tile[None] - level, tables.input_mask).to(device)
        answer, means, halves = _samples(ladder, given, prepared.tilts, pairs, generator)
        x, variance = _moments((answer + level)[0], means[:, 0], halves[:, 0], tables.canonical, support)
        a = fourier.transform(support * tile)
        products = [a * a.conj(), a * b.conj(), b * b.conj(), a * x.conj(), b * x.conj(), x * x.conj()]
        terms = torch.stack([*(weight * p.real for p in products), weight * variance, weight * noise])
        found.append((by_shell(terms, shell), ((a - b) * x.conj()).real / noise))
    copied = tabulated(found[0][1], weight * noise, fourier.frequencies(first.shape))
    return found[0][0], found[1][0], copied


def _figures(patches: list[_Patch], fitted: tuple[Tensor, Tensor], power: Tensor) -> dict[str, object]:
    """Held-out figures; how well the widened spread fits is computed on patches that its fit left out, if there are two."""
    total: Tensor = sum(p.sums for p in patches)  # type: ignore[assignment]
    folds = [patches[0::2], patches[1::2]] if len(patches) > 1 else [patches, patches]
    chi2_up, chi2_down = torch.zeros(SHELLS, dtype=torch.float64), torch.zeros(SHELLS, dtype=torch.float64)
    covered, error, spread = [], 0.0, 0.0
    radius = VarianceCalibration.frequency()
    band = (radius > BAND[0]) & (radius < BAND[1])
    for number, fold in enumerate(folds[: 2 if len(patches) > 1 else 1]):
        other: Tensor = sum(p.sums for p in folds[1 - number])  # type: ignore[assignment]
        c2, amplitude = (table.double() for table in fit_hidden(other, power))
        for p in fold:
            missed = missed_power(p.sums, amplitude)
            chi2_up += missed + p.sums[BINS]
            chi2_down += p.sums[BINS] + c2 * p.sums[VARIANCE]
            error += float(missed[band].sum())
            spread += float((c2 * p.sums[VARIANCE])[band].sum())
            covered.append(_covered(p.bins, c2.float(), amplitude.float(), band))
    share = np.concatenate(covered)
    power = (total[DATA] - total[BINS]).clamp_min(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        fsc = total[CROSS] / (total[MODEL] * total[DATA]).sqrt()
        ceiling = (power / total[DATA]).sqrt()
    banded = total[:, band].sum(1)
    return {
        "frequency": _listed(radius),
        "fsc": _listed(fsc),
        "ceiling": _listed(ceiling),
        "correlation": float(banded[CROSS] / (banded[MODEL] * banded[DATA]).sqrt()),
        "correlation_ceiling": float((banded[DATA] - banded[BINS]).clamp_min(0).div(banded[DATA]).sqrt()),
        "chi2": _listed(chi2_up / chi2_down),
        "chi2_band": float(chi2_up[band].sum() / chi2_down[band].sum()),
        "factor_two": 1 + spread / error if error > 0 else None,
        "rms_over_std": (error / spread) ** 0.5 if error > 0 and spread > 0 else None,
        "coverage": {f"{level:g}": float((share < norm.ppf(0.5 + level / 2)).mean()) for level in NOMINAL},
        "spread_factor": _listed(fitted[0].sqrt()),
        "amplitude": _listed(fitted[1]),
        "bins": int(total[BINS].sum()),
    }


def _covered(bins: Tensor, c2: Tensor, amplitude: Tensor, band: Tensor) -> np.ndarray:
    """|residual| over its predicted standard deviation, real and imaginary parts of bins in the band."""
    shell = bins[5].long()
    inside = band[shell]
    deviation = ((1 + c2[shell] * bins[4]) / 2).sqrt()
    residual = (bins[0:2] - amplitude[shell] * bins[2:4]).abs()
    return np.asarray((residual / deviation)[:, inside].flatten().numpy())


def _listed(values: Tensor) -> list[float | None]:
    return [float(v) if torch.isfinite(v) else None for v in values]
