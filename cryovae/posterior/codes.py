"""Codes: the latents of patches in units of the prior, from densities to codes and back.

    z_l = m_l(z_>l) + s_l(z_>l) e_l,        x = G(z),        e = (e_1 .. e_L) the code of x

m and s are the prior's mean and standard deviation, so that e ~ N(0, I) under the prior, and e_l = 0 is the prior's mean given
the coarser latents. The code of a patch u is that of r's means, e_l = (mu_r - m_l) / s_l, and it decodes to the same density. The
units matter if only a part of a code is changed: finer latents then follow the prior of the changed coarser ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cryovae.models.ladder import Ladder, R

# Latents fine to coarse, level l (batch, channels, z / 2^l, y / 2^l, x / 2^l); a level without latents has no channels.
Code = list[Tensor]


@torch.no_grad()
def encoded(ladder: Ladder, tiles: Tensor) -> tuple[Code, Tensor]:
    """Codes of tiles (batch, z, y, x), wedge and patch mean removed, and the densities (batch, z, y, x) that they decode to."""
    restored = ladder.posterior(ladder.encode(tiles, R), R).mean()
    code = [tiles.new_zeros(len(tiles), *shape) for shape in ladder.latent_shapes(tiles.shape[-3:])]
    for output in restored.levels:
        code[output.level] = output.code()
    return code, restored.density


@torch.no_grad()
def decoded(ladder: Ladder, code: Code) -> Tensor:
    """x (batch, z, y, x) of codes; the time is proportional to the number of patches."""
    with one_thread(), fast_convolutions():
        return ladder.prior(code[0].shape[-3:], len(code[0])).at(code).density


def prior_code(ladder: Ladder, side: int, count: int, temperature: float, seed: int) -> Code:
    """Codes of ``count`` patches of ``side`` voxels drawn from the prior; temperature: their standard deviation, 1 is p(z).

    Patches are drawn one after the other, coarse to fine, so that the first 4 of 8 are the 4 of a smaller draw, on any device.
    """
    generator = torch.Generator().manual_seed(seed)
    device = ladder.top.device
    shapes = ladder.latent_shapes((side, side, side))
    drawn = [[torch.randn(shape, generator=generator) for shape in reversed(shapes)] for _ in range(count)]
    return [temperature * torch.stack([d[len(shapes) - 1 - level] for d in drawn]).to(device) for level in range(len(shapes))]


def between(first: Code, second: Code, share: float) -> Code:
    """The code at ``share`` (0 to 1) of the way from one patch to another, by spherical interpolation of each level.

    e = |e| ( sin((1 - t) a) e_0 / |e_0| + sin(t a) e_1 / |e_1| ) / sin a,        |e| = (1 - t) |e_0| + t |e_1|

    a is the angle between the two (Shoemake 1985; for latents White 2016, arXiv 1609.04468). The codes of two patches are almost
    orthogonal: halfway along a straight line only sqrt(1/2) of the length is left, and the decoded contrast drops with it.
    """
    return [_along(a, b, share) for a, b in zip(first, second, strict=True)]


def _along(first: Tensor, second: Tensor, share: float) -> Tensor:
    one, two = (torch.linalg.vector_norm(e.flatten(1), dim=1).view(-1, 1, 1, 1, 1) for e in (first, second))
    straight = (1 - share) * first + share * second
    if first.numel() == 0:
        return straight
    ends = first / one.clamp_min(1e-20), second / two.clamp_min(1e-20)
    angle = torch.arccos((ends[0] * ends[1]).sum((1, 2, 3, 4), keepdim=True).clamp(-1, 1))
    length = (1 - share) * one + share * two
    round_ = (torch.sin((1 - share) * angle) * ends[0] + torch.sin(share * angle) * ends[1]) * length / torch.sin(angle)
    # There is no arc along one line or from the prior's mean; the ends must be exact.
    usable = (angle > 1e-3) & (angle < torch.pi - 1e-3) & (one > 0) & (two > 0)
    return straight if share in (0, 1) else torch.where(usable, round_, straight)


class _OneDnn(TorchFunctionMode):
    """Sends 3D convolutions to oneDNN.

    torch uses a plain implementation for a single patch with few channels: 70 ms instead of 7 for a convolution of 16 channels
    at 32^3.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.conv3d and len(args) == 7 and not kwargs:
            density, weight, bias, stride, padding, dilation, groups = args
            is_plain = density.dtype == torch.float32 and not isinstance(padding, str) and not torch.is_autocast_enabled("cpu")
            if density.device.type == "cpu" and is_plain:
                return torch.ops.aten.mkldnn_convolution(density, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """Convolutions by oneDNN, also of a single patch, if torch was built with it."""
    if not torch.backends.mkldnn.is_available():
        yield
        return
    with _OneDnn():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """One processor thread: with a single patch, or during training, several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def flattened(code: Code, finest: int) -> Tensor:
    """The latents of a code from the coarsest level down to ``finest`` as rows (batch, D), coarse first, on the processor."""
    return torch.cat([level.flatten(1) for level in reversed(code[finest:])], 1).cpu()


def unflattened(rows: Tensor, shapes: Sequence[tuple[int, int, int, int]], finest: int, rest: Code | None = None) -> Code:
    """Codes of rows (batch, D); levels finer than ``finest`` from ``rest``, or at the prior's mean, which is 0.

    shapes: (channels, z, y, x) of the latents, fine to coarse.
    """
    code = [rows.new_zeros(len(rows), *shape) for shape in shapes] if rest is None else [level.to(rows) for level in rest]
    start = 0
    for level in range(len(shapes) - 1, finest - 1, -1):
        size = prod(shapes[level])
        code[level] = rows[:, start : start + size].reshape(len(rows), *shapes[level])
        start += size
    return code
