"""cryovae restores cryo-electron tomograms with a generative model, and says how sure it is.

    tomogram = cryovae.read_tomogram("even.mrc", "odd.mrc", tilts="ts.tlt")
    model = cryovae.train(tomogram)
    restoration = cryovae.restore(tomogram, model)
    cryovae.save(restoration, tomogram, "restored")

The names below are imported when they are first used, so that ``import cryovae`` is quick and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryovae.api import evaluate, load_model, read_tomogram, restore, save, simulate, train
    from cryovae.checkpoint import Checkpoint
    from cryovae.errors import InputError
    from cryovae.evaluation.assessment import Assessment
    from cryovae.restoration.steps import Restoration
    from cryovae.tomogram import TiltGeometry, Tomogram

__version__ = "0.2.0"
__all__ = [
    "Assessment",
    "Checkpoint",
    "InputError",
    "Restoration",
    "TiltGeometry",
    "Tomogram",
    "evaluate",
    "load_model",
    "read_tomogram",
    "restore",
    "save",
    "simulate",
    "train",
]

_TYPES = {
    "Assessment": "cryovae.evaluation.assessment",
    "Checkpoint": "cryovae.checkpoint",
    "InputError": "cryovae.errors",
    "Restoration": "cryovae.restoration.steps",
    "TiltGeometry": "cryovae.tomogram",
    "Tomogram": "cryovae.tomogram",
}


def __getattr__(name: str) -> Any:
    """Import a public function or type when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'cryovae' has no attribute '{name}'")
    value = getattr(import_module(_TYPES.get(name, "cryovae.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return [*__all__, "__version__"]
