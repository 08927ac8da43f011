"""Fitted tables as plain numbers for a journal in JSON, and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from cryovae.physics.noise import SpectralTable

Record = TypeVar("Record")


def to_plain(value: Any) -> Any:
    """A dataclass of tensors, spectral tables and numbers as dictionaries and lists."""
    if isinstance(value, Tensor):
        return value.tolist()
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    return value


def from_plain(plain: dict[str, Any], kind: type[Record]) -> Record:
    """The dataclass that ``to_plain`` was given: a list becomes a float32 tensor, a dictionary a spectral table."""
    values = dict(plain)
    for name, value in plain.items():
        if isinstance(value, list):
            values[name] = torch.tensor(value)
        elif isinstance(value, dict):
            values[name] = from_plain(value, SpectralTable)
    return kind(**values)
