"""The U-Net: shapes, its start, and its size beside the ladder's."""

from __future__ import annotations

import pytest
import torch

from cryovae.config import PRESETS
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.unet import UNet


def made(config: LadderConfig) -> UNet:
    """A network whose zeroed layers have random weights, so that nothing is trivially zero."""
    torch.manual_seed(0)
    network = UNet(config)
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize("shape", [(8, 16, 12), (24, 8, 16)])
def test_shape_is_kept_on_shapes_that_are_no_cubes(small_config: LadderConfig, shape: tuple[int, int, int]) -> None:
    assert UNet(small_config)(torch.randn(2, *shape)).shape == (2, *shape)


def test_starts_as_the_identity(small_config: LadderConfig) -> None:
    x = torch.randn(1, 8, 12, 16)
    assert torch.equal(UNet(small_config)(x), x)


def test_every_parameter_but_the_unused_role_is_trained(small_config: LadderConfig) -> None:
    network = made(small_config)
    network(torch.randn(2, 8, 12, 16)).square().sum().backward()
    still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()
    # One role only: the other row of the table that the ladder needs for its two encoders gets no gradient.
    assert not network.encoder.role.grad[1].any()


def test_what_is_far_reaches_the_output_through_the_coarsest_stride(small_config: LadderConfig) -> None:
    network = made(small_config)
    x = torch.randn(1, 8, 8, 32)
    moved = x.clone()
    moved[..., 12] += 10.0
    changed = (network(moved) - network(x)).abs().amax((0, 1, 2))
    assert changed[24] > 1e-6


def test_has_about_the_parameters_of_one_pass_of_the_ladder() -> None:
    config = PRESETS["quick"].ladder
    ladder, network = Ladder(config), UNet(config)
    one_pass = sum(p.numel() for name, p in ladder.named_parameters() if ".posterior." not in name)
    assert 0.8 < sum(p.numel() for p in network.parameters()) / one_pass < 1.25
