"""How well a ladder predicts measured bins that it did not see, and how far the variance of its samples is from its error.

On patches that training left out, two kinds of bins are compared with what was measured:

    target bins   measured bins of a rotated patch that lie in the canonical wedge, and are hidden from the model
    input bins    measured bins, which the model sees with noise added, a = y + n', and which are scored against b = y - n' with
                  other noise. Halves are such a pair; one volume is split likewise, with n' drawn from sigma^2(k)
                  (Recorrupted-to-Recorrupted, Pang et al. 2021)

The fits to the sums over their shells are in variance.py. Single patches do worse than a restoration; blending.py and
second_wedge.py say by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.calibration.blending import tile_disagreement, window
from cryovae.calibration.factors import listed
from cryovae.calibration.figures import PatchSums, held_out_figures, total_of
from cryovae.calibration.hidden_bins import SHELLS, smeared
from cryovae.calibration.second_wedge import second_wedge
from cryovae.calibration.variance import (
    BINS,
    DEPTHS,
    VARIANCE,
    VarianceCalibration,
    blended_measured_sums,
    blended_wedge_sums,
    by_shell,
    fit_depth,
    fit_measured,
    fit_wedge,
    noise_factor,
    one_wedge_factor,
    power_limit,
    sample_variance,
    shells,
)
from cryovae.data.measurement import Measurement
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import held_out
from cryovae.data.validation_split import informative_patches
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.validation import own_wedge_filled, validation_scores
from cryovae.physics.depth import depth
from cryovae.physics.noise import SpectralTable, tabulated
from cryovae.physics.rotation import symmetry_rotations
from cryovae.posterior.tiles import TilePredictor
from cryovae.tiling.grid import Position, cut, inside, levels
from cryovae.tomogram import TiltGeometry

# Single bins that are kept of a patch, for the coverage.
KEPT_BINS = 200_000
# Tiles at once, and patches that show the power of the specimen.
TILES_AT_ONCE, POWER_PATCHES = 2, 16

# Makes two volumes with the same signal and independent noise, each of variance 2 sigma^2, from a random generator.
Split = Callable[[torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class CalibrationResult:
    """What held-out bins say.

    Attributes:
        variance: the fitted tables.
        figures: for the record of a restoration; they need no truth.
    """

    variance: VarianceCalibration
    figures: dict[str, object]


@dataclass(frozen=True)
class _Patches:
    """Held-out patches of one tomogram, and how the model is run on them."""

    ladder: Ladder
    prepared: PreparedTomogram
    side: int
    pairs: int
    generator: torch.Generator
    device: torch.device

    @property
    def tilts(self) -> TiltGeometry:
        return self.prepared.tilts


@torch.no_grad()
def calibrate(
    ladder: Ladder,
    prepared: PreparedTomogram,
    patch: int,
    halves: tuple[Tensor, Tensor] | None,
    split: Split,
    pairs: int = 4,
    seed: int = 0,
    device: torch.device | None = None,
) -> CalibrationResult:
    """Compare what a ladder predicts with what was measured, on the held-out patches of a tomogram.

    A tomogram too small to hold patches out is scored on patches that training saw; the figures then say ``trained_on``.

    Args:
        ladder: the model.
        prepared: the tomogram.
        patch: side of the patches, in voxels.
        halves: (z, y, x) each, standardised like the tomogram, or None.
        split: makes two observations of a tomogram without halves.
        pairs: of samples for each patch.
        seed: of all random numbers.
        device: of the ladder.
    """
    device = device or torch.device("cpu")
    positions = prepared.patches_to_score(patch)
    scored = replace(prepared, held_out=tuple(positions))
    patches = _Patches(ladder, prepared, patch, pairs, torch.Generator().manual_seed(seed), device)
    measurements = [m.to(device) for m in held_out(scored, patch)] if scored.tilts.has_wedge else []
    inputs = _as_in_training(ladder, measurements)
    targets = [_target_sums(patches, m) for m in inputs]
    observations = halves if halves is not None else split(patches.generator)
    measured = [_input_sums(patches, position, observations) for position in positions]
    predictor = TilePredictor(ladder, patch, TILES_AT_ONCE, seed, device, lambda tiles: None)
    middle = _middle(prepared, predictor.side)
    _, disagreement = tile_disagreement(predictor, prepared, observations[0], middle, noise=2.0)
    weight, error, gain = _measured_tables(measured, disagreement)
    figures: dict[str, object] = {}
    scale, variance, amplitude = torch.ones(SHELLS), torch.zeros(SHELLS), torch.ones(SHELLS)
    slope, reference = 0.0, torch.zeros(SHELLS)
    # A wedge thinner than its soft edge in a patch leaves no target bins.
    if any(float(p.sums[BINS].sum()) >= 1 for p in targets):
        power, total = _power(prepared, observations, patch), total_of(targets)
        # The amplitude is that of single patches, for which it is known how far it stands out of noise.
        scale, amplitude = fit_wedge(total, power)
        figures = held_out_figures(targets, (scale, amplitude), power)
        factor = torch.ones(SHELLS)
        # Patches of the training are predicted too well already, and their error is not lowered further.
        if prepared.held_out:
            total = blended_wedge_sums(total, tile_disagreement(predictor, prepared, prepared.density, middle)[0])
            scale, _ = fit_wedge(total, power)
            fill = inputs is not measurements
            extra = second_wedge(ladder, prepared, tuple(positions), patch, window(patch), power, fill, device)
            factor = one_wedge_factor(total, amplitude, extra)
            slope, reference = fit_depth(torch.stack([p.deep for p in targets]).sum(0), scale, amplitude)
        scale, variance = scale * factor, sample_variance(total)
        figures |= {"one_wedge": listed(factor.sqrt()), "amplitude": listed(amplitude), "slope": slope}
    figures |= {"patches": len(positions), "trained_on": not prepared.held_out}
    figures |= {"weight_of_data": listed(weight), "error_given": listed(error)}
    return CalibrationResult(VarianceCalibration(scale, variance, amplitude, slope, reference, weight, error, gain), figures)


def _measured_tables(
    measured: Sequence[tuple[Tensor, Tensor, SpectralTable]], disagreement: Tensor
) -> tuple[Tensor, Tensor, SpectralTable]:
    """w, E / sigma^2 and the noise gain of measured bins, from the sums of all patches."""
    sums, noisier = (
        blended_measured_sums(torch.stack(rows).sum(0), disagreement) for rows in list(zip(*measured, strict=True))[:2]
    )
    weight, error = fit_measured(sums)
    error = error * noise_factor(sums, noisier)
    gain = SpectralTable(torch.stack([noise_gain.table for _, _, noise_gain in measured]).mean(0).clamp(0, 2))
    return weight, error, gain


def _middle(prepared: PreparedTomogram, side: int) -> Position:
    """The informative patch nearest to the middle of a tomogram."""
    patches = informative_patches(prepared.density, side, prepared.region)
    centre = torch.tensor([max(size - side, 0) / 2 for size in prepared.density.shape])
    z, y, x = patches[(patches - centre).square().sum(1).argmin()].tolist()
    return z, y, x


def _power(prepared: PreparedTomogram, observations: tuple[Tensor, Tensor], side: int) -> Tensor:
    """``power_limit`` (SHELLS,) from patches all over two observations."""
    patches = informative_patches(prepared.density, side, prepared.region)
    tables = prepared.orientations
    sums = torch.zeros(2, SHELLS, dtype=torch.float64)
    for z, y, x in patches[:: -(-len(patches) // POWER_PATCHES)].tolist():
        support = window(side) * inside((z, y, x), side, tuple(prepared.density.shape))
        first, second = (cut(volume, (z, y, x), side) for volume in observations)
        a, b = (fourier.transform(support * (tile - tile.mean())) for tile in (first, second))
        noise = smeared(tables.canonical * tables.canonical_variance, support).clamp_min(1e-12)
        weight = (tables.canonical > 0.99) * fourier.multiplicity(first.shape)
        sums += by_shell(torch.stack([weight * (a * b.conj()).real / noise, weight]), shells(fourier.radius(first.shape)))
    return power_limit(*sums)


def _as_in_training(ladder: Ladder, measurements: list[Measurement]) -> list[Measurement]:
    """Inputs with both wedges empty, or with their own filled by the ladder: those that are predicted better, as in training."""
    if not measurements:
        return measurements
    filled = [own_wedge_filled(ladder, m) for m in measurements]
    return max(measurements, filled, key=lambda inputs: validation_scores(ladder, inputs).gain)


def _samples(patches: _Patches, input_masked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run the model on inputs (batch, z, y, x), each pair of samples in another orientation, as in a restoration.

    Returns:
        The mean (batch, z, y, x), and means and half differences of pairs of samples, (pairs, batch, z, y, x) each.
    """
    ladder, rotations = patches.ladder, symmetry_rotations(patches.tilts)
    shapes = ladder.latent_shapes(input_masked.shape[-3:])
    predicted, means, halves = [], [], []
    for pair in range(patches.pairs):
        rotation = rotations[pair % len(rotations)]
        features = ladder.encode(rotation(input_masked), R)
        predicted.append(rotation.inverse(ladder.restore(features, None)))
        noise = [torch.randn((len(input_masked), *s), generator=patches.generator).to(input_masked.device) for s in shapes]
        plus, minus = rotation.inverse(ladder.restore_pair(features, noise))
        means.append((plus + minus) / 2)
        halves.append((plus - minus) / 2)
    return torch.stack(predicted).mean(0).cpu(), torch.stack(means).cpu(), torch.stack(halves).cpu()


