"""The spectrum of a tomogram beside the wedge of the tilts in the form, before it is restored. No window is needed here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryovae.errors import InputError
from cryovae.evaluation.halves import middle_of
from cryovae.evaluation.plane_power import log_power_xz
from cryovae.evaluation.region import cut_out, faded
from cryovae.evaluation.wedge_comparison import described, disagreements
from cryovae.evaluation.wedge_detection import detect_wedge
from cryovae.io.orientation import upright
from cryovae.napari_plugin.layers import density_of
from cryovae.napari_plugin.restore_model import Request
from cryovae.tomogram import TiltGeometry

# Largest side of the middle of the tomogram of which the spectrum is taken.
SIDE = 192


@dataclass(frozen=True)
class WedgeCheck:
    """What the file shows, beside what the form says.

    Attributes:
        power: log10 power (k_z, k_x) of the middle of the tomogram.
        tilts: Tilt geometry of the form; None for a table, whose rows have their own.
        words: What the spectrum shows, and where it disagrees with the form, in one line each.
        agrees: Whether it does not disagree.
    """

    power: np.ndarray
    tilts: TiltGeometry
    words: tuple[str, ...]
    agrees: bool


def check_wedge(request: Request) -> WedgeCheck:
    """Compare the wedge of the options with the spectrum of the first volume. InputError if there are no tilts, or no volume."""
    if not request.volumes or request.volumes[0] is None:
        raise InputError("no layer chosen, expected a tomogram whose spectrum can be shown: open one with File > Open")
    parsed = request.parsed()
    tilts = parsed.geometry.geometries(1)[0]
    data = density_of(request.volumes[0])
    density = cut_out(data, middle_of(data.shape, SIDE))
    if parsed.geometry.unrotated:
        density = upright(density)
    seen = detect_wedge(density)
    shown = [f"The file shows {described(axis)}." for axis in seen.axes] or ["The file shows no wedge."]
    # The form may have turned the tilts round already.
    other = -parsed.geometry.adjustment.handedness
    wrong = [line.replace("pass --handedness -1", f"set Handedness to {other}") for line in disagreements(seen, tilts)]
    lines = [f"{line[:1].upper()}{line[1:]}." for line in wrong] or ["The tilts of the form agree with it."]
    return WedgeCheck(log_power_xz(faded(density).numpy()), tilts, (*shown, *lines), not wrong)
