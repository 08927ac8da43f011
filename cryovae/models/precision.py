"""In which numbers networks run: all else, sums and transforms above all, stays in float32."""

from __future__ import annotations

import torch

from cryovae.errors import InputError

PRECISIONS = ("auto", "float32", "bfloat16")


def checked(precision: str) -> None:
    """InputError for a precision that there is not."""
    if precision not in PRECISIONS:
        raise InputError(f"precision '{precision}' found, expected {', '.join(PRECISIONS)}")


def halved(precision: str, device: torch.device) -> bool:
    """Whether convolutions are to run in bfloat16 on a device: if told, or for 'auto' on a GPU that is made for it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"
