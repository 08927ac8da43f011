"""A posterior that is no Gaussian: noise goes through a normalising flow before it is scaled and shifted.

    z = m + s u,    u = T(e),    e ~ N(0, I)
    log q(z) = log N(e; 0, I) - log |det dT/de| - sum log s

T is a chain of couplings (RealNVP; Dinh, Sohl-Dickstein, Bengio 2017): in each, half of the channels are scaled and shifted by
what convolutions make of the other half and of the features, so that latents of one place and of its neighbours may depend on
each other, which a diagonal Gaussian cannot say. Which half is a matter of channels, not of places: like any convolution T moves
with its input, so that tiles that overlap agree. It starts as the identity. The transforms are zuko's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.distributions import Distribution

from cryovae.errors import InputError
from cryovae.models.distributions import DiagonalGaussian, standardised
from cryovae.models.layers import convolution, zeroed

COUPLINGS = 4


def zuko_transforms() -> ModuleType:
    """zuko.transforms. InputError if zuko is not installed.

    Its import switches off the argument checks of all of torch.distributions, for whoever uses them: they are put back.
    """
    checks = Distribution._validate_args
    try:
        from zuko import transforms
    except ImportError as error:
        raise InputError(
            f"posterior 'flow' found, but zuko is not installed ({error}): pip install zuko, or 'cryovae[flows]'"
        ) from error
    finally:
        Distribution.set_default_validate_args(checks)
    return transforms


class CouplingFlow(nn.Module):
    """features (batch, width, z, y, x) to the transform T of latents, channels last: (batch, z, y, x, latents) to the same."""

    def __init__(self, width: int, latents: int) -> None:
        super().__init__()
        zuko_transforms()
        self.nets = nn.ModuleList()
        for number in range(COUPLINGS):
            kept = torch.arange(latents) % 2 == number % 2
            self.register_buffer(f"kept{number}", kept, persistent=False)
            fixed = int(kept.sum())
            last = zeroed(convolution(width, 2 * (latents - fixed), 1))
            self.nets.append(nn.Sequential(convolution(width + fixed, width), nn.SiLU(), last))

    def forward(self, features: Tensor) -> Any:
        masks = [getattr(self, f"kept{number}") for number in range(len(self.nets))]
        given = [partial(_given, net, nnf.silu(features)) for net in self.nets]
        transforms = zuko_transforms()
        return transforms.ComposedTransform(*map(transforms.CouplingTransform, given, masks))


def _given(net: nn.Module, features: Tensor, fixed: Tensor) -> Any:
    """The transform of the other channels, given those that stay as they are, (batch, z, y, x, channels)."""
    transforms = zuko_transforms()
    found = net(torch.cat((fixed.movedim(-1, 1), features), 1)).movedim(1, -1).to(fixed.dtype)
    return transforms.DependentTransform(transforms.MonotonicAffineTransform(*found.chunk(2, -1)), 1)


@dataclass(frozen=True)
class FlowPosterior:
    """The distribution of z = m + s T(e). base: N(m, s^2), what z would be without the flow. still: it gets no gradients."""

    base: DiagonalGaussian
    transform: Any
    still: bool = False

    @cached_property
    def mean(self) -> Tensor:
        """Where e = 0 goes, which stands for the mean: of a Gaussian it is."""
        return self.sample(torch.zeros_like(self.base.mean))

    def sample(self, noise: Tensor) -> Tensor:
        """Noise N(0, I) to latents, (batch, channels, z, y, x), differentiable in all parameters."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.still):
            return self.base.sample(self.transform(noise.movedim(1, -1)).movedim(-1, 1))

    def log_densities(self, z: Tensor) -> Tensor:
        """log q(z) less 1/2 log 2 pi a latent, (batch, channels, z, y, x): its sum is exact, and what the flow stretches at
        a place is shared evenly among the channels there.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.still):
            noise, stretched = self.transform.inv.call_and_ladj(standardised(z, self.base).movedim(1, -1))
            square = noise.movedim(-1, 1).square()
            return stretched.unsqueeze(1) / z.shape[1] - 0.5 * (square + self.base.log_variance)

    def detach(self) -> FlowPosterior:
        """The same distribution, without gradients."""
        return replace(self, base=self.base.detach(), still=True)

    def moved(self, shift: Tensor, widen: Tensor) -> FlowPosterior:
        """Moved by ``shift`` in units of s, and widened by ``widen`` in ln s^2; T is what it was."""
        return replace(self, base=self.base.moved(shift, widen))
