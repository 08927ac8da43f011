"""Patches of a generative model as MRC files and one sheet: draws of its prior, or of the posterior at a place of a tomogram.

A walk between two draws of the prior goes along an arc of their noise: every step is a draw. A walk between two places goes along
an arc of the latents of one draw at each, because each place has a posterior of its own: its ends are draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cryovae.data.prepare import prepare
from cryovae.errors import InputError
from cryovae.generator_file import load_base, load_generator
from cryovae.io.files import provenance_of
from cryovae.io.names import checked_name
from cryovae.models.generator import Generator
from cryovae.posterior.latent_walk import walk_noise
from cryovae.posterior.patch_sampler import ObservedPatches, PatchSampler, observed_patches
from cryovae.progress.watch import Watch
from cryovae.report.drawn_files import DrawnFiles
from cryovae.report.posterior_sheet import posterior_sheet
from cryovae.tiling.grid import Position, cut
from cryovae.tomogram import Tomogram
from cryovae.workflows.run_inputs import place_inside

SIGNAL_UNIT = "standard deviations of the signal, protein dark"
# Share of a patch that may be fill, voxels without data.
MOST_FILL = 0.5


@dataclass(frozen=True)
class DrawModel:
    """A generative model, its name in the names of files, and the side of its patches in voxels."""

    generator: Generator
    name: str
    side: int


@dataclass(frozen=True)
class DrawSettings:
    """What all draws share.

    Attributes:
        folder: for the files.
        count: how many patches are drawn.
        steps: patches of a walk, both ends included.
        seed: of all random numbers.
        overwrite: whether files that are there are replaced.
        device: of the model.
    """

    folder: Path
    count: int
    steps: int
    seed: int
    overwrite: bool
    device: torch.device


def opened_model(path: Path | None, side: int | None = None) -> DrawModel:
    """The generative model at a path, or the package's base, for patches of ``side`` voxels, or those of its training.

    Raises:
        InputError: there is no such model, or its patches have no side that can be drawn.
    """
    file = load_base() if path is None else load_generator(path)
    name = "base" if path is None else checked_name(path.absolute().stem if path.is_file() else path.resolve().name, str(path))
    side = side or file.patch
    if side % 8:
        raise InputError(f"{path or 'the base'} is of patches of {side} voxels, expected a multiple of 8: pass --side")
    return DrawModel(file.generator, name, side)


def draw_prior(model: DrawModel, settings: DrawSettings, voxel_size: float, temperature: float = 1.0) -> Path:
    """Draw patches of the prior; returns the sheet. Densities are in standard deviations of the signal.

    Args:
        model: the model.
        settings: of all draws.
        voxel_size: for the headers, in angstrom.
        temperature: standard deviation of the noise that becomes latents; 1 is the prior.
    """
    files = DrawnFiles(settings.folder, model.name, voxel_size)
    files.check_free(range(settings.count), settings.overwrite)
    sampler = PatchSampler(model.generator, settings.device)
    with _watched() as watch:
        latents = sampler.prior(model.side, settings.count, settings.seed, temperature, watch)
    note = f"drawn from the prior, temperature {temperature:g}, seed {settings.seed}, model {model.name}"
    files.write_patches(sampler.decoded(latents), note, SIGNAL_UNIT)
    return files.sheet


def walk_prior(model: DrawModel, settings: DrawSettings, voxel_size: float, temperature: float = 1.0) -> Path:
    """Walk from the first draw of the prior to the second; arguments and units as for ``draw_prior``."""
    files = DrawnFiles(settings.folder, f"{model.name}_walk", voxel_size)
    files.check_free(range(settings.steps), settings.overwrite)
    sampler = PatchSampler(model.generator, settings.device)
    noise = temperature * sampler.noise(model.side, 2, settings.seed)
    with _watched() as watch:
        latents = sampler.prior_from(walk_noise(noise[0], noise[1], settings.steps), watch)
    note = f"walk of the prior, noise on an arc, seed {settings.seed}, model {model.name}"
    title = (
        f"walk between two draws of the prior, temperature {temperature:g}, seed {settings.seed}:\n"
        "their noise on an arc, so that every step is a draw"
    )
    files.write_patches(sampler.decoded(latents), note, SIGNAL_UNIT, title)
    return files.sheet


def draw_at(model: DrawModel, tomogram: Tomogram, place: Sequence[float], settings: DrawSettings) -> Path:
    """Draw from the posterior of the patch about a place; returns the sheet.

    The draws, their mean and standard deviation, and the patch itself are written on the grey scale of the tomogram.

    Args:
        model: the model.
        tomogram: the tomogram, with the beam along z.
        place: position (z, y, x) in its files, in voxels.
        settings: of all draws; at least two are drawn.

    Raises:
        InputError: the place is outside or in fill, the tomogram is smaller than a patch or noise alone, or results are there.
    """
    position = patch_about(place, tomogram, model.side)
    words = ",".join(f"{at:g}" for at in place)
    name = f"{tomogram.name}_at_{words.replace(',', '_')}"
    files = DrawnFiles(settings.folder, name, tomogram.voxel_size, tomogram.unrotated, _origin(tomogram, position, model.side))
    kinds = [f"sample_{i}" for i in range(settings.count)]
    files.check_free([*kinds, "mean", "std", "observed"], settings.overwrite)
    patches = _observed(tomogram, [position], model.side)
    sampler = PatchSampler(model.generator, settings.device)
    with _watched() as watch:
        latents = sampler.posterior(patches.observation, settings.count, settings.seed, watch)[0]
    samples = patches.grey(sampler.decoded(latents))
    files.check_finite(samples)
    observed = _observed_grey(tomogram, patches, position, model.side)
    mean, about = samples.mean(0), f"of the posterior at {words} z,y,x, seed {settings.seed}"
    for number, (kind, sample) in enumerate(zip(kinds, samples, strict=True)):
        files.write_volume(kind, sample, f"draw {number} {about}")
    files.write_volume("mean", mean, f"mean of {settings.count} draws {about}")
    files.write_volume("std", samples.std(0), f"std of {settings.count} draws {about}")
    files.write_volume("observed", observed, f"observed patch about {words} z,y,x")
    title = f"{tomogram.name} about {words} (z,y,x): {settings.count} posterior draws, model {model.name}, seed {settings.seed}"
    posterior_sheet(files.sheet, observed.numpy(), mean.numpy(), samples.numpy(), tomogram.voxel_size, title)
    return files.sheet


def walk_between(
    model: DrawModel, tomogram: Tomogram, places: tuple[Sequence[float], Sequence[float]], settings: DrawSettings
) -> Path:
    """Walk from a draw of the posterior about one place to one about another; arguments and errors as for ``draw_at``."""
    positions = [patch_about(place, tomogram, model.side) for place in places]
    files = DrawnFiles(settings.folder, f"{tomogram.name}_{model.name}_walk", tomogram.voxel_size, tomogram.unrotated)
    files.check_free(range(settings.steps), settings.overwrite)
    patches = _observed(tomogram, positions, model.side)
    sampler = PatchSampler(model.generator, settings.device)
    with _watched() as watch:
        first, second = sampler.posterior(patches.observation, 1, settings.seed, watch)
    densities = patches.grey(sampler.decoded(walk_noise(first[0], second[0], settings.steps)))
    words = " to ".join(",".join(f"{at:g}" for at in place) for place in places)
    note = f"walk {words} z,y,x, latents on an arc, seed {settings.seed}"
    title = (
        f"walk of model {model.name} between draws of the posterior about {words} (z,y,x), seed {settings.seed}:\n"
        "their latents on an arc, so that the ends are draws"
    )
    files.write_patches(densities, note, "grey levels", title)
    return files.sheet


def patch_about(place: Sequence[float], tomogram: Tomogram, side: int) -> Position:
    """First voxel of the patch inside the tomogram whose centre is nearest to a place (z, y, x) in its files.

    Raises:
        InputError: the place is outside, the tomogram is smaller than a patch, or the patch is fill for the most part.
    """
    upright = place_inside(place, tomogram)
    if min(tomogram.shape) < side:
        raise InputError(
            f"tomogram {tomogram.name} of {tomogram.shape} voxels (z, y, x) is smaller than a patch, expected at least {side} "
            "along each axis: pass a smaller --side"
        )
    z, y, x = (min(max(round(at) - side // 2, 0), n - side) for at, n in zip(upright, tomogram.shape, strict=True))
    if tomogram.fill is not None:
        share = float(tomogram.fill[z : z + side, y : y + side, x : x + side].mean())
        if share > MOST_FILL:
            raise InputError(
                f"place {','.join(f'{at:g}' for at in place)} found in a constant region ({100 * share:.0f} % of the patch), "
                "expected one with data"
            )
    return z, y, x


def _observed(tomogram: Tomogram, positions: Sequence[Position], side: int) -> ObservedPatches:
    return observed_patches(prepare(tomogram, side, held_out=False), positions, side)


def _observed_grey(tomogram: Tomogram, patches: ObservedPatches, position: Position, side: int) -> Tensor:
    """The patch on the grey scale: the voxels of the tomogram, less the contrast transfer if it is divided out."""
    if tomogram.optics is not None:
        return patches.grey(patches.observation.data[0])
    return cut(np.asarray(tomogram.density), position, side)


def _origin(tomogram: Tomogram, position: Position, side: int) -> tuple[float, float, float]:
    """Origin (x, y, z) in angstrom of a patch, so that programs show it where it is in the tomogram."""
    z, y, x = position
    first = (y, tomogram.shape[0] - side - z, x) if tomogram.unrotated else (z, y, x)
    origin = (0.0, 0.0, 0.0) if tomogram.source is None else provenance_of(Path(tomogram.source)).origin
    ox, oy, oz = (o + tomogram.voxel_size * at for o, at in zip(origin, reversed(first), strict=True))
    return ox, oy, oz


@contextmanager
def _watched() -> Iterator[Callable[[int, int], None]]:
    """Shows the steps of the flow that are done."""
    with Watch("drawing, steps", 1) as progress:
        yield lambda done, total: progress.update(done, total=total)
