"""The card of a generative model says what made it, what it has seen and what not."""

from dataclasses import replace

from cryovae.report.model_card import Training, model_card
from cryovae.simulation.patches import PatchConfig
from cryovae.training.recipe import Recipe, plain_recipe

TRAINING = Training("cryovae pretrain --seed 3", 7200.0, "a machine", 5_500_000, "0.3")


def test_a_card_names_recipe_time_and_molecules():
    recipe = Recipe(patches=PatchConfig(kinds=40, first_kind=5, molecules=("maps/1abc.mrc", "maps/2def.pdb")), seed=3)
    card = model_card(plain_recipe(recipe), TRAINING)
    for part in ("cryovae pretrain --seed 3", "seed 3", "120 min", "5.5 million", "40 kinds", "5 to 44", "1abc.mrc, 2def.pdb"):
        assert part in card
    assert "maps/" not in card
    assert "has not seen" in card
    assert "Gold" in card


def test_a_card_without_molecules_names_none():
    card = model_card(plain_recipe(replace(Recipe(), seed=1)), TRAINING)
    assert "maps or models" not in card


def test_a_card_names_the_models_it_began_with():
    first = plain_recipe(Recipe(patches=PatchConfig(molecules=("1abc.mrc",)), vae_steps=11, flow_steps=22, seed=7))
    second = plain_recipe(Recipe(patches=PatchConfig(molecules=("2def.mrc",)), vae_steps=33, flow_steps=44, seed=8)) | {
        "before": first
    }
    card = model_card(second, TRAINING)
    assert "seed 8; 33 steps of the VAE" in card
    assert "Begun with:** 11 steps of the VAE" in card
    assert "22 steps of the flow with 16 patches each, then 1500 guided steps of the flow; seed 7" in card
    assert "1abc.mrc, 2def.mrc" in card
