"""A closed way through posterior samples, every step of which is as far from the mean as a sample is.

x(t) = m + sum_i w_i(t) (x_i - m),        w_i = cos a, w_j = sin a,    a = 0 .. pi / 2 from sample i to the next one, j

If the x_i are independent draws of a Gaussian about m, so is every x(t), as sum w^2 = 1; on straight lines between them what is
uncertain would calm down midway. Samples come in opposite pairs, 2k and 2k + 1: the firsts of all pairs are gone through first,
then the seconds, so that no step leads through the mean.
"""

from __future__ import annotations

import numpy as np

# With fewer samples the next one is the opposite of the last, and the way between them leads through the mean.
LEAST = 4


def loop_weights(samples: int, between: int) -> np.ndarray:
    """Weights (frames, samples) of a loop with ``between`` frames from one sample to the next; one with fewer than LEAST."""
    order = [*range(0, samples, 2), *range(1, samples, 2)]
    steps = between if samples >= LEAST else 1
    found = np.zeros((samples * steps, samples))
    for number, sample in enumerate(order):
        following = order[(number + 1) % samples]
        for step in range(steps):
            angle = 0.5 * np.pi * step / steps
            found[number * steps + step, sample] += np.cos(angle)
            found[number * steps + step, following] += np.sin(angle)
    return found
