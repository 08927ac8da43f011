"""The settings of a run from options: preset, TOML file, --quality, --set, options that have a name; the later one counts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cryovae.errors import InputError
from cryovae.workflows.options import option

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

    panel: ClassVar[str] = "Settings"
    preset: str | None = option("quick, default or large. Without it: default on a GPU, quick on a CPU.")
    config: Path | None = option("TOML file with the settings that differ from the preset.")
    settings: list[str] | None = option("Any setting, e.g. --set training.patch=48; may be repeated.", "--set")
    steps: int | None = option("Training steps at most.", keys=("training.steps",))
    patch: int | None = option("Side of a training patch in voxels.", keys=("training.patch",))
    batch: int | None = option("Patches in a training step.", keys=("training.batch",))
    learning_rate: float | None = option("Highest learning rate.", keys=("training.learning_rate",))
    beta: float | None = option("Weight of the KL; 1 is the ELBO.", keys=("objective.beta",))
    encoders: int | None = option("2 for q and r, 1 for the simpler baseline.", keys=("objective.encoders",))
    objective: str | None = option(
        "vae, wae, or a deterministic network and its loss, without std: deepdewedge, isonet2, isonet2_mw, icecream, "
        "cryogen1, cryogen2.",
        keys=("objective.name",),
    )
    posterior: str | None = option(
        "gaussian, or flow: a normalising flow on the coarse latents (pip install 'cryovae[flows]').", keys=("ladder.posterior",)
    )
    seed: int | None = option("Random seed of the training.", keys=("training.seed",))

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
        "fast: samples of the encoder alone, no flow is fitted; normal; best: 32 samples of 4 steps each."
    )
    seed: int | None = option("Random seed of training and samples.", keys=("training.seed", "restoration.seed"))
    samples: int | None = option(
        "Posterior samples behind mean and standard deviation, an even number.", keys=("restoration.samples",)
    )
    samples_out: int | None = option("How many samples to write.", keys=("restoration.samples_out",))
    outputs: str | None = option(
        "What to write beside the mean, with commas: std, measured (the mean without its wedge, for template matching), halves, "
        "samples; or none. Without it, all.",
        keys=("restoration.outputs",),
    )
    output_voxel_size: float | None = option(
        "Write mean, measured, halves and samples a second time with voxels of this size in angstrom, e.g. 10 for networks that "
        "were trained at 10 angstrom: NAME_mean_10A.mrc. The standard deviation is of the voxels of the input alone.",
        keys=("restoration.output_voxel_size",),
    )
    raw: bool | None = option("Write the model's output without the data-consistent step.", "--raw", keys=("restoration.raw",))
    other_scale: bool | None = option(
        "Restore even if --model was trained at a voxel size that differs by more than 5 %: structures are of another size then.",
        "--other-scale",
        keys=("restoration.other_scale",),
    )
    refine: int | None = option(
        "Steps of optimisation on the posterior of each tile, e.g. 20; stopped early where held-out measured bins are predicted "
        "worse. Each costs about as much as three samples.",
        keys=("restoration.refine",),
    )
    sampler: str | None = option(
        "How samples are drawn: flow (the generative model, fitted to the tomogram), amortised (the encoder alone, fast), "
        "reweighted (weighted candidates) or langevin (chains from samples of the flow; slow).",
        keys=("restoration.sampler",),
    )
    temperature: float | None = option(
        "Temperature of the likelihood, for --sampler reweighted or langevin; any but 1 is no posterior, and labelled tempered.",
        keys=("restoration.temperature",),
    )

    def _with_quality(self, base: RunConfig) -> RunConfig:
        from cryovae.config import of_quality

        return base if self.quality is None else of_quality(base, self.quality)
