"""The loop: it learns, it stops, it resumes bit for bit, and it does not keep a broken step."""

from dataclasses import replace

import pytest
import torch

from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.elbo import ObjectiveConfig, completion
from cryovae.restoration.restorer import refilled
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Interrupted, Trainer
from cryovae.training.variational import Variational

SMALL = TrainingConfig(patch=16, batch=2, steps=12, learning_rate=1e-3, validate_every=4)
OBJECTIVE = ObjectiveConfig(completion_fraction=0.4, warmup=0.3, refill_from=0.5, refill_every=0.25)
MASKING = MaskingConfig(rotated_fraction=0.3)


def _trainer(small, config=SMALL, objective=OBJECTIVE):
    torch.manual_seed(0)
    device = torch.device("cpu")

    def refill(ladder, prepared, seed):
        return refilled(ladder, prepared, config.patch, seed, device)

    ladder = Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1))
    return Trainer(Variational(ladder, [prepare(small, config.patch)], config, MASKING, objective, device, refill))


def _run(trainer, stop_at=None):
    reports, states = [], []

    def stop():
        return stop_at is not None and trainer.step == stop_at

    trained = trainer.run(reports.append, states.append, stop)
    return trained, reports, states


@pytest.mark.parametrize("stop_at", [3, 8])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(small, tmp_path, stop_at):
    from cryovae.checkpoint import load_state, save_state

    uninterrupted, reports, _ = _run(_trainer(small))
    first = _trainer(small)
    states = []
    with pytest.raises(Interrupted, match=f"step {stop_at}"):
        first.run(lambda report: None, states.append, lambda: first.step == stop_at)
    save_state(tmp_path / "state.pt", states[-1])
    second = _trainer(small)
    second.resume(load_state(tmp_path / "state.pt"))
    resumed, later, _ = _run(second)
    assert [r.step for r in later] == list(range(stop_at + 1, 13))
    assert later[-1].figures == reports[-1].figures
    for one, two in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(second.method.prepared_tomograms[0].filled, _state_after(small).method.prepared_tomograms[0].filled)


def _state_after(small):
    trainer = _trainer(small)
    _run(trainer)
    return trainer


def test_the_input_is_refilled_and_the_measured_data_are_not(small):
    from cryovae import fourier
    from cryovae.physics.wedge import volume_mask

    prepared = _state_after(small).method.prepared_tomograms[0]
    assert prepared.filled is not prepared.density
    difference = fourier.transform(prepared.filled - prepared.density).abs()
    mask = volume_mask(small.shape, small.tilts)
    assert float(difference[mask == 1].max()) < 1e-3
    assert float(difference[mask == 0].square().mean()) > 0.05


def test_losses_are_reported_and_the_bound_joins_after_completion(tomogram):
    _, reports, _ = _run(_trainer(tomogram))
    assert "log_likelihood" not in reports[0].figures
    assert {"log_likelihood", "kl", "matching", "completion"} <= set(reports[-1].figures)
    assert reports[-1].figures["beta"] == 1.0
    assert [r.step for r in reports if r.validation is not None] == [4, 8, 12]


def test_broken_steps_are_skipped_and_the_last_good_weights_return(small):
    trainer = _trainer(small, replace(SMALL, steps=5), replace(OBJECTIVE, completion_fraction=1.0, refill_from=1.0))
    good = [p.clone() for p in trainer.network.parameters()]
    gradients = trainer._gradients
    trainer._gradients = lambda batch, seconds: (gradients(batch, seconds)[0], float("nan"))
    events = []
    trainer.run(lambda report: events.append(report.event))
    assert all(event and "skipped" in event for event in events)
    assert "went back" in events[-1]
    for before, after in zip(good, trainer.network.parameters(), strict=True):
        assert torch.equal(before, after)


def test_after_a_relapse_the_best_weights_return_at_half_the_pace(tomogram):
    trainer = _trainer(tomogram, replace(SMALL, steps=4), replace(OBJECTIVE, completion_fraction=1.0, refill_from=1.0))
    trainer.best_gain = 100.0
    good = [p.clone() for p in trainer.network.parameters()]
    events = []
    trainer.run(lambda report: events.append(report.event))
    assert "went back to the best" in events[-1]
    assert trainer.pace == 0.5
    assert all(torch.equal(a, b) for a, b in zip(good, trainer.network.parameters(), strict=True))


