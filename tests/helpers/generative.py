"""A very small generative model and recipe."""

import torch

from cryovae.models.generator import Generator, GeneratorConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig
from cryovae.physics.observation import RandomNoise, observed
from cryovae.simulation.patches import Pairs, PatchConfig
from cryovae.simulation.pool import PoolConfig
from cryovae.tomogram import TiltGeometry
from cryovae.training.recipe import Recipe

FLOW = LatentFlowConfig(width=8, coarse_width=8, blocks=1, condition_width=8, condition_blocks=1, embedding=8)
SIZES = GeneratorConfig(PatchVAEConfig(channels=3, width=8, fine_width=4, blocks=1), FLOW)
RANGE = TiltGeometry.from_range(-60, 60)
TINY_RECIPE = Recipe(
    SIZES,
    PatchConfig(side=16, kinds=4, rotations=2, cuts=6),
    PoolConfig(scenes=1, steps_per_scene=1000),
    PoolConfig(scenes=1, steps_per_scene=1000),
    vae_steps=4,
    flow_steps=4,
    early_steps=3,
    guided_steps=2,
    vae_batch=2,
    flow_batch=2,
    precision="float32",
)


def randomised(network, seed=0):
    """Give the layers that begin at zero random weights, so that nothing is trivially zero."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=rng))
    return network


def tiny_generator(config=SIZES):
    """A generative model with random weights, none of them zero."""
    torch.manual_seed(0)
    return randomised(Generator(config)).eval()


def made_up_pairs(config, number):
    """A scene that takes no time: smooth random densities, and noise on them. Put it in place of ``patches.scene_pairs``."""
    rng = torch.Generator().manual_seed(1000 * config.seed + number)
    clean = 5 * torch.nn.functional.avg_pool3d(torch.randn(6, 1, 20, 20, 20, generator=rng), 5, 1).squeeze(1)
    data = clean + 0.7 * torch.randn(clean.shape, generator=rng)
    return Pairs(clean, observed(data, RANGE, RandomNoise(0.5, 0.0, 0.0, 0.0)), torch.full((6,), number), (RANGE,) * 6)


def tiny_observation(count, shape, level=0.5):
    """Noise of one variance as if it was measured, with a wedge."""
    data = torch.randn(count, *shape, generator=torch.Generator().manual_seed(4))
    return observed(data, RANGE, RandomNoise(level, 0.0, 0.0, 0.0))
