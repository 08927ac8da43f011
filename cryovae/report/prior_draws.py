"""Draws of the generative model beside patches of a restored density, for its report."""

from __future__ import annotations

import numpy as np
import torch

from cryovae.generator_file import BASE, load_base
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.report.contents import PatchesBeside

# Patches and draws that are shown, steps of a draw, and patches a side that a density holds at least: the draws take a second.
COUNT, STEPS, LEAST = 8, 10, 2


def patches_beside(density: np.ndarray, seed: int = 0) -> PatchesBeside | None:
    """Middle slices of draws of the base model and of patches of a density (z, y, x), each in its own standard deviations.

    Returns:
        The slices; None without a base model, or where the density is smaller than two patches along an axis.
    """
    if not BASE.is_file():
        return None
    file = load_base()
    side = file.patch
    if min(density.shape) < LEAST * side:
        return None
    rng = np.random.default_rng(seed)
    standardised = (density - density.mean()) / max(float(density.std()), 1e-9)
    corners = [[int(rng.integers(size - side + 1)) for size in density.shape] for _ in range(COUNT)]
    patches = np.stack([standardised[z + side // 2, y : y + side, x : x + side] for z, y, x in corners])
    sampler = PatchSampler(file.generator, torch.device("cpu"), STEPS)
    with fast_convolutions():
        draws = sampler.decoded(sampler.prior(side, COUNT, seed)).numpy()
    return PatchesBeside(patches, draws[:, side // 2])
