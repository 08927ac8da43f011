"""Muon: steps along orthogonal matrices for the weights of hidden convolutions, AdamW for all other weights.

    m = b m + (1 - b) g,    u = g + b (m - g),    w = (1 - r d) w - 0.2 r sqrt(max(rows, columns)) orthogonal(u)

g is the gradient of a weight w, r its learning rate, b the momentum, d the decay. The weights of a convolution are a matrix of
(outputs, inputs times voxels of the kernel). ``orthogonal`` brings its singular values near 1 by five Newton-Schulz iterations,
so that all directions of a layer learn alike (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"). The
factor gives a step the size that AdamW has (Liu et al. 2025, "Muon is scalable for LLM training").
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration, and how often it is repeated.
QUINTIC, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
# Root mean square of the entries of a step of AdamW, over its learning rate.
USUAL_STEP = 0.2


class Muon(torch.optim.AdamW):
    """Muon for hidden convolutions and AdamW for the rest, in two groups of parameters: matrices first.

    Args:
        matrices: weights of hidden convolutions, (outputs, inputs, z, y, x).
        others: all other parameters.
        rates: learning rates of the two groups.
        momentum: b.
        decay: d of the matrices.
        fused: whether the steps of AdamW are one kernel.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        others: Sequence[Tensor],
        rates: tuple[float, float],
        momentum: float = 0.95,
        decay: float = 0.05,
        fused: bool = False,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "lr": rates[0], "momentum": momentum, "weight_decay": decay},
            {"params": list(others), "lr": rates[1], "momentum": 0.0, "weight_decay": 0.01},
        ]
        super().__init__(groups, betas=(0.9, 0.99), fused=fused)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take a step. The gradients of the matrices are used up."""
        group = self.param_groups[0]
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if "momentum" not in state:
                # AdamW expects a number of steps of each weight when a state is loaded.
                state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
            state["step"] += 1
            mean = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            direction = orthogonal(weight.grad.lerp(mean, group["momentum"]).flatten(1))
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            size = USUAL_STEP * sqrt(max(direction.shape)) * group["lr"]
            weight.add_(direction.reshape(weight.shape), alpha=-size)
            # AdamW leaves out what has no gradient.
            weight.grad = None
        super().step()


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of ``matrix``, and singular values near 1 (0.5 to 1.35) where its own were not tiny."""
    a, b, c = QUINTIC
    x = matrix.bfloat16()
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if is_tall else x).to(matrix.dtype)


def hidden_convolutions(network: nn.Module, edges: Sequence[str]) -> list[Tensor]:
    """Weights of the convolutions of a network, without those of the layers named ``edges``, its inputs and outputs."""
    layers = network.named_modules()
    return [layer.weight for name, layer in layers if isinstance(layer, nn.Conv3d) and name not in edges]
