"""The rate-distortion curve: what the latents cost and what is left unexplained, as the weight of the KL changes.

    min  D + beta R,      D = - E_q log p(y | G(z)),   R = sum_l KL(q || p)          both in nats a measured coefficient

From a plain autoencoder at beta = 0 to collapse at large beta (Alemi et al. 2018). At each beta the same model is trained on
from the same weights with the same random numbers, by the bound alone: encoder, prior and decoder all move, unlike in the run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from cryovae.data.prepare import PreparedTomogram
from cryovae.data.sampling import draw, step_generator
from cryovae.evaluate.diagnosis.patches import filled
from cryovae.models.ladder import Ladder, R
from cryovae.objectives.elbo import ObjectiveConfig, one_encoder_bound, two_encoder_bound
from cryovae.objectives.schedules import learning_rate_at


def trained_on(
    ladder: Ladder,
    prepared_tomograms: Sequence[PreparedTomogram],
    side: int,
    batch: int,
    objective: ObjectiveConfig,
    beta: float,
    steps: int,
    rate: float,
    seed: int = 0,
    fills: bool = False,
    clip: float = 0.5,
    watch: Callable[[int, float], None] = lambda *_: None,
    frozen: Callable[[str], bool] = lambda name: False,
) -> Ladder:
    """A copy of the model after ``steps`` by the bound at ``beta``. fills: fill the own wedge of patches by the model as given.
    watch: is told each step and its loss, nats a coefficient. frozen: whether the parameter of a name stays as it is.
    """
    input_mask = copy.deepcopy(ladder).eval().requires_grad_(False)
    moved = copy.deepcopy(ladder).requires_grad_(True)
    bound_of = two_encoder_bound if objective.encoders == 2 else one_encoder_bound
    heads = [
        p
        for index, latents in enumerate(moved.config.latents)
        if latents
        for p in moved.level(index).masked_posterior.parameters()
    ]
    # With two encoders the bound has no part in r: what matching sends into r's heads is left where it is.
    fixed = {id(p) for p in heads} if objective.encoders == 2 else set()
    parameters = [p for name, p in moved.named_parameters() if id(p) not in fixed and not frozen(name)]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99))
    drawn_from = replace(objective, rotated_fraction=0.0)
    for step in range(steps):
        m = draw(prepared_tomograms, side, batch, drawn_from, step_generator(seed, 2 * step)).to(moved.top.device)
        m = filled(input_mask, m) if fills else m
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, steps, rate)
        optimiser.zero_grad(set_to_none=True)
        bound = bound_of(moved, m, moved.encode(m.input_masked, R), step_generator(seed, 2 * step + 1))
        loss = bound.loss(beta) - bound.matching / bound.bins
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
        if torch.isfinite(norm):
            optimiser.step()
        watch(step + 1, loss.item())
    return moved.eval()
