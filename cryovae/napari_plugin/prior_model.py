"""The computations of the part of the latent space widget that shows the learned prior, without a window.

A model, draws from its prior, a walk between two of them, and what a patch becomes along the directions in which draws differ.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from cryovae.errors import InputError
from cryovae.generator_file import FILE, GeneratorFile, load_base, load_generator
from cryovae.napari_plugin.layers import grey_range
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.latent_walk import Directions, directions_of, drawn, walk_noise
from cryovae.posterior.patch_sampler import PatchSampler

# Draws from which directions are computed, in how many steps each is drawn, and how many directions there are. Fewer steps than
# those of a draw that is shown: only the covariance of the latents counts.
DIRECTION_DRAWS, DIRECTION_STEPS, DIRECTIONS = 64, 8, 3

Progress = tuple[int, int]


@dataclass
class Prior:
    """A generative model.

    Attributes:
        path: Its file or folder, None for the base of the package.
        stamp: When the file was last changed, in nanoseconds.
        side: Side of its patches, in voxels.
        sampler: Draws from it.
        directions: By the seed of the draws that they are of.
    """

    path: Path | None
    stamp: int
    side: int
    sampler: PatchSampler
    directions: dict[int, Directions] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model in a sentence, without the folders of its path."""
        return "the base prior" if self.path is None else f"the prior of {self.path.name}"

    def density(self, latents: Tensor) -> np.ndarray:
        """The density (z, y, x) of latents (channels, z, y, x)."""
        with fast_convolutions():
            return self.sampler.decoded(latents[None])[0].numpy()


@dataclass(frozen=True)
class Draws:
    """Patches drawn from a prior.

    Attributes:
        prior: The model.
        seed: Random seed.
        temperature: Standard deviation of the noise.
        noise: What the flow began with, (n, channels, z, y, x).
        latents: The same shape.
        densities: (n, z, y, x), in standard deviations of the signal of a specimen.
        limits: Grey values between which they lie.
    """

    prior: Prior
    seed: int
    temperature: float
    noise: Tensor
    latents: Tensor
    densities: np.ndarray
    limits: tuple[float, float]

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class Walk:
    """Draws on the way from one draw to another.

    Attributes:
        first: Number of the draw it begins with.
        last: Number of the draw it ends with.
        densities: (steps, z, y, x), both ends included.
    """

    first: int
    last: int
    densities: np.ndarray


def prior_at(path: Path | None, loaded: Prior | None = None) -> Prior:
    """The model at a path, None for the base of the package; ``loaded`` if it is that. InputError if it cannot be read."""
    stamp = _stamp(path)
    if loaded is not None and (loaded.path, loaded.stamp) == (path, stamp):
        return loaded
    file: GeneratorFile = load_base() if path is None else load_generator(path)
    # The flow has a second scale at twice the stride of the latents.
    stride = 2 * file.generator.config.vae.stride
    if file.patch % stride:
        raise InputError(f"{path} is a damaged model, patch {file.patch} found, expected a multiple of {stride}: train it anew")
    return Prior(path, stamp, file.patch, PatchSampler(file.generator))


def _stamp(path: Path | None) -> int:
    file = path / FILE if path is not None and path.is_dir() else path
    return file.stat().st_mtime_ns if file is not None and file.is_file() else 0


def draw(path: Path | None, loaded: Prior | None, count: int, seed: int, temperature: float) -> Generator[Progress, None, Draws]:
    """Draw patches from the prior, yielding (done, count).

    Args:
        path: Of the model, None for the base of the package.
        loaded: The model that was used before, None if there is none.
        count: Number of patches.
        seed: Random seed; the same seed gives the same patches, and fewer patches are the first of more.
        temperature: Standard deviation of the noise; 1 is the prior itself.

    Raises:
        InputError: There is no model, or it cannot be read.
    """
    prior = prior_at(path, loaded)
    noise = temperature * prior.sampler.noise(prior.side, count, seed)
    latents = yield from drawn(prior.sampler, noise)
    densities = prior.sampler.decoded(latents).numpy()
    return Draws(prior, seed, temperature, noise, latents, densities, grey_range(densities))


def walk(draws: Draws, first: int, last: int, steps: int) -> Generator[Progress, None, Walk]:
    """Draw the steps between two draws, yielding (done, steps). InputError if there are not two different draws."""
    if first == last or not all(0 <= end < len(draws) for end in (first, last)):
        raise InputError(
            f"a walk from draw {first} to draw {last} found, expected two different draws of 0 to {len(draws) - 1}: "
            "draw more patches, or choose other ends"
        )
    sampler = draws.prior.sampler
    between = walk_noise(draws.noise[first], draws.noise[last], steps)[1:-1]
    latents = yield from drawn(sampler, between)
    inner = sampler.decoded(latents).numpy() if len(latents) else draws.densities[:0]
    return Walk(first, last, np.concatenate([draws.densities[[first]], inner, draws.densities[[last]]]))


def find_directions(draws: Draws) -> Generator[Progress, None, Directions]:
    """Directions of the prior, yielding (done, of) of their draws; they are computed once for each seed of the draws in view."""
    prior, seed = draws.prior, draws.seed
    if seed not in prior.directions:
        noise = prior.sampler.noise(prior.side, DIRECTION_DRAWS, seed)
        latents = yield from drawn(prior.sampler, noise, steps=DIRECTION_STEPS)
        prior.directions[seed] = directions_of(latents, DIRECTIONS)
    return prior.directions[seed]


def morphed(draws: Draws, directions: Directions, centre: int | None, amounts: Sequence[float]) -> np.ndarray:
    """The density (z, y, x) at some standard deviations along the directions from a draw, or from the mean of draws (None)."""
    start = directions.centre if centre is None else draws.latents[centre]
    return draws.prior.density(directions.moved(start, amounts))
