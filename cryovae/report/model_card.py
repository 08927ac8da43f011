"""The card of a generative model: how it was made, what it has seen and what not, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryovae.generator_file import lineage

# Numbers of a recipe that a card names.
COUNTS = ("vae_steps", "flow_steps", "vae_batch", "flow_batch", "seed")
GUIDED = "guided_steps"


@dataclass(frozen=True)
class Training:
    """How a training went.

    Attributes:
        command: that made the model.
        seconds: it took, over all its parts.
        machine: on which it ran, in words.
        weights: number of weights.
        version: of cryovae.
    """

    command: str
    seconds: float
    machine: str
    weights: int
    version: str


def model_card(recipe: Mapping[str, Any], training: Training) -> str:
    """The text of a card.

    Args:
        recipe: settings of the training, as plain values.
        training: how it went.
    """
    patches, sizes = recipe["patches"], recipe["sizes"]
    vae, side = sizes["vae"], patches["side"]
    molecules = sorted({name for past in lineage(recipe) for name in past["patches"]["molecules"]})
    low, high = patches["voxel_size"]
    lines = [
        "# Card of a generative model of cryo-electron tomograms",
        "",
        f"Made by cryovae {training.version}: `{training.command}`",
        "",
        f"- **Training:** seed {recipe['seed']}; {_steps(recipe)}; {training.seconds / 60:.0f} min, {training.machine}.",
        *(f"- **Begun with:** {_steps(past)}; seed {past['seed']}." for past in lineage(recipe)[1:]),
        f"- **Size:** {training.weights / 1e6:.1f} million weights in half precision. Patches of {side} voxels have latents of "
        f"{vae['channels']} channels at a stride of {vae['stride']}; model variance {vae['model_variance']:g}.",
        "- **Density:** in standard deviations of the signal of a tomogram, mean 0, protein dark. "
        f"Voxels of {low:g} to {high:g} angstrom.",
        "",
        *_seen(patches, molecules, side),
        "Draws show what such scenes look like. They are no evidence of what is in a tomogram.",
    ]
    return "\n".join(lines) + "\n"


def ladder_card(recipe: Mapping[str, Any], training: Training) -> str:
    """The text of a card of a pretrained ladder; arguments as of ``model_card``."""
    patches = recipe["patches"]
    low, high = patches["voxel_size"]
    lines = [
        "# Card of a network that restores cryo-electron tomograms",
        "",
        f"Made by cryovae {training.version}: `{training.command}`",
        "",
        f"- **Training:** seed {recipe['seed']}; {recipe['steps']} steps with {recipe['batch']} patches of "
        f"{patches['side']} voxels each; {training.seconds / 60:.0f} min, {training.machine}.",
        f"- **Size:** {training.weights / 1e6:.1f} million weights in half precision.",
        f"- **Density:** tomograms of mean 0 and standard deviation 1, protein dark. Voxels of {low:g} to {high:g} angstrom.",
        "- **Conditioned on:** the power of its shells, the share of it that is signal if there are halves, and the share of "
        "bins that were measured. They scale and shift its channels.",
        "",
        *_seen(patches, sorted(patches["molecules"]), patches["side"]),
        "Before `--from base` restores a tomogram, measured data are hidden from it; what it predicts of them is compared with "
        "clipping.",
    ]
    return "\n".join(lines) + "\n"


def _seen(patches: Mapping[str, Any], molecules: Sequence[str], side: int) -> list[str]:
    """The lines of a card on what the training data showed, and what they did not."""
    low, high = patches["voxel_size"]
    lowest, highest = patches["snr"]
    last_kind = patches["first_kind"] + patches["kinds"] - 1
    return [
        "## What it has seen",
        "",
        f"Simulated scenes alone. {patches['kinds']} kinds of procedural molecules, {patches['first_kind']} to {last_kind}"
        f"{_and_files(molecules)}; one to six kinds in a scene. Flat and closed membranes, actin and microtubules. Crowding "
        f"from none to {patches['crowding']:g} of the volume. About half of the scenes have an uncorrected contrast transfer of "
        f"1.5 to 5 micrometres, a fifth one with flipped phases, the others none.{_fall_off(patches)}",
        "",
        "Measured patches: tilt ranges that end at 40 to 72 degrees on either side, one in ten with a second axis; signal over "
        f"noise from {lowest:g} to {highest:g} in variance; noise whose spectrum rises or falls, and is stronger or weaker along "
        "the beam.",
        "",
        "## What it has not seen",
        "",
        "Real tomograms. Gold beads, edges of carbon, contamination by ice, and anything else that is brighter or darker than "
        f"a cell. Whole cells: a patch is {side * low / 10:.0f} to {side * high / 10:.0f} nanometres wide. Misaligned tilts, "
        "damage by radiation, gaps between tilts. Chromatin, coats, cell walls, and other structures that are neither molecules, "
        "membranes nor those two filaments.",
        "",
    ]


def _fall_off(patches: Mapping[str, Any]) -> str:
    """What is said of damage and of lamellae; nothing of recipes without them."""
    said = f" Half of the scenes have a B-factor of up to {patches['fall_off']:g} square angstrom." * bool(
        patches.get("fall_off")
    )
    return said + f" In {patches['lamellae']:.0%} only part of the depth is filled, as in a lamella." * bool(
        patches.get("lamellae")
    )


def is_recorded(recipe: Mapping[str, Any]) -> bool:
    """Whether the recipe of a model, and those of the models it began with, have what a card says of them."""
    for past in lineage(recipe):
        patches, counts = past.get("patches"), [*(past.get(name) for name in COUNTS), past.get(GUIDED, 0)]
        molecules = patches.get("molecules") if isinstance(patches, dict) else None
        if not isinstance(molecules, list) or not all(isinstance(name, str) for name in molecules):
            return False
        if not all(isinstance(count, int) and 0 <= count <= 2**31 for count in counts):
            return False
    return True


def _steps(recipe: Mapping[str, Any]) -> str:
    """Steps of both networks, in words."""
    vae, flow = (f"{recipe[f'{name}_steps']} steps of the {title}" for name, title in (("vae", "VAE"), ("flow", "flow")))
    vae = f"{vae} with {recipe['vae_batch']} patches each" if recipe["vae_steps"] else "the VAE kept as it was"
    flow = f"{flow} with {recipe['flow_batch']} patches each" if recipe["flow_steps"] else "the flow kept as it was"
    # Version 0.2.0 began without guided steps.
    guided = recipe.get(GUIDED, 0)
    return f"{vae}, {flow}" + (f", then {guided} guided steps of the flow" if guided else "")


def _and_files(molecules: Sequence[str]) -> str:
    return f", and {len(molecules)} maps or models of molecules: {', '.join(molecules)}" if molecules else ""
