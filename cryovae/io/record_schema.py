"""The schema of run.json: types, sizes and ranges of the entries that are read. Other entries are not checked."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cryovae.io.geometry_record import geometry_of
from cryovae.io.names import fault_of

# Largest length of a path and of a name, and number of tilts of a series and of entries of a list.
MOST_PATH, MOST_NAME, MOST_TILTS, MOST_ENTRIES = 4096, 200, 2000, 10**6


def _path(text: str) -> str:
    if "\0" in text or "\n" in text:
        raise ValueError("expected a path")
    return text


def _tomogram_name(text: str) -> str:
    # Versions before 0.2 allowed longer names than today.
    fault = "it is too long" if len(text) > MOST_NAME else fault_of(text, MOST_PATH)
    if fault is not None:
        raise ValueError(f"expected a name that a file may have ({fault})")
    return text


def _share(text: str) -> str:
    if not 0 <= float(text) <= 1:
        raise ValueError("expected shares from 0 to 1")
    return text


def _tilts(record: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """A geometry that ``geometry_of`` can read, of at most two axes."""
    for name in ("angles", "weights"):
        if not all(map(_is_number, listed := record.get(name) or [])) or len(listed) > MOST_TILTS:
            raise ValueError(f"expected {name} as a list of at most {MOST_TILTS} numbers")
    for name in ("lowest", "highest", "axis_angle", "x_tilt", "thickness"):
        if not (record.get(name) is None or _is_number(record[name])):
            raise ValueError(f"expected {name} as a number")
    if not record.get("angles") and (record.get("lowest") is None or record.get("highest") is None):
        raise ValueError("expected the angles of the tilts")
    if not isinstance(record.get("conical", False), bool):
        raise ValueError("expected conical as true or false")
    second = record.get("second")
    if second is not None:
        if depth or not isinstance(second, dict):
            raise ValueError("expected one second axis at most")
        _tilts(second, 1)
    if not depth:
        geometry_of(record)
    return record


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


Number = float
Finite = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**63), le=2**64)]
Word = Annotated[str, Field(max_length=MOST_PATH)]
FilePath = Annotated[str, Field(max_length=MOST_PATH), AfterValidator(_path)]
Name = Annotated[str, AfterValidator(_tomogram_name)]
Share = Annotated[str, AfterValidator(_share)]
Curve = Annotated[list[Number | None], Field(max_length=MOST_ENTRIES)]
Tilts = Annotated[dict[str, Any], AfterValidator(_tilts)]
Angles = Annotated[list[Finite], Field(max_length=MOST_TILTS)]


class Part(BaseModel):
    """A section: text is not converted to numbers, and unknown entries are allowed."""

    model_config = ConfigDict(extra="allow", strict=True)


class Source(Part):
    """An input file, as it was when the run began."""

    path: FilePath
    sha256: Word | None = None
    bytes: Whole | None = None
    changed: Whole | None = None


class HeldOutPart(Part):
    """Statistics on held-out bins (evaluation/held_out.py)."""

    frequency: Curve | None = None
    fsc: Curve | None = None
    ceiling: Curve | None = None
    chi2: Curve | None = None
    spread_factor: Curve | None = None
    correlation: Number | None = None
    correlation_ceiling: Number | None = None
    chi2_band: Number | None = None
    factor_two: Number | None = None
    rms_over_std: Number | None = None
    rms_over_std_fitted: Number | None = None
    coverage: dict[Share, Number | None] | None = None
    bins: Whole | None = None
    patches: Whole | None = None
    trained_on: bool | None = None


class FiguresPart(Part):
    """Figures of the result."""

    wedge_energy_ratio: Number | None = None


class ClippingPart(Part):
    """What low-pass and clipping reach on held-out bins."""

    correlation: Number | None = None
    recipe: Word | None = None


class RestorationPart(Part):
    """How the restoration went."""

    seconds: Number | None = None
    figures: FiguresPart | None = None
    held_out: HeldOutPart | None = None
    clipping: ClippingPart | None = None
    search: dict[str, Any] | None = None
    steps_of_model: Whole | None = None


class TrainingPart(Part):
    """How the training went."""

    steps: Whole | None = None
    seconds: Number | None = None
    seconds_by_part: dict[str, Number] | None = None


class OpticsPart(Part):
    """The contrast transfer that was corrected."""

    defocus: Angles
    angles: Angles = []
    voltage: Finite = 300.0
    spherical_aberration: Finite = 2.7
    amplitude_contrast: Finite = 0.1
    phase_shift: Finite = 0.0
    b_factor: Finite = 0.0
    flipped: bool = False


class RestorationSettings(Part):
    """The settings of the restoration that readers use."""

    sampler: Word = "amortised"
    temperature: Finite = 1.0
    refine: Whole = 0
    samples: Whole = 0


class ObjectiveSettings(Part):
    """The settings of the objective that readers use."""

    name: Word = "vae"


class ConfigPart(Part):
    """The settings; ``merged`` checks each of them when they are used."""

    ladder: dict[str, Any] = {}
    masking: dict[str, Any] = {}
    objective: ObjectiveSettings = ObjectiveSettings()
    training: dict[str, Any] = {}
    restoration: RestorationSettings = RestorationSettings()


class Process(Part):
    """Host and process of the run."""

    host: Word = ""
    pid: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1


class Record(Part):
    """run.json; records of earlier versions lack some entries."""

    name: Name = "tomogram"
    status: Word = ""
    command: Word = ""
    arguments: list[str] = []
    directory: FilePath = ""
    started: Word = ""
    error: str = ""
    notes: list[str] = []
    versions: dict[str, str] | None = None
    process: Process | None = None
    seed: Whole | None = None
    seconds: Number | None = None
    seconds_by_phase: dict[str, Number] | None = None
    inputs: Annotated[dict[str, Source], Field(max_length=MOST_ENTRIES)] = {}
    config: ConfigPart | None = None
    tilts: Tilts | None = None
    unrotated: bool | None = None
    optics: OpticsPart | None = None
    model: FilePath | None = None
    model_sha256: Word | None = None
    training: TrainingPart | None = None
    restoration: RestorationPart | None = None
    live: Annotated[list[Whole], Field(min_length=3, max_length=3)] = [0, 0, 0]
    streamed: dict[str, Any] | None = None
