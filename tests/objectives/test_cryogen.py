"""CryoGEN: what is restored, rotated and measured anew against data. A truth looks like data, an empty wedge does not."""

from dataclasses import replace

import pytest
import torch

from cryovae import fourier
from cryovae.data.prepare import prepare, prepare_halves
from cryovae.data.sampling import step_generator
from cryovae.errors import InputError
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet
from cryovae.objectives.cryogen import MOVED, Adversary, Critic, critic_input, cryogen2, transport
from cryovae.objectives.regression import draw_halves
from cryovae.physics.wedge import volume_mask
from cryovae.simulation.simulate import SimulationConfig, simulate
from cryovae.tiling.grid import cut
from cryovae.tomogram import Tomogram
from cryovae.training.deterministic import Deterministic
from cryovae.training.method import TrainingConfig

SIDE, BATCH = 24, 8


def _drawn(tomogram, seed=0):
    prepared = prepare(tomogram, SIDE)
    halves = prepare_halves(tomogram, prepared).halves
    return draw_halves(prepared, halves, halves, SIDE, BATCH, step_generator(seed, 0))


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_two_draws_from_one_law_are_near_and_others_far():
    one, two = (torch.randn(BATCH, SIDE, SIDE, SIDE, generator=_generator(seed)) for seed in (1, 2))
    same = float(transport(one, two, _generator()))
    assert 0 <= same < 0.01
    assert float(transport(one, 1.5 * two, _generator())) > 10 * same
    blurred = fourier.filtered(two, torch.exp(-2 * (torch.pi * fourier.radius(two.shape[-3:])).square()))
    assert float(transport(blurred, two, _generator())) > 10 * same
    # In units of the real one's variance, whatever the grey scale.
    assert float(transport(7 * one, 7 * two, _generator())) == pytest.approx(same, rel=1e-3)


def test_it_teaches_what_is_compared():
    x = torch.randn(2, SIDE, SIDE, SIDE, generator=_generator(1)).requires_grad_()
    transport(x, 2 * torch.randn(2, SIDE, SIDE, SIDE, generator=_generator(2)), _generator()).backward()
    assert float((x.grad * x.detach()).sum()) < 0


def test_fakes_have_the_noise_of_a_half_but_not_that_of_their_own_patch(tomogram):
    pair = _drawn(tomogram)
    _, fake, _ = critic_input(torch.zeros_like, pair)
    noise = fourier.filtered((pair.second - pair.first) / 2**0.5, pair.input_mask)
    assert float(fake.square().mean()) == pytest.approx(float(noise.square().mean()), rel=1e-4)
    assert abs(float((fake * noise).mean())) < 0.05 * float(noise.square().mean())


@pytest.fixture(scope="module")
def clear():
    """A simulation with hardly any noise, and its truth on the same scale."""
    made = simulate(SimulationConfig(shape=(48, 64, 56), seed=4, snr=20.0))
    halves = (made.half1.numpy(), made.half2.numpy())
    tomogram = Tomogram("clear", (halves[0] + halves[1]) / 2, 10.0, made.tilts, halves)
    return tomogram, made.truth


def test_a_truth_looks_like_data_and_an_empty_wedge_does_not(clear):
    tomogram, truth = clear
    prepared = prepare(tomogram, SIDE)
    density = prepared.density
    # The truth on the grey scale of what was measured of it.
    one, two = fourier.transform(truth - truth.mean()), fourier.transform(density)
    mask = volume_mask(density.shape, tomogram.tilts)
    truth = (truth - truth.mean()) * float((one.conj() * two).real.sum() / (one.abs().square() * mask).sum())
    near, far = 0.0, 0.0
    for seed in range(6):
        generator = _generator(seed)
        places = [tuple(int(torch.randint(n - SIDE + 1, (1,), generator=generator)) for n in density.shape) for _ in range(BATCH)]
        pair = _drawn(tomogram, seed)
        pair = replace(
            pair,
            first=torch.stack([cut(density, p, SIDE) for p in places]),
            second=torch.stack([cut(density, p, SIDE) for p in places]),
        )
        exact = torch.stack([cut(truth, p, SIDE) for p in places])
        _, fake, real = critic_input(lambda _, exact=exact: exact, pair)
        near += float(transport(fake, real, _generator(seed)))
        _, fake, real = critic_input(lambda u: u, pair)
        far += float(transport(fake, real, _generator(seed)))
    assert near < 0.6 * far


def test_a_critic_tells_what_differs_and_nothing_else(tomogram):
    pair = _drawn(tomogram)
    adversary = Adversary(torch.device("cpu"), seed=1)
    for _ in range(40):
        adversary(lambda u: 3 * u, pair, _generator())
    assert adversary.accuracy > 0.9
    real = torch.randn(2, SIDE, SIDE, SIDE, generator=_generator(3))
    assert Critic()(real).shape == (2, 1, 3, 3, 3)


def test_only_f_learns_from_being_judged(tomogram):
    pair = _drawn(tomogram)
    adversary = Adversary(torch.device("cpu"), seed=1)
    weight = torch.ones(()).requires_grad_()
    adversary(lambda u: weight * u, pair, _generator()).backward()
    assert weight.grad is not None
    before = [p.grad.clone() for p in adversary.critic.parameters()]
    adversary.optimiser.zero_grad(set_to_none=True)
    assert all(g.isfinite().all() for g in before)
    assert all(p.requires_grad for p in adversary.critic.parameters())


def test_one_volume_alone_is_refused(small):
    lone = replace(small, halves=None)
    with pytest.raises(InputError, match="takes its noise from them"):  # noqa: PT012
        data = prepare_halves(lone, prepare(lone, 16))
        Deterministic(UNet(LadderConfig((4,), (2,), 1)), [data], TrainingConfig(patch=16), "cryogen2", torch.device("cpu"))


def test_the_loss_is_fit_and_likeness(tomogram):
    pair = _drawn(tomogram)
    fit, fake, real = critic_input(lambda u: u, pair)
    expected = float(fit) + MOVED * float(transport(fake, real, _generator()))
    assert float(cryogen2(lambda u: u, pair, _generator())) == pytest.approx(expected)
