"""Expectation-maximisation on the tomograms of a run: laps of sampling them and fitting the flow to the samples.

Each lap begins with the flow of the lap before, rounded as its file is, so a run that is resumed goes on with the same numbers.
What is known after a lap is printed, kept in run.json and drawn in laps.png: how far the mean moved, how well held-out bins are
predicted, how much the prior varies, and what becomes of noise.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from glob import escape
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cryovae.calibration.factors import Factors, log_likelihood
from cryovae.calibration.fitted import fitted
from cryovae.calibration.scores import HeldOutSums, Subject, held_out_sums
from cryovae.checkpoint import Checkpoint, load_model, load_state, save_state
from cryovae.config import RunConfig, as_plain
from cryovae.data.crops import Parts
from cryovae.data.held_out_boxes import mark
from cryovae.data.prepare import PreparedTomogram, prepare
from cryovae.errors import InputError
from cryovae.evaluation.lap_measures import noise_out, prior_power, random_phases
from cryovae.generator_file import GeneratorFile, load_base, load_generator, save_generator
from cryovae.models.generator import Generator
from cryovae.phases import announced
from cryovae.posterior.flow_posterior import FlowPosterior
from cryovae.posterior.patch_sampler import NoSignal
from cryovae.posterior.suited import suited
from cryovae.posterior.volume_data import AVERAGE, VolumeData
from cryovae.progress.tasks import FITTING, MEASURING, SAMPLING, SCENES
from cryovae.progress.watch import Watch
from cryovae.report.lap_figure import laps_plot
from cryovae.restoration.data_consistency import combined
from cryovae.restoration.restorer import mixed_on
from cryovae.saved_state import ANEW, check_fits
from cryovae.tomogram import Tomogram
from cryovae.training.adaptation import AdaptationConfig, AdaptedTraining
from cryovae.training.sampled_pairs import SampledPairs, SampledTomogram
from cryovae.training.trainer import Interrupted, Report, Trainer
from cryovae.workflows.run_folder import RunFolder, log
from cryovae.workflows.signals import stoppable

# The flow of a run; those of the last two laps while it is fitted; and the state within a lap.
SAMPLER, LAP, STATE = "sampler.safetensors", "sampler_lap_{}.safetensors", "adaptation.pt"
# Spacing of the patches that may be drawn, in voxels.
SPACING = 4
# Orientations in which the wedge is hidden in each lap, and samples of each hidden volume.
HIDDEN_ROTATIONS, HIDDEN_SAMPLES = 1, 2
SHOWN = ("prior", "posterior", "mean")


@dataclass(frozen=True)
class Lap:
    """What is known after a lap, of the first tomogram.

    Attributes:
        lap: its number; 0 is before the first.
        mean_change: root mean square change of the flow's refined mean, over its standard deviation; None for the first.
        held_out: log-likelihood of held-out bins in the wedge by the samples as they are, above that of an empty mean, in nats a
            coefficient; None without a wedge.
        prior_power: power of draws of the prior over that of the samples.
        noise_out: power in the wedge of the refined mean of noise, over that of the noise.
        random_phases: correlation of refined and hidden bins of the data with random phases, which cannot be predicted; None
            without a wedge.
        seconds: duration.
    """

    lap: int
    mean_change: float | None
    held_out: float | None
    prior_power: float
    noise_out: float
    random_phases: float | None
    seconds: float


@dataclass(frozen=True)
class _Tomogram:
    """A tomogram, or the part of it, that the flow is fitted to."""

    prepared: PreparedTomogram
    subject: Subject
    corners: Tensor | None

    @property
    def volume(self) -> VolumeData:
        return self.subject.volume


@dataclass(frozen=True)
class _Sampled:
    """Samples of one tomogram in one lap, and what hidden bins show of them.

    Attributes:
        samples: (z, y, x) each, about the mean and with the variance that hidden bins show.
        refined: the flow's refined mean, (z, y, x).
        held_out: sums over hidden bins.
    """

    samples: list[Tensor]
    refined: Tensor
    held_out: HeldOutSums


def adapt_in(
    folder: RunFolder,
    tomograms: Sequence[Tomogram],
    checkpoint: Checkpoint,
    config: RunConfig,
    device: torch.device,
    resume: bool,
) -> GeneratorFile | None:
    """Fit the flow of the base to tomograms, and write it into the folder of their run.

    Args:
        folder: the run folder.
        tomograms: that the model was trained on, read one at a time.
        checkpoint: the model whose estimates the flow is given.
        config: the settings of the run.
        device: of both models.
        resume: go on where an earlier run of the same settings ended.

    Returns:
        The fitted model; None if no tomogram holds signal above its noise.
    """
    if resume and folder.saved(SAMPLER).exists():
        return load_generator(folder.saved(SAMPLER))
    base = load_base()
    parts = _parts(tomograms, config, checkpoint.patch, base.patch)
    if not parts:
        return None
    base = GeneratorFile(base.generator.taking_estimates().eval(), base.patch)
    adaptation = _Adaptation(folder, parts, checkpoint, config, device, base.generator, base.patch)
    file = adaptation.run(base, resume)
    save_generator(folder.path(SAMPLER), file)
    for path in (*lap_files(folder).values(), folder.path(STATE)):
        path.unlink(missing_ok=True)
    return file


def with_flow(checkpoint: Checkpoint, file: GeneratorFile | None) -> Checkpoint:
    """A model with the flow that was fitted with it, if there is one."""
    return replace(checkpoint, flow=None if file is None else file.generator)


def open_checkpoint(path: Path | str) -> Checkpoint:
    """A trained variational model from its file or folder, with the flow beside it. InputError as of ``load_model``."""
    checkpoint, path = load_model(path), Path(path)
    beside = (path if path.is_dir() else path.parent) / SAMPLER
    return with_flow(checkpoint, load_generator(beside) if beside.is_file() else None)


def lap_files(folder: RunFolder) -> dict[int, Path]:
    """The flows of laps that lie in the folder, by their number."""
    paths = folder.saved(LAP).parent.glob(escape(folder.prefix) + LAP.format("[0-9]*"))
    return {int(path.stem.rsplit("_", 1)[1]): path for path in paths}


def _parts(tomograms: Sequence[Tomogram], config: RunConfig, patch: int, side: int) -> list[_Tomogram]:
    """The tomograms that hold signal, or their most informative parts, within the voxels of the settings together."""
    parts = []
    room = max(config.adaptation.voxels // max(len(tomograms), 1), (2 * side) ** 3)
    for tomogram in tomograms:
        part = Parts(tomogram, room, patch)[0] if prod(tomogram.shape) > room else tomogram
        prepared = prepare(part, patch, config.training.seed)
        halves = None if part.halves is None else (prepared.ready(part.halves[0]), prepared.ready(part.halves[1]))
        try:
            subject = Subject.of(prepared, halves, patch, prod(part.shape))
        except NoSignal as error:
            log.warning("%s; the flow is not fitted to it", error)
            continue
        parts.append(_Tomogram(prepared, subject, _corners(prepared, patch, side)))
    return parts


def _corners(prepared: PreparedTomogram, patch: int, side: int) -> Tensor | None:
    """First voxels (n, 3) of patches that training may draw: none with a held-out voxel, none outside the region."""
    if prepared.region is not None:
        corners = prepared.region.positions(side)
    else:
        starts = [torch.arange(0, max(size - side, 0) + 1, SPACING) for size in prepared.density.shape]
        corners = torch.cartesian_prod(*starts)
    for box in prepared.held_out + prepared.excluded_patches:
        first = torch.tensor(box)
        separate = (corners + side <= first) | (corners >= first + patch)
        corners = corners[separate.any(1)] if bool(separate.any(1).any()) else corners
    return corners


class _Adaptation:
    """The laps of one run; arguments as of ``adapt_in``, the model to begin with, and the side of the patches of its flow."""

    def __init__(
        self,
        folder: RunFolder,
        tomograms: Sequence[_Tomogram],
        checkpoint: Checkpoint,
        config: RunConfig,
        device: torch.device,
        base: Generator,
        side: int,
    ) -> None:
        checkpoint = replace(checkpoint, ladder=suited(checkpoint.ladder, [one.prepared for one in tomograms]))
        self.folder, self.tomograms, self.checkpoint, self.config = folder, tomograms, checkpoint, config
        self.device, self.side = device, side
        self.settings: AdaptationConfig = config.adaptation
        # Estimates are those of the ladder alone, and stay the same.
        self.estimates = [self._posterior(base, 0).estimate(one.volume) for one in tomograms]
        self.laps: list[Lap] = []
        self._before: Tensor | None = None

    def run(self, base: GeneratorFile, resume: bool) -> GeneratorFile:
        """The fitted model: that of the last lap, or of the lap before if the last predicts held-out bins worse."""
        file, state = self._begun(base) if resume else (base, None)
        began = time.monotonic()
        with announced(SAMPLING):
            sampled = self._sampled(file.generator, self._number(file))
        if len(self.laps) <= self._number(file):
            with announced(MEASURING):
                self._measure(file.generator, sampled[0], began)
        self._before = sampled[0].refined
        while (lap := self._number(file)) < self.settings.laps and not self._worsened():
            began = time.monotonic()
            self._fit(file.generator, [one.samples for one in sampled], lap, state)
            state = None
            self._save(file, lap + 1)
            # As the file has it, and used as one that was read is: a run that is resumed has the same numbers.
            file = load_generator(self._path(lap + 1))
            with announced(SAMPLING):
                sampled = self._sampled(file.generator, lap + 1)
            with announced(MEASURING):
                self._measure(file.generator, sampled[0], began)
            self._save(file, lap + 1)
        if self._worsened():
            log.info("lap %d predicts held-out bins worse than lap %d, which is kept", self._number(file), self._number(file) - 1)
            file = self._lap(self._number(file) - 1, base)
        return GeneratorFile(file.generator, self.side, self._about(self._number(file)))

    def _worsened(self) -> bool:
        """Whether the last lap predicts held-out bins worse than the one before."""
        likelihoods = [row.held_out for row in self.laps[-2:] if row.held_out is not None]
        return len(likelihoods) == 2 and likelihoods[1] < likelihoods[0]

    def _number(self, file: GeneratorFile) -> int:
        return int(file.recipe.get("lap", 0))

    def _begun(self, base: GeneratorFile) -> tuple[GeneratorFile, dict[str, Any] | None]:
        """The model of the last finished lap, and the state within the next."""
        file = self._lap(max(lap_files(self.folder), default=0), base)
        if self._number(file):
            self.laps = [Lap(**row) for row in file.recipe.get("laps", [])]
            log.info("the flow was fitted for %d laps before", self._number(file))
        return file, self._state(self._number(file))

    def _lap(self, number: int, base: GeneratorFile) -> GeneratorFile:
        """The model after a lap."""
        return load_generator(self.folder.saved(LAP.format(number))) if number else base

    def _path(self, lap: int) -> Path:
        return self.folder.path(LAP.format(lap))

    def _state(self, lap: int) -> dict[str, Any] | None:
        path = self.folder.saved(STATE)
        if not path.exists():
            return None
        state = load_state(path)
        if state.get("settings") != _settings(self.config):
            raise InputError(f"{path} was saved with other settings, expected those it began with: {ANEW}")
        return state if state.get("lap") == lap else None

    def _about(self, lap: int) -> dict[str, Any]:
        names = [one.prepared.name for one in self.tomograms]
        return {"adapted_to": names, "lap": lap, "laps": [asdict(row) for row in self.laps]}

    def _save(self, file: GeneratorFile, lap: int) -> None:
        """Keep the model after a lap, and that of the lap before."""
        save_generator(self._path(lap), GeneratorFile(file.generator, self.side, self._about(lap)))
        self._path(lap - 2).unlink(missing_ok=True)

    def _posterior(self, generator: Generator, lap: int) -> FlowPosterior:
        c = self.config
        steps, seed = c.restoration.flow_steps, c.training.seed + 7919 * lap
        mixed = mixed_on(c.restoration, self.device)
        return FlowPosterior(generator, self.checkpoint.ladder, self.checkpoint.patch, self.device, steps, seed, mixed=mixed)

    def _sampled(self, generator: Generator, lap: int) -> list[_Sampled]:
        """The E-step: samples of each tomogram, about the mean and with the variance that hidden bins show."""
        log.info("sampling %s", ", ".join(one.prepared.name for one in self.tomograms))
        posterior, count = self._posterior(generator, lap), self.settings.samples
        sampled = []
        for one, estimate in zip(self.tomograms, self.estimates, strict=True):
            drawing = posterior.samples(one.volume, estimate)
            refined, drawn = drawing.refined(), [drawing(number) for number in range(count)]
            held_out = held_out_sums(posterior, one.subject, drawn[0], HIDDEN_ROTATIONS, HIDDEN_SAMPLES, lap)
            means = [estimate, refined, torch.stack(drawn).mean(0)]
            sampled.append(_Sampled(combined(means, drawn, one.volume, fitted(held_out, count)), refined, held_out))
        return sampled

    def _fit(self, generator: Generator, samples: list[list[Tensor]], lap: int, state: dict[str, Any] | None) -> None:
        """The M-step of a lap; the flow of ``generator`` is trained in place."""
        s, seed = self.settings, self.config.training.seed + lap
        posterior = self._posterior(generator, lap)
        sampled = [_sampled_tomogram(one, drawn, posterior) for one, drawn in zip(self.tomograms, samples, strict=True)]
        with announced(SCENES), Watch(f"lap {lap + 1} of {s.laps}, scenes", s.scenes) as watch:
            pairs = SampledPairs(sampled, self.side, s.scenes, seed, watch.update)
        method = AdaptedTraining(generator.to(self.device), pairs, s.training(self.side, seed), s.losses(), self.device)
        trainer = Trainer(method)
        if state is not None:
            check_fits(self.folder.saved(STATE), state, trainer.network, trainer.optimiser)
            trainer.resume(state)
            log.info("lap %d resumed at step %d", lap + 1, trainer.step)

        def save(saved: dict[str, Any]) -> None:
            save_state(self.folder.path(STATE), saved | {"lap": lap, "settings": _settings(self.config)})
            log.info("saved at step %d of lap %d", saved["step"], lap + 1)

        shown = Watch(f"lap {lap + 1} of {s.laps}, steps", s.steps, trainer.step)
        with announced(FITTING), shown as watch, stoppable() as stop:
            trained = trainer.run(lambda report: _show(watch, report), save, stop)
            if stop():
                save(trainer.state())
                raise Interrupted(trainer.step)
        generator.flow.load_state_dict(trained.state_dict())
        generator.eval()

    def _measure(self, generator: Generator, sampled: _Sampled, began: float) -> None:
        """Add what is known after a lap to the record, and say it."""
        volume, lap, mean = self.tomograms[0].volume, len(self.laps), sampled.refined
        change = None if self._before is None else float((mean - self._before).square().mean().sqrt() / mean.std())
        self._before = mean
        # The average of all samples that could be drawn, not of a few: without the variance of few.
        sums, held_out = sampled.held_out, None
        if sums.wedge is not None:
            alone = torch.tensor([float(name == AVERAGE) for name in sums.names])
            own = sums.wedge.averaging(sums.names.index(AVERAGE), 1 / sums.samples)
            held_out = log_likelihood(own.of(alone), Factors.none())
        power = prior_power(generator, self.device, self.side, sampled.samples[0] / volume.scale, lap)
        posterior = self._posterior(generator, lap)
        nulls = noise_out(posterior, volume), random_phases(posterior, volume)
        row = Lap(lap, change, held_out, power, *nulls, round(time.monotonic() - began, 1))
        self.laps.append(row)
        self.folder.save(adaptation={"laps": [asdict(one) for one in self.laps]})
        laps_plot(self.folder.path("laps.png"), [asdict(one) for one in self.laps])
        log.info("%s", described(row))


def _sampled_tomogram(one: _Tomogram, samples: list[Tensor], posterior: FlowPosterior) -> SampledTomogram:
    """The tomogram and its samples in units of its signal."""
    volume = one.volume

    def noise(frequency: Tensor) -> Tensor:
        return volume.noise(frequency) / volume.scale**2

    def estimate(data: Tensor) -> Tensor:
        return posterior.estimate(replace(volume, data=data * volume.scale)) / volume.scale

    scored = torch.ones(volume.data.shape, dtype=torch.bool)
    mark(scored, one.prepared.held_out_boxes, False)
    drawn = [sample / volume.scale for sample in samples]
    return SampledTomogram(drawn, volume.tilts, noise, estimate, one.corners, scored)


def described(lap: Lap) -> str:
    """A lap in one line."""
    parts = [f"lap {lap.lap}:"]
    parts += [] if lap.mean_change is None else [f"mean changed by {100 * lap.mean_change:.1f} %,"]
    parts += [] if lap.held_out is None else [f"held-out bins {lap.held_out:.4f} nats a coefficient,"]
    parts += [f"power of the prior {lap.prior_power:.2f} of the samples',", f"noise in the wedge {100 * lap.noise_out:.2f} %"]
    parts += [] if lap.random_phases is None else [f"with random phases a correlation of {lap.random_phases:.3f}"]
    return " ".join(parts)


def _settings(config: RunConfig) -> str:
    """The settings that a state within a lap depends on, without tuples, as text."""
    return repr(as_plain(config)["adaptation"])


def _show(watch: Watch, report: Report) -> None:
    if report.event:
        log.warning(report.event)
    watch.update(report.step, "  ".join(f"{name} {report.figures[name]:.3f}" for name in SHOWN if name in report.figures))
