"""Draws of a latent flow, and its log-density, by its ordinary differential equation.

    z(1) = e ~ N(0, I),    dz/dt = v(z, t, c),    a draw is z(0)
    log p( z(0) ) = log N( z(1); 0, I ) + integral of div v over t from 0 to 1

The equation is solved by Heun's method. The divergence is estimated by u^T (dv/dz) u with random signs u (Hutchinson 1989), which
is right on average; the spread over several u says how far it is off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import log, pi, sqrt

import torch
from torch import Tensor

from cryovae.models.latent_flow import Context, LatentFlow

# Steps of Heun's method of a draw; each costs two passes of the flow.
DRAW_STEPS, DENSITY_STEPS = 20, 20
Velocity = Callable[[Tensor, Tensor], Tensor]


def ode_times(steps: int) -> Tensor:
    """Times (steps + 1,) of the steps of a draw, from 1 to 0."""
    return torch.linspace(1, 0, steps + 1)


@torch.no_grad()
def draw_latents(
    flow: LatentFlow,
    noise: Tensor,
    context: Context,
    steps: int = DRAW_STEPS,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Latents from N(0, I) noise of their shape; the same noise gives the same latents."""
    state = noise
    times = ode_times(steps).to(noise.device)
    for index, (now, then) in enumerate(pairwise(times)):
        state = _heun(lambda z, t: flow(z, t, context), state, now, then)
        watch(index + 1, steps)
    return state


def _heun(velocity: Velocity, state: Tensor, now: Tensor, then: Tensor) -> Tensor:
    first = velocity(state, now.expand(len(state)))
    euler = state + (then - now) * first
    return state + (then - now) * 0.5 * (first + velocity(euler, then.expand(len(state))))


@dataclass(frozen=True)
class LogDensity:
    """Log-density of latents, (n,) in nats, and its standard error, (n,), from the trace estimates.

    Attributes:
        value: the mean over the probes.
        error: its standard error; NaN for a single probe.
    """

    value: Tensor
    error: Tensor


def log_density(
    flow: LatentFlow, latents: Tensor, context: Context, generator: torch.Generator, probes: int = 2, steps: int = DENSITY_STEPS
) -> LogDensity:
    """Log-density of latents (n, channels, z, y, x) under the flow, by ``probes`` random probes of the divergence each."""
    state = latents
    signs = [(torch.randint(0, 2, latents.shape, generator=generator) * 2 - 1).to(latents) for _ in range(probes)]
    traces = latents.new_zeros(probes, len(latents), dtype=torch.float64)
    times = ode_times(steps).flip(0).to(latents.device)
    for now, then in pairwise(times):
        first, divergence = _with_divergence(flow, state, now, context, signs)
        euler = state + (then - now) * first
        second, divergence_ahead = _with_divergence(flow, euler, then, context, signs)
        state = state + (then - now) * 0.5 * (first + second)
        traces += float(then - now) * 0.5 * (divergence + divergence_ahead)
    base = -0.5 * (state.double().square() + log(2 * pi)).sum((1, 2, 3, 4))
    values = base + traces
    error = values.std(0) / sqrt(probes) if probes > 1 else torch.full_like(base, float("nan"))
    return LogDensity(values.mean(0), error)


def _with_divergence(
    flow: LatentFlow, state: Tensor, time: Tensor, context: Context, signs: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """v (n, ...) and estimates of its divergence, (probes, n)."""
    with torch.enable_grad():
        z = state.detach().requires_grad_()
        velocity = flow(z, time.expand(len(z)), context)
        estimates = []
        for index, sign in enumerate(signs):
            (product,) = torch.autograd.grad((velocity * sign).sum(), z, retain_graph=index + 1 < len(signs))
            estimates.append((product * sign).double().sum((1, 2, 3, 4)))
    return velocity.detach(), torch.stack(estimates)
