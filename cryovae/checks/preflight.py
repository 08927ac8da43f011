"""The checks of a tomogram before work begins; every command that uses a tomogram calls them.

A check is a function that gets a tomogram, in memory or on disk, and returns its findings. It reads at most a region of bounded
size. ``CHECKS`` lists all checks; a new one is added there. The findings of the readers of files are in ``Tomogram.findings``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cryovae.checks.geometry import check_geometry
from cryovae.checks.halves import check_halves, to_one_scale
from cryovae.checks.voxel_size import check_voxel_size
from cryovae.findings import Finding, settle
from cryovae.io.geometry_record import described
from cryovae.io.star.loading import Tomograms
from cryovae.tomogram import Tomogram

Check: TypeAlias = Callable[[Tomogram], list[Finding]]
CHECKS: tuple[Check, ...] = (check_voxel_size, check_halves, check_geometry)
# Largest number of tomograms that are checked. Of more, such as subtomograms, so many are taken at equal distances.
MOST_CHECKED = 32


@dataclass(frozen=True)
class Checked:
    """A tomogram, or several, that passed the checks.

    Attributes:
        tomograms: the tomograms, corrected by ``mended``.
        findings: of all checks.
        force: whether refusals became warnings.
        geometry: the result of ``described`` for each tomogram that was checked, by name.
    """

    tomograms: Sequence[Tomogram]
    findings: list[Finding] = field(default_factory=list)
    force: bool = False
    geometry: dict[str, Any] = field(default_factory=dict)


def check_tomogram(tomogram: Tomogram) -> list[Finding]:
    """The findings of the readers and of all checks."""
    return [*tomogram.findings, *(finding for check in CHECKS for finding in check(tomogram))]


def preflight(tomogram: Tomogram, force: bool = False) -> Checked:
    """Check a tomogram before it is used. InputError if a check refuses it and ``force`` is False."""
    tomogram = mended(tomogram)
    return Checked([tomogram], settle(check_tomogram(tomogram), force), force)


def preflight_all(tomograms: Sequence[Tomogram], force: bool = False) -> Checked:
    """Check tomograms before they are used, one at a time in memory. One InputError has the refusals of all, unless ``force``."""
    tomograms = all_mended(tomograms)
    count = len(tomograms)
    spread = sorted({round(i * (count - 1) / max(MOST_CHECKED - 1, 1)) for i in range(MOST_CHECKED)})
    indices = range(count) if count <= MOST_CHECKED else spread
    geometry = {}
    # Parts of one tomogram share the findings of its readers.
    distinct: dict[Finding, None] = {}
    for index in indices:
        tomogram = tomograms[index]
        distinct |= dict.fromkeys(check_tomogram(tomogram))
        geometry[tomogram.name] = described(tomogram)
    return Checked(tomograms, settle(distinct, force), force, geometry)


def mended(tomogram: Tomogram) -> Tomogram:
    """The tomogram with its halves on one scale. A finding says what was changed."""
    return to_one_scale(tomogram)


def all_mended(tomograms: Sequence[Tomogram]) -> Sequence[Tomogram]:
    """Several tomograms, each ``mended``; tomograms that are read on access are mended at that time."""
    if isinstance(tomograms, Tomograms):
        return read_and_mended(tomograms)
    return [mended(tomogram) for tomogram in tomograms]


def read_and_mended(tomograms: Tomograms) -> Tomograms:
    """Tomograms that are mended when they are read, before parts are cut out: a part may not show that the scales differ."""
    return Tomograms(tomograms.names, lambda index, mapped: mended(tomograms.load(index, mapped)))
