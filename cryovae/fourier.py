"""The one Fourier convention: real, orthonormal, zero frequency first.

    F x (k) = N^(-1/2) sum_r x(r) exp(-2 pi i k r),        sum_r |x|^2 = sum_k c(k) |F x (k)|^2

k in cycles per voxel, c the multiplicity of a half spectrum (2 for the inner columns, 1 for column zero and the last
column of an even size). Nothing else in cryovae calls ``torch.fft``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

AXES = (-3, -2, -1)


def sum_dtype(device: torch.device) -> torch.dtype:
    """The type of sums over spectra on a device: float64, but float32 on a GPU of Apple, which has no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def transform(density: Tensor) -> Tensor:
    """Half spectrum (..., z, y, x // 2 + 1), complex, of a real density (..., z, y, x)."""
    return torch.fft.rfftn(density, dim=AXES, norm="ortho")


def inverse(spectrum: Tensor, shape: Sequence[int]) -> Tensor:
    """Real density (..., *shape) of a half spectrum; ``shape`` is the (z, y, x) of the density."""
    return torch.fft.irfftn(spectrum, s=tuple(shape), dim=AXES, norm="ortho")


def planes(density: Tensor) -> Tensor:
    """The transform along y and x alone; ``transform`` of a (z, y, x) density is ``along_z`` of its ``planes``."""
    return torch.fft.rfftn(density, dim=AXES[1:], norm="ortho")


def planes_inverse(spectrum: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of ``planes``: real (..., z, y, x), for ``shape`` (..., y, x)."""
    return torch.fft.irfftn(spectrum, s=tuple(shape[-2:]), dim=AXES[1:], norm="ortho")


def along_z(spectrum: Tensor) -> Tensor:
    """The transform along z of the result of ``planes``, or of some of its rows: (z, rows, x // 2 + 1)."""
    return torch.fft.fft(spectrum, dim=AXES[0], norm="ortho")


def along_z_inverse(spectrum: Tensor) -> Tensor:
    """The inverse of ``along_z``."""
    return torch.fft.ifft(spectrum, dim=AXES[0], norm="ortho")


def frequencies(shape: Sequence[int], device: torch.device | None = None, rows: slice = slice(None)) -> Tensor:
    """Frequencies (3, z, y, x // 2 + 1) in cycles per voxel, ordered (k_z, k_y, k_x), of a half spectrum or some ``rows`` (y)."""
    nz, ny, nx = shape
    kz = torch.fft.fftfreq(nz, device=device)
    ky = torch.fft.fftfreq(ny, device=device)[rows]
    kx = torch.fft.rfftfreq(nx, device=device)
    return torch.stack(torch.meshgrid(kz, ky, kx, indexing="ij"))


def radius(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """|k| (z, y, x // 2 + 1) in cycles per voxel."""
    return frequencies(shape, device).square().sum(0).sqrt()


def multiplicity(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """How often each column of a half spectrum occurs in the full one, (x // 2 + 1,): 1 or 2."""
    nx = shape[-1]
    count = torch.full((nx // 2 + 1,), 2.0, device=device)
    count[0] = 1.0
    if nx % 2 == 0:
        count[-1] = 1.0
    return count


def below_nyquist(shape: Sequence[int], device: torch.device | None = None) -> Tensor:
    """1 where no axis is at its Nyquist plane, else 0: (z, y, x // 2 + 1).

    Even sizes have a plane of frequency -1/2 without a partner at +1/2. A rotated mask is not Hermitian there and would be no
    projector, so these planes are left out of every likelihood.
    """
    k = frequencies(shape, device).abs()
    return (k < 0.5 - 1e-6).all(0).float()


def shell_sums(values: Tensor, shell: Tensor, shells: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Sums of values over the bins of each shell.

    Args:
        values: (rows, ...), one row for each quantity.
        shell: (...) or broadcastable to it, integer, 0 to ``shells`` - 1: the shell of each bin.
        shells: number of shells.
        dtype: of the sums.

    Returns:
        (rows, shells), on the device of ``values``.
    """
    return add_shell_sums(torch.zeros(len(values), shells, dtype=dtype, device=values.device), values, shell)


def add_shell_sums(sums: Tensor, values: Tensor, shell: Tensor) -> Tensor:
    """Add the sums of ``values`` by shell to ``sums`` (rows, shells), in place, for spectra that arrive in parts."""
    index = shell.expand(values.shape[1:]).flatten()
    for row, terms in zip(sums, values, strict=True):
        row.index_add_(0, index, terms.flatten().to(sums.dtype))
    return sums


def centred(table: Tensor, shape: Sequence[int]) -> Tensor:
    """The full spectrum (z, y, x), zero frequency in the middle, of a half spectrum that is equal at k and -k."""
    mirrored = table.flip(0, 1).roll((1, 1), (0, 1))[:, :, 1 : (shape[-1] + 1) // 2].flip(2)
    return torch.fft.fftshift(torch.cat((table, mirrored), -1))


def half_of(table: Tensor) -> Tensor:
    """The inverse of ``centred``: the half spectrum (z, y, x // 2 + 1), zero frequency first."""
    return torch.fft.ifftshift(table)[..., : table.shape[-1] // 2 + 1]


def filtered(density: Tensor, weight: Tensor) -> Tensor:
    """F^-1 [ weight F density ], shape kept; ``weight`` is real, on the half spectrum."""
    return inverse(transform(density) * weight, density.shape[-3:])


def resampled(density: Tensor, shape: Sequence[int]) -> Tensor:
    """A real density (z, y, x) resampled to a grid of ``shape`` over the same box, with the same grey values.

    Frequencies beyond Nyquist of the new grid are removed, and those beyond Nyquist of the old one are zero; Nyquist planes too.
    """
    old = density.shape[-3:]
    resized = torch.zeros((*shape[:2], shape[2] // 2 + 1), dtype=torch.complex64, device=density.device)
    spectrum = transform(density)
    # Along each axis, the frequencies of either sign that lie below Nyquist on both grids.
    z, y, x = ((min(a, b) - 1) // 2 for a, b in zip(old, shape, strict=True))
    for rows, to_rows in _both_signs(z, old[0], shape[0]):
        for columns, to_columns in _both_signs(y, old[1], shape[1]):
            resized[to_rows, to_columns, : x + 1] = spectrum[rows, columns, : x + 1]
    return inverse(resized, shape) * (math.prod(shape) / math.prod(old)) ** 0.5


def _both_signs(highest: int, old: int, new: int) -> list[tuple[slice, slice]]:
    """Slices of the frequencies up to ``highest`` along axes of ``old`` and ``new`` bins: from zero on, and below zero."""
    return [(slice(0, highest + 1),) * 2, (slice(old - highest, old), slice(new - highest, new))]
