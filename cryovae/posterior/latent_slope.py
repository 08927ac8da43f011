"""The slope of the posterior in the latents of a volume: that of the learned prior, and that of the likelihood of the data.

    u    =  (1 - t) z + t e,   e ~ N(0, I)                                  t = BLUR
    s(u) =  -( u + (1 - t) v(u, t) ) / t                                    of log p_t(u)
    g(u) =  s(u) + grad log p( y | G(u / (1 - t)) ) / T                     of the posterior, T the temperature

v is the velocity of the flow without a condition. It predicts E[e - z | u], so s is the score of the blurred prior by Tweedie's
formula (Song and Ermon 2019); the score at t = 0 is unbounded. A flow that had guided steps in its training
(training/generative.py) predicts a little more than that mean, and its prior is a little sharper. The likelihood is that of the
measured bins of each box, where the noise has the model variance of the decoder added. Steps along g are stable while they are
short against the inverse of its curvature, which is found by power iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.models.precision import convolving
from cryovae.physics.wedge import volume_mask
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.tiling.grid import Position, cut

# Time t of the state.
BLUR = 0.2
# Power iterations for the curvature, side of the cube that they look at, in voxels, and length of their differences.
ITERATIONS, SIDE, LENGTH = 6, 32, 0.1


class LatentSlope:
    """The slope g of a volume.

    Attributes:
        sampler: the flow on the boxes of the volume.

    Args:
        sampler: the flow on the boxes of the volume.
        temperature: T of the likelihood.
    """

    def __init__(self, sampler: VolumeSampler, temperature: float = 1.0) -> None:
        self.sampler, self.temperature = sampler, temperature
        self._decode = sampler.sampler.generator.decode

    def __call__(self, state: Tensor) -> tuple[Tensor, float]:
        """g at a state (channels, z, y, x), and the log-likelihood there, in nats per measured coefficient."""
        values = []

        def of_box(part: Tensor, position: Position) -> Tensor:
            gradient, value = self._of_likelihood(part / (1 - BLUR), position)
            values.append(value)
            return self._score(part) + gradient / ((1 - BLUR) * self.temperature)

        return self.sampler.blended(state, of_box), sum(values) / len(values)

    def start(self, latents: Tensor) -> Tensor:
        """The state of latents (channels, z, y, x) without noise."""
        return (1 - BLUR) * latents

    def latents(self, state: Tensor) -> Tensor:
        """The mean of the latents (channels, z, y, x) under the prior, given a state."""
        return state - BLUR * self.sampler.prior_velocity(state, BLUR)

    def step(self, latents: Tensor) -> float:
        """The step eta for which u + eta/2 g is stable near latents (channels, z, y, x)."""
        return 1.0 / (1 / BLUR**2 + self.curvature(latents) / ((1 - BLUR) ** 2 * self.temperature))

    def curvature(self, latents: Tensor) -> float:
        """The largest curvature of the log-likelihood in the latents (channels, z, y, x), in the middle of the volume."""
        stride = self.sampler.stride
        sizes = [min(SIDE // stride, size) for size in latents.shape[1:]]
        z, y, x = (slice((size - n) // 2, (size - n) // 2 + n) for size, n in zip(latents.shape[1:], sizes, strict=True))
        at = latents[None, :, z, y, x].clone()
        shape = [n * stride for n in sizes]
        precision = self._precision_of(shape, at.device)
        way = torch.randn(at.shape, generator=torch.Generator().manual_seed(0)).to(at)
        size = 0.0
        # A small difference of two densities is lost in bfloat16.
        with convolving(at.device, mixed=False):
            for _ in range(ITERATIONS):
                way = way / way.norm()
                change = (self._decode(at + LENGTH * way) - self._decode(at - LENGTH * way))[0].detach() / (2 * LENGTH)
                way = self._pulled_back(at, fourier.filtered(change, precision))
                size = float(way.norm())
        return size

    def _score(self, part: Tensor) -> Tensor:
        """s of a box (1, channels, z, y, x)."""
        return -(part + (1 - BLUR) * self.sampler.prior(part, BLUR)) / BLUR

    def _of_likelihood(self, latents: Tensor, position: Position) -> tuple[Tensor, float]:
        """The slope of the log-likelihood in the latents (1, channels, z, y, x) of a box, and its value as above."""
        sampler = self.sampler
        data = cut(sampler.data.data, position, sampler.boxes.sides).to(latents.device) / sampler.scale
        at = latents.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            density = self._decode(at)[0]
        residual = fourier.transform(data - density.detach())
        along = self._precision * residual
        power = (along * residual.conj()).real
        value = -0.5 * float((power * fourier.multiplicity(data.shape, data.device)).sum())
        del residual, power
        (gradient,) = torch.autograd.grad(density, at, fourier.inverse(along, data.shape))
        return gradient, value / self._count

    def _pulled_back(self, latents: Tensor, slope: Tensor) -> Tensor:
        """The gradient in latents (1, channels, z, y, x) of a function whose gradient in their density is ``slope`` (z, y, x)."""
        at = latents.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad((self._decode(at)[0] * slope).sum(), at)
        return gradient

    @cached_property
    def _precision(self) -> Tensor:
        """M / (sigma^2 + v) of a box, (z, y, x // 2 + 1)."""
        return self._precision_of(self.sampler.boxes.sides, self.sampler.sampler.device)

    @cached_property
    def _count(self) -> float:
        """Measured coefficients of a box."""
        sides = self.sampler.boxes.sides
        return max(float((self._mask_of(sides) * fourier.multiplicity(sides)).double().sum()), 1.0)

    def _precision_of(self, shape: Sequence[int], device: torch.device) -> Tensor:
        sampler = self.sampler
        noise = sampler.data.noise(fourier.frequencies(shape)) / sampler.scale**2
        variance = noise + sampler.sampler.generator.vae.config.model_variance
        return (self._mask_of(shape) / variance).to(device)

    def _mask_of(self, shape: Sequence[int]) -> Tensor:
        """M of a box, with the edge that the mask of a volume of its shape has."""
        return volume_mask(shape, self.sampler.data.tilts) * fourier.below_nyquist(shape)
