"""What the benchmark compares: each row is a name, how it is made, and what of the settings it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A row of the benchmark.

    Attributes:
        name: of the row.
        kind: vae, unet or fixed (nothing is trained).
        about: what it is, for the tables.
        objective: of a U-Net.
        settings: over the preset, as for --set.
        model: the row whose model is applied, of the same minutes and seed; empty to train one.
    """

    name: str
    kind: str
    about: str
    objective: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    model: str = ""


COMPETITION = (
    Row("vae", "vae", "cryovae as `restore` runs it: two encoders"),
    Row("vae_one_encoder", "vae", "one encoder, the dropped wedge scored in its own bound", settings={"objective.encoders": 1}),
    Row(
        "unet_deepdewedge",
        "unet",
        "U-Net, DeepDeWedge's loss, its inputs refilled at 20, 40, 60, 80 % of the steps",
        "deepdewedge",
    ),
    Row("unet_isonet2", "unet", "U-Net, IsoNet2's loss as it comes, mw_weight off", "isonet2"),
    Row("unet_isonet2_mw", "unet", "U-Net, IsoNet2's loss, mw_weight 20", "isonet2_mw"),
    Row("unet_icecream", "unet", "U-Net, Icecream's loss", "icecream"),
    Row("shell_wiener", "fixed", "Wiener filter by shell, measured bins only"),
    Row("clipping", "fixed", "low-pass and clipping, the best of 64 by the truth"),
    Row("untouched", "fixed", "the input"),
)
ABLATIONS = (
    Row(
        "fixed_mask",
        "vae",
        "no rotations, nothing dropped but 10 % of bins",
        settings={"objective.rotations": "none", "objective.hide": False, "objective.rotated_fraction": 0.0},
    ),
    Row("rotated_mask", "vae", "rotated masks, no second wedge dropped", settings={"objective.hide": False}),
    Row("completion_only", "vae", "one path: completion alone, no bound", settings={"objective.completion_fraction": 1.0}),
    Row("long_bound", "vae", "the bound from half of the steps on", settings={"objective.completion_fraction": 0.5}),
    Row("no_tolerance", "vae", "the likelihood allows for no error of the model", settings={"objective.tolerance": 0.0}),
    Row("no_refill", "vae", "inputs never refilled", settings={"objective.refill_from": 1.0}),
    Row("sigma_white", "vae", "one noise variance for all bins", settings={"objective.noise": "white"}),
    Row("sigma_radial", "vae", "noise variance by shell", settings={"objective.noise": "radial"}),
    Row("cube_only", "vae", "cube rotations only", settings={"objective.rotated_fraction": 0.0}),
    Row("so3_only", "vae", "random rotations only", settings={"objective.rotated_fraction": 1.0}),
    Row(
        "rotations_24",
        "vae",
        "all 24 cube rotations, those that keep the wedge among them",
        settings={"objective.rotations": "all"},
    ),
    Row(
        "bound_only",
        "vae",
        "one encoder and its bound from the first step: all measured bins scored, no completion",
        settings={"objective.encoders": 1, "objective.completion_fraction": 0.0},
    ),
    Row(
        "rotations_beam",
        "vae",
        "rotations about the beam only: a cone stays unmeasured",
        settings={"objective.rotations": "beam", "objective.rotated_fraction": 0.0},
    ),
    Row(
        "flat_latent",
        "vae",
        "one level of latents, at stride 2, as many numbers as in the ladder",
        settings={"ladder.latents": [0, 42, 0, 0]},
    ),
    Row("flat_coarse", "vae", "one level of latents, at the coarsest stride", settings={"ladder.latents": [0, 0, 0, 16]}),
)
FAMILY = (
    Row("wae_mmd", "vae", "WAE, MMD on the coarsest latents", settings={"objective.name": "wae"}),
    Row("wae_sliced", "vae", "WAE, sliced distance", settings={"objective.name": "wae", "objective.divergence": "sliced"}),
    Row("wae_sinkhorn", "vae", "WAE, Sinkhorn", settings={"objective.name": "wae", "objective.divergence": "sinkhorn"}),
    Row(
        "wae_deterministic",
        "vae",
        "WAE, MMD, the coarsest latents being q's means",
        settings={"objective.name": "wae", "objective.stochastic": False},
    ),
    Row("beta_0", "vae", "plain autoencoder: no KL", settings={"objective.beta": 0.0}),
    Row("beta_0.1", "vae", "beta 0.1", settings={"objective.beta": 0.1}),
    Row("beta_4", "vae", "beta 4", settings={"objective.beta": 4.0}),
    Row("free_bits", "vae", "one nat per patch and channel is not penalised", settings={"objective.free_bits": 1.0}),
    Row("cyclical", "vae", "beta rises four times", settings={"objective.cycles": 4}),
    Row("balanced", "vae", "levels balanced in the warm-up", settings={"objective.balance": True}),
    Row("flow", "vae", "q through a flow on the coarse levels", settings={"ladder.posterior": "flow"}),
    Row("refined", "vae", "q refined by 20 steps a tile, as the guard allows", settings={"restoration.refine": 20}, model="vae"),
    Row(
        "reweighted",
        "vae",
        "EVIA, CryoWGEN-I: 16 candidates weighed at temperature 1",
        settings={"restoration.sampler": "reweighted", "restoration.candidates": 16},
        model="vae",
    ),
    Row("cryogen1", "unet", "CryoGEN-I: U-Net against a critic", "cryogen1"),
    Row("cryogen2", "unet", "CryoGEN-II: U-Net by transport", "cryogen2"),
)
GROUPS = {"competition": COMPETITION, "ablations": ABLATIONS, "family": (COMPETITION[0], *FAMILY)}
ROWS = {row.name: row for row in (*COMPETITION, *ABLATIONS, *FAMILY)}


def named(names: list[str]) -> list[str]:
    """The rows that names of rows and of groups stand for, each once. KeyError for a name that is neither."""
    rows = [row for name in names for row in ([r.name for r in GROUPS[name]] if name in GROUPS else [ROWS[name].name])]
    return list(dict.fromkeys(rows))
