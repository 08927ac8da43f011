"""The options of ``cryovae diagnose --prior``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cryovae.errors import InputError
from cryovae.workflows.options import option


@dataclass(frozen=True)
class PriorOptions:
    """Which generative model is judged, and on which scenes."""

    panel: ClassVar[str] = "Generative model"
    prior: bool = option(
        "Judge the generative model: its draws, evidence and posterior; also on the data of a run, if one is given.",
        "--prior",
        default=False,
    )
    model: Path | None = option("Generative model for --prior; without it the base of the package.")
    molecule: list[Path] | None = option(
        "Molecules for --prior that the model was not trained on: a file or a folder; may be repeated."
    )
    processes: int = option("Processes that simulate scenes for --prior; 0 for none.", default=1)

    def __post_init__(self) -> None:
        if (self.model or self.molecule) and not self.prior:
            raise InputError("--model or --molecule found without --prior, expected both together")
        if not 0 <= self.processes <= 256:
            raise InputError(f"--processes {self.processes} found, expected 0 to 256")
