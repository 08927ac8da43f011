"""The command line as tests run it: in this process or in one of its own, with settings of a very small model."""

import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import torch
from typer.testing import CliRunner

MODEL = ["--set", "ladder.widths=[4,6,8]", "--set", "ladder.latents=[2,3,4]", "--set", "ladder.blocks=1", "--patch", "16"]
# Samples are those of the encoder: fitting the flow takes minutes.
TINY_TRAIN = [*MODEL, "--set", "training.validate_every=4", "--device", "cpu", "--threads", "1"]
TINY_TRAIN += ["--set", "restoration.sampler=amortised"]
TINY = [*TINY_TRAIN, "--samples", "2"]
RANGE = ["--tilt-range", "-60", "60"]
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}


def cryovae(*arguments):
    """Run the command line in this process: importing torch takes seconds. For what a process is, there is ``process``."""
    from cryovae.cli.app import app

    result = CliRunner().invoke(app, [str(a) for a in arguments])
    torch.set_num_threads(1)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return SimpleNamespace(returncode=result.exit_code, stdout=result.stdout, stderr=result.stderr)


def process(*arguments, limit=None):
    """Run the command line in a process of its own, on one thread: two that share two cores wait for each other."""

    def set_limit():
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "cryovae", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=set_limit, check=False, env=ALONE)


def refused(result, *words):
    """Exit code 2 and one line that holds the words."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("cryovae: ")
    for word in words:
        assert word in lines[0], lines[0]
