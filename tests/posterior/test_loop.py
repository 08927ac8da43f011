"""A loop through samples: it meets each of them, never calms down between them, and closes."""

import numpy as np
import pytest

from cryovae.posterior.loop import loop_weights


@pytest.mark.parametrize(("samples", "between"), [(8, 5), (6, 3), (5, 4), (4, 1)])
def test_every_frame_is_as_far_from_the_mean_as_a_sample(samples, between):
    weights = loop_weights(samples, between)
    assert weights.shape == (samples * between, samples)
    assert np.allclose((weights**2).sum(1), 1)
    assert sorted(weights[::between].argmax(1)) == list(range(samples))
    assert np.allclose(weights[::between].max(1), 1)


def test_opposite_samples_are_never_mixed_and_steps_are_even():
    """Deviations d_2k+1 = -d_2k: frames keep their length, and follow one another at one pace, the last to the first too."""
    first = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 4)))[0].T
    deviations = np.stack([first, -first], 1).reshape(8, 50)
    frames = loop_weights(8, 6) @ deviations
    assert np.allclose(np.linalg.norm(frames, axis=1), 1)
    steps = np.linalg.norm(np.roll(frames, -1, 0) - frames, axis=1)
    assert np.allclose(steps, steps[0])


def test_two_opposite_samples_alternate():
    assert np.array_equal(loop_weights(2, 8), np.eye(2))
