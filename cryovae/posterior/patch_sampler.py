"""Draws of the generative model: clean patches from the prior, and from the posterior of observed patches.

    prior       z ~ p(z),       x = G(z)                  posterior   z ~ p(z | y),   x = G(z)

Random numbers are those of a patch and a draw, so the first 4 of 8 draws are the 4 of a smaller number, on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.prepare import PreparedTomogram
from cryovae.errors import InputError
from cryovae.models.flow_ode import DRAW_STEPS, draw_latents
from cryovae.models.generator import Generator
from cryovae.models.latent_flow import Context
from cryovae.physics.noise import NoiseSpectrum
from cryovae.physics.observation import Observation, observed
from cryovae.physics.wedge import volume_mask
from cryovae.tiling.grid import Position, cut
from cryovae.tomogram import TiltGeometry

# Patches of which latents are drawn at once, and places of their latents: 16 patches of 64 voxels at stride 4.
BATCH, PLACES = 16, 2**16
# Power above that of the noise, in standard errors, that a tomogram shows at least if it holds more than noise; and the highest
# frequency at which it is looked for, in cycles per voxel.
LEAST_SIGNAL, SIGNAL_BAND = 5.0, 0.3

# Called with the steps done and their number.
Watcher = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


def _at_once(latents: Tensor) -> int:
    """How many of latents (n, channels, z, y, x) are drawn or decoded at once."""
    return max(1, min(BATCH, PLACES // latents[0, 0].numel()))


class PatchSampler:
    """Draws patches of a generative model.

    Attributes:
        generator: the model, on ``device``.
        device: where it is.

    Args:
        generator: the model.
        device: where it runs.
        steps: steps of Heun's method of a draw.
    """

    def __init__(self, generator: Generator, device: torch.device | None = None, steps: int = DRAW_STEPS) -> None:
        self.device = device or torch.device("cpu")
        self.generator = generator.to(self.device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
        self.steps = steps

    def noise(self, side: int, count: int, seed: int) -> Tensor:
        """N(0, I) noise of the latents of ``count`` cubes of ``side`` voxels, in main memory."""
        shape = self.generator.vae.latent_shape((side, side, side))
        rng = torch.Generator().manual_seed(seed)
        return torch.stack([torch.randn(shape, generator=rng) for _ in range(count)])

    def prior(self, side: int, count: int, seed: int, temperature: float = 1.0, watch: Watcher = _silent) -> Tensor:
        """Latents (count, channels, z, y, x) of cubes of ``side`` voxels, a multiple of 8, from the prior.

        temperature: standard deviation of the noise that the flow begins with; 1 is the prior itself.
        """
        return self.prior_from(temperature * self.noise(side, count, seed), watch)

    def prior_from(self, noise: Tensor, watch: Watcher = _silent) -> Tensor:
        """Latents (count, channels, z, y, x) from the prior, from given noise of their shape; the same noise gives the same."""
        flow = self.generator.flow
        return self._drawn(noise, lambda part: flow.no_context(part.shape, part), watch)

    @torch.no_grad()
    def posterior(self, observation: Observation, count: int, seed: int, watch: Watcher = _silent) -> Tensor:
        """Latents (n, count, channels, z, y, x) of the posterior of n observed patches, ``count`` of each."""
        context = self.context(observation).repeated(count)
        side = observation.data.shape[-1]
        noise = self.noise(side, count, seed).repeat(len(observation), 1, 1, 1, 1)
        start = 0

        def next_context(part: Tensor) -> Context:
            nonlocal start
            rows = slice(start, start + len(part))
            start += len(part)
            return context.rows(rows)

        return self._drawn(noise, next_context, watch).unflatten(0, (len(observation), count))

    @torch.no_grad()
    def context(self, observation: Observation) -> Context:
        """The condition of observed patches."""
        parts = [observation.rows(slice(i, i + BATCH)).map(self._here) for i in range(0, len(observation), BATCH)]
        return Context.joined([self.generator.context(p) for p in parts])

    @torch.no_grad()
    def predicted(self, observation: Observation) -> Tensor:
        """Densities (n, z, y, x) of the predicted mean of the latents: one pass, no sampling."""
        return self.decoded(self.context(observation).mean)

    @torch.no_grad()
    def encoded(self, density: Tensor) -> Tensor:
        """Standardised latents (n, channels, z, y, x) of clean patches: the means of q."""
        parts = [density[i : i + BATCH].to(self.device) for i in range(0, len(density), BATCH)]
        return torch.cat([self.generator.standardised(self.generator.vae.encode(part).mean) for part in parts])

    @torch.no_grad()
    def decoded(self, latents: Tensor) -> Tensor:
        """Densities (..., z, y, x) of latents (..., channels, z, y, x), in main memory."""
        flat = latents.flatten(0, -5)
        size = _at_once(flat)
        parts = [self.generator.decode(flat[i : i + size].to(self.device)).cpu() for i in range(0, len(flat), size)]
        densities = torch.cat(parts)
        return densities.unflatten(0, latents.shape[:-4])

    def _here(self, part: Tensor) -> Tensor:
        return part.to(self.device)

    def _drawn(self, noise: Tensor, context_of: Callable[[Tensor], Context], watch: Watcher) -> Tensor:
        drawn: list[Tensor] = []
        size = _at_once(noise)
        total = -(-len(noise) // size) * self.steps
        for start in range(0, len(noise), size):
            part = noise[start : start + size].to(self.device)
            before = len(drawn) * self.steps

            def step(done: int, _: int, before: int = before) -> None:
                watch(before + done, total)

            drawn.append(draw_latents(self.generator.flow, part, context_of(part), self.steps, step))
        return torch.cat(drawn)


@dataclass(frozen=True)
class ObservedPatches:
    """Patches of a tomogram as the sampler is given them.

    Attributes:
        observation: the patches, in units of the standard deviation of the signal.
        scale: standardised grey values of the tomogram in one such unit.
        prepared: the tomogram.
    """

    observation: Observation
    scale: float
    prepared: PreparedTomogram

    def grey(self, density: Tensor) -> Tensor:
        """Densities (..., z, y, x) of the model as grey values of the tomogram."""
        return density * self.scale * self.prepared.scale + self.prepared.mean


class NoSignal(InputError):
    """A tomogram holds no signal above its noise."""


def signal_scale(prepared: PreparedTomogram) -> float:
    """Standard deviation of the signal of a tomogram in memory; see ``scale_of_signal``."""
    return scale_of_signal(prepared.name, prepared.density, prepared.tilts, prepared.noise)


def scale_of_signal(name: str, density: Tensor, tilts: TiltGeometry, noise: NoiseSpectrum) -> float:
    """Standard deviation of the signal of a standardised density, the wedge filled in with the mean of each shell.

    Args:
        name: of the tomogram.
        density: (z, y, x).
        tilts: its tilt geometry.
        noise: its noise spectrum.

    Raises:
        NoSignal: there is no signal above the noise.
    """
    k = fourier.frequencies(density.shape)
    mask = volume_mask(density.shape, tilts)
    power = noise.signal(density, mask)(k)
    power[0, 0, 0] = 0.0
    variance = float((power * fourier.multiplicity(density.shape)).double().sum() / density.numel())
    evidence = signal_evidence(density, mask, noise(k), k)
    if evidence < LEAST_SIGNAL or variance <= 0:
        raise NoSignal(
            f"tomogram {name} has a power of {evidence:.1f} standard errors above its noise, expected {LEAST_SIGNAL:g} "
            "or more: it is noise alone, so there is nothing to draw"
        )
    return variance**0.5


def signal_evidence(density: Tensor, mask: Tensor, noise: Tensor, frequency: Tensor) -> float:
    """Power of a density above that of its noise, in standard errors; about N(0, 1) if it is noise, and halves gave the spectrum.

    Args:
        density: (z, y, x).
        mask: M, (z, y, x // 2 + 1); bins where it is 1 count.
        noise: sigma^2 there.
        frequency: (3, z, y, x // 2 + 1) in cycles per voxel.
    """
    radius = frequency.square().sum(0).sqrt()
    weight = (mask == 1) * ((radius > 0) & (radius < SIGNAL_BAND)) * fourier.multiplicity(density.shape)
    excess = (weight * (fourier.transform(density).abs().square() - noise)).double().sum()
    # The power of a coefficient has the variance sigma^4, and so has that of the difference of the halves.
    error = (2 * weight * fourier.multiplicity(density.shape) * noise.square()).double().sum().sqrt()
    return float(excess / error.clamp_min(1e-12))


def observed_patches(prepared: PreparedTomogram, positions: Sequence[Position], side: int) -> ObservedPatches:
    """Patches of ``side`` voxels at ``positions``, the first voxels of each. InputError as for ``signal_scale``."""
    scale = signal_scale(prepared)
    data = torch.stack([cut(prepared.density, position, side) for position in positions]) / scale
    noise = prepared.noise.scaled(scale**-2)
    return ObservedPatches(observed(data, prepared.tilts, noise), scale, prepared)
