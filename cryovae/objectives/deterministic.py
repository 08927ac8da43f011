"""The losses of deterministic networks, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cryovae.errors import InputError
from cryovae.objectives.cryogen import Adversary, cryogen2
from cryovae.objectives.regression import OBJECTIVES, HalfPair, Network

Loss = Callable[[Network, HalfPair, torch.Generator], Tensor]

CRYOGEN1, CRYOGEN2 = "cryogen1", "cryogen2"
NAMES = (*OBJECTIVES, CRYOGEN1, CRYOGEN2)
# Losses that take their noise from the difference of halves.
FROM_HALVES = (CRYOGEN1, CRYOGEN2)


def loss_of(name: str, device: torch.device, seed: int) -> Loss:
    """The loss of a name, with a new critic if it needs one. InputError if there is no such loss."""
    if name not in NAMES:
        raise InputError(f"objective '{name}' found, expected vae or one of {', '.join(NAMES)}")
    if name == CRYOGEN1:
        return Adversary(device, seed)
    return cryogen2 if name == CRYOGEN2 else OBJECTIVES[name]
