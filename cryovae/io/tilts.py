"""Tilt angles from .tlt and .rawtlt files: one angle in degrees a line."""

from __future__ import annotations

from pathlib import Path

from cryovae.tomogram import InputError, TiltGeometry


def read_tilts(path: Path | str) -> TiltGeometry:
    """The tilt geometry of a .tlt or .rawtlt file. InputError if it is missing, holds no numbers, or fewer than two."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .tlt or .rawtlt file, or --tilt-range -60 60")
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file: give a .tlt or .rawtlt file, one angle a line") from error
    angles = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            angles.append(float(words[0]))
        except ValueError as error:
            raise InputError(f"{path} line {number} is '{line.strip()[:40]}', expected one angle in degrees a line") from error
    try:
        return TiltGeometry(tuple(angles))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
