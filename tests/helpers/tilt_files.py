"""One tilt series in the format of each program, by the convention of that program, worked out here and not by cryovae.

The matrices are products of rotations: an image shows R_z(axis) R_y(tilt) R_x(x tilt) r, and a row of RELION's and Warp's
matrices is the direction in the tomogram of an axis of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from cryovae.io.tilts import TiltSeries

ANGLES = (-40.5, -20.25, 0.5, 30.0, 51.75)
# Recorded from the middle outwards; the dose before the first tilt is 0.
DOSES = (9.3, 6.2, 0.0, 3.1, 12.4)
AXIS = 84.0
DEFOCI = (31000.0, 30500.0, 30000.0, 29500.0, 29000.0)
SERIES = TiltSeries(ANGLES, (False,) * 5, dose=DOSES, axis_angle=AXIS, defocus_u=DEFOCI)


def _written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def plain(folder: Path, name: str = "ts.tlt") -> Path:
    """One angle a line, as IMOD's .tlt and .rawtlt."""
    return _written(folder, name, "# note\n" + "".join(f"{angle:8.2f}\n" for angle in ANGLES))


def columns(folder: Path) -> Path:
    """AreTomo 3: angle, order of recording, dose before."""
    order = np.argsort(np.argsort(DOSES)) + 1
    rows = zip(ANGLES, order, DOSES, strict=True)
    return _written(folder, "ts_TLT.txt", "".join(f"{angle:8.2f} {at:4d} {dose:8.2f}\n" for angle, at, dose in rows))


def serialem(folder: Path) -> Path:
    """SerialEM: PriorRecordDose is the dose before the tilt, ExposureDose that of the tilt itself."""
    head = f"PixelSpacing = 2.5\nVoltage = 300\nImageFile = frames.mrc\n\n[T =     Tilt axis angle = {AXIS}, binning = 1]\n\n"
    sections = "".join(
        f"[ZValue = {i}]\nTiltAngle = {angle}\nExposureDose = 3.1\nPriorRecordDose = {dose}\nSubFramePath = D:\\ts_{i}.tif\n\n"
        for i, (angle, dose) in enumerate(zip(ANGLES, DOSES, strict=True))
    )
    return _written(folder, "ts.mdoc", head + sections)


def aretomo(folder: Path, offsets: bool = True) -> Path:
    """AreTomo 3, or without ``offsets`` 1 and 2; a dark frame of -60 degrees is left out."""
    lines = [
        "# AreTomo Alignment / Priims bprmMn",
        "# RawSize = 100 90 6",
        "# NumPatches = 1",
        "# DarkFrame =     0    0   -60.00",
    ]
    lines += ["# AlphaOffset =     1.50", "# BetaOffset =     0.00"] if offsets else []
    lines += ["# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"]
    lines += [
        f"{i:5d}{AXIS:11.4f}    1.00000      1.250     -2.750     1.00     1.00     1.00     0.00{a:10.2f}"
        for i, a in enumerate(ANGLES)
    ]
    lines += ["# Local Alignment", "   0   0  -558.42   -802.00   -100.07     24.43   1.0"]
    return _written(folder, "ts.aln", "\n".join(lines) + "\n")


def transforms(folder: Path) -> Path:
    """IMOD's .xf turns each image by -axis, so that the tilt axis is upright; the angles are in the .tlt beside it."""
    plain(folder)
    cos, sin = np.cos(np.radians(-AXIS)), np.sin(np.radians(-AXIS))
    return _written(folder, "ts.xf", f"{cos:.6f} {-sin:.6f} {sin:.6f} {cos:.6f} 1.500 -2.500\n" * len(ANGLES))


