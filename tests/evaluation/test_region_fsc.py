"""The FSC of a box: 0 within its error in an empty wedge, at full volume and for a region; unchanged where there is signal."""

from __future__ import annotations

import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.evaluation.fsc import score
from cryovae.evaluation.region import Box, cut_out, faded
from cryovae.evaluation.region_fsc import padded, region_score
from cryovae.io.tilts import read_tilts
from cryovae.physics.wedge import volume_mask
from cryovae.tomogram import TiltGeometry

SHAPE = (104, 128, 120)
TILTS = TiltGeometry.from_range(-60, 52)
BOXES = {
    "full volume": Box((0, 0, 0), SHAPE),
    "middle": Box((26, 32, 30), (78, 96, 90)),
    "corner": Box((0, 0, 0), (48, 64, 60)),
    "slab": Box((40, 0, 0), (64, 128, 120)),
    "small": Box((40, 50, 40), (72, 90, 76)),
}


def white(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32))


def red(seed: int) -> torch.Tensor:
    """A field whose power falls with frequency as that of a specimen does."""
    return fourier.filtered(white(seed), 10 / (1 + (fourier.radius(SHAPE) / 0.04) ** 2))


@pytest.fixture(scope="module")
def emptied() -> list[np.ndarray]:
    """Two halves of one signal, with their own noise, both without a wedge."""
    mask, signal = volume_mask(SHAPE, TILTS), red(0)
    return [fourier.filtered(signal + white(number), mask).numpy() for number in (1, 2)]


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_an_empty_wedge_has_no_correlation(emptied: list[np.ndarray], box: Box) -> None:
    part = region_score(*emptied, box, TILTS)
    assert abs(part.wedge.band) < min(2 * part.wedge.error, 0.05)
    known = np.isfinite(part.wedge.shells)
    assert known.sum() > 5
    assert np.abs(part.wedge.shells[known]).max() < 0.2
    assert part.measured.band > 0.3
    leaked = score(*(faded(cut_out(half, box)) for half in emptied), TILTS)
    assert leaked.wedge.band > 0.25, "the test is of no use if a window alone does not leak"


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_a_filled_wedge_keeps_its_correlation(box: Box) -> None:
    """White signal and noise of equal power: 1/2 in both parts, within three errors, and the errors are those of the draws."""
    values = []
    for seed in range(0, 12, 3):
        signal = white(seed)
        values.append(region_score(*((signal + white(seed + i)).numpy() for i in (1, 2)), box, TILTS))
    for name in ("wedge", "measured"):
        bands = np.array([getattr(value, name).band for value in values])
        error = np.mean([getattr(value, name).error for value in values])
        assert abs(bands.mean() - 0.5) < 3 * error / 2 + 0.01
        assert 0.2 < bands.std(ddof=1) / error < 2.5


def test_the_error_is_the_scatter_of_independent_noise() -> None:
    box = BOXES["small"]
    values = [region_score(white(2 * i).numpy(), white(2 * i + 1).numpy(), box, TILTS) for i in range(12)]
    for name in ("wedge", "measured"):
        scatter = np.sqrt(np.mean([getattr(value, name).band ** 2 for value in values]))
        assert scatter == pytest.approx(np.mean([getattr(value, name).error for value in values]), rel=0.5)


def test_without_a_wedge_only_the_measured_part_is_known() -> None:
    alone = region_score(white(0).numpy(), white(0).numpy(), BOXES["small"], TiltGeometry.from_range(-90, 90))
    assert np.isnan(alone.wedge.band)
    assert alone.measured.band == pytest.approx(1)


def test_what_is_about_a_box_ends_at_the_volume() -> None:
    assert padded(Box((5, 60, 100), (40, 90, 120)), SHAPE) == Box((0, 28, 68), (72, 122, 120))


@pytest.mark.skipif("CRYOVAE_SHARED_DATA" not in os.environ, reason="needs the benchmark data")
@pytest.mark.parametrize("share", [1, 2, 4])
@pytest.mark.parametrize("name", ["dense_a", "dense_b"])
def test_the_halves_of_the_benchmark_have_an_empty_wedge(name: str, share: int) -> None:
    folder = Path(os.environ["CRYOVAE_SHARED_DATA"]) / "bench"
    halves = [mrcfile.read(folder / f"{name}_half{number}.mrc") for number in (1, 2)]
    starts = [(n - n // share) // 2 for n in halves[0].shape]
    box = Box(tuple(starts), tuple(a + n // share for a, n in zip(starts, halves[0].shape, strict=True)))  # type: ignore[arg-type]
    wedge = region_score(*halves, box, read_tilts(folder / f"{name}.tlt")).wedge
    assert abs(wedge.band) < min(2 * wedge.error, 0.01)
