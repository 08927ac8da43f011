"""Decides whether the bytes of mode 0 are signed: b in -128..127, or b mod 256 in 0..255.

They are signed in the standard of 2014. They were unsigned before, and in IMOD before 4.2.23; most such files have no stamp.
"""

from __future__ import annotations

import numpy as np

from cryovae.io.mrc.header import SIGNED_BYTES, Header

# Sections that are sampled, and the side of the square of each, in voxels.
SAMPLED_SECTIONS, SAMPLED_SIDE = 8, 512


def is_unsigned(header: Header, data: np.ndarray) -> tuple[bool, str | None]:
    """Whether data are to be read as unsigned, and a note where the standard does not decide.

    The decision follows IMOD's flags if its stamp is present; else the minimum and maximum of the header if they allow only one
    reading; else the reading in which neighbours differ less, as the wrong one has jumps of 256; else the standard.

    Args:
        header: of the file.
        data: int8 (sections, rows, columns).
    """
    flags = header.imod_flags
    if flags is not None:
        if flags & SIGNED_BYTES:
            return False, None
        return True, f"{header.path}: read as unsigned bytes, 0 to 255, as IMOD's flags say"
    sample = _sample(data)
    low, high = float(header.fields.dmin), float(header.fields.dmax)
    signed_fits, unsigned_fits = _fits(sample, low, high), _fits(sample.view(np.uint8), low, high)
    if signed_fits and (not unsigned_fits or sample.min() >= 0):
        return False, None
    if unsigned_fits and not signed_fits:
        return True, f"{header.path}: read as unsigned bytes, 0 to 255, as its header gives values from {low:g} to {high:g}"
    if sample.min() >= 0:
        return False, None
    signed, unsigned = _roughness(sample), _roughness(sample.view(np.uint8))
    decided = unsigned < signed or (unsigned == signed and sample.max() < 0)
    how = "unsigned bytes, 0 to 255" if decided else "signed bytes, -128 to 127"
    return decided, f"{header.path}: read as {how}, by its grey levels: the header has no stamp and no range that tells"


def _sample(data: np.ndarray) -> np.ndarray:
    """Evenly spaced sections, each cut to its middle."""
    sections = np.unique(np.linspace(0, len(data) - 1, SAMPLED_SECTIONS).astype(int))
    starts = (max((n - SAMPLED_SIDE) // 2, 0) for n in data.shape[1:])
    rows, columns = (slice(start, start + SAMPLED_SIDE) for start in starts)
    return np.stack([np.asarray(data[i, rows, columns]) for i in sections])


def _fits(sample: np.ndarray, low: float, high: float) -> bool:
    """Whether the range in a header is possible for this type of byte and contains the sample."""
    limits, darkest, brightest = np.iinfo(sample.dtype), int(sample.min()), int(sample.max())
    return limits.min <= low <= darkest + 1 and brightest - 1 <= high <= limits.max


def _roughness(sample: np.ndarray) -> float:
    """Mean absolute difference of neighbours along x."""
    return float(np.abs(np.diff(sample.astype(np.int16), axis=-1)).mean()) if sample.shape[-1] > 1 else 0.0
