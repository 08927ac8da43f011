"""The tomograms of downstream.py: simulated with and without three molecules, restored by the VAE and by a U-Net.

Each stage is kept on disk with the processor time that it took, and is passed over when it is there.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cost import cost_of_unet, network_trainer_for
from data import Subject, load
from rows import ROWS, Row
from scoring import scores

from cryovae.config import RunConfig, override, preset
from cryovae.io.atomic import write_text
from cryovae.io.files import read_volume, write_volume
from cryovae.io.tilts import read_tilts
from cryovae.restoration.networks import restore_by_network
from cryovae.tomogram import TiltGeometry

# Molecules to be picked: 70S ribosome (2.5 MDa), RuBisCO (550 kDa), ClpB (290 kDa).
PICKED = ("4v4r", "1bxn", "1qvr")
# What is around them: 20S proteasome, apoferritin, beta-galactosidase; and what takes their place where they are absent:
# fatty-acid synthase (2.6 MDa), 26S proteasome, thyroglobulin (660 kDa).
AROUND, INSTEAD = ("3j9i", "6pxm", "1f4a"), ("2uv8", "4cr2", "7n4y")
SHAPE, VOXEL = (112, 128, 128), 10.0
VOLUMES = ("raw", "measured", "mean", "unet")
# Share of its steps after which the inputs of the U-Net are refilled, once: four times, as in run.py, would take most of its time
REFILL_AT = 0.5


@dataclass(frozen=True)
class Case:
    """A noise level and a seed: one scene with the molecules, and the same membranes with others in their place.

    Attributes:
        folder: where its files are.
        snr: signal over noise variance of the tomogram.
        seed: of the scene, of the noise, of training.
        threads: of each command.
    """

    folder: Path
    snr: float
    seed: int
    threads: int

    @property
    def name(self) -> str:
        """Of the folder and in the tables."""
        return f"snr{self.snr:g}_seed{self.seed}"

    def file(self, scene: str, kind: str) -> Path:
        """A file of the scene ``with`` or ``without`` the molecules; kind: one of VOLUMES, std, or what simulate writes."""
        at = self.folder / self.name
        if kind in ("measured", "mean", "std"):
            return next(iter(sorted((at / f"vae_{scene}").glob(f"*_{kind}.mrc"))), at / f"vae_{scene}" / f"{kind}.mrc")
        return at / (f"{scene}_full.mrc" if kind == "raw" else f"{scene}_{kind}.mrc")

    def volume(self, scene: str, kind: str) -> torch.Tensor:
        """A volume (z, y, x) of a scene."""
        return torch.from_numpy(np.array(read_volume(self.file(scene, kind)).density, dtype=np.float32))

    @property
    def tilts(self) -> TiltGeometry:
        """Of both scenes."""
        return read_tilts(self.folder / self.name / "with.tlt")

    def stage(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run a stage unless it is done; what it returns is kept with the processor time and the time that it took."""
        path = self.folder / self.name / f"stage_{name}.json"
        if path.exists():
            done: dict[str, Any] = json.loads(path.read_text())
            return done
        path.parent.mkdir(parents=True, exist_ok=True)
        clock, began = time.monotonic(), _processor_seconds()
        record = make() | {"seconds": 0.0, "cpu_s": 0.0}
        record |= {"seconds": round(time.monotonic() - clock, 1), "cpu_s": round(_processor_seconds() - began, 1)}
        write_text(path, json.dumps(record, indent=1) + "\n")
        print(f"{self.name}: {name}, {record['cpu_s']:.0f} s of processor time, {record['seconds']:.0f} s", flush=True)
        return record


def make_tomograms(case: Case, molecules: Path) -> None:
    """Simulate and restore both scenes of a case. The models are trained on the scene with the molecules, and applied to both."""
    for scene, names in (("with", (*PICKED, *AROUND)), ("without", (*INSTEAD, *AROUND))):
        case.stage(
            f"simulate_{scene}", lambda scene=scene, names=names: _simulate(case, scene, [molecules / f"{n}.mrc" for n in names])
        )
    trained = case.stage("vae_with", lambda: _vae(case, "with"))
    applied = case.stage("vae_without", lambda: _vae(case, "without"))
    # What is left is the time of training: one of the two only restores.
    case.stage("unet", lambda: _alone(_unet, case, trained["cpu_s"] - applied["cpu_s"]))


