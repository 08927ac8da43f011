"""Restore with the model of a benchmark row, and compare its standard deviation with its errors: in all, by shell, and by depth.

    python pipelines/benchmark/calibration.py dense_a OUT/dense_a-vae-10min-1.safetensors

Nothing is trained. Printed are correlations, rms error over standard deviation and coverage by part, what held-out bins say, and
for wedge and measured part, by shell of frequency, the error E and the variance V of the samples over the power of the truth;
for the wedge also sqrt(E / V) by depth, the distance to the nearest measured bin, in bins of a patch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from data import Subject, load
from scoring import calibrated, scores
from torch import Tensor

from cryovae import fourier
from cryovae.checkpoint import load_model
from cryovae.config import preset
from cryovae.evaluation.fsc import regions
from cryovae.physics.depth import depth_at, depth_table
from cryovae.physics.wedge import smeared_mask
from cryovae.restoration.restorer import Restorer
from cryovae.restoration.steps import Restoration

EDGES = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.87)
DEPTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 99.0)
# The grey scale of the truth is fitted to the measured bins between these frequencies, in cycles per voxel.
BAND = (0.01, 0.2)
FEW = 50


def main() -> None:
    """Restore and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as in run.py")
    parser.add_argument("model", type=Path)
    parser.add_argument("--simulated", type=Path, help="folder of volumes that are not in CRYOVAE_SHARED_DATA")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    subject, checkpoint = load(options.data, options.simulated), load_model(options.model)
    config = replace(preset("quick").restoration, samples=options.samples, samples_out=options.samples, halves=False)
    restoration = Restorer(checkpoint.ladder, checkpoint.patch, config, torch.device(options.device))(subject.tomogram)
    correlations = scores(restoration.mean, subject)
    print(f"correlation: wedge {correlations['wedge']:.3f}, measured {correlations['measured']:.3f}")
    for name, part in calibrated(restoration, subject).items():
        print(f"{name}: rms error over std {part['rms_over_std']:.2f}, coverage {part['coverage']}")
    held = restoration.held_out or {}
    print("held-out bins: " + ", ".join(f"{key} {held.get(key)}" for key in ("rms_over_std", "chi2_band", "coverage", "slope")))
    by_shell(restoration, subject, checkpoint.patch)


def by_shell(restoration: Restoration, subject: Subject, patch: int) -> None:
    """Print errors and variances over the power of the truth, by shell and by depth in the wedge."""
    shape = (restoration.mean.shape[0], restoration.mean.shape[1], restoration.mean.shape[2])
    wedge, measured = regions(shape, subject.tomogram.tilts)
    k = fourier.frequencies(shape)
    radius = k.square().sum(0).sqrt()
    deep = depth_at(depth_table(smeared_mask((patch,) * 3, subject.tomogram.tilts)), k)
    mean, truth = (fourier.transform(v - v.mean()) for v in (restoration.mean, torch.as_tensor(subject.truth).float()))
    band = measured * ((radius > BAND[0]) & (radius < BAND[1]))
    scale = float(((mean * truth.conj()).real * band).sum() / (truth.abs().square() * band).sum())
    truth = scale * truth
    error = (mean - truth).abs().square()
    variance = torch.stack([fourier.transform(sample - restoration.mean).abs().square() for sample in restoration.samples]).mean(
        0
    )
    power = truth.abs().square()
    heads = [f"{name}: {'E / T':>6} {'V / T':>6} {'sqrt(E / V)':>11}" for name in ("measured", "wedge")]
    print(f"{'cycles a voxel':>16} | {heads[0]} | {heads[1]} | by depth, from {DEPTHS}")
    for low, high in pairwise(EDGES):
        shell = (radius >= low) & (radius < high)
        columns = [_ratios(error, variance, power, part * shell) for part in (measured, wedge)]
        layers = [_root(error, variance, wedge * shell * ((deep > a) & (deep <= b))) for a, b in pairwise(DEPTHS)]
        print(f"{low:7.3f} to {high:5.3f} | {columns[0]} | {columns[1]} | {' '.join(layers)}")


def _ratios(error: Tensor, variance: Tensor, power: Tensor, part: Tensor) -> str:
    e, v, t = (float((values * part).sum()) for values in (error, variance, power))
    return f"{e / t:6.2f} {v / t:6.2f} {_root(error, variance, part):>5}" if t > 0 else f"{'-':>6} {'-':>6} {'-':>5}"


def _root(error: Tensor, variance: Tensor, part: Tensor) -> str:
    if float(part.sum()) < FEW:
        return "   -"
    return f"{float((error * part).sum() / (variance * part).sum()) ** 0.5:4.2f}"


if __name__ == "__main__":
    main()
