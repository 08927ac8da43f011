"""Distance of an aggregated posterior from the prior: the penalty of a Wasserstein autoencoder.

    mmd^2 = E k(z, z') + E k(p, p') - 2 E k(z, p),      k(a, b) = sum_s C_s / ( C_s + |a - b|^2 ),  C_s = 2 d s
    sliced = E_w ( sort(w . z) - sort(w . p) )^2                                                    w uniform on the sphere
    sinkhorn = 2 / d ( T(z, p) - T(z, z) / 2 - T(p, p) / 2 ),  T = min_plan < |z - p|^2 / 2 > + BLUR^2 KL( plan || independent )

over latents z ~ q of a batch and p ~ p(z), one vector of d channels for each place: a convolution treats all places alike, so
they are as many draws from one distribution, though neighbours are not independent. mmd^2 without its diagonal is unbiased, and
so may fall below zero. Tolstikhin et al. 2018 (WAE), with their inverse multiquadric kernel; Kolouri et al. 2018; for the last
Feydy et al. 2019, debiased entropic transport as geomloss computes it, over d / 2 so that it is a distance along an axis as well.

The penalty does not pull each z to the prior, so it does not blur it; but the loss no longer bounds the evidence. In a ladder
it applies to the coarsest level alone, where a batch has hundreds of vectors of a few channels, enough for a distance between
clouds. On finer levels p(z | z_>l) changes from place to place, so no two draws share it, and the KL is kept.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from cryovae.errors import InputError
from cryovae.models.ladder import LevelOutput

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
DIRECTIONS = 64
# Vectors at most: memory and time of the kernel grow with the square.
MAX_VECTORS = 1024
# Blur of the transport, in standard deviations of a latent: finer detail is not matched.
BLUR = 0.1
DISTANCES = ("mmd", "sliced", "sinkhorn")


def aggregated(output: LevelOutput, distance: str, generator: torch.Generator | None = None) -> Tensor:
    """Distance between a level's latents and equally many draws from its prior, times the number of vectors."""
    noise = torch.randn(output.prior.mean.shape, generator=generator).to(output.latent.device)
    return cloud_distance(output.latent, output.prior.sample(noise), distance, generator)


def cloud_distance(latent: Tensor, prior: Tensor, distance: str, generator: torch.Generator | None = None) -> Tensor:
    """Distance between latents (batch, channels, z, y, x) and as many draws of a prior, times the number of vectors.

    Args:
        latent: of data.
        prior: draws of the prior, of the same shape.
        distance: mmd, sliced or sinkhorn.
        generator: of directions, and of the vectors that are taken where there are many.
    """
    latents, drawn = _vectors(latent), _vectors(prior)
    if len(latents) > MAX_VECTORS:
        some = torch.randperm(len(latents), generator=generator)[:MAX_VECTORS].to(latents.device)
        latents, drawn = latents[some], drawn[some]
    if distance == "mmd":
        value = mmd(latents, drawn)
    elif distance == "sinkhorn":
        value = sinkhorn(latents, drawn)
    else:
        directions = torch.randn(DIRECTIONS, latents.shape[1], generator=generator).to(latents.device)
        value = sliced(latents, drawn, directions)
    return value * latent[:, 0].numel()


def _vectors(latent: Tensor) -> Tensor:
    return latent.movedim(1, -1).flatten(0, -2)


def mmd(first: Tensor, second: Tensor) -> Tensor:
    """The unbiased squared maximum mean discrepancy of two clouds (n, channels) and (m, channels), n and m 2 or more."""
    n, m = len(first), len(second)
    within = (_kernel(x, x).sum() - len(x) * len(SCALES) for x in (first, second))
    one, two = (total / (count * (count - 1)) for total, count in zip(within, (n, m), strict=True))
    return one + two - 2 * _kernel(first, second).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    squared_distance = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
    total = torch.zeros_like(squared_distance)
    for scale in SCALES:
        c = 2 * a.shape[1] * scale
        total = total + c / (c + squared_distance)
    # |a - a|^2 is rounded; the diagonal must be exactly what mmd subtracts.
    return total.diagonal_scatter(torch.full_like(total.diagonal(), len(SCALES))) if a is b else total


def sliced(first: Tensor, second: Tensor, ways: Tensor) -> Tensor:
    """The mean squared 2-Wasserstein distance of two clouds (n, channels) along ``ways`` (ways, channels)."""
    unit = ways / ways.norm(dim=1, keepdim=True)
    one, two = ((cloud @ unit.T).sort(0).values for cloud in (first, second))
    return (one - two).square().mean()


def sinkhorn(first: Tensor, second: Tensor) -> Tensor:
    """The Sinkhorn divergence of two clouds (n, channels) and (m, channels), over channels / 2; InputError without geomloss."""
    try:
        from geomloss import SamplesLoss
    except ImportError as error:
        raise InputError(
            f"divergence 'sinkhorn' found, but geomloss is not installed ({error}): pip install geomloss, or 'cryovae[transport]'"
        ) from error
    loss = SamplesLoss("sinkhorn", p=2, blur=BLUR, scaling=0.9, debias=True, backend="tensorized")
    return cast(Tensor, loss(first, second)) * 2 / first.shape[1]
