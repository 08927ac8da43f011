"""Values in another unit than the one expected: refused with the value that was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from math import degrees, isfinite, log

from cryovae.errors import InputError

# Smaller values of defocus are probably in micrometres, larger ones are impossible; overfocus that is usual with a phase plate.
# All in angstrom.
LEAST_DEFOCUS, MOST_DEFOCUS, OVERFOCUS = 50.0, 1e6, 5000.0
# Phase shifts that are probably in radians; smallest phase shift in degrees that is a phase plate.
RADIANS, PHASE_PLATE = (0.2, 3.2), 10.0
# Smallest and largest voxel size in angstrom.
LEAST_VOXEL, MOST_VOXEL = 0.1, 1e4


def nearest(
    value: float, factors: Sequence[tuple[float, str]], low: float, high: float, usual: float
) -> tuple[float, str] | None:
    """The value in the expected unit, and the unit in which it was probably given.

    Args:
        value: as it was given, above 0.
        factors: other units, each after the factor that converts it to the expected unit.
        low: lowest plausible value.
        high: highest plausible value.
        usual: a usual value; of several plausible conversions, the nearest to it is taken.

    Returns:
        None if no conversion gives a plausible value.
    """
    if not isfinite(value) or value <= 0:
        return None
    plausible = [(value * factor, unit) for factor, unit in factors if low <= value * factor <= high]
    return min(plausible, key=lambda pair: abs(log(pair[0] / usual)), default=None)


def meant(
    value: float, factors: Sequence[tuple[float, str]], low: float, high: float, usual: float, otherwise: str = "correct it"
) -> str:
    """The end of a message: the value that was probably meant, or what to do otherwise."""
    guess = nearest(value, factors, low, high, usual)
    return otherwise if guess is None else f"did you mean {guess[0]:.6g}? It seems to be in {guess[1]}"


def check_voltage(value: float) -> None:
    """InputError if an acceleration voltage is not in kV."""
    if not 20 <= value <= 2000:
        hint = meant(value, ((1e-3, "volts"), (1e3, "megavolts")), 20, 2000, 300)
        raise InputError(f"voltage {value:g} kV found, expected kilovolts, e.g. 300: {hint}")


def check_aberration(value: float) -> None:
    """InputError if a spherical aberration is not in millimetres."""
    if not 0 <= value <= 20:
        hint = meant(value, ((1e-3, "micrometres"), (1e-6, "nanometres"), (1e-7, "angstrom")), 0.1, 20, 2.7)
        raise InputError(f"spherical aberration {value:g} mm found, expected millimetres, e.g. 2.7: {hint}")


def check_amplitude(value: float) -> None:
    """InputError if an amplitude contrast is not a fraction."""
    if not 0 <= value <= 1:
        hint = meant(value, ((1e-2, "percent"),), 0, 1, 0.1)
        raise InputError(f"amplitude contrast {value:g} found, expected a fraction from 0 to 1, e.g. 0.1: {hint}")


def check_phase_shift(value: float) -> None:
    """InputError if a phase shift is not in degrees."""
    if RADIANS[0] <= abs(value) <= RADIANS[1]:
        hint = f"did you mean {degrees(value):.4g}? It seems to be in radians; without a phase plate give 0"
        raise InputError(f"phase shift {value:g} degrees found, expected degrees, e.g. 90: {hint}")
    if not abs(value) <= 360:
        raise InputError(f"phase shift {value:g} degrees found, expected degrees within -360 to 360: correct it")


def check_b_factor(value: float) -> None:
    """InputError if a B factor amplifies, or is out of range."""
    if value < 0:
        hint = f"did you mean {-value:g}? A negative one sharpens"
        raise InputError(f"B factor {value:g} found, expected square angstrom, 0 or more: {hint}")
    if not value <= 1e5:
        raise InputError(f"B factor {value:g} found, expected square angstrom, e.g. 100: correct it")


def check_defocus(values: Sequence[float], phase_shift: float) -> None:
    """InputError if defoci are not in angstrom, or have the sign of overfocus.

    The median is checked, because some tilts of a series may be fitted wrongly. A phase plate may be used close to focus.
    """
    median = sorted(values)[len(values) // 2]
    units = ((1e4, "micrometres"), (10.0, "nanometres"), (1e10, "metres"))
    expected = "angstrom, underfocus positive, e.g. 30000"
    if 0 < abs(median) < LEAST_DEFOCUS:
        hint = meant(abs(median), units, 1000, 2e5, 3e4)
        raise InputError(f"defocus {median:g} angstrom found, expected {expected}: {hint}")
    if median < 0 and not (abs(phase_shift) >= PHASE_PLATE and median >= -OVERFOCUS):
        hint = f"did you mean {-median:g}? Programs with underfocus negative have the other sign"
        raise InputError(f"defocus {median:g} angstrom found, expected {expected}: {hint}")
    if abs(median) > MOST_DEFOCUS:
        hint = meant(abs(median), ((1e-2, "picometres"),), 1000, 2e5, 3e4)
        raise InputError(f"defocus {median:g} angstrom found, expected {expected}: {hint}")


def defocus_option(value: float) -> float:
    """A defocus in angstrom from one in micrometres. InputError if it is not in micrometres."""
    if not LEAST_DEFOCUS / 1e4 <= abs(value) < 100:
        hint = meant(abs(value), ((1e-3, "nanometres"), (1e-4, "angstrom"), (1e6, "metres")), 0.1, 20, 3)
        raise InputError(f"--defocus {value:g} found, expected micrometres, underfocus positive, e.g. 2.5: {hint}")
    if value <= -OVERFOCUS / 1e4:
        hint = f"did you mean {-value:g}? Programs with underfocus negative have the other sign"
        raise InputError(f"--defocus {value:g} found, expected micrometres, underfocus positive, e.g. 2.5: {hint}")
    return 1e4 * value


def voxel_size_hint(value: float) -> str:
    """The voxel size in angstrom that was probably meant; empty if nothing is plausible."""
    factors = ((10.0, "nanometres"), (1e4, "micrometres"), (1e10, "metres"), (1e-2, "picometres"))
    return meant(value, factors, 0.5, 200, 10, otherwise="")


def check_voxel_size(value: float, where: str) -> None:
    """InputError if a voxel size is not in angstrom; ``where`` names the option or column."""
    if not LEAST_VOXEL <= value < MOST_VOXEL:
        hint = voxel_size_hint(value) or "correct it"
        raise InputError(f"{where} {value:g} found, expected angstrom above 0, e.g. 10.0: {hint}")
