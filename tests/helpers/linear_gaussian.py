"""A model whose evidence is known: z ~ N(0, I), y = W z + noise, so that y ~ N(0, W W' + s^2 I) and q can be exact."""

import copy
from contextlib import nullcontext

import torch

from cryovae.models.distributions import DiagonalGaussian
from cryovae.models.flow import FlowPosterior
from cryovae.models.ladder import LadderDistribution
from cryovae.posterior.problem import Problem

NOISE = 0.6


class LinearLadder:
    """A ladder of one level in double precision: x = W z, with a posterior that is the same for all features."""

    def __init__(self, w, q):
        self.w, self.q = w, q
        self.latents, self.levels = w.shape[1], [self]

    def autocast(self):
        return nullcontext()

    def initial_state(self, shape, batch):
        return torch.zeros(batch, self.latents, 1, 1, 1, dtype=torch.float64)

    def upsampled(self, state, level):
        return state

    def level(self, index):
        return self

    def prior_of(self, state):
        return DiagonalGaussian(state, state)

    def masked_posterior(self, state, features, prior):
        return self.q

    def __call__(self, state, latent):
        return latent

    def decoded(self, state):
        return state.flatten(1) @ self.w.T

    def draw_noise(self, shape, batch, generator):
        return [torch.randn(batch, self.latents, 1, 1, 1, generator=generator, dtype=torch.float64)]


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

    def q(self, shift=0.0, widen=0.0):
        """The exact posterior with its mean shifted by ``shift`` and its log-variance by ``widen``."""
        mean, log_variance = (part.view(*part.shape, 1, 1, 1) for part in self.exact())
        return DiagonalGaussian(mean + shift, log_variance + widen)

    def problem(self, shift=0.0, widen=0.0, transform=None):
        """The inference problem with the posterior ``q``, passed through a flow if there is a ``transform``."""
        q = self.q(shift, widen)
        ladder = LinearLadder(self.w, q if transform is None else FlowPosterior(q, transform))
        prior = LadderDistribution(ladder, (1, 1, 1), len(self.y))
        return Problem(prior, LadderDistribution(ladder, (1, 1, 1), len(self.y), [None]), self._score, self._bins())

    def _score(self, density):
        return torch.distributions.Normal(density, NOISE).log_prob(self.y).sum(1)

    def _bins(self):
        return torch.full((len(self.y),), float(self.y.shape[1]))


def correlated(count=1):
    """One patch ``count`` times, with W's columns not orthogonal: the diagonal posterior has a wrong mean and covariance."""
    toy = LinearGaussian(batch=1)
    toy.w = toy.w @ torch.tensor([[1.0, 0.6, 0.0], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return toy.repeated(count)


def tempered_posterior(toy, temperature=1.0):
    """Mean (latents,) and covariance of the exact posterior of the first patch at a temperature of the likelihood."""
    precision = torch.eye(toy.w.shape[1], dtype=torch.float64) + toy.w.T @ toy.w / NOISE**2 / temperature
    covariance = torch.linalg.inv(precision)
    return covariance @ toy.w.T @ toy.y[0] / NOISE**2 / temperature, covariance
