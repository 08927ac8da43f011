"""Settings of a run: sections, presets, and reading and writing TOML."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tomli_w

from cryovae.aliases import current_settings
from cryovae.data.measurement import MaskingConfig
from cryovae.errors import InputError
from cryovae.io.atomic import write_text
from cryovae.models.ladder_config import GAUSSIAN, LadderConfig
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.posterior.search import AMORTISED, FLOW
from cryovae.ranges import shown
from cryovae.restoration.config import SAMPLES_OUT, RestoreConfig
from cryovae.training.adaptation import AdaptationConfig
from cryovae.training.method import TrainingConfig

T = TypeVar("T")
# Largest size of a file of settings.
MOST_BYTES = 2**20
# Samples, and steps of the flow for each, of the quality ``best``.
BEST_SAMPLES, BEST_FLOW_STEPS = 32, 4


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes. Sections: ladder, masking, objective, training, adaptation, restoration."""

    ladder: LadderConfig = field(default_factory=LadderConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    restoration: RestoreConfig = field(default_factory=RestoreConfig)

    def __post_init__(self) -> None:
        stride, patch = self.ladder.stride, self.training.patch
        if patch % stride or patch < 2 * stride:
            raise InputError(
                f"patch {patch} found, expected a multiple of {stride}, the coarsest stride, and at least {2 * stride} voxels"
            )
        if not self.objective.variational and self.restoration.samples_out not in (0, SAMPLES_OUT):
            raise InputError(
                f"--samples-out {self.restoration.samples_out} found, expected 0: objective {self.objective.name} has one answer"
            )
        if not self.objective.variational:
            # A deterministic network has no samples.
            sampler = AMORTISED if self.restoration.sampler == FLOW else self.restoration.sampler
            object.__setattr__(self, "restoration", replace(self.restoration, sampler=sampler, samples_out=0))
        if not self.objective.variational and self.restoration.search.any:
            raise InputError(
                f"--refine or --sampler found with objective {self.objective.name}, expected neither: it has one answer"
            )
        if not self.objective.variational and self.ladder.posterior != GAUSSIAN:
            raise InputError(
                f"posterior {self.ladder.posterior} found with objective {self.objective.name}, which has none: leave out "
                "--posterior"
            )


PRESETS: dict[str, RunConfig] = {
    "quick": RunConfig(
        ladder=LadderConfig(widths=(16, 32, 64, 128), latents=(4, 8, 16, 16), blocks=1),
        training=TrainingConfig(patch=40, batch=2, steps=800, learning_rate=6e-4, ema=0.99, validate_every=50),
        restoration=RestoreConfig(samples=8, sampler=FLOW),
    ),
    "default": RunConfig(
        adaptation=AdaptationConfig(laps=2, steps=3000, batch=64, scenes=48),
        restoration=RestoreConfig(samples=16, batch=8, sampler=FLOW),
    ),
    "large": RunConfig(
        training=TrainingConfig(patch=96, batch=4, steps=40000),
        adaptation=AdaptationConfig(laps=2, steps=6000, batch=64, scenes=96),
        restoration=RestoreConfig(samples=32, batch=4, sampler=FLOW),
    ),
}


def preset(name: str) -> RunConfig:
    """The settings of a preset. InputError if there is none of that name."""
    if name not in PRESETS:
        raise InputError(f"preset '{name}' found, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def of_quality(config: RunConfig, name: str) -> RunConfig:
    """The settings with the passes of a restoration that a quality stands for; ``normal`` changes nothing.

    ``fast`` draws samples by the encoder alone, so no flow is fitted. ``best`` takes 32 samples of 4 steps each, or as many as
    the settings ask for if that is more. What each pass is worth: pipelines/benchmark/passes.py.

    Raises:
        InputError: there is no quality of that name.
    """
    how = config.restoration
    known = {
        "fast": lambda: replace(how, sampler=AMORTISED),
        "normal": lambda: how,
        "best": lambda: replace(how, samples=max(how.samples, BEST_SAMPLES), flow_steps=max(how.flow_steps, BEST_FLOW_STEPS)),
    }
    if name not in known:
        raise InputError(f"quality '{name}' found, expected one of {', '.join(known)}")
    return replace(config, restoration=known[name]())


def read_config(path: Path, base: RunConfig) -> RunConfig:
    """``base`` with the values of a TOML file. InputError for unknown keys, wrong types, or no TOML."""
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a TOML file, e.g. the config.toml of an earlier run")
    return merged(base, read_values(path), str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The values of a TOML file by section and key, under their present names. InputError if it is no TOML."""
    return current_settings(_toml(path))


def _toml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes, expected a TOML file of settings: give a config.toml")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give a config.toml") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no TOML: {' '.join(str(error).split())}") from error


def override(base: RunConfig, values: dict[str, Any]) -> RunConfig:
    """``base`` with values changed, all at once, e.g. ``override(base, {'training.steps': 500})``."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return merged(base, current_settings(nested), "--set")


def parse_setting(text: str) -> tuple[str, Any]:
    """'training.steps=500' to key and value; the value is read as TOML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text} found, expected section.key=value, e.g. --set training.steps=500")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return key.strip(), value.strip()
    except ValueError as error:
        # Python refuses numbers of thousands of digits.
        raise InputError(f"--set {shown(text)} found, expected section.key=value with a number of some digits") from error


def merged(base: T, values: dict[str, Any], where: str) -> T:
    """A dataclass with values replaced by name, sections within; every key must be known and of the right type."""
    hints = get_type_hints(type(base))
    known = [f.name for f in fields(base)]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"
            raise InputError(f"{where}: unknown key {shown(key)}, {hint}")
        current = getattr(base, key)
        if is_dataclass(current):
            if not isinstance(value, dict):
                raise InputError(f"{where}: '{key}' is {shown(value)}, expected a section [{key}]")
            changes[key] = merged(current, value, f"{where}: [{key}]")
        else:
            changes[key] = _typed(hints[key], value, f"{where}: '{key}'")
    try:
        return replace(base, **changes)  # type: ignore[type-var]
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _typed(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(get_args(kind)[0], item, where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # An integer too large for a float becomes infinity, which is outside all ranges.
        return float(value) if abs(value) < 10**300 else math.inf
    if get_origin(kind) is None and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    expected = "a list" if get_origin(kind) is tuple else getattr(kind, "__name__", str(kind))
    raise InputError(f"{where} is {shown(value)}, expected {expected}")


def as_toml(config: RunConfig) -> str:
    """The resolved settings as TOML."""
    return tomli_w.dumps(as_plain(config))


def as_plain(config: RunConfig) -> dict[str, Any]:
    """The resolved settings as plain dictionaries."""
    return asdict(config)


def save_config(path: Path, config: RunConfig) -> None:
    """Write the resolved settings."""
    write_text(path, as_toml(config))
