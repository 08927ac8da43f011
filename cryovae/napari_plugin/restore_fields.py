"""The options of ``cryovae restore`` as fields of the Restore form. Neither Qt nor napari is needed here.

FIELDS lists the options that have a field of their own, ELSEWHERE those that have none, with the reason. Help texts, types and
defaults come from the declaration of the option; a new option is in neither, which a test notices.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from cryovae.config import PRESETS
from cryovae.errors import InputError
from cryovae.workflows.options import OptionField, options_in
from cryovae.workflows.requests import RestoreRequest

OPTIONS: dict[str, OptionField] = {one.name: one for one in options_in(RestoreRequest)}
# What a list shows for "not said": the command then decides.
AUTOMATIC = "automatic"
BEAM = {"along the middle axis": True, "along z": False}
OBJECTIVES = ("vae", "wae", "deepdewedge", "isonet2", "isonet2_mw", "icecream", "cryogen1", "cryogen2")
VOLUMES = "Volumes (*.mrc *.rec *.map *.zarr);;All files (*)"
TILT_FILES = "Tilts (*.tlt *.rawtlt *.mdoc *.aln *.xf *.xml *.star);;All files (*)"


@dataclass(frozen=True)
class FormField:
    """How one option is shown.

    Attributes:
        name: Name of the option.
        group: Title of its group of the form.
        caption: Text before it.
        items: What may be chosen; empty for a line of text, or a box to tick where the option is a switch.
        files: Filter of a dialogue that finds a file; "folder" for folders, "" for no dialogue.
        hint: Text in an empty line: what is used then.
        free: Whether other texts than the items may be typed.
    """

    name: str
    group: str
    caption: str
    items: tuple[str, ...] = ()
    files: str = ""
    hint: str = "automatic"
    free: bool = False

    @property
    def option(self) -> OptionField:
        """The option."""
        return OPTIONS[self.name]

    @property
    def is_switch(self) -> bool:
        """Whether it is ticked or not."""
        return not self.items and bool in (self.option.type, *get_args(self.option.type))

    @property
    def tip(self) -> str:
        """The help text, with the name of the option on the command line."""
        return f"{self.option.option.help} ({spelling(self.option)})"


TOMOGRAM, MODEL, GEOMETRY, OPTICS = "Tomogram", "Model", "Geometry, mask and second axis", "Contrast transfer (CTF)"
TRAINING, RESTORING, COMPUTING = "Network and training", "Samples and results", "Memory and device"
GROUPS = (TOMOGRAM, MODEL, GEOMETRY, OPTICS, TRAINING, RESTORING, COMPUTING)

FIELDS = (
    FormField("tilts", TOMOGRAM, "Tilt file", files=TILT_FILES, hint="the range below"),
    FormField("tilt_range", TOMOGRAM, "Tilts (deg)", hint="-60 60"),
    FormField("preset", MODEL, "Preset", (AUTOMATIC, *PRESETS)),
    FormField("quality", MODEL, "Quality", (AUTOMATIC, "fast", "normal", "best")),
    FormField("start", MODEL, "Begin with", (AUTOMATIC, "base", "none"), files="folder", free=True),
    FormField("model", MODEL, "Trained model", files="folder", hint="train one on this tomogram"),
    FormField("mask", GEOMETRY, "Mask", files=VOLUMES, hint="none"),
    FormField("tilts2", GEOMETRY, "Second axis", files=TILT_FILES, hint="none: one tilt axis"),
    FormField("handedness", GEOMETRY, "Handedness", ("1", "-1")),
    FormField("axis_angle", GEOMETRY, "Tilt axis (deg)", hint="of the tilt file, else 0"),
    FormField("pretilt", GEOMETRY, "Pretilt (deg)", hint="0"),
    FormField("x_tilt", GEOMETRY, "X tilt (deg)", hint="of the tilt file, else 0"),
    FormField("thickness", GEOMETRY, "Thickness", hint="voxels; not used if empty"),
    FormField("cone", GEOMETRY, "Conical tilting"),
    FormField("unrotated", GEOMETRY, "Beam", (AUTOMATIC, *BEAM)),
    FormField("voxel_size", GEOMETRY, "Voxel size (Å)", hint="of the header"),
    FormField("ctf", OPTICS, "Defocus file", files="CTF (*.star *.xml);;All files (*)", hint="none"),
    FormField("defocus", OPTICS, "Defocus (µm)", hint="none: the CTF stays"),
    FormField("voltage", OPTICS, "Voltage (kV)", hint="of the file, else 300"),
    FormField("spherical_aberration", OPTICS, "Cs (mm)", hint="of the file, else 2.7"),
    FormField("amplitude_contrast", OPTICS, "Amplitude contrast", hint="of the file, else 0.1"),
    FormField("phase_shift", OPTICS, "Phase shift (deg)", hint="of the file, else 0"),
    FormField("b_factor", OPTICS, "B factor (Å²)", hint="0"),
    FormField("flipped", OPTICS, "Phases flipped already"),
    FormField("objective", TRAINING, "Objective", (AUTOMATIC, *OBJECTIVES)),
    FormField("steps", TRAINING, "Training steps"),
    FormField("patch", TRAINING, "Patch (voxels)"),
    FormField("batch", TRAINING, "Patches a step"),
    FormField("learning_rate", TRAINING, "Learning rate"),
    FormField("beta", TRAINING, "Beta"),
    FormField("encoders", TRAINING, "Encoders", (AUTOMATIC, "1", "2")),
    FormField("posterior", TRAINING, "Posterior", (AUTOMATIC, "gaussian", "flow")),
    FormField("seed", TRAINING, "Seed"),
    FormField("config", TRAINING, "Settings file", files="TOML (*.toml);;All files (*)", hint="none"),
    FormField("settings", TRAINING, "More settings", hint="training.ema=0.99 ..."),
    FormField("samples", RESTORING, "Samples"),
    FormField("samples_out", RESTORING, "Samples kept"),
    FormField("outputs", RESTORING, "Outputs", hint="std,measured,halves,samples"),
    FormField("sampler", RESTORING, "Sampler", (AUTOMATIC, "flow", "amortised", "reweighted", "langevin")),
    FormField("temperature", RESTORING, "Temperature", hint="1"),
    FormField("refine", RESTORING, "Refinement steps", hint="0"),
    FormField("output_voxel_size", RESTORING, "Voxel size out (Å)", hint="none: that of the tomogram alone"),
    FormField("output_format", RESTORING, "Format", ("mrc", "zarr")),
    FormField("raw", RESTORING, "Network output alone"),
    FormField("other_scale", RESTORING, "Allow another voxel size"),
    FormField("device", COMPUTING, "Device", ("auto", "cpu", "cuda", "mps"), free=True),
    FormField("memory", COMPUTING, "Memory", hint="80 % of what is free"),
    FormField("threads", COMPUTING, "CPU threads"),
    FormField("force", COMPUTING, "Go on although a check refuses"),
)
ELSEWHERE = {
    "tomogram": "a layer of the viewer (Volume), or the table of the field Table",
    "half1": "a layer of the viewer (Volume, with 'two halves' ticked)",
    "half2": "a layer of the viewer (2nd half)",
    "output": "the field Folder",
    "live": "always on where a model is trained: the preview is a layer of the viewer",
    "resume": "the button Resume",
    "dry_run": "the form says time and memory before Run, and Show command what would be run",
    "overwrite": "the answer 'Replace' to the question that Run asks where the folder holds results",
}
SWITCHED = {name for name, option in OPTIONS.items() if bool in (option.type, *get_args(option.type))}


def spelling(option: OptionField, value: Any = True) -> str:
    """An option on the command line, e.g. --tilt-range; of a pair of switches the one that stands for ``value``."""
    name = option.option.names[0] if option.option.names else f"--{option.name.replace('_', '-')}"
    first, _, second = name.partition("/")
    return first if value or not second else second


def typed(name: str, text: str | bool) -> Any:
    """The value of an option from what the form says; None if it says nothing. InputError for what is no such value."""
    option = OPTIONS[name]
    if isinstance(text, bool):
        return text or None
    text = text.strip()
    if not text or text == AUTOMATIC:
        return None
    if name in SWITCHED:
        return BEAM[text]
    kinds = [kind for kind in (option.type, *get_args(option.type)) if kind is not type(None)]
    if any(get_origin(kind) is list or kind is list for kind in kinds):
        return [Path(text).expanduser()] if name != "settings" else _split(text)
    if any(get_origin(kind) is tuple for kind in kinds):
        numbers = [_number(option, word, float) for word in text.replace(",", " ").split()]
        if len(numbers) != 2 or not numbers[0] < numbers[1]:
            raise InputError(f"{spelling(option)} {text} found, expected two numbers, the lower one first, e.g. -60 60")
        return tuple(numbers)
    for kind in (int, float):
        if kind in kinds:
            return _number(option, text, kind)
    return Path(text).expanduser() if Path in kinds else text


def _number(option: OptionField, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"{spelling(option)} {text} found, expected {what}: correct it in the form") from None


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise InputError(f"--set {text} found, expected section.key=value ...: a quotation mark is not closed") from None


def words_of(values: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line, in the order of their declaration, without those that are None or their default."""
    words: list[str] = []
    for name, option in OPTIONS.items():
        value = values.get(name)
        default = None if option.default is MISSING else option.default
        if value is None or value == default:
            continue
        flag = spelling(option, value)
        if option.option.positional:
            words.insert(0, str(value))
        elif isinstance(value, bool):
            words.append(flag)
        elif isinstance(value, list):
            words += [word for one in value for word in (flag, str(one))]
        elif isinstance(value, tuple):
            words += [flag, *(f"{one:.12g}" for one in value)]
        else:
            words += [flag, f"{value:.12g}" if isinstance(value, float) else str(value)]
    return words
