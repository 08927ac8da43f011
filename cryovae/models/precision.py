"""Precision of convolutions. Sums and Fourier transforms are always float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cryovae.models.ladder import Ladder

PRECISIONS = ("auto", "float32", "bfloat16")


def halved(precision: str, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16 on a device: for 'bfloat16', and for 'auto' on a GPU with native bfloat16."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


@contextmanager
def precision_of(ladder: Ladder, mixed: bool) -> Iterator[None]:
    """Run the convolutions of a ladder in bfloat16 (``mixed``) or float32, and restore its setting afterwards."""
    before = ladder.mixed
    ladder.mixed = mixed
    try:
        yield
    finally:
        ladder.mixed = before
