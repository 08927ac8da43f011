"""CryoGEN: a restored density, rotated and measured again, must look like data (the P_Y proxy).

y0, y1: halves of a patch. M: the wedge mask, R: a rotation. n: noise like that of a half, ( y0 - y1 ) / sqrt(2) of another patch.

    x = f(M y0),        fake = M ( R x + n ),        real = M y1            what is cut out of a tomogram leaks into the wedge

    CryoGEN-I     || M (x - y1) ||^2 + JUDGED E softplus( -D(fake) )
                  D: a critic, trained against f on E softplus( D(fake) ) + E softplus( -D(real) ): the log ratio of densities
    CryoGEN-II    || M (x - y1) ||^2 + MOVED W(fake, real)
                  W: a sliced distance of transport, without a critic

W compares clouds of boxes of BOX^3 voxels from all places of a batch, at voxels averaged by 1, 2 and 4: noise hides what is fine,
and the wedge's streaks are wide. Along each of DIRECTIONS random unit vectors it is the squared 2-Wasserstein distance of the
projections, over the variance of the real ones.

CryoGEN is published as "Cryogenic Electron Tomography Reconstruction via Generative Energy Nets" (ICLR 2025). The losses here
are reconstructions: only the openings of the pages of both methods could be read (open-cryo.org, CryoGEN-I and II), and no code.
There the two differ as here, an energy given by a discriminator against transport without one; which distance, weights, noise
and network are meant is not known. Both assume that specimens look alike from all sides, which membranes
that lie flat in a lamella do not. Boxes as a cloud: Elnekave and Weiss, ECCV 2022 (direct patch distribution matching).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from cryovae import distributed, fourier
from cryovae.models.layers import convolution
from cryovae.objectives.aggregate import sliced
from cryovae.objectives.regression import HalfPair, Network, masked_power

# On the sample, 240 steps, the wedge's correlation with the truth was 0.07, 0.15 and 0.07 for a MOVED of 0.3, 10 and 100.
JUDGED, MOVED = 0.3, 10.0
BOX, SCALES, DIRECTIONS = 5, (1, 2, 4), 32
# Boxes of a cloud: few boxes are far from any others.
MIN_BOXES, MAX_BOXES = 50, 4096
# Channels of the critic, each layer at half the size, and its learning rate.
CHANNELS, RATE = (16, 32, 64), 2e-4


def critic_input(network: Network, pair: HalfPair) -> tuple[Tensor, Tensor, Tensor]:
    """Misfit of x to the other half, and the fake and real densities (batch, z, y, x)."""
    restored = network(fourier.filtered(pair.first, pair.input_mask))
    noise = (pair.first - pair.second).roll(1, 0) / 2**0.5
    fake, real = (fourier.filtered(x, pair.input_mask) for x in (pair.rotated(restored) + noise, pair.second))
    return masked_power(restored - pair.second, pair.input_mask), fake, real


def cryogen2(network: Network, pair: HalfPair, generator: torch.Generator) -> Tensor:
    """CryoGEN-II's loss: one stable density, by transport."""
    fit, fake, real = critic_input(network, pair)
    return fit + MOVED * transport(fake, real, generator)


def transport(fake: Tensor, real: Tensor, generator: torch.Generator) -> Tensor:
    """W between the boxes of two batches (batch, z, y, x), a mean over the scales that have enough of them, the finest always."""
    distances: list[Tensor] = []
    for scale in SCALES:
        one, two = (_boxes(x, scale) for x in (fake, real))
        if len(one) < MIN_BOXES and distances:
            break
        count = min(len(one), MAX_BOXES)
        rows = [torch.randperm(len(cloud), generator=generator)[:count].to(cloud.device) for cloud in (one, two)]
        one, two = one[rows[0]], two[rows[1]]
        directions = torch.randn(DIRECTIONS, BOX**3, generator=generator).to(fake.device)
        # Units in which the real projections have variance 1, on average over the directions.
        unit = directions / directions.norm(dim=1, keepdim=True)
        distances.append(sliced(one, two, directions) / (two @ unit.T).var(0).mean().detach().clamp_min(1e-12))
    return torch.stack(distances).mean()


def _boxes(density: Tensor, scale: int) -> Tensor:
    """All boxes, half overlapping, of densities averaged over ``scale`` voxels along each axis: (boxes, BOX^3)."""
    coarse = nnf.avg_pool3d(density[:, None], scale)[:, 0] if scale > 1 else density
    if min(coarse.shape[-3:]) < BOX:
        return coarse.new_zeros(0, BOX**3)
    step = BOX // 2
    cut = coarse.unfold(1, BOX, step).unfold(2, BOX, step).unfold(3, BOX, step)
    return cut.reshape(-1, BOX**3)


class Critic(nn.Module):
    """Densities (batch, z, y, x) to logits, one for each place: positive where a place looks real."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, *CHANNELS)
        self.layers = nn.ModuleList(nn.Conv3d(a, b, 4, stride=2, padding=1) for a, b in zip(widths, CHANNELS, strict=False))
        self.out = convolution(CHANNELS[-1], 1)

    def forward(self, density: Tensor) -> Tensor:
        """Logits (batch, 1, z / 8, y / 8, x / 8)."""
        x = density.unsqueeze(1)
        for layer in self.layers:
            x = nnf.leaky_relu(layer(x), 0.2)
        logits: Tensor = self.out(x)
        return logits


class Adversary:
    """CryoGEN-I's loss with its critic; in each step the critic is updated first, and then f.

    Attributes:
        critic: the critic.
        accuracy: share of places that the critic judged right in the last step. At 0.5 it knows no difference. At 1 it has won
            and teaches f nothing more: the game has no stable end.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.critic = Critic().to(device)
        self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=RATE, betas=(0.5, 0.9))
        self.accuracy = torch.tensor(0.5)

    def __call__(self, network: Network, pair: HalfPair, generator: torch.Generator) -> Tensor:
        """The loss of f; the critic takes its step."""
        fit, fake, real = critic_input(network, pair)
        self.optimiser.zero_grad(set_to_none=True)
        as_fake, as_real = self.critic(fake.detach()), self.critic(real)
        # A mean over the batches of all processes.
        ((nnf.softplus(as_fake).mean() + nnf.softplus(-as_real).mean()) / distributed.count()).backward()
        distributed.sum_gradients(list(self.critic.parameters()))
        self.optimiser.step()
        dtype = fourier.sum_dtype(as_fake.device)
        self.accuracy = ((as_fake < 0).to(dtype).mean() + (as_real > 0).to(dtype).mean()) / 2
        for parameter in self.critic.parameters():
            parameter.requires_grad_(False)
        judged = nnf.softplus(-self.critic(fake)).mean()
        for parameter in self.critic.parameters():
            parameter.requires_grad_(True)
        return fit + JUDGED * judged

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {"critic": self.critic.state_dict(), "optimiser": self.optimiser.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.critic.load_state_dict(state["critic"])
        self.optimiser.load_state_dict(state["optimiser"])
