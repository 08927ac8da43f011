"""Each option of ``cryovae restore`` has its field, and what the form says is what the command line parses."""

import inspect
import shlex
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from cryovae.cli import app as application
from cryovae.errors import InputError
from cryovae.napari_plugin.restore_fields import AUTOMATIC, ELSEWHERE, FIELDS, GROUPS, OPTIONS, spelling, typed, words_of
from cryovae.napari_plugin.restore_model import command_of
from cryovae.restoration.config import OUTPUTS
from cryovae.workflows.options import from_options
from cryovae.workflows.requests import RestoreRequest

# A text for each kind of field, and for those where not any text will do.
EXAMPLES = {
    "tilt_range": "-58 61.5",
    "outputs": ",".join(OUTPUTS[:2]),
    "handedness": "-1",
    "settings": "training.ema=0.9 a.b='c d'",
}


def example(field):
    if field.name in EXAMPLES:
        return EXAMPLES[field.name]
    if field.is_switch:
        return True
    if field.items:
        return field.items[-1]
    text = str(field.option.type)
    return "7" if "int" in text else "1.2345678" if "float" in text else "/a folder/some file"


@pytest.fixture
def parsed(monkeypatch):
    """The request that the command line makes of words, without running it."""
    requests = []
    monkeypatch.setattr("cryovae.workflows.run.restore", lambda request: requests.append(request) or Path("mean.mrc"))

    def request_of(words):
        result = CliRunner().invoke(application.app, ["restore", *words])
        assert result.exit_code == 0, result.output
        return requests.pop()

    return request_of


def test_every_option_has_a_field_or_a_reason():
    """A new option of the command fails here until it is decided how the form shows it."""
    shown = [field.name for field in FIELDS]
    assert len(shown) == len(set(shown))
    assert set(shown) | set(ELSEWHERE) == set(OPTIONS)
    assert not set(shown) & set(ELSEWHERE)
    assert all(len(reason) > 10 for reason in ELSEWHERE.values())
    assert {field.group for field in FIELDS} == set(GROUPS)


def test_the_options_are_those_of_the_command():
    command = typer.main.get_command(application.app).commands["restore"]
    assert {one.name for one in command.params if one.name != "help"} >= set(OPTIONS)
    for one in command.params:
        if one.name in OPTIONS and isinstance(one, click.Option | typer.core.TyperOption):
            assert spelling(OPTIONS[one.name]) in (*one.opts, *one.secondary_opts), one.name


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_field_is_parsed_as_what_it_says(parsed, field):
    value = typed(field.name, example(field))
    assert value is not None
    words = words_of({"tomogram": Path("a b.mrc"), field.name: value})
    request = parsed(words)
    assert request == from_options(RestoreRequest, {"tomogram": Path("a b.mrc"), field.name: value})
    if value != field.option.default:
        assert request != parsed(["a b.mrc"])


def test_all_fields_at_once_are_one_line_for_a_shell(parsed):
    values = {field.name: typed(field.name, example(field)) for field in FIELDS}
    values |= {"half1": Path("x 1.mrc"), "half2": Path("x 2.mrc"), "output": Path("o o")}
    line = command_of(["restore", *words_of(values)])
    program, command, *words = shlex.split(line)
    assert (program, command) == ("cryovae", "restore")
    request = parsed(words)
    assert request.half1 == Path("x 1.mrc")
    assert request == from_options(RestoreRequest, values)


def test_nothing_said_is_nothing_passed():
    for field in FIELDS:
        assert typed(field.name, False if field.is_switch else "") is None
        if AUTOMATIC in field.items:
            assert typed(field.name, AUTOMATIC) is None
    assert words_of({}) == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("steps", "ten", "--steps ten found, expected a whole number"),
        ("voxel_size", "1,5", "--voxel-size 1,5 found, expected a number"),
        ("tilt_range", "60 -60", "the lower one first"),
        ("tilt_range", "60", "expected two numbers"),
        ("settings", "a='", "a quotation mark is not closed"),
    ],
)
def test_what_is_no_value_is_refused_in_one_line(name, text, words):
    with pytest.raises(InputError, match=words) as error:
        typed(name, text)
    assert "\n" not in str(error.value)


def test_tips_name_the_option():
    for field in FIELDS:
        assert "--" in field.tip
        assert inspect.cleandoc(field.tip) == field.tip
