"""Evaluates a restored tomogram with the files beside it: prints its tables, writes its report and its statistics."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cryovae.data.region import Region
from cryovae.errors import InputError
from cryovae.evaluation.assessment import as_plain, as_tensor, assess
from cryovae.io.atomic import write_text
from cryovae.io.files import read_volume
from cryovae.io.fill import find_fill
from cryovae.io.geometry_record import geometry_of
from cryovae.io.names import ending, stem
from cryovae.io.orientation import upright
from cryovae.io.outputs import check_file
from cryovae.io.tilts import read_tilts
from cryovae.io.volume import Volume, voxel_size_of
from cryovae.report.contents import Contents
from cryovae.report.page import write_report
from cryovae.report.prior_draws import patches_beside
from cryovae.report.score_tables import print_tables
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.run_folder import metrics_of, read_record


@dataclass(frozen=True)
class RestoredFiles:
    """A restored tomogram and the files beside it.

    Attributes:
        path: of the restored volume.
        volume: as it is stored.
        name: of the tomogram.
        record: run.json, empty if there is none.
        record_path: of run.json, or None.
        unrotated: whether the beam is along the middle axis of the files.
    """

    path: Path
    volume: Volume
    name: str
    record: dict[str, Any] = field(default_factory=dict)
    record_path: Path | None = None
    unrotated: bool = False

    def beside(self, kind: str) -> Tensor | None:
        """Another volume of the same restoration, e.g. its 'std', if it is there and has the same shape."""
        path = self.path.with_name(f"{self.name}_{kind}{ending(self.path)}")
        if not stem(self.path).endswith("_mean") or not path.exists():
            return None
        density = read_volume(path).density
        return as_tensor(self.upright(density)) if density.shape == self.volume.density.shape else None

    def upright(self, density: np.ndarray) -> np.ndarray:
        """A density of the files of this restoration, with the beam along z."""
        return upright(np.asarray(density)) if self.unrotated else density

    @property
    def density(self) -> np.ndarray:
        """The restored density (z, y, x)."""
        return self.upright(self.volume.density)

    @property
    def halves(self) -> tuple[Tensor, Tensor] | None:
        """The two halves, restored."""
        first, second = self.beside("mean_half1"), self.beside("mean_half2")
        return None if first is None or second is None else (first, second)

    @property
    def samples(self) -> Iterator[Tensor]:
        """The samples that were kept, in their order."""
        for number in count():
            sample = self.beside(f"sample_{number}")
            if sample is None:
                return
            yield sample

    @property
    def report(self) -> Path:
        """The path of the report: beside run.json with the same prefix, else under the name of the tomogram."""
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
        """The rows of metrics.csv of its model."""
        return metrics_of(self.record, self.report.with_name(self.report.name.replace("report.html", "metrics.csv")))


def find(restored: Path) -> RestoredFiles:
    """A restored tomogram, and the run.json beside it that has its name. InputError if one of them is damaged."""
    volume, damaged = read_volume(restored), list[InputError]()
    for path in (restored.parent / "run.json", *sorted(restored.parent.glob("*_run.json"))):
        try:
            record = read_record(path)
        except InputError as error:
            damaged.append(error)
            continue
        if record.get("name") and restored.name.startswith(f"{record['name']}_"):
            return RestoredFiles(restored, volume, record["name"], record, path, bool(record.get("unrotated")))
    if damaged:
        raise damaged[0]
    return RestoredFiles(restored, volume, re.sub("_mean$", "", stem(restored)))


def evaluate_volume(
    restored: Path,
    truth: Path | None,
    tilts: TiltGeometry | None,
    inputs: list[Path] | None,
    band: tuple[float, float],
    shells: bool = True,
    json_path: Path | None = None,
    report: Path | None = None,
    voxel_size: float | None = None,
    unrotated: bool | None = None,
) -> None:
    """Print the tables of a restored tomogram, and write its report and its statistics.

    Args:
        restored: the restored volume; std, samples and halves are looked for beside it.
        truth: the true volume, if there is one.
        tilts: overrides those of run.json.
        inputs: the tomogram or its two halves, over those of run.json.
        band: of the correlations, in cycles per voxel.
        shells: print the FSC by shell too.
        json_path: where all statistics are written as JSON.
        report: where the report is written, over its place beside run.json.
        voxel_size: in angstrom, over that of the header.
        unrotated: whether the beam is along the middle axis of all files, over run.json.
    """
    if not 0 <= band[0] < band[1] <= 0.87:
        raise InputError(f"--band {band[0]:g} {band[1]:g} found, expected cycles per voxel, the lower first, e.g. 0.01 0.2")
    files = find(restored)
    if unrotated is not None:
        files = replace(files, unrotated=unrotated)
    for path in (report or files.report, *([json_path] if json_path is not None else [])):
        check_file(path)
    contents = _contents(files, truth, tilts or files.tilts, inputs or files.inputs, band, voxel_size)
    if contents.before is None:
        print(f"no baselines: the input of {restored} is not in a run.json beside it, or is gone: pass --input", file=sys.stderr)
    print_tables(contents, shells)
    if json_path is not None:
        write_text(json_path, json.dumps(_statistics(contents, files, truth), indent=2) + "\n")
    write_report(report or files.report, contents)
    print(f"report: {report or files.report}")


def _contents(
    files: RestoredFiles,
    truth: Path | None,
    tilts: TiltGeometry,
    inputs: list[Path],
    band: tuple[float, float],
    voxel_size: float | None,
) -> Contents:
    densities = [_density(path, files) for path in inputs]
    before = sum(densities[1:], densities[0]) / len(densities) if densities else None
    std, restored = files.beside("std"), as_tensor(files.density)
    fill = find_fill(restored.numpy())
    region = None if fill is None else Region(fill.shape, fill, None)
    if region is not None:
        print(f"{files.name}: constant regions, {100 * (1 - region.share):.0f} % of the voxels, are left out", file=sys.stderr)
    assessment = assess(
        restored,
        tilts,
        truth=None if truth is None else _density(truth, files),
        input_density=before,
        std=std,
        samples=list(files.samples),
        halves=files.halves,
        input_halves=(densities[0], densities[1]) if len(densities) == 2 else None,
        limits=band,
        region=region,
    )
    if region is not None:
        restored, before = region.neutral(restored), None if before is None else region.neutral(before)
    return Contents(
        name=files.name,
        before=None if before is None else before.numpy(),
        after=restored.numpy(),
        std=None if std is None else std.numpy(),
        voxel_size=voxel_size_of(files.volume, voxel_size),
        tilts=tilts,
        assessment=assessment,
        record=files.record,
        metrics=files.metrics,
        beside=patches_beside(restored.numpy()),
    )


def _density(path: Path, files: RestoredFiles) -> Tensor:
    density, shape = read_volume(path).density, files.volume.density.shape
    if density.shape != shape:
        raise InputError(f"{path} has shape {density.shape}, expected that of the restored tomogram, {shape}: same shape")
    return as_tensor(files.upright(density))


def _statistics(contents: Contents, files: RestoredFiles, truth: Path | None) -> Mapping[str, Any]:
    """All statistics, for JSON."""
    restoration = contents.record.get("restoration") or {}
    return {
        "restored": str(files.path),
        "truth": None if truth is None else str(truth),
        "name": contents.name,
        "voxel_size": contents.voxel_size,
        "tilts": [contents.tilts.lowest, contents.tilts.highest],
        **as_plain(contents.assessment, contents.voxel_size),
        "held_out": restoration.get("held_out"),
        "figures": restoration.get("figures"),
        "seconds": contents.record.get("seconds"),
    }
