"""Training and restoring together, short but real: what it must do, and what it must not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.evaluate.report import as_figures, compare
from cryovae.models.ladder import Ladder, LadderConfig
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.objectives.specimen import prepare
from cryovae.restore import RestoreConfig, Restorer
from cryovae.tomogram import TiltGeometry, Tomogram
from cryovae.train import Trainer, TrainingConfig

TRAINING = TrainingConfig(patch=16, batch=4, steps=240, learning_rate=2e-3, ema=0.98, validate_every=60)
LADDER = LadderConfig((8, 16, 24), (4, 6, 8), 1)


def _restored(tomogram, training=TRAINING):
    torch.manual_seed(0)
    specimen = prepare(tomogram, training.patch)
    trainer = Trainer(Ladder(LADDER), [specimen], training, ObjectiveConfig(turned=0.0), torch.device("cpu"))
    trained = trainer.run(lambda report: None, lambda state: None)
    return Restorer(trained, training.patch, RestoreConfig(samples=8, batch=8))(tomogram)


@pytest.mark.slow
def test_noise_in_nothing_out():
    """Pure noise as halves comes back with less than 2 % of its variance in the wedge."""
    tilts = TiltGeometry.from_range(-60, 60)
    rng = np.random.default_rng(0)
    halves = tuple(rng.normal(300, 12, (32, 48, 40)).astype(np.float32) for _ in range(2))
    restored = _restored(Tomogram("noise", (halves[0] + halves[1]) / 2, 10.0, tilts, halves))
    assert restored.figures["wedge_power_of_input"] < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_the_wedge_is_filled_better_than_by_leaving_it_and_protein_stays_dark(simulation, tomogram, single):
    given = Tomogram("t", tomogram.density, 10.0, tomogram.tilts, None if single else tomogram.halves)
    restored = _restored(given, replace(TRAINING, steps=300))
    rows = compare(restored.mean, simulation.truth, torch.from_numpy(given.density), simulation.tilts)
    figures = as_figures(rows)
    assert figures["restored"]["wedge"] > figures["untouched input"]["wedge"] + 0.12
    assert figures["restored"]["measured"] > 0.8
    centred = restored.mean - restored.mean.mean()
    assert float(centred.pow(3).mean()) < 0
    assert float((centred * simulation.truth).sum()) > 0
