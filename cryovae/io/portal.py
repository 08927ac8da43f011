"""Metadata of a restored tomogram for a deposition in the CryoET Data Portal.

The fields are those of the class Tomogram in the portal's schema, chanzuckerberg/cryoet-data-portal-backend, schema/core/v2.0.0
(metadata.yaml, common.yaml), as they stand under ``metadata`` of a tomogram in its ingestion configuration. What a run does not
know stays null: it is not guessed from file names or from what is usual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryovae.errors import InputError
from cryovae.io.volume import Volume, voxel_size_of

SCHEMA = "CryoET Data Portal, core schema v2.0.0, class Tomogram"
# Of raw, filtered and denoised; the schema has no word for a filled missing wedge.
DENOISED = "denoised"
# What only the depositor knows, with what the schema says of it.
UNKNOWN = {
    "reconstruction_method": "how the tomogram that was restored had been reconstructed, e.g. WBP, SART, SIRT or Fourier Space",
    "reconstruction_software": "by which program, with its version",
    "ctf_corrected": "whether the tomogram that was restored had been corrected; cryovae did not (no --ctf)",
    "align_software": "by which program the tilts were aligned",
    "fiducial_alignment_status": "FIDUCIAL or NON_FIDUCIAL",
    "tomogram_version": "version of the tomogram in the portal, e.g. 1",
    "offset": "x, y, z in voxels from the canonical tomogram of the run",
    "affine_transformation_matrix": "4 x 4, a flip or rotation of the tomogram against the canonical one",
    "is_visualization_default": "true or false",
    "authors": "a list with name, ORCID and primary_author_status",
    "dates": "deposition_date, release_date, last_modified_date",
}


def tomogram_metadata(record: Mapping[str, Any], volume: Volume) -> dict[str, Any]:
    """The metadata of a restored tomogram; what the run does not know is None.

    Args:
        record: run.json of the restoration.
        volume: the restored volume.

    Raises:
        InputError: the run did not end, or the volume has no voxel size.
    """
    if record.get("command") != "restore" or record.get("status") != "done":
        raise InputError(f"{volume.path} is of no finished restoration, expected one that is done: resume it with --resume")
    nz, ny, nx = volume.density.shape
    version = (record.get("versions") or {}).get("cryovae")
    return {
        "voxel_spacing": round(voxel_size_of(volume, None), 4),
        "size": {"x": nx, "y": ny, "z": nz},
        "processing": DENOISED,
        "processing_software": "cryovae" if version is None else f"cryovae {version}",
        **dict.fromkeys(UNKNOWN),
        **({"ctf_corrected": True} if record.get("optics") else {}),
    }


def to_fill_in(metadata: Mapping[str, Any]) -> dict[str, str]:
    """What is expected in each field that the run does not know."""
    return {field: words for field, words in UNKNOWN.items() if metadata[field] is None}
