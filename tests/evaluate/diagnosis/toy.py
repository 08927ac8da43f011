"""A model whose evidence is known: z ~ N(0, I), y = W z + noise, so that y ~ N(0, W W' + s^2 I) and q can be exact."""

import copy

import torch

from cryovae.models.distributions import DiagonalGaussian
from cryovae.models.ladder import LevelOutput
from cryovae.posterior.problem import Problem

NOISE = 0.6


class LinearGaussian:
    """W has orthogonal columns, so that the exact posterior is diagonal. y: (batch, D)."""

    def __init__(self, latents=3, coefficients=7, batch=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        columns = torch.linalg.qr(torch.randn(coefficients, latents, generator=generator, dtype=torch.float64)).Q
        self.w = columns * torch.linspace(0.5, 2.0, latents, dtype=torch.float64)
        z = torch.randn(batch, latents, generator=generator, dtype=torch.float64)
        self.y = z @ self.w.T + NOISE * torch.randn(batch, coefficients, generator=generator, dtype=torch.float64)

    def repeated(self, count):
        """The same data ``count`` times: a draw for each at once."""
        many = copy.copy(self)
        many.y = self.y.repeat(count, 1)
        return many

    def evidence(self):
        covariance = self.w @ self.w.T + NOISE**2 * torch.eye(len(self.w), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(torch.zeros(len(self.w), dtype=torch.float64), covariance).log_prob(self.y)

    def exact(self):
        precision = 1 + self.w.square().sum(0) / NOISE**2
        mean = self.y @ self.w / NOISE**2 / precision
        return mean, (-precision.log()).expand_as(mean)

    def problem(self, shift=0.0, widen=0.0):
        """Its posterior off the exact one by ``shift`` and, in log-variance, by ``widen``."""
        mean, log_variance = (part.view(*part.shape, 1, 1, 1) for part in self.exact())
        return Problem(self._descend, self._score, lambda *_: DiagonalGaussian(mean + shift, log_variance + widen), self._bins())

    def _descend(self, choose):
        batch, latents = len(self.y), self.w.shape[1]
        nothing = torch.zeros(batch, latents, 1, 1, 1, dtype=torch.float64)
        prior = DiagonalGaussian(nothing, nothing)
        chosen, z = choose(0, prior, nothing)
        return z.flatten(1) @ self.w.T, [LevelOutput(prior, chosen, z)]

    def _score(self, density):
        return torch.distributions.Normal(density, NOISE).log_prob(self.y).sum(1)

    def _bins(self):
        return torch.full((len(self.y),), float(self.y.shape[1]))
