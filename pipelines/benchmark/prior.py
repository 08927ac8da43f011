"""Two learned priors side by side: a flow over the latents of a compact VAE, and the ladder's own hierarchical prior.

    python pipelines/benchmark/prior.py --out benchmark_prior --minutes 10
    python pipelines/benchmark/prior.py --strides          # what principal components alone leave, by stride and channels

Both are trained on the same simulated patches for as many processor minutes, the VAE and the flow together. Then draws of each
are compared with patches of scenes that neither has seen: a classifier, the power by shell, skewness and kurtosis; and the ELBO
of clean patches, seen with noise of the model variance, beyond that of a Gaussian. The table is also in prior.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.sampling import step_generator
from cryovae.evaluation.generative.evidence import clean_evidence, spectrum_of
from cryovae.evaluation.generative.prior import (
    PriorMeasures,
    gaussian_field,
    low_passed,
    moments,
    prior_measures,
)
from cryovae.models.generator import Generator
from cryovae.models.ladder import Ladder, Q
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.patch_vae import PatchVAE, PatchVAEConfig
from cryovae.objectives.schedules import learning_rate_at
from cryovae.physics.likelihood import log_likelihood, scored_bins
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.simulation.patches import Pairs, pair_stream
from cryovae.simulation.pool import PairPool, PoolConfig
from cryovae.training.generative import FlowTraining, VAETraining, first_patches
from cryovae.training.recipe import Recipe
from cryovae.training.trainer import Trainer
from cryovae.workflows.diagnose_generative import unseen_patches

# Share of the time of the compact model that its VAE gets.
VAE_SHARE = 0.2
# Number of the first scene of the flow.
FLOW_SCENES = 1_000_000


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmark_prior"))
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes of each model")
    parser.add_argument("--patches", type=int, default=128, help="patches and draws that are compared")
    parser.add_argument("--evidence", type=int, default=12, help="patches whose evidence is bounded")
    parser.add_argument("--processes", type=int, default=0, help="processes that make scenes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strides", action="store_true", help="compare strides of the latents, and train nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(pool=PoolConfig(scenes=24, steps_per_scene=4), seed=options.seed)
    if options.strides:
        print_strides(scenes(256, options.seed, options.processes).clean)
        return
    held_out = scenes(options.patches, options.seed, options.processes)
    clean = held_out.clean[: options.patches]
    rows: dict[str, dict[str, Any]] = {"data": {"moments": asdict(moments(low_passed(clean)))}}
    null = gaussian_field(clean, len(clean), options.seed)
    rows["Gaussian field"] = row(prior_measures(clean, null, options.seed, held_out.scenes[: len(clean)]), 0.0, 0.0)
    sampler, spectrum = compact(recipe, options)
    draws = sampler.decoded(sampler.prior(recipe.patches.side, len(clean), options.seed))
    gain = clean_evidence(sampler, clean[:: len(clean) // options.evidence], spectrum, 1, options.seed)
    measures = prior_measures(clean, draws, options.seed, held_out.scenes[: len(clean)])
    rows["flow over compact latents"] = row(measures, gain.gain, gain.gain_error)
    ladder = trained_ladder(recipe, options)
    draws = ladder_draws(ladder, recipe.patches.side, len(clean), options.seed)
    mean, error = ladder_gain(ladder, clean, spectrum, recipe.sizes.vae.model_variance, options.seed)
    rows["ladder's prior"] = row(prior_measures(clean, draws, options.seed, held_out.scenes[: len(clean)]), mean, error)
    (options.out / "prior.json").write_text(json.dumps({"minutes": options.minutes, "rows": rows}, indent=1))
    print_rows(rows)


def print_strides(clean: Tensor) -> None:
    """Mean square errors of principal components of blocks of voxels, of half of the patches, on the other half."""
    print("| stride | channels | numbers a patch | mean square error |")
    print("|---|---|---|---|")
    for stride, channels in ((2, 1), (2, 2), (2, 3), (4, 8), (4, 12), (4, 16), (4, 24)):
        vae = PatchVAE(PatchVAEConfig(stride=stride, channels=channels, width=8, fine_width=4, blocks=1))
        vae.start_from(clean[::2])
        with torch.no_grad():
            error = (clean[1::2] - vae.decode(vae.encode(clean[1::2]).mean)).square().mean() / clean[1::2].var()
        count = channels * (clean.shape[-1] // stride) ** 3
        print(f"| {stride} | {channels} | {count} | {float(error):.3f} |")


def scenes(count: int, seed: int, processes: int) -> Pairs:
    """At least ``count`` pairs of scenes that neither model was trained on."""
    parts: list[Pairs] = []
    with pair_stream(unseen_patches(Recipe().patches.side, (), seed), processes) as stream:
        while sum(len(part) for part in parts) < count:
            parts.append(next(stream))
    return Pairs.joined(parts)


def for_minutes(minutes: float, step: Callable[[int, float], None]) -> int:
    """Take steps for as many processor minutes; each gets the share of the time that has gone. Returns their number."""
    began, number = time.process_time(), 0
    while (gone := (time.process_time() - began) / (60 * minutes)) < 1:
        step(number, gone)
        number += 1
    return number


def compact(recipe: Recipe, options: argparse.Namespace) -> tuple[PatchSampler, Tensor]:
    """The VAE and the flow, trained for a fixed time, and the spectrum of their training patches."""
    generator = Generator(recipe.sizes)
    with PairPool(recipe.patches, recipe.pool, options.processes) as pool:
        first = first_patches(pool, options.seed)
        generator.vae.start_from(first)
        steps = steps_in(options.minutes * VAE_SHARE, lambda n: VAETraining(generator.vae, pool, *settings(recipe, n, True)))
        vae = Trainer(VAETraining(generator.vae, pool, *settings(recipe, steps, True))).run()
        generator.vae.load_state_dict(vae.state_dict())
        generator.measure_latents(first)
    with PairPool(recipe.patches, recipe.pool, options.processes, FLOW_SCENES) as pool:
        share = options.minutes * (1 - VAE_SHARE)
        steps = steps_in(share, lambda n: FlowTraining(generator, pool, *settings(recipe, n, False)))
        flow = Trainer(FlowTraining(generator, pool, *settings(recipe, steps, False))).run()
        generator.flow.load_state_dict(flow.state_dict())
    return PatchSampler(generator), spectrum_of(first)


def settings(recipe: Recipe, steps: int, is_vae: bool) -> tuple[Any, Any, torch.device]:
    """Settings of the trainer, weights of the losses and device."""
    batch = recipe.vae_batch if is_vae else recipe.flow_batch
    training = replace(recipe.training(steps, batch), ema=0.995)
    return training, recipe.generative, torch.device("cpu")


def steps_in(minutes: float, method: Callable[[int], Any], tried: int = 2) -> int:
    """How many steps of a method fit into as many processor minutes, by a few of them, as few as leave the pool as it is."""
    trainer = Trainer(method(tried + 1))
    began = 0.0

    def watch(report: Any) -> None:
        nonlocal began
        if report.step == 1:
            began = time.process_time()

    trainer.run(watch)
    return max(int(60 * minutes / ((time.process_time() - began) / tried)), 20)


def trained_ladder(recipe: Recipe, options: argparse.Namespace) -> Ladder:
    """The ladder of the preset 'quick', trained by its ELBO on the same patches."""
    torch.manual_seed(options.seed)
    ladder = Ladder(LadderConfig(widths=(16, 32, 64, 128), latents=(4, 8, 16, 16), blocks=1))
    optimiser = torch.optim.AdamW(ladder.parameters(), lr=1e-3, betas=(0.9, 0.99))
    variance, batch = recipe.sizes.vae.model_variance, recipe.vae_batch
    ladder.mixed = True
    with PairPool(recipe.patches, recipe.pool, options.processes) as pool:
        pool.batch(0, 1, step_generator(0, 0))

        def step(number: int, gone: float) -> None:
            rng = step_generator(options.seed, number)
            density = pool.batch(number, batch, rng).clean
            bound = ladder_bound(ladder, density, density, variance, rng)
            optimiser.param_groups[0]["lr"] = learning_rate_at(int(1000 * gone) + min(number, 50), 1000, 1e-3)
            optimiser.zero_grad()
            (-bound.mean() / density[0].numel()).backward()
            torch.nn.utils.clip_grad_norm_(ladder.parameters(), 1.0)
            optimiser.step()

        steps = for_minutes(options.minutes, step)
    print(f"ladder: {steps} steps")
    ladder.mixed = False
    return ladder.eval()


def ladder_bound(ladder: Ladder, density: Tensor, data: Tensor, variance: float, rng: torch.Generator) -> Tensor:
    """ELBO (n,) in nats of data with white noise of ``variance``, q from the density."""
    noise = ladder.draw_noise(density.shape[-3:], len(density), rng)
    drawn = ladder.posterior(ladder.encode(density, Q), Q).sample(noise)
    kl = torch.stack([level.kl() for level in drawn.levels]).sum(0)
    mask = fourier.below_nyquist(density.shape[-3:]).expand(len(density), -1, -1, -1)
    return log_likelihood(drawn.density, data, mask, torch.full_like(mask, variance)) - kl


@torch.no_grad()
def ladder_draws(ladder: Ladder, side: int, count: int, seed: int) -> Tensor:
    """Densities of the ladder's prior."""
    rng = torch.Generator().manual_seed(seed)
    parts = [ladder.prior((side,) * 3, 8).sample(ladder.draw_noise((side,) * 3, 8, rng)).density for _ in range(-(-count // 8))]
    return torch.cat(parts)[:count]


@torch.no_grad()
def ladder_gain(ladder: Ladder, clean: Tensor, spectrum: Tensor, variance: float, seed: int) -> tuple[float, float]:
    """ELBO beyond the Gaussian's, as ``clean_evidence`` has it, and its standard error, in nats a coefficient."""
    rng = torch.Generator().manual_seed(seed)
    noisy = clean + variance**0.5 * torch.randn(clean.shape, generator=rng)
    parts = [ladder_bound(ladder, clean[i : i + 8], noisy[i : i + 8], 2 * variance, rng) for i in range(0, len(clean), 8)]
    mask = fourier.below_nyquist(clean.shape[-3:]).expand(len(clean), -1, -1, -1)
    gaussian = log_likelihood(torch.zeros_like(noisy), noisy, mask, (spectrum + variance).expand_as(mask))
    gain = (torch.cat(parts) - gaussian).double() / scored_bins(mask, clean.shape)
    return float(gain.mean()), float(gain.std() / len(gain) ** 0.5)


def row(measures: PriorMeasures, gain: float, error: float) -> dict[str, Any]:
    """A row of the table."""
    return asdict(measures) | {"gain": gain, "gain_error": error}


def print_rows(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table in Markdown."""
    print("| prior | AUC | power to 0.2 | skewness | kurtosis | ELBO beyond the Gaussian, nats a coefficient |")
    print("|---|---|---|---|---|---|")
    for name, one in rows.items():
        shape = f"{one['moments']['skewness']:.2f} | {one['moments']['kurtosis']:.2f}"
        if "separation" not in one:
            print(f"| {name} | – | – | {shape} | – |")
            continue
        power = [r for k, r in zip(one["frequency"], one["power"], strict=True) if 0 < k <= 0.2]
        auc = f"{one['separation']['auc']:.3f} ± {one['separation']['error']:.3f}"
        gain = "0" if name.startswith("Gaussian") else f"{one['gain']:+.4f} ± {one['gain_error']:.4f}"
        print(f"| {name} | {auc} | {min(power):.2f} to {max(power):.2f} | {shape} | {gain} |")


if __name__ == "__main__":
    main()