def _spectra(predicted: Tensor, means: Tensor, halves: Tensor, mask: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrum of the mean, and the unbiased variance of a sample in each bin, of what ``mask`` leaves within ``support``."""
    spectra = fourier.transform(support * fourier.filtered(means, mask))
    between = (spectra - spectra.mean(0)).abs().square().sum(0) / max(len(means) - 1, 1)
    within = fourier.transform(support * fourier.filtered(halves, mask)).abs().square().mean(0)
    return fourier.transform(support * fourier.filtered(predicted, mask)), within + between


def _target_sums(patches: _Patches, m: Measurement) -> PatchSums:
    """Sums over the target bins of one patch in all its rotations."""
    predicted, means, halves = _samples(patches, m.input_masked)
    m = m.to(torch.device("cpu"))
    shape = m.data.shape[-3:]
    support = window(shape[-1]) if m.support is None else window(shape[-1]) * m.support
    x, variance = _spectra(predicted, means, halves, m.mask, support)
    y = fourier.transform(support * m.data)
    noise = smeared(m.mask * m.variance, support).clamp_min(1e-12)
    weight = m.target_mask * fourier.multiplicity(shape) / noise
    terms = [noise, (x * y.conj()).real, x.abs().square(), y.abs().square(), (y - x).abs().square(), variance]
    shell = shells(fourier.radius(shape))
    deep = _by_depth(torch.stack([weight * term for term in terms]), shell, cast(Tensor, m.input_mask)[0])
    sums = deep.sum(-1)
    # Within a shell of one patch the variance is taken as constant, because a few samples say too little of a single bin.
    smooth = (sums[VARIANCE] / sums[BINS].clamp_min(1)).float()
    index = torch.nonzero((m.target_mask > 0.99) & (shell < SHELLS), as_tuple=True)
    stride = max(-(-len(index[0]) // KEPT_BINS), 1)
    index = tuple(axis[::stride] for axis in index)
    data, model = ((v / noise.sqrt())[index] for v in (y, x))
    shell_of_bin = shell.expand(m.target_mask.shape)[index]
    bins = torch.stack([data.real, data.imag, model.real, model.imag, smooth[shell_of_bin], shell_of_bin.float()])
    return PatchSums(sums, deep, bins)


def _by_depth(terms: Tensor, shell: Tensor, input_mask: Tensor) -> Tensor:
    """Sums (rows, SHELLS, DEPTHS) of terms (rows, batch, z, y, x // 2 + 1) over bins, by shell and by depth in the wedge."""
    layer = depth(input_mask).clamp(max=DEPTHS - 1).long()
    sums = fourier.shell_sums(terms, shell * DEPTHS + layer, (SHELLS + 1) * DEPTHS)
    return sums.unflatten(1, (SHELLS + 1, DEPTHS))[:, :SHELLS]


def _input_sums(
    patches: _Patches, position: Position, observations: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, SpectralTable]:
    """Sums over the input bins of one patch, the same with twice the noise in the input, and the gain of the input's noise."""
    prepared, side = patches.prepared, patches.side
    tables = prepared.orientations
    first, second = (cut(volume, position, side) for volume in observations)
    support = window(side) * inside(position, side, tuple(prepared.density.shape))
    spectrum = tables.canonical * tables.canonical_variance
    noise = 2 * smeared(spectrum, support).clamp_min(1e-12)
    weight = (tables.canonical > 0.99) * fourier.multiplicity(first.shape) / noise
    b, shell = fourier.transform(support * second), shells(fourier.radius(first.shape))
    more = fourier.filtered(torch.randn(first.shape, generator=patches.generator), (2 * spectrum).sqrt())
    sums, gains = [], []
    for tile in (first, first + more):
        level = levels(tile[None])
        input_masked = fourier.filtered(tile[None] - level, tables.input_mask).to(patches.device)
        predicted, means, halves = _samples(patches, input_masked)
        x, variance = _spectra((predicted + level)[0], means[:, 0], halves[:, 0], tables.canonical, support)
        a = fourier.transform(support * tile)
        products = [a * a.conj(), a * b.conj(), b * b.conj(), a * x.conj(), b * x.conj(), x * x.conj()]
        terms = torch.stack([*(weight * p.real for p in products), weight * variance, weight * noise])
        sums.append(by_shell(terms, shell))
        gains.append(((a - b) * x.conj()).real / noise)
    return sums[0], sums[1], tabulated(gains[0], weight * noise, fourier.frequencies(first.shape))
