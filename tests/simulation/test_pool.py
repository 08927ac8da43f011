"""The pool of pairs: a batch depends on step and seed alone, and scenes are replaced one by one."""

from dataclasses import replace

import pytest
import torch

from cryovae.errors import InputError
from cryovae.physics.observation import Observation
from cryovae.simulation.patches import Pairs, PatchConfig, pair_stream
from cryovae.simulation.pool import PairPool, PoolConfig
from cryovae.tomogram import TiltGeometry

PATCHES = PatchConfig(side=16, kinds=2, rotations=1, cuts=4)
RANGE = TiltGeometry.from_range(-60, 60)
CONFIG = PoolConfig(scenes=3, steps_per_scene=2)


@pytest.fixture(autouse=True)
def _made_up_scenes(monkeypatch):
    """Scenes that take no time, of random numbers of their own number and seed."""

    def made(config, number):
        rng = torch.Generator().manual_seed(1000 * config.seed + number)
        numbers = torch.rand(4, 3, 3, 3, generator=rng)
        return Pairs(numbers, Observation(numbers + 1, numbers + 2, numbers.flatten(1)), torch.full((4,), number), (RANGE,) * 4)

    monkeypatch.setattr("cryovae.simulation.patches.scene_pairs", made)


def _batch(pool, step, size=64, seed=5):
    return pool.batch(step, size, torch.Generator().manual_seed(seed + step))


def _pool(config=CONFIG, patches=PATCHES, first=0):
    return PairPool(patches, config, 0, first)


def test_a_pool_holds_the_scenes_of_its_step():
    with _pool() as pool:
        for step in range(8):
            batch = _batch(pool, step)
            first = step // 2
            assert set(batch.scenes.tolist()) == {first, first + 1, first + 2}


def test_a_batch_is_the_same_after_a_jump_to_its_step():
    with _pool() as pool:
        steps = [_batch(pool, step) for step in range(9)]
    for step in (0, 3, 8):
        with _pool() as pool:
            alone = _batch(pool, step)
        assert torch.equal(alone.clean, steps[step].clean)
        assert torch.equal(alone.scenes, steps[step].scenes)
        with _pool() as pool:
            # As when a training is resumed: the first patches, then a later step.
            _batch(pool, 0)
            later = _batch(pool, step)
        assert torch.equal(later.observation.information, steps[step].observation.information)


def test_seed_and_first_scene_choose_other_patches():
    with _pool() as pool:
        one = _batch(pool, 2)
        other = _batch(pool, 2, seed=6)
    with _pool(patches=replace(PATCHES, seed=1)) as pool:
        assert not torch.equal(_batch(pool, 2).clean, one.clean)
    assert not torch.equal(other.clean, one.clean)
    with _pool(first=1000) as pool:
        assert _batch(pool, 2).scenes.min() == 1001


def test_patches_stay_whole_pairs():
    """Density, data, estimate and information of one row are of one patch, to half precision."""
    with _pool() as pool:
        batch = _batch(pool, 4)
    assert batch.clean.dtype == batch.observation.data.dtype == torch.float32
    assert torch.allclose(batch.observation.data, batch.clean + 1, atol=2e-3)
    assert torch.allclose(batch.observation.information, batch.clean.flatten(1), atol=2e-3)
    with pair_stream(PATCHES, 0, 2) as stream:
        scene = next(stream)
    rows = batch.clean[batch.scenes == 2]
    nearest = (rows[:, None] - scene.clean).flatten(2).abs().amax(2).min(1)
    assert nearest.values.max() < 1e-3
    assert len(nearest.indices.unique()) == 4


def test_an_earlier_step_is_refused():
    with _pool() as pool:
        _batch(pool, 6)
        _batch(pool, 6)
        with pytest.raises(ValueError, match="step 1 "):
            _batch(pool, 1)


@pytest.mark.parametrize("bad", [{"scenes": 0}, {"steps_per_scene": 0}, {"scenes": 2.5}])
def test_impossible_pools_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        PoolConfig(**bad)
