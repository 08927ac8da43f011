"""Training of the generative model: gradients go where they should, figures are what they are called, nothing else changes."""

from dataclasses import replace

import pytest
import torch

from cryovae.errors import InputError
from cryovae.objectives.aggregate import cloud_distance
from cryovae.objectives.generative import DETAIL, LAYOUT
from cryovae.simulation.pool import PairPool
from cryovae.training.generative import FlowTraining, GenerativeConfig, GuidedTraining, VAETraining, first_patches
from cryovae.training.trainer import Trainer
from tests.helpers.generative import TINY_RECIPE, made_up_pairs, tiny_generator

CPU = torch.device("cpu")
SETTINGS = TINY_RECIPE.training(20, 6)


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr("cryovae.simulation.patches.scene_pairs", made_up_pairs)
    with PairPool(TINY_RECIPE.patches, TINY_RECIPE.pool, 0) as pool:
        yield pool


def _vae(pool, **weights):
    return VAETraining(tiny_generator().vae, pool, SETTINGS, GenerativeConfig(**weights), CPU)


def _flow(pool, **weights):
    return FlowTraining(tiny_generator(), pool, SETTINGS, GenerativeConfig(**weights), CPU)


def _figures(method, step=3):
    method.network.zero_grad()
    return {name: float(value.detach()) for name, value in method.backward(method.draw(step), step, {}).items()}


def test_the_loss_of_the_vae_is_minus_its_elbo(pool):
    figures = _figures(_vae(pool))
    assert figures["loss"] == pytest.approx(-figures["elbo"], rel=1e-5)
    twice = _figures(_vae(pool, beta=2.0))
    assert twice["loss"] - figures["loss"] == pytest.approx(figures["kl"], rel=1e-3)
    assert twice["elbo"] == pytest.approx(figures["elbo"], rel=1e-5)
    assert figures["kl"] > 0


@pytest.mark.parametrize("divergence", ["mmd", "sliced"])
def test_a_wae_has_the_distance_of_all_latents_in_place_of_the_kl(pool, divergence):
    plain, wae, twice = (
        _figures(_vae(pool, **weights))
        for weights in ({"beta": 0.0}, {"divergence": divergence}, {"divergence": divergence, "beta": 2.0})
    )
    penalty = wae["loss"] - plain["loss"]
    assert penalty != pytest.approx(wae["kl"], rel=0.05)
    assert twice["loss"] - plain["loss"] == pytest.approx(2 * penalty, rel=1e-3)
    # What is reported is the bound, whatever is trained.
    assert wae["elbo"] == pytest.approx(plain["elbo"], rel=1e-5)


def test_a_wae_brings_all_latents_together_to_the_prior(pool):
    """Trained with the distance, the cloud of the latents is nearer to the prior than without it."""

    def distance(beta):
        method = _vae(pool, divergence="sliced", beta=beta)
        optimiser = torch.optim.Adam(method.network.parameters(), lr=1e-3)
        for step in range(30):
            optimiser.zero_grad()
            method.backward(method.draw(step), step, {})
            optimiser.step()
        with torch.no_grad():
            latents = method.network.encode(method.draw(0).clean).mean
        prior = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        return float(cloud_distance(latents, prior, "sliced", torch.Generator().manual_seed(1)))

    assert distance(1000.0) < 0.7 * distance(0.0)


def test_a_step_depends_on_seed_and_step_alone(pool):
    for make in (_vae, _flow):
        method = make(pool)
        first = _figures(method)
        assert _figures(method) == first == _figures(make(pool))
        assert _figures(method, 4) != first


@pytest.mark.parametrize("make", [_vae, _flow])
def test_steps_lower_the_loss(make, pool):
    method = make(pool)
    before = _figures(method, 0)["loss"]
    optimiser = torch.optim.Adam(method.network.parameters(), lr=3e-3)
    for _ in range(25):
        optimiser.zero_grad()
        method.backward(method.draw(0), 0, {})
        optimiser.step()
    assert _figures(method, 0)["loss"] < before - 0.05 * abs(before)


