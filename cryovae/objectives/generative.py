"""The losses of the generative model of clean patches: the ELBO of its VAE, flow matching, and the mean of the latents.

    ELBO = E_q log N( x; G(z), v ) - beta KL( q(z | x) || N(0, I) )          sums over voxels and latents, in nats
    flow matching:  E | v(z_t, t, c) - (e - z) |^2,   z_t = (1 - t) z + t e,   t = sigmoid of a normal number

The logit of t is a normal number, as by Esser et al. 2024, "Scaling rectified flow transformers". q is narrow here, 0.03 to 0.16
standard deviations of the latents: draws are noisy unless times as small as that are drawn often enough. But whether a patch has
a membrane is decided between t = 0.8 and 0.98, because a membrane is coherent over hundreds of latents: draws have none unless
such times are learned. So a training begins with small times, DETAIL, and goes on with large ones, LAYOUT. Channels
count by the root of what they contribute to a density.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
import torch.nn.functional as nnf
from torch import Tensor

from cryovae.models.distributions import DiagonalGaussian, Posterior, divergence
from cryovae.models.latent_flow import Context, LatentFlow
from cryovae.models.patch_vae import PatchVAE

# Mean and standard deviation of the logit of t.
DETAIL, LAYOUT = (-0.7, 1.5), (1.0, 1.8)


@dataclass(frozen=True)
class PatchBound:
    """The terms of the ELBO of patches, (n,) each, in nats, and what they were computed from.

    Attributes:
        log_likelihood: of the patches, at one draw of q.
        kl: KL( q || N(0, I) ), in closed form.
        squared_error: mean square of x - G(z).
        latents: z, the draw, (n, channels, z, y, x).
    """

    log_likelihood: Tensor
    kl: Tensor
    squared_error: Tensor
    latents: Tensor


def patch_bound(vae: PatchVAE, density: Tensor, noise: Tensor) -> PatchBound:
    """The terms for densities (n, z, y, x), with N(0, I) noise of the shape of the latents."""
    return posterior_bound(vae, density, vae.encode(density), noise)


def posterior_bound(vae: PatchVAE, density: Tensor, q: Posterior, noise: Tensor) -> PatchBound:
    """The same for any q over the latents of the densities; the KL of one that is not Gaussian is from the draw."""
    latents = q.sample(noise)
    error = (density - vae.decode(latents)).float().square().mean((1, 2, 3))
    zero = torch.zeros_like(latents)
    voxels, variance = density[0].numel(), vae.config.model_variance
    log_likelihood = -0.5 * voxels * (error / variance + log(2 * pi * variance))
    return PatchBound(log_likelihood, divergence(q, DiagonalGaussian(zero, zero), latents), error, latents)


@dataclass(frozen=True)
class FlowDraw:
    """The random numbers of one step of flow matching.

    Attributes:
        noise: e, of the shape of the latents.
        time: t, (n,).
        has_condition: (n,), 1 where the flow has the condition.
    """

    noise: Tensor
    time: Tensor
    has_condition: Tensor

    def to(self, device: torch.device) -> FlowDraw:
        """The same on a device."""
        return FlowDraw(self.noise.to(device), self.time.to(device), self.has_condition.to(device))

    def state(self, latents: Tensor) -> Tensor:
        """z_t of latents z."""
        t = self.time.view(-1, 1, 1, 1, 1)
        return (1 - t) * latents + t * self.noise


def draw_flow(shape: torch.Size, conditioned: float, generator: torch.Generator, times: tuple[float, float]) -> FlowDraw:
    """Random numbers for latents of a shape.

    Args:
        shape: of the latents.
        conditioned: share of patches with a condition.
        generator: of the random numbers.
        times: mean and standard deviation of the logit of t.
    """
    mean, spread = times
    time = torch.sigmoid(mean + spread * torch.randn(shape[0], generator=generator))
    has_condition = (torch.rand(shape[0], generator=generator) < conditioned).float()
    return FlowDraw(torch.randn(shape, generator=generator), time, has_condition)


def flow_matching(
    flow: LatentFlow, latents: Tensor, context: Context, draw: FlowDraw, weights: Tensor, places: Tensor | None = None
) -> Tensor:
    """Mean squared error of the velocity for each patch, (n,).

    Args:
        flow: the flow.
        latents: z, (n, channels, z, y, x).
        context: the condition, dropped as ``draw`` says.
        draw: random numbers of the step.
        weights: of the channels, (channels,), of mean 1.
        places: weights of the places of the latents, (n, z, y, x), or None for 1 everywhere.
    """
    velocity = flow(draw.state(latents), draw.time, context.kept(draw.has_condition))
    return mean_error(velocity - (draw.noise - latents), weights, places)


def mean_error(residual: Tensor, weights: Tensor, places: Tensor | None = None) -> Tensor:
    """Mean square (n,) of a residual (n, channels, z, y, x), with weights as of ``flow_matching``."""
    squared = (residual.square() * weights.view(-1, 1, 1, 1)).mean(1)
    if places is None:
        return squared.mean((1, 2, 3))
    return (squared * places).sum((1, 2, 3)) / places.sum((1, 2, 3)).clamp_min(1)


def scored_places(scored: Tensor | None, stride: int) -> Tensor | None:
    """1 for places of latents all of whose voxels are scored, (n, z, y, x), from that of voxels; None for all."""
    return None if scored is None else -nnf.max_pool3d(-scored[:, None], stride)[:, 0]
