"""The pictures of the generative model in docs/method, from the model of the package.

    python pipelines/generative_figures.py                      # into docs/pictures
    python pipelines/generative_figures.py --model pretrained --molecule maps/ --out pictures

generative_model.png   a clean patch, its latents, the flow from noise to latents, a measured patch and two posterior samples
generative_draws.png   sixteen draws of the prior beside sixteen patches of scenes that the model was not trained on
generative_walk.png    a walk between two draws
generative_posterior.png   measured patches, their truth, mean, standard deviation, two samples and the difference of these
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryovae.generator_file import GeneratorFile, load_base, load_generator
from cryovae.models.flow_ode import draw_latents
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.report.figure import PlainFigure
from cryovae.report.pictures import save_figure
from cryovae.simulation.patches import Pairs, PatchConfig, pair_stream
from cryovae.workflows.diagnose_generative import unseen_patches
from cryovae.workflows.pretrain import molecule_files

# Grey values, in standard deviations of the signal; protein is dark.
LOW, HIGH = -4.0, 2.5


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--model", type=Path, help="a generative model instead of the package's")
    parser.add_argument("--molecule", type=Path, action="append", default=[], help="molecules that it has not seen")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    file: GeneratorFile = load_base() if options.model is None else load_generator(options.model)
    sampler = PatchSampler(file.generator)
    config = unseen_patches(file.patch, molecule_files(options.molecule), options.seed)
    with fast_convolutions():
        pairs = some_pairs(config, 40)
        draws_picture(options.out / "generative_draws.png", sampler, pairs, options.seed)
        walk_picture(options.out / "generative_walk.png", sampler, file.patch, options.seed)
        posterior_picture(options.out / "generative_posterior.png", sampler, pairs, options.seed)
        model_picture(options.out / "generative_model.png", sampler, pairs, options.seed)


def some_pairs(config: PatchConfig, scenes: int) -> Pairs:
    """Two patches of each of so many scenes."""
    parts = []
    with pair_stream(config, 1) as stream:
        for _ in range(scenes):
            parts.append(next(stream).rows(slice(0, 2)))
    return Pairs.joined(parts)


def show(axis: Any, density: Tensor, title: str = "", low: float = LOW, high: float = HIGH, colours: str = "gray") -> None:
    """The middle slice of a patch (z, y, x)."""
    axis.imshow(density[len(density) // 2].numpy(), cmap=colours, vmin=low, vmax=high, origin="lower")
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)


def draws_picture(path: Path, sampler: PatchSampler, pairs: Pairs, seed: int) -> None:
    """Sixteen patches of the truth above sixteen draws."""
    draws = sampler.decoded(sampler.prior(pairs.clean.shape[-1], 16, seed))
    figure = PlainFigure(figsize=(13, 7.2), layout="constrained")
    above, below = figure.subfigures(2, 1)  # type: ignore[misc]
    sets = (("patches of simulated scenes that were not trained on", pairs.clean[::2][:16]), ("draws of the prior", draws))
    for part, (title, patches) in zip((above, below), sets, strict=True):
        part.suptitle(title)
        for axis, patch in zip(part.subplots(2, 8).flat, patches, strict=True):
            show(axis, patch)
    save_figure(path, figure, dpi=80)


def walk_picture(path: Path, sampler: PatchSampler, side: int, seed: int) -> None:
    """Nine steps between two draws: the noise of the flow turns from one to the other, so that every step is a draw."""
    first, second = sampler.noise(side, 2, seed + 7)
    angles = torch.linspace(0, np.pi / 2, 9)
    noise = torch.stack([torch.cos(a) * first + torch.sin(a) * second for a in angles])
    flow = sampler.generator.flow
    steps = sampler.decoded(draw_latents(flow, noise, flow.no_context(noise.shape, noise)))
    figure = PlainFigure(figsize=(14, 2), layout="constrained")
    for axis, patch, number in zip(figure.subplots(1, 9), steps, range(9), strict=True):
        show(axis, patch, ("one draw", "", "", "", "half way", "", "", "", "another")[number])
    save_figure(path, figure, dpi=80)


def posterior_picture(path: Path, sampler: PatchSampler, pairs: Pairs, seed: int) -> None:
    """Four measured patches with much signal, in the plane of the wedge, and what the posterior says of them."""
    contrast = pairs.clean.flatten(1).std(1)
    index = contrast[::2].argsort(descending=True)[:4] * 2
    some = pairs.rows(index)
    samples = sampler.decoded(sampler.posterior(some.observation, 16, seed))
    figure = PlainFigure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(4, 7)
    titles = ("measured", "truth", "mean of 16 samples", "standard deviation", "one sample", "another", "their difference")
    for row, (measured, truth, drawn) in enumerate(zip(some.observation.data, some.clean, samples, strict=True)):
        # The xz plane, in which the wedge lies.
        planes = (measured, truth, drawn.mean(0), drawn.std(0), drawn[0], drawn[1], drawn[0] - drawn[1])
        for column, plane in enumerate(planes):
            kind = ("viridis", 0.0, 2.0) if column == 3 else ("gray", LOW, HIGH)
            show(axes[row, column], plane.movedim(1, 0), titles[column] if row == 0 else "", kind[1], kind[2], kind[0])
    figure.suptitle("xz planes; the beam is vertical")
    save_figure(path, figure, dpi=80)


def model_picture(path: Path, sampler: PatchSampler, pairs: Pairs, seed: int) -> None:
    """The parts of the model, on one patch."""
    contrast = pairs.clean.flatten(1).std(1)
    some = pairs.rows(contrast.argsort(descending=True)[1:2])
    latents = sampler.encoded(some.clean)
    drawn = sampler.posterior(some.observation, 2, seed)[0]
    samples = sampler.decoded(drawn)
    noise = sampler.noise(some.clean.shape[-1], 1, seed)
    figure = PlainFigure(figsize=(14, 6.4), layout="constrained")
    axes = figure.subplots(3, 7)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    show(axes[0, 0], some.clean[0], "clean patch x")
    for channel in range(4):
        show(axes[0, 1 + channel], latents[0, channel], f"latents, channel {channel + 1}", -2.5, 2.5)
    show(axes[0, 5], sampler.decoded(latents)[0], "decoded G(z)")
    show(axes[1, 0], noise[0, 0], "noise, t = 1", -2.5, 2.5)
    for column, state in enumerate(states(sampler, noise)):
        show(axes[1, 1 + column], state[0], f"channel 1, t = {(1, 0.8, 0.6, 0.4, 0.2, 0)[column + 1]:g}", -2.5, 2.5)
    show(axes[1, 6], sampler.decoded(sampler.prior(some.clean.shape[-1], 1, seed))[0], "a draw of the prior")
    show(axes[2, 0], some.observation.data[0].movedim(1, 0), "measured y (xz)")
    show(axes[2, 1], some.clean[0].movedim(1, 0), "truth (xz)")
    for column in range(2):
        show(axes[2, 2 + column], samples[column].movedim(1, 0), "a sample of p(x | y)")
    show(axes[2, 4], (samples[0] - samples[1]).movedim(1, 0), "their difference")
    for row, name in enumerate(("VAE", "flow: prior", "flow: posterior")):
        axes[row, 0].set_ylabel(name)
    save_figure(path, figure, dpi=80)


def states(sampler: PatchSampler, noise: Tensor) -> list[Tensor]:
    """The latents on their way from noise, at t = 0.8, 0.6, 0.4, 0.2 and 0."""
    flow = sampler.generator.flow
    kept: list[Tensor] = []
    state, context = noise, flow.no_context(noise.shape, noise)
    times = torch.linspace(1, 0, 21)
    with torch.no_grad():
        for number, (now, then) in enumerate(pairwise(times)):
            first = flow(state, now.expand(1), context)
            second = flow(state + (then - now) * first, then.expand(1), context)
            state = state + (then - now) * 0.5 * (first + second)
            if number % 4 == 3:
                kept.append(state[0])
    return kept


if __name__ == "__main__":
    main()
