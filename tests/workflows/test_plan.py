"""What a run will do, known before it begins."""

from dataclasses import replace
from pathlib import Path

import pytest

from cryovae.checkpoint import BASE_LADDER, Checkpoint
from cryovae.config import preset
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.search import AMORTISED, FLOW
from cryovae.workflows.plan import plan_of
from cryovae.workflows.start import Start

QUICK = preset("quick")
MODEL = Checkpoint(Ladder(LadderConfig((4, 6), (2, 3), 1)), 16, 1, 2, {})
# A model with a flow: no more is asked of it here than that there is one.
FLOWN = replace(MODEL, flow=object())
START = Start("base", MODEL, BASE_LADDER, "")


def test_without_anything_a_network_is_trained_and_the_flow_is_fitted():
    plan = plan_of(QUICK)
    assert (plan.steps, plan.fits, plan.tries, plan.at_once) == (QUICK.training.steps, True, False, False)
    assert plan.config.restoration.sampler == FLOW


def test_a_model_restores_at_once_and_is_not_tried():
    plan = plan_of(QUICK, model=MODEL)
    assert (plan.steps, plan.fits, plan.tries, plan.at_once) == (0, True, False, True)
    assert not plan_of(QUICK, model=FLOWN).fits


def test_a_start_restores_at_once_by_its_encoder_after_a_trial():
    plan = plan_of(QUICK, START)
    assert (plan.steps, plan.fits, plan.tries, plan.at_once) == (0, False, True, True)
    assert plan.config.restoration.sampler == AMORTISED
    asked = plan_of(QUICK, START, sampler_asked=True)
    assert asked.fits
    assert asked.config.restoration.sampler == FLOW


@pytest.mark.parametrize(("is_default", "tries"), [(True, True), (False, False)])
def test_a_start_that_is_trained_is_tried_only_where_nobody_named_it(is_default, tries):
    plan = plan_of(QUICK, replace(START, trains=True, is_default=is_default))
    assert (plan.steps, plan.fits, plan.tries, plan.at_once) == (QUICK.training.steps, True, tries, False)


def test_a_model_goes_over_a_start():
    plan = plan_of(QUICK, replace(START, path=Path("other")), FLOWN)
    assert (plan.tries, plan.config.restoration.sampler) == (False, FLOW)


def test_a_training_that_was_begun_has_the_steps_that_are_left():
    assert plan_of(QUICK, steps_left=7).steps == 7
    assert plan_of(QUICK, START, steps_left=7).steps == 0


def test_the_work_is_that_of_the_plan():
    work = plan_of(QUICK, START).work([(24, 36, 32)], True, restores=False)
    assert (work.steps, work.fits, work.tries, work.restores, work.halves) == (0, False, True, False, True)
