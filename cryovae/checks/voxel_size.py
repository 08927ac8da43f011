"""The check that the voxel size is known if the contrast transfer is corrected, which depends on it."""

from __future__ import annotations

from cryovae.findings import Finding, Severity
from cryovae.io.voxel_sizes import UNKNOWN
from cryovae.tomogram import Tomogram


def check_voxel_size(tomogram: Tomogram) -> list[Finding]:
    """A refusal if the contrast transfer will be corrected and the voxel size is probably unknown."""
    if tomogram.optics is None or not any(finding.check == UNKNOWN for finding in tomogram.findings):
        return []
    return [
        Finding(
            UNKNOWN,
            Severity.REFUSAL,
            f"{tomogram.name}: contrast transfer with a voxel size of exactly 1 angstrom from the header",
            "that of the tomogram, on which the contrast transfer depends",
            "pass --voxel-size in angstrom, --voxel-size 1 if it is right",
        )
    ]
