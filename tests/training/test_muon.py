"""Muon: directions are orthogonal, steps have the size of AdamW's, other weights follow AdamW, training can be resumed."""

import copy

import pytest
import torch

from cryovae.models.latent_flow import LatentFlow, LatentFlowConfig
from cryovae.training.muon import Muon, hidden_convolutions, orthogonal

RATES = (0.01, 0.002)


def _weights(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Parameter(torch.randn(6, 4, 3, 3, 3)), torch.nn.Parameter(torch.randn(7))


def _with_gradients(matrix, other, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix.grad = torch.randn(matrix.shape, generator=generator)
    other.grad = torch.randn(other.shape, generator=generator)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (12, 12)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_singular_values_come_near_1_and_their_vectors_stay(shape, size):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * size
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    new = torch.linalg.svdvals(orthogonal(matrix))
    clear = values > 0.1 * values[0]
    assert new[: int(clear.sum())].min() > 0.5
    assert new.max() < 1.35
    along = torch.diagonal(u.T @ orthogonal(matrix) @ v.T)
    assert along[clear].min() > 0.5


def test_a_gradient_of_zeros_gives_no_step():
    assert torch.equal(orthogonal(torch.zeros(3, 8)), torch.zeros(3, 8))


def test_a_step_has_the_size_of_one_of_adamw():
    matrix, other = _weights()
    before = matrix.detach().clone()
    optimiser = Muon([matrix], [other], RATES, decay=0.0)
    _with_gradients(matrix, other, 2)
    optimiser.step()
    step = (matrix.detach() - before).square().mean().sqrt()
    assert float(step) == pytest.approx(0.2 * RATES[0], rel=0.35)


@pytest.mark.parametrize("shape", [(40, 5, 1, 1, 1), (8, 4, 3, 3, 3)], ids=["tall", "wide"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_a_step_does_not_depend_on_the_layout_in_memory(shape, layout):
    generator = torch.Generator().manual_seed(4)
    start, gradient = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    weight, other = torch.nn.Parameter(start.clone(memory_format=layout)), torch.nn.Parameter(torch.zeros(2))
    weight.grad = gradient.clone(memory_format=layout)
    Muon([weight], [other], RATES, decay=0.0).step()
    step = start - weight.detach()
    expected = orthogonal(gradient.lerp(0.05 * gradient, 0.95).flatten(1)).reshape(shape)
    torch.testing.assert_close(step / step.norm(), expected / expected.norm(), atol=1e-4, rtol=1e-3)


def test_a_step_goes_down_by_all_directions_alike():
    matrix, other = _weights()
    gradient = torch.randn(6, 108) * torch.tensor([1.0, 1, 1, 1, 1, 0.05])[:, None]
    before = matrix.detach().clone()
    optimiser = Muon([matrix], [other], RATES, decay=0.0)
    matrix.grad, other.grad = gradient.view_as(matrix).clone(), torch.zeros(7)
    optimiser.step()
    step = (matrix.detach() - before).flatten(1)
    assert float((step * gradient).sum()) < 0
    assert float(step[5].norm() / step[:5].norm(dim=1).mean()) > 0.5


def test_decay_shrinks_the_matrices_alone():
    matrix, other = _weights()
    before = matrix.detach().clone()
    optimiser = Muon([matrix], [other], (0.1, 0.1), decay=0.5)
    matrix.grad = torch.zeros_like(matrix)
    optimiser.step()
    torch.testing.assert_close(matrix.detach(), before * 0.95)


def test_all_other_weights_follow_adamw():
    (matrix, other), (_, same) = _weights(), _weights()
    optimiser = Muon([matrix], [other], RATES)
    usual = torch.optim.AdamW([same], lr=RATES[1], betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(4):
        _with_gradients(matrix, other, step)
        same.grad = other.grad.clone()
        optimiser.step()
        usual.step()
    torch.testing.assert_close(other, same)


def test_a_saved_state_gives_the_same_steps():
    (matrix, other), (matrix_2, other_2) = _weights(), _weights()
    first = Muon([matrix], [other], RATES)
    for step in range(3):
        _with_gradients(matrix, other, step)
        first.step()
    with torch.no_grad():
        matrix_2.copy_(matrix)
        other_2.copy_(other)
    second = Muon([matrix_2], [other_2], RATES)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for weights, optimiser in (((matrix, other), first), ((matrix_2, other_2), second)):
        _with_gradients(*weights, 9)
        optimiser.step()
    assert torch.equal(matrix, matrix_2)
    assert torch.equal(other, other_2)


def test_inputs_and_outputs_of_the_flow_are_no_hidden_convolutions():
    flow = LatentFlow(LatentFlowConfig(width=8, coarse_width=12, condition_width=8, embedding=8), 4, 2)
    matrices = {id(weight) for weight in hidden_convolutions(flow, flow.edges)}
    names = {name for name, weight in flow.named_parameters() if id(weight) in matrices}
    assert "middle.0.first.weight" in names
    assert "down.weight" in names
    assert not any(name.startswith(flow.edges) for name in names if not name.startswith("observed"))
    assert not any("modulation" in name or name.endswith("bias") for name in names)
