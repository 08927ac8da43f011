"""Training and restoring together, short but real: what it must do, and what it must not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.evaluation.assessment import compare
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer, refilled
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tomogram import Optics, TiltGeometry, Tomogram
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Trainer
from cryovae.training.variational import Variational

# With patches of 16 voxels nothing is learned but what the soft edge of the wedge lets through.
TRAINING = TrainingConfig(patch=24, batch=4, steps=200, learning_rate=2e-3, ema=0.98, validate_every=40)
LADDER = LadderConfig((8, 16, 24), (4, 6, 8), 1)


@pytest.fixture(scope="module")
def simulation():
    return simulate(SimulationConfig(shape=(48, 72, 64), seed=3, snr=1.0))


def _restored(tomogram):
    """Restored by a model trained on it, and its validations."""
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    masking = MaskingConfig(rotated_fraction=0.0)
    prepared = prepare(tomogram, TRAINING.patch, masking=masking)
    refill = lambda ladder, s, seed: refilled(ladder, s, TRAINING.patch, seed, cpu)  # noqa: E731
    trainer = Trainer(Variational(Ladder(LADDER), [prepared], TRAINING, masking, ObjectiveConfig(), cpu, refill))
    reports = []
    trained = trainer.run(reports.append, lambda state: None)
    restored = Restorer(trained, TRAINING.patch, RestoreConfig(samples=8, batch=8, halves=False))(tomogram)
    return restored, [r.validation for r in reports if r.validation]


@pytest.mark.slow
def test_noise_in_nothing_out():
    """Pure noise as halves comes back with less than 2 % of its variance in the wedge, and nothing hidden is predicted."""
    tilts = TiltGeometry.from_range(-60, 60)
    rng = np.random.default_rng(0)
    halves = tuple(rng.normal(300, 12, (48, 72, 64)).astype(np.float32) for _ in range(2))
    restored, seen = _restored(Tomogram("noise", (halves[0] + halves[1]) / 2, 10.0, tilts, halves))
    assert restored.figures["wedge_power_of_input"] < 0.02
    assert max(validation.gain for validation in seen) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
def test_the_wedge_is_filled_and_protein_stays_dark(simulation, single):
    """Held-out bins that the model never saw are predicted, and those of the true wedge too."""
    halves = (simulation.half1.numpy(), simulation.half2.numpy())
    mean = (halves[0] + halves[1]) / 2
    restored, seen = _restored(Tomogram("t", mean, 10.0, simulation.tilts, None if single else halves))
    rows = compare(restored.mean, simulation.truth, torch.from_numpy(mean), simulation.tilts)
    scores = {row.name: row.score for row in rows}
    assert scores["restored"].wedge.band > scores["untouched input"].wedge.band + 0.3
    assert scores["restored"].measured.band > 0.95
    assert max(validation.gain for validation in seen) > 0.01
    assert max(validation.correlation for validation in seen) > 0.15
    assert restored.held_out["correlation"] > 0.15
    centred = restored.mean - restored.mean.mean()
    assert float(centred.pow(3).mean()) < 0
    assert float((centred * simulation.truth).sum()) > 0


def _correlation(one, two, low, high):
    """Of two densities, over the bins with |k| from ``low`` to ``high`` cycles per voxel."""
    radius = fourier.radius(one.shape)
    weight = ((radius > low) & (radius < high)) * fourier.multiplicity(one.shape)
    x, y = fourier.transform(one - one.mean()), fourier.transform(two - two.mean())
    cross, a, b = ((weight * term).sum() for term in ((x * y.conj()).real, x.abs().square(), y.abs().square()))
    return float(cross / (a * b).sqrt())


@pytest.mark.slow
def test_dividing_out_the_contrast_transfer_improves_every_shell():
    """Against the density without contrast transfer: as good before its first zero, and of the right sign beyond."""
    config = SimulationConfig(shape=(48, 72, 64), defocus=5.0, snr=0.5, seed=4)
    made, plain = simulate(config), simulate(replace(config, defocus=0.0)).truth
    mean = ((made.half1 + made.half2) / 2).numpy()
    tomogram = Tomogram("modulated", mean, config.voxel_size, made.tilts, (made.half1.numpy(), made.half2.numpy()))
    correlations = []
    for optics in (None, Optics((50000.0,))):
        restored, _ = _restored(replace(tomogram, optics=optics))
        bands = ((0.02, 0.12), (0.12, 0.25), (0.34, 0.45))
        correlations.append([_correlation(restored.mean, plain, low, high) for low, high in bands])
    without, divided = correlations
    assert divided[0] > without[0] - 0.02
    assert divided[1] > without[1] - 0.02
    assert divided[2] > without[2] + 0.1, (without, divided)
