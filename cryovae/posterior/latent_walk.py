"""Draws of the generative model a few at a time, walks from one draw to another, and directions in which draws differ.

    walk        e_s from e_0 to e_1 along the sphere,    x_s = G( z(e_s) ), z(e) solved by the flow: each step is a draw
    directions  z_a = z + sum_i a_i s_i d_i,             x_a = G( z_a ): the decoder alone, so at once

d_i are the principal axes of latents of draws, and s_i the standard deviations of these along them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cryovae.models.flow_ode import draw_latents
from cryovae.models.latent_flow import Context
from cryovae.posterior.codes import between
from cryovae.posterior.latent_map import principal_axes
from cryovae.posterior.patch_sampler import PatchSampler

# Patches that are drawn before progress is reported: about three seconds of one core with the base.
AT_ONCE = 4


def drawn(
    sampler: PatchSampler, noise: Tensor, context: Context | None = None, steps: int | None = None
) -> Generator[tuple[int, int], None, Tensor]:
    """Draw latents from noise (n, channels, z, y, x), yielding (done, n), and return them, in main memory.

    Args:
        sampler: of the model.
        noise: N(0, I), or times a temperature; the same noise gives the same latents.
        context: of one observed patch, for its posterior; None for the prior.
        steps: steps of Heun's method of a draw; None for those of the sampler.
    """
    flow, parts = sampler.generator.flow, []
    for start in range(0, len(noise), AT_ONCE):
        part = noise[start : start + AT_ONCE].to(sampler.device)
        condition = flow.no_context(part.shape, part) if context is None else context.repeated(len(part))
        parts.append(draw_latents(flow, part, condition, steps or sampler.steps).cpu())
        yield start + len(part), len(noise)
    return torch.cat(parts) if parts else noise


def walk_noise(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """Noise or latents (steps, channels, z, y, x) on the arc from one draw's (channels, z, y, x) to another's, both included."""
    shares = [step / (steps - 1) for step in range(steps)]
    return torch.cat([between([first[None]], [last[None]], share)[0] for share in shares])


@dataclass(frozen=True)
class Directions:
    """Principal axes of latents of draws.

    Attributes:
        centre: mean of the latents, (channels, z, y, x).
        axes: orthonormal, (k, channels, z, y, x).
        scales: standard deviations of the latents along them, larger first, (k,).
        explained: shares of the variance of the latents, (k,).
    """

    centre: Tensor
    axes: Tensor
    scales: Tensor
    explained: Tensor

    def moved(self, latents: Tensor, amounts: Sequence[float]) -> Tensor:
        """Latents (channels, z, y, x) moved by ``amounts`` standard deviations along the first axes."""
        steps = torch.tensor(list(amounts), dtype=latents.dtype) * self.scales[: len(amounts)]
        return latents + torch.tensordot(steps, self.axes[: len(amounts)], 1)


def directions_of(latents: Tensor, count: int) -> Directions:
    """The first ``count`` principal axes of latents (n, channels, z, y, x) of draws, n above ``count``."""
    centre = latents.mean(0)
    rows = (latents - centre).flatten(1)
    axes, explained = principal_axes(rows, count)
    return Directions(centre, axes.unflatten(1, latents.shape[1:]), (rows @ axes.T).std(0), explained)
