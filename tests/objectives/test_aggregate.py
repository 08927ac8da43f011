"""Distances of clouds: nothing between equal ones, something between others, what is known of Gaussians; what a wae trains."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from cryovae.config import override, preset
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.aggregate import SCALES, aggregated, mmd, sinkhorn, sliced
from cryovae.objectives.elbo import ObjectiveConfig, two_encoder_bound
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Trainer
from cryovae.training.variational import Variational


def _clouds(shift, count, repeats=200, channels=4):
    generator = torch.Generator().manual_seed(2)
    for _ in range(repeats):
        yield (
            torch.randn(count, channels, generator=generator) + shift,
            torch.randn(count, channels, generator=generator),
        )


def test_mmd_is_zero_on_average_for_equal_clouds_only():
    nothing = torch.stack([mmd(a, b) for a, b in _clouds(0.0, 40)])
    error = nothing.std() / len(nothing) ** 0.5
    assert nothing.mean().abs() < 3 * error
    assert (nothing < 0).any(), "a biased estimate is never below zero"
    threshold = nothing.quantile(0.95)
    power = torch.stack([mmd(a, b) > threshold for a, b in _clouds(0.5, 40)]).float().mean()
    assert power > 0.9


def test_mmd_is_the_sum_over_single_pairs():
    (a, b), *_ = _clouds(0.3, 5, 1)

    def kernel(x, y):
        return sum(2 * 4 * s / (2 * 4 * s + float((x - y).square().sum())) for s in SCALES)

    within = [sum(kernel(c[i], c[j]) for i in range(5) for j in range(5) if i != j) / 20 for c in (a, b)]
    between = sum(kernel(x, y) for x in a for y in b) / 25
    assert float(mmd(a, b)) == pytest.approx(sum(within) - 2 * between, abs=1e-5)


def test_sliced_distance_of_gaussians():
    """Of N(m, s^2) and N(0, 1) along one axis: m^2 + (s - 1)^2."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20000, 1, generator=generator)
    assert float(sliced(1.5 + 2 * a, b, torch.ones(1, 1))) == pytest.approx(1.5**2 + 1, rel=0.05)
    shifted, other = torch.randn(2, 5000, 3, generator=generator)
    ways = torch.randn(400, 3, generator=generator)
    assert float(sliced(shifted + torch.tensor([2.0, 0, 0]), other, ways)) == pytest.approx(4 / 3, rel=0.15)


def test_sinkhorn_is_the_cost_of_the_best_plan(monkeypatch):
    """With little blur, that of the assignment; of one cloud to itself nothing, whatever the blur."""
    pytest.importorskip("geomloss", reason="geomloss is not installed")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(60, 3, generator=generator) + torch.tensor([1.0, 0, 0]), torch.randn(60, 3, generator=generator)
    assert float(sinkhorn(a, a)) == pytest.approx(0.0, abs=1e-5)
    cost = (a[:, None] - b).square().sum(-1).numpy()
    best = cost[linear_sum_assignment(cost)].mean()
    monkeypatch.setattr("cryovae.objectives.aggregate.BLUR", 0.01)
    assert float(sinkhorn(a, b)) == pytest.approx(best / 3, rel=0.02)


def _trainer(small, objective):
    """Of a small ladder none of whose heads is at zero any more."""
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1))
    with torch.no_grad():
        for p in ladder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    training = TrainingConfig(patch=16, batch=2, steps=12, learning_rate=1e-3, validate_every=4)
    return Trainer(Variational(ladder, [prepare(small, 16)], training, MaskingConfig(), objective, torch.device("cpu")))


@pytest.mark.parametrize("divergence", ["mmd", "sliced", "sinkhorn"])
def test_a_wae_trains_q_by_its_cloud(small, divergence):
    """The coarsest level is charged by the distance, the finer ones by their KL; what is reported is the bound."""
    objective = ObjectiveConfig(name="wae", divergence=divergence, completion_fraction=0.0, warmup=0.0, refill_from=1.0)
    trainer = _trainer(small, objective)
    ladder, method = trainer.network, trainer.method
    measurement = method.draw(trainer.step)
    figures, _ = trainer._gradients(measurement, {})
    assert figures["kl"] > 0
    coarse = [p.grad.clone() for p in ladder.level(2).posterior.parameters()]
    assert any(g.abs().max() > 0 for g in coarse)
    method.objective = replace(objective, name="vae")
    same, _ = trainer._gradients(measurement, {})
    assert same == pytest.approx(figures, rel=1e-5)
    assert not all(torch.equal(g, p.grad) for g, p in zip(coarse, ladder.level(2).posterior.parameters(), strict=True))
    reports = []
    method.objective = objective
    trainer.run(reports.append)
    assert all(r.event is None for r in reports)


def test_a_deterministic_encoder_gives_means_and_r_learns_their_distance(small):
    """No noise enters on the coarsest level, nothing trains q's width there, and r's is pulled to |mu_q - mu_r|."""
    objective = ObjectiveConfig(name="wae", stochastic=False, completion_fraction=0.0, refill_from=1.0)
    trainer = _trainer(small, objective)
    ladder = trainer.network
    measurement, top = trainer.method.draw(0), ladder.level(2)
    with torch.no_grad():
        top.posterior.shift.bias.fill_(2.0)

    def coarsest(seed, stochastic=False):
        seen = []
        hook = top.enter.register_forward_pre_hook(lambda module, latent: seen.append(latent[0].detach()))
        kl_regularization = replace(objective, stochastic=stochastic).kl_regularization(1.0)
        noise = torch.Generator().manual_seed(seed)
        bound = two_encoder_bound(ladder, measurement, ladder.encode(measurement.input_masked, R), noise, kl_regularization)
        hook.remove()
        return seen[0], bound

    assert torch.equal(coarsest(1)[0], coarsest(2)[0])
    assert not torch.equal(coarsest(1, stochastic=True)[0], coarsest(2, stochastic=True)[0])

    def pull(width):
        ladder.zero_grad()
        with torch.no_grad():
            top.masked_posterior.scale.bias.fill_(width)
        coarsest(1)[1].loss(1.0).backward()
        return top.masked_posterior.scale.bias.grad

    assert (pull(5.0) > 0).all()
    assert (pull(-6.0) < 0).all()
    assert top.posterior.shift.bias.grad.any()
    assert top.posterior.scale.bias.grad is None


def test_the_charge_grows_with_the_distance(small):
    ladder = Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1))

    def charge(shift, distance):
        prior = ladder.prior((16, 16, 16), 4)
        output = prior.sample(prior.draw_noise(torch.Generator().manual_seed(2))).levels[0]
        output = replace(output, latent=output.latent + shift)
        return float(aggregated(output, distance, torch.Generator().manual_seed(9)).detach())

    for distance in ("mmd", "sliced"):
        near, far, farther = (charge(shift, distance) for shift in (0.0, 1.0, 3.0))
        assert abs(near) < far < farther


def test_settings_of_the_wae_are_checked():
    with pytest.raises(InputError, match="divergence 'kl' found, expected mmd, sliced or sinkhorn"):
        override(preset("quick"), {"objective.divergence": "kl"})
    with pytest.raises(InputError, match="free_bits or balance found with objective wae"):
        override(preset("quick"), {"objective.name": "wae", "objective.free_bits": 0.5})
    with pytest.raises(InputError, match="stochastic = false found with objective vae and 2 encoder"):
        override(preset("quick"), {"objective.stochastic": False})
    assert override(preset("quick"), {"objective.name": "wae", "objective.stochastic": False}).objective.variational
