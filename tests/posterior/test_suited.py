"""A pretrained ladder suited to the tomograms that it restores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.checkpoint import Checkpoint
from cryovae.checks.trial import tried
from cryovae.data.prepare import prepare
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.traits import SHELLS, TRAITS
from cryovae.posterior.suited import suited, traits_of_tomogram
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def film():
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((4, 6), (2, 3), 1), traits=TRAITS)
    with torch.no_grad():
        for parameter in ladder.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return ladder.eval()


def test_a_plain_ladder_stays_what_it_is(ladder, small):
    assert suited(ladder, [prepare(small, 16)]) is ladder


def test_traits_do_not_depend_on_the_run(small):
    once = traits_of_tomogram(prepare(small, 16, seed=0))
    torch.testing.assert_close(once, traits_of_tomogram(prepare(small, 8, seed=5, held_out=False)))


def test_gold_does_not_count(simulation, tomogram):
    density = np.array(tomogram.density)
    before = traits_of_tomogram(prepare(tomogram, 16))
    density[10:16, 10:16, 10:16] = -60 * density.std()
    # On the grey scale of before: gold widens that of the tomogram.
    scaled = replace(tomogram, density=density, grey=(float(tomogram.density.mean()), float(tomogram.density.std())))
    after = traits_of_tomogram(prepare(scaled, 16))
    assert (after - before)[: 2 * SHELLS].abs().max() < 0.15


def test_the_noise_is_known_by_halves_alone(small):
    assert float(traits_of_tomogram(prepare(small, 16))[2 * SHELLS]) == 1
    assert float(traits_of_tomogram(prepare(replace(small, halves=None), 16))[2 * SHELLS]) == 0


def test_several_tomograms_count_alike_and_smaller_sizes_of_one_not_at_all(small, film):
    one, other = prepare(small, 16), prepare(replace(small, halves=None), 16)
    plain = film.conditioned((traits_of_tomogram(one) + traits_of_tomogram(other)) / 2)
    made = suited(film, [one, other, replace(one, binned=True)])
    for a, b in zip(plain.parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_restoration_and_a_trial_are_those_of_the_suited_ladder(small, film):
    plain = film.conditioned(traits_of_tomogram(prepare(small, 16)))
    config = RestoreConfig(samples=2, calibrate=False, halves=False, sampler="amortised")
    means = [Restorer(ladder, 16, config, CPU)(small).mean for ladder in (film, plain)]
    torch.testing.assert_close(*means)
    trials = [tried(Checkpoint(ladder, 16, 1, 2, {}), small, 0, CPU) for ladder in (film, plain)]
    assert trials[0] == trials[1]
