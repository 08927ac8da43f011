"""Ladders that are conditioned on the traits of a tomogram."""

import pytest
import torch

from cryovae.checkpoint import Checkpoint, load_model, save_model
from cryovae.models.ladder import Ladder, Q, R
from cryovae.models.ladder_config import LadderConfig
from tests.helpers.film import film_ladder

COUNT, SHAPE = 5, (16, 24, 8)


@pytest.fixture
def film():
    """A ladder with a film that changes all channels, and a head for each level."""
    return film_ladder(COUNT, 0.1)


@pytest.fixture
def data():
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def traits():
    return torch.randn(2, COUNT, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def _restored(ladder, data):
    return ladder.restore(ladder.encode(data, R), None)


def test_a_new_film_changes_nothing(data, traits):
    torch.manual_seed(0)
    ladder = Ladder(LadderConfig((4, 6), (2, 3), 1), traits=COUNT)
    plain = _restored(ladder, data)
    with ladder.conditioning(traits):
        torch.testing.assert_close(_restored(ladder, data), plain)


def test_each_patch_has_the_traits_of_its_own_tomogram(film, data, traits):
    with film.conditioning(traits):
        both = _restored(film, data)
    for index in range(2):
        torch.testing.assert_close(_restored(film.conditioned(traits[index]), data[index : index + 1]), both[index : index + 1])
    assert (both[0] - _restored(film.conditioned(traits[1]), data[:1])[0]).abs().max() > 1e-3


def test_both_samples_of_a_pair_have_the_same_traits(film, data, traits):
    noise = film.draw_noise(SHAPE, 2, torch.Generator().manual_seed(3))
    with torch.no_grad(), film.conditioning(traits):
        pair = film.restore_pair(film.encode(data, R), noise)
    for index in range(2):
        plain = film.conditioned(traits[index])
        with torch.no_grad():
            alone = plain.restore_pair(plain.encode(data[index : index + 1], R), [e[index : index + 1] for e in noise])
        torch.testing.assert_close(pair[:, index : index + 1], alone)


def test_a_conditioned_ladder_is_a_plain_one_and_the_other_stays_as_it_was(film, data, traits):
    before = _restored(film, data)
    plain = film.conditioned(traits[0])
    assert plain.film is None
    assert set(plain.state_dict()) == set(Ladder(film.config).state_dict())
    torch.testing.assert_close(_restored(film, data), before)
    for role in (Q, R):
        features = plain.encode(data, role)
        torch.testing.assert_close(plain.posterior(features, Q).mean().density, plain.posterior(features, R).mean().density)


def test_after_an_error_nothing_is_changed_any_more(film, data, traits):
    before = _restored(film, data)
    with pytest.raises(ZeroDivisionError), film.conditioning(traits):
        raise ZeroDivisionError
    torch.testing.assert_close(_restored(film, data), before)


def test_a_film_is_written_and_read_with_its_ladder(film, data, traits, tmp_path):
    save_model(tmp_path / "model.safetensors", Checkpoint(film, 16, 1, 2, {}))
    read = load_model(tmp_path / "model.safetensors").ladder
    torch.testing.assert_close(_restored(read.conditioned(traits[0]), data), _restored(film.conditioned(traits[0]), data))
    save_model(tmp_path / "plain.safetensors", Checkpoint(film.conditioned(traits[0]), 16, 1, 2, {}))
    assert load_model(tmp_path / "plain.safetensors").ladder.film is None