def test_prior_and_posterior_are_the_errors_of_their_patches(pool):
    none, all_of_them = _figures(_flow(pool, conditioned=0.0)), _figures(_flow(pool, conditioned=1.0))
    assert none["posterior"] == 0
    assert all_of_them["prior"] == 0
    assert none["loss"] == pytest.approx(none["prior"] + 0.5 * none["mean"], rel=1e-5)
    assert all_of_them["loss"] == pytest.approx(all_of_them["posterior"] + 0.5 * all_of_them["mean"], rel=1e-5)
    both = _figures(_flow(pool, conditioned=0.5))
    assert both["prior"] > 0
    assert both["posterior"] > 0
    assert _figures(_flow(pool, mean_weight=0.0))["loss"] < _figures(_flow(pool))["loss"]


def test_the_condition_learns_nothing_from_patches_of_the_prior(pool):
    prior = _flow(pool, conditioned=0.0, mean_weight=0.0)
    _figures(prior)
    assert not any(w.grad is not None and w.grad.any() for w in prior.network.of_information.parameters())
    assert prior.network.leave.weight.grad.any()
    posterior = _flow(pool, conditioned=1.0, mean_weight=0.0)
    _figures(posterior)
    assert posterior.network.observe.weight.grad.any()
    assert all(w.grad.any() for w in posterior.network.of_information.parameters())


def test_training_the_flow_leaves_the_model_as_it_was(pool):
    generator = tiny_generator()
    before = {name: weight.clone() for name, weight in generator.state_dict().items()}
    for _ in range(2):
        method = FlowTraining(generator, pool, SETTINGS, GenerativeConfig(), CPU)
        _figures(method)
        assert all(weight.requires_grad for weight in generator.parameters())
        assert all(weight.grad is None for weight in generator.parameters())
        assert all(weight.requires_grad for group in method.parameter_groups() for weight in group)
    assert all(torch.equal(weight, before[name]) for name, weight in generator.state_dict().items())


def test_the_flow_is_trained_on_standardised_samples(pool):
    """Latents of a shifted and scaled model are shifted and scaled; their noise is that of q."""
    generator, rng = tiny_generator(), torch.Generator().manual_seed(0)
    generator.latent_mean.fill_(2.0)
    generator.latent_scale.fill_(4.0)
    method = FlowTraining(generator, pool, SETTINGS, GenerativeConfig(), CPU)
    density = method.draw(0).clean
    noise = torch.randn(6, 3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = (generator.vae.encode(density).sample(noise) - 2) / 4
    assert torch.allclose(method._latents(density, rng), expected, atol=1e-5)


def test_first_patches_are_those_of_the_seed(pool, monkeypatch):
    monkeypatch.setattr("cryovae.training.generative.FIRST_PATCHES", 10)
    first = first_patches(pool, 3)
    assert first.shape == (10, 16, 16, 16)
    assert torch.equal(first, first_patches(pool, 3))
    assert not torch.equal(first, first_patches(pool, 4))


def test_mixed_precision_is_close(pool):
    exact = _figures(_flow(pool))
    method = FlowTraining(tiny_generator(), pool, replace(SETTINGS, precision="bfloat16"), GenerativeConfig(), CPU)
    assert method.mixed
    mixed = _figures(method)
    assert mixed["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert mixed != exact


@pytest.mark.parametrize(
    "bad", [{"beta": -1.0}, {"beta": float("nan")}, {"conditioned": 1.5}, {"mean_weight": "x"}, {"divergence": "x"}]
)
def test_impossible_weights_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        GenerativeConfig(**bad)


def test_details_come_first_and_the_layout_after_them(pool):
    flow = _flow(pool, conditioned=0.9, layout_conditioned=0.2, detail_until=0.5)
    assert {flow._phase(step) for step in range(10)} == {(DETAIL, 0.9)}
    assert {flow._phase(step) for step in range(10, 20)} == {(LAYOUT, 0.2)}


def test_each_group_has_its_own_rate(pool):
    flow = _flow(pool, hidden_rate=0.5)
    rates = flow.learning_rates(10)
    assert rates[0] / rates[1] == pytest.approx(0.5 / SETTINGS.learning_rate)
    groups = flow.optimiser().param_groups
    assert [group["lr"] for group in groups] == [0.5, SETTINGS.learning_rate]
    assert all(weight.dim() == 5 for weight in groups[0]["params"])
    assert sum(len(group["params"]) for group in groups) == len(list(flow.network.parameters()))


def _another_flow():
    """A flow of other weights than those of the tiny model."""
    flow = tiny_generator().flow
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=rng))
    return flow


