"""Decides whether the bytes of mode 0 are signed: b in -128..127, or b mod 256 in 0..255.

They are signed in the standard MRC2014. They were unsigned before it, and in IMOD before 4.2.23; most such files have no stamp.
"""

from __future__ import annotations

import numpy as np

from cryovae.io.mrc.header import SIGNED_BYTES, Header

# Number of sampled sections, and side of the square sampled from each, in voxels.
SAMPLED_SECTIONS, SAMPLED_SIDE = 8, 512


def is_unsigned(header: Header, data: np.ndarray) -> tuple[bool, str | None]:
    """Whether bytes are unsigned.

    The first criterion that decides is used:
    1. IMOD's flags, if its stamp is present;
    2. the minimum and maximum in the header, if only one interpretation agrees with them;
    3. the smaller difference of neighbours, as the wrong interpretation has jumps of 256;
    4. the standard.

    Args:
        header: header of the file.
        data: voxels (sections, rows, columns) as int8.

    Returns:
        Whether the bytes are unsigned, and a note for the user or None.
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
    """Central squares of evenly spaced sections."""
    sections = np.unique(np.linspace(0, len(data) - 1, SAMPLED_SECTIONS).astype(int))
    starts = (max((n - SAMPLED_SIDE) // 2, 0) for n in data.shape[1:])
    rows, columns = (slice(start, start + SAMPLED_SIDE) for start in starts)
    return np.stack([np.asarray(data[i, rows, columns]) for i in sections])


def _fits(sample: np.ndarray, low: float, high: float) -> bool:
    """Whether the range in the header is possible for this type of byte and contains the sample, up to 1."""
    limits, darkest, brightest = np.iinfo(sample.dtype), int(sample.min()), int(sample.max())
    return limits.min <= low <= darkest + 1 and brightest - 1 <= high <= limits.max


def _roughness(sample: np.ndarray) -> float:
    """Mean absolute difference of neighbours along x."""
    return float(np.abs(np.diff(sample.astype(np.int16), axis=-1)).mean()) if sample.shape[-1] > 1 else 0.0
