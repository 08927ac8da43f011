import pytest

from cryovae.config import PRESETS, as_toml, of_quality, override, parse_setting, preset, read_config
from cryovae.errors import InputError
from cryovae.workflows.settings import RestorationSettings


@pytest.mark.parametrize("name", PRESETS)
def test_a_resolved_run_reads_back_as_itself(name, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(as_toml(preset(name)))
    assert read_config(path, preset("default")) == preset(name)


def test_a_toml_says_only_what_differs(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[training]\nsteps = 7\n[restoration]\nraw = true\n")
    config = read_config(path, preset("quick"))
    assert (config.training.steps, config.restoration.raw, config.training.patch) == (7, True, 40)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[trainig]\nsteps = 1", "did you mean 'training'"), ("[training]\nstep = 1", "did you mean 'steps'"),
     ("training = 3", "expected a section"), ("[training]\nsteps = 1.5", "expected int"), ("[restoration]\nraw = 1", "bool"),
     ("[objective]\nencoders = 3", "encoders 3"),
     ("[ladder]\nposterior = 'normal'", "expected gaussian or flow"),
     ("[ladder]\nposterior = 'flow'\n[objective]\nname = 'deepdewedge'", "which has none"), ("not toml at all", "no TOML")],
)  # fmt: skip
def test_what_is_unknown_or_wrong_is_an_error(text, words, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_config(path, preset("quick"))


def test_settings_on_the_command_line():
    assert parse_setting("training.steps=500") == ("training.steps", 500)
    assert parse_setting("ladder.widths=[8, 16]") == ("ladder.widths", [8, 16])
    changed = override(preset("quick"), {"ladder.widths": [8, 16], "ladder.latents": [2, 4]})
    assert changed.ladder.widths == (8, 16)
    assert override(preset("quick"), {"training.learning_rate": 1}).training.learning_rate == 1.0
    with pytest.raises(InputError, match=r"section\.key=value"):
        parse_setting("steps")


def test_a_quality_changes_the_passes_of_a_restoration_alone():
    base = preset("quick")
    assert of_quality(base, "normal") == base
    fast, best = of_quality(base, "fast"), of_quality(base, "best")
    assert fast.restoration.sampler == "amortised"
    assert (best.restoration.samples, best.restoration.flow_steps) == (32, 4)
    assert of_quality(best, "best") == best
    assert fast.training == best.training == base.training
    with pytest.raises(InputError, match="quality 'good' found, expected one of fast, normal, best"):
        of_quality(base, "good")


def test_a_named_option_goes_before_the_quality_and_that_before_the_preset(tmp_path):
    settings = RestorationSettings(preset="quick", quality="best", samples=4)
    assert settings.resolved("default").restoration.samples == 4
    path = tmp_path / "c.toml"
    path.write_text("[restoration]\nsamples = 6\n")
    assert RestorationSettings(config=path, quality="best").resolved("quick").restoration.samples == 32
    assert RestorationSettings(quality="fast").resolved("quick").restoration.sampler == "amortised"


@pytest.mark.parametrize(
    ("text", "outputs"), [("std, measured", ("std", "measured")), ("none", ()), ("halves,halves", ("halves",))]
)
def test_outputs_are_a_list_with_commas(text, outputs):
    assert RestorationSettings(outputs=text).resolved("quick").restoration.outputs == outputs


@pytest.mark.parametrize("text", ["", "std,", "none,std", "mean", "std measured"])
def test_impossible_outputs_are_refused_with_those_that_there_are(text):
    with pytest.raises(InputError, match=r"measured.*halves"):
        RestorationSettings(outputs=text).resolved("quick")
