"""Training of a ladder on pairs whose truth is known: the mean first, then the widths, and nothing else in each."""

from dataclasses import replace

import pytest
import torch

from cryovae import fourier
from cryovae.models.ladder import Ladder, Q, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.observation import RandomNoise, observed
from cryovae.physics.traits import SHELLS, TRAITS
from cryovae.physics.wedge import patch_mask
from cryovae.simulation.patches import Pairs, PatchConfig, scene_pairs
from cryovae.tomogram import TiltGeometry
from cryovae.training.method import TrainingConfig
from cryovae.training.pretrained import LadderTraining
from cryovae.training.trainer import Trainer

CPU, SIDE, COUNT = torch.device("cpu"), 16, 6
RANGE = TiltGeometry.from_range(-60, 60)


class Blobs:
    """Batches of one dark blob each, measured without noise."""

    def batch(self, step, size, generator):
        place = torch.arange(SIDE) - SIDE / 2
        shift = torch.rand(size, 3, generator=generator) * 6 - 3
        parts = [torch.exp(-((place - s[:, None]) ** 2) / 8) for s in shift]
        clean = torch.stack([-4 * z[:, None, None] * y[:, None] * x for z, y, x in parts])
        data = torch.stack([fourier.filtered(x, patch_mask(x.shape, RANGE)) for x in clean])
        noise = RandomNoise(0.5, 0.0, 0.0, 0.0)
        scale = torch.full((size,), float(data.std()))
        return Pairs(clean, observed(data, RANGE, noise), torch.zeros(size), (RANGE,) * size, scale=scale)


class WithTraits(Blobs):
    """The same with traits."""

    def batch(self, step, size, generator):
        return replace(super().batch(step, size, generator), traits=torch.ones(size, TRAITS))


def _method(steps=20, seed=0, rate=3e-3):
    torch.manual_seed(0)
    config = TrainingConfig(patch=SIDE, batch=COUNT, steps=steps, learning_rate=rate, ema=0.9, clip=1.0, seed=seed)
    return LadderTraining(Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1)), Blobs(), config, CPU)


def _gradients(method, step):
    method.network.zero_grad(set_to_none=True)
    method.backward(method.draw(step), step, {})
    widths = {id(p) for p in method.network.spread_parameters()}
    trained = {id(p) for p in method.network.parameters() if p.grad is not None and bool(p.grad.any())}
    return widths, trained


def test_the_mean_is_trained_first_and_widths_alone_in_the_end():
    method = _method()
    widths, trained = _gradients(method, 0)
    assert trained
    assert not trained & widths
    widths, trained = _gradients(method, method.phase_start)
    assert trained
    assert trained <= widths


def test_steps_lower_the_error_of_the_mean():
    method = _method(60)
    first = float(method.backward(method.draw(0), 0, {})["squared_error"].detach())
    trained = Trainer(method).run()
    again = _method(60)
    again.network.load_state_dict(trained.state_dict())
    last = float(again.backward(again.draw(0), 0, {})["squared_error"].detach())
    assert last < 0.8 * first


def test_data_are_seen_in_units_of_their_deviation_and_errors_count_in_those_of_the_truth():
    """Three times larger data, truth and scale look the same to the network, so its error is three times larger too."""
    method, batch = _method(), _method().draw(0)
    with torch.no_grad():
        method.network.out.bias.fill_(0.3)
    o = batch.observation
    larger = Pairs(3 * batch.clean, replace(o, data=3 * o.data), batch.scenes, batch.tilts, scale=3 * batch.scale)
    one, two = (float(method.backward(b, 0, {})["squared_error"].detach()) for b in (batch, larger))
    assert two == pytest.approx(9 * one, rel=1e-5)
    wrong = Pairs(batch.clean, o, batch.scenes, batch.tilts, scale=2 * batch.scale)
    assert float(method.backward(wrong, 0, {})["squared_error"].detach()) != pytest.approx(one, rel=1e-3)


def test_a_ladder_is_conditioned_on_the_traits_of_its_patches_but_not_always():
    method = _method()
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1), traits=TRAITS)
    method = LadderTraining(ladder, WithTraits(), method.config, CPU)
    batch, traits = method.draw(0), []
    for step in range(200):
        traits.append(method._traits(batch, step))
    assert 1 <= sum(one is None for one in traits) <= 25
    noise = torch.cat([one[:, 2 * SHELLS] for one in traits if one is not None])
    assert 0.25 < float((noise.abs() < 0.2).float().mean()) < 0.45
    network = Trainer(method).run()
    assert float(network.film.out.weight.abs().max()) > 0


def test_q_begins_as_r():
    network = Trainer(_method(8)).run()
    density = torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    means = [network.posterior(network.encode(density, role), role).mean().density for role in (Q, R)]
    assert torch.allclose(*means, atol=1e-5)


def test_the_same_seed_gives_the_same_network():
    one, two = (Trainer(_method(6)).run().state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_scenes_know_the_scale_of_their_data():
    pairs = scene_pairs(PatchConfig(side=16, rotations=2, cuts=3), 0)
    assert pairs.scale.shape == (6,)
    assert len(set(pairs.scale.tolist())) == 2
    part = pairs.rows(torch.tensor([0, 5]))
    assert torch.equal(part.scale, pairs.scale[[0, 5]])
    assert torch.equal(Pairs.joined([part, part]).scale, part.scale.repeat(2))


def test_in_the_end_widths_follow_the_errors():
    """Samples of r differ from its mean by about as much as that differs from the truth."""
    method = _method(60, rate=0.1)
    method.phase_start = 0
    first = float(method.backward(method.draw(0), 0, {})["error_over_std"].detach())
    trained = Trainer(method).run()
    again = _method(60)
    again.phase_start = 0
    again.network.load_state_dict(trained.state_dict())
    last = float(again.backward(again.draw(99), 99, {})["error_over_std"].detach())
    # Those of an untrained decoder are hundreds of times too small.
    assert 1 < last < 0.5 * first


def test_each_phase_has_a_learning_rate_of_its_own():
    method = _method(100)
    start = method.phase_start
    means, widths = zip(*(method.learning_rates(step) for step in range(100)), strict=True)
    assert max(means) == pytest.approx(3e-3, rel=0.05)
    assert max(widths[start:]) == pytest.approx(3e-3, rel=0.1)
    assert means[start - 1] < 0.05 * max(means)
    assert widths[-1] < 0.2 * max(widths)
