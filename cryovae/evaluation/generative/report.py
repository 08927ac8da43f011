"""All measures of a generative model on simulated scenes that it was not trained on, and on the data patches of a tomogram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import PreparedTomogram, drawn_position
from cryovae.data.sampling import step_generator
from cryovae.evaluation.generative.classifier import Separation, separation
from cryovae.evaluation.generative.evidence import Evidence, clean_evidence, noisy_evidence, spectrum_of
from cryovae.evaluation.generative.patch_posterior import PosteriorMeasures, posterior_measures
from cryovae.evaluation.generative.prior import (
    Moments,
    PriorMeasures,
    gaussian_field,
    low_passed,
    moments,
    nearest,
    prior_measures,
)
from cryovae.physics.rotation import cube_rotations
from cryovae.physics.wedge import patch_mask
from cryovae.posterior.patch_sampler import PatchSampler, observed_patches
from cryovae.ranges import MAX_SEED, Range, check_fields
from cryovae.simulation.patches import Pairs
from cryovae.tiling.grid import cut

Watcher = Callable[[str, int, int], None]


@dataclass(frozen=True)
class GenerativeMeasureConfig:
    """How many patches and draws the measures use.

    Attributes:
        patches: data patches and draws of the prior.
        posterior_patches: patches whose posterior is sampled.
        samples: samples of each.
        evidence_patches: patches whose evidence is bounded.
        evidence_draws: draws of the latents of each.
        training_patches: patches of training scenes among which the nearest of each draw are looked for.
        seed: of all random numbers.
    """

    patches: Annotated[int, Range(8, 10**5)] = 256
    posterior_patches: Annotated[int, Range(1, 10**5)] = 48
    samples: Annotated[int, Range(2, 10**4)] = 16
    evidence_patches: Annotated[int, Range(1, 10**5)] = 16
    evidence_draws: Annotated[int, Range(1, 10**4)] = 4
    training_patches: Annotated[int, Range(1, 10**6)] = 2000
    seed: Annotated[int, Range(0, MAX_SEED)] = 0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class SimulatedMeasures:
    """Measures on simulated scenes.

    Attributes:
        prior: of the draws.
        gaussian: of Gaussian fields of the same spectrum, the null.
        white_latents: of N(0, I) latents through the same decoder: what the VAE draws without the flow.
        data: moments of the data patches.
        nearest_of_data: largest correlations of the data patches with training patches.
        evidence: of clean patches.
        posterior: of patches, 'wedge' and 'measured'.
    """

    prior: PriorMeasures
    gaussian: PriorMeasures
    white_latents: PriorMeasures
    data: Moments
    nearest_of_data: tuple[float, ...]
    evidence: Evidence
    posterior: dict[str, PosteriorMeasures]


@dataclass(frozen=True)
class DataMeasures:
    """Measures on the patches of a tomogram.

    Attributes:
        separation: of its patches and of draws that were rotated, cut by the wedge and made noisy.
        gaussian_separation: of its patches and of Gaussian fields treated in the same way.
        evidence: of the measured bins of its patches.
    """

    separation: Separation
    gaussian_separation: Separation
    evidence: Evidence


@dataclass(frozen=True)
class Drawn:
    """Patches to look at, (n, z, y, x) each, in standard deviations of the signal."""

    data: Tensor = field(repr=False)
    draws: Tensor = field(repr=False)
    gaussian: Tensor = field(repr=False)


def measure_on_scenes(
    sampler: PatchSampler,
    held_out: Pairs,
    masks: Tensor,
    training: Tensor,
    config: GenerativeMeasureConfig,
    watch: Watcher = lambda what, done, total: None,
) -> tuple[SimulatedMeasures, Drawn]:
    """All measures on simulated scenes.

    Args:
        sampler: the model.
        held_out: pairs of scenes that were not trained on, at least ``config.patches``.
        masks: M of each pair, (n, z, y, x // 2 + 1).
        training: clean patches of training scenes, (k, z, y, x).
        config: numbers of patches and draws.
        watch: called with what is done, the parts done and their number.
    """
    clean = held_out.clean[: config.patches]
    scenes = held_out.scenes[: config.patches]
    side = clean.shape[-1]
    draws = sampler.decoded(
        sampler.prior(side, config.patches, config.seed, watch=lambda done, total: watch("draws of the prior", done, total))
    )
    null = gaussian_field(clean, config.patches, config.seed)
    white = sampler.decoded(sampler.noise(side, config.patches, config.seed + 1))
    watch("classifiers", 0, 3)
    prior = prior_measures(clean, draws, config.seed, scenes, training)
    watch("classifiers", 1, 3)
    gaussian = prior_measures(clean, null, config.seed, scenes)
    watch("classifiers", 2, 3)
    of_white = prior_measures(clean, white, config.seed, scenes)
    watch("classifiers", 3, 3)
    evidence = clean_evidence(
        sampler,
        clean[_spread(len(clean), config.evidence_patches)],
        spectrum_of(training),
        config.evidence_draws,
        config.seed,
        lambda done, total: watch("evidence of clean patches", done, total),
    )
    # A model that was fitted to a tomogram needs the estimate of its network, which knows no scenes.
    needs_estimate = bool(sampler.generator.config.flow.estimates)
    posterior = {} if needs_estimate else measure_posterior(sampler, held_out, masks, config, watch)
    measures = SimulatedMeasures(
        prior, gaussian, of_white, moments(low_passed(clean)), tuple(nearest(clean, training).tolist()), evidence, posterior
    )
    return measures, Drawn(clean, draws, null)


def measure_posterior(
    sampler: PatchSampler,
    held_out: Pairs,
    masks: Tensor,
    config: GenerativeMeasureConfig,
    watch: Watcher = lambda what, done, total: None,
) -> dict[str, PosteriorMeasures]:
    """The posterior of pairs beside the truth; arguments as for ``measure_on_scenes``."""
    index = _spread(len(held_out), config.posterior_patches)
    some = held_out.rows(index)
    latents = sampler.posterior(
        some.observation, config.samples, config.seed, lambda done, total: watch("posterior samples", done, total)
    )
    return posterior_measures(some.clean, sampler.decoded(latents), masks[index], sampler.predicted(some.observation))


def measure_on_tomogram(
    sampler: PatchSampler,
    prepared: PreparedTomogram,
    spectrum: Tensor,
    side: int,
    config: GenerativeMeasureConfig,
    watch: Watcher = lambda what, done, total: None,
    estimate: Tensor | None = None,
) -> DataMeasures:
    """Measures on the patches of a tomogram.

    Args:
        sampler: the model.
        prepared: the tomogram.
        spectrum: of the Gaussian that the evidence is compared with, (z, y, x // 2 + 1), in units of the signal's variance.
        side: of a patch in voxels.
        config: numbers of patches and draws.
        watch: called with what is done, the parts done and their number.
        estimate: of the density by the network that the model was fitted with, (z, y, x), standardised, or None.
    """
    rng = step_generator(config.seed, 18)
    positions = [drawn_position(prepared, side, rng) for _ in range(config.patches)]
    patches = observed_patches(prepared, positions, side)
    observation = patches.observation
    if estimate is not None:
        estimates = torch.stack([cut(estimate, position, side) for position in positions]) / patches.scale
        observation = replace(observation, estimate=estimates)
    k = fourier.frequencies((side,) * 3)
    mask = patch_mask((side,) * 3, prepared.tilts)
    variance = prepared.noise.scaled(patches.scale**-2)(k)
    # An even number: the classifier then has all octants of a draw in one half.
    wide, count = 2 * side, 2 * -(-config.patches // 16)
    draws = sampler.decoded(
        sampler.prior(wide, count, config.seed, watch=lambda done, total: watch("draws of the prior", done, total))
    )
    data = patches.observation.data
    null = fourier.filtered(torch.randn(draws.shape, generator=rng), of_shells(spectrum, wide).sqrt())

    def measured(density: Tensor) -> Tensor:
        mask_of_wide = patch_mask((wide,) * 3, prepared.tilts)
        variance_of_wide = prepared.noise.scaled(patches.scale**-2)(fourier.frequencies((wide,) * 3))
        return octants(as_measured(density, mask_of_wide, variance_of_wide, rng))[: config.patches]

    watch("classifiers", 0, 2)
    of_draws = separation(data, measured(draws), config.seed)
    watch("classifiers", 1, 2)
    of_null = separation(data, measured(null), config.seed)
    watch("classifiers", 2, 2)
    evidence = noisy_evidence(
        sampler,
        observation.rows(slice(0, config.evidence_patches)),
        mask,
        variance,
        spectrum,
        config.evidence_draws,
        config.seed,
        lambda done, total: watch("evidence of measured patches", done, total),
    )
    return DataMeasures(of_draws, of_null, evidence)


def as_measured(density: Tensor, mask: Tensor, variance: Tensor, rng: torch.Generator) -> Tensor:
    """Densities (n, z, y, x), rotated at random, cut by the wedge ``mask`` and with noise of ``variance`` added."""
    indices = torch.randint(24, (len(density),), generator=rng).tolist()
    rotated = torch.stack([cube_rotations()[index](patch) for index, patch in zip(indices, density, strict=True)])
    white = torch.randn(density.shape, generator=rng)
    return fourier.filtered(rotated, mask) + fourier.filtered(white, mask * variance.sqrt())


def octants(density: Tensor) -> Tensor:
    """The eight octants (8 n, s, s, s) of cubes (n, 2 s, 2 s, 2 s).

    Cutting smears measured bins into the wedge, in a patch of a tomogram as in an octant.
    """
    for axis in (1, 2, 3):
        density = torch.cat(density.chunk(2, axis))
    return density


def of_shells(spectrum: Tensor, side: int) -> Tensor:
    """A power that depends on |k| alone, (s, s, s // 2 + 1), at the frequencies of cubes of ``side`` voxels."""
    own = spectrum.shape[0]
    shell = (fourier.radius((own,) * 3) * own).round().long()
    table = torch.zeros(int(shell.max()) + 1).scatter_(0, shell.flatten(), spectrum.flatten())
    return table[(fourier.radius((side,) * 3) * own).round().long().clamp(max=len(table) - 1)]


def _spread(size: int, count: int) -> Tensor:
    """Indices of ``count`` of ``size`` patches, evenly spread over the scenes."""
    return torch.linspace(0, size - 1, min(count, size)).round().long().unique()
