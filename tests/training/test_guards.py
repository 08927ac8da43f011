"""What the loop does with gradients, averages and held-out gains: a method of two numbers, whose steps are known."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from cryovae.objectives.validation import ValidationScores
from cryovae.training.method import Method, TrainingConfig
from cryovae.training.trainer import MIN_NORMS, RISE, Interrupted, Trainer

CONFIG = TrainingConfig(patch=16, batch=1, steps=6, learning_rate=0.1, ema=0.9, clip=0.5, validate_every=1, patience=50)


class _Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Parameter(torch.zeros(3)) for _ in range(2))


class _Scripted(Method):
    """Gradients and held-out gains by step."""

    early_stopping = True

    def __init__(self, config, gains=(), gradients=(0.1, 0.1), phase_start=0):
        super().__init__(_Two(), config, torch.device("cpu"))
        self.gains, self.gradients, self.phase_start = list(gains), gradients, phase_start
        self.averages, self.begun = [], []

    def draw(self, step):
        return step

    def backward(self, batch, step, seconds):
        sizes = self.gradients(step) if callable(self.gradients) else self.gradients
        for parameter, size in zip((self.network.one, self.network.two), sizes, strict=True):
            parameter.grad = torch.full_like(parameter, size)
        return {"loss": torch.tensor(1.0)}

    def parameter_groups(self):
        return [[self.network.one], [self.network.two]]

    def learning_rates(self, step):
        return [self.config.learning_rate, self.config.learning_rate / 10]

    def begin_phase(self):
        self.begun.append(len(self.averages))

    def validate(self, average, step):
        self.averages.append(average.one.detach().clone())
        gain = self.gains[step - 1] if step <= len(self.gains) else 0.0
        return ValidationScores(gain, 0.0, 1.0)


def _run(method):
    trainer, reports = Trainer(method), []
    return trainer, trainer.run(reports.append), reports


def test_each_group_of_gradients_is_clipped_by_its_own_norm():
    trainer = Trainer(_Scripted(CONFIG, gradients=(100.0, 0.01)))
    _, norm = trainer._gradients(0, {})
    assert norm == pytest.approx(100 * 3**0.5, rel=1e-5)
    assert float(trainer.network.one.grad.norm()) == pytest.approx(CONFIG.clip, rel=1e-4)
    assert torch.allclose(trainer.network.two.grad, torch.full((3,), 0.01))


def test_the_average_follows_faster_in_the_first_steps():
    trainer, _, _ = _run(_Scripted(replace(CONFIG, steps=1)))
    assert float(trainer.average.one.abs().min()) > 0.05
    assert torch.allclose(trainer.average.one, 0.9 * trainer.network.one)
    before = trainer.average.one.clone()
    trainer.step = 10**6
    trainer.optimiser.zero_grad()
    trainer.method.backward(0, 0, {})
    trainer._update(0.1, {})
    assert torch.allclose(trainer.average.one, 0.9 * before + 0.1 * trainer.network.one)


def test_the_average_of_the_best_validation_is_returned():
    method = _Scripted(CONFIG, gains=(0.1, 0.5, 0.4, 0.45, 0.3, 0.35))
    trainer, trained, _ = _run(method)
    assert trainer.best_gain == 0.5
    assert torch.equal(trained.one, method.averages[1])
    assert not torch.equal(trained.one, trainer.average.one)
    assert trainer.stale == 4


def test_without_early_stopping_the_last_average_is_returned():
    method = _Scripted(CONFIG, gains=(0.5, 0.4))
    method.early_stopping = False
    trainer, trained, _ = _run(method)
    assert torch.equal(trained.one, trainer.average.one)


def test_patience_is_counted_in_validations_without_a_gain():
    _, _, reports = _run(_Scripted(replace(CONFIG, steps=40, patience=3), gains=(0.1, 0.2, 0.2, 0.19, 0.21, 0.2, 0.2, 0.2)))
    assert reports[-1].step == 8


def test_a_step_much_wilder_than_usual_is_not_taken():
    config = replace(CONFIG, steps=MIN_NORMS + 2, wild=20.0, clip=1e9, patience=1000)
    seen = []
    method = _Scripted(config, gradients=lambda step: (10.0 if step == MIN_NORMS else 0.1, 0.1))
    trainer = Trainer(method)
    trainer.run(lambda report: seen.append((report.event, trainer.network.one.detach().clone())))
    assert [event is not None for event, _ in seen] == [False] * MIN_NORMS + [True, False]
    assert torch.equal(seen[MIN_NORMS][1], seen[MIN_NORMS - 1][1])
    assert not torch.equal(seen[MIN_NORMS + 1][1], seen[MIN_NORMS][1])


def test_a_relapse_returns_to_the_best_weights_at_half_the_pace():
    gains = (0.5, 0.4, 0.1, 0.45, 0.45, 0.45)
    method, after = _Scripted(CONFIG, gains=gains), []
    trainer = Trainer(method)
    trainer.run(lambda report: after.append((report.event, trainer.average.one.clone(), trainer.optimiser.param_groups[0]["lr"])))
    events, averages, rates = zip(*after, strict=True)
    assert [event is not None for event in events] == [False, False, True, False, False, False]
    assert torch.equal(averages[2], averages[0])
    assert rates[:2] == (0.1, 0.1)
    assert rates[3:] == (0.05, 0.05, 0.05)


def test_gains_before_the_bound_do_not_count_against_those_after():
    method = _Scripted(CONFIG, gains=(0.9, 0.9, 0.9, 0.2, 0.3, 0.25), phase_start=3)
    trainer, trained, reports = _run(method)
    assert method.begun == [3]
    assert all(report.event is None for report in reports)
    assert trainer.best_gain == 0.3
    assert torch.equal(trained.one, method.averages[4])


def test_a_state_holds_no_second_copy_of_what_training_goes_back_to():
    """Weights, their average, that of the best validation, and two numbers of AdamW for each weight; nothing twice."""
    trainer, _, _ = _run(_Scripted(CONFIG, gains=(0.1, 0.5, 0.2, 0.45, 0.45, 0.45)))
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())

    def numbers(value):
        if isinstance(value, torch.Tensor):
            return value.numel() if value.dim() else 0
        return sum(map(numbers, value.values() if isinstance(value, dict) else value)) if isinstance(value, dict | list) else 0

    assert numbers(trainer.state()) == 5 * weights


def test_a_relapse_after_a_resumption_is_that_of_the_uninterrupted_run():
    gains, gradients = (0.5, 0.45, 0.1, 0.45, 0.5, 0.45), lambda step: (0.1 * (step + 1), -0.2)
    uninterrupted, _, _ = _run(_Scripted(CONFIG, gains, gradients))
    first = Trainer(_Scripted(CONFIG, gains, gradients))
    with pytest.raises(Interrupted):
        first.run(stop=lambda: first.step == 2)
    second = Trainer(_Scripted(CONFIG, gains, gradients))
    second.resume(copy.deepcopy(first.state()))
    second.run()
    assert second.pace == uninterrupted.pace == 0.5
    for one, two in zip(second.network.parameters(), uninterrupted.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_after_a_relapse_the_momentum_is_gone_and_the_size_of_gradients_is_kept():
    trainer = Trainer(_Scripted(replace(CONFIG, steps=3), gains=(0.5, 0.4, 0.1)))
    trainer.run()
    states = list(trainer.optimiser.state.values())
    assert len(states) == 2
    assert all(float(state["exp_avg"].abs().max()) == 0.0 and float(state["exp_avg_sq"].min()) > 0.0 for state in states)


def test_a_state_with_the_copies_of_earlier_versions_is_read():
    trainer, _, _ = _run(_Scripted(CONFIG, gains=(0.5, 0.4, 0.4, 0.4, 0.4, 0.4)))
    state = copy.deepcopy(trainer.state())
    good = {name: state[name] for name in ("network", "optimiser")} | {"average": state.pop("best")}
    other = Trainer(_Scripted(CONFIG))
    other.resume(state | {"good": good})
    assert torch.equal(other.best.one, trainer.best.one)


def test_an_extended_run_begins_anew_with_its_gains_and_its_rate():
    trainer, _, _ = _run(_Scripted(CONFIG, gains=(0.5, 0.4, 0.4, 0.4, 0.4, 0.4)))
    other = Trainer(_Scripted(replace(CONFIG, steps=60, patience=1000), gains=(0.0,) * 6 + (0.1,) * 60))
    other.begin_at(trainer.best, 6)
    other.extend()
    rates = []
    other.run(lambda report: rates.append(other.optimiser.param_groups[0]["lr"]))
    assert len(rates) == 54
    assert rates[0] == pytest.approx(0.1 / RISE)
    assert rates[RISE - 1 :] == pytest.approx([0.1] * (54 - RISE + 1))
    assert other.best_gain == 0.1
    assert other.state()["extended"] == 6


def test_a_resumed_run_keeps_its_guards():
    method = _Scripted(CONFIG, gains=(0.5, 0.1, 0.4, 0.4, 0.4, 0.4))
    trainer, _, _ = _run(method)
    assert trainer.pace == 0.5
    assert trainer.stale == 4
    other = Trainer(_Scripted(CONFIG))
    other.resume(trainer.state())
    for name in ("step", "pace", "stale", "best_gain", "norms", "skipped"):
        assert getattr(other, name) == getattr(trainer, name)
    assert other.best_gain != -math.inf
    assert torch.equal(other.best.one, trainer.best.one)
