"""Whether the sources of a voxel size agree: the option, the table, the header of the volume, and the file of the tilts."""

from __future__ import annotations

from cryovae.findings import Finding, Severity
from cryovae.io.volume import Volume

CHECK, UNKNOWN = "voxel size", "voxel size unknown"
# Two sizes agree if their ratio is at most this.
AGREE = 1.01
# Programs that do not know the voxel size write exactly this into the header.
DEFAULT = 1.0


def doubts_of(volume: Volume, override: float | None) -> tuple[Finding, ...]:
    """A warning if the voxel size is that of the header, and exactly 1 angstrom."""
    if override is not None or set(volume.voxel_size) != {DEFAULT}:
        return ()
    return (
        Finding(
            UNKNOWN,
            Severity.WARNING,
            f"{volume.path}: a voxel size of exactly 1 angstrom in the header, which programs write that do not know it",
            "that of the tomogram",
            "pass --voxel-size in angstrom, --voxel-size 1 if it is right",
        ),
    )


def disagreements_of(
    name: str, header: float, table: float | None, option: float | None, pixel: float | None = None
) -> tuple[Finding, ...]:
    """Findings if sources of a voxel size disagree: which one was taken, and how to choose another.

    Args:
        name: of the tomogram.
        header: voxel size in angstrom in the header of the volume; 0 if it has none.
        table: voxel size of its row in a table, or None.
        option: value of --voxel-size, or None.
        pixel: pixel size in angstrom of the raw images by the file of the tilts, or None; voxels are as large, or larger.
    """
    header_known = header > 0 and header != DEFAULT
    known = [("--voxel-size", option), ("the table", table), ("the header", header if header > 0 else None)]
    sizes = [(source, size) for source, size in known if size is not None]
    if not sizes:
        return ()
    (taken, size), *others = sizes
    differing = [(source, other) for source, other in others if not 1 / AGREE <= other / size <= AGREE]
    findings = []
    if differing:
        named = " and ".join(f"{other:g} of {source}" for source, other in differing)
        expected, action = f"the {named}", f"{size:g} was taken"
        severity = Severity.NOTE
        if option is None and header_known:
            severity, action = (
                Severity.WARNING,
                f"{action}; pass --voxel-size {differing[-1][1]:g} to take that of {differing[-1][0]}",
            )
        findings.append(Finding(CHECK, severity, f"{name}: a voxel size of {size:g} angstrom by {taken}", expected, action))
    if pixel is not None and size * AGREE < pixel:
        findings.append(
            Finding(
                CHECK,
                Severity.WARNING,
                f"{name}: a voxel size of {size:g} angstrom by {taken}",
                f"the pixel size of the raw images, {pixel:g} by the file of the tilts, or more",
                f"{size:g} was taken; pass --voxel-size in angstrom if it is another",
            )
        )
    return tuple(findings)
