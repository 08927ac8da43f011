"""Reads Warp's tilt series (.xml): angles, dose, excluded tilts, tilt axis, level angles, and the defocus of each tilt.

    angle = -(Angles + LevelAngleY)

Warp's tilt angles have the opposite sign of those of IMOD and RELION; Warp's ts_import changes the sign. ts_autolevel rotates the
reconstruction by LevelAngleX and LevelAngleY: an image shows R_y R_x(LevelAngleX) r, so the tilt axis is R_x(-LevelAngleX) y.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from cryovae.errors import InputError
from cryovae.io.tilts.series import TiltSeries

MICROMETRE = 1e4


def tilt_series_in(path: Path, text: str) -> TiltSeries:
    """Read the tilts of a Warp .xml file; tilts with UseTilt False are excluded. InputError for XML of another kind."""
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as XML ({str(error)[:80]}): export it from Warp again") from error
    if root.tag != "TiltSeries":
        raise InputError(f"{path} holds <{root.tag[:40]}>, expected <TiltSeries>: give that of a tilt series, not of frames")
    words = _words(root, "Angles")
    if not words:
        raise InputError(f"{path} has no <Angles>, expected one a tilt: import the tilt series with Warp first")
    count = len(words)
    level_x, level_y = (_number(path, f"LevelAngle{axis}", root.get(f"LevelAngle{axis}", "0")) for axis in "XY")
    axis = _numbers(path, root, "AxisAngle", count)
    params = {p.get("Name"): p.get("Value", "") for p in root.findall("./CTF/Param")}
    known = {name: _number(path, name, params[name]) for name in ("Voltage", "Cs", "Amplitude", "PixelSize") if params.get(name)}
    defocus_u, defocus_v = _defocus(path, root, count, params)
    return TiltSeries(
        tuple(-(_number(path, "Angles", word) + level_y) for word in words),
        _excluded(path, root, count),
        dose=_numbers(path, root, "Dose", count),
        defocus_u=defocus_u,
        defocus_v=defocus_v,
        axis_angle=None if axis is None else sum(axis) / count,
        x_tilt=-level_x,
        voltage=known.get("Voltage"),
        spherical_aberration=known.get("Cs"),
        amplitude_contrast=known.get("Amplitude"),
        pixel_size=known.get("PixelSize"),
        names=tuple(names) if len(names := _words(root, "MoviePath")) == count else None,
    )


def _words(root: ElementTree.Element, tag: str) -> list[str]:
    """Values of an element, one per line; a value may contain spaces."""
    return [line.strip() for line in (root.findtext(tag) or "").splitlines() if line.strip()]


def _number(path: Path, name: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path} has '{word[:40]}' for {name}, expected a number: export it from Warp again")
    return value


def _numbers(path: Path, root: ElementTree.Element, tag: str, count: int) -> tuple[float, ...] | None:
    words = _words(root, tag)
    if words and len(words) != count:
        raise InputError(f"{path} has {count} Angles and {len(words)} {tag}, expected as many: export it from Warp again")
    return tuple(_number(path, tag, word) for word in words) or None


def _excluded(path: Path, root: ElementTree.Element, count: int) -> tuple[bool, ...]:
    words = [word.lower() for word in _words(root, "UseTilt")] or ["true"] * count
    if len(words) != count or not set(words) <= {"true", "false"}:
        raise InputError(f"{path} has {count} Angles and {len(words)} UseTilt, expected True or False for each: export it again")
    return tuple(word == "false" for word in words)


def _defocus(
    path: Path, root: ElementTree.Element, count: int, params: dict[str | None, str]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Defocus U and V of each tilt in angstrom.

    The grids contain the mean of U and V and their difference, in micrometres. Without a grid, one value applies to all tilts.
    """
    middle = _grid(path, root, "GridCTF", count)
    if middle is None and params.get("Defocus"):
        middle = (_number(path, "Defocus", params["Defocus"]),) * count
    if middle is None:
        return None, None
    delta = _grid(path, root, "GridCTFDefocusDelta", count)
    if delta is None:
        delta = (_number(path, "DefocusDelta", params.get("DefocusDelta") or "0"),) * count
    pairs = list(zip(middle, delta, strict=True))
    return tuple((m + d / 2) * MICROMETRE for m, d in pairs), tuple((m - d / 2) * MICROMETRE for m, d in pairs)


def _grid(path: Path, root: ElementTree.Element, tag: str, count: int) -> tuple[float, ...] | None:
    """Mean of a grid for each tilt, one Z slice per tilt; None if there is no such grid."""
    slices: dict[str, list[float]] = {}
    for node in root.findall(f"./{tag}/Node"):
        slices.setdefault(node.get("Z", "0"), []).append(_number(path, tag, node.get("Value", "")))
    if not slices:
        return None
    means = [sum(slices[z]) / len(slices[z]) for z in sorted(slices, key=lambda z: _number(path, tag, z))]
    if len(means) == 1:
        return (means[0],) * count
    if len(means) != count:
        raise InputError(f"{path} has {count} Angles and {len(means)} slices of {tag}, expected as many: export it again")
    return tuple(means)
