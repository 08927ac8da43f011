"""Can a small network tell draws from data? The area under its ROC curve, 0.5 if it cannot and 1 if it always can.

Both sets are divided in two. A network learns from the first halves and judges the second ones, and another one the other way
round. Data patches of one scene stay together, so that no half has seen the scenes of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from scipy.stats import rankdata
from torch import Tensor, nn

from cryovae.physics.rotation import cube_rotations

# Channels of the three layers, passes over the training half, patches a step, and weight decay.
WIDTHS, PASSES, BATCH, DECAY = (16, 32, 64), 24, 16, 0.02


@dataclass(frozen=True)
class Separation:
    """How well a classifier separates draws from data.

    Attributes:
        auc: area under the ROC curve of judgements on held-out halves, 0 to 1.
        error: its standard error (Hanley and McNeil 1982).
    """

    auc: float
    error: float


def _network() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Conv3d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(WIDTHS[-1], 1))


def separation(data: Tensor, draws: Tensor, seed: int = 0, scenes: Tensor | None = None) -> Separation:
    """Train two networks and judge.

    Args:
        data: patches (n, z, y, x), cubes.
        draws: patches (m, z, y, x) of the same size.
        seed: of all random numbers.
        scenes: number of the scene of each data patch, (n,); None if all are independent.
    """
    scale = data.std().clamp_min(1e-9)
    data, draws = (data - data.mean()) / scale, (draws - data.mean()) / scale
    groups = torch.arange(len(data)) if scenes is None else scenes
    halves = groups.unique()[::2]
    first = torch.isin(groups, halves)
    second_draws = torch.arange(len(draws)) % 2 == 1
    sides = [(data[first], draws[~second_draws]), (data[~first], draws[second_draws])]
    scores, labels = [], []
    for number, (learned, judged) in enumerate(((0, 1), (1, 0))):
        network = _trained(*sides[learned], seed + number)
        for label, patches in enumerate(sides[judged]):
            scores.append(_judged(network, patches))
            labels.append(np.full(len(patches), label))
    # Each network has a scale of its own, so each is ranked by itself.
    folds = [area(np.concatenate(scores[i : i + 2]), np.concatenate(labels[i : i + 2])) for i in (0, 2)]
    mean = float(np.mean(folds))
    return Separation(mean, _standard_error(mean, len(data), len(draws)))


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve of scores for labels 0 and 1: the chance that a 1 has the higher score."""
    order = rankdata(scores)
    ones = labels == 1
    count = int(ones.sum())
    return float((order[ones].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def _trained(data: Tensor, draws: Tensor, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=DECAY)
        patches = torch.cat((data, draws))
        # Both kinds count alike, whatever their numbers.
        labels = torch.cat((torch.zeros(len(data)), torch.ones(len(draws))))
        weights = torch.where(labels == 1, len(patches) / (2 * len(draws)), len(patches) / (2 * len(data)))
        steps = max(PASSES * len(patches) // BATCH, 1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
        rotations = cube_rotations()
        for _ in range(steps):
            index = torch.randint(len(patches), (BATCH,), generator=generator)
            rotation = rotations[int(torch.randint(24, (1,), generator=generator))]
            logits = network(rotation(patches[index])[:, None]).squeeze(1)
            loss = nnf.binary_cross_entropy_with_logits(logits, labels[index], weights[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def _judged(network: nn.Module, patches: Tensor) -> np.ndarray:
    """Scores (n,), the mean over four rotations."""
    rotations = cube_rotations()[::6]
    parts = []
    for start in range(0, len(patches), 64):
        part = patches[start : start + 64]
        parts.append(torch.stack([network(rotation(part)[:, None]).squeeze(1) for rotation in rotations]).mean(0))
    judged: np.ndarray = torch.cat(parts).numpy()
    return judged


def _standard_error(auc: float, first: int, second: int) -> float:
    """Of an area under the curve from ``first`` and ``second`` patches."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (second - 1) * (one - auc**2) + (first - 1) * (two - auc**2)
    return float(max(spread / (first * second), 0.0) ** 0.5)
