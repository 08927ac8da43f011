"""Precision of convolutions. Sums and Fourier transforms are always float32."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cryovae.models.ladder import Ladder

# Variable of the environment: with any value, 'auto' is float32 on a processor, as on one that has no bfloat16.
NO_BFLOAT16 = "CRYOVAE_NO_BFLOAT16"

PRECISIONS = ("auto", "float32", "bfloat16")


def halved(precision: str, device: torch.device) -> bool:
    """Whether convolutions run in bfloat16 on a device: for 'bfloat16', and for 'auto' if the device has instructions for it."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and _processor_has_bfloat16()


def _processor_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16, and NO_BFLOAT16 is not set. Elsewhere it would be slower than float32."""
    if os.environ.get(NO_BFLOAT16):
        return False
    # Not every version of torch has these, and none has a public name for them.
    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(is_supported() for is_supported in known if is_supported is not None)


@contextmanager
def convolving(device: torch.device, mixed: bool) -> Iterator[None]:
    """Run the convolutions of all networks on a device in bfloat16 (``mixed``) or float32, also inside another such context."""
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        yield


@contextmanager
def precision_of(ladder: Ladder, mixed: bool) -> Iterator[None]:
    """Run the convolutions of a ladder in bfloat16 (``mixed``) or float32, and restore its setting afterwards."""
    before = ladder.mixed
    ladder.mixed = mixed
    try:
        yield
    finally:
        ladder.mixed = before