def warp(folder: Path) -> Path:
    """Warp: angles of the other sign, defocus in micrometres; a tilt of 66 degrees is not used."""
    lists = {
        "Angles": [f"{-angle}" for angle in ANGLES] + ["-66"], "Dose": [*map(str, DOSES), "15.5"],
        "UseTilt": ["True"] * 5 + ["False"], "AxisAngle": [str(AXIS)] * 6, "MoviePath": [f"../frames/{i}.tif" for i in range(6)],
    }  # fmt: skip
    body = "".join(f"<{tag}>" + "\n".join(values) + f"</{tag}>" for tag, values in lists.items())
    nodes = "".join(f'<Node X="0" Y="0" Z="{i}" Value="{d / 1e4}" />' for i, d in enumerate([*DEFOCI, 28500]))
    head = '<?xml version="1.0" encoding="utf-8"?>\n<TiltSeries LevelAngleX="0" LevelAngleY="0">'
    return _written(folder, "ts.xml", f"{head}{body}<GridCTF>{nodes}</GridCTF></TiltSeries>")


def _star(folder: Path, rows: dict[str, list[str]]) -> Path:
    names = "".join(f"_{name} #{i}\n" for i, name in enumerate(rows, 1))
    lines = "".join("\t".join(row) + "\n" for row in zip(*rows.values(), strict=True))
    return _written(folder, "ts.star", f"# note\n\ndata_ts\n\nloop_\n{names}{lines}")


def _exposure() -> dict[str, list[str]]:
    return {"rlnMicrographPreExposure": [f"{dose:.6f}" for dose in DOSES], "rlnDefocusU": [f"{value:.6f}" for value in DEFOCI]}


def relion5(folder: Path) -> Path:
    """RELION 5: refined angles beside stage angles, which are one degree off."""
    rows = {
        "rlnMicrographName": [f"frames/{i}.mrc" for i in range(5)],
        "rlnTomoNominalStageTiltAngle": [f"{a - 1:.6f}" for a in ANGLES],
    }
    rows |= {"rlnTomoXTilt": ["0.0"] * 5, "rlnTomoYTilt": [f"{a:.6f}" for a in ANGLES], "rlnTomoZRot": [f"{AXIS}"] * 5}
    return _star(folder, rows | _exposure())


def relion5_imported(folder: Path) -> Path:
    """RELION 5 before alignment: stage angles alone."""
    rows = {"rlnTomoNominalStageTiltAngle": [f"{a:.6f}" for a in ANGLES], "rlnTomoNominalTiltAxisAngle": [f"{AXIS}"] * 5}
    return _star(folder, rows | _exposure())


def matrices(folder: Path) -> Path:
    """RELION 4 and Warp: projection matrices."""
    rows: dict[str, list[str]] = {"rlnTomoProjX": [], "rlnTomoProjY": [], "rlnTomoProjZ": []}
    for angle in ANGLES:
        matrix = (Rotation.from_euler("z", AXIS, degrees=True) * Rotation.from_euler("y", angle, degrees=True)).as_matrix()
        for name, (x, y, z) in zip(rows, matrix, strict=True):
            rows[name].append(f"[{x:.6f},{y:.6f},{z:.6f},120.5]")
    return _star(folder, rows | _exposure())


def gctf(folder: Path) -> Path:
    """Gctf: defoci alone; the angles are in the .tlt beside it."""
    plain(folder)
    return _star(folder, {"rlnMicrographName": ["frames/a.mrc"] * 5, "rlnDefocusU": [f"{value:.3f}" for value in DEFOCI]})


def stopgap(folder: Path) -> Path:
    """STOPGAP's wedge list: defocus in micrometres, exposure before the tilt."""
    rows = {
        "tomo_num": ["1"] * 5,
        "tilt_angle": [f"{a:.2f}" for a in ANGLES],
        "defocus": [f"{value / 1e4:.4f}" for value in DEFOCI],
    }
    return _star(folder, rows | {"exposure": [f"{dose:.2f}" for dose in DOSES]})


FORMATS: dict[str, Callable[[Path], Path]] = {
    "tlt": plain,
    "rawtlt": lambda folder: plain(folder, "ts.rawtlt"),
    "columns": columns,
    "mdoc": serialem,
    "aln": aretomo,
    "aln of AreTomo 2": lambda folder: aretomo(folder, offsets=False),
    "xf": transforms,
    "warp": warp,
    "relion 5": relion5,
    "relion 5, imported": relion5_imported,
    "matrices": matrices,
    "gctf": gctf,
    "stopgap": stopgap,
}
