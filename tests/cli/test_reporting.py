"""What a command says when it ends before its time."""

import shlex

import pytest

from cryovae.cli.reporting import command_again


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
