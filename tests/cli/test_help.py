"""Help fits a screen and stands in groups; everything is behind --help-all; config lists every setting."""

import re
from dataclasses import fields

import pytest
import typer
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.cli.config import settings
from cryovae.cli.help import SENTENCE
from cryovae.config import PRESETS, RunConfig, override, parse_setting, preset
from cryovae.workflows.options import PANELS, options_in
from cryovae.workflows.requests import RestoreRequest
from tests.helpers.cli import cryovae, refused

SCREEN = 45
TITLE = re.compile(r"^╭─ (\w+)", re.MULTILINE)


def shown(*words, columns=80):
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": str(columns), "TERM": "dumb", "NO_COLOR": "1"})
    assert result.exit_code == 0
    return result.stdout


def names_in(text):
    return set(re.findall(r"--[a-z][a-z0-9-]*", text))


def options_of(*path):
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return {opt for param in command.params for opt in param.opts if opt.startswith("--")}


@pytest.mark.parametrize("command", [("restore",), ("train",), ("batch", "run")], ids=" ".join)
def test_the_short_help_fits_a_screen_and_stands_in_groups(command):
    text = shown(*command, "--help")
    assert len(text.splitlines()) <= SCREEN
    panels = [title for title in TITLE.findall(text) if title != "Arguments"]
    assert panels == [panel for panel in PANELS if panel in panels]
    assert {"Geometry", "Training", "Output", "Advanced"} <= set(panels)
    assert {"--tilt-range", "--steps", "--output", "--help-all"} <= names_in(text)
    assert "--b-factor" not in text


@pytest.mark.parametrize("command", [("restore",), ("train",), ("batch", "run")], ids=" ".join)
def test_help_all_shows_every_option_in_the_same_groups(command):
    text = shown(*command, "--help-all", columns=120)
    assert options_of(*command) <= names_in(text)
    panels = [title for title in TITLE.findall(text) if title != "Arguments"]
    assert panels == [panel for panel in PANELS if panel in panels]


def test_every_option_of_restore_stands_in_a_group():
    for one in options_in(RestoreRequest):
        panel = one.option.panel or getattr(one.group, "panel", None)
        assert one.option.positional or panel in PANELS, one.name


def test_the_figures_of_presets_in_the_help_are_those_of_the_presets():
    checked = 0
    for one in options_in(RestoreRequest):
        text = f"{one.option.help} {one.option.shown or ''}"
        if not one.option.keys or not re.search(r"quick \d|\d+ in quick", text):
            continue
        section, name = one.option.keys[0].split(".")
        for preset_name, config in PRESETS.items():
            value = f"{getattr(getattr(config, section), name):g}"
            assert f"{preset_name} {value}" in text or f"{value} in {preset_name}" in text, (one.name, preset_name)
            checked += 1
    assert checked >= 12


def test_a_default_that_the_help_states_is_that_of_the_settings():
    config, checked = preset("quick"), 0
    for one in options_in(RestoreRequest):
        if one.option.keys and one.option.shown and re.fullmatch(r"\d+|vae|gaussian|flow", one.option.shown):
            section, name = one.option.keys[0].split(".")
            value = getattr(getattr(config, section), name)
            assert one.option.shown == (f"{value:g}" if isinstance(value, int | float) else value), one.name
            checked += 1
    assert checked >= 6


def test_the_first_sentence_is_cut_where_it_ends():
    assert SENTENCE.match("First half. Not more.")[1] == "First half."
    assert SENTENCE.match("Widths 1, 2, ... and so on.")[1] == "Widths 1, 2, ... and so on."


def test_config_lists_every_setting_with_its_default_and_a_line():
    known = {one.key: one for one in settings("quick")}
    config = RunConfig()
    expected = {f"{s.name}.{f.name}" for s in fields(config) for f in fields(getattr(config, s.name))}
    assert known.keys() == expected
    assert [key for key, one in known.items() if len(one.text.split()) < 2] == []
    text = shown("config", columns=120)
    assert "training.steps=800" in text
    assert "training.patch=40" in text
    assert "voxels" in known["training.patch"].unit


def test_what_config_prints_is_what_set_takes():
    """All defaults of a preset, given back by --set, are the preset."""
    for name in PRESETS:
        values = dict(parse_setting(f"{one.key}={one.default}") for one in settings(name))
        assert override(preset("quick"), values) == preset(name)


def test_config_can_be_narrowed_and_says_what_it_does_not_know():
    text = shown("config", "refill", "--preset", "large")
    assert "objective.refill_from" in text
    assert "training." not in text.replace("(training", "")
    refused(cryovae("config", "nonsense"), "nonsense")
    refused(cryovae("config", "--preset", "huge"), "huge")


def test_without_arguments_three_commands_greet():
    text = shown()
    assert text.count("cryovae restore ") >= 3
    for word in ("--half1", "tomograms.star", "--dry-run", "README"):
        assert word in text


def test_the_help_of_batch_shows_the_options_of_run():
    text = shown("batch", "--help")
    assert {"--profile", "--prepare", "--output", "--steps"} <= names_in(text)
    assert "status" in text