def _guided(pool, **weights):
    return GuidedTraining(tiny_generator(), _another_flow(), pool, SETTINGS, GenerativeConfig(**weights), CPU)


def test_guided_steps_learn_the_way_from_the_early_flow(pool):
    """The distance is that of u + w (u - early) from the velocity, without a condition; and it is learned."""
    method = _guided(pool, layout_conditioned=0.0, guidance=2.0)
    figures = _figures(method)
    assert figures["distance"] == figures["distance_before"] > 0
    # It grows with the square of the guidance.
    assert _figures(_guided(pool, layout_conditioned=0.0, guidance=1.0))["distance"] == pytest.approx(
        figures["distance"] / 4, rel=1e-4
    )
    optimiser = torch.optim.Adam([w for w in method.network.parameters() if w.requires_grad], lr=1e-3)
    for _ in range(60):
        optimiser.zero_grad()
        method.backward(method.draw(3), 3, {})
        optimiser.step()
    after = _figures(method)
    assert after["distance_before"] == figures["distance_before"]
    assert after["distance"] < 0.5 * figures["distance"]
    # It went on the way from the early flow to the flow, not back.
    latents, time = torch.randn(4, 3, 4, 4, 4, generator=torch.Generator().manual_seed(2)), torch.full((4,), 0.7)
    flow, none = method.generator.flow, method.network.no_context(latents.shape, latents)
    with torch.no_grad():
        own, moved, early = (f(latents, time, none) for f in (flow, method.network, method.early_flow))
    likeness = torch.nn.functional.cosine_similarity((moved - own).flatten(1), (own - early).flatten(1))
    assert likeness.min() > 0.2


def test_guided_steps_leave_the_posterior(pool):
    """With a condition the velocity stays what it was, and the network of the condition is not trained."""
    method = _guided(pool, layout_conditioned=1.0, guidance=2.0)
    assert _figures(method)["distance"] < 1e-10
    method = _guided(pool, layout_conditioned=0.5)
    _figures(method)
    for part in method.network.condition_parts():
        assert all(weight.grad is None for weight in part.parameters())
    assert method.network.enter.weight.grad.any()


def test_guided_steps_are_of_the_layout_and_slow(pool):
    method, flow = _guided(pool, guided_pace=0.2), _flow(pool)
    assert {method._phase(step)[0] for step in range(20)} == {LAYOUT}
    assert method.learning_rates(7) == pytest.approx([0.2 * rate for rate in flow.learning_rates(7)])


def test_the_early_flow_is_the_average_when_the_details_end(pool):
    flow = _flow(pool, detail_until=0.5)
    trainer = Trainer(flow)
    averages = {}
    trainer.run(lambda report: averages.update({report.step: trainer.average.enter.weight.clone()}))
    assert flow.refill_at == {10}
    assert torch.equal(flow.early["enter.weight"], averages[10])
    assert not torch.equal(flow.early["enter.weight"], averages[20])
    assert _flow(pool, detail_until=0.0).refill_at == frozenset()


def test_the_early_flow_is_saved_with_the_state(pool):
    flow, again = _flow(pool, detail_until=0.5), _flow(pool, detail_until=0.5)
    assert flow.state() == {}
    flow.refill(flow.network, 10)
    again.resume(flow.state())
    assert all(torch.equal(weight, again.early[name]) for name, weight in flow.network.state_dict().items())
