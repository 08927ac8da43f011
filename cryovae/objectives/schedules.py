"""Values that change with the step."""

from __future__ import annotations

from math import cos, pi


def beta_at(step: int, steps: int, beta: float, start: float, warmup: float, cycles: int = 1) -> float:
    """Weight of the KL: 0, then a linear rise, then ``beta``.

    Args:
        step: the step.
        steps: number of steps.
        beta: final weight.
        start: share of the steps, at the beginning, with weight 0.
        warmup: share of the steps in which the weight rises, divided among the cycles.
        cycles: number of equal cycles after ``start``; each rises from 0 to ``beta`` (Fu et al. 2019, "Cyclical annealing": 4
            cycles, the rise taking half of each).

    Returns:
        The weight of this step.
    """
    gone, rise = step - start * steps, warmup * steps
    if cycles > 1 and gone >= 0:
        gone, rise = gone % ((1 - start) * steps / cycles), rise / cycles
    if gone < 0:
        return 0.0
    return beta if gone >= rise else beta * gone / rise


def learning_rate_at(step: int, steps: int, highest: float, rise: int = 50) -> float:
    """Linear rise over at most ``rise`` steps, times half a cosine down to a hundredth of ``highest``."""
    start = min(1.0, (step + 1) / min(rise, max(steps // 10, 1)))
    return highest * start * (0.01 + 0.99 * 0.5 * (1 + cos(pi * min(step / steps, 1.0))))


def refill_steps(steps: int, start: float, every: float) -> set[int]:
    """Steps at which the wedge of the inputs is refilled: first at ``start``, then each ``every``, as shares of all steps."""
    refills, share = set(), start
    while share < 1.0:
        refills.add(round(share * steps))
        share += max(every, 0.01)
    return refills
