"""The checks of a tomogram before work begins; every command that uses a tomogram calls them.

A check is a function of a loaded tomogram, in memory or on the disk, that returns its findings. It reads at most a region of
bounded size. ``CHECKS`` lists all; a new check is added there. What readers found on the way is in ``Tomogram.findings``.
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
# Of more tomograms than this, as subtomograms are, so many are looked at, evenly spread.
MOST_LOOKED_AT = 32


@dataclass(frozen=True)
class Checked:
    """A tomogram, or several, that passed the checks.

    Attributes:
        tomograms: the tomograms, brought to what the checks expect where that is possible.
        findings: of all checks.
        force: whether refusals were let pass.
        geometry: what ``described`` says of each that was looked at, by name.
    """

    tomograms: Sequence[Tomogram]
    findings: list[Finding] = field(default_factory=list)
    force: bool = False
    geometry: dict[str, Any] = field(default_factory=dict)


def check_tomogram(tomogram: Tomogram) -> list[Finding]:
    """The findings of the readers and of all checks."""
    return [*tomogram.findings, *(finding for check in CHECKS for finding in check(tomogram))]


def preflight(tomogram: Tomogram, force: bool = False) -> Checked:
    """Check a tomogram before work. InputError if a check refuses it, unless ``force`` lets it pass."""
    tomogram = mended(tomogram)
    return Checked([tomogram], settle(check_tomogram(tomogram), force), force)


def preflight_all(tomograms: Sequence[Tomogram], force: bool = False) -> Checked:
    """Check tomograms before work, one at a time in memory; the refusals of all are in one InputError."""
    tomograms = all_mended(tomograms)
    count = len(tomograms)
    shown = sorted({round(i * (count - 1) / max(MOST_LOOKED_AT - 1, 1)) for i in range(MOST_LOOKED_AT)})
    looked_at = range(count) if count <= MOST_LOOKED_AT else shown
    geometry = {}
    # Parts of one tomogram share what its readers found.
    distinct: dict[Finding, None] = {}
    for index in looked_at:
        tomogram = tomograms[index]
        distinct |= dict.fromkeys(check_tomogram(tomogram))
        geometry[tomogram.name] = described(tomogram)
    return Checked(tomograms, settle(distinct, force), force, geometry)


def mended(tomogram: Tomogram) -> Tomogram:
    """The tomogram, brought to what the checks expect where that is possible; what was done is among its findings."""
    return to_one_scale(tomogram)


def all_mended(tomograms: Sequence[Tomogram]) -> Sequence[Tomogram]:
    """The same of several; those that are read on access are mended then."""
    if isinstance(tomograms, Tomograms):
        return read_and_mended(tomograms)
    return [mended(tomogram) for tomogram in tomograms]


def read_and_mended(tomograms: Tomograms) -> Tomograms:
    """Tomograms that are mended when they are read. Before parts are cut out of them, which do not show all."""
    return Tomograms(tomograms.names, lambda index, mapped: mended(tomograms.load(index, mapped)))
