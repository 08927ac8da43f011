"""MRC volumes through mrcfile: memory-mapped in, header and grey scale carried over out.

Modes 0, 1, 2, 6 and 12 are read. Mode 0 is signed by the standard; files whose header statistics only fit unsigned bytes,
or whose IMOD stamp says so, are read as unsigned.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np

from cryovae import __version__
from cryovae.io.atomic import whole_file
from cryovae.tomogram import InputError

MODES = {0: "8-bit integer", 1: "16-bit integer", 2: "32-bit float", 6: "unsigned 16-bit integer", 12: "16-bit float"}
IMOD_STAMP, IMOD_STAMP_AT = 1146047817, 152
LABELS = 10


@dataclass(frozen=True)
class Volume:
    """A volume as stored: density (z, y, x), memory-mapped unless compressed, and its voxel size (x, y, z) in angstrom."""

    path: Path
    density: np.ndarray
    mode: int
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    labels: tuple[str, ...]


def _open(path: Path) -> mrcfile.mrcfile.MrcFile:
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected one MRC file")
    opener = mrcfile.open if path.suffix in (".gz", ".bz2") else mrcfile.mmap
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return opener(path, mode="r", permissive=True)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as MRC ({reason}): give a tomogram in MRC format") from error


def _is_unsigned(header: np.recarray) -> bool:
    """Whether mode 0 means unsigned bytes: by bit 0 of IMOD's flags if it left its stamp, else by the header's range."""
    stamp, flags = np.frombuffer(bytes(header.tobytes()), header.dtype["mode"], 2, IMOD_STAMP_AT)
    if int(stamp) == IMOD_STAMP:
        return not int(flags) & 1
    return float(header.dmin) >= 0 and 127 < float(header.dmax) <= 255


def read_volume(path: Path | str) -> Volume:
    """Open an MRC volume; only its header is read. InputError if it is missing, no MRC, no volume or of another mode."""
    path = Path(path)
    with _open(path) as mrc:
        header, density = mrc.header, mrc.data
        if density is None:
            raise InputError(f"{path} is cut short or not MRC, no data block could be read: give a tomogram in MRC format")
        mode = int(header.mode)
        if mode not in MODES:
            expected = ", ".join(f"{m} ({name})" for m, name in MODES.items())
            raise InputError(f"{path} has mode {mode}, expected one of {expected}: convert it, e.g. with newstack -mode 2")
        if density.ndim != 3 or min(density.shape) < 2:
            raise InputError(f"{path} has shape {density.shape}, expected a volume (z, y, x): give a tomogram, not an image")
        axes = (int(header.mapc), int(header.mapr), int(header.maps))
        if axes not in ((1, 2, 3), (0, 0, 0)):
            raise InputError(f"{path} has axis order {axes} (mapc, mapr, maps), expected (1, 2, 3): write it with x fastest")
        if mode == 0 and _is_unsigned(header):
            density = density.view(np.uint8)
        size, origin = mrc.voxel_size, header.origin
        return Volume(
            path,
            density,
            mode,
            (float(size.x), float(size.y), float(size.z)),
            (float(origin.x), float(origin.y), float(origin.z)),
            tuple(label for label in mrc.get_labels() if label),
        )


def voxel_size_of(volume: Volume, override: float | None) -> float:
    """Voxel size in angstrom, from the header unless overridden; InputError if the header has none that is usable."""
    if override is not None:
        if not 0 < override < 1e4:
            raise InputError(f"--voxel-size {override:g} found, expected angstrom above 0, e.g. 10.0")
        return override
    x, y, z = volume.voxel_size
    if not all(np.isfinite((x, y, z))) or min(x, y, z) <= 0:
        raise InputError(
            f"{volume.path} has no voxel size in its header ({x:g}, {y:g}, {z:g}): pass --voxel-size in angstrom, e.g. 10.0"
        )
    if max(x, y, z) > 1.01 * min(x, y, z):
        raise InputError(
            f"{volume.path} has voxels of {x:g} x {y:g} x {z:g} angstrom, expected cubes: resample it, or pass --voxel-size"
        )
    return x


def write_volume(path: Path, density: np.ndarray, source: Path | str | None, voxel_size: float, note: str) -> None:
    """Write a (z, y, x) density as 32-bit floats with the header of ``source`` and one label line more.

    Voxel size, origin, start, extended header and labels are taken over; of eleven labels, the oldest of ours goes, else
    the last. ``note`` is put in the label, 80 ASCII characters at most.
    """
    with whole_file(path) as beside, mrcfile.new(beside, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(density, dtype=np.float32))
        mrc.set_volume()
        labels: list[str] = []
        if source is not None:
            labels = _take_header(mrc, Path(source))
        mrc.voxel_size = voxel_size
        _set_labels(mrc, labels, f"cryovae {__version__} {note}")


def _take_header(mrc: mrcfile.mrcfile.MrcFile, source: Path) -> list[str]:
    """Copy origin, start, and the extended header from ``source``; return its labels."""
    with _open(source) as old:
        header = old.header
        if old.extended_header is not None and old.extended_header.nbytes:
            mrc.set_extended_header(np.array(old.extended_header))
            mrc.header.exttyp = header.exttyp
        mrc.header.origin = header.origin
        mrc.nstart = old.nstart
        return [label for label in old.get_labels() if label]


def _set_labels(mrc: mrcfile.mrcfile.MrcFile, labels: list[str], ours: str) -> None:
    if len(labels) >= LABELS:
        oldest = next((i for i, label in enumerate(labels) if label.startswith("cryovae")), LABELS - 1)
        labels = labels[:oldest] + labels[oldest + 1 : LABELS]
    mrc.header.label = b""
    mrc.header.nlabl = 0
    for label in [*labels, ours]:
        mrc.add_label(label.encode("ascii", "replace").decode()[:80])
