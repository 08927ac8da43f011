"""Fitted tables as plain numbers for a journal in JSON, and back."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor

Record = TypeVar("Record")


def to_plain(value: Any) -> Any:
    """A dataclass of tensors, dataclasses of them and numbers as dictionaries and lists."""
    if isinstance(value, Tensor):
        return value.tolist()
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    return value


def from_plain(plain: dict[str, Any], kind: type[Record]) -> Record:
    """The dataclass that ``to_plain`` was given: a list becomes a float32 tensor, a dictionary the dataclass of its field."""
    values, kinds = dict(plain), get_type_hints(kind)
    for name, value in plain.items():
        if isinstance(value, list):
            values[name] = torch.tensor(value)
        elif isinstance(value, dict):
            values[name] = from_plain(value, kinds[name])
    return kind(**values)
