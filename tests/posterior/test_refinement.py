"""Refinement raises the bound, and stops if the prediction of held-out bins gets worse."""

from dataclasses import replace

import pytest
import torch

from cryovae.data.prepare import prepare
from cryovae.data.sampling import cube_rotated, held_out
from cryovae.models.distributions import Move
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.posterior import early_stopping as guard
from cryovae.posterior import refinement
from cryovae.posterior.early_stopping import EarlyStopping, early_stopping, early_stopping_of
from cryovae.posterior.posterior_tiles import frozen
from cryovae.posterior.problem import drawn, problem_of
from cryovae.posterior.refinement import optimised

SIDE, STEPS = 16, 20


@pytest.fixture
def toy():
    """A small ladder with weights at random, so that its encoder is far from the best posterior."""
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((8, 8), (2, 2), 1))
    with torch.no_grad():
        ladder.out.weight.mul_(20)
        for p in ladder.posterior_parameters():
            p.add_(0.05 * torch.randn_like(p))
    return ladder.eval()


def _rotated(small):
    prepared = replace(prepare(small, SIDE), held_out=((0, 8, 8),))
    return held_out(prepared, SIDE)[0].rows(slice(0, 2))


def test_the_bound_of_every_patch_rises_and_the_weights_stay(toy, small):
    m = _rotated(small)
    problem = problem_of(toy, m, R)
    before = {name: p.clone() for name, p in toy.state_dict().items()}
    with frozen(toy):
        moves = optimised(problem, STEPS)
        first, last = (drawn(problem, 16, 99, each).bound_mean for each in (None, moves))
    assert (last > first + 1.0).all()
    assert all(p.requires_grad and p.grad is None for p in toy.parameters())
    assert all(torch.equal(before[name], p) for name, p in toy.state_dict().items())


def test_allowed_steps_never_predict_target_bins_worse_than_the_encoder(toy, small):
    """Target bins have no part in the refinement: with other bins there, the steps are the same."""
    m = _rotated(small)
    assert float(scored_bins(m.target_mask, m.data.shape).sum()) > 0
    with frozen(toy):
        stopping = early_stopping_of(toy, [m], STEPS, 0)
        other = early_stopping_of(toy, [replace(m, target_mask=m.mask)], STEPS, 0)
    assert stopping.steps[0] == 0
    assert stopping.steps[-1] == STEPS
    assert stopping.held_out[0] == 0
    assert stopping.gain >= 0
    assert stopping.held_out[stopping.steps.index(stopping.allowed)] == max(stopping.held_out)
    assert stopping.bound[-1] > 0
    assert stopping.bound == pytest.approx(other.bound)


def test_refinement_is_refused_where_hidden_bins_get_worse_from_the_first():
    worse = EarlyStopping((0, 10, 20), (0.0, -0.01, -0.02), (0.0, 0.3, 0.4), 4)
    assert worse.allowed == 0
    assert worse.gain == 0
    assert EarlyStopping((0, 10, 20), (0.0, 0.02, -0.02), (0.0, 0.3, 0.4), 4).allowed == 10
    assert EarlyStopping((0, 10, 20), (0.0, 0.0, 0.0), (0.0, 0.3, 0.4), 4).allowed == 0


def test_without_a_wedge_there_is_no_early_stopping(toy, small):
    prepared = prepare(small, SIDE)
    full = replace(prepared, tilts=type(small.tilts).from_range(-90, 90))
    assert early_stopping(toy, full, SIDE, 2, 0, torch.device("cpu")) is None


def test_the_best_check_is_kept_and_not_the_last_that_was_better_than_its_neighbour(monkeypatch):
    """Bounds of 0 at the start, then 3, 1, 2: the moves of the first check, for each patch by itself."""

    def moved(value):
        return {0: Move(torch.full((2, 1, 1, 1, 1), value), torch.full((2, 1, 1, 1, 1), value))}

    bounds = iter(torch.tensor([[0.0, 5.0], [3.0, 1.0], [1.0, 2.0], [2.0, 3.0]]))
    monkeypatch.setattr(refinement, "_bound", lambda problem, moves, seed: next(bounds))
    monkeypatch.setattr(refinement, "unmoved", lambda problem: moved(0.0))
    monkeypatch.setattr(refinement, "refinement_steps", lambda *_: ((step, moved(float(step))) for step in (1, 2, 3)))
    best = refinement.optimised(None, 3)
    assert best[0].shift.flatten().tolist() == [1.0, 0.0]
    assert best[0].widen.flatten().tolist() == [1.0, 0.0]


def test_early_stopping_scores_target_bins_alone(ladder, small):
    m = cube_rotated(prepare(small, 16), [(2, 3, 4)], [4], 16, None)
    problem = problem_of(ladder, m, R, m.mask * m.input_mask)
    scored = float(guard._scores(problem, m, 0, refinement.unmoved(problem))[0])
    density = problem.posterior.mean().density
    target, measured = (float(log_likelihood(density, m.data, mask, m.variance)) for mask in (m.target_mask, m.mask))
    assert scored == pytest.approx(target, rel=1e-5)
    assert scored != pytest.approx(measured, rel=0.01)


def test_refinement_before_early_stopping_sees_the_bins_of_the_input_alone(ladder, small, monkeypatch):
    m, masks = cube_rotated(prepare(small, 16), [(2, 3, 4)], [4], 16, None), []

    def watched(model, measurement, role, mask):
        masks.append(mask)
        return problem_of(model, measurement, role, mask)

    monkeypatch.setattr(guard, "problem_of", watched)
    with frozen(ladder):
        early_stopping_of(ladder, [m], 1, 0)
    assert len(masks) == 1
    assert torch.equal(masks[0], m.mask * m.input_mask)
