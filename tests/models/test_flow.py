"""The flow posterior: an exact density, a Gaussian to begin with, and no side effects on other libraries."""

import subprocess
import sys
from dataclasses import replace
from math import log, pi

import pytest
import torch
from torch import nn

from cryovae.errors import InputError
from cryovae.models.distributions import DiagonalGaussian, divergence, kl_divergence
from cryovae.models.flow import CouplingFlow, FlowPosterior
from cryovae.models.ladder import Ladder, Q, R
from cryovae.models.ladder_config import FLOW, LadderConfig

SHAPE = (8, 16, 12)
LATENT = (3, 2, 1, 3)


def _randomised(module):
    """Weights that are no identity."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.fixture
def flow_posterior():
    """A posterior over (2, 3, 2, 1, 3) latents, in double precision."""
    torch.manual_seed(0)
    flow = _randomised(CouplingFlow(5, LATENT[0])).double()
    base = DiagonalGaussian(torch.randn(2, *LATENT).double(), torch.randn(2, *LATENT).double())
    return FlowPosterior(base, flow(torch.randn(2, 5, *LATENT[1:]).double()))


def test_the_density_is_that_of_the_jacobian_by_autograd(flow_posterior):
    noise = torch.randn(2, *LATENT, dtype=torch.float64)
    z = flow_posterior.sample(noise)
    normal = torch.distributions.Normal(0.0, 1.0)
    constant = 0.5 * log(2 * pi) * noise[0].numel()
    for row in range(2):

        def one(flat, row=row):
            changed = noise.clone()
            changed[row] = flat.view(LATENT)
            return flow_posterior.sample(changed)[row].flatten()

        jacobian = torch.autograd.functional.jacobian(one, noise[row].flatten())
        expected = normal.log_prob(noise[row]).sum() - torch.linalg.slogdet(jacobian).logabsdet + constant
        assert flow_posterior.log_prob(z)[row].sum().item() == pytest.approx(expected.item(), abs=1e-9)
        # Latents depend on each other, neighbours too.
        assert int((jacobian.abs() > 1e-6).sum()) > 2 * noise[row].numel()


def test_it_begins_as_the_gaussian(small_config):
    torch.manual_seed(0)
    plain = Ladder(small_config)
    with_flow = Ladder(replace(small_config, posterior=FLOW))
    missing = with_flow.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(".posterior.flow." in name for name in missing.missing_keys)
    y, noise = torch.randn(2, *SHAPE), [torch.randn(2, *shape) for shape in plain.latent_shapes(SHAPE)]
    outputs = [_draw(ladder, y, noise) for ladder in (plain, with_flow)]
    for one, two in zip(*outputs, strict=True):
        assert torch.allclose(one.latent, two.latent, atol=1e-6)
        assert torch.allclose(one.posterior.mean, two.posterior.mean, atol=1e-6)


def _draw(ladder, y, noise):
    return ladder.posterior(ladder.encode(y, Q), Q).sample(noise).levels


def test_the_kl_by_draws_is_that_in_closed_form_where_the_flow_is_none():
    torch.manual_seed(1)
    shape = (3, 4, 5, 6)
    q, p = (DiagonalGaussian(torch.randn(1, *shape), 0.5 * torch.randn(1, *shape)) for _ in range(2))
    same = FlowPosterior(q, CouplingFlow(4, 3)(torch.randn(1, 4, *shape[1:])))
    kl = torch.stack([divergence(same, p, same.sample(torch.randn(1, *shape))) for _ in range(200)])
    assert kl.std() > 0
    error = kl.std() / len(kl) ** 0.5
    assert abs(kl.mean() - kl_divergence(q, p)) < 4 * error


def test_it_comes_to_know_what_no_diagonal_gaussian_can():
    """Two correlated latents: the best diagonal Gaussian is 1/2 log 1 / (1 - rho^2) nats from them, a flow comes near."""
    torch.manual_seed(0)
    rho, features = 0.9, torch.ones(512, 2, 1, 1, 1)
    target = torch.distributions.MultivariateNormal(torch.zeros(2), torch.tensor([[1, rho], [rho, 1]]))
    flow = CouplingFlow(2, 2)
    log_variance = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([*flow.parameters(), log_variance], lr=0.02)
    gaps = []
    for _ in range(150):
        shape = (512, 2, 1, 1, 1)
        q = FlowPosterior(DiagonalGaussian(torch.zeros(shape), log_variance.view(1, 2, 1, 1, 1).expand(shape)), flow(features))
        z = q.sample(torch.randn(shape))
        gap = (q.log_prob(z).sum((1, 2, 3, 4)) - log(2 * pi) - target.log_prob(z.flatten(1))).mean()
        optimiser.zero_grad()
        gap.backward()
        optimiser.step()
        gaps.append(gap.item())
    assert -0.5 * log(1 - rho**2) > 0.8
    assert sum(gaps[-20:]) / 20 < 0.05


def test_it_moves_with_its_input_away_from_the_edges():
    torch.manual_seed(0)
    made = _randomised(CouplingFlow(3, 4))
    features, noise = torch.randn(1, 3, 14, 3, 3), torch.randn(1, 14, 3, 3, 4)
    full, part = made(features)(noise), made(features[:, :, 3:])(noise[:, 3:])
    assert torch.allclose(full[:, 7:], part[:, 4:], atol=1e-5)


@pytest.mark.parametrize(("encoders", "role"), [(2, "posterior"), (1, "masked_posterior")])
def test_the_flow_is_in_what_the_bound_trains_on_the_coarse_levels(small_config, encoders, role):
    ladder = Ladder(replace(small_config, posterior=FLOW, flow_levels=2), encoders)
    flows = {name.split(".flow.")[0] for name, _ in ladder.named_parameters() if ".flow." in name}
    assert flows == {f"levels.1.{role}", f"levels.2.{role}"}
    _randomised(ladder)
    ladder.init_q_from_r()
    assert torch.equal(ladder.level(1).posterior.shift.weight, ladder.level(1).masked_posterior.shift.weight)
    y, noise = torch.randn(1, *SHAPE), [torch.randn(1, *shape) for shape in ladder.latent_shapes(SHAPE)]
    before = ladder.restore(ladder.encode(y, R), noise)
    with torch.no_grad():
        for name, parameter in ladder.named_parameters():
            if ".flow." in name:
                parameter.zero_()
    # Restoring draws from r: the flow counts where r is the posterior.
    assert torch.equal(before, ladder.restore(ladder.encode(y, R), noise)) == (encoders == 2)


def test_without_gradients_there_are_none(flow_posterior):
    z = flow_posterior.sample(torch.randn(2, *LATENT).double())
    assert flow_posterior.log_prob(z).requires_grad
    still = flow_posterior.detach()
    assert not still.log_prob(z.detach()).requires_grad
    assert not still.sample(z.detach()).requires_grad
    assert torch.equal(still.log_prob(z.detach()), flow_posterior.log_prob(z).detach())


def test_levels_that_cannot_have_a_flow_are_refused():
    with pytest.raises(InputError, match="expected gaussian or flow"):
        LadderConfig(posterior="mixture")
    with pytest.raises(InputError, match="2 latents or more each"):
        LadderConfig((4, 6), (2, 1), 1, FLOW)
    assert LadderConfig((4, 6, 8), (2, 0, 4), 1, FLOW).flow_indices == [0, 2]


def test_argument_checks_of_torch_distributions_are_put_back():
    """In a process of its own: whoever imports zuko first decides."""
    code = (
        "import torch\n"
        "from cryovae.models.flow import CouplingFlow\n"
        "CouplingFlow(3, 2)\n"
        "import zuko\n"
        "try:\n"
        "    torch.distributions.Normal(0.0, -1.0)\n"
        "except ValueError:\n"
        "    print('checked')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "checked\n"


def test_without_zuko_one_line_says_what_to_install(monkeypatch, small_config):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(InputError, match="pip install zuko"):
        Ladder(replace(small_config, posterior=FLOW))
    assert torch.distributions.Distribution._validate_args
    Ladder(small_config)
