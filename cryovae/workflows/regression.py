"""Training and applying deterministic networks in a folder: the files of the variational model, less the standard deviation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cryovae import distributed
from cryovae.checkpoint import MODEL, STATE, NetworkCheckpoint, load_network, save_network, save_state
from cryovae.config import RunConfig, as_plain
from cryovae.errors import InputError
from cryovae.evaluate.assessment import as_tensor, assess
from cryovae.io.files import write_volume
from cryovae.io.orientation import as_stored
from cryovae.models.unet import UNet
from cryovae.objectives.cryogen import Adversary
from cryovae.report.contents import Contents
from cryovae.report.page import write_report
from cryovae.report.pictures import loss_plot, preview
from cryovae.tomogram import Tomogram
from cryovae.training.regress import Regression, Regressor, regressed
from cryovae.workflows.progress import Watch
from cryovae.workflows.run_folder import Metrics, RunFolder, log, metrics_of, read_metrics
from cryovae.workflows.signals import stoppable
from cryovae.workflows.train import begun, matching_state

EVERY = 10


def train_networks_in(
    folder: RunFolder, tomograms: Sequence[Tomogram], config: RunConfig, device: torch.device, resume: bool
) -> NetworkCheckpoint:
    """Train one network on the tomograms by ``config.objective.name``, and return it; a state to resume from is kept.

    InputError if several processes are to do it.
    """
    if distributed.count() > 1:
        raise InputError(
            f"{distributed.count()} processes found, expected one: {config.objective.name} is trained by a single one"
        )
    if resume and folder.path(MODEL).exists():
        log.info("the network is finished, nothing left to train")
        return load_network(folder.path(MODEL))
    torch.manual_seed(config.training.seed)
    regressor = Regressor(
        UNet(config.ladder), tomograms, config.training, config.objective.name, device, config.objective.rotated_fraction
    )
    if resume and begun(folder):
        regressor.resume(matching_state(folder, config))
        log.info("resumed at step %d", regressor.step)
    single = [tomogram.name for tomogram in tomograms if tomogram.halves is None]
    if single:
        log.warning("%s: no halves, so the noise of the target stands in the input too, and can be copied", ", ".join(single))
    checkpoint = NetworkCheckpoint(_run(folder, regressor, config), config.training.patch, regressor.step, config.objective.name)
    save_network(folder.path(MODEL), checkpoint)
    folder.path(STATE).unlink(missing_ok=True)
    return checkpoint


def _run(folder: RunFolder, regressor: Regressor, config: RunConfig) -> UNet:
    metrics = Metrics(folder.path("metrics.csv"), ["step", "loss", "told"], regressor.step)
    began, first = time.monotonic(), regressor.step

    def save(state: dict[str, Any]) -> None:
        save_state(folder.path(STATE), state | {"config": as_plain(config)})
        log.info("saved at step %d", state["step"])

    def judged() -> dict[str, float]:
        return {"told": regressor.loss.told} if isinstance(regressor.loss, Adversary) else {}

    def watch(step: int, loss: float) -> None:
        if step % EVERY == 0 or step == config.training.steps or step == first + 1:
            metrics.add({"step": float(step), "loss": loss} | judged())
        progress.update(step, f"loss {loss:.4f}" + "".join(f"  critic right {share:.0%}" for share in judged().values()))

    try:
        with Watch("training", config.training.steps, regressor.step) as progress, stoppable() as stop:
            network = regressor.run(watch, save, stop)
    finally:
        metrics.close()
        if rows := read_metrics(folder.path("metrics.csv")):
            loss_plot(folder.path("loss.png"), rows)
    seconds = round(time.monotonic() - began, 1)
    folder.save(training={"steps": regressor.step, "objective": config.objective.name, "seconds": seconds})
    return network


def regress_in(
    folder: RunFolder, tomogram: Tomogram, checkpoint: NetworkCheckpoint, config: RunConfig, device: torch.device
) -> Regression:
    """Apply a trained network, and write mean, halves, pictures and the record."""
    began = time.monotonic()
    found = regressed(checkpoint.network, tomogram, checkpoint.patch, checkpoint.objective, device)
    if distributed.rank():
        return found
    # One volume has no halves to weigh the data by.
    raw = config.restoration.raw or found.halves is None
    mean = found.mean if raw else found.consistent
    folder.save(
        restoration={
            "seconds": round(time.monotonic() - began, 1),
            "objective": checkpoint.objective,
            "data_consistent": not raw,
            "std": "none: a deterministic network has one answer and does not say how sure it is",
            "steps_of_model": checkpoint.step,
        }
    )
    note = f"{checkpoint.objective} network, {'raw' if raw else 'data-consistent'}, no standard deviation"
    volumes = {"mean": mean}
    if found.halves is not None and config.restoration.halves:
        volumes |= {"mean_half1": found.halves[0], "mean_half2": found.halves[1]}
    for kind, density in volumes.items():
        stored = as_stored(density.numpy()) if tomogram.unrotated else density.numpy()
        write_volume(folder.result(kind), stored, tomogram.source, tomogram.voxel_size, note)
        log.info("wrote %s", folder.result(kind))
    before = as_tensor(tomogram.density)
    preview(folder.path("preview.png"), before.numpy(), mean.numpy(), None, tomogram.voxel_size, f"{tomogram.name}: {note}")
    given = None if tomogram.halves is None else (as_tensor(tomogram.halves[0]), as_tensor(tomogram.halves[1]))
    contents = Contents(
        name=tomogram.name,
        before=before.numpy(),
        after=np.asarray(mean.numpy()),
        std=None,
        voxel_size=tomogram.voxel_size,
        tilts=tomogram.tilts,
        assessment=assess(mean, tomogram.tilts, input_density=before, halves=found.halves, input_halves=given),
        record=folder.record,
        metrics=metrics_of(folder.record, folder.path("metrics.csv")),
    )
    write_report(folder.path("report.html"), contents)
    return found
