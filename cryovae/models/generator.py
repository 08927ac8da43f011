"""The generative model of clean patches: a VAE with spatial latents, and a flow over its latents that is prior and sampler.

    z ~ p(z) or p(z | y)  by the flow,        x = G( mean + scale z )

Latents of the flow are those of the VAE, shifted and scaled to mean 0 and variance 1 by channel.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from cryovae.models.latent_flow import Context, Estimate, LatentFlow, LatentFlowConfig
from cryovae.models.patch_vae import PatchVAE, PatchVAEConfig


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the generative model.

    Attributes:
        vae: of the VAE.
        flow: of the flow.
    """

    vae: PatchVAEConfig = field(default_factory=PatchVAEConfig)
    flow: LatentFlowConfig = field(default_factory=LatentFlowConfig)


class Seen(Protocol):
    """Observed patches, as in physics/observation.py."""

    @property
    def data(self) -> Tensor:
        """(n, z, y, x)."""

    @property
    def linear(self) -> Tensor:
        """The linear estimate of the density, (n, z, y, x)."""

    @property
    def information(self) -> Tensor:
        """What was measured how well, (n, entries)."""

    @property
    def estimate(self) -> Tensor | None:
        """Another network's estimate of the density, (n, z, y, x), or None."""

    @property
    def power(self) -> Tensor | None:
        """Local mean square of the data, (n, z, y, x), or None for that of each patch."""


class Generator(nn.Module):
    """The VAE, the flow, and mean and scale (channels,) of the latents of the VAE.

    Attributes:
        config: Sizes.
    """

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.vae = PatchVAE(config.vae)
        self.flow = LatentFlow(config.flow, config.vae.channels, config.vae.stride)
        self.register_buffer("latent_mean", torch.zeros(config.vae.channels))
        self.register_buffer("latent_scale", torch.ones(config.vae.channels))

    @torch.no_grad()
    def measure_latents(self, density: Tensor) -> None:
        """Set mean and scale from the latents of patches (n, z, y, x), the variance of q included."""
        q = self.vae.encode(density)
        mean = q.mean.mean((0, 2, 3, 4))
        variance = (q.mean - mean.view(1, -1, 1, 1, 1)).square() + q.log_variance.exp()
        self.latent_mean.copy_(mean)
        self.latent_scale.copy_(variance.mean((0, 2, 3, 4)).sqrt())

    def context(self, observation: Seen, flow: LatentFlow | None = None) -> Context:
        """The condition of observed patches, for the model's own flow or for another of the same latents."""
        o, flow = observation, flow or self.flow
        estimate = None
        if o.estimate is not None and flow.config.estimates:
            estimate = Estimate(o.estimate, self.standardised(self.vae.encode(o.estimate).mean))
        return flow.context(o.data, o.linear, o.information, estimate, o.power)

    def taking_estimates(self) -> Generator:
        """The same model with a flow that takes the estimate of another network."""
        flow = self.flow.taking_estimates()
        taking = Generator(replace(self.config, flow=flow.config))
        taking.load_state_dict(self.state_dict() | {f"flow.{name}": weight for name, weight in flow.state_dict().items()})
        return taking

    def channel_weights(self) -> Tensor:
        """Roots of what the standardised channels contribute linearly to a density, (channels,), of mean 1."""
        effect = self.vae.expand.weight.detach().flatten(1).norm(dim=0) * self.latent_scale
        root = effect.sqrt()
        return root / root.mean()

    def latents(self, density: Tensor, noise: Tensor) -> Tensor:
        """A sample of the standardised latents of patches (n, z, y, x), with N(0, I) noise of their shape."""
        return self.standardised(self.vae.encode(density).sample(noise))

    def standardised(self, latents: Tensor) -> Tensor:
        """Latents of the VAE as those of the flow."""
        return (latents - _spatial(self.latent_mean)) / _spatial(self.latent_scale)

    def decode(self, latents: Tensor) -> Tensor:
        """Densities (n, z, y, x) of standardised latents."""
        return self.vae.decode(latents * _spatial(self.latent_scale) + _spatial(self.latent_mean))


def _spatial(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1, 1)
