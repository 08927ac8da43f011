"""A pretrained ladder suited to the tomograms that it restores."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae.checkpoint import Checkpoint
from cryovae.checks.trial import tried
from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.physics.traits import SHELLS, TRAITS, without_noise
from cryovae.posterior.suited import suited, traits_of_tomogram
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer
from tests.helpers.film import film_ladder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def film():
    return film_ladder(TRAITS, 0.05)


def test_a_plain_ladder_stays_what_it_is(ladder, small):
    assert suited(ladder, [prepare(small, 16)]) is ladder


def test_traits_do_not_depend_on_the_run(small):
    once = traits_of_tomogram(prepare(small, 16, seed=0))
    torch.testing.assert_close(once, traits_of_tomogram(prepare(small, 8, seed=5, held_out=False)))


def test_gold_does_not_count(tomogram):
    halves = tuple(np.tile(half, (1, 2, 2)) for half in tomogram.halves)
    wide = replace(tomogram, density=(halves[0] + halves[1]) / 2, halves=halves)
    before = traits_of_tomogram(prepare(wide, 16))
    density = wide.density.copy()
    density[10:16, 10:16, 10:16] = -60 * density.std()
    # On the grey scale of before: gold widens that of the tomogram.
    scaled = replace(wide, density=density, grey=(float(wide.density.mean()), float(wide.density.std())))
    after = traits_of_tomogram(prepare(scaled, 16))
    assert (after - before)[: 2 * SHELLS].abs().max() < 0.15


def test_the_noise_is_known_by_halves_alone(small):
    assert float(traits_of_tomogram(prepare(small, 16))[2 * SHELLS]) == 1
    assert float(traits_of_tomogram(prepare(replace(small, halves=None), 16))[2 * SHELLS]) == 0


def test_several_tomograms_count_alike_and_smaller_sizes_of_one_not_at_all(small, film):
    one, other = prepare(small, 16), prepare(replace(small, density=2 * small.density[::-1].copy()), 16)
    plain = film.conditioned((traits_of_tomogram(one) + traits_of_tomogram(other)) / 2)
    made = suited(film, [one, other, replace(one, binned=True)])
    for a, b in zip(plain.parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_noise_that_is_known_of_some_tomograms_alone_counts_as_unknown(small, film):
    one, other = prepare(small, 16), prepare(replace(small, halves=None), 16)
    plain = film.conditioned(without_noise((traits_of_tomogram(one) + traits_of_tomogram(other)) / 2))
    for a, b in zip(plain.parameters(), suited(film, [one, other]).parameters(), strict=True):
        torch.testing.assert_close(a, b)


def _within(tomogram, slab, outside, seed=0):
    """A tomogram in a larger volume, with weak noise or constant fill around it, and the mask of the tomogram."""
    z, y, x = tomogram.shape
    shape = (slab + z + 24, y + 104, x + 96)
    mask = np.zeros(shape, bool)
    mask[slab : slab + z, 56 : 56 + y, 48 : 48 + x] = True
    rng = np.random.default_rng(seed)

    def placed(volume):
        larger = (outside * volume.std() * rng.normal(size=shape)).astype(np.float32)
        larger[mask] = volume.ravel()
        return larger

    halves = tuple(placed(half) for half in tomogram.halves)
    return replace(tomogram, density=(halves[0] + halves[1]) / 2, halves=halves), mask


def test_traits_are_those_of_the_specimen_inside_the_mask(tomogram):
    before = traits_of_tomogram(prepare(tomogram, 16))
    larger, mask = _within(tomogram, 16, 0.05)
    after = traits_of_tomogram(prepare(replace(larger, mask=mask), 16))
    assert (after - before)[8:SHELLS].abs().max() < 0.3
    assert (after - before)[SHELLS : 2 * SHELLS].abs().max() < 0.2


def test_fill_has_no_part_in_the_traits(tomogram):
    before = traits_of_tomogram(prepare(tomogram, 16))
    larger, mask = _within(tomogram, 30, 0.0)
    after = traits_of_tomogram(prepare(replace(larger, fill=~mask), 16))
    assert (after - before)[:SHELLS].abs().max() < 0.2
    assert (after - before)[SHELLS : 2 * SHELLS].abs().max() < 0.15


def test_a_slab_of_data_that_is_thinner_than_a_patch_has_traits(small):
    larger, mask = _within(small, 8, 0.0)
    mask[: 8 + 4] = mask[8 + 20 :] = False
    traits = traits_of_tomogram(prepare(replace(larger, fill=~mask), 16))
    assert torch.isfinite(traits).all()
    assert float(traits[SHELLS + 2]) > 0.5


def test_a_ladder_of_other_traits_is_refused(small):
    with pytest.raises(InputError, match=f"7 traits of a tomogram found, expected {TRAITS}"):
        suited(Ladder(LadderConfig((4, 6), (2, 3), 1), traits=7), [prepare(small, 16)])


def test_a_restorer_suits_each_tomogram_anew(small, film):
    config = RestoreConfig(samples=2, calibrate=False, halves=False, sampler="amortised")
    other = replace(small, halves=None, density=small.density[:, ::-1].copy())
    restorer = Restorer(film, 16, config, CPU)
    restorer(other)
    torch.testing.assert_close(restorer(small).mean, Restorer(film, 16, config, CPU)(small).mean)


def test_a_restoration_and_a_trial_are_those_of_the_suited_ladder(small, film):
    plain = film.conditioned(traits_of_tomogram(prepare(small, 16)))
    config = RestoreConfig(samples=2, calibrate=False, halves=False, sampler="amortised")
    means = [Restorer(ladder, 16, config, CPU)(small).mean for ladder in (film, plain)]
    torch.testing.assert_close(*means)
    trials = [tried(Checkpoint(ladder, 16, 1, 2, {}), small, 0, CPU) for ladder in (film, plain)]
    assert trials[0] == trials[1]
