"""Training and applying a deterministic network by one of the objectives of others: one answer, and no error bars.

x = 1/2 sum_i f(M y_i),            or f(M f(y_i)) where the objective says so                     over the halves
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.models.unet import UNet
from cryovae.objectives.regression import OBJECTIVES, REFILLED, TWICE, draw_halves
from cryovae.objectives.sampling import step_generator
from cryovae.objectives.schedules import learning_rate_at
from cryovae.objectives.specimen import Specimen, prepare
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.tiling.grid import Blender, PatchGrid, cut
from cryovae.tomogram import InputError, TiltGeometry, Tomogram
from cryovae.train import TrainingConfig

REFILL_EVERY = 0.2


class Regressor:
    """A U-Net, its running average, and one tomogram to train on: the same steps, rates and clipping as the variational model."""

    def __init__(self, network: UNet, tomogram: Tomogram, config: TrainingConfig, objective: str, device: torch.device) -> None:
        if objective not in OBJECTIVES:
            raise InputError(f"objective '{objective}' found, expected vae or one of {', '.join(OBJECTIVES)}")
        self.network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.config, self.objective, self.device = config, objective, device
        self.specimen = prepare(tomogram, config.patch, config.seed)
        self.halves = halves_of(tomogram, self.specimen)
        self.filled = self.halves
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.step = 0

    def run(self, watch: Callable[[int, float], None] = lambda step, loss: None) -> UNet:
        """Train to the end; returns the averaged network."""
        refills = {round(self.config.steps * REFILL_EVERY * i) for i in range(1, round(1 / REFILL_EVERY))}
        while self.step < self.config.steps:
            if self.objective in REFILLED and self.step in refills:
                self.filled = self._refilled()
            watch(self.step, self.advance())
        return self.average

    def advance(self) -> float:
        """One step; returns its loss."""
        config, seed = self.config, 2 * self.step
        rng = step_generator(config.seed, seed)
        pair = draw_halves(self.specimen, self.halves, self.filled, config.patch, config.batch, rng)
        self.optimiser.zero_grad(set_to_none=True)
        loss = OBJECTIVES[self.objective](self.network, pair, step_generator(config.seed, seed + 1))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate_at(self.step, config.steps, config.learning_rate)
        self.optimiser.step()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1 - decay)
        self.step += 1
        return float(loss.detach())

    def _refilled(self) -> tuple[Tensor, Tensor]:
        """Both halves with their missing wedge as the averaged network fills it."""
        mask = volume_mask(self.specimen.density.shape, self.specimen.tilts)
        found = [apply(self.average, half, self.specimen.tilts, self.config.patch, False, self.device) for half in self.halves]
        filled = [x + fourier.filtered(half - x, mask) for x, half in zip(found, self.halves, strict=True)]
        return filled[0], filled[1]


def halves_of(tomogram: Tomogram, specimen: Specimen) -> tuple[Tensor, Tensor]:
    """The halves (z, y, x) on the specimen's scale; one volume stands for both, so its noise is not hidden from the network."""
    if tomogram.halves is None:
        return specimen.density, specimen.density
    first, second = ((torch.from_numpy(half) - specimen.mean) / specimen.scale for half in tomogram.halves)
    return first, second


@torch.no_grad()
def apply(network: UNet, data: Tensor, tilts: TiltGeometry, patch: int, twice: bool, device: torch.device) -> Tensor:
    """f of a standardised (z, y, x) volume, tile by tile, half overlapping and blended, wedge made empty as in training."""
    stride = network.config.stride
    side = -(-patch // (2 * stride)) * 2 * stride
    grid = PatchGrid((data.shape[0], data.shape[1], data.shape[2]), side, side // 2)
    given = smeared_mask((side,) * 3, tilts).to(device)
    blender = Blender(grid)
    for position in grid:
        tile = cut(data, position, side)[None].to(device)
        found = network(fourier.filtered(tile, given))
        if twice:
            found = network(fourier.filtered(found, given))
        blender.add(position, found[0])
    return blender.blended()


def regressed(network: UNet, tomogram: Tomogram, patch: int, objective: str, device: torch.device) -> Tensor:
    """The answer (z, y, x) on the grey scale of the input: the mean of the network's answers to the halves."""
    specimen = prepare(tomogram, patch)
    halves = halves_of(tomogram, specimen)
    different = halves if tomogram.halves is not None else halves[:1]
    found = [apply(network, half, tomogram.tilts, patch, objective in TWICE, device) for half in different]
    return sum(found[1:], found[0]) / len(found) * specimen.scale + specimen.mean