def _processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _cryovae(case: Case, *arguments: object) -> None:
    command = [sys.executable, "-m", "cryovae", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": str(case.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")


def _simulate(case: Case, scene: str, molecules: list[Path]) -> dict[str, Any]:
    options = [x for path in molecules for x in ("--molecule", path)]
    _cryovae(
        case, "simulate", "-o", case.folder / case.name, "--name", scene, "--seed", case.seed, "--shape", *SHAPE,
        "--voxel-size", VOXEL, "--snr", case.snr, "--crowding", 0.3, "--sheets", 1, "--vesicles", 3, "--filaments", 0,
        "--beads", 0, "--overwrite", *options,
    )  # fmt: skip
    return {}


def _vae(case: Case, scene: str) -> dict[str, Any]:
    at = case.folder / case.name
    model = ["--from", "base", "--steps", 200, "--preset", "quick"] if scene == "with" else ["--model", at / "vae_with"]
    _cryovae(
        case, "restore", "--half1", at / f"{scene}_half1.mrc", "--half2", at / f"{scene}_half2.mrc",
        "--tilts", at / f"{scene}.tlt", *model, "--quality", "fast", "--samples", 4, "--outputs", "std,measured",
        "--seed", case.seed, "--device", "cpu", "--threads", case.threads, "-o", at / f"vae_{scene}", "--overwrite",
    )  # fmt: skip
    return {}


def _alone(make: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Run in a process of its own: what it has in memory must not stay."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        return alone.submit(make, *arguments).result()


def _unet(case: Case, seconds: float) -> dict[str, Any]:
    """Train a U-Net by DeepDeWedge's loss for so many seconds of processor time, and apply it to both scenes."""
    torch.set_num_threads(case.threads)
    torch.set_flush_denormal(True)
    device = torch.device("cpu")
    config = override(preset("quick"), {"training.seed": case.seed})
    row, patch = ROWS["unet_deepdewedge"], config.training.patch
    subjects: dict[str, Subject] = {scene: load(scene, case.folder / case.name) for scene in ("with", "without")}
    cost = _cost_of_unet(case, subjects["with"], row, config, device)
    steps = max(int((seconds - cost["refill"]) / cost["step"]), 20)
    began = time.process_time()
    trainer = network_trainer_for(subjects["with"], row, config, device, steps)
    trainer.method.refill_at = frozenset({int(REFILL_AT * steps)})
    network = trainer.run()
    spent = {"train_cpu_s": round(time.process_time() - began, 1), "steps": steps}
    kind = ""
    for scene, subject in subjects.items():
        began = time.process_time()
        restored = restore_by_network(network, subject.tomogram, patch, row.objective, device)
        spent[f"restore_{scene}_cpu_s"] = round(time.process_time() - began, 1)
        kinds = {"raw": restored.mean, "data-consistent": restored.consistent}
        # As in run.py, the rival gets the better of its two densities, by the measured part of the scene that it was trained on.
        kind = kind or max(kinds, key=lambda k: scores(kinds[k], subject)["measured"])
        write_volume(case.file(scene, "unet"), kinds[kind].numpy(), None, VOXEL, f"U-Net, DeepDeWedge's loss, {kind}")
    return spent | {"density": kind}


def _cost_of_unet(case: Case, subject: Subject, row: Row, config: RunConfig, device: torch.device) -> dict[str, float]:
    """Seconds of a step and of a refill, timed on the first case: all have one size."""
    path = case.folder / "unet_cost.json"
    if not path.exists():
        refills = len(network_trainer_for(subject, row, config, device, 1000).method.refill_at)
        cost = cost_of_unet(subject, row, config, device)
        write_text(path, json.dumps({"step": cost["step"], "refill": cost["refills"] / max(refills, 1)}) + "\n")
    known: dict[str, float] = json.loads(path.read_text())
    return known
