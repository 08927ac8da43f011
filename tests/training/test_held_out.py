"""Held-out patches stay those of the measured volume, and the gain is theirs; seeds and rates of the variational model."""

from dataclasses import replace

import pytest
import torch

from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.data.sampling import held_out
from cryovae.models.ladder import Ladder, Q, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.objectives.schedules import learning_rate_at
from cryovae.objectives.validation import validation_scores
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Trainer
from cryovae.training.variational import Variational

CONFIG = TrainingConfig(patch=16, batch=1, steps=4, learning_rate=1e-3, validate_every=2)
OBJECTIVE = ObjectiveConfig(completion_fraction=0.5, warmup=0.0, refill_from=0.25, refill_every=0.5)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tomogram):
    return prepare(tomogram, CONFIG.patch)


def _method(prepared, config=CONFIG, objective=OBJECTIVE, fill=None, masking=None):
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((4, 6), (2, 3), 1))
    for parameter in ladder.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return Variational(ladder, [prepared], config, masking or MaskingConfig(), objective, CPU, fill)


def test_held_out_patches_are_measured_ones_also_after_refills(prepared, monkeypatch):
    """What a model filled in must not come into what it is judged by, and no patch of the training either."""
    scored = []

    def scores(ladder, measurements, fill=False):
        scored.append((list(measurements), fill))
        return validation_scores(ladder, scored[-1][0], fill)

    monkeypatch.setattr("cryovae.training.variational.validation_scores", scores)
    method = _method(prepared, fill=lambda ladder, p, seed: torch.full_like(p.density, 7.0))
    Trainer(method).run()
    assert float(method.prepared_tomograms[0].filled.min()) == 7.0
    expected = held_out(prepared, CONFIG.patch)
    assert expected
    assert [fill for _, fill in scored] == [True, True]
    for measurements, _ in scored:
        assert len(measurements) == len(expected)
        for one, two in zip(measurements, expected, strict=True):
            for name in ("data", "input_masked", "input_full", "target_mask", "mask"):
                assert torch.equal(getattr(one, name), getattr(two, name))


def test_the_seed_decides_batches_and_latents(prepared):
    objective = replace(OBJECTIVE, completion_fraction=0.0)
    methods = [_method(prepared, replace(CONFIG, seed=seed), objective) for seed in (3, 3, 4)]
    batches = [method.draw(0) for method in methods]
    assert torch.equal(batches[0].data, batches[1].data)
    assert not torch.equal(batches[0].data, batches[2].data)
    figures = [method.backward(batches[0], 0, {}) for method in methods]
    assert torch.equal(figures[0]["log_likelihood"], figures[1]["log_likelihood"])
    assert not torch.equal(figures[0]["log_likelihood"], figures[2]["log_likelihood"])
    assert torch.equal(figures[0]["completion"], figures[2]["completion"])


def test_the_rate_of_the_posterior_rises_anew_with_the_bound(prepared):
    method = _method(prepared, replace(CONFIG, steps=400))
    assert method.phase_start == 200
    shared, own = method.learning_rates(220)
    assert shared == learning_rate_at(220, 400, 1e-3)
    assert own == learning_rate_at(20, 200, 1e-3)
    assert own > 1.5 * shared
    assert method.learning_rates(100)[0] == method.learning_rates(100)[1]


def test_the_posterior_begins_as_that_of_masked_inputs(prepared):
    method = _method(prepared)
    batch = method.draw(0)
    ladder = method.network

    def means(role):
        return ladder.posterior(ladder.encode(batch.input_full, role), role).mean().density

    assert not torch.allclose(means(Q), means(R), atol=1e-4)
    method.begin_phase()
    assert torch.allclose(means(Q), means(R), atol=1e-5)
