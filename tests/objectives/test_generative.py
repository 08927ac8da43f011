"""The losses of the generative model against values computed by hand."""

import math

import pytest
import torch

from cryovae.models.patch_vae import PatchVAE, PatchVAEConfig
from cryovae.objectives.generative import DETAIL, LAYOUT, FlowDraw, draw_flow, flow_matching, patch_bound
from tests.helpers.generative import tiny_generator

V = 0.1


class Straight(torch.nn.Module):
    """A flow of one velocity, which keeps what it was asked."""

    def __init__(self, velocity):
        super().__init__()
        self.velocity, self.seen = velocity, None

    def forward(self, latents, time, context):
        self.seen = latents, time, context
        return self.velocity


@torch.no_grad()
def test_the_bound_of_a_linear_gaussian_model_is_that_by_hand():
    """One latent a block: z ~ N(0, 1), x = b z + noise of variance V; with the exact posterior the bound is log p(x)."""
    torch.manual_seed(0)
    vae = PatchVAE(PatchVAEConfig(2, 1, width=4, fine_width=4, blocks=1, model_variance=V))
    b = torch.linspace(0.05, 0.4, 8)
    width = V / (V + float(b @ b))
    vae.expand.weight.copy_(b.view(8, 1, 1, 1, 1))
    vae.project.weight.copy_((b * width / V).view(1, 8, 1, 1, 1))
    # log s^2 of q: the first value of the network is -4, and the limit of 9 bends it a little.
    vae.moments.bias[1] = 9 * math.atanh(math.log(width) / 9) + 4
    density = 0.5 * torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(1))
    blocks = vae._blocks(density).movedim(1, -1)
    law = torch.distributions.MultivariateNormal(torch.zeros(8), b[:, None] * b + V * torch.eye(8))
    exact = law.log_prob(blocks).sum((1, 2, 3))
    rng = torch.Generator().manual_seed(2)
    bounds = [patch_bound(vae, density, torch.randn(2, 1, 2, 3, 4, generator=rng)) for _ in range(400)]
    totals = torch.stack([bound.log_likelihood - bound.kl for bound in bounds])
    error = totals.std(0) / 20
    assert ((totals.mean(0) - exact).abs() < 4 * error + 0.05).all()
    assert exact.abs().min() > 10


@torch.no_grad()
def test_the_likelihood_is_a_sum_over_voxels():
    vae = tiny_generator().vae
    density, noise = torch.randn(3, 8, 16, 8), torch.randn(3, 3, 2, 4, 2)
    bound = patch_bound(vae, density, noise)
    decoded = vae.decode(vae.encode(density).sample(noise))
    normal = torch.distributions.Normal(decoded, vae.config.model_variance**0.5)
    assert torch.allclose(bound.log_likelihood, normal.log_prob(density).sum((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(bound.squared_error, (density - decoded).square().mean((1, 2, 3)))
    assert bound.kl.shape == (3,)
    assert bound.kl.min() > 0


def test_the_right_velocity_has_no_loss_and_the_state_is_between():
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 3, 2, 2, 4, generator=rng).unbind()
    context = tiny_generator().flow.no_context(latents.shape, latents)
    draw = FlowDraw(noise, torch.tensor([0.25, 1.0]), torch.ones(2))
    flow = Straight(noise - latents)
    assert not flow_matching(flow, latents, context, draw, torch.ones(3)).any()
    assert torch.allclose(flow.seen[0][0], 0.75 * latents[0] + 0.25 * noise[0])
    assert torch.allclose(flow.seen[0][1], noise[1])
    wrong = flow_matching(Straight(noise - latents + 2), latents, context, draw, torch.tensor([0.5, 2.0, 0.5]))
    assert wrong.tolist() == pytest.approx([4, 4], rel=1e-5)
    # An error of the first channel alone counts by its weight.
    shift = torch.tensor([3.0, 0, 0]).view(1, 3, 1, 1, 1)
    first = flow_matching(Straight(noise - latents + shift), latents, context, draw, torch.tensor([0.5, 2.0, 0.5]))
    assert first.tolist() == pytest.approx([1.5, 1.5], rel=1e-5)


def test_the_condition_is_dropped_where_the_draw_says_so():
    generator = tiny_generator()
    latents = torch.randn(2, 3, 2, 2, 4)
    full = generator.flow.no_context(latents.shape, latents)
    full = type(full)(full.features + 1, full.mean + 1, full.embedding + 1)
    flow = Straight(latents)
    flow_matching(flow, latents, full, FlowDraw(latents, torch.ones(2), torch.tensor([1.0, 0.0])), torch.ones(3))
    assert flow.seen[2].features[0].min() == 1
    assert not flow.seen[2].features[1].any()


@pytest.mark.parametrize("share", [0.0, 0.65, 1.0])
@pytest.mark.parametrize("times", [DETAIL, LAYOUT])
def test_the_share_of_conditions_and_the_times_are_as_asked_for(share, times):
    draw = draw_flow(torch.Size((4000, 1, 1, 1, 1)), share, torch.Generator().manual_seed(0), times)
    assert float(draw.has_condition.mean()) == pytest.approx(share, abs=0.03)
    logit, (mean, spread) = torch.logit(draw.time.double()), times
    assert float(logit.mean()) == pytest.approx(mean, abs=0.1)
    assert float(((logit - mean).abs() < spread).double().mean()) == pytest.approx(0.683, abs=0.03)
    assert float(draw.noise.std()) == pytest.approx(1, abs=0.05)


def test_details_are_learned_at_small_times_and_the_layout_at_large_ones():
    detail, layout = (
        draw_flow(torch.Size((4000, 1, 1, 1, 1)), 0.5, torch.Generator().manual_seed(0), times).time for times in (DETAIL, LAYOUT)
    )
    # The width of q, and where membranes are decided.
    assert float((detail < 0.16).float().mean()) > 0.2
    assert float(((layout > 0.8) & (layout < 0.98)).float().mean()) > 0.3
