import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.ctf import contrast_transfer, wavelength
from cryovae.physics.wedge import volume_mask
from cryovae.simulation.simulate import SimulationConfig, simulate


def test_halves_are_the_wedged_truth_plus_independent_noise(simulation):
    shape = simulation.truth.shape
    mask = (volume_mask(shape, simulation.tilts, 1e-6) > 0.5) * fourier.below_nyquist(shape)
    seen = fourier.filtered(simulation.truth, mask)
    first, second = simulation.half1 - seen, simulation.half2 - seen
    assert abs(float((first * second).mean() / (first.std() * second.std()))) < 0.03
    signal, noise = float(seen.var()), float(((first + second) / 2).var())
    assert signal / noise == pytest.approx(0.3, rel=0.05)
    assert float(((simulation.half1 + simulation.half2) / 2).std()) == pytest.approx(1.0, rel=0.01)
    outside = fourier.transform(simulation.half1).abs().square() * (1 - mask)
    assert float(outside.sum()) < 1e-4


def test_protein_is_dark(simulation):
    centred = simulation.truth - simulation.truth.mean()
    assert float(centred.pow(3).mean()) < 0


def test_same_seed_same_simulation():
    config = SimulationConfig(shape=(20, 24, 28), seed=7)
    assert torch.equal(simulate(config).half1, simulate(config).half1)
    assert not torch.equal(simulate(config).truth, simulate(SimulationConfig(shape=(20, 24, 28), seed=8)).truth)


@pytest.mark.parametrize("bad", [{"shape": (8, 30, 30)}, {"snr": 0.0}, {"tilt_step": -1.0}, {"tilt_range": (60.0, -60.0)}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        simulate(SimulationConfig(**bad))


def test_ctf_against_known_values():
    assert wavelength(300) == pytest.approx(0.01969, abs=1e-5)
    assert float(contrast_transfer(torch.zeros(1), 10.0, 2.5)) == pytest.approx(-0.1)
    k = torch.linspace(1e-4, 0.6, 6000)
    values = contrast_transfer(k, 10.0, 2.5, cs=0.0, amplitude=0.0).numpy()
    first_zero = k.numpy()[1:][np.diff(np.sign(values)) != 0][0]
    assert first_zero == pytest.approx(10 * (1 / (0.019687 * 25000)) ** 0.5, abs=2e-3)
