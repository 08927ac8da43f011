"""Each setting has a range, which its dataclass checks when it is made."""

import math
from dataclasses import fields, replace
from typing import get_type_hints

import pytest

from cryovae.config import PRESETS, RunConfig, override, parse_setting, preset, read_config
from cryovae.data.measurement import MaskingConfig
from cryovae.errors import InputError
from cryovae.models.ladder_config import LadderConfig
from cryovae.models.latent_flow import LatentFlowConfig
from cryovae.models.patch_vae import PatchVAEConfig
from cryovae.objectives.elbo import ObjectiveConfig
from cryovae.ranges import OneOf, Range
from cryovae.restoration.config import RestoreConfig
from cryovae.simulation.patches import PatchConfig
from cryovae.simulation.pool import PoolConfig
from cryovae.training.generative import GenerativeConfig
from cryovae.training.method import TrainingConfig
from cryovae.training.recipe import Recipe

SECTIONS = {
    "ladder": LadderConfig,
    "masking": MaskingConfig,
    "objective": ObjectiveConfig,
    "training": TrainingConfig,
    "restoration": RestoreConfig,
}
FIELDS = [(section, field.name) for section, kind in SECTIONS.items() for field in fields(kind)]
WRONG = [
    "training.learning_rate=nan", "training.learning_rate=0", "training.learning_rate=inf", "training.seed=-1",
    "training.seed=100000000000000000000000", "training.validate_every=0", "training.patience=0", "training.batch=1000000000",
    "training.patch=-16", "training.patch=0", "training.steps=0", "training.ema=1.0", "training.ema=-0.1", "training.clip=0",
    "training.clip=nan", "training.wild=1", "training.checkpoint_minutes=-1", "training.binnings=0", "training.precision='half'",
    "ladder.widths=[]", "ladder.widths=[-4, 6]", "ladder.widths=[10000000]", "ladder.blocks=-1", "ladder.blocks=1000000",
    "ladder.latents=[-1]", "ladder.latents=[0, 0, 0, 0]", "ladder.latents=[1]", "ladder.flow_levels=0", "ladder.posterior='x'",
    "ladder.widths=[4096, 4096, 4096, 4096]", "masking.drop=1.0", "masking.rotated_fraction=1.5", "masking.rotations='some'",
    "masking.tolerance=-1", "masking.tolerance=nan", "masking.noise='pink'", "objective.encoders=7", "objective.beta=nan",
    "objective.beta=-1", "objective.warmup=2", "objective.completion_fraction=-0.5", "objective.refill_from=nan",
    "objective.refill_every=-1", "objective.free_bits=inf", "objective.free_group=0", "objective.cycles=0",
    "objective.divergence='kl'", "objective.divergence_weight=nan", "objective.name='x'", "restoration.samples=3",
    "restoration.samples=0", "restoration.samples_out=-1", "restoration.batch=0", "restoration.seed=-1", "restoration.refine=-1",
    "restoration.temperature=nan", "restoration.candidates=1", "restoration.chain=3", "restoration.orientations=0",
    "restoration.sampler='x'", "restoration.precision='x'",
]  # fmt: skip


@pytest.mark.parametrize("setting", WRONG)
def test_a_setting_out_of_its_range_is_refused_by_its_name(setting):
    key, value = parse_setting(setting)
    with pytest.raises(InputError) as caught:
        override(preset("quick"), {key: value})
    assert (key.partition(".")[2] if key != "objective.name" else "objective 'x'") in str(caught.value)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_setting_refuses_what_is_of_another_kind(section, name):
    config = getattr(preset("default"), section)
    number = isinstance(getattr(config, name), int | float) and not isinstance(getattr(config, name), bool)
    for value in (None, object(), [[]], *((True, math.nan, math.inf, "1", 10**400, -1) if number else (7,))):
        with pytest.raises(InputError, match=name):
            replace(config, **{name: value})


@pytest.mark.parametrize(("section", "kind"), SECTIONS.items())
def test_every_number_has_a_range_beside_it(section, kind):
    plain, full = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for name in (f.name for f in fields(kind) if plain[f.name] in (int, float)):
        assert any(isinstance(rule, Range) for rule in full[name].__metadata__), f"{section}.{name}"


@pytest.mark.parametrize("kind", [PatchVAEConfig, LatentFlowConfig, PatchConfig, PoolConfig, GenerativeConfig, Recipe])
def test_every_number_of_the_generative_model_has_a_range(kind):
    plain, full = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    settings = kind()
    numbers = [f.name for f in fields(kind) if plain[f.name] in (int, float, tuple[float, float])]
    assert len(numbers) > 1
    for name in numbers:
        assert any(isinstance(rule, Range | OneOf) for rule in getattr(full[name], "__metadata__", ())), name
        for value in (None, object(), True, math.nan, math.inf, "1", 10**400, -1):
            with pytest.raises(InputError, match=name):
                replace(settings, **{name: (value, value) if "tuple" in str(plain[name]) else value})


def test_one_of_several_numbers_is_said_in_words():
    assert OneOf((2, 4, 8)).words == "2, 4 or 8"
    assert OneOf(("a",)).words == "a"


def test_a_range_holds_its_ends_unless_they_are_excluded():
    assert [Range(0, 1).holds(value) for value in (-1e-9, 0, 1, 1.1)] == [False, True, True, False]
    assert [Range(0, 1, above=True, below=True).holds(value) for value in (0, 0.5, 1)] == [False, True, False]


def test_settings_in_a_file_are_refused_with_the_file_and_the_section(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[training]\nseed = -1\n")
    with pytest.raises(InputError, match=r"run\.toml: \[training\]: seed -1 found, expected a whole number from 0"):
        read_config(path, preset("quick"))
    for content in (b"[training]\nlearning_rate = 1" + b"0" * 5000, b"x = " + b"[" * 5000, b"\xff\xfe", b"a" * 2**21):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"run\.toml"):
            read_config(path, preset("quick"))


def test_memory_bombs_of_several_settings_are_refused():
    with pytest.raises(InputError, match="take a smaller batch or patch"):
        TrainingConfig(batch=4096, patch=1024)
    with pytest.raises(InputError, match="take smaller widths"):
        LadderConfig((2048,) * 8, (1,) * 8, 64)


def test_lists_from_python_become_tuples():
    assert LadderConfig([4, 6], [1, 1]).widths == (4, 6)
    assert all(isinstance(config, RunConfig) for config in PRESETS.values())
