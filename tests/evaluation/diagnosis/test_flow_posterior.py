"""Diagnosis with a flow posterior: the same evidence, and figures that add up."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cryovae.data.prepare import prepare
from cryovae.evaluation.diagnosis.ais import annealed
from cryovae.evaluation.diagnosis.diagnose import DiagnosisConfig, diagnose
from cryovae.evaluation.diagnosis.gaussian import signal_power
from cryovae.evaluation.diagnosis.information import nats_by_level
from cryovae.evaluation.diagnosis.patches import measurement_of, select_patches
from cryovae.evaluation.diagnosis.small import drawn_codes, log_densities
from cryovae.evaluation.diagnosis.verdicts import verdicts
from cryovae.models.flow import CouplingFlow
from cryovae.models.ladder import Ladder, R
from cryovae.models.ladder_config import FLOW
from cryovae.posterior.importance import importance_bounds
from cryovae.posterior.problem import drawn
from cryovae.posterior.refinement import optimised
from tests.helpers.linear_gaussian import LinearGaussian

COUNT = 4096
SIDE = 16


def _with_flow(toy):
    """The toy with a posterior that is off the exact one by a flow."""
    torch.manual_seed(0)
    flow = CouplingFlow(2, toy.w.shape[1]).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.25)
    transform = flow(torch.ones(len(toy.y), 2, 1, 1, 1, dtype=torch.float64))
    return toy.problem(transform=transform)


@torch.no_grad()
def test_weights_find_the_evidence_and_the_bound_lies_below():
    toy = LinearGaussian()
    terms = drawn(_with_flow(toy.repeated(COUNT)), 1, 0)
    assert torch.allclose(terms.bound[0].double(), terms.log_weight[0], atol=1e-4)
    weights = terms.log_weight.view(COUNT, -1)
    below = toy.evidence() - weights.mean(0)
    assert (below > 0.05).all()
    assert torch.allclose(importance_bounds(weights)[-1].bound.double(), toy.evidence(), atol=0.1)


def test_refinement_moves_a_flow_posterior():
    toy = LinearGaussian().repeated(60)
    problem = _with_flow(toy)
    moves = optimised(problem, 25, rate=0.1)
    before, after = (drawn(problem, 4, 9, m).bound_mean for m in (None, moves))
    assert (after - before).mean() > 0.02
    assert after.mean() < toy.evidence().mean() + 0.05


def test_annealing_from_it_finds_the_evidence_too():
    toy = LinearGaussian(latents=3, coefficients=6, batch=1).repeated(120)
    problem, generator = _with_flow(toy), torch.Generator().manual_seed(1)
    with torch.no_grad():
        start = drawn_codes(problem, generator)[0].flatten(1)
    result = annealed(start, lambda flat: log_densities(problem, {0: flat.view(*flat.shape, 1, 1, 1)}), 20, generator, step=0.3)
    assert result.evidence == pytest.approx(float(toy.evidence()[0]), abs=0.1)


def test_a_whole_diagnosis_of_a_small_model_with_a_flow(small, small_config):
    torch.manual_seed(0)
    config = replace(small_config, latents=(0, 0, 4), posterior=FLOW)
    ladder = Ladder(config, encoders=1)
    for name, parameter in ladder.named_parameters():
        if ".flow." in name:
            nn.init.normal_(parameter, std=0.05)
    prepared = prepare(small, SIDE)
    m = measurement_of(prepared, select_patches(prepared, SIDE, 2, 0), SIDE)
    settings = DiagnosisConfig(draws=4, steps=3, temperatures=3, chains=3)
    diagnosis = diagnose(ladder, m, signal_power(m), signal_power(m), 1, settings)
    assert diagnosis.gaps.evidence is not None
    assert diagnosis.r.bound.mean == pytest.approx(-diagnosis.r.distortion.mean - diagnosis.r.rate.mean, rel=1e-5)
    assert any("approximation gap" in line for line in verdicts(diagnosis, 1))
    # What a level costs is the same by channel and place as in the sum.
    (level,) = nats_by_level(ladder, m, R)
    assert level.kl.shape == (2, 4, 4, 4, 4)
    assert level.rate == pytest.approx(diagnosis.r.rates[2] * diagnosis.bins, rel=0.1)
