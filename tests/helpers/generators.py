"""Tiny generative models of random weights."""

from __future__ import annotations

import torch

from cryovae.models.generator import Generator, GeneratorConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig


def small_generator(seed: int = 0) -> Generator:
    """A generator of stride 4 and 3 latent channels, whose layers that begin at 0 are random as well."""
    torch.manual_seed(seed)
    sizes = PatchVAEConfig(channels=3, width=8, fine_width=4, blocks=1), LatentFlowConfig(8, 8, 1, 8, 1, 8)
    generator = Generator(GeneratorConfig(*sizes))
    for parameter in generator.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return generator.eval()
