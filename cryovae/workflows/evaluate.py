"""Evaluates a restored tomogram with what lies beside it: prints its tables, writes its report and its figures."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cryovae.aliases import current_record
from cryovae.errors import InputError
from cryovae.evaluate.report import as_plain, as_tensor, assess
from cryovae.io.atomic import write_text
from cryovae.io.files import read_volume
from cryovae.io.orientation import upright
from cryovae.io.tilts import read_tilts
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.report.contents import Contents, metrics_of
from cryovae.report.page import write_report
from cryovae.report.score_tables import print_tables
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.geometry_record import geometry_of


@dataclass(frozen=True)
class Found:
    """A restored tomogram and what lies beside it; the record is empty where there is no run.json."""

    path: Path
    volume: Volume
    name: str
    record: dict[str, Any] = field(default_factory=dict)
    record_path: Path | None = None
    unrotated: bool = False

    def beside(self, kind: str) -> Tensor | None:
        """A volume of the same restoration, e.g. its std, if it is there and has the same shape."""
        path = self.path.with_name(f"{self.name}_{kind}{self.path.suffix}")
        if not self.path.stem.endswith("_mean") or not path.exists():
            return None
        density = read_volume(path).density
        return as_tensor(self.lain(density)) if density.shape == self.volume.density.shape else None

    def lain(self, density: np.ndarray) -> np.ndarray:
        """A density of this restoration's files with the beam along z."""
        return upright(np.asarray(density)) if self.unrotated else density

    @property
    def density(self) -> np.ndarray:
        """The restored density (z, y, x)."""
        return self.lain(self.volume.density)

    @property
    def samples(self) -> list[Tensor]:
        """The samples that were kept, in their order."""
        count = 0
        found: list[Tensor] = []
        while (sample := self.beside(f"sample_{count}")) is not None:
            found.append(sample)
            count += 1
        return found

    @property
    def report(self) -> Path:
        """Where its report belongs: beside run.json and with the same prefix, else under its own name."""
        if self.record_path is None:
            return self.path.with_name(f"{self.name}_report.html")
        return self.record_path.with_name(self.record_path.name.replace("run.json", "report.html"))

    @property
    def inputs(self) -> list[Path]:
        """The tomogram or the halves that the record names, if they are still there."""
        named = self.record.get("inputs", {})
        paths = [Path(named[role]["path"]) for role in ("tomogram", "half1", "half2") if role in named]
        return paths if all(path.exists() for path in paths) else []

    @property
    def tilts(self) -> TiltGeometry:
        """The tilts that the record names; InputError if it names none."""
        known = self.record.get("tilts") or {}
        named = self.record.get("inputs", {}).get("tilts")
        # Records of earlier versions hold the ends of the range alone.
        if "angles" not in known and named and Path(named["path"]).exists():
            return read_tilts(Path(named["path"]))
        if known:
            return geometry_of(known)
        raise InputError(f"no run.json beside {self.path} names its tilt angles: pass --tilts ts_01.tlt, or --tilt-range -60 60")

    @property
    def metrics(self) -> list[dict[str, str]]:
        """The course of the training of its model."""
        return metrics_of(self.record, self.report.with_name(self.report.name.replace("report.html", "metrics.csv")))


def find(restored: Path) -> Found:
    """A restored tomogram, and the run.json beside it that has its name. InputError if it is no volume."""
    volume = read_volume(restored)
    for path in (restored.parent / "run.json", *sorted(restored.parent.glob("*_run.json"))):
        record = _record(path)
        if record.get("name") and restored.name.startswith(f"{record['name']}_"):
            return Found(restored, volume, record["name"], record, path, bool(record.get("unrotated")))
    return Found(restored, volume, re.sub("_mean$", "", restored.stem))


def _record(path: Path) -> dict[str, Any]:
    """A run.json; empty if there is none, or if it was cut short."""
    try:
        return current_record(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError):
        return {}


def evaluate_volume(
    restored: Path,
    truth: Path | None,
    tilts: TiltGeometry | None,
    given: list[Path] | None,
    band: tuple[float, float],
    shells: bool = True,
    json_path: Path | None = None,
    report: Path | None = None,
    voxel_size: float | None = None,
    unrotated: bool | None = None,
) -> None:
    """Print tables of what is known with and without a truth; write the report, and all figures to ``json_path``.

    voxel_size: in angstrom, over that of the header. unrotated: whether the beam is along the middle axis of all files, over what
    the record says.
    """
    if not 0 <= band[0] < band[1] <= 0.87:
        raise InputError(f"--band {band[0]:g} {band[1]:g} found, expected cycles per voxel, the lower first, e.g. 0.01 0.2")
    about = find(restored)
    if unrotated is not None:
        about = replace(about, unrotated=unrotated)
    size = voxel_size_of(about.volume, voxel_size)
    shape = about.volume.density.shape
    known = None if truth is None else _density(truth, shape, about)
    inputs = [_density(path, shape, about) for path in given or about.inputs]
    geometry = tilts or about.tilts
    before = None if not inputs else sum(inputs[1:], inputs[0]) / len(inputs)
    halves = (about.beside("mean_half1"), about.beside("mean_half2"))
    std = about.beside("std")
    found = assess(
        as_tensor(about.density),
        geometry,
        known,
        before,
        std,
        about.samples,
        None if halves[0] is None or halves[1] is None else (halves[0], halves[1]),
        (inputs[0], inputs[1]) if len(inputs) == 2 else None,
        band,
    )
    if before is None:
        print(
            f"the input of {restored} is not named in a run.json beside it, or is gone, so no baselines: pass --input",
            file=sys.stderr,
        )
    print_tables(found, geometry, size, shells)
    contents = Contents(
        name=about.name,
        before=None if before is None else before.numpy(),
        after=np.asarray(about.density, dtype=np.float32),
        std=None if std is None else std.numpy(),
        voxel_size=size,
        tilts=geometry,
        assessment=found,
        record=about.record,
        metrics=about.metrics,
    )
    if json_path is not None:
        write_text(json_path, json.dumps(_figures(contents, about, truth), indent=2) + "\n")
    write_report(report or about.report, contents)
    print(f"report: {report or about.report}")


def _density(path: Path, shape: tuple[int, ...], about: Found) -> Tensor:
    volume = read_volume(path)
    if volume.density.shape != shape:
        raise InputError(f"{path} has shape {volume.density.shape}, expected that of the restored tomogram, {shape}: same shape")
    return as_tensor(about.lain(volume.density))


def _figures(contents: Contents, about: Found, truth: Path | None) -> dict[str, Any]:
    """All figures for a machine to read."""
    return {
        "restored": str(about.path),
        "truth": None if truth is None else str(truth),
        "name": contents.name,
        "voxel_size": contents.voxel_size,
        "tilts": [contents.tilts.lowest, contents.tilts.highest],
        **as_plain(contents.assessment, contents.voxel_size),
        "held_out": (contents.record.get("restoration") or {}).get("held_out"),
        "figures": (contents.record.get("restoration") or {}).get("figures"),
        "seconds": contents.record.get("seconds"),
    }
