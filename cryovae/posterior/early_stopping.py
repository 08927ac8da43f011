"""How far posteriors may be refined before the wedge pays for it: found on measured bins that refinement does not see.

    s*  =  argmax over steps s, 0 among them, of  log p( hidden bins | G( E q_s[z] ) )

Refinement raises the bound of the bins that were measured, and nothing in it speaks for the wedge but the prior: it can fit the
noise of the one at the cost of the other. So the held-out patches of a specimen are turned, the canonical wedge is taken out of
them, from what r is given and from what the bound scores, and what was measured there is foretold after every few steps. Where
that gets worse from the first, s* is 0 and refinement is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cryovae.data.measurement import Measurement
from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import held_out
from cryovae.data.validation_split import held_out_patches, shown_patches
from cryovae.models.ladder import Ladder, R
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.posterior.problem import Moves, Problem, decoded, drawn, problem_of
from cryovae.posterior.refinement import JUDGED_BY, is_check, trail, unmoved

# Patches that are refined at once, and turns of each held-out patch: refinement is a training, for each of them.
AT_ONCE, ORIENTATIONS = 2, 3


@dataclass(frozen=True)
class EarlyStopping:
    """steps: after which it was looked, 0 first. hidden: log-likelihood of the hidden bins over that at step 0, in nats a hidden
    coefficient. bound: of the bins given, likewise, a given coefficient. trained_on: whether training saw the patches.
    """

    steps: tuple[int, ...]
    hidden: tuple[float, ...]
    bound: tuple[float, ...]
    patches: int
    trained_on: bool = False

    @property
    def allowed(self) -> int:
        """The steps after which hidden bins are foretold best; 0: refinement is refused."""
        return max(zip(self.hidden, self.steps, strict=True), key=lambda found: (found[0], -found[1]))[1]

    @property
    def gain(self) -> float:
        """What hidden bins gain by those steps, from 0, in nats a hidden coefficient."""
        return max(self.hidden)

    def figures(self) -> dict[str, object]:
        """For the record of a restoration."""
        return {
            "allowed_steps": self.allowed,
            "steps": list(self.steps),
            "hidden_nats_per_coefficient": list(self.hidden),
            "bound_nats_per_coefficient": list(self.bound),
            "patches": self.patches,
            "trained_on": self.trained_on,
        }


def early_stopping(
    ladder: Ladder, prepared: PreparedTomogram, patch: int, steps: int, seed: int, device: torch.device
) -> EarlyStopping | None:
    """Refine the turned held-out patches of a specimen, and look at their hidden bins; None where no wedge can be hidden.

    The weights must be frozen by the caller.
    """
    if not prepared.tilts.has_wedge:
        return None
    positions = prepared.held_out or held_out_patches(prepared.density, patch) or shown_patches(prepared.density, patch)
    found = held_out(replace(prepared, held_out=tuple(positions)), patch)
    starts = range(0, ORIENTATIONS, AT_ONCE)
    groups = [m.rows(slice(start, min(start + AT_ONCE, ORIENTATIONS))).to(device) for m in found for start in starts]
    groups = [m for m in groups if len(m.data) and float(scored_bins(m.target_mask, m.data.shape).sum()) >= 1]
    return guard_of(ladder, groups, steps, seed, not prepared.held_out) if groups else None


def guard_of(ladder: Ladder, groups: list[Measurement], steps: int, seed: int, trained_on: bool = False) -> EarlyStopping:
    """The same of measurements with hidden bins."""
    checked = [0, *(step for step in range(1, steps + 1) if is_check(step, steps))]
    hidden, bound = torch.zeros(len(checked), dtype=torch.float64), torch.zeros(len(checked), dtype=torch.float64)
    unseen, given = 0.0, 0.0
    for m in groups:
        seen = m.mask if m.input_mask is None else m.mask * m.input_mask
        problem = problem_of(ladder, m, R, seen)
        unseen += float(scored_bins(m.target_mask, m.data.shape, m.support).sum())
        given += float(problem.bins.sum())
        at = _looked(problem, m, seed)
        hidden[0], bound[0] = hidden[0] + at[0], bound[0] + at[1]
        for step, moves in trail(problem, steps, seed=seed):
            if step in checked:
                at = _looked(problem, m, seed, moves)
                number = checked.index(step)
                hidden[number], bound[number] = hidden[number] + at[0], bound[number] + at[1]
    rise, gain = (hidden - hidden[0]) / max(unseen, 1.0), (bound - bound[0]) / max(given, 1.0)
    patches = sum(len(m.data) for m in groups)
    return EarlyStopping(tuple(checked), tuple(rise.tolist()), tuple(gain.tolist()), patches, trained_on)


@torch.no_grad()
def _looked(problem: Problem, m: Measurement, seed: int, moves: Moves | None = None) -> tuple[float, float]:
    """Log-likelihood of the hidden bins, by what is decoded from the means, and the bound of those given, summed over patches."""
    moves = unmoved(problem) if moves is None else moves
    density = decoded(problem, moves)
    found = log_likelihood(density, m.data, m.target_mask, m.scored_variance, m.support, m.mask).sum(dtype=torch.float64)
    return float(found), float(drawn(problem, JUDGED_BY, seed + 1, moves).bound_mean.sum())
