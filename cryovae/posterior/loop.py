"""A closed path through posterior samples whose every point is as far from the mean as a sample is.

x(t) = m + sum_i w_i(t) (x_i - m),        w_i = cos a, w_j = sin a,    a = 0 .. pi / 2 from sample i to the next one, j

If the x_i are independent draws of a Gaussian about m, so is every x(t), as sum w^2 = 1; on straight lines the deviations would
shrink between the samples. Samples 2k and 2k + 1 have opposite noise: the first samples of all pairs come before the second ones,
so that no step passes through the mean.
"""

from __future__ import annotations

import numpy as np

# With fewer samples the next one is the opposite of the last, and the path between them passes through the mean.
MIN_SAMPLES = 4


def loop_weights(samples: int, between: int) -> np.ndarray:
    """Weights (frames, samples) of a loop with ``between`` frames from one sample to the next; 1 below MIN_SAMPLES."""
    order = [*range(0, samples, 2), *range(1, samples, 2)]
    steps = between if samples >= MIN_SAMPLES else 1
    weights = np.zeros((samples * steps, samples))
    for number, sample in enumerate(order):
        following = order[(number + 1) % samples]
        for step in range(steps):
            angle = 0.5 * np.pi * step / steps
            weights[number * steps + step, sample] += np.cos(angle)
            weights[number * steps + step, following] += np.sin(angle)
    return weights
