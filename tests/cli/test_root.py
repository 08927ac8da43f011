"""What all commands share: help shows texts as they are, errors of the parser are one line, closed outputs are silent."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from cryovae.cli.app import app
from cryovae.cli.root import Root, _expected, escape
from tests.helpers.cli import refused

BOX = re.compile(r"[│╭╮╰╯─]")


def said(*words, application=app):
    result = CliRunner().invoke(application, list(words), env={"COLUMNS": "1500", "TERM": "dumb", "NO_COLOR": "1"})
    return SimpleNamespace(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def plain(text):
    return " ".join(BOX.sub(" ", text).split())


def commands_of(command, path=()):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands_of(inner, (*path, name))


TREE = dict(commands_of(typer.main.get_command(app)))


@pytest.mark.parametrize("path", TREE, ids=lambda path: " ".join(path) or "cryovae")
def test_help_shows_every_text_as_it_was_declared(path):
    command = TREE[path]
    is_long = any("--help-all" in param.opts for param in command.params)
    shown = plain(said(*path, "--help-all" if is_long else "--help").stdout)
    texts = [paragraph for paragraph in (command.help or "").split("\n\n") if paragraph]
    texts += [param.help for param in command.params if getattr(param, "help", None)]
    texts += [(inner.short_help or inner.help or "").split("\n\n")[0] for inner in getattr(command, "commands", {}).values()]
    assert len(texts) > 0
    assert [text for text in texts if plain(text) not in shown] == []


def test_brackets_in_help_are_no_markup():
    small = typer.Typer(cls=Root)

    @small.command()
    def one(extra: str = typer.Option("a", help="pip install cryovae[flows], [bold]x[/bold] or [/x] \\[y].")) -> None:
        """Say [red]one[/red] of [a-z]."""

    small.callback()(lambda: None)
    shown = plain(said("one", "--help", application=small).stdout)
    assert "pip install cryovae[flows], [bold]x[/bold] or [/x] \\[y]." in shown
    assert "Say [red]one[/red] of [a-z]." in shown


def test_an_escaped_text_is_shown_by_rich_as_it_was():
    from rich.text import Text

    for text in (
        "[flows]",
        "a[b]c[/b]",
        "\\[x]",
        "[[x]]",
        "[ ]",
        "[1]",
        "plain",
        "cryovae[napari,flows]",
        "[@click=f()]",
        "[#ff0000]x",
    ):
        assert Text.from_markup(escape(text)).plain == text


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["restore", "a.mrc", "--tilt-range", "-60,60"], ["--tilt-range -60,60 found", "--tilt-range LOW HIGH"]),
        (["restore", "a.mrc", "--tilt-range=-60,60"], ["--tilt-range=-60,60 found", "LOW HIGH"]),
        (
            ["restore", "a.mrc", "--tilt-range", "-60,60", "--raw"],
            ["--tilt-range -60,60 --raw found", "LOW HIGH", "restore --help"],
        ),
        (["restore", "--tilt-range", "a", "b"], ["--tilt-range a b found", "LOW HIGH"]),
        (["restore", "a.mrc", "--seed", "x"], ["--seed x found", "integer"]),
        (["restore", "a.mrc", "--set"], ["--set found", "a value after it"]),
        (["restore", "a.mrc", "--raw=3"], ["--raw=3 found", "no value after it"]),
        (["restore", "--bogus"], ["--bogus", "restore --help"]),
        (["--bogus"], ["--bogus"]),
        (["bogus"], ["bogus"]),
        (["info"], ["tomogram", "info --help"]),
        (["info", "a.mrc", "b.mrc"], ["b.mrc"]),
        (["star", "bogus"], ["bogus"]),
        (["star", "import"], ["--even"]),
        (["batch", "step"], ["kind"]),
        (["sample", "a", "--between", "1"], ["--between 1 found", "2 values"]),
    ],
    ids=" ".join,
)
def test_an_error_of_the_parser_is_one_line_and_exit_code_two(words, parts):
    refused(said(*words), *parts)


def test_every_command_refuses_an_unknown_option_in_one_line():
    for path in TREE:
        refused(said(*path, "--no-such-option"), "--no-such-option")


def test_an_option_of_each_command_without_its_value_is_refused_in_one_line():
    for path, command in TREE.items():
        taking = [param.opts[0] for param in command.params if param.opts[0].startswith("--") and not param.is_flag]
        for name in taking[-1:]:
            refused(said(*path, name), f"{name} found")


def test_the_values_of_an_option_without_a_metavar_are_counted():
    option = SimpleNamespace(nargs=3, metavar=None, opts=["--x"])
    assert _expected(option, "") == "expected 3 values with a space between them, --x VALUE VALUE VALUE"


def piped(words, closed, **more):
    """Run a command whose output nobody reads: 1 is its stdout, 2 its stderr as well."""
    read, write = os.pipe()
    os.close(read)
    errors = write if closed == 2 else subprocess.PIPE
    done = subprocess.run([sys.executable, "-m", "cryovae", *words], stdout=write, stderr=errors, check=False, **more)
    os.close(write)
    return done


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["batch", "site"]], ids=" ".join)
def test_a_command_whose_output_nobody_reads_is_silent(words):
    done = piped(words, 1)
    assert done.stderr == b""
    assert done.returncode == 141


def test_an_error_that_nobody_reads_is_no_traceback():
    assert piped(["bogus"], 2).returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "cryovae", "--version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "cryovae: the output cannot be written (No space left on device): print it elsewhere"
    ]


def test_a_command_without_an_output_runs():
    done = subprocess.run(f"'{sys.executable}' -m cryovae --version >&- 2>&-", shell=True, check=False)
    assert done.returncode == 0


def test_a_broken_pipe_of_another_kind_is_an_error_with_words():
    from cryovae.cli.reporting import FAILED, reported

    def command():
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(typer.Exit) as left:
        reported(command)()
    assert left.value.exit_code == FAILED


def test_a_run_that_nobody_reads_is_stopped_and_not_failed(tmp_path):
    from cryovae.workflows.run_folder import RunFolder, noted, read_record

    folder = RunFolder(tmp_path, "ts")
    with pytest.raises(BrokenPipeError), noted(folder):
        raise BrokenPipeError(32, "Broken pipe")
    assert read_record(tmp_path / "run.json")["status"] == "stopped"
