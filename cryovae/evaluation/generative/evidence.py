"""The evidence of patches under the generative model, beyond that of a Gaussian of the same spectrum, in nats a coefficient.

    clean    y = x + n,  n white of variance v            log p(y) >= E_q log N( y; G(z), 2 v ) + log p(z) - log q(z | x)
    noisy    y = M (x + n), n of spectrum sigma^2(k)      log p(y) >= E_q log N( y; G(z), sigma^2 + v ) + log p(z) - log q(z | y)

p(z) is the density of the flow without a condition. q is that of the VAE's encoder for clean patches, and that of the flow with
the condition for noisy ones. A clean patch has no power at high frequency, where any density would be infinite, so it is scored
with white noise as strong as the model variance v, and so is the Gaussian. The importance-weighted bound averages the weights of
K draws (Burda et al. 2016): it is never below the ELBO on average.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.models.flow_ode import LogDensity, log_density
from cryovae.models.latent_flow import Context
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.physics.observation import Observation
from cryovae.posterior.patch_sampler import PatchSampler

Watcher = Callable[[int, int], None]


@dataclass(frozen=True)
class Evidence:
    """Mean over patches and its standard error, all in nats a scored coefficient.

    Attributes:
        elbo: of the model.
        weighted: importance-weighted bound of the same draws.
        gaussian: log-likelihood of the Gaussian.
        gain: ``elbo`` less ``gaussian``.
        gain_error: standard error of ``gain`` over patches.
        weighted_gain: ``weighted`` less ``gaussian``.
        trace_error: standard error of the log-densities from their trace estimates, root mean square.
        kl: log q - log p.
        effective: effective number of draws by their importance weights, a mean over patches, 1 to ``draws``.
        draws: of each patch.
    """

    elbo: float
    weighted: float
    gaussian: float
    gain: float
    gain_error: float
    weighted_gain: float
    trace_error: float
    kl: float
    effective: float
    draws: int


def spectrum_of(clean: Tensor) -> Tensor:
    """Mean power (z, y, x // 2 + 1) of clean patches (n, z, y, x) by shell: the Gaussian that the model is compared with."""
    shape = clean.shape[-3:]
    shell = (fourier.radius(shape) * min(shape)).round().long()
    weight = fourier.multiplicity(shape).expand(shell.shape)
    power = fourier.transform(clean).abs().square().double().mean(0)
    sums = fourier.shell_sums(torch.stack((power * weight, weight)), shell, int(shell.max()) + 1)
    return (sums[0] / sums[1].clamp_min(1e-12)).float()[shell]


def clean_evidence(
    sampler: PatchSampler, clean: Tensor, spectrum: Tensor, draws: int = 4, seed: int = 0, watch: Watcher = lambda a, b: None
) -> Evidence:
    """Evidence of clean patches (n, z, y, x), seen with white noise of the model variance.

    Args:
        sampler: the model.
        clean: the patches.
        spectrum: of the Gaussian, (z, y, x // 2 + 1).
        draws: of the latents of each patch.
        seed: of all random numbers.
        watch: called with the patches done and their number.
    """
    variance = sampler.generator.vae.config.model_variance
    rng = torch.Generator().manual_seed(seed)
    noisy = clean + variance**0.5 * torch.randn(clean.shape, generator=rng)
    mask = fourier.below_nyquist(clean.shape[-3:]).expand(len(clean), -1, -1, -1)
    flow = sampler.generator.flow

    def proposed(index: int) -> tuple[Tensor, LogDensity]:
        with torch.no_grad():
            q = sampler.generator.vae.encode(clean[index : index + 1].to(sampler.device))
            mean, width = sampler.generator.standardised(q.mean), torch.exp(0.5 * q.log_variance)
            width = width / sampler.generator.latent_scale.view(1, -1, 1, 1, 1)
            e = torch.randn((draws, *mean.shape[1:]), generator=rng).to(mean)
            z = mean + width * e
            log_q = (-0.5 * (e.square() + log(2 * pi)) - width.log()).double().sum((1, 2, 3, 4))
        return z, LogDensity(log_q, torch.zeros_like(log_q))

    latents = sampler.generator.vae.latent_shape((clean.shape[-3], clean.shape[-2], clean.shape[-1]))
    nothing = flow.no_context((draws, *latents), sampler.generator.latent_mean)
    return _evidence(
        sampler, noisy, mask, torch.full_like(spectrum, 2 * variance), spectrum + variance, proposed, nothing, rng, watch
    )


def noisy_evidence(
    sampler: PatchSampler,
    observation: Observation,
    mask: Tensor,
    variance: Tensor,
    spectrum: Tensor,
    draws: int = 4,
    seed: int = 0,
    watch: Watcher = lambda a, b: None,
) -> Evidence:
    """Evidence of the measured bins of observed patches of one tomogram.

    Args:
        sampler: the model.
        observation: n patches.
        mask: M, (z, y, x // 2 + 1); bins above 0.99 are scored.
        variance: sigma^2 of the noise, (z, y, x // 2 + 1).
        spectrum: of the Gaussian, (z, y, x // 2 + 1).
        draws: of each patch.
        seed: of all random numbers.
        watch: called with the patches done and their number.
    """
    rng = torch.Generator().manual_seed(seed)
    latents = sampler.posterior(observation, draws, seed)
    context = sampler.context(observation)
    scored = ((mask > 0.99) * fourier.below_nyquist(observation.data.shape[-3:])).float()
    model_variance = sampler.generator.vae.config.model_variance

    def proposed(index: int) -> tuple[Tensor, LogDensity]:
        z = latents[index]
        condition = context.rows(slice(index, index + 1)).repeated(draws)
        return z, log_density(sampler.generator.flow, z, condition, rng)

    nothing = sampler.generator.flow.no_context(latents[0].shape, latents)
    masks = scored.expand(len(observation), -1, -1, -1)
    return _evidence(
        sampler, observation.data, masks, variance + model_variance, spectrum + variance, proposed, nothing, rng, watch
    )


def _evidence(
    sampler: PatchSampler,
    data: Tensor,
    mask: Tensor,
    variance: Tensor,
    of_gaussian: Tensor,
    proposed: Callable[[int], tuple[Tensor, LogDensity]],
    nothing: Context,
    rng: torch.Generator,
    watch: Watcher,
) -> Evidence:
    bins = scored_bins(mask, data.shape).double()
    gaussian = log_likelihood(torch.zeros_like(data), data, mask, of_gaussian.expand_as(mask)).double() / bins
    elbo, weighted, kls, errors, effective = [], [], [], [], []
    for index in range(len(data)):
        z, log_q = proposed(index)
        log_p = log_density(sampler.generator.flow, z, nothing, rng)
        repeated, masks = data[index].expand(len(z), -1, -1, -1), mask[index].expand(len(z), -1, -1, -1)
        likelihood = log_likelihood(sampler.decoded(z), repeated, masks, variance.expand_as(masks)).double()
        kl = (log_q.value - log_p.value).cpu()
        terms = likelihood - kl
        elbo.append(terms.mean() / bins[index])
        weighted.append((torch.logsumexp(terms, 0) - log(len(terms))) / bins[index])
        kls.append(kl.mean() / bins[index])
        effective.append(1 / torch.softmax(terms, 0).square().sum())
        errors.append((log_p.error.square() + log_q.error.square()).mean().cpu() / bins[index] ** 2)
        watch(index + 1, len(data))
    bound, best = torch.stack(elbo), torch.stack(weighted)
    gain = bound - gaussian
    return Evidence(
        float(bound.mean()),
        float(best.mean()),
        float(gaussian.mean()),
        float(gain.mean()),
        float(gain.std() / len(gain) ** 0.5) if len(gain) > 1 else float("nan"),
        float((best - gaussian).mean()),
        float(torch.stack(errors).mean().sqrt()),
        float(torch.stack(kls).mean()),
        float(torch.stack(effective).mean()),
        len(z),
    )
