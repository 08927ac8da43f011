"""Early stopping of the refinement of posteriors, by measured bins that refinement does not see.

    s*  =  argmax over steps s, 0 included, of  log p( target bins | G( E q_s[z] ) )

Refinement raises the bound of the measured bins. Only the prior constrains the wedge, so refinement can fit noise in the measured
bins at the cost of the wedge. The held-out patches of a tomogram are therefore rotated, the canonical wedge is removed both from
the input of r and from the scored bins, and the measured bins there are predicted after every few steps. If the prediction gets
worse from the start, s* is 0 and refinement is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cryovae.data.measurement import Measurement
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import held_out
from cryovae.models.ladder import Ladder, R
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.posterior.problem import Moves, Problem, drawn, problem_of
from cryovae.posterior.refinement import CHECK_DRAWS, is_check, refinement_steps, unmoved

# Patches refined at once, and orientations of each held-out patch.
BATCH, ORIENTATIONS = 2, 3


@dataclass(frozen=True)
class EarlyStopping:
    """Predictions of held-out bins during refinement.

    Attributes:
        steps: Steps after which the bins were predicted, 0 first.
        held_out: Log-likelihood of the target bins minus that at step 0, in nats per target coefficient.
        bound: Bound of the bins in the input minus that at step 0, in nats per such coefficient.
        patches: Number of patches.
        trained_on: Whether training saw the patches.
    """

    steps: tuple[int, ...]
    held_out: tuple[float, ...]
    bound: tuple[float, ...]
    patches: int
    trained_on: bool = False

    @property
    def allowed(self) -> int:
        """The steps with the best prediction, the fewest of equals; 0: refinement is refused."""
        return self.steps[self.held_out.index(max(self.held_out))]

    @property
    def gain(self) -> float:
        """The gain of the prediction by the allowed steps, from 0, in nats per target coefficient."""
        return max(self.held_out)

    def figures(self) -> dict[str, object]:
        """For the record of a restoration."""
        return {
            "allowed_steps": self.allowed,
            "steps": list(self.steps),
            "hidden_nats_per_coefficient": list(self.held_out),
            "bound_nats_per_coefficient": list(self.bound),
            "patches": self.patches,
            "trained_on": self.trained_on,
        }


def early_stopping(
    ladder: Ladder, prepared: PreparedTomogram, patch: int, steps: int, seed: int, device: torch.device
) -> EarlyStopping | None:
    """Refine the rotated held-out patches of a tomogram and predict their target bins; None without a missing wedge.

    The caller must freeze the weights.
    """
    if not prepared.tilts.has_wedge:
        return None
    positions = prepared.patches_to_score(patch)
    measurements = held_out(replace(prepared, held_out=tuple(positions)), patch)
    starts = range(0, ORIENTATIONS, BATCH)
    groups = [m.rows(slice(start, min(start + BATCH, ORIENTATIONS))).to(device) for m in measurements for start in starts]
    groups = [m for m in groups if len(m.data) and float(scored_bins(m.target_mask, m.data.shape).sum()) >= 1]
    return early_stopping_of(ladder, groups, steps, seed, not prepared.held_out) if groups else None


def early_stopping_of(
    ladder: Ladder, groups: list[Measurement], steps: int, seed: int, trained_on: bool = False
) -> EarlyStopping:
    """Early stopping by the target bins of groups of patches."""
    checks = [0, *(step for step in range(1, steps + 1) if is_check(step, steps))]
    # Log-likelihood of the target bins, and the bound of those in the input.
    totals = torch.zeros(2, len(checks), dtype=torch.float64)
    target_bins, input_bins = 0.0, 0.0
    for m in groups:
        problem = problem_of(ladder, m, R, m.mask if m.input_mask is None else m.mask * m.input_mask)
        target_bins += float(scored_bins(m.target_mask, m.data.shape, m.support).sum())
        input_bins += float(problem.bins.sum())
        totals[:, 0] += _scores(problem, m, seed, unmoved(problem))
        for step, moves in refinement_steps(problem, steps, seed=seed):
            if step in checks:
                totals[:, checks.index(step)] += _scores(problem, m, seed, moves)
    held_out, bound = (totals - totals[:, :1]) / torch.tensor(
        [[max(target_bins, 1.0)], [max(input_bins, 1.0)]], dtype=torch.float64
    )
    patches = sum(len(m.data) for m in groups)
    return EarlyStopping(tuple(checks), tuple(held_out.tolist()), tuple(bound.tolist()), patches, trained_on)


@torch.no_grad()
def _scores(problem: Problem, m: Measurement, seed: int, moves: Moves) -> Tensor:
    """Log-likelihood of the target bins by the decoded means, and the bound of the input bins; (2,), summed over patches."""
    density = problem.posterior.moved(moves).mean().density
    log_likelihood_ = log_likelihood(density, m.data, m.target_mask, m.scored_variance, m.support, m.mask)
    bound = drawn(problem, CHECK_DRAWS, seed + 1, moves).bound_mean.sum()
    return torch.stack((log_likelihood_.sum(dtype=torch.float64), bound)).cpu()