def test_training_stops_when_nothing_is_gained(tomogram):
    config = replace(SMALL, steps=60, validate_every=2, patience=3, learning_rate=1e-30)
    _, reports, _ = _run(_trainer(tomogram, config, replace(OBJECTIVE, completion_fraction=0.0, refill_from=1.0)))
    assert reports[-1].step < 20


def test_one_encoder_trains_too(small):
    _, reports, _ = _run(_trainer(small, objective=replace(OBJECTIVE, encoders=1)))
    assert reports[-1].figures["matching"] == 0


def test_in_bfloat16_it_learns_nearly_the_same_and_returns_float32(small):
    """What convolutions round moves the gradients of a step by percents, in a direction that is the same."""
    plain, mixed = (_trainer(small, replace(SMALL, precision=name)) for name in ("float32", "bfloat16"))
    assert not plain.network.mixed
    assert mixed.network.mixed
    for trainer in (plain, mixed):
        trainer._gradients(trainer.method.draw(trainer.step), {})
    one, two = (torch.cat([p.grad.flatten() for p in t.method.completing if p.grad is not None]) for t in (plain, mixed))
    assert not torch.equal(one, two)
    assert torch.cosine_similarity(one, two, dim=0) > 0.99
    trained, reports, _ = _run(_trainer(small, replace(SMALL, precision="bfloat16")))
    assert not trained.mixed
    assert all(p.dtype == torch.float32 for p in trained.parameters())
    assert reports[-1].event is None


def test_on_a_processor_without_bfloat16_nothing_is_rounded_unless_asked_for(small):
    assert not _trainer(small).network.mixed
    with pytest.raises(InputError, match="precision 'half' found, expected auto, float32 or bfloat16"):
        TrainingConfig(precision="half")


def test_the_bound_leaves_alone_what_the_mean_is_made_of(small):
    """Two encoders: with the bound and without it, completion moves the same parameters by the same gradients."""
    trainer = _trainer(small, objective=replace(OBJECTIVE, completion_fraction=0.0, warmup=0.0))
    ladder, completing = trainer.network, trainer.method.completing
    with torch.no_grad():
        for p in ladder.posterior_parameters():
            p.add_(0.05 * torch.randn_like(p))
    m = trainer.method.draw(trainer.step)
    figures, _ = trainer._gradients(m, {})
    assert "log_likelihood" in figures
    gradients = [None if p.grad is None else p.grad.clone() for p in completing]
    assert any(p.grad.any() for p in ladder.posterior_parameters())
    assert any(p.grad.any() for p in ladder.spread_parameters())
    trainer.optimiser.zero_grad(set_to_none=True)
    completion(ladder, m, ladder.encode(m.input_masked, R)).loss().backward()
    torch.nn.utils.clip_grad_norm_(completing, SMALL.clip)
    for gradient, p in zip(gradients, completing, strict=True):
        assert (gradient is None) == (p.grad is None)
        assert p.grad is None or torch.allclose(gradient, p.grad, atol=1e-7)


def test_prefetched_batches_change_nothing(small):
    """Refills come in between: what is drawn after one sees it."""
    plain, reports, _ = _run(_trainer(small))
    trainer = _trainer(small)
    trainer.prefetches = True
    drawn = []
    draw = trainer.method.draw
    trainer.method.draw = lambda step: drawn.append(step) or draw(step)
    early, others, _ = _run(trainer)
    assert drawn == list(range(SMALL.steps))
    assert [r.figures for r in others] == [r.figures for r in reports]
    for one, two in zip(plain.parameters(), early.parameters(), strict=True):
        assert torch.equal(one, two)


def test_the_model_that_is_passed_in_stays_as_it_is(small):
    ladder = Ladder(LadderConfig((4, 6, 8), (2, 3, 4), 1))
    before = [p.clone() for p in ladder.parameters()]
    config = replace(SMALL, precision="bfloat16", steps=2)
    method = Variational(ladder, [prepare(small, config.patch)], config, MASKING, OBJECTIVE, torch.device("cpu"))
    trained = Trainer(method).run()
    assert not ladder.mixed
    assert all(torch.equal(a, b) for a, b in zip(before, ladder.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
