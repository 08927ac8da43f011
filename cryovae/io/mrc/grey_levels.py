"""Whether the bytes of mode 0 are signed: b in -128..127, or b mod 256 in 0..255.

The standard says signed since 2014; before, and in IMOD before 4.2.23, they were unsigned, and most such files have no stamp.
"""

from __future__ import annotations

import numpy as np

from cryovae.io.mrc.header import SIGNED_BYTES, Header

SLICES, SIDE = 8, 512


def is_unsigned(header: Header, data: np.ndarray) -> tuple[bool, str | None]:
    """Whether ``data``, int8 (sections, rows, columns), is to be read as unsigned, and what was decided where in doubt.

    IMOD's flags decide if its stamp is there. Else the reading that the header's least and greatest value allow, if they allow
    only one. Else the one in which neighbours differ less, for the wrong one has jumps of 256; else the standard.
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
    """Sections spread over the file, each cut to its middle."""
    chosen = np.unique(np.linspace(0, len(data) - 1, SLICES).astype(int))
    _, rows, columns = (slice(max((n - SIDE) // 2, 0), max((n - SIDE) // 2, 0) + SIDE) for n in data.shape)
    return np.stack([np.asarray(data[i, rows, columns]) for i in chosen])


def _fits(sample: np.ndarray, low: float, high: float) -> bool:
    """Whether a range from a header is one of this kind of byte, and holds what was sampled."""
    limits, darkest, brightest = np.iinfo(sample.dtype), int(sample.min()), int(sample.max())
    return limits.min <= low <= darkest + 1 and brightest - 1 <= high <= limits.max


def _roughness(sample: np.ndarray) -> float:
    return float(np.abs(np.diff(sample.astype(np.int16), axis=-1)).mean()) if sample.shape[-1] > 1 else 0.0
