"""What the members of the family change in the latent space of the generative model: its VAE trained by each; a table.

    python pipelines/benchmark/latents.py --steps 200

All are trained on the same simulated patches, from the same principal components, and looked at on patches of other scenes.
"flow posterior" and "semi-amortised" keep the weights of the VAE: the first learns couplings on its q, the second moves the
mean and width of q for each patch. Columns: mean square error of a decoded draw of q, over the variance of the patches; KL
and ELBO in nats a voxel; the sliced distance of all latents together from N(0, I); and of draws of N(0, I), decoded: the AUC
of a classifier that tells them from patches (0.5 is best), and their kurtosis (that of the patches is in the first row).
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable

import torch
from prior import scenes
from torch import Tensor

from cryovae.data.sampling import step_generator
from cryovae.evaluation.generative.prior import low_passed, moments, prior_measures
from cryovae.models.distributions import DiagonalGaussian, Move
from cryovae.models.flow import CouplingFlow, FlowPosterior
from cryovae.models.patch_vae import PatchVAE, PatchVAEConfig
from cryovae.objectives.aggregate import DISTANCES, cloud_distance
from cryovae.objectives.generative import posterior_bound
from cryovae.simulation.patches import Pairs
from cryovae.training.generative import GenerativeConfig, VAETraining
from cryovae.training.method import TrainingConfig
from cryovae.training.trainer import Trainer

MEMBERS = {
    "vae": GenerativeConfig(),
    **{f"beta-vae, beta {beta:g}": GenerativeConfig(beta=beta) for beta in (0.0, 0.1, 10.0, 100.0)},
    **{f"wae, {distance}": GenerativeConfig(divergence=distance) for distance in DISTANCES},
    "wae, sliced, beta 100": GenerativeConfig(divergence="sliced", beta=100.0),
}
CPU, BATCH, RATE = torch.device("cpu"), 8, 1e-2


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--patches", type=int, default=512, help="patches to train on")
    parser.add_argument("--held-out", type=int, default=96, help="patches to look at")
    parser.add_argument("--processes", type=int, default=0, help="processes that make scenes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--members", nargs="*", default=list(MEMBERS), help="some of them")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    training = scenes(options.patches, options.seed, options.processes)
    unseen = scenes(options.held_out, options.seed + 1, options.processes)
    clean = unseen.clean[: options.held_out]
    print("| member | error of a draw | KL | ELBO | distance | AUC of draws of N(0, I) | kurtosis |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(f"| patches | 0 | | | | | {moments(low_passed(clean)).kurtosis:.1f} |", flush=True)
    for name in options.members:
        vae = trained(training, MEMBERS[name], options.steps, options.seed)
        print(line(name, vae, clean, unseen.scenes[: len(clean)], lambda x, vae=vae: vae.encode(x), options.seed), flush=True)
        if name == "vae":
            flow = coupled(vae, training.clean, options.steps, options.seed)
            print(line("flow posterior", vae, clean, unseen.scenes[: len(clean)], flow, options.seed), flush=True)
            moved = semi_amortised(vae, options.steps, options.seed)
            print(line("semi-amortised", vae, clean, unseen.scenes[: len(clean)], moved, options.seed), flush=True)


class Fixed:
    """Batches of patches that were made before."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def batch(self, step: int, size: int, generator: torch.Generator) -> Pairs:
        """``size`` of them."""
        return self.pairs.rows(torch.randperm(len(self.pairs), generator=generator)[:size])


def trained(pairs: Pairs, generative: GenerativeConfig, steps: int, seed: int) -> PatchVAE:
    """A VAE, from principal components."""
    torch.manual_seed(seed)
    vae = PatchVAE(PatchVAEConfig())
    vae.start_from(pairs.clean)
    config = TrainingConfig(
        patch=pairs.clean.shape[-1], batch=BATCH, steps=steps, learning_rate=1e-3, ema=0.99, clip=1.0, seed=seed
    )
    return Trainer(VAETraining(vae, Fixed(pairs), config, generative, CPU)).run()


def coupled(vae: PatchVAE, clean: Tensor, steps: int, seed: int) -> Callable[[Tensor], FlowPosterior]:
    """q with a normalising flow in front of it, learned by the bound; the VAE stays."""
    torch.manual_seed(seed)
    flow = CouplingFlow(vae.config.width, vae.config.channels)
    frozen = copy.deepcopy(vae).requires_grad_(False)

    def posterior(density: Tensor) -> FlowPosterior:
        return FlowPosterior(frozen.encode(density), flow(frozen.features(density)))

    optimiser = torch.optim.Adam(flow.parameters(), 1e-3)
    for step in range(steps):
        generator = step_generator(seed, step)
        density = clean[torch.randperm(len(clean), generator=generator)[:BATCH]]
        bound = posterior_bound(frozen, density, posterior(density), _noise(frozen, density, generator))
        optimiser.zero_grad()
        (bound.kl - bound.log_likelihood).mean().div(density[0].numel()).backward()
        optimiser.step()
    return posterior


def semi_amortised(vae: PatchVAE, steps: int, seed: int) -> Callable[[Tensor], DiagonalGaussian]:
    """q whose mean and width take steps of their own for each patch."""
    frozen = copy.deepcopy(vae).requires_grad_(False)

    def posterior(density: Tensor) -> DiagonalGaussian:
        q = frozen.encode(density)
        shift, widening = (torch.zeros_like(q.mean, requires_grad=True) for _ in range(2))
        with torch.enable_grad():
            optimiser = torch.optim.Adam([shift, widening], RATE)
            for step in range(steps):
                noise = _noise(frozen, density, step_generator(seed, step))
                bound = posterior_bound(frozen, density, q.moved(Move(shift, widening)), noise)
                optimiser.zero_grad()
                (bound.kl - bound.log_likelihood).sum().backward()
                optimiser.step()
        return q.moved(Move(shift.detach(), widening.detach()))

    return posterior


def _noise(vae: PatchVAE, density: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn((len(density), *vae.latent_shape(density[0].shape)), generator=generator)


@torch.no_grad()
def line(
    name: str,
    vae: PatchVAE,
    clean: Tensor,
    numbers: Tensor,
    posterior: Callable[[Tensor], DiagonalGaussian | FlowPosterior],
    seed: int,
) -> str:
    """A row of the table."""
    generator = step_generator(seed, 0)
    bounds = [posterior_bound(vae, part, posterior(part), _noise(vae, part, generator)) for part in clean.split(BATCH)]
    voxels = clean[0].numel()
    error, kl, elbo = (
        torch.cat([of(bound) for bound in bounds]).mean()
        for of in (
            lambda bound: bound.squared_error / clean.var(),
            lambda bound: bound.kl / voxels,
            lambda bound: (bound.log_likelihood - bound.kl) / voxels,
        )
    )
    latents = torch.cat([bound.latents for bound in bounds])
    prior = torch.randn(latents.shape, generator=generator)
    distance = cloud_distance(latents, prior, "sliced", generator) / latents[:, 0].numel()
    draws = torch.cat([vae.decode(part) for part in prior.split(BATCH)])
    with torch.enable_grad():
        measures = prior_measures(clean, draws, seed, numbers)
    figures = f"{float(error):.4f} | {float(kl):.3f} | {float(elbo):.3f} | {float(distance):.3f}"
    return f"| {name} | {figures} | {measures.separation.auc:.2f} | {measures.moments.kurtosis:.1f} |"


if __name__ == "__main__":
    main()
