"""The settings of a run from options: preset, TOML file, --quality, --set, options that have a name; the later one counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cryovae.errors import InputError
from cryovae.workflows.options import ADVANCED, OUTPUT, RESTORATION, TRAINING, option

if TYPE_CHECKING:
    from cryovae.config import RunConfig


def listed(text: str) -> list[str]:
    """The words of a list with commas; none for 'none'. InputError for an empty one."""
    from cryovae.restoration.config import OUTPUTS

    words = list(dict.fromkeys(word.strip() for word in text.split(",")))
    if "" in words or ("none" in words and len(words) > 1):
        raise InputError(f"--outputs {text} found, expected some of {', '.join(OUTPUTS)} with commas between them, or none")
    return [] if words == ["none"] else words


@dataclass(frozen=True)
class TrainingSettings:
    """Options that change how a model is trained."""

    panel: ClassVar[str] = ADVANCED
    preset: str | None = option(
        "quick, default or large; quick on a CPU. Without it: default on a GPU.",
        metavar="NAME",
        panel=TRAINING,
        common=True,
    )
    config: Path | None = option("TOML file with the settings that differ from the preset.")
    settings: list[str] | None = option(
        "Any setting of cryovae config. May be repeated, e.g. --set training.patch=48.", "--set", metavar="KEY=VALUE", common=True
    )
    steps: int | None = option(
        "Training steps at most, 800 in quick. 20000 in default, 40000 in large.",
        keys=("training.steps",),
        panel=TRAINING,
        common=True,
    )
    patch: int | None = option(
        "Side of a training patch in voxels.", keys=("training.patch",), panel=TRAINING, shown="quick 40, default 64, large 96"
    )
    batch: int | None = option(
        "Patches in a training step.", keys=("training.batch",), panel=TRAINING, shown="quick 2, default 4, large 4"
    )
    learning_rate: float | None = option(
        "Highest learning rate.", keys=("training.learning_rate",), shown="quick 0.0006, default 0.0003, large 0.0003"
    )
    beta: float | None = option("Weight of the KL; 1 is the ELBO.", keys=("objective.beta",), shown="1")
    encoders: int | None = option("2 for q and r, 1 for the simpler baseline.", keys=("objective.encoders",), shown="2")
    objective: str | None = option(
        "vae, wae, or a deterministic network and its loss, without std: deepdewedge, isonet2, isonet2_mw, icecream, "
        "cryogen1, cryogen2.",
        keys=("objective.name",),
        metavar="NAME",
        shown="vae",
    )
    posterior: str | None = option(
        "gaussian, or flow: a normalising flow on the coarse latents (pip install 'cryovae[flows]').",
        keys=("ladder.posterior",),
        metavar="NAME",
        shown="gaussian",
    )
    seed: int | None = option("Random seed of the training.", keys=("training.seed",), panel=TRAINING, shown="0")

    def resolved(self, preset: str) -> RunConfig:
        """All settings of the run; ``preset`` is used where no option names one. InputError for an unknown one."""
        from cryovae.config import override, parse_setting, read_config
        from cryovae.config import preset as preset_of

        base = preset_of(self.preset or preset)
        if self.config is not None:
            base = read_config(self.config, base)
        base = self._with_quality(base)
        values = dict(parse_setting(text) for text in self.settings or [])
        for one in fields(self):
            if (value := getattr(self, one.name)) is not None:
                values |= dict.fromkeys(one.metadata["option"].keys, listed(value) if one.name == "outputs" else value)
        return override(base, values)

    def names(self, key: str) -> bool:
        """Whether an option, --set or the TOML file names a setting, as ``section.key``."""
        from cryovae.config import parse_setting, read_values

        if any(key in one.metadata["option"].keys and getattr(self, one.name) is not None for one in fields(self)):
            return True
        if any(parse_setting(text)[0] == key for text in self.settings or []):
            return True
        section, _, name = key.partition(".")
        return self.config is not None and name in (read_values(self.config).get(section) or {})

    def _with_quality(self, base: RunConfig) -> RunConfig:
        """The settings with the passes of a restoration that --quality asks for, if the command has it."""
        return base


@dataclass(frozen=True)
class RestorationSettings(TrainingSettings):
    """Options that change how a tomogram is restored, and how the model for it is trained."""

    quality: str | None = option(
        "fast, normal or best. fast: samples of the encoder alone, no flow is fitted. best: 32 samples of 4 steps each.",
        metavar="NAME",
        panel=RESTORATION,
        common=True,
        shown="normal",
    )
    seed: int | None = option(
        "Random seed of training and samples.", keys=("training.seed", "restoration.seed"), panel=TRAINING, shown="0"
    )
    samples: int | None = option(
        "Samples behind mean and std, 8 in quick. An even number; 16 in default, 32 in large.",
        keys=("restoration.samples",),
        panel=RESTORATION,
        common=True,
    )
    samples_out: int | None = option(
        "Samples to write, 0 for none.", keys=("restoration.samples_out",), panel=OUTPUT, common=True, shown="2"
    )
    outputs: str | None = option(
        "What to write beside the mean, with commas: std, measured (the mean without its wedge, for template matching), halves, "
        "samples; or none.",
        keys=("restoration.outputs",),
        metavar="NAMES",
        panel=OUTPUT,
        shown="all",
    )
    raw: bool | None = option(
        "Write the model's output without the data-consistent step.", "--raw", keys=("restoration.raw",), panel=RESTORATION
    )
    output_voxel_size: float | None = option(
        "Write mean, measured, halves and samples a second time with voxels of this size in angstrom, e.g. 10 for networks that "
        "were trained at 10 angstrom: NAME_mean_10A.mrc. The standard deviation is of the voxels of the input alone.",
        keys=("restoration.output_voxel_size",),
        panel=OUTPUT,
    )
    other_scale: bool | None = option(
        "Restore even if --model was trained at a voxel size that differs by more than 5 %: structures are of another size then.",
        "--other-scale",
        keys=("restoration.other_scale",),
        panel=RESTORATION,
    )
    refine: int | None = option(
        "Steps of optimisation on the posterior of each tile, e.g. 20; stopped early where held-out measured bins are predicted "
        "worse. Each costs about as much as three samples.",
        keys=("restoration.refine",),
        panel=RESTORATION,
        shown="0",
    )
    sampler: str | None = option(
        "How samples are drawn: flow (the generative model, fitted to the tomogram), amortised (the encoder alone, fast), "
        "reweighted (weighted candidates) or langevin (chains from samples of the flow; slow).",
        keys=("restoration.sampler",),
        metavar="NAME",
        panel=RESTORATION,
        shown="flow",
    )
    temperature: float | None = option(
        "Temperature of the likelihood, for --sampler reweighted or langevin; any but 1 is no posterior, and labelled tempered.",
        keys=("restoration.temperature",),
        panel=RESTORATION,
        shown="1",
    )

    def resolved(self, preset: str) -> RunConfig:
        """As of ``TrainingSettings``. InputError, too, if samples are asked for and left out."""
        config = super().resolved(preset)
        # What is written without a word is no contradiction.
        if self.samples_out and not config.restoration.samples_kept:
            why = "outputs are without samples" if config.objective.variational else f"{config.objective.name} has one answer"
            raise InputError(f"--samples-out {self.samples_out} found, but {why}: leave one of them out")
        return config

    def _with_quality(self, base: RunConfig) -> RunConfig:
        from cryovae.config import of_quality

        return base if self.quality is None else of_quality(base, self.quality)
