"""Restoring by a deterministic network in a folder: the files of the variational model, less the standard deviation."""

from __future__ import annotations

import time

import torch

from cryovae import distributed
from cryovae.checkpoint import NetworkCheckpoint
from cryovae.config import RunConfig
from cryovae.evaluation.assessment import as_tensor, assess_region, in_neutral
from cryovae.report.contents import Contents
from cryovae.report.page import write_report
from cryovae.report.pictures import preview
from cryovae.restoration.networks import NetworkRestoration, restore_by_network
from cryovae.tomogram import Tomogram
from cryovae.workflows.restore import drop_others, write_volumes
from cryovae.workflows.run_folder import RunFolder, metrics_of


def regress_in(
    folder: RunFolder, tomogram: Tomogram, checkpoint: NetworkCheckpoint, config: RunConfig, device: torch.device
) -> NetworkRestoration:
    """Apply a trained network, and write mean, halves, pictures and the record."""
    began = time.monotonic()
    about = checkpoint.network, tomogram, checkpoint.patch, checkpoint.objective, device
    restored = restore_by_network(*about, config.restoration.raw)
    if distributed.rank():
        return restored
    # One volume has no halves to weigh the data by.
    raw = config.restoration.raw or restored.halves is None
    mean = restored.mean if raw else restored.consistent
    folder.save(
        restoration={
            "seconds": round(time.monotonic() - began, 1),
            "objective": checkpoint.objective,
            "data_consistent": not raw,
            "std": "none: a deterministic network restores one density and gives no uncertainty",
            "steps_of_model": checkpoint.step,
        }
    )
    note = f"{checkpoint.objective} network, {'raw' if raw else 'data-consistent'}, no standard deviation"
    volumes = {"mean": mean}
    if "measured" in config.restoration.outputs:
        volumes["measured"] = restored.measured
    if restored.halves is not None and config.restoration.with_halves:
        volumes |= {"mean_half1": restored.halves[0], "mean_half2": restored.halves[1]}
    written = write_volumes(folder, tomogram, volumes, config.restoration.output_voxel_size, lambda kind: note)
    drop_others(folder, written, tomogram)
    before = as_tensor(tomogram.density)
    halves = None if tomogram.halves is None else (as_tensor(tomogram.halves[0]), as_tensor(tomogram.halves[1]))
    contents = Contents(
        name=tomogram.name,
        before=before.numpy(),
        after=in_neutral(tomogram, mean).numpy(),
        std=None,
        voxel_size=tomogram.voxel_size,
        tilts=tomogram.tilts,
        assessment=assess_region(tomogram, mean, before, restored.halves, halves),
        record=folder.record,
        metrics=metrics_of(folder.record, folder.path("metrics.csv")),
    )
    preview(folder.path("preview.png"), contents, f"{tomogram.name}: {note}")
    write_report(folder.path("report.html"), contents)
    return restored
