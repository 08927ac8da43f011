"""Training and applying a deterministic network by one of the objectives of others: one answer, and no error bars.

x = 1/2 sum_i f(M y_i),            or f(M f(y_i)) where the objective says so                     over the halves
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cryovae import fourier
from cryovae.data.prefetch import Prefetcher
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.data.sampling import step_generator
from cryovae.errors import InputError
from cryovae.models.unet import UNet
from cryovae.objectives.cryogen import Adversary
from cryovae.objectives.deterministic import FROM_HALVES, NAMES, loss_of
from cryovae.objectives.elbo import numbers
from cryovae.objectives.regression import FREE, REFILLED, TWICE, HalfPair, draw_halves
from cryovae.objectives.schedules import learning_rate_at
from cryovae.physics.wedge import smeared_mask, volume_mask
from cryovae.tiling.grid import Blender, PatchGrid, cut
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.training.trainer import Interrupted, TrainingConfig, reproducible

REFILLS = 4
# By what the learning rate of the settings is multiplied: plain regression stands, and wants, larger steps than the likelihood.
RATE = 3.0


@dataclass
class _Halves:
    """A specimen, its halves (z, y, x) on its scale, and the same with their wedges filled, or as they are."""

    prepared: PreparedTomogram
    given: tuple[Tensor, Tensor]
    filled: tuple[Tensor, Tensor]


class Regressor:
    """A U-Net, its running average, and the tomograms to train on: the same steps, rates and clipping as the variational model.

    rotated: share of the batches turned by any rotation, for objectives that know how.

    All that a step draws follows from (seed, step), so a resumed run is the uninterrupted one on one device.
    """

    def __init__(
        self,
        network: UNet,
        tomograms: Sequence[Tomogram],
        config: TrainingConfig,
        objective: str,
        device: torch.device,
        rotated: float = 0.1,
    ) -> None:
        if objective not in NAMES:
            raise InputError(f"objective '{objective}' found, expected vae or one of {', '.join(NAMES)}")
        self.network = network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.config, self.objective, self.device = config, objective, device
        self.freely = rotated if objective in FREE else 0.0
        # Tomograms of a table are read each time they are gone through.
        lone = [t.name for t in tomograms if t.halves is None] if objective in FROM_HALVES else []
        if lone:
            raise InputError(
                f"{', '.join(lone)} has no halves, and {objective} takes its noise from them: pass --half1 and --half2"
            )
        self.loss = loss_of(objective, device, config.seed)
        prepared_tomograms = [prepare(tomogram, config.patch, config.seed) for tomogram in tomograms]
        halves = [halves_of(tomogram, prepared) for tomogram, prepared in zip(tomograms, prepared_tomograms, strict=True)]
        self.data = [_Halves(prepared, given, given) for prepared, given in zip(prepared_tomograms, halves, strict=True)]
        rate = RATE * config.learning_rate
        fused = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
        self.step = 0
        self.batches = Prefetcher(self._draw)

    def run(
        self,
        watch: Callable[[int, float], None] = lambda step, loss: None,
        save: Callable[[dict[str, Any]], None] = lambda state: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> UNet:
        """Train to the end; returns the averaged network. Raises Interrupted, its state saved, when ``stop`` says so."""
        fill = {round(self.config.steps * i / (self.refills() + 1)) for i in range(1, self.refills() + 1)}
        saved = time.monotonic()
        with closing(self.batches), reproducible():
            while self.step < self.config.steps:
                if stop():
                    save(self.state())
                    raise Interrupted(self.step)
                if self.step in fill:
                    self.refill()
                loss = self.advance(ahead=self.device.type == "cuda" and self.step + 1 not in fill)
                watch(self.step, loss)
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    save(self.state())
                    saved = time.monotonic()
        return self.average

    def _draw(self, step: int) -> HalfPair:
        config, rng = self.config, step_generator(self.config.seed, 2 * step)
        data = self.data[int(torch.randint(len(self.data), (1,), generator=rng))]
        pair = draw_halves(data.prepared, data.given, data.filled, config.patch, config.batch, rng, self.freely)
        return pair.to(self.device)

    def advance(self, ahead: bool = False) -> float:
        """One step; returns its loss. A step whose gradient is no number is left out. ahead: draw the next batch meanwhile."""
        config = self.config
        pair = self.batches(self.step, self.step + 1 if ahead else None)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(self.network, pair, step_generator(config.seed, 2 * self.step + 1))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        found = numbers({"loss": loss, "norm": norm})
        if isfinite(found["norm"]):
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate_at(self.step, config.steps, RATE * config.learning_rate)
            self.optimiser.step()
            decay = min(config.ema, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                get_ema_multi_avg_fn(decay)(list(self.average.parameters()), list(self.network.parameters()), 0)
        self.step += 1
        return found["loss"]

    def refills(self) -> int:
        """How often the inputs are refilled in all, at equal distances."""
        return REFILLS if self.objective in REFILLED else 0

    def refill(self) -> None:
        """Fill the missing wedge of all halves as the averaged network does, each tile by itself, as DeepDeWedge does."""
        for data in self.data:
            tilts = data.prepared.tilts
            mask = volume_mask(data.prepared.density.shape, tilts)
            found = [apply(self.average, half, tilts, self.config.patch, self.device, overlapping=False) for half in data.given]
            filled = [x + fourier.filtered(half - x, mask) for x, half in zip(found, data.given, strict=True)]
            data.filled = filled[0], filled[1]

    def answer(self, partial: Tensor) -> Tensor:
        """The averaged network's answer to u (batch, z, y, x), a patch with its wedge made empty."""
        found: Tensor = self.average(partial.to(self.device))
        if self.objective in TWICE:
            found = self.average(fourier.filtered(found, self.data[0].prepared.orientations.input_mask.to(self.device)))
        return found.cpu()

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors and plain numbers."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": self.loss.state() if isinstance(self.loss, Adversary) else {},
            "filled": {d.prepared.name: list(d.filled) for d in self.data if d.filled is not d.given},
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if isinstance(self.loss, Adversary):
            self.loss.resume(state["adversary"])
        for data in self.data:
            found = state["filled"].get(data.prepared.name)
            data.filled = data.given if found is None else (found[0], found[1])


def halves_of(tomogram: Tomogram, prepared: PreparedTomogram) -> tuple[Tensor, Tensor]:
    """The halves (z, y, x) on the specimen's scale; one volume stands for both, so its noise is not hidden from the network."""
    if tomogram.halves is None:
        return prepared.density, prepared.density
    return prepared.ready(tomogram.halves[0]), prepared.ready(tomogram.halves[1])


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
    network = network.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]
    prepared = prepare(tomogram, patch)
    tilts, scale, shift = prepared.tilts, prepared.scale, prepared.mean

    def answer(data: Tensor) -> Tensor:
        return apply(network, data, tilts, patch, device, twice=objective in TWICE)

    if tomogram.halves is None:
        found = answer(prepared.density) * scale + shift
        return Regression(found, found, None)
    given = halves_of(tomogram, prepared)
    first, second = (answer(half) for half in given)
    mean = (first + second) / 2
    weight = weight_of_data((first, second), given, volume_mask(mean.shape, tilts))
    consistent = mean + fourier.filtered(prepared.density - mean, weight)
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
        fourier.add_shell_sums(sums, terms, shell)
    v = (sums[0] / sums[1].clamp_min(1e-30)).clamp(0, 1).float()
    return mask * (2 * v / (1 + v))[shell]
