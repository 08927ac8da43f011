"""Training and applying a deterministic network by one of the objectives of others: one answer, and no error bars.

x = 1/2 sum_i f(M y_i),            or f(M f(y_i)) where the objective says so                     over the halves
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

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

REFILLS = 4


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
        fill = {round(self.config.steps * i / (self.refills() + 1)) for i in range(1, self.refills() + 1)}
        while self.step < self.config.steps:
            if self.step in fill:
                self.refill()
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

    def refills(self) -> int:
        """How often the inputs are refilled in all, at equal distances."""
        return REFILLS if self.objective in REFILLED else 0

    def answer(self, partial: Tensor) -> Tensor:
        """The averaged network's answer to u (batch, z, y, x), a patch with its wedge made empty."""
        found: Tensor = self.average(partial.to(self.device))
        if self.objective in TWICE:
            found = self.average(fourier.filtered(found, self.specimen.orientations.given.to(self.device)))
        return found.cpu()

    def refill(self) -> None:
        """Fill the missing wedge of both halves as the averaged network does, each tile by itself, as DeepDeWedge does."""
        mask = volume_mask(self.specimen.density.shape, self.specimen.tilts)
        found = [
            apply(self.average, half, self.specimen.tilts, self.config.patch, self.device, overlapping=False)
            for half in self.halves
        ]
        filled = [x + fourier.filtered(half - x, mask) for x, half in zip(found, self.halves, strict=True)]
        self.filled = filled[0], filled[1]


def halves_of(tomogram: Tomogram, specimen: Specimen) -> tuple[Tensor, Tensor]:
    """The halves (z, y, x) on the specimen's scale; one volume stands for both, so its noise is not hidden from the network."""
    if tomogram.halves is None:
        return specimen.density, specimen.density
    first, second = ((torch.from_numpy(half) - specimen.mean) / specimen.scale for half in tomogram.halves)
    return first, second


@torch.no_grad()
def apply(
    network: UNet,
    data: Tensor,
    tilts: TiltGeometry,
    patch: int,
    device: torch.device,
    twice: bool = False,
    overlapping: bool = True,
) -> Tensor:
    """f of a standardised (z, y, x) volume, tile by tile, half overlapping and blended, wedge made empty as in training."""
    grid = PatchGrid((data.shape[0], data.shape[1], data.shape[2]), patch, patch // 2 if overlapping else patch)
    given = smeared_mask((patch,) * 3, tilts).to(device)
    blender = Blender(grid)
    for position in grid:
        tile = cut(data, position, patch)[None].to(device)
        # What is given twice is seen in training as it was cut at first, and only then with its wedge made empty.
        found = network(fourier.filtered(network(tile) if twice else tile, given))
        blender.add(position, found[0])
    return blender.blended()


@dataclass(frozen=True)
class Regression:
    """What a deterministic network makes of a tomogram, all (z, y, x) on the grey scale of the input.

    mean: of the answers to the halves. consistent: the same, weighted with the data where something was measured; the mean itself
    where there are no halves to find the weights from. halves: the answers to each half, or None.
    """

    mean: Tensor
    consistent: Tensor
    halves: tuple[Tensor, Tensor] | None


def regressed(network: UNet, tomogram: Tomogram, patch: int, objective: str, device: torch.device) -> Regression:
    """Apply a trained network to a tomogram: to both halves, or to one volume."""
    specimen = prepare(tomogram, patch)
    tilts, scale, shift = tomogram.tilts, specimen.scale, specimen.mean

    def answer(data: Tensor) -> Tensor:
        return apply(network, data, tilts, patch, device, twice=objective in TWICE)

    if tomogram.halves is None:
        found = answer(specimen.density) * scale + shift
        return Regression(found, found, None)
    given = halves_of(tomogram, specimen)
    first, second = (answer(half) for half in given)
    mean = (first + second) / 2
    weight = weight_of_data((first, second), given, volume_mask(mean.shape, tilts))
    consistent = mean + fourier.filtered(specimen.density - mean, weight)
    return Regression(mean * scale + shift, consistent * scale + shift, (first * scale + shift, second * scale + shift))


def weight_of_data(answers: tuple[Tensor, Tensor], halves: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """w (z, y, x // 2 + 1) with which w y + (1 - w) x has the least error, by shell, from what one half says of the other.

    With x0 = f(y0), v = < Re (y1 - x0) conj(y0 - x0) > / < |y0 - x0|^2 > is the best weight of y0, whose noise has twice the
    variance of the mean's: v = P / (P + 2 sigma^2), so w = P / (P + sigma^2) = 2 v / (1 + v). mask: where something was
    measured.
    """
    shape = mask.shape[0], mask.shape[1], answers[0].shape[-1]
    shell = (fourier.radius(shape) * min(shape)).round().long()
    sums = torch.zeros(2, int(shell.max()) + 1, dtype=torch.float64)
    inside = (mask == 1) * fourier.multiplicity(shape)
    for own, other in ((0, 1), (1, 0)):
        miss = fourier.transform(halves[own] - answers[own])
        across = fourier.transform(halves[other] - answers[own])
        terms = torch.stack(((across * miss.conj()).real, miss.abs().square())) * inside
        sums.index_add_(1, shell.flatten(), terms.double().flatten(1))
    v = (sums[0] / sums[1].clamp_min(1e-30)).clamp(0, 1).float()
    return mask * (2 * v / (1 + v))[shell]
