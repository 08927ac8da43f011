"""The volumes of the benchmark: halves, tilt angles and a truth, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.io.files import read_volume
from cryovae.io.load import load_tomogram
from cryovae.io.tilts import read_tilts
from cryovae.physics.noise import estimate_noise
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry, Tomogram


@dataclass(frozen=True)
class Subject:
    """A tomogram and the truth that it is scored against. The truth is never trained on.

    Attributes:
        name: of the data set.
        tomogram: what is restored.
        truth: (z, y, x), on the grey scale of the tomogram.
        known: the tilts from which the truth itself was measured; None for all.
    """

    name: str
    tomogram: Tomogram
    truth: Tensor
    known: TiltGeometry | None = None


def load(name: str, simulated: Path | None) -> Subject:
    """A subject by name: a folder's NAME_half1.mrc, NAME_half2.mrc, NAME_truth.mrc, NAME.tlt, and NAME_truth.tlt if any.

    Looked for in CRYOVAE_SHARED_DATA/bench, then in ``simulated``. NAME_single is the same without halves; NAME_noise has the
    noise alone, NAME_phases a signal of the same spectrum and random phases.
    """
    for ending, change in (("_single", _single), ("_noise", _noise), ("_phases", _phases)):
        if name.endswith(ending):
            return change(load(name.removesuffix(ending), simulated))
    shared = os.environ.get("CRYOVAE_SHARED_DATA")
    folders = [Path(shared) / "bench"] if shared else []
    for folder in [*folders, *([simulated] if simulated else [])]:
        if (folder / f"{name}_truth.mrc").exists():
            halves = (folder / f"{name}_half1.mrc", folder / f"{name}_half2.mrc")
            tomogram = load_tomogram(None, halves, read_tilts(folder / f"{name}.tlt"), None)
            truth = torch.from_numpy(np.array(read_volume(folder / f"{name}_truth.mrc").density, dtype=np.float32))
            measured = folder / f"{name}_truth.tlt"
            return Subject(name, replace(tomogram, name=name), truth, read_tilts(measured) if measured.exists() else None)
    looked = ", ".join(str(folder) for folder in folders) or "CRYOVAE_SHARED_DATA, which is not set"
    raise InputError(f"{name}_truth.mrc not found in {looked}, nor in --simulated: name a folder that has it")


def _single(subject: Subject) -> Subject:
    tomogram = replace(subject.tomogram, halves=None, name=f"{subject.name}_single")
    return Subject(tomogram.name, tomogram, subject.truth)


def _halves(subject: Subject) -> tuple[Tensor, Tensor]:
    halves = subject.tomogram.halves
    if halves is None:
        raise InputError(f"{subject.name} has no halves, expected two for a null made from them")
    return torch.from_numpy(np.array(halves[0])), torch.from_numpy(np.array(halves[1]))


def _made_of(subject: Subject, ending: str, signal: Tensor, truth: Tensor) -> Subject:
    first, second = _halves(subject)
    noise = (first - second) / 2
    # The difference of the halves has no signal. A shifted copy would be no second draw: its powers are the same, bin by bin.
    k, mask = fourier.frequencies(noise.shape), volume_mask(noise.shape, subject.tomogram.tilts)
    amplitude = estimate_noise(subject.tomogram.density, subject.tomogram.halves, subject.tomogram.tilts)(k).sqrt() * mask
    white = torch.randn(noise.shape, generator=torch.Generator().manual_seed(1))
    other = fourier.filtered(white, amplitude)
    halves = (signal + noise + other, signal + noise - other)
    name = f"{subject.name}{ending}"
    made = replace(
        subject.tomogram, name=name, density=((halves[0] + halves[1]) / 2).numpy(), halves=(halves[0].numpy(), halves[1].numpy())
    )
    return Subject(name, made, truth)


def _noise(subject: Subject) -> Subject:
    return _made_of(subject, "_noise", torch.zeros_like(subject.truth), subject.truth)


def _phases(subject: Subject) -> Subject:
    """The truth's spectrum with the phases of white noise: nothing nearby predicts it."""
    white = fourier.transform(torch.randn(subject.truth.shape, generator=torch.Generator().manual_seed(0)))
    spectrum = fourier.transform(subject.truth - subject.truth.mean()).abs() * white / white.abs().clamp_min(1e-12)
    spectrum[0, 0, 0] = 0
    truth = fourier.inverse(spectrum, subject.truth.shape)
    seen = fourier.filtered(truth, volume_mask(truth.shape, subject.tomogram.tilts))
    return _made_of(subject, "_phases", seen, truth)
