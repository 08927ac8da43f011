"""What a command says when it ends before its time."""

import shlex
import sys

import pytest
import typer

from cryovae.cli.reporting import command_again, program, reported


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["restore", "a b.mrc", "-o", "out"], ["restore", "a b.mrc", "-o", "out", "--resume"]),
        (["restore", "a.mrc", "--overwrite"], ["restore", "a.mrc", "--resume"]),
        (["train", "a.mrc", "--resume", "--steps", "9"], ["train", "a.mrc", "--steps", "9", "--resume"]),
        (["batch", "t.star", "-o", "out"], ["batch", "t.star", "-o", "out"]),
    ],
    ids=["a name with a space", "what is overwritten begins anew", "once", "no option of the command"],
)
def test_the_command_that_goes_on_can_be_pasted_into_a_shell(words, again):
    assert shlex.split(command_again(words)) == ["cryovae", *again]


def test_the_command_begins_as_it_was_typed(tmp_path, monkeypatch):
    """A command in an environment that is not active is on no path."""
    own = tmp_path / "bin/cryovae"
    own.parent.mkdir()
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(own)])
    assert program() == [str(own)]
    monkeypatch.setenv("PATH", str(own.parent))
    assert program() == ["cryovae"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/cryovae/__main__.py"])
    assert program() == [sys.executable, "-m", "cryovae"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore", "a.mrc"], "go on with: cryovae restore a.mrc --resume"),
        (["batch", "t.star"], "go on with: cryovae batch t.star"),
        (["evaluate", "a.mrc"], "begin again with: cryovae evaluate a.mrc"),
    ],
)
def test_a_ctrl_c_says_the_command_that_goes_on(words, said, monkeypatch, capsys):
    def broken_off():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["cryovae", *words])
    with pytest.raises(typer.Exit) as stopped:
        reported(broken_off)()
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err.strip() == f"cryovae: broken off by Ctrl-C; {said}"
