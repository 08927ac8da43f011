"""A non-Gaussian posterior: a normalising flow transforms the noise, which is then scaled and shifted.

    z = m + s u,    u = T(e),    e ~ N(0, I)
    log q(z) = log N(e; 0, I) - log |det dT/de| - sum log s

T is a chain of coupling layers (RealNVP; Dinh, Sohl-Dickstein, Bengio 2017). In each, half of the channels are scaled and
shifted by the output of a convolutional network of the other half and of the features. Latents of neighbouring positions can
therefore be correlated, which a diagonal Gaussian cannot express. The halves are split by channel, not by position, so T is
translation equivariant and overlapping tiles agree. T is initialised to the identity. The transforms are those of zuko.
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
from cryovae.models.distributions import DiagonalGaussian, Move, standardised
from cryovae.models.layers import convolution, zeroed

COUPLINGS = 4


def zuko_transforms() -> ModuleType:
    """Import zuko.transforms. The import disables the argument checks of torch.distributions, which are restored here.

    Raises:
        InputError: zuko is not installed.
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
    """Maps features (batch, width, z, y, x) to a transform T of latents with channels last, (batch, z, y, x, latents).

    Args:
        width: Channels of the features.
        latents: Channels of the latents.
    """

    def __init__(self, width: int, latents: int) -> None:
        super().__init__()
        zuko_transforms()
        self.nets = nn.ModuleList()
        for number in range(COUPLINGS):
            kept = torch.arange(latents) % 2 == number % 2
            self.register_buffer(f"kept{number}", kept, persistent=False)
            fixed = len(range(number % 2, latents, 2))
            last = zeroed(convolution(width, 2 * (latents - fixed), 1))
            self.nets.append(nn.Sequential(convolution(width + fixed, width), nn.SiLU(), last))

    def forward(self, features: Tensor) -> Any:
        masks = [getattr(self, f"kept{number}") for number in range(len(self.nets))]
        couplings = [partial(_affine, net, nnf.silu(features)) for net in self.nets]
        transforms = zuko_transforms()
        return transforms.ComposedTransform(*map(transforms.CouplingTransform, couplings, masks))


def _affine(net: nn.Module, features: Tensor, fixed: Tensor) -> Any:
    """The transform of half of the channels, conditioned on the ``fixed`` half, (batch, z, y, x, channels)."""
    transforms = zuko_transforms()
    parameters = net(torch.cat((fixed.movedim(-1, 1), features), 1)).movedim(1, -1).to(fixed.dtype)
    return transforms.DependentTransform(transforms.MonotonicAffineTransform(*parameters.chunk(2, -1)), 1)


@dataclass(frozen=True)
class FlowPosterior:
    """The distribution of z = m + s T(e).

    Attributes:
        base: N(m, s^2), the distribution of z if T is the identity.
        transform: T, a zuko transform of latents with channels last.
        detached: Whether gradients are disabled.
    """

    base: DiagonalGaussian
    transform: Any
    detached: bool = False

    @cached_property
    def mean(self) -> Tensor:
        """The image of e = 0, used in place of the mean; for a Gaussian it equals the mean."""
        return self.sample(torch.zeros_like(self.base.mean))

    def sample(self, noise: Tensor) -> Tensor:
        """Latents (batch, channels, z, y, x) from N(0, I) noise of that shape, differentiable in all parameters."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detached):
            return self.base.sample(self.transform(noise.movedim(1, -1)).movedim(-1, 1))

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) of each latent, (batch, channels, z, y, x), without the constant -1/2 log 2 pi.

        The sum over latents is exact. The log-determinant at a position is divided equally among its channels.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detached):
            noise, log_determinant = self.transform.inv.call_and_ladj(standardised(z, self.base).movedim(1, -1))
            square = noise.movedim(-1, 1).square()
            return log_determinant.unsqueeze(1) / z.shape[1] - 0.5 * (square + self.base.log_variance)

    def detach(self) -> FlowPosterior:
        """The same distribution without gradients."""
        return replace(self, base=self.base.detach(), detached=True)

    def moved(self, move: Move) -> FlowPosterior:
        """The distribution with its base shifted and widened by ``move``; T is unchanged."""
        return replace(self, base=self.base.moved(move))

    def within(self, prior: DiagonalGaussian) -> FlowPosterior:
        """The distribution itself: the width of a flow posterior is not limited."""
        return self
